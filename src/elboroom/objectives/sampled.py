"""Learning without a bound that is differentiated through samples: wake-sleep and Monte Carlo EM.

The two algorithms that Auto-Encoding Variational Bayes was first set against.
"""

from elboroom.objectives.bounds import rate
from elboroom.objectives.needs import given
from elboroom.records import Draw, Terms

__all__ = [
    "monte_carlo_em",
    "wake_sleep",
]


def wake_sleep(draw: Draw) -> Terms:
    r"""Two losses on disjoint parameters: θ of decoder and prior learn from data, φ of the encoder from dreams.

    .. math:: L_{wake}(\theta) = -\mathbb E_{q(z|x)}[\log p_\theta(x, z)], \qquad
              L_{sleep}(\phi) = -\mathbb E_{p(z)\,p(x|z)}[\log q_\phi(z|x)]

    with the samples of either held fixed. Hinton et al. (1995), Science 268, 1158-1161; beside AEVB in Kingma & Welling
    (2014), arXiv:1312.6114, figure 2. Wake follows the gradient of the ELBO in θ; sleep brings q near p(z|x) at the
    model's own examples, by the KL divergence the other way round. So the sum is no bound, and its value says little.

    Args:
        draw: k samples per example, with ``z_detached`` (so that log-densities are taken at codes without gradient) and
            ``dream``, log q(z|x) of as many dreams as examples.

    Returns:
        Terms ``wake`` and ``sleep`` [batch], whose sum is minimized; ``distortion`` and ``rate`` with weight 0, for the
        eye (nats).

    Raises:
        ValueError: the posterior is a point, which gives no density to dreams.
        InputError: the draw was not asked for ``z_detached`` and ``dream``.
    """
    if draw.log_qz is None:
        raise ValueError("a point posterior gives no density to dreams; use the objective 'reconstruction'")
    given(draw, "z_detached", "wake-sleep")
    learned = {"wake": -(draw.log_px + draw.log_pz).mean(0), "sleep": -given(draw, "dream", "wake-sleep")}
    watched = {"distortion": -draw.log_px.mean(0).detach(), "rate": rate(draw).detach()}
    return Terms(learned | watched, weights=dict.fromkeys(watched, 0.0))


def monte_carlo_em(draw: Draw) -> Terms:
    r"""The joint density at codes that were sampled from the posterior itself: no encoder takes part.

    .. math:: L(\theta) = -\mathbb E_{p(z|x)}[\log p_\theta(x, z)]

    with z held fixed, whose gradient is that of :math:`-\log p_\theta(x)` (Fisher's identity) as far as the chains have
    come to p(z|x). Wei & Tanner (1990), JASA 85, 699-704; as Kingma & Welling (2014), arXiv:1312.6114, appendix E, take
    it: Hamiltonian Monte Carlo, then several updates of the weights with the same codes (`training.updates`), of which
    all but the first climb the expectation at codes of older weights, as an M-step does.

    Args:
        draw: at codes that chains have brought (``sampled``), k per example.

    Returns:
        The term ``joint`` [batch], which is minimized (nats); for the eye, with weight 0, ``distortion`` (nats) and
        ``acceptance`` (0-1) of the chains. There is no rate, for there is no q(z|x), and no bound.

    Raises:
        InputError: the draw was not asked for ``sampled``.
    """
    sampled = given(draw, "sampled", "monte-carlo-em")
    watched = {"distortion": -draw.log_px.mean(0).detach(), "acceptance": sampled.acceptance}
    return Terms({"joint": -(draw.log_px + draw.log_pz).mean(0), **watched}, weights=dict.fromkeys(watched, 0.0))

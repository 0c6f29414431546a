"""Lower bounds on log p(x), and the distortion alone."""

from jaxtyping import Float
from torch import Tensor

from elboroom.records import Draw, Terms


def rate(draw: Draw) -> Float[Tensor, " batch"]:
    """KL(q(z|x) || p(z)) of each example: in closed form where there is one, else the sample estimate (nats)."""
    if draw.rate is not None:
        return draw.rate.sum(-1)
    if draw.log_qz is None:
        raise ValueError("a point posterior has no rate; use the objective 'reconstruction'")
    return (draw.log_qz - draw.log_pz).mean(0)


def elbo(draw: Draw, *, beta: float = 1.0) -> Terms:
    r"""Evidence lower bound, with the rate weighted by ``beta``.

    .. math:: \mathcal L(x) = \mathbb E_{q(z|x)}[\log p(x|z)] - \beta\,\mathrm{KL}(q(z|x) \| p(z))

    Kingma & Welling (2014), arXiv:1312.6114, eq. (3); beta: Higgins et al. (2017), eq. (4).

    Args:
        draw: k samples per example; log-densities of shape [k, batch].
        beta: weight of the rate; a lower bound on log p(x) only for ``beta >= 1``.

    Returns:
        Terms ``distortion`` and ``rate``, [batch] each (nats).

    Raises:
        ValueError: the posterior is a point, which has no rate.
    """
    return Terms({"distortion": -draw.log_px.mean(0), "rate": rate(draw)}, weights={"rate": beta})


def reconstruction(draw: Draw) -> Terms:
    r"""The distortion alone, :math:`-\mathbb E_{q(z|x)}[\log p(x|z)]`: the plain autoencoder, and β = 0.

    A posterior with a density has its rate reported, with weight 0. No bound on log p(x).
    """
    distortion = -draw.log_px.mean(0)
    if draw.log_qz is None:
        return Terms({"distortion": distortion})
    return Terms({"distortion": distortion, "rate": rate(draw).detach()}, weights={"rate": 0.0})

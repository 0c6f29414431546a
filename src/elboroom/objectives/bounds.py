"""Lower bounds on log p(x), and the distortion alone."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from elboroom.errors import one_of
from elboroom.numerics import log_mean_exp
from elboroom.objectives.needs import given
from elboroom.objectives.schedules import constant
from elboroom.records import Draw, Terms

__all__ = [
    "elbo",
    "importance_weighted",
    "reconstruction",
]

Warmup = Callable[[Tensor | None], Tensor | float]
GRADIENTS = ("standard", "doubly-reparameterized")


def rate(draw: Draw) -> Float[Tensor, " batch"]:
    """KL(q(z|x) || p(z)) of each example: in closed form where there is one, else the sample estimate (nats).

    Raises:
        ValueError: there is no density q(z|x), of a point posterior or of codes that chains have brought.
    """
    if draw.rate is not None:
        return draw.rate.sum(-1)
    if draw.sampled is not None:
        raise ValueError("codes that chains have brought have no rate; use the objective 'monte-carlo-em'")
    if draw.log_qz is None:
        raise ValueError("a point posterior has no rate; use the objective 'reconstruction'")
    return (draw.log_qz - draw.log_pz).mean(0)


def elbo(draw: Draw, *, beta: float = 1.0, reconstruction_weight: float = 1.0, warmup: Warmup | None = None) -> Terms:
    r"""Evidence lower bound, with the rate weighted by ``beta`` and, where asked, the distortion by w.

    .. math:: \mathcal L(x) = w\,\mathbb E_{q(z|x)}[\log p(x|z)] - \beta\,\mathrm{KL}(q(z|x) \| p(z))

    Kingma & Welling (2014), arXiv:1312.6114, eq. (3); beta: Higgins et al. (2017), eq. (4).

    Args:
        draw: k samples per example; log-densities of shape [k, batch].
        beta: weight of the rate; a lower bound on log p(x) only for ``beta >= 1``.
        reconstruction_weight: w, of the distortion; a lower bound only at 1.
        warmup: factor of beta at ``draw.step``, such as `elboroom.objectives.schedules.linear`; by default 1.

    Returns:
        Terms ``distortion`` and ``rate``, [batch] each (nats).

    Raises:
        ValueError: the posterior is a point, which has no rate.
    """
    weight = beta * (warmup or constant)(draw.step)
    weights = {"distortion": reconstruction_weight, "rate": weight}
    return Terms({"distortion": -draw.log_px.mean(0), "rate": rate(draw)}, weights=weights)


def reconstruction(draw: Draw) -> Terms:
    r"""The distortion alone, :math:`-\mathbb E_{q(z|x)}[\log p(x|z)]`: the plain autoencoder, and β = 0.

    A posterior with a density has its rate reported, with weight 0. No bound on log p(x).
    """
    distortion = -draw.log_px.mean(0)
    if draw.log_qz is None:
        return Terms({"distortion": distortion})
    return Terms({"distortion": distortion, "rate": rate(draw).detach()}, weights={"rate": 0.0})


def importance_weighted(draw: Draw, *, gradient: str = "standard") -> Terms:
    r"""The importance-weighted bound of k samples: in expectation tighter with each, and the ELBO at k = 1.

    .. math:: \mathcal L_k(x) = \log \frac1k \sum_{i=1}^k w_i, \qquad
              \log w_i = \log p(x|z_i) + \log p(z_i) - \log q(z_i|x)

    Burda et al. (2016), arXiv:1509.00519, eq. (8). With ``gradient="doubly-reparameterized"`` the value is the same and
    the encoder's gradient another unbiased estimate, whose signal-to-noise ratio does not fall as k grows; see
    `doubly_reparameterized`.

    Args:
        draw: k samples per example; log-densities of shape [k, batch].
        gradient: ``standard`` or ``doubly-reparameterized``, which needs ``draw.log_qz_detached``.

    Returns:
        The term ``nll-bound`` = -L_k [batch], which is minimized; ``distortion`` and ``rate`` with weight 0, for the
        eye; ``own_bound`` = L_k (nats).

    Raises:
        ValueError: the posterior is a point, which has no density.
        InputError: an unknown ``gradient``, or ``draw.log_qz_detached`` is wanted and was not asked for.
    """
    if draw.log_qz is None:
        raise ValueError("a point posterior has no density, hence no importance weights; use 'reconstruction'")
    bound = log_mean_exp(draw.log_px + draw.log_pz - draw.log_qz)
    watched = {"distortion": -draw.log_px.mean(0).detach(), "rate": rate(draw).detach()}
    trained = bound if one_of("gradient", gradient, GRADIENTS) == "standard" else doubly_reparameterized(draw)
    return Terms({"nll-bound": -trained, **watched}, weights=dict.fromkeys(watched, 0.0), own_bound=bound.detach())


def doubly_reparameterized(draw: Draw) -> Float[Tensor, " batch"]:
    r"""The importance-weighted bound with the doubly reparameterized gradient for the encoder.

    With normalized weights :math:`\tilde w_i` held fixed, and q's parameters φ held fixed inside log q,

    .. math:: \nabla_\phi \mathcal L_k = \mathbb E \sum_i \tilde w_i^2\, \partial_{z_i} \log w_i\, \nabla_\phi z_i,
              \qquad \nabla_\theta \mathcal L_k = \mathbb E \sum_i \tilde w_i\, \nabla_\theta \log w_i.

    Tucker et al. (2018), arXiv:1810.04152, eq. (8). The two differ in their weights and share one decoder pass, so
    :math:`\partial_{z_i} \log w_i` is had by a backward pass to z alone, and :math:`(\tilde w_i^2 - \tilde w_i)` times
    it is added to what flows into z, where anything does. Not for `torch.compile`, which cannot trace that pass.
    """
    log_w = draw.log_px + draw.log_pz - given(draw, "log_qz_detached", "importance-weighted")
    bound = log_mean_exp(log_w.detach())
    if not log_w.requires_grad:
        return bound
    weight = torch.softmax(log_w.detach(), 0)
    surrogate = (weight * log_w).sum(0)
    if draw.z.requires_grad:
        (slope,) = torch.autograd.grad(log_w.sum(), draw.z, retain_graph=True)
        surrogate = surrogate + ((weight.square() - weight) * (slope * draw.z).sum(-1)).sum(0)
    return bound + surrogate - surrogate.detach()

"""The tables of closed-form divergences, by latent dimension, in nats.

KL(q || p) of a posterior from a prior, and KL(q_i || q_j) between all posteriors of a batch. Our own and not torch's
``kl_divergence``, whose dispatch breaks a full graph when it is compiled cold. Between two distributions of a family
e^r - r - 1 is written with ``expm1``, and keeps its digits where they almost agree; from a Gaussian to the standard
normal it is rounded to the eighth decimal, and can be that far below 0.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from elboroom.distributions.diagonal import DiagonalNormal, LegacyNormal, StandardNormal
from elboroom.distributions.laplace import DiagonalLaplace, StandardLaplace
from elboroom.distributions.uniform import CentredUniform, DiagonalUniform, within
from elboroom.numerics import LOG_2, LOG_2PI
from elboroom.records import Base

# From a posterior to a prior -----------------------------------------------------------------------------------------


def normal_standard_normal(q: DiagonalNormal, p: StandardNormal) -> Float[Tensor, "*batch latent"]:
    r""":math:`\tfrac12(\mu^2 + \sigma^2 - \log\sigma^2 - 1)`; Kingma & Welling (2014), arXiv:1312.6114, appendix B."""
    return 0.5 * (q.loc.square() + q.log_var.exp() - q.log_var - 1)


def legacy_standard_normal(q: LegacyNormal, p: StandardNormal) -> Float[Tensor, "*batch latent"]:
    r""":math:`\tfrac12(\mu^2 + e^s - s - 1)` with :math:`s = \log\sigma`: a formula in use, and no divergence of q."""
    return 0.5 * (q.loc.square() + (q.log_var / 2).exp() - q.log_var / 2 - 1)


def normal_normal(q: DiagonalNormal, p: DiagonalNormal) -> Float[Tensor, "*batch latent"]:
    """Between two diagonal Gaussians."""
    return _normals(q.loc, q.log_var, p.loc, p.log_var)


def normal_standard_laplace(q: DiagonalNormal, p: StandardLaplace) -> Float[Tensor, "*batch latent"]:
    r""":math:`\mathbb E|z| + \log 2 - \tfrac12 \log 2\pi e \sigma^2`, with the mean of a folded Gaussian

    :math:`\mathbb E|z| = \sigma\sqrt{2/\pi}\, e^{-\mu^2/2\sigma^2} + \mu\, \mathrm{erf}(\mu / \sigma\sqrt 2)`.
    """
    ratio = q.loc * (-q.log_var / 2).exp() / math.sqrt(2)
    folded = (q.log_var / 2).exp() * math.sqrt(2 / math.pi) * (-ratio.square()).exp() + q.loc * torch.erf(ratio)
    return folded + LOG_2 - 0.5 * (LOG_2PI + 1 + q.log_var)


def laplace_standard_laplace(q: DiagonalLaplace, p: StandardLaplace) -> Float[Tensor, "*batch latent"]:
    r""":math:`-\log s + |m| + s e^{-|m|/s} - 1`."""
    return _laplaces(q.loc, q.log_scale, torch.zeros_like(q.loc), torch.zeros_like(q.log_scale))


def laplace_laplace(q: DiagonalLaplace, p: DiagonalLaplace) -> Float[Tensor, "*batch latent"]:
    """Between two Laplace distributions."""
    return _laplaces(q.loc, q.log_scale, p.loc, p.log_scale)


def laplace_standard_normal(q: DiagonalLaplace, p: StandardNormal) -> Float[Tensor, "*batch latent"]:
    r""":math:`\tfrac12(m^2 + 2 s^2) + \tfrac12 \log 2\pi - \log 2s - 1`: the second moment, less the entropy."""
    return 0.5 * (q.loc.square() + q.log_var.exp() + LOG_2PI) - (q.log_scale + LOG_2) - 1


def uniform_centred_uniform(q: DiagonalUniform, p: CentredUniform) -> Float[Tensor, "*batch latent"]:
    r""":math:`\log c - \log h` where q lies inside [-c, c], else infinite."""
    inside = within(q.loc.abs() + q.log_half.exp(), p.half_width, p.half_width)
    return torch.where(inside, math.log(p.half_width) - q.log_half, math.inf)


def uniform_standard_normal(q: DiagonalUniform, p: StandardNormal) -> Float[Tensor, "*batch latent"]:
    r""":math:`\tfrac12(m^2 + h^2/3) + \tfrac12 \log 2\pi - \log 2h`: the second moment, less the entropy."""
    return 0.5 * (q.loc.square() + q.log_var.exp() + LOG_2PI) - (q.log_half + LOG_2)


def uniform_standard_laplace(q: DiagonalUniform, p: StandardLaplace) -> Float[Tensor, "*batch latent"]:
    r""":math:`\mathbb E|z| - \log h`, where :math:`\mathbb E|z| = |m|`, or :math:`(m^2 + h^2) / 2h` around 0."""
    centre, half = q.loc.abs(), q.log_half.exp()
    inside = torch.minimum(centre, half)  # so that the branch that is not taken has a gradient, too
    return torch.where(centre < half, (half + inside * (inside / half)) / 2, centre) - q.log_half


RATES: dict[tuple[type, type], Callable] = {
    (DiagonalNormal, StandardNormal): normal_standard_normal,
    (DiagonalNormal, DiagonalNormal): normal_normal,
    (DiagonalNormal, StandardLaplace): normal_standard_laplace,
    (DiagonalLaplace, StandardLaplace): laplace_standard_laplace,
    (DiagonalLaplace, DiagonalLaplace): laplace_laplace,
    (DiagonalLaplace, StandardNormal): laplace_standard_normal,
    (DiagonalUniform, CentredUniform): uniform_centred_uniform,
    (DiagonalUniform, StandardNormal): uniform_standard_normal,
    (DiagonalUniform, StandardLaplace): uniform_standard_laplace,
}

LEGACY: dict[tuple[type, type], Callable] = {(LegacyNormal, StandardNormal): legacy_standard_normal}
"""What programs put in the place of a divergence; never in evaluation."""


def rate_by_dimension(q: Distribution, p: Distribution) -> Float[Tensor, "*batch latent"] | None:
    """KL(q || p) by dimension where the table has a closed form, else None."""
    pair = type(q), type(p)
    closed_form = RATES.get(pair) or LEGACY.get(pair)
    return None if closed_form is None else closed_form(q, p)


# Between the posteriors of a batch -----------------------------------------------------------------------------------


def _normals(mu_i: Tensor, lv_i: Tensor, mu_j: Tensor, lv_j: Tensor) -> Float[Tensor, "..."]:
    r""":math:`\tfrac12[e^{r} - r - 1 + (\mu_i - \mu_j)^2 e^{-lv_j}]`, r = lv_i - lv_j."""
    r = lv_i - lv_j
    return 0.5 * (torch.expm1(r) - r + (mu_i - mu_j).square() * (-lv_j).exp())


def _laplaces(m_i: Tensor, ls_i: Tensor, m_j: Tensor, ls_j: Tensor) -> Float[Tensor, "..."]:
    r""":math:`e^r - r - 1 + e^r(a + e^{-a} - 1)`, :math:`r = \log s_i/s_j`, :math:`a = |m_i - m_j| / s_i`.

    The usual :math:`\log s_j/s_i + |m_i - m_j|/s_j + (s_i/s_j) e^{-a} - 1`, in two parts that are never negative.
    """
    r, a = ls_i - ls_j, (m_i - m_j).abs() * (-ls_i).exp()
    return torch.expm1(r) - r + r.exp() * (a + torch.expm1(-a))


def _gaussian_pairs(base: Base, rows: slice) -> Float[Tensor, "rows batch latent"]:
    return _normals(base.loc[rows, None], base.log_var[rows, None], base.loc, base.log_var)


def _laplace_pairs(base: Base, rows: slice) -> Float[Tensor, "rows batch latent"]:
    log_scale = (base.log_var - LOG_2) / 2
    return _laplaces(base.loc[rows, None], log_scale[rows, None], base.loc, log_scale)


PAIRS: dict[str, Callable[[Base, slice], Tensor]] = {"gaussian": _gaussian_pairs, "laplace": _laplace_pairs}

NO_PAIRS = {
    "uniform": "two uniforms hardly ever lie inside one another, so their divergence is infinite",
    "point": "a point posterior has no density",
}
"""Why a family has no divergence between its members."""


def pairwise_kl(base: Base, rows: slice = slice(None)) -> Float[Tensor, "rows batch latent"]:
    r""":math:`\mathrm{KL}(q_i \| q_j)` by dimension, for i in ``rows`` and all j; entry [i, j] is ordered.

    Taken element by element in at least the precision of ``base``: through matrix products it cancels in float32.

    Raises:
        ValueError: a family whose members have no finite divergence.
    """
    if base.family not in PAIRS:
        why = NO_PAIRS.get(base.family, "the table has no closed form")
        raise ValueError(
            f"no divergence between '{base.family}' posteriors: {why}. Choose the posterior {' or '.join(PAIRS)}."
        )
    return PAIRS[base.family](base, rows)

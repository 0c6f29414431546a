"""Objectives that put something else, or something more, in the place of the rate."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from elboroom.errors import InputError, one_of
from elboroom.numerics import LOG_2PI
from elboroom.objectives.bounds import Warmup, rate
from elboroom.objectives.needs import given
from elboroom.objectives.pairwise import mutual_statistics
from elboroom.objectives.schedules import constant, linear
from elboroom.records import Base, Draw, Terms

__all__ = [
    "capacity",
    "dip",
    "free_bits",
    "info_vae",
    "log_aggregate",
    "mmd",
    "mu",
    "mutual_divergence",
    "squared_mmd",
    "total_correlation",
]

LOWEST_LOG_VAR = -20.0  # a mean log-variance below it: the run has run away

# μ-VAE ---------------------------------------------------------------------------------------------------------------

MEAN_TERMS = {
    "total": lambda loc: loc.sum().abs(),
    "per-sample": lambda loc: loc.sum(1).abs().sum(),
    "per-dimension": lambda loc: loc.sum(0).abs().sum(),
    "elementwise": lambda loc: loc.abs().sum(),
}
VARIANCE_TERMS = {
    "abs": lambda log_var: log_var.abs().sum(),
    "abs-per-dimension": lambda log_var: log_var.sum(0).abs().sum(),
    "abs-total": lambda log_var: log_var.sum().abs(),
    "signed": lambda log_var: log_var.sum(),
    "exp-minus-one": lambda log_var: torch.expm1(log_var).sum(),
    "full": lambda log_var: (torch.expm1(log_var) - log_var).sum(),
}


def mu(draw: Draw, *, mean: str = "total", variance: str = "abs", allow_unbounded: bool = False) -> Terms:
    r"""μ-VAE: the grand mean of the codes towards zero and every log-variance towards zero, in place of the rate.

    .. math:: \frac1B \Big[ \sum_i D_i + \Big| \sum_i \sum_d \mu_{id} \Big| + \sum_i \sum_d |\log \sigma^2_{id}| \Big]

    Ucar (2019), arXiv:1910.13181, final objective, in the reading A6; ``mean`` and ``variance`` choose
    another (`elboroom.config.objectives.READINGS` names them):

    - mean: ``total`` as above; ``per-sample`` :math:`\sum_i |\sum_d \mu|`;
      ``per-dimension`` :math:`\sum_d |\sum_i \mu|`; ``elementwise`` :math:`\sum_i \sum_d |\mu|`;
    - variance, with :math:`v = \log\sigma^2`: ``abs`` as above; ``abs-per-dimension`` :math:`\sum_d |\sum_i v|`;
      ``abs-total`` :math:`|\sum_i \sum_d v|`; ``exp-minus-one`` :math:`\sum_i \sum_d (e^v - 1)`;
      ``full`` :math:`\sum_i \sum_d (e^v - v - 1)`; ``signed`` :math:`\sum_i \sum_d v`, the printed one.

    The printed one is unbounded below: the loss runs to minus infinity by variances that vanish, without a NaN on the
    way. It has to be allowed, and ends as diverged when the mean log-variance falls below -20. Both terms act on the
    batch, so their value depends on its size. No bound on log p(x); the rate is reported, with weight 0.

    Raises:
        ValueError: the posterior has no variance.
        InputError: an unknown ``mean`` or ``variance``, or ``signed`` without ``allow_unbounded``.
    """
    of_mean = MEAN_TERMS[one_of("mean", mean, MEAN_TERMS)]
    of_variance = VARIANCE_TERMS[one_of("variance", variance, VARIANCE_TERMS)]
    base = draw.base
    if base is None or base.log_var is None:
        raise ValueError("μ-VAE's regularizer needs a posterior with a variance, such as 'gaussian'")
    unbounded = variance == "signed"
    if unbounded and not allow_unbounded:
        raise InputError(
            "variance 'signed' is unbounded below: variances vanish and the loss runs to minus infinity. "
            "Take 'abs', or watch it happen with allow_unbounded: true."
        )
    batch = base.loc.shape[0]
    bars = {"mean-bar": of_mean(base.loc), "variance-bar": of_variance(base.log_var)}
    return Terms(
        {"distortion": -draw.log_px.mean(0), "rate": rate(draw).detach()},
        batch={name: value / batch for name, value in bars.items()},
        weights={"rate": 0.0},
        floors={"log-variance": (base.log_var.mean(), LOWEST_LOG_VAR)} if unbounded else {},
    )


# Mutual posterior divergence ---------------------------------------------------------------------------------------

PAIR_SOFTPLUS = ("before-mean", "after-mean", "after-mean-sept")


def mutual_divergence(
    draw: Draw,
    *,
    eta: float = 1.0,
    gamma: float = 0.5,
    pair_softplus: str = "before-mean",
    free_bits: float | None = None,
) -> Terms:
    r"""MAE: the ELBO, with posteriors pushed apart from each other, all pairs by about as much.

    .. math:: -\log p(x|z) + \mathrm{rate} + \eta\, L_{\mathrm{div}} + \gamma\, L_{\mathrm{std}}, \qquad
              L_{\mathrm{div}} = \frac{1}{M} \sum_{i \ne j} \sum_k \mathrm{softplus}(-\mathrm{KL}_{ijk})

    over the M = B(B-1) ordered pairs of a batch, KL between the base Gaussians, :math:`L_{\mathrm{std}}` the unbiased
    standard deviation of :math:`\sum_k \mathrm{KL}_{ijk}`. A batch of one has no pairs, and nothing is added. Ma et
    al. (2019), arXiv:1901.01498, eq. (5)-(8).

    Args:
        draw: with a Gaussian base; both terms act on the batch.
        eta: weight of the divergence.
        gamma: weight of the spread.
        pair_softplus: ``before-mean`` as above (the paper); ``after-mean``, the softplus of each dimension's mean over
            pairs (the program, a smaller value by Jensen); ``after-mean-sept``, that of the mean divided by eta (the
            program before October 2018).
        free_bits: nats below which the batch mean of the rate is not pressed; None: pressed everywhere.

    Returns:
        ``distortion``, ``rate`` [batch]; ``mutual-divergence``, ``mpd-std``, and ``mpd`` for the eye (nats).

    Raises:
        InputError: the base posterior is not Gaussian; an unknown ``pair_softplus``; or ``after-mean-sept`` with eta 0.
    """
    base = _gaussian(draw, "mutual-divergence")
    before = one_of("pair_softplus", pair_softplus, PAIR_SOFTPLUS) == "before-mean"
    by_dim, soft, std = mutual_statistics(base.loc, base.log_var, softplus=before)
    rates = rate(draw)
    example = {"distortion": -draw.log_px.mean(0), "rate": rates if free_bits is None else rates.detach()}
    batch = {"mutual-divergence": soft if before else _after_mean(by_dim, len(base.loc), pair_softplus, eta)}
    batch |= {"mpd-std": std, "mpd": by_dim.detach().sum()}
    weights: dict[str, Tensor | float] = {"mutual-divergence": eta, "mpd-std": gamma, "mpd": 0.0}
    if free_bits is not None:
        batch["free-rate"] = rates.mean().clamp_min(free_bits)
        weights["rate"] = 0.0
    return Terms(example, batch, weights)


def _after_mean(by_dim: Float[Tensor, " latent"], batch: int, form: str, eta: float) -> Float[Tensor, ""]:
    """The program's two forms; a batch of one has no pairs, and adds nothing."""
    if batch < 2:
        return by_dim.sum() * 0
    if form == "after-mean":
        return F.softplus(-by_dim).sum()
    if eta == 0:
        raise InputError("pair_softplus 'after-mean-sept' divides by eta, which is 0. Choose 'after-mean'.")
    return F.softplus(-by_dim / eta).sum()


def _gaussian(draw: Draw, objective: str) -> Base:
    """The base posterior, which has to be a diagonal Gaussian."""
    base = draw.base
    if base is None or base.family != "gaussian":
        family = "none" if base is None else f"of the family '{base.family}'"
        raise InputError(f"objective '{objective}' needs a Gaussian base posterior; this one is {family}.")
    return base


# Limits on the rate ------------------------------------------------------------------------------------------------


def free_bits(
    draw: Draw,
    *,
    nats: float = 1.0,
    per: str = "total",
    size: int = 1,
    beta: float = 1.0,
    warmup: Warmup | None = None,
) -> Terms:
    r"""The ELBO whose rate is pressed only where its batch mean exceeds ``nats``, in each group of dimensions.

    .. math:: D + \beta \sum_g \max\Big(\lambda,\ \frac1B \sum_i \mathrm{KL}_{ig}\Big)

    Kingma et al. (2016), arXiv:1606.04934, appendix C.8. Below the limit a group's rate has no gradient. The true rate
    is reported beside the limited one, which acts on the batch (and never on one example).

    Args:
        draw: with a rate by dimension, unless ``per`` is ``total``.
        nats: λ, of each group.
        per: ``total``: one group; ``dimension``: each is a group; ``group``: each ``size`` dimensions in a row.
        size: dimensions of a group.
        beta: weight; the loss is an upper bound on -log p(x) for ``beta >= 1``.
        warmup: factor of beta at ``draw.step``.

    Raises:
        InputError: no rate by dimension, latents that groups of ``size`` do not divide, or an unknown ``per``.
    """
    limited = _by_group(draw, per, size).mean(0).clamp_min(nats).sum()
    return Terms(
        {"distortion": -draw.log_px.mean(0), "rate": rate(draw).detach()},
        batch={"free-rate": limited},
        weights={"rate": 0.0, "free-rate": beta * (warmup or constant)(draw.step)},
    )


def _by_group(draw: Draw, per: str, size: int) -> Float[Tensor, "batch groups"]:
    if one_of("per", per, ("total", "dimension", "group")) == "total":
        return rate(draw)[:, None]
    if draw.rate is None:
        raise InputError(
            f"free bits per {per} need a rate by dimension, which this posterior and prior have not in closed form. "
            "Choose --objective.per total."
        )
    if per == "dimension":
        return draw.rate
    latent = draw.rate.shape[1]
    if latent % size:
        raise InputError(f"groups of {size} do not divide {latent} latents. Choose another --objective.size.")
    return draw.rate.unflatten(1, (-1, size)).sum(-1)


def capacity(draw: Draw, *, nats: float = 25.0, steps: int = 10000, weight: float = 10.0) -> Terms:
    r"""The rate held at a capacity C, which grows linearly from 0 to ``nats`` over ``steps`` steps.

    .. math:: D + \gamma \Big| \frac1B \sum_i \mathrm{KL}_i - C(t) \Big|

    Burgess et al. (2018), arXiv:1804.03599, eq. (8). No bound on log p(x): below C the rate is rewarded. It acts on the
    batch. Without a step C is ``nats``.

    Args:
        draw: any with a rate; ``draw.step`` moves C.
        nats: the last capacity.
        steps: of the growth.
        weight: γ.
    """
    rates = rate(draw)
    excess = (rates.mean() - nats * linear(draw.step, steps=steps)).abs()
    return Terms(
        {"distortion": -draw.log_px.mean(0), "rate": rates.detach()},
        batch={"rate-from-capacity": excess},
        weights={"rate": 0.0, "rate-from-capacity": weight},
    )


# The aggregate posterior against the prior --------------------------------------------------------------------------

KERNELS = {
    "imq": lambda square, c: c / (c + square),
    "rbf": lambda square, c: (-square / c).exp(),
}


def squared_mmd(
    x: Float[Tensor, "n latent"],
    y: Float[Tensor, "m latent"],
    *,
    kernel: str = "imq",
    scales: Sequence[float] = (1.0,),
) -> Float[Tensor, ""]:
    r"""Squared maximum mean discrepancy, all pairs included: never negative, 0 for equal samples.

    .. math:: \overline{k(x, x')} + \overline{k(y, y')} - 2\,\overline{k(x, y)}, \qquad c_s = 2\,s\,\mathrm{latent}

    with :math:`k = \sum_s c_s / (c_s + \|a - b\|^2)` (``imq``) or :math:`\sum_s e^{-\|a - b\|^2 / c_s}` (``rbf``).
    Gretton et al. (2012), eq. (5); kernels of Tolstikhin et al. (2018), arXiv:1711.01558, section 4.

    Raises:
        InputError: an unknown kernel.
    """
    similarity = KERNELS[one_of("kernel", kernel, KERNELS)]
    both = torch.cat([x, y])
    both = both - both.mean(0).detach()  # the distances stay, and lose fewer digits in the product below
    norm = both.square().sum(-1)
    square = (norm[:, None] + norm - 2 * both @ both.T).clamp_min(0)
    values = sum(similarity(square, 2 * s * x.shape[1]) for s in scales)
    n = len(x)
    return values[:n, :n].mean() + values[n:, n:].mean() - 2 * values[:n, n:].mean()


def mmd(
    draw: Draw,
    *,
    weight: float = 10.0,
    kernel: str = "imq",
    scales: Sequence[float] = (1.0,),
    warmup: Warmup | None = None,
) -> Terms:
    r"""The distance of all codes together from the prior, in place of the rate: :math:`D + \lambda\,\mathrm{MMD}^2`.

    The Wasserstein autoencoder, Tolstikhin et al. (2018), arXiv:1711.01558, eq. (4), here with all pairs in the MMD;
    with a Gaussian posterior, MMD-VAE. It acts on the batch, and is no bound on log p(x). Prior draws carry no
    gradient; the rate is reported where there is one.

    Args:
        draw: any, with ``prior_z``.
        weight: λ.
        kernel: ``imq`` or ``rbf``, see `squared_mmd`.
        scales: of the kernels that are added up.
        warmup: factor of λ at ``draw.step``.

    Raises:
        InputError: ``prior_z`` was not asked for, or an unknown kernel.
    """
    example = {"distortion": -draw.log_px.mean(0)}
    if draw.log_qz is not None:
        example["rate"] = rate(draw).detach()
    distance = squared_mmd(draw.z.flatten(0, 1), given(draw, "prior_z", "mmd"), kernel=kernel, scales=scales)
    return Terms(example, {"mmd": distance}, {"rate": 0.0, "mmd": weight * (warmup or constant)(draw.step)})


def info_vae(
    draw: Draw,
    *,
    alpha: float = 0.0,
    lambd: float = 10.0,
    kernel: str = "imq",
    scales: Sequence[float] = (1.0,),
    warmup: Warmup | None = None,
) -> Terms:
    r"""InfoVAE: the rate of each example weighed against the distance of all codes together from the prior.

    .. math:: D + (1 - \alpha)\,\mathrm{KL}(q(z|x) \| p(z)) + (\alpha + \lambda - 1)\,\mathrm{MMD}^2(q(z), p(z))

    Zhao et al. (2017), arXiv:1706.02262, eq. (6). The MMD acts on the batch. A bound on log p(x) for α ≤ 0 and
    α + λ ≥ 1. Prior draws carry no gradient.

    Args:
        draw: with a rate, and ``prior_z``.
        alpha: weight of the mutual information.
        lambd: λ.
        kernel: ``imq`` or ``rbf``, see `squared_mmd`.
        scales: of the kernels that are added up.
        warmup: factor of both weights at ``draw.step``.

    Raises:
        InputError: ``prior_z`` was not asked for, or an unknown kernel.
    """
    factor = (warmup or constant)(draw.step)
    distance = squared_mmd(draw.z.flatten(0, 1), given(draw, "prior_z", "info-vae"), kernel=kernel, scales=scales)
    weights = {"rate": (1 - alpha) * factor, "mmd": (alpha + lambd - 1) * factor}
    return Terms({"distortion": -draw.log_px.mean(0), "rate": rate(draw)}, {"mmd": distance}, weights)


# Total correlation ---------------------------------------------------------------------------------------------------


def total_correlation(
    draw: Draw,
    *,
    alpha: float = 1.0,
    beta: float = 6.0,
    gamma: float = 1.0,
    sampling: str = "weighted",
    warmup: Warmup | None = None,
) -> Terms:
    r"""β-TC-VAE: the rate in three parts, each with its weight.

    .. math:: D + \alpha\, \underbrace{\log\tfrac{q(z|x)}{q(z)}}_{\text{mutual information}}
              + \beta\, \underbrace{\log\tfrac{q(z)}{\prod_d q(z_d)}}_{\text{total correlation}}
              + \gamma\, \underbrace{\sum_d \log\tfrac{q(z_d)}{p(z_d)}}_{\text{rate by dimension}}

    Chen et al. (2018), arXiv:1802.04942, eq. (2) and (4), with q(z) estimated from the batch (`log_aggregate`). The
    parts add up to log q(z|x) - log p(z) whatever the estimate, so α = β = γ = 1 is the ELBO. They act on the batch.

    Args:
        draw: z straight from a Gaussian base (no flow), and ``train_size``.
        alpha, beta, gamma: the weights.
        sampling: ``weighted`` or ``stratified``.
        warmup: factor of beta at ``draw.step``.

    Raises:
        InputError: the base posterior is not Gaussian, ``train_size`` was not asked for, or an unknown ``sampling``.
    """
    base = _gaussian(draw, "total-correlation")
    size = given(draw, "train_size", "total-correlation")
    together, apart = log_aggregate(draw.z, base.loc, base.log_var, size, sampling)
    parts = {
        "mutual-information": draw.log_qz - together,
        "total-correlation": together - apart,
        "dimension-rate": apart - draw.log_pz,
    }
    weights = {"mutual-information": alpha, "dimension-rate": gamma, "rate": 0.0}
    weights["total-correlation"] = beta * (warmup or constant)(draw.step)
    return Terms(
        {"distortion": -draw.log_px.mean(0), "rate": rate(draw).detach()},
        batch={name: value.mean() for name, value in parts.items()},
        weights=weights,
    )


def log_aggregate(
    z: Float[Tensor, "k batch latent"],
    loc: Float[Tensor, "batch latent"],
    log_var: Float[Tensor, "batch latent"],
    train_size: int,
    sampling: str = "weighted",
) -> tuple[Float[Tensor, "k batch"], Float[Tensor, "k batch"]]:
    r"""log q(z) and :math:`\sum_d \log q(z_d)` of the aggregate posterior, estimated from one batch (nats).

    :math:`q(z_i) \approx \sum_j w_{ij}\, q(z_i | x_j)`. ``weighted``: :math:`w = 1 / (NB)`, in expectation
    never above the true log q(z), and log N below it where all posteriors agree; ``stratified``: rows of weights that
    add up to 1, with 1/N for the example's own posterior. Chen et al. (2018), arXiv:1802.04942, appendix C.1 and C.2.

    Raises:
        InputError: an unknown ``sampling``.
    """
    gap = z[:, :, None] - loc
    log_q = -0.5 * (gap.square() * (-log_var).exp() + (log_var + LOG_2PI))
    weight = _log_weights(len(loc), train_size, sampling, z)
    together = torch.logsumexp(log_q.sum(-1) + weight, 2)
    apart = torch.logsumexp(log_q + weight[..., None], 2).sum(-1)
    return together, apart


def _log_weights(batch: int, train_size: int, sampling: str, like: Tensor) -> Float[Tensor, "batch batch"]:
    if one_of("sampling", sampling, ("weighted", "stratified")) == "weighted" or batch == 1:
        return like.new_full((batch, batch), -math.log(train_size * batch))
    others = batch - 1
    weight = like.new_full((batch, batch), 1 / others)
    index = torch.arange(batch, device=like.device)
    weight[index, index] = 1 / train_size
    weight[index, (index + 1) % batch] = max(train_size - others, 1) / (train_size * others)
    return weight.log()


def dip(draw: Draw, *, off_diagonal: float = 10.0, diagonal: float = 5.0) -> Terms:
    r"""Disentangled inferred prior: the ELBO, with the covariance of the posterior means pressed towards I.

    .. math:: D + \mathrm{KL} + \lambda_{od} \sum_{i \ne j} C_{ij}^2 + \lambda_d \sum_i (C_{ii} - 1)^2,
              \qquad C = \mathrm{Cov}_x[\mu(x)]

    Kumar et al. (2018), arXiv:1711.00848, eq. (6), variant I; C is the batch's, divided by its size. It acts on the
    batch, and a batch of one has no covariance: its penalty is that of C = 0.

    Args:
        draw: of a posterior with a density.
        off_diagonal: :math:`\lambda_{od}`.
        diagonal: :math:`\lambda_d`.

    Raises:
        ValueError: no encoder was asked for the codes, or it gave points.
    """
    rates = rate(draw)
    centred = draw.base.loc - draw.base.loc.mean(0)
    covariance = centred.T @ centred / len(centred)
    variances = covariance.diagonal()
    return Terms(
        {"distortion": -draw.log_px.mean(0), "rate": rates},
        {
            "covariances": covariance.square().sum() - variances.square().sum(),
            "variances": (variances - 1).square().sum(),
        },
        {"covariances": off_diagonal, "variances": diagonal},
    )

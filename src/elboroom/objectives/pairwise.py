"""Divergences between all ordered pairs of posteriors in a batch, and the statistics of them that objectives use."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

__all__ = [
    "mutual_statistics",
]

PIECE_BYTES = {"cpu": 128 << 10, "cuda": 64 << 20}  # of one [rows, batch, latent] tensor: a cache, and a memory
KEPT_BYTES = 4 << 20  # up to this size exp(-KL) is kept for the backward pass instead of made anew


def mutual_statistics(
    loc: Float[Tensor, "batch latent"], log_var: Float[Tensor, "batch latent"], *, softplus: bool, eps: float = 1e-12
) -> tuple[Float[Tensor, " latent"], Float[Tensor, ""], Float[Tensor, ""]]:
    r"""Statistics over the :math:`M = B(B-1)` ordered pairs of diagonal Gaussians, in memory of a few rows of pairs.

    Computed from differences, never from matrix products, which cancel in float32; the gradient is in closed form, from
    pieces that are made anew in the backward pass. A batch of one has no pairs: every statistic is 0.

    Args:
        loc: means.
        log_var: log-variances.
        softplus: whether the gradient flows through the second result, or else through the first.
        eps: inside the square root, whose slope is finite where all pairs are equally far apart.

    Returns:
        - the mean KL of each dimension, :math:`\frac1M \sum_{i \ne j} \mathrm{KL}_{ijk}`; no gradient if ``softplus``;
        - :math:`\frac1M \sum_{i \ne j} \sum_k \mathrm{softplus}(-\mathrm{KL}_{ijk})`; 0 without ``softplus``;
        - the unbiased standard deviation over pairs of :math:`\sum_k \mathrm{KL}_{ijk}` (nats).
    """
    return _MutualStatistics.apply(loc, log_var, softplus, eps)


class _MutualStatistics(torch.autograd.Function):
    """`mutual_statistics` and its gradient. KL does not change when a dimension is shifted and scaled for all alike, so
    means and log-variances are centred first: then exp(v_i) exp(-v_j) is finite wherever exp(v_i - v_j) is."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, loc: Tensor, log_var: Tensor, softplus: bool, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, keep = len(loc), len(loc) * loc.numel() * loc.element_size() <= KEPT_BYTES
        centre = (log_var.amax(0) + log_var.amin(0)) / 2
        scale = (-centre / 2).exp()
        mu, v = (loc - loc.mean(0)) * scale, log_var - centre
        by_dim, sums, soft, kept = mu.new_zeros(mu.shape[1]), mu.new_empty(batch, batch), mu.new_empty(batch, batch), []
        for rows, _, scaled in _pieces(mu, v):
            twice = scaled.sub_(v[rows, None]).add_(v - 1)
            by_dim += twice.sum((0, 1)) / 2
            sums[rows] = twice.sum(-1) / 2
            if softplus:
                near = twice.mul_(-0.5).exp_()
                soft[rows] = near.log1p().sum(-1)
                kept += [near] if keep else []
        pairs = max(batch * (batch - 1), 1)
        away = _away_from(sums.fill_diagonal_(0), pairs)
        std = (away.square().sum() / max(pairs - 1, 1) + eps).sqrt() * (batch > 1)
        soft_mean = soft.fill_diagonal_(0).sum() / pairs if softplus else std.new_zeros(())
        ctx.save_for_backward(mu, v, scale, away / (std.clamp_min(eps) * max(pairs - 1, 1)), *kept)
        ctx.softplus, ctx.pairs = softplus, pairs
        by_dim = by_dim / pairs
        ctx.mark_non_differentiable(by_dim if softplus else soft_mean)
        return by_dim, soft_mean, std

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_dim: Tensor, d_soft: Tensor, d_std: Tensor) -> tuple[Tensor, Tensor, None, None]:
        mu, v, scale, away, *kept = ctx.saved_tensors
        d_pair, precision, variance = d_std * away, (-v).exp(), v.exp()
        d_mu, d_v = torch.zeros_like(mu), torch.zeros_like(v)
        for i, (rows, gap, scaled) in enumerate(_pieces(mu, v)):
            if ctx.softplus:
                near = kept[i] if kept else (scaled - v[rows, None] + (v - 1)).mul_(-0.5).exp_()
                d_kl = d_pair[rows, :, None] - (near / (1 + near)).mul_(d_soft / ctx.pairs)
            else:
                d_kl = d_pair[rows, :, None] + d_dim / ctx.pairs
            d_v += (d_kl.sum(0) - scaled.mul_(d_kl).sum(0)) / 2
            own = d_kl.sum(1)
            weighed = d_kl.mul_(precision)
            d_v[rows] += (variance[rows] * weighed.sum(1) - own) / 2
            pull = gap.mul_(weighed)
            d_mu[rows] += pull.sum(1)
            d_mu -= pull.sum(0)
        return d_mu * scale, d_v, None, None


def _pieces(mu: Tensor, v: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    r"""(rows, :math:`\mu_i - \mu_j`, :math:`(e^{v_i} + (\mu_i - \mu_j)^2) e^{-v_j}`) for some rows i and every j."""
    batch, latent = mu.shape
    budget = PIECE_BYTES.get(mu.device.type, PIECE_BYTES["cuda"])
    size = max(1, budget // (batch * latent * mu.element_size()))
    variance, precision = v.exp(), (-v).exp()
    for start in range(0, batch, size):
        rows = slice(start, min(start + size, batch))
        gap = mu[rows, None] - mu
        yield rows, gap, torch.addcmul(variance[rows, None], gap, gap).mul_(precision)


def _away_from(sums: Tensor, pairs: int) -> Tensor:
    """What is left of each pair's value without the mean over pairs; 0 on the diagonal."""
    return (sums - sums.sum() / pairs).fill_diagonal_(0)

"""Divergences between all ordered pairs of posteriors in a batch, and the statistics of them that objectives use."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

__all__ = [
    "mutual_statistics",
]

PIECE_BYTES = {"cpu": 640 << 10, "cuda": 64 << 20}  # of one [dimensions, batch, batch] tensor: a cache, and a memory
TOGETHER = 32  # dimensions whose 1 + exp(-KL), each at most 2, are multiplied before a logarithm is taken


def mutual_statistics(
    loc: Float[Tensor, "batch latent"], log_var: Float[Tensor, "batch latent"], *, softplus: bool, eps: float = 1e-12
) -> tuple[Float[Tensor, " latent"], Float[Tensor, ""], Float[Tensor, ""]]:
    r"""Statistics over the :math:`M = B(B-1)` ordered pairs of diagonal Gaussians, in memory of a few of all pairs.

    What is linear in the KL is summed by matrix products, in float64, since in float32 they cancel. The softplus is
    taken pair by pair, some dimensions at a time, from differences, and its gradient in the same pass. A batch of one
    has no pairs: every statistic is 0.

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
    learns = torch.is_grad_enabled() and (loc.requires_grad or log_var.requires_grad)
    return _MutualStatistics.apply(loc, log_var, softplus, eps, learns)


class _MutualStatistics(torch.autograd.Function):
    """`mutual_statistics` and its gradient. KL does not change when a dimension is shifted and scaled for all alike, so
    means and log-variances are centred first: then exp(v_i) exp(-v_j) is finite wherever exp(v_i - v_j) is."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, loc: Tensor, log_var: Tensor, softplus: bool, eps: float, learns: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, pairs = len(loc), max(len(loc) * (len(loc) - 1), 1)
        exact, centre = loc.double(), (log_var.amax(0) + log_var.amin(0)).double() / 2
        scale = (-centre / 2).exp()
        mu, v = (exact - exact.mean(0)) * scale, log_var.double() - centre
        away = _sums(mu, v)
        away = (away - away.sum() / pairs).fill_diagonal_(0)
        std = (away.square().sum() / max(pairs - 1, 1) + eps).sqrt() * (batch > 1)
        by_dim = (_means(mu, v) / pairs).to(loc.dtype)
        soft, *slopes = _softplus(mu.to(loc.dtype), v.to(loc.dtype), learns) if softplus else [loc.new_zeros(())]
        ctx.save_for_backward(mu, v, scale, away / (std.clamp_min(eps) * max(pairs - 1, 1)), *slopes)
        ctx.softplus, ctx.pairs = softplus, pairs
        soft = (soft / pairs).to(loc.dtype)
        ctx.mark_non_differentiable(by_dim if softplus else soft)
        return by_dim, soft, std.to(loc.dtype)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, d_dim: Tensor, d_soft: Tensor, d_std: Tensor
    ) -> tuple[Tensor, Tensor, None, None, None]:
        mu, v, scale, away, *slopes = ctx.saved_tensors
        d_mu, d_v = _slopes_of_sums(mu, v, away * d_std.double(), None if ctx.softplus else d_dim.double() / ctx.pairs)
        if ctx.softplus:
            d_mu, d_v = (d + s * (d_soft / ctx.pairs) for d, s in zip((d_mu, d_v), slopes, strict=True))
        return (d_mu * scale).to(d_soft.dtype), d_v.to(d_soft.dtype), None, None, None


# Sums of the KL, by matrix products in float64 -----------------------------------------------------------------------


def _sums(mu: Float[Tensor, "batch latent"], v: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch batch"]:
    r""":math:`\sum_k \mathrm{KL}_{ijk}`, 0 on the diagonal."""
    precision, variance = (-v).exp(), v.exp()
    products = (variance + mu.square()) @ precision.T - 2 * mu @ (precision * mu).T
    by_row, by_column = v.sum(1), (v + precision * mu.square()).sum(1)
    return ((products - by_row[:, None] + (by_column - v.shape[1])) / 2).fill_diagonal_(0)


def _means(mu: Float[Tensor, "batch latent"], v: Float[Tensor, "batch latent"]) -> Float[Tensor, " latent"]:
    r""":math:`\sum_{ij} \mathrm{KL}_{ijk}`; the log-variances of i and j cancel in it."""
    precision = (-v).exp()
    square = mu.square().sum(0) * precision.sum(0) + len(mu) * (precision * mu.square()).sum(0)
    cross = mu.sum(0) * (precision * mu).sum(0)
    return (v.exp().sum(0) * precision.sum(0) + square - 2 * cross - len(mu) ** 2) / 2


def _slopes_of_sums(
    mu: Float[Tensor, "batch latent"],
    v: Float[Tensor, "batch latent"],
    of_pairs: Float[Tensor, "batch batch"],
    of_dimensions: Float[Tensor, " latent"] | None,
) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
    r"""The gradient of :math:`\sum_{ijk} w_{ijk} \mathrm{KL}_{ijk}`, :math:`w_{ijk} = a_{ij} + b_k`."""
    precision, variance, square = (-v).exp(), v.exp(), mu.square()
    row, column = of_pairs.sum(1)[:, None], of_pairs.sum(0)[:, None]
    near, pull = _weighed(of_pairs, of_dimensions, precision, precision * mu)
    first, second, spread = _weighed(of_pairs.T, of_dimensions, mu, square, variance)
    if of_dimensions is not None:
        row, column = row + len(mu) * of_dimensions, column + len(mu) * of_dimensions
    d_mu = mu * near - pull - precision * (first - mu * column)
    d_v = (variance * near - row + column - precision * (spread + second - 2 * mu * first + square * column)) / 2
    return d_mu, d_v


def _weighed(of_pairs: Tensor, of_dimensions: Tensor | None, *terms: Tensor) -> tuple[Tensor, ...]:
    r""":math:`\sum_j (a_{ij} + b_k) t_{jk}` of each term."""
    sums = of_pairs @ torch.cat(terms, 1)
    if of_dimensions is not None:
        sums += torch.cat([t.sum(0) * of_dimensions for t in terms])
    return sums.split(terms[0].shape[1], 1)


# The softplus of each pair and dimension -----------------------------------------------------------------------------


def _softplus(
    mu: Float[Tensor, "batch latent"], v: Float[Tensor, "batch latent"], learns: bool
) -> tuple[Float[Tensor, ""], Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
    r""":math:`\sum_{i \ne j} \sum_k \mathrm{softplus}(-\mathrm{KL}_{ijk})`, and its slopes; zeros if nothing learns."""
    mu, v = mu.T.contiguous(), v.T.contiguous()
    total, d_mu, d_v = mu.new_zeros((), dtype=torch.float64), torch.zeros_like(mu), torch.zeros_like(v)
    size, batch = _at_once(mu), mu.shape[1]
    space = mu.new_empty(4, size, batch, batch)  # the same memory for every piece: new pages cost more than the sums
    for m, w, dm, dv in zip(*(t.split(size) for t in (mu, v, d_mu, d_v)), strict=True):
        gap, scaled, s, near = space[:, : len(m)]
        _sigmoids(m, w, gap, scaled, s)
        torch.div(s, torch.sub(1, s, out=near), out=near)
        total += _log_of_product(near).fill_diagonal_(0).sum(dtype=torch.float64)
        if learns:
            _add_slopes(w, gap, scaled, s, dm, dv)
    return total, d_mu.T, d_v.T


def _at_once(mu: Float[Tensor, "latent batch"]) -> int:
    """How many dimensions of all pairs are held at a time: a power of two, for they are multiplied by halves."""
    budget = PIECE_BYTES.get(mu.device.type, PIECE_BYTES["cuda"])
    most = min(TOGETHER, len(mu), budget // (mu.shape[1] ** 2 * mu.element_size()))
    return 1 << max(0, most.bit_length() - 1)


def _sigmoids(
    mu: Float[Tensor, "k batch"],
    v: Float[Tensor, "k batch"],
    gap: Float[Tensor, "k batch batch"],
    scaled: Float[Tensor, "k batch batch"],
    s: Float[Tensor, "k batch batch"],
) -> None:
    r"""Write into the last three: :math:`\mu_i - \mu_j`, :math:`(e^{v_i} + (\mu_i - \mu_j)^2) e^{-v_j}`, and
    :math:`\sigma(-\mathrm{KL}_{ijk})`."""
    torch.sub(mu[:, :, None], mu[:, None], out=gap)
    torch.addcmul(v.exp()[:, :, None], gap, gap, out=scaled).mul_((-v).exp()[:, None])
    half = v / 2
    torch.add((half + 0.5)[:, :, None], scaled, alpha=-0.5, out=s).sub_(half[:, None]).sigmoid_()


def _log_of_product(near: Float[Tensor, "k batch batch"]) -> Float[Tensor, "batch batch"]:
    """The sum over dimensions of log(1 + near), which is used up.

    Halves are multiplied, (1 + a)(1 + b) - 1 = a + b + ab, and one log1p is taken: small values keep their digits, and
    there are as many logarithms as pairs.
    """
    while len(near) > 1:
        half = len(near) // 2
        a, b = near[-2 * half : -half], near[-half:]  # an odd one out is the first, and waits
        both = a * b
        a += b
        a += both
        near = near[:-half]
    return near[0].log1p()


def _add_slopes(v: Tensor, gap: Tensor, scaled: Tensor, s: Tensor, d_mu: Tensor, d_v: Tensor) -> None:
    """Add the slopes of some dimensions, -s dKL; the tensors of pairs [k, batch, batch] are used up."""
    d_v += (s.sum(2) - s.sum(1) + scaled.mul_(s).sum(1)) / 2
    weighed = s.mul_((-v).exp()[:, None])
    d_v -= v.exp() * weighed.sum(2) / 2
    pull = gap.mul_(weighed)
    d_mu += pull.sum(1) - pull.sum(2)

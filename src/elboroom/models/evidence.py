"""log p(x) by importance sampling: encode once, decode in pieces of bounded memory, sum as it goes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from elboroom.models.vae import VAE
from elboroom.numerics import Randomness, StreamingLogMeanExp

PIECE = 128  # samples whose noise is drawn at once: fixed, so that the value does not depend on the memory budget


@dataclass(frozen=True)
class Evidence:
    """The importance-weighted bound of each example (nats, float64) and how many samples carry its weight.

    ``along`` is the bound on the way, by the number k of samples: of the first k weights, and for k = 1 the mean of all
    log-weights, which estimates the same E[L_1] with K times less variance.
    """

    bound: Float[Tensor, " n"]
    effective_samples: Float[Tensor, " n"]
    along: dict[int, Float[Tensor, " n"]] = field(default_factory=dict)


BUDGET = {"cpu": 32 << 20, "cuda": 4 << 30}
"""Bytes of decoded samples at a time: what a cache holds, and what keeps an accelerator busy."""


ALIVE = 8
"""Activations that a deep network holds at once without a gradient: those under way, and those that skips wait for."""


def row_bytes(decoder: nn.Module, z: Float[Tensor, "1 latent"], x: Float[Tensor, "1 *event"], kept: bool = True) -> int:
    """Memory that decoding one code and scoring it takes: every activation at once, which is an upper limit.

    Without a gradient they are not ``kept``, and `ALIVE` of the largest are about what a deep network needs: a guess,
    not a limit.
    """
    sizes: list[int] = []

    def count(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and not list(module.children()):
            sizes.append(output.numel() * output.element_size())

    handles = [m.register_forward_hook(count) for m in decoder.modules()]
    try:
        with torch.no_grad():
            decoder(z).log_prob(x)
    finally:
        for handle in handles:
            handle.remove()
    alive = sum(sizes) if kept else min(sum(sizes), ALIVE * max(sizes, default=0))
    return alive + 4 * x.numel() * x.element_size()


def noise_for(model: VAE, random: Randomness, rows: list[int], piece: int, count: int, copy: int) -> Tensor:
    """Noise [count, rows, width] in which each example has its own: a function of (seed, row, copy, piece)."""
    return torch.cat([model.noise(random("evidence", row, copy, piece), count, 1) for row in rows], dim=1)


def log_evidence(
    model: VAE,
    x: Float[Tensor, "n *event"],
    rows: Integer[Tensor, " n"],
    samples: int,
    *,
    seed: int = 0,
    copy: int = 0,
    marks: tuple[int, ...] = (),
    budget: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Evidence:
    r"""The importance-weighted bound :math:`L_K = \log \frac1K \sum_k p(x|z_k) p(z_k) / q(z_k|x)` of each example.

    :math:`E[L_1]` is the ELBO, :math:`E[L_K]` does not fall with K and never exceeds log p(x); -L_K is reported as NLL.
    Burda et al. (2016), arXiv:1509.00519, eq. (8). The value does not depend on ``budget`` beyond rounding.

    Args:
        model: with a posterior that has a density.
        x: examples as the model takes them.
        rows: their row numbers, from which (with ``seed`` and ``copy``) their noise follows.
        samples: K.
        seed: of the noise.
        copy: which binarization of the images this is.
        marks: numbers of samples at which the bound on the way is kept, from the same weights.
        budget: bytes that decoded samples may take at a time; by default those of `BUDGET` for the device.
        progress: told the number of examples done.

    Raises:
        ValueError: the posterior is a point, or no samples are asked for.
    """
    parts, done = [], 0
    for part in evidence_by_block(model, x, rows, samples, seed=seed, copy=copy, marks=marks, budget=budget):
        parts.append(part)
        done += len(part.bound)
        progress(done)
    return Evidence(
        torch.cat([p.bound for p in parts]),
        torch.cat([p.effective_samples for p in parts]),
        {mark: torch.cat([p.along[mark] for p in parts]) for mark in parts[0].along},
    )


def evidence_by_block(
    model: VAE,
    x: Float[Tensor, "n *event"],
    rows: Integer[Tensor, " n"],
    samples: int,
    *,
    seed: int = 0,
    copy: int = 0,
    marks: tuple[int, ...] = (),
    budget: int | None = None,
    begin: int = 0,
) -> Iterator[Evidence]:
    """`log_evidence` of a few examples at a time, as they are done.

    From the end of any block on (``begin``) the rest comes out bit for bit as if nothing had been left out.
    """
    if samples < 1:
        raise ValueError(f"an importance-weighted bound needs at least 1 sample, got {samples}")
    random = Randomness(seed, x.device)
    budget = BUDGET.get(x.device.type, BUDGET["cuda"]) if budget is None else budget
    most = max(1, budget // row_bytes(model.decoder, x.new_zeros(1, model.encoder.latent), x[:1], kept=False))
    block = max(1, min(len(x), most // min(samples, PIECE)))
    for start in range(begin, len(x), block):
        part = rows[start : start + block].tolist()
        sums = _block(model, x[start : start + block], part, samples, random, copy, most, marks)
        first = {1: sums.mean_log} if 1 in marks else {}
        yield Evidence(sums.log_mean, sums.effective_samples, sums.along | first)


@torch.no_grad()
def _block(
    model: VAE,
    x: Tensor,
    rows: list[int],
    samples: int,
    random: Randomness,
    copy: int,
    most: int,
    marks: tuple[int, ...],
) -> StreamingLogMeanExp:
    """All samples of a few examples."""
    q, p = model.encoder(x), model.prior(model.encoder)
    sums = StreamingLogMeanExp(marks)
    for piece in range(0, samples, PIECE):
        noise = noise_for(model, random, rows, piece // PIECE, min(PIECE, samples - piece), copy)
        z, log_qz = q.rsample_with_log_prob(noise)
        if log_qz is None:
            raise ValueError("a point posterior has no density, so no likelihood can be estimated by its samples")
        ratio = p.log_prob(z) - log_qz
        at_once = max(1, most // len(rows))
        log_px = torch.cat([model.decoder(part).log_prob(x) for part in z.split(at_once)])
        sums.add(log_px + ratio)
    return sums

"""Sums, means and log-sum-exps that keep their digits."""

import hashlib
import math

import torch
from jaxtyping import Float
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def event_sum(x: Float[Tensor, "..."], dims: int) -> Float[Tensor, "..."]:
    """Sum over the last ``dims`` dimensions: log-densities are summed over the event, never averaged."""
    return x.flatten(-dims).sum(-1) if dims > 1 else x.sum(-1)


def at_least_float32(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Half precision as float32: what densities are made of, whatever the networks compute in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def log_mean_exp(x: Float[Tensor, "..."], dim: int = 0) -> Float[Tensor, "..."]:
    r""":math:`\log \frac1K \sum_k e^{x_k}` without overflow."""
    return torch.logsumexp(x, dim) - math.log(x.shape[dim])


class StreamingLogMeanExp:
    r"""log of the mean of :math:`w` and the effective sample size, from log-weights that arrive in pieces.

    Keeps :math:`\log\sum w` and :math:`\log\sum w^2` in float64;
    effective sample size :math:`= (\sum w)^2 / \sum w^2`, between 1 and the number of weights.
    """

    def __init__(self) -> None:
        self.count = 0
        self._first: Tensor | None = None
        self._second: Tensor | None = None

    def add(self, log_w: Float[Tensor, "k n"]) -> None:
        """One more piece of k log-weights for each of the same n examples."""
        log_w = log_w.double()
        first, second = torch.logsumexp(log_w, 0), torch.logsumexp(2 * log_w, 0)
        self._first = first if self._first is None else torch.logaddexp(self._first, first)
        self._second = second if self._second is None else torch.logaddexp(self._second, second)
        self.count += log_w.shape[0]

    @property
    def log_mean(self) -> Float[Tensor, " n"]:
        return self._first - math.log(self.count)

    @property
    def effective_samples(self) -> Float[Tensor, " n"]:
        return (2 * self._first - self._second).exp()


def seed_for(seed: int, purpose: str, *index: int) -> int:
    """A 32-bit seed that depends on all of its arguments.

    torch's CPU generator reads only the low 32 bits of a seed, so numbers packed side by side into 64 bits would make
    all seeds of a study equal; a hash does not.
    """
    text = "/".join([str(seed), purpose, *map(str, index)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


class Randomness:
    """Random numbers as a function of (seed, purpose, index): one private generator, set anew for each use."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self._generator = torch.Generator(device)

    def __call__(self, purpose: str, *index: int) -> torch.Generator:
        """The generator, set for this purpose; valid until the next call."""
        return self._generator.manual_seed(seed_for(self.seed, purpose, *index))

"""Sums, means and log-sum-exps that keep their digits."""

import hashlib
import math
from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float
from torch import Tensor

LOG_2, LOG_2PI = math.log(2), math.log(2 * math.pi)


def event_sum(x: Float[Tensor, "..."], dims: int) -> Float[Tensor, "..."]:
    """Sum over the last ``dims`` dimensions: log-densities are summed over the event, never averaged."""
    return x.flatten(-dims).sum(-1) if dims > 1 else x.sum(-1)


def at_least_float32(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Half precision as float32: what densities are made of, whatever the networks compute in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(device: torch.device | str) -> AbstractContextManager:
    """Inside of the networks' autocast: products as precise as what is multiplied."""
    return torch.autocast(torch.device(device).type, enabled=False)


def log_mean_exp(x: Float[Tensor, "..."], dim: int = 0) -> Float[Tensor, "..."]:
    r""":math:`\log \frac1K \sum_k e^{x_k}` without overflow."""
    return torch.logsumexp(x, dim) - math.log(x.shape[dim])


class StreamingLogMeanExp:
    r"""log of the mean of :math:`w` and the effective sample size, from log-weights that arrive in pieces.

    Keeps :math:`\log\sum w`, :math:`\log\sum w^2` and :math:`\sum\log w` in float64;
    effective sample size :math:`= (\sum w)^2 / \sum w^2`, between 1 and the number of weights.

    Args:
        marks: numbers of weights at which the log-mean so far is kept, whatever the sizes of the pieces. The final
            value does not depend on them.
    """

    def __init__(self, marks: Iterable[int] = ()) -> None:
        self.count = 0
        self.along: dict[int, Tensor] = {}  # mark -> log of the mean of the first so many weights
        self._marks = tuple(marks)
        self._first: Tensor | None = None
        self._second: Tensor | None = None
        self._total: Tensor | None = None

    def add(self, log_w: Float[Tensor, "k n"]) -> None:
        """One more piece of k log-weights for each of the same n examples."""
        log_w = log_w.double()
        for mark in self._marks:
            if self.count < mark <= self.count + len(log_w):
                self.along[mark] = self._joined(torch.logsumexp(log_w[: mark - self.count], 0)) - math.log(mark)
        second, total = torch.logsumexp(2 * log_w, 0), log_w.sum(0)
        self._second = second if self._second is None else torch.logaddexp(self._second, second)
        self._total = total if self._total is None else self._total + total
        self._first = self._joined(torch.logsumexp(log_w, 0))
        self.count += log_w.shape[0]

    def _joined(self, log_sum: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The sum so far, and one more."""
        return log_sum if self._first is None else torch.logaddexp(self._first, log_sum)

    @property
    def log_mean(self) -> Float[Tensor, " n"]:
        return self._first - math.log(self.count)

    @property
    def mean_log(self) -> Float[Tensor, " n"]:
        """The mean of the log-weights themselves."""
        return self._total / self.count

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

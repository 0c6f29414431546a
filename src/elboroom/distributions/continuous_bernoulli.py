"""The continuous Bernoulli: a density of grey values in [0, 1] with the form of the Bernoulli."""

import torch
from jaxtyping import Float
from torch import Tensor

from elboroom.distributions.pixels import PixelDistribution

NEAR = 0.3  # |logit| below which the series serve: their error is below 1e-11 there


def log_normalizer(a: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    r""":math:`g(a) = \log\int_0^1 e^{ax}\,dx = \log\frac{e^a - 1}{a}`, by its series near 0 (value and gradient).

    Away from it :math:`g(a) = \max(a, 0) + \log\frac{1 - e^{-|a|}}{|a|}`, which never overflows. At a = 0 the
    quotient is 0/0, and its gradient cancels in float32 long before.
    """
    near = a.abs() < NEAR
    small, large = torch.where(near, a, 0.0), torch.where(near, 1.0, a.abs())
    square = small.square()
    series = small / 2 + square * (1 / 24 - square * (1 / 2880 - square / 181440))
    exact = a.clamp_min(0) + torch.log(-torch.expm1(-large) / large)
    return torch.where(near, series, exact)


class ContinuousBernoulliPixels(PixelDistribution):
    r"""Grey values x in [0, 1] with logits a: :math:`\log p = \sum_j [x_j a_j - g(a_j)]`, g the log-normalizer.

    A density of continuous data (8-bit grey values are that only nearly); the Bernoulli's formula on grey values lacks
    the normalizer. In the paper's terms :math:`\lambda = \mathrm{sigmoid}(a)`,
    :math:`C(\lambda) = 2\,\mathrm{artanh}(1 - 2\lambda)/(1 - 2\lambda)`, 2 at λ = 1/2.
    Loaiza-Ganem & Cunningham (2019), arXiv:1907.06845, eqs. (6)-(8).
    """

    def __init__(self, logits: Float[Tensor, "..."], event_dims: int) -> None:
        self.logits = logits
        super().__init__(logits, event_dims)

    @property
    def mean(self) -> Float[Tensor, "..."]:
        r""":math:`g'(a) = 1/(1 - e^{-a}) - 1/a`; it is not λ."""
        near = self.logits.abs() < NEAR
        small, large = torch.where(near, self.logits, 0.0), torch.where(near, 1.0, self.logits)
        square = small.square()
        series = 0.5 + small * (1 / 12 - square * (1 / 720 - square / 30240))
        return torch.where(near, series, -1 / torch.expm1(-large) - 1 / large)

    def sample(
        self, sample_shape: torch.Size = torch.Size(), generator: torch.Generator | None = None
    ) -> Float[Tensor, "..."]:
        """By the inverse of the distribution function, taken on the side where it cannot overflow."""
        u = self._noise(torch.rand, sample_shape, self.logits, generator)
        a = self.logits.expand(u.shape)
        size = a.abs()
        flat = size < 1e-4  # a uniform, to a part in 10,000
        steep = torch.where(flat, 1.0, size)
        low = torch.where(flat, u, -torch.log1p(u * torch.expm1(-steep)) / steep)
        return torch.where(a > 0, 1 - low, low)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self._sum(value * self.logits - log_normalizer(self.logits))

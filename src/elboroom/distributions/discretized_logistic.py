"""The discretized logistic: probabilities of 8-bit grey levels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from elboroom.distributions.pixels import PixelDistribution

SMALLEST_LOG_SCALE = -7.0  # narrower than a bin of 1/255, and the masses stay finite


class DiscretizedLogisticPixels(PixelDistribution):
    r"""Probability of pixels x in {0, 1/255, ..., 1} under a logistic of location μ and scale s.

    Each level owns the bin [x - h, x + h], h = 1/510; the first and the last reach infinity, so that the masses of the
    levels sum to 1. With a, b the standardized ends of a bin, its mass is sigmoid(b) sigmoid(-a) (1 - exp(a - b)).
    Salimans et al. (2017), arXiv:1701.05517, eq. (2).

    A mass, not a density: at most 1, and no sum with the log-density of continuous data. A value between two levels
    gets the mass of the nearer one.

    Args:
        log_scale: log s; smaller ones count as -7, where s is a quarter of a bin.
        levels: number of grey levels.
    """

    def __init__(
        self, loc: Float[Tensor, "..."], log_scale: Float[Tensor, "..."], event_dims: int, levels: int = 256
    ) -> None:
        self.loc, self.scale = loc, log_scale.clamp_min(SMALLEST_LOG_SCALE).exp()
        self.steps = levels - 1
        super().__init__(loc, event_dims)

    @property
    def mean(self) -> Float[Tensor, "..."]:
        r"""The mean of the logistic held in [0, 1], :math:`\int_0^1 P(Y > t)\,dt`: within half a level of the exact."""
        upper, lower = F.softplus(self.loc / self.scale), F.softplus((self.loc - 1) / self.scale)
        return (self.scale * (upper - lower)).clamp(0, 1)

    def sample(
        self, sample_shape: torch.Size = torch.Size(), generator: torch.Generator | None = None
    ) -> Float[Tensor, "..."]:
        uniform = self._noise(torch.rand, sample_shape, self.loc, generator)
        drawn = self.loc + self.scale * torch.logit(uniform)
        return (drawn.clamp(0, 1) * self.steps).round() / self.steps

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        level = (value * self.steps).round()
        left = ((level - 0.5) / self.steps - self.loc) / self.scale
        right = ((level + 0.5) / self.steps - self.loc) / self.scale
        inside = torch.log(-torch.expm1(-1 / (self.steps * self.scale)))  # of the width itself: right - left cancels
        has_left, has_right = level > 0, level < self.steps
        by_pixel = F.logsigmoid(right) * has_right + F.logsigmoid(-left) * has_left + inside * (has_left & has_right)
        return self._sum(by_pixel)

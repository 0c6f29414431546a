"""Gaussian p(x|z) whose variance is learned, predicted, or fitted to the batch."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from elboroom.distributions.pixels import PixelDistribution
from elboroom.numerics import LOG_2PI


class ScaledNormalPixels(PixelDistribution):
    r"""N(x; mean, variance), the log-variance a tensor: of no dimension (one for all) or of the mean's shape.

    .. math:: \log p = -\tfrac12 \sum_j [\log 2\pi + \log\sigma_j^2 + (x_j - m_j)^2 e^{-\log\sigma_j^2}]

    A density of continuous data, which can exceed 1: on pixels that are constant it has no upper limit but the
    variance's floor.
    """

    def __init__(self, mean: Float[Tensor, "..."], log_var: Float[Tensor, "..."], event_dims: int) -> None:
        self.loc, self.log_var = mean, log_var.expand(mean.shape)
        super().__init__(mean, event_dims)

    @property
    def mean(self) -> Float[Tensor, "..."]:
        return self.loc

    @property
    def variance(self) -> Float[Tensor, "..."]:
        return self.log_var.exp()

    def sample(
        self, sample_shape: torch.Size = torch.Size(), generator: torch.Generator | None = None
    ) -> Float[Tensor, "..."]:
        return self.loc + (self.log_var / 2).exp() * self._noise(torch.randn, sample_shape, self.loc, generator)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        squares = (value - self.loc).square() * (-self.log_var).exp()
        return -0.5 * self._sum(squares + self.log_var + LOG_2PI)


class BatchNormalPixels(PixelDistribution):
    r"""The Gaussian whose one variance is the mean squared error of the batch that it scores.

    .. math:: \log p = -\tfrac12[J \log 2\pi\sigma^2 + \|x - m\|^2 / \sigma^2], \quad
        \sigma^2 = \frac{1}{kBJ} \sum (x - m)^2

    The variance that maximizes the batch's log-density, so for one parameter the batch's sum is about half a nat too
    good; it is no density of an example by itself. As the maximum is flat there, the variance needs no gradient.
    Rybkin et al. (2021), arXiv:2006.13202, section 3 (σ-VAE).

    Args:
        observe: told the variance of each batch that is scored.
        floor: the variance's smallest value.
    """

    def __init__(
        self, mean: Float[Tensor, "..."], event_dims: int, observe: Callable[[Tensor], None], floor: float
    ) -> None:
        self.loc, self._observe, self._floor = mean, observe, floor
        super().__init__(mean, event_dims)

    @property
    def mean(self) -> Float[Tensor, "..."]:
        return self.loc

    def sample(
        self, sample_shape: torch.Size = torch.Size(), generator: torch.Generator | None = None
    ) -> Float[Tensor, "..."]:
        """The mean: the variance is not known before a batch is scored."""
        return self.loc.expand(self._extended_shape(sample_shape))

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        squares = (value - self.loc).square()
        variance = squares.detach().mean().clamp_min(self._floor)
        self._observe(variance)
        return -0.5 * self._sum(squares / variance + (variance.log() + LOG_2PI))

"""p(x|z) of independent data dimensions: log-densities summed over the event, one value per example."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from elboroom.numerics import LOG_2PI, event_sum


class PixelDistribution(Distribution):
    """Independent data dimensions; batch shape (lead), event shape that of one example.

    ``sample`` draws from the global generator, or from the one that it is given.
    """

    arg_constraints = {}

    def __init__(self, parameter: Float[Tensor, "..."], event_dims: int) -> None:
        shape = parameter.shape
        super().__init__(shape[:-event_dims], shape[-event_dims:], validate_args=False)

    def _noise(
        self, kind: Callable, sample_shape: torch.Size, like: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Noise of a kind, `torch.rand` or `torch.randn`, from the generator where one is given."""
        device = like.device if generator is None else generator.device
        shape = self._extended_shape(torch.Size(sample_shape))
        return kind(shape, generator=generator, device=device, dtype=like.dtype).to(like.device)

    def _sum(self, by_pixel: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return event_sum(by_pixel, len(self.event_shape))


class BernoulliPixels(PixelDistribution):
    r"""Binary pixels with logits a: :math:`\log p = \sum_j [x_j a_j - \mathrm{softplus}(a_j)]`.

    Never log(sigmoid + 1e-12), which charges a saturated pixel at most 27.6 nats in float32.
    """

    def __init__(self, logits: Float[Tensor, "..."], event_dims: int) -> None:
        self.logits = logits
        super().__init__(logits, event_dims)

    @property
    def mean(self) -> Float[Tensor, "..."]:
        return torch.sigmoid(self.logits)

    def sample(
        self, sample_shape: torch.Size = torch.Size(), generator: torch.Generator | None = None
    ) -> Float[Tensor, "..."]:
        p = self.mean
        return (self._noise(torch.rand, sample_shape, p, generator) < p).to(p.dtype)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        value = value.to(self.logits.dtype)
        return self._sum(value * self.logits) - self._sum(F.softplus(self.logits))


class GreyPixels(BernoulliPixels):
    """The same formula on grey pixels: a cross-entropy and no density, because it has no normalizer.

    Even a perfect reconstruction costs the entropy of the pixels, 45.7 nats for an MNIST image.
    """

    def sample(
        self, sample_shape: torch.Size = torch.Size(), generator: torch.Generator | None = None
    ) -> Float[Tensor, "..."]:
        """The mean: there is no distribution over grey pixels to draw from."""
        return self.mean.expand(self._extended_shape(sample_shape))


class NormalPixels(PixelDistribution):
    """N(x; mean, variance), one fixed variance; ``constant=False`` drops the part that does not depend on x."""

    def __init__(
        self, mean: Float[Tensor, "..."], event_dims: int, variance: float = 1.0, constant: bool = True
    ) -> None:
        self.loc, self._variance = mean, variance
        self.offset = -0.5 * (LOG_2PI + math.log(variance)) if constant else 0.0  # of each data dimension
        super().__init__(mean, event_dims)

    @property
    def mean(self) -> Float[Tensor, "..."]:
        return self.loc

    @property
    def variance(self) -> Float[Tensor, "..."]:
        return torch.full_like(self.loc, self._variance)

    def sample(
        self, sample_shape: torch.Size = torch.Size(), generator: torch.Generator | None = None
    ) -> Float[Tensor, "..."]:
        return self.loc + math.sqrt(self._variance) * self._noise(torch.randn, sample_shape, self.loc, generator)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        squares = self._sum((value - self.loc).square())
        return squares * (-0.5 / self._variance) + self.offset * math.prod(self.event_shape)

"""p(x|z): a decoder network with the last layer that its distribution needs.

``offset(shape)`` is what turns the training's log p(x|z) into the logarithm of a density of x, in nats per example:
0 for a density, None where there is none (grey pixels under a Bernoulli).
"""

import math

from jaxtyping import Float
from torch import Tensor, nn

from elboroom.distributions import BernoulliPixels, GreyPixels, NormalPixels
from elboroom.models.heads import head_of
from elboroom.numerics import at_least_float32


class Likelihood(nn.Module):
    """What all share: codes of any leading shape are folded into one batch for the network, and unfolded after it."""

    def __init__(self, network: nn.Module, shape: tuple[int, ...], per_dimension: int = 1) -> None:
        super().__init__()
        self.network, self.head = network, head_of(network, per_dimension)
        self.shape = tuple(shape)

    def outputs(self, z: Float[Tensor, "*lead latent"]) -> tuple[Float[Tensor, "..."], ...]:
        """One tensor of the data's shape per parameter of the distribution."""
        flat = at_least_float32(self.head(self.network(z.reshape(-1, z.shape[-1]))))
        return tuple(part.reshape(*z.shape[:-1], *self.shape) for part in flat.unbind(1))


class BernoulliLikelihood(Likelihood):
    """Binary data: one logit per dimension."""

    name = "bernoulli"

    def offset(self, shape: tuple[int, ...]) -> float | None:
        return 0.0

    def forward(self, z: Float[Tensor, "*lead latent"]) -> BernoulliPixels:
        (logits,) = self.outputs(z)
        return BernoulliPixels(logits, len(self.shape))


class GreyBce(Likelihood):
    """Grey pixels in [0, 1] under the formula of the Bernoulli: named what it is, and never called a likelihood."""

    name = "grey-bce"

    def offset(self, shape: tuple[int, ...]) -> float | None:
        return None

    def forward(self, z: Float[Tensor, "*lead latent"]) -> GreyPixels:
        (logits,) = self.outputs(z)
        return GreyPixels(logits, len(self.shape))


def squashes(mean: str, values: str) -> bool:
    """Whether a mean passes through a sigmoid: where it is asked for, and by ``auto`` where the data lies in [0, 1]."""
    return mean == "sigmoid" or (mean == "auto" and values != "real")


class GaussianLikelihood(Likelihood):
    """N(x; m(z), variance), the mean through a sigmoid where the data lies in [0, 1]."""

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        variance: float = 1.0,
        mean: str = "auto",
        values: str = "unit-interval",
    ) -> None:
        super().__init__(network, shape)
        self.variance, self.squash = variance, squashes(mean, values)

    @property
    def name(self) -> str:
        return f"gaussian (variance {self.variance:g})"

    def offset(self, shape: tuple[int, ...]) -> float | None:
        return 0.0

    def forward(self, z: Float[Tensor, "*lead latent"]) -> NormalPixels:
        (mean,) = self.outputs(z)
        return NormalPixels(mean.sigmoid() if self.squash else mean, len(self.shape), self.variance)


class SquaredErrorLikelihood(Likelihood):
    """Sum of squares: the Gaussian of variance 1/2, its constant dropped unless asked for."""

    name = "squared error (gaussian, variance 0.5)"

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        constant: bool = False,
        mean: str = "auto",
        values: str = "unit-interval",
    ) -> None:
        super().__init__(network, shape)
        self.constant, self.squash = constant, squashes(mean, values)

    def offset(self, shape: tuple[int, ...]) -> float | None:
        """The dropped constant, -(dimensions / 2) ln π: 448.7 nats for a 28x28 image."""
        return 0.0 if self.constant else -0.5 * math.prod(shape) * math.log(math.pi)

    def forward(self, z: Float[Tensor, "*lead latent"]) -> NormalPixels:
        (mean,) = self.outputs(z)
        return NormalPixels(mean.sigmoid() if self.squash else mean, len(self.shape), 0.5, self.constant)

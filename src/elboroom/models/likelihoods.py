"""p(x|z): a decoder network with the last layer that its distribution needs.

``offset(shape)`` is what turns the training's log p(x|z) into the logarithm of a density of x, in nats per example:
0 for a density, None where there is none (grey pixels under a Bernoulli).
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from elboroom.distributions import (
    AutoregressiveBernoulli,
    BatchNormalPixels,
    BernoulliPixels,
    ContinuousBernoulliPixels,
    DiscretizedLogisticPixels,
    GreyPixels,
    NormalPixels,
    ScaledNormalPixels,
)
from elboroom.errors import one_of
from elboroom.models.heads import head_of
from elboroom.numerics import at_least_float32

__all__ = [
    "BernoulliLikelihood",
    "ContinuousBernoulliLikelihood",
    "DiscretizedLogisticLikelihood",
    "GaussianLikelihood",
    "GreyBce",
    "LearnedGaussianLikelihood",
    "OptimalGaussianLikelihood",
    "PixelGaussianLikelihood",
    "SquaredErrorLikelihood",
]


class Likelihood(nn.Module):
    """What all share: codes of any leading shape are folded into one batch for the network, and unfolded after it."""

    def __init__(self, network: nn.Module, shape: tuple[int, ...], per_dimension: int = 1) -> None:
        super().__init__()
        self.network, self.head = network, head_of(network, per_dimension, tuple(shape))
        self.shape = tuple(shape)

    def outputs(self, z: Float[Tensor, "*lead latent"]) -> tuple[Float[Tensor, "..."], ...]:
        """One tensor of the data's shape per parameter of the distribution."""
        flat = at_least_float32(self.head(self.network(z.reshape(-1, z.shape[-1]))))
        return tuple(part.reshape(*z.shape[:-1], *self.shape) for part in flat.unbind(1))


class BernoulliLikelihood(Likelihood):
    """Binary data: one logit per dimension.

    With a network that goes through the pixels in order (it has a ``walk``), each is given those before it. Both are
    probabilities of the same binary images, and bear one name: their likelihoods compare.
    """

    name = "bernoulli"

    def offset(self, shape: tuple[int, ...]) -> float | None:
        return 0.0

    def forward(self, z: Float[Tensor, "*lead latent"]) -> BernoulliPixels | AutoregressiveBernoulli:
        if hasattr(self.network, "walk"):
            return self._in_order(z)
        (logits,) = self.outputs(z)
        return BernoulliPixels(logits, len(self.shape))

    def _in_order(self, z: Float[Tensor, "*lead latent"]) -> AutoregressiveBernoulli:
        maps = self.network(z.reshape(-1, z.shape[-1]))  # what the code becomes, once for all that is asked

        def logits(x: Tensor, index: Tensor | None) -> Tensor:
            features = self.network.given(x, maps if index is None else maps[index])
            return at_least_float32(self.head(features))

        return AutoregressiveBernoulli(
            batch=z.shape[:-1],
            event=self.shape,
            logits=logits,
            walk=lambda codes, choose: self.network.walk(maps[codes], self.head, choose),
            like=at_least_float32(maps),
        )


class GreyBce(Likelihood):
    """Grey pixels in [0, 1] under the formula of the Bernoulli: named what it is, and never called a likelihood."""

    name = "grey-bce"

    def offset(self, shape: tuple[int, ...]) -> float | None:
        return None

    def forward(self, z: Float[Tensor, "*lead latent"]) -> GreyPixels:
        (logits,) = self.outputs(z)
        return GreyPixels(logits, len(self.shape))


MEANS = ("auto", "sigmoid", "identity")


class _Gaussian(Likelihood):
    """What the Gaussians share: a mean that can pass through a sigmoid.

    Args:
        network: from codes to what the last layer reads.
        shape: of one example.
        mean: ``sigmoid``, ``identity``, or ``auto``: a sigmoid where the data lies in [0, 1].
        values: of the data: ``real``, ``unit-interval`` or ``binary``.
        per_dimension: numbers that the last layer gives for each dimension of the data.

    Raises:
        InputError: an unknown ``mean``.
    """

    def __init__(
        self, network: nn.Module, shape: tuple[int, ...], mean: str, values: str, per_dimension: int = 1
    ) -> None:
        super().__init__(network, shape, per_dimension)
        self.squash = one_of("mean", mean, MEANS) == "sigmoid" or (mean == "auto" and values != "real")

    def located(self, raw: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The mean from what the last layer gives."""
        return raw.sigmoid() if self.squash else raw


class GaussianLikelihood(_Gaussian):
    """N(x; m(z), variance), the variance fixed and the same for every pixel.

    ``mean`` and ``values``: by ``auto`` the mean passes through a sigmoid unless the data is ``real``; ``sigmoid`` and
    ``identity`` say it outright. An unknown one is an InputError; so in all Gaussians here.
    """

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        variance: float = 1.0,
        mean: str = "auto",
        values: str = "unit-interval",
    ) -> None:
        super().__init__(network, shape, mean, values)
        self.variance = variance

    @property
    def name(self) -> str:
        return f"gaussian (variance {self.variance:g})"

    def offset(self, shape: tuple[int, ...]) -> float | None:
        return 0.0

    def forward(self, z: Float[Tensor, "*lead latent"]) -> NormalPixels:
        (mean,) = self.outputs(z)
        return NormalPixels(self.located(mean), len(self.shape), self.variance)


class SquaredErrorLikelihood(_Gaussian):
    """Sum of squares: the Gaussian of variance 1/2, its constant dropped unless asked for."""

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        constant: bool = False,
        mean: str = "auto",
        values: str = "unit-interval",
    ) -> None:
        super().__init__(network, shape, mean, values)
        self.constant = constant

    @property
    def name(self) -> str:
        """With its constant it is that Gaussian, whose distortions are ``-offset`` larger: never on one scale."""
        return "gaussian (variance 0.5)" if self.constant else "squared error (gaussian, variance 0.5)"

    def offset(self, shape: tuple[int, ...]) -> float | None:
        """The dropped constant, -(dimensions / 2) ln π: 448.7 nats for a 28x28 image."""
        return 0.0 if self.constant else -0.5 * math.prod(shape) * math.log(math.pi)

    def forward(self, z: Float[Tensor, "*lead latent"]) -> NormalPixels:
        (mean,) = self.outputs(z)
        return NormalPixels(self.located(mean), len(self.shape), 0.5, self.constant)


def above(raw: Float[Tensor, "..."], floor: float) -> Float[Tensor, "..."]:
    r"""A log-variance held softly above :math:`\log` ``floor``: :math:`\log f + \mathrm{softplus}(r - \log f)`.

    A hard clamp has no gradient below the floor, from where a pixel could not come back.
    """
    return math.log(floor) + F.softplus(raw - math.log(floor))


class LearnedGaussianLikelihood(_Gaussian):
    """N(x; m(z), σ²) with one learned variance, the same for every pixel and example; it begins at 1.

    A density of continuous data. ``floor`` is the smallest variance (the default, 1e-5, is a standard deviation of
    0.003, just under one of 256 grey levels), approached softly.
    """

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        floor: float = 1e-5,
        mean: str = "auto",
        values: str = "unit-interval",
    ) -> None:
        super().__init__(network, shape, mean, values)
        self.floor = floor
        self.raw_log_var = nn.Parameter(torch.zeros(()))

    @property
    def name(self) -> str:
        return f"gaussian (learned variance, floor {self.floor:g})"

    def offset(self, shape: tuple[int, ...]) -> float | None:
        return 0.0

    def forward(self, z: Float[Tensor, "*lead latent"]) -> ScaledNormalPixels:
        (mean,) = self.outputs(z)
        log_var = above(self.raw_log_var, self.floor)
        return ScaledNormalPixels(self.located(mean), log_var, len(self.shape))


class PixelGaussianLikelihood(_Gaussian):
    """N(x; m(z), diag σ²(z)): the decoder gives a mean and a log-variance for each pixel.

    The Gaussian decoder of AEVB (Kingma & Welling 2014, arXiv:1312.6114, appendix C.2). A density of continuous data
    that grows without limit on pixels that never change, so ``floor`` is the smallest variance, approached softly.
    """

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        floor: float = 1e-5,
        mean: str = "auto",
        values: str = "unit-interval",
    ) -> None:
        super().__init__(network, shape, mean, values, per_dimension=2)
        self.floor = floor

    @property
    def name(self) -> str:
        return f"gaussian (variance per pixel, floor {self.floor:g})"

    def offset(self, shape: tuple[int, ...]) -> float | None:
        return 0.0

    def forward(self, z: Float[Tensor, "*lead latent"]) -> ScaledNormalPixels:
        mean, log_var = self.outputs(z)
        return ScaledNormalPixels(self.located(mean), above(log_var, self.floor), len(self.shape))


class OptimalGaussianLikelihood(_Gaussian):
    r"""N(x; m(z), σ²) with the variance that suits the decoder best: the mean squared error.

    Rybkin et al. (2021), arXiv:2006.13202 (σ-VAE). In training mode the variance is that of the batch that is scored,
    which is no parameter of a density: a batch's sum is about half a nat too good. In evaluation mode it is fixed, a
    running mean of the training batches' values (all of the first 100 weigh the same, then each new one 1 %), so that
    what is reported is a density that never saw the example. It is a buffer: saved with the weights, untouched by
    passes without gradient.
    """

    name = "gaussian (optimal variance)"

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        floor: float = 1e-5,
        mean: str = "auto",
        values: str = "unit-interval",
    ) -> None:
        super().__init__(network, shape, mean, values)
        self.floor = floor
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("batches", torch.zeros(()))

    def offset(self, shape: tuple[int, ...]) -> float | None:
        return 0.0

    @torch.no_grad()
    def _observe(self, variance: Float[Tensor, ""]) -> None:
        self.batches.add_(1)
        self.variance.lerp_(variance.to(self.variance.dtype), (1 / self.batches).clamp_min(0.01))

    def forward(self, z: Float[Tensor, "*lead latent"]) -> BatchNormalPixels | ScaledNormalPixels:
        (mean,) = self.outputs(z)
        mean = self.located(mean)
        if not self.training:
            return ScaledNormalPixels(mean, self.variance.clamp_min(self.floor).log(), len(self.shape))
        observe = self._observe if torch.is_grad_enabled() else _forget
        return BatchNormalPixels(mean, len(self.shape), observe, self.floor)


def _forget(variance: Float[Tensor, ""]) -> None:
    """What a pass without gradient does with a batch's variance."""


class ContinuousBernoulliLikelihood(Likelihood):
    """Grey values in [0, 1] under the normalized Bernoulli: one logit per dimension. A density of continuous data."""

    name = "continuous-bernoulli"

    def offset(self, shape: tuple[int, ...]) -> float | None:
        return 0.0

    def forward(self, z: Float[Tensor, "*lead latent"]) -> ContinuousBernoulliPixels:
        (logits,) = self.outputs(z)
        return ContinuousBernoulliPixels(logits, len(self.shape))


class DiscretizedLogisticLikelihood(Likelihood):
    """Grey levels {0, 1/255, ..., 1} under a discretized logistic: a mass, not a density, of 8-bit data.

    The location is free, since the black level gets all the mass only when it lies well below 0; it begins at 1/2,
    and the scale at exp(-2) = 0.14, about the spread of grey values.

    Args:
        network: from codes to what the last layer reads.
        shape: of one example.
        levels: grey levels, from 0 to 1 in equal steps.

    Raises:
        ValueError: fewer than 2 levels.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...], levels: int = 256) -> None:
        super().__init__(network, shape, per_dimension=2)
        if levels < 2:
            raise ValueError(f"a discretized likelihood needs at least 2 levels, got {levels}")
        self.levels = levels

    @property
    def name(self) -> str:
        return f"discretized-logistic ({self.levels} levels)"

    def offset(self, shape: tuple[int, ...]) -> float | None:
        return 0.0

    def forward(self, z: Float[Tensor, "*lead latent"]) -> DiscretizedLogisticPixels:
        loc, log_scale = self.outputs(z)
        return DiscretizedLogisticPixels(loc + 0.5, log_scale - 2, len(self.shape), self.levels)

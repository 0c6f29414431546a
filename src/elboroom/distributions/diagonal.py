"""Distributions over codes whose dimensions are independent: event shape (latent,), densities summed over it.

A posterior is sampled from noise that the caller gives (`Diagonal.noise` says which). A fixed prior draws codes from a
generator (`Standard.draw`), as every distribution that a prior module returns can.
"""

import abc
import math

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.distributions import Distribution

from elboroom.numerics import LOG_2PI


class Diagonal(Distribution, abc.ABC):
    """What the factorized posteriors share; a family adds its noise, its density and its log-variance."""

    arg_constraints = {}
    has_rsample = True
    family: str
    log_var: Float[Tensor, "*batch latent"]

    def __init__(self, *parameters: Float[Tensor, "*batch latent"]) -> None:
        self.parameters, self.loc = parameters, parameters[0]
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=False)

    @staticmethod
    @abc.abstractmethod
    def noise(
        shape: tuple[int, ...],
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """The family's own noise, at location 0 and scale 1."""

    @abc.abstractmethod
    def rsample_with_log_prob(
        self, noise: Float[Tensor, "k *batch latent"]
    ) -> tuple[Float[Tensor, "k *batch latent"], Float[Tensor, "k *batch"]]:
        """Samples from the family's noise, and their log-densities, in one pass (nats)."""

    @property
    def mean(self) -> Float[Tensor, "*batch latent"]:
        return self.loc

    @property
    def variance(self) -> Float[Tensor, "*batch latent"]:
        return self.log_var.exp()

    def at(self, index: Integer[Tensor, " n"]) -> "Diagonal":
        """The members of the batch with these numbers."""
        return type(self)(*(p[index] for p in self.parameters))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "..."]:
        shape = (math.prod(sample_shape), *self.loc.shape)
        z, _ = self.rsample_with_log_prob(self.noise(shape, device=self.loc.device, dtype=self.loc.dtype))
        return z.reshape(self._extended_shape(sample_shape))


class DiagonalNormal(Diagonal):
    r"""N(z; μ, diag σ²), parametrized by μ and :math:`\log\sigma^2`.

    .. math:: \log N = -\tfrac12 \sum_k [\log 2\pi + \log\sigma_k^2 + (z_k - \mu_k)^2 e^{-\log\sigma_k^2}]
    """

    family = "gaussian"

    def __init__(self, loc: Float[Tensor, "*batch latent"], log_var: Float[Tensor, "*batch latent"]) -> None:
        self.log_var = log_var
        super().__init__(loc, log_var)

    @staticmethod
    def noise(
        shape: tuple[int, ...],
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """N(0, 1)."""
        return torch.randn(shape, generator=generator, device=device, dtype=dtype)

    def detached(self) -> "Diagonal":
        """The same distribution, through whose parameters no gradient flows."""
        return type(self)(self.loc.detach(), self.log_var.detach())

    def rsample_with_log_prob(
        self, noise: Float[Tensor, "k *batch latent"]
    ) -> tuple[Float[Tensor, "k *batch latent"], Float[Tensor, "k *batch"]]:
        """Samples from standard normal noise, and their log-densities, in one pass (nats)."""
        noise = noise.to(self.loc.dtype)
        z = self.loc + (self.log_var / 2).exp() * noise
        return z, -0.5 * (noise.square() + (self.log_var + LOG_2PI)).sum(-1)

    def log_prob(self, value: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        quadratic = (value - self.loc).square() * (-self.log_var).exp()
        return -0.5 * (quadratic + (self.log_var + LOG_2PI)).sum(-1)


class LegacyNormal(DiagonalNormal):
    r"""A `DiagonalNormal` whose rate is that of a program that reads its head s in two ways.

    It samples with standard deviation :math:`e^s` (so :math:`\log\sigma^2 = 2s`, and densities are those of that
    Gaussian), while its KL takes s for :math:`\log\sigma^2`: the table of divergences holds that line under this type.
    The result never exceeds the true KL, so what is trained with it bounds no log p(x).
    """


class Standard(Distribution, abc.ABC):
    """What the fixed priors share: batch shape (), event shape (latent,), independent dimensions around 0."""

    arg_constraints = {}
    has_rsample = True
    scale = 1.0  # of the family's noise

    def __init__(self, latent: int, device: torch.device | str = "cpu") -> None:
        self.device = device
        super().__init__(torch.Size(), torch.Size((latent,)), validate_args=False)

    @staticmethod
    @abc.abstractmethod
    def noise(
        shape: tuple[int, ...], generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """The family's own noise, at location 0 and scale 1."""

    @property
    def mean(self) -> Float[Tensor, " latent"]:
        return torch.zeros(self.event_shape, device=self.device)

    def from_noise(self, noise: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead latent"]:
        """Samples from the family's noise that the caller gives."""
        return noise if self.scale == 1 else self.scale * noise

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """n codes from a generator, on the prior's device."""
        noise = self.noise((n, *self.event_shape), generator, generator.device)
        return self.from_noise(noise.to(self.device))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "..."]:
        return self.from_noise(self.noise(tuple(self._extended_shape(sample_shape)), device=self.device))


class StandardNormal(Standard):
    """N(z; 0, I) of a given number of dimensions."""

    noise = staticmethod(DiagonalNormal.noise)

    @property
    def variance(self) -> Float[Tensor, " latent"]:
        return torch.ones(self.event_shape, device=self.device)

    def log_prob(self, value: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        return -0.5 * (value.square() + LOG_2PI).sum(-1)

    def icdf(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Quantiles of one dimension."""
        return torch.special.ndtri(value)


class Point(Distribution):
    """All mass on one code: a distribution without a density, so its log-density is None."""

    arg_constraints = {}
    has_rsample = True
    family = "point"
    log_var = None

    def __init__(self, loc: Float[Tensor, "*batch latent"]) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "*batch latent"]:
        return self.loc

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "..."]:
        return self.loc.expand(self._extended_shape(sample_shape))

    def rsample_with_log_prob(self, noise: Float[Tensor, "k *batch zero"]) -> tuple[Tensor, None]:
        """The code, once for each of the k (empty) noises; there is no density."""
        return self.loc.expand(noise.shape[0], *self.loc.shape), None

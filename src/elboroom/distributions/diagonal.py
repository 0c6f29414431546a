"""Posteriors and priors over codes: event shape (latent,), densities summed over it."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from elboroom.numerics import LOG_2PI


class DiagonalNormal(Distribution):
    r"""N(z; μ, diag σ²), parametrized by μ and :math:`\log\sigma^2`, sampled from noise that the caller gives.

    .. math:: \log N = -\tfrac12 \sum_k [\log 2\pi + \log\sigma_k^2 + (z_k - \mu_k)^2 e^{-\log\sigma_k^2}]
    """

    arg_constraints = {}
    has_rsample = True
    family = "gaussian"

    def __init__(self, loc: Float[Tensor, "*batch latent"], log_var: Float[Tensor, "*batch latent"]) -> None:
        self.loc, self.log_var = loc, log_var
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "*batch latent"]:
        return self.loc

    @property
    def variance(self) -> Float[Tensor, "*batch latent"]:
        return self.log_var.exp()

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "..."]:
        noise = torch.randn(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (self.log_var / 2).exp() * noise

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

    def detached(self) -> "DiagonalNormal":
        """The same distribution, through whose parameters no gradient flows."""
        return DiagonalNormal(self.loc.detach(), self.log_var.detach())


class StandardNormal(Distribution):
    """N(z; 0, I) of a given number of dimensions: batch shape (), event shape (latent,)."""

    arg_constraints = {}
    has_rsample = True

    def __init__(self, latent: int, device: torch.device | str = "cpu") -> None:
        self.device = device
        super().__init__(torch.Size(), torch.Size((latent,)), validate_args=False)

    @property
    def mean(self) -> Float[Tensor, " latent"]:
        return torch.zeros(self.event_shape, device=self.device)

    @property
    def variance(self) -> Float[Tensor, " latent"]:
        return torch.ones(self.event_shape, device=self.device)

    def from_noise(self, noise: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead latent"]:
        """Samples from standard normal noise that the caller gives."""
        return noise

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """n codes from a generator, on the prior's device."""
        noise = torch.randn(n, *self.event_shape, generator=generator, device=generator.device)
        return self.from_noise(noise.to(self.device))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "..."]:
        return torch.randn(self._extended_shape(sample_shape), device=self.device)

    def log_prob(self, value: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        return -0.5 * (value.square() + LOG_2PI).sum(-1)


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

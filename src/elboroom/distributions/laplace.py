"""Laplace posterior and prior."""

import torch
from jaxtyping import Float
from torch import Tensor

from elboroom.distributions.diagonal import Diagonal, Standard
from elboroom.numerics import LOG_2


class DiagonalLaplace(Diagonal):
    r"""Laplace(z; m, s) in each dimension, parametrized by m and log s; its variance is :math:`2 s^2`.

    .. math:: \log p = -\sum_k [\log 2 s_k + |z_k - m_k| / s_k]
    """

    family = "laplace"

    def __init__(self, loc: Float[Tensor, "*batch latent"], log_scale: Float[Tensor, "*batch latent"]) -> None:
        self.log_scale = log_scale
        super().__init__(loc, log_scale)

    @staticmethod
    def noise(
        shape: tuple[int, ...],
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Laplace(0, 1), as the difference of two exponentials: finite, which -log(1 - u) at u = 1 is not."""
        both = torch.empty((2, *shape), device=device, dtype=dtype).exponential_(generator=generator)
        return both[0] - both[1]

    @property
    def log_var(self) -> Float[Tensor, "*batch latent"]:
        return LOG_2 + 2 * self.log_scale

    def detached(self) -> "DiagonalLaplace":
        """The same distribution, through whose parameters no gradient flows."""
        return type(self)(self.loc.detach(), self.log_scale.detach())

    def rsample_with_log_prob(
        self, noise: Float[Tensor, "k *batch latent"]
    ) -> tuple[Float[Tensor, "k *batch latent"], Float[Tensor, "k *batch"]]:
        """Samples from Laplace(0, 1) noise, and their log-densities, in one pass (nats)."""
        noise = noise.to(self.loc.dtype)
        z = self.loc + self.log_scale.exp() * noise
        return z, -(noise.abs() + (self.log_scale + LOG_2)).sum(-1)

    def log_prob(self, value: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        distance = (value - self.loc).abs() * (-self.log_scale).exp()
        return -(distance + (self.log_scale + LOG_2)).sum(-1)


class StandardLaplace(Standard):
    """Laplace(0, 1) in each dimension, of variance 2."""

    noise = staticmethod(DiagonalLaplace.noise)

    @property
    def variance(self) -> Float[Tensor, " latent"]:
        return torch.full(self.event_shape, 2.0, device=self.device)

    def log_prob(self, value: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        return -(value.abs() + LOG_2).sum(-1)

    def icdf(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Quantiles of one dimension."""
        from_half = value - 0.5
        return -from_half.sign() * torch.log1p(-2 * from_half.abs())

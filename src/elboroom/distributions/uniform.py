"""Uniform posterior and prior."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elboroom.distributions.diagonal import Diagonal, Standard
from elboroom.numerics import LOG_2

LOG_3 = math.log(3)


def within(distance: Float[Tensor, "..."], half: Tensor | float, size: Tensor | float) -> Bool[Tensor, "..."]:
    """Whether a distance is at most ``half``, up to the rounding of a sum of numbers of this size."""
    return distance <= half + 4 * torch.finfo(distance.dtype).eps * size


class DiagonalUniform(Diagonal):
    r"""U(m - h, m + h) in each dimension, parametrized by centre m and log h; its variance is :math:`h^2/3`.

    .. math:: \log p = -\sum_k \log 2 h_k \text{ inside}, \; -\infty \text{ outside}

    It has no ``detached``: a doubly reparameterized gradient leaves out what the moving edges contribute.
    """

    family = "uniform"

    def __init__(self, loc: Float[Tensor, "*batch latent"], log_half: Float[Tensor, "*batch latent"]) -> None:
        self.log_half = log_half
        super().__init__(loc, log_half)

    @staticmethod
    def noise(
        shape: tuple[int, ...],
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """U(-1, 1)."""
        return torch.rand(shape, generator=generator, device=device, dtype=dtype) * 2 - 1

    @property
    def log_var(self) -> Float[Tensor, "*batch latent"]:
        return 2 * self.log_half - LOG_3

    def rsample_with_log_prob(
        self, noise: Float[Tensor, "k *batch latent"]
    ) -> tuple[Float[Tensor, "k *batch latent"], Float[Tensor, "k *batch"]]:
        """Samples from U(-1, 1) noise, and their log-densities, in one pass (nats)."""
        noise = noise.to(self.loc.dtype)
        z = self.loc + self.log_half.exp() * noise
        return z, -(self.log_half + LOG_2).sum(-1).expand(z.shape[:-1])

    def log_prob(self, value: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        half = self.log_half.exp()
        inside = within((value - self.loc).abs(), half, self.loc.abs() + half)
        return torch.where(inside, -(self.log_half + LOG_2), -math.inf).sum(-1)


class CentredUniform(Standard):
    """U(-c, c) in each dimension, of variance c²/3."""

    noise = staticmethod(DiagonalUniform.noise)

    def __init__(self, latent: int, half_width: float = 1.0, device: torch.device | str = "cpu") -> None:
        self.scale = self.half_width = half_width
        super().__init__(latent, device)

    @property
    def variance(self) -> Float[Tensor, " latent"]:
        return torch.full(self.event_shape, self.half_width**2 / 3, device=self.device)

    def log_prob(self, value: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        inside = within(value.abs(), self.half_width, self.half_width)
        outside = torch.zeros_like(value).masked_fill(~inside, -math.inf)
        return (outside - math.log(2 * self.half_width)).sum(-1)

    def icdf(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Quantiles of one dimension."""
        return self.half_width * (2 * value - 1)

"""q(z|x): an encoder network with the last layer that its distribution needs."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from elboroom.distributions import DiagonalNormal, Point
from elboroom.models.heads import head_of
from elboroom.numerics import at_least_float32


def clip_norm(
    loc: Float[Tensor, "batch latent"], radius: float
) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, " batch"]]:
    r"""Latent clipping: :math:`\mu \leftarrow \mu\,\min(1, r/\|\mu\|_2)`, and the norm before it.

    Written as :math:`\mu\,(r / \max(\|\mu\|, r))`, which has a gradient everywhere, at μ = 0 too.
    Ucar (2019), arXiv:1910.13181 (μ-VAE), latent clipping with r = c·sqrt(latent).
    """
    norm = torch.linalg.vector_norm(loc, dim=-1)
    return loc * (radius / norm.clamp_min(radius)).unsqueeze(-1), norm


class _Clipped(nn.Module):
    """What the two posteriors share: the latent size, the clipping radius, and the base location."""

    def __init__(self, network: nn.Module, outputs: int, latent: int, clip: float | None) -> None:
        super().__init__()
        if latent < 1:
            raise ValueError(f"a code needs at least 1 dimension, got {latent}")
        if clip is not None and clip <= 0:
            raise ValueError(f"the clipping factor must be positive, got {clip}")
        self.network, self.head = network, head_of(network, outputs)
        self.latent = latent
        self.radius = None if clip is None else clip * math.sqrt(latent)

    def features(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch outputs"]:
        return at_least_float32(self.head(self.network(x)))

    def location(self, raw: Float[Tensor, "batch latent"]) -> tuple[Tensor, Tensor | None]:
        return (raw, None) if self.radius is None else clip_norm(raw, self.radius)


class GaussianPosterior(_Clipped):
    """q(z|x) = N(μ(x), diag σ²(x)); one linear head gives μ and log σ² (as many weights as two heads).

    Called with x it returns a `DiagonalNormal` with a ``norm``: that of μ before clipping, or None.
    """

    def __init__(self, network: nn.Module, latent: int, clip: float | None = None) -> None:
        super().__init__(network, 2 * latent, latent, clip)

    def noise(self, generator: torch.Generator, k: int, batch: int) -> Float[Tensor, "k batch latent"]:
        """Standard normal noise for k samples of each example, on the generator's device."""
        return torch.randn(k, batch, self.latent, generator=generator, device=generator.device)

    def forward(self, x: Float[Tensor, "batch *event"]) -> DiagonalNormal:
        raw, log_var = self.features(x).chunk(2, dim=-1)
        loc, norm = self.location(raw)
        q = DiagonalNormal(loc, log_var)
        q.norm = norm
        return q


class PointPosterior(_Clipped):
    """The plain autoencoder: z = μ(x), optionally squashed into (-1, 1) by tanh (SPEC 2.4)."""

    def __init__(self, network: nn.Module, latent: int, clip: float | None = None, squash: str = "none") -> None:
        super().__init__(network, latent, latent, clip)
        self.squash = squash == "tanh"

    def noise(self, generator: torch.Generator, k: int, batch: int) -> Float[Tensor, "k batch zero"]:
        """No noise: k times the batch, of width zero."""
        return torch.empty(k, batch, 0, device=generator.device)

    def forward(self, x: Float[Tensor, "batch *event"]) -> Point:
        raw = self.features(x)
        loc, norm = self.location(raw.tanh() if self.squash else raw)
        q = Point(loc)
        q.norm = norm
        return q

"""Decoders with a planted defect, as parts of one's own."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from elboroom.networks import mlp


class Deaf(mlp.Decoder):
    """A decoder that reads no code at all, or not some of its dimensions.

    Args:
        latent: dimensions of the code.
        shape: of one example.
        width: of the hidden layer.
        dimensions: those that are not read; none named: all.
    """

    def __init__(self, latent: int, shape: tuple[int, ...], width: int = 128, dimensions: Sequence[int] = ()) -> None:
        super().__init__(latent, shape, hidden=(width,))
        read = torch.zeros(latent) if not dimensions else torch.ones(latent)
        read[list(dimensions)] = 0
        self.register_buffer("read", read)

    def forward(self, z: Float[Tensor, "*lead latent"]) -> Tensor:
        return super().forward(z * self.read)

"""Fully connected networks, of whose form those of AEVB, of the β-VAE study and of μ-VAE's toy model are."""

import itertools
import math

from jaxtyping import Float
from torch import Tensor, nn

from elboroom.networks.layers import activation as activation_named


def layers(widths: tuple[int, ...], activation: str) -> nn.Sequential:
    """Linear layers from width to width, each followed by the activation."""
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(m for a, b in pairs for m in (nn.Linear(a, b), activation_named(activation))))


class Encoder(nn.Module):
    """Data of any shape, flattened, to features of width ``hidden[-1]``."""

    def __init__(self, shape: tuple[int, ...], hidden: tuple[int, ...] = (500,), activation: str = "tanh") -> None:
        super().__init__()
        widths = (math.prod(shape), *hidden)
        self.features = widths[-1]
        self.body = nn.Sequential(nn.Flatten(), *layers(widths, activation))

    def head(self, outputs: int) -> nn.Module:
        """A last layer with that many outputs per example."""
        return nn.Linear(self.features, outputs)

    def forward(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch features"]:
        return self.body(x)


class Decoder(nn.Module):
    """Codes to features; the head turns them into numbers per data dimension.

    ``dead_heads`` adds two linear layers from the features to ``latent`` numbers that lead nowhere, as the table of
    the AEVB reproduction study has them (790,792 parameters). They get no gradient, hence no weight decay
    either, and data-parallel training has to be told of unused parameters.
    """

    def __init__(
        self,
        latent: int,
        shape: tuple[int, ...],
        hidden: tuple[int, ...] = (500,),
        activation: str = "tanh",
        dead_heads: bool = False,
    ) -> None:
        super().__init__()
        widths = (latent, *hidden)
        self.features, self.shape = widths[-1], tuple(shape)
        self.body = layers(widths, activation)
        self.dead = nn.ModuleList(nn.Linear(self.features, latent) for _ in range(2 * dead_heads))

    def head(self, outputs: int) -> nn.Module:
        """A last layer with that many outputs per data dimension: [batch, outputs, *shape]."""
        return nn.Sequential(
            nn.Linear(self.features, outputs * math.prod(self.shape)), nn.Unflatten(1, (outputs, *self.shape))
        )

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch features"]:
        return self.body(z)

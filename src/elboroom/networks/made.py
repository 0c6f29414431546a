"""MADE: a fully connected network whose output i depends on the inputs before i alone.

Germain et al. (2015), arXiv:1502.03509, with degrees that are fixed instead of drawn, a direct masked link from
input to output, and normalized weights, as in MAE's flows.
"""

import itertools
import math

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from elboroom.networks.layers import activation as activation_named
from elboroom.networks.normalized import Linear


def degrees(latent: int, width: int) -> Integer[Tensor, " width"]:
    r"""How many inputs each hidden unit sees, evenly from 1 to latent - 1: :math:`\lceil (i + 1)(d - 1) / w \rceil`.

    With one input there is nothing to depend on, and every unit sees none of it.
    """
    return torch.tensor([math.ceil((i + 1) * (latent - 1) / width) for i in range(width)])


class Made(nn.Module):
    """One number for each of ``latent`` inputs, which depends on those before it (behind it, if ``reverse``).

    Args:
        latent: inputs and outputs.
        width: hidden units of each layer.
        layers: hidden layers.
        reverse: go through the inputs from the last to the first.
        activation: by name.
        spread: standard deviation that data-dependent initialization gives the last layer and the direct link each.
        context: further inputs that every unit sees.
    """

    def __init__(
        self,
        latent: int,
        width: int = 320,
        layers: int = 1,
        reverse: bool = False,
        activation: str = "relu",
        spread: float = 0.1,
        context: int = 0,
    ) -> None:
        super().__init__()
        place = torch.arange(1, latent + 1)
        place = place.flip(0) if reverse else place
        hidden = degrees(latent, width)
        steps = itertools.pairwise((place, *(hidden for _ in range(layers))))
        self.body = nn.ModuleList(Linear(len(a), len(b), mask=(b[:, None] >= a).float()) for a, b in steps)
        self.context = Linear(context, width) if context else None
        self.activation = activation_named(activation)
        self.last = Linear(width, latent, mask=(place[:, None] > hidden).float(), spread=spread)
        self.direct = Linear(latent, latent, mask=(place[:, None] > place).float(), spread=spread)

    def forward(
        self, z: Float[Tensor, "*lead latent"], context: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "*lead latent"]:
        h = self.body[0](z)
        h = self.activation(h if self.context is None else h + self.context(context))
        for layer in self.body[1:]:
            h = self.activation(layer(h))
        return self.last(h) + self.direct(z)

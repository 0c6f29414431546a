"""The last layer of a network, which the posterior or the likelihood owns."""

import math

from torch import nn

from elboroom.errors import InputError


def head_of(network: nn.Module, outputs: int, shape: tuple[int, ...] = ()) -> nn.Module:
    """The network's own ``head(outputs)``, or a linear layer on its ``features``: [batch, outputs, *shape].

    Raises:
        InputError: it has neither.
    """
    if hasattr(network, "head"):
        return network.head(outputs)
    if isinstance(getattr(network, "features", None), int):
        linear = nn.Linear(network.features, outputs * math.prod(shape))
        return nn.Sequential(linear, nn.Unflatten(1, (outputs, *shape))) if shape else linear
    raise InputError(
        f"the network {type(network).__name__} offers no last layer: give it an attribute `features` (the width of its "
        "output [batch, features]), or a method `head(outputs) -> nn.Module`."
    )

"""The last layer of a network, which the posterior or the likelihood owns."""

from torch import nn

from elboroom.errors import InputError


def head_of(network: nn.Module, outputs: int) -> nn.Module:
    """The network's own ``head(outputs)``, or a linear layer on its ``features``.

    Raises:
        InputError: it has neither.
    """
    if hasattr(network, "head"):
        return network.head(outputs)
    if isinstance(getattr(network, "features", None), int):
        return nn.Linear(network.features, outputs)
    raise InputError(
        f"the network {type(network).__name__} offers no last layer: give it a method `head(outputs) -> nn.Module`, "
        "or an encoder an attribute `features` (the width of its output)."
    )

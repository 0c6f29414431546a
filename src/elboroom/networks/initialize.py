"""Data-dependent initialization: every layer's outputs start with mean 0 and deviation 1."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from elboroom.networks.normalized import Normalized

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, Normalized)
DEAD = 1e-6  # an output that does not vary is left as it is: there is nothing to divide by


@torch.no_grad()
def data_dependent_(network: nn.Module, run: Callable[[], object]) -> None:
    """Rescale and shift each linear and convolutional layer, in the order in which ``run`` passes through them.

    Each output channel gets mean 0 and standard deviation 1 over batch and space (or the ``spread`` that a layer with
    normalized weights asks for), given that the layers before it were treated already: one pass serves.
    Salimans & Kingma (2016), arXiv:1602.07868, section 3.

    A layer that is passed more than once, because its weights are tied, is treated the first time.

    Args:
        network: in evaluation mode, float32; the layers of other networks that ``run`` passes are left alone.
        run: one pass over the initialization images.
    """
    treated: set[nn.Module] = set()

    def once(layer: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
        if layer in treated:
            return None  # the output stays
        treated.add(layer)
        return _standardize(layer, inputs, output)

    handles = [m.register_forward_hook(once) for m in network.modules() if isinstance(m, LAYERS)]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()


def _standardize(layer: nn.Module, inputs: tuple, output: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Change the layer so that this output has mean 0 and deviation 1 by channel; returns what it now gives."""
    channel = getattr(layer, "channel", -1 if isinstance(layer, nn.Linear) else 1) % output.dim()
    others = [d for d in range(output.dim()) if d != channel]
    count = output.numel() // output.shape[channel]
    std = output.std(others, correction=int(count > 1))
    varies = std > DEAD
    mean = torch.where(varies, output.mean(others), 0)
    factor = torch.where(varies, getattr(layer, "spread", 1.0) / std, 1)
    if isinstance(layer, Normalized):
        layer.rescale_(mean, factor)
    else:
        mean = _rescale_(layer, mean, factor)
    along = [-1 if d == channel else 1 for d in range(output.dim())]
    return (output - mean.reshape(along)) * factor.reshape(along)


def _rescale_(layer: nn.Module, mean: Tensor, factor: Tensor) -> Float[Tensor, " units"]:
    """Change a plain layer's weight and bias so that its outputs y become (y - mean) factor; the mean that it took."""
    if layer.bias is None:
        mean = torch.zeros_like(mean)
    else:
        layer.bias.copy_((layer.bias - mean) * factor)
    rows = 1 if isinstance(layer, nn.ConvTranspose2d) else 0  # a transposed convolution's outputs stand second
    layer.weight.mul_(factor.reshape([-1 if d == rows else 1 for d in range(layer.weight.dim())]))
    return mean

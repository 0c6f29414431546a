"""What the networks share: activations by name, and initialization by hand."""

import math

from torch import nn

from elboroom.errors import InputError, unknown
from elboroom.networks.normalized import Normalized

ACTIVATIONS = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky-relu": lambda: nn.LeakyReLU(0.2),  # the slope of μ-VAE's tables
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}


def activation(name: str) -> nn.Module:
    """A fresh activation module by its name."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def he_normal_(network: nn.Module) -> None:
    r"""Weights :math:`\sim N(0, 2/n)`, biases zero; n = inputs of a linear layer, input channels x kernel area else.

    Written by hand: torch's ``kaiming_normal_`` counts a transposed convolution's output channels as its inputs.
    μ-VAE, appendix (He et al. 2015, called Xavier there).
    """
    for layer in network.modules():
        if isinstance(layer, Normalized):
            layer.he_()
            continue
        if isinstance(layer, nn.Linear):
            inputs = layer.in_features
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            inputs = layer.in_channels * math.prod(layer.kernel_size)
        else:
            continue
        nn.init.normal_(layer.weight, std=math.sqrt(2 / inputs))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def glorot_(network: nn.Module) -> None:
    r"""Weights uniform with variance :math:`2 / (n_\text{in} + n_\text{out})`, biases zero; where fields overlap,
    times the kernel's area. Glorot & Bengio (2010); IWAE's start. The two heads of a posterior count as one layer.

    Raises:
        InputError: the network has layers with normalized weights, whose scale is a parameter of its own.
    """
    _refuse_normalized(network, "glorot")
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def normal_(network: nn.Module, std: float) -> None:
    """Every weight and bias ~ N(0, std²): Kingma & Welling (2014), section 5, with 0.01 as a deviation.

    Raises:
        InputError: the network has layers with normalized weights.
    """
    _refuse_normalized(network, "normal")
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=std)


def _refuse_normalized(network: nn.Module, init: str) -> None:
    """InputError for layers whose weights have a length of their own, which a deviation of weights does not reach."""
    if any(isinstance(layer, Normalized) for layer in network.modules()):
        raise InputError(f"init: {init} has no meaning for normalized weights. Choose he or data-dependent.")

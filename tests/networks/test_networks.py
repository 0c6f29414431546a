"""Widths, sizes, heads and initialization of the networks."""

import math

import pytest
import torch
from oracles.configurations import small_run
from torch import nn

from elboroom import build
from elboroom.config.models import Decoder, Encoder
from elboroom.errors import InputError
from elboroom.networks import conv, mlp
from elboroom.networks.layers import ACTIVATIONS, activation, he_normal_
from elboroom.networks.layout import lay_out

SHAPES = [(1, 28, 28), (3, 8, 8), (1, 9, 13), (1, 64, 64), (2, 15, 8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("channels", [(4,), (4, 5), (4, 5, 6)])
def test_conv_encoder_has_the_features_it_says(shape, kernel, channels):
    network = conv.Encoder(shape, channels, kernel)
    assert network(torch.rand(2, *shape)).shape == (2, network.features)
    assert network.head(7)(network(torch.rand(2, *shape))).shape == (2, 7)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("channels", [(4, 5), (4, 5, 6)])
@pytest.mark.parametrize("outputs", [1, 2])
def test_conv_decoder_ends_at_the_size_of_the_image(shape, kernel, channels, outputs):
    network = conv.Decoder(3, shape, channels, kernel)
    assert network.head(outputs)(network(torch.rand(2, 3))).shape == (2, outputs, *shape)


def test_output_sizes_of_the_paper():
    """SPEC 5.2: the encoder's maps are 28, 14, 7; the decoder's 7, 7, 14, 28."""
    seen = []
    for network, x in (
        (conv.Encoder((1, 28, 28)), torch.rand(1, 1, 28, 28)),
        (conv.Decoder(10, (1, 28, 28)), torch.rand(1, 10)),
    ):
        for layer in network.body:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[1:])))
        network(x)
    assert seen == [(64, 28, 28), (64, 14, 14), (64, 7, 7), (64, 7, 7), (32, 14, 14)]


@pytest.mark.parametrize("shape", [(784,), (1, 7, 28), (1, 28, 65)])
@pytest.mark.parametrize("make", [lambda s: conv.Encoder(s), lambda s: conv.Decoder(2, s)])
def test_conv_takes_images_only(make, shape):
    with pytest.raises(InputError, match=r"take images of 8x8 to 64x64; the data has shape .* Choose the 'mlp'"):
        make(shape)


@pytest.mark.parametrize("make", [lambda c: conv.Encoder((1, 8, 8), c, 4), lambda c: conv.Decoder(2, (1, 8, 8), c, 4)])
def test_more_halvings_than_the_image_bears(make):
    """8 -> 4 -> 2 -> 1 -> 0 with the even kernel."""
    assert make((2,) * 4) is not None
    with pytest.raises(InputError, match="nothing is left of a side of 8 after 4 halvings with a kernel of 4"):
        make((2,) * 5)


def test_mlp_layers_alternate():
    body = mlp.layers((4, 3, 2), "relu")
    assert [type(m) for m in body] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU]


def test_mlp_without_hidden_layers_is_linear():
    encoder, decoder = mlp.Encoder((2, 3), hidden=()), mlp.Decoder(2, (2, 3), hidden=())
    x = torch.rand(5, 2, 3)
    torch.testing.assert_close(encoder(x), x.flatten(1))
    assert decoder.head(2)(decoder(torch.rand(5, 2))).shape == (5, 2, 2, 3)


@pytest.mark.parametrize("choice", [Encoder, Decoder])
def test_every_activation_of_the_configuration_exists(choice):
    from elboroom.config.base import Activation

    assert set(Activation.__args__) == set(ACTIVATIONS)


def test_leaky_relu_has_the_slope_of_the_paper():
    torch.testing.assert_close(activation("leaky-relu")(torch.tensor([-1.0, 1.0])), torch.tensor([-0.2, 1.0]))


def test_unknown_activation():
    with pytest.raises(InputError, match=r"unknown activation 'thanh'; known: tanh, .* Did you mean 'tanh'\?"):
        activation("thanh")


HE = {
    "linear": (nn.Linear(300, 200), 300),
    "convolution": (nn.Conv2d(32, 64, 3), 288),  # SPEC 5.3: 3 x 3 x 32 gives 288 and 0.083
    "transposed": (nn.ConvTranspose2d(64, 16, 3), 576),  # kaiming_normal_ would count 16 x 9 = 144: twice the std
    "even kernel": (nn.ConvTranspose2d(64, 32, 4), 1024),
}


@pytest.mark.parametrize(("layer", "inputs"), HE.values(), ids=HE)
def test_he_normal(layer, inputs):
    """std sqrt(2 / n), within 5 of its standard errors 1 / sqrt(2 x numbers); biases zero."""
    he_normal_(nn.Sequential(layer))
    relative = layer.weight.std() / math.sqrt(2 / inputs)
    assert abs(relative - 1) < 5 / math.sqrt(2 * layer.weight.numel())
    assert abs(layer.weight.mean()) < 5 * math.sqrt(2 / inputs / layer.weight.numel())
    assert (layer.bias == 0).all()


def test_he_normal_is_normal():
    """68.27 % of a normal lies within one standard deviation; of a uniform 57.7 %."""
    layer = nn.Linear(400, 400)
    he_normal_(layer)
    assert (layer.weight.abs() < math.sqrt(2 / 400)).float().mean() == pytest.approx(0.6827, abs=0.006)


@pytest.mark.parametrize("kind", ["conv", "resnet", "pixelcnn"])
def test_a_model_that_convolves_is_laid_out_channels_last_and_gives_the_same(kind):
    model = build.model(small_run(encoder="conv", decoder=kind), (1, 8, 8), "binary").double().eval()
    x, noise = torch.ones(2, 1, 8, 8, dtype=torch.float64), torch.zeros(1, 2, 2, dtype=torch.float64)
    before = model(x, noise).log_px
    laid = lay_out(model)
    weights = [p for p in laid.parameters() if p.dim() == 4]
    assert weights
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    torch.testing.assert_close(laid(x, noise).log_px, before)


def test_a_model_that_does_not_convolve_stays():
    model = build.model(small_run(), (1, 8, 8), "binary")
    assert lay_out(model) is model
    assert all(p.is_contiguous() for p in model.parameters())

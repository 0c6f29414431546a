"""Residual networks: counts of the paper's tables, sizes, odd images."""

import pytest
import torch

from elboroom.errors import InputError
from elboroom.networks import resnet
from elboroom.networks.normalized import Conv, Transposed

SHAPES = [(1, 28, 28), (1, 14, 14), (3, 8, 8), (1, 9, 13), (1, 28, 20), (2, 64, 64)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("extra", [0, 1])
def test_any_image(shape, extra):
    encoder, decoder = resnet.Encoder(shape, (3, 4, 4), extra, 7), resnet.Decoder(5, shape, (4, 4, 3), extra)
    assert encoder.head(6)(encoder(torch.rand(2, *shape))).shape == (2, 6)
    assert decoder.head(2)(decoder(torch.rand(2, 5))).shape == (2, 2, *shape)


def maps_of(network: torch.nn.Module, x: torch.Tensor) -> list[tuple[int, ...]]:
    seen = []
    for layer in network.modules():
        if isinstance(layer, resnet.Block | resnet.TransposedBlock):
            layer.register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[1:])))
    network(x)
    return seen


def test_sizes_of_the_paper():
    """28 -> 14 -> 7 -> 4 and back; the head of the decoder is its last block."""
    assert maps_of(resnet.Encoder((1, 28, 28)), torch.rand(1, 1, 28, 28)) == [(32, 14, 14), (64, 7, 7), (64, 4, 4)]
    decoder = resnet.Decoder(32, (1, 28, 28))
    whole = torch.nn.Sequential(decoder, decoder.head(1))
    assert maps_of(whole, torch.rand(1, 32)) == [(64, 7, 7), (32, 14, 14), (1, 28, 28)]


def test_rows_of_the_paper():
    """Parameters of each part without gains: weights and biases as the tables sum them up."""
    encoder, decoder = resnet.Encoder((1, 28, 28)), resnet.Decoder(32, (1, 28, 28))
    parts = [*encoder.body[:4], encoder.head(64), *decoder.body[1:2], *decoder.body[3:], decoder.head(1)]
    found = [sum(p.numel() for n, p in part.named_parameters() if "log_gain" not in n) for part in parts]
    assert found == [9_632, 57_536, 78_016, 524_800, 32_832, 32_832, 78_016, 29_792, 332]


def test_a_shortcut_only_where_the_size_or_the_width_changes():
    kinds = [resnet.Block(3, 3, 1, "elu").shortcut, resnet.Block(3, 3, 2, "elu").shortcut]
    kinds += [resnet.Block(3, 4, 1, "elu").shortcut, resnet.TransposedBlock(3, 3, 1, (0, 0), "elu").shortcut]
    assert [isinstance(k, Conv | Transposed) for k in kinds] == [False, True, True, False]


@pytest.mark.parametrize("shape", [(784,), (1, 7, 28), (1, 28, 65)])
@pytest.mark.parametrize("make", [lambda s: resnet.Encoder(s), lambda s: resnet.Decoder(2, s)])
def test_images_only(make, shape):
    with pytest.raises(InputError, match=r"'resnet' networks take images of 8x8 to 64x64; the data has shape"):
        make(shape)

"""Layers with normalized weights: lengths, masks, crops, and initialization by the images."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from elboroom.distributions import StandardNormal
from elboroom.errors import InputError
from elboroom.models import FlowPrior
from elboroom.networks.initialize import data_dependent_
from elboroom.networks.layers import glorot_, he_normal_, normal_
from elboroom.networks.normalized import Causal, Conv, Linear, Transposed, raster_mask


def layers() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    return {
        "linear": (Linear(6, 5), (50, 6)),
        "masked linear": (Linear(6, 5, mask=torch.ones(5, 6).tril(-1)), (50, 6)),
        "convolution": (Conv(3, 5, 3, 2, 1), (20, 3, 9, 9)),
        "transposed": (Transposed(3, 5, 3, 2, 1, (1, 1)), (20, 3, 5, 5)),
        "every second place": (Conv(3, 5, 1, 2), (20, 3, 9, 9)),
        "two apart": (Transposed(3, 5, 1, 2, 0, (1, 1)), (20, 3, 5, 5)),
        "causal": (Causal(3, 5, 5), (20, 3, 9, 9)),
        "causal, free inputs": (Causal(1, 5, 5, centre=False, free=2), (20, 3, 9, 9)),
    }


NAMES = list(layers())


@pytest.mark.parametrize("name", NAMES)
def test_the_length_of_a_unit_is_that_of_what_it_sees(name):
    """Trap 14: of the masked weight; a unit that sees nothing has length 0 and a finite gradient."""
    layer, _ = layers()[name]
    nn.init.normal_(layer.log_gain)
    weight = layer.weight.transpose(0, layer.unit).flatten(1)
    dead = (weight == 0).all(1)
    torch.testing.assert_close(weight.norm(dim=1)[~dead], layer.log_gain.exp()[~dead])
    assert dead.sum() == (name == "masked linear")
    layer.weight.square().sum().backward()
    assert layer.direction.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_initialization_by_the_images(name):
    """Mean 0 and deviation `spread` by channel of what is seen; what never varies keeps its zero."""
    layer, shape = layers()[name]
    layer.spread = 0.3
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 1
    seen = []
    data_dependent_(layer, lambda: seen.append(layer(x)))
    out = layer(x)
    torch.testing.assert_close(out, seen[0], atol=1e-4, rtol=1e-4)  # what the next layer was fitted to
    by_unit = out.transpose(0, layer.channel % out.dim()).flatten(1)
    torch.testing.assert_close(by_unit.mean(1), torch.zeros(5), atol=1e-4, rtol=0)
    expected = torch.full((5,), 0.3)
    expected[0] = 0 if name == "masked linear" else 0.3
    torch.testing.assert_close(by_unit.std(1), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("side", [4, 7])
@pytest.mark.parametrize("left_over", [(0, 0), (1, 1), (0, 1)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_kernels_of_one_with_a_stride_are_torch_s_own(layout, side, left_over, outputs):
    """Value and gradient, against the default layout, in which torch's gradient is right.

    Channels last it writes beyond its memory with fewer than eight channels on the fine side (oneDNN issue 6035, torch
    2.13, AVX2); there the process may be killed, so nothing of torch's own runs backward here in that layout.
    """
    x = torch.randn(6, 9, side, side, requires_grad=True)
    thin, spread = Conv(9, 3, 1, 2), Transposed(9, outputs, 1, 2, 0, left_over)
    nn.init.normal_(spread.bias)
    wanted = {
        thin: lambda: F.conv2d(x, thin.weight, thin.bias, 2),
        spread: lambda: F.conv_transpose2d(x, spread.weight, spread.bias, 2, 0, left_over),
    }
    for layer, of_torch in wanted.items():
        inputs = (x, *layer.parameters())
        expected = of_torch()
        slopes = torch.randn(expected.shape)
        gradients = torch.autograd.grad(expected, inputs, slopes)
        out = layer.to(memory_format=layout)(x.to(memory_format=layout))
        assert out.is_contiguous(memory_format=layout)
        torch.testing.assert_close(out, expected)
        found = torch.autograd.grad(out, inputs, slopes.to(memory_format=layout))
        torch.testing.assert_close(found, gradients, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(("kernel", "centre"), [(3, True), (5, False), (7, True), (7, False)])
def test_cropped_rows_change_nothing(kernel, centre):
    """Against the whole masked window, value and gradient."""
    layer, x = Causal(2, 3, kernel, centre), torch.randn(4, 2, 9, 6, requires_grad=True)
    whole = layer.direction * layer.mask
    whole = whole / whole.flatten(1).norm(dim=1)[:, None, None, None]
    expected = F.conv2d(x, whole, padding=kernel // 2)
    torch.testing.assert_close(layer(x), expected)
    cotangent = torch.randn_like(expected)
    found, wanted = (torch.autograd.grad(y, [x, layer.direction], cotangent) for y in (layer(x), expected))
    torch.testing.assert_close(found, wanted)


def test_raster_masks_by_hand():
    assert raster_mask(3, False)[0, 0].tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert raster_mask(3, True)[0, 0].tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]


def test_he_initialization_keeps_a_flow_near_what_it_is():
    """Lengths of sqrt(2) in its last layers would multiply through all steps, and its first density be 0."""
    prior = FlowPrior(32)
    he_normal_(prior)
    z = torch.randn(100, 32)
    assert (prior().log_prob(z) - StandardNormal(32).log_prob(z)).abs().max() < 60
    assert prior().draw(100, torch.Generator().manual_seed(0)).isfinite().all()


@pytest.mark.parametrize("start", [glorot_, lambda network: normal_(network, 0.01)], ids=["glorot", "normal"])
def test_deviations_of_weights_mean_nothing_where_lengths_are_parameters(start):
    with pytest.raises(InputError, match="no meaning for normalized weights"):
        start(Conv(4, 8, 3))


def test_he_initialization_has_its_mean_square():
    """Sum of squares of a unit's weights: 2, that of n numbers from N(0, 2 / n)."""
    layer = Conv(4, 8, 3)
    he_normal_(layer)
    torch.testing.assert_close(layer.weight.flatten(1).square().sum(1), torch.full((8,), 2.0))

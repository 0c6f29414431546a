"""PixelCNN: no pixel sees itself or a later one, all see the code, and going pixel by pixel is exact."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from elboroom.config import run_from
from elboroom.errors import InputError
from elboroom.models import BernoulliLikelihood
from elboroom.networks import pixelcnn
from elboroom.networks.normalized import Causal

SHAPE, LATENT = (1, 8, 8), 3


def decoder(shape: tuple[int, ...] = SHAPE, **more: object) -> BernoulliLikelihood:
    """A small decoder in float64, with biases and gains away from their start."""
    torch.manual_seed(0)
    sizes = {"maps": 8, "kernels": (7, 5, 3, 3, 3), "first": 5} | more
    model = BernoulliLikelihood(pixelcnn.Decoder(LATENT, shape, **sizes), shape).double()
    for name, parameter in model.named_parameters():
        if "direction" not in name:
            nn.init.normal_(parameter, std=0.3)
    return model


def codes(n: int) -> Tensor:
    return torch.randn(n, LATENT, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def jacobian(function, x: Tensor) -> Tensor:
    """[outputs, inputs] of one image, both in raster order."""
    return torch.autograd.functional.jacobian(lambda v: function(v.reshape(1, *x.shape)).flatten(), x.flatten())


TIED = {"kernels": (3, 3, 3, 3, 1, 1), "first": 3, "tied": True, "skips": False, "code_channels": (4, 4)}  # VLAE's


@pytest.mark.parametrize("sizes", [{}, {"kernels": (3,)}, {"kernels": (3, 7), "first": 3}, {"kernels": (3,) * 8}, TIED])
def test_trap_13_no_logit_depends_on_its_pixel_or_a_later_one(sizes):
    """By gradient in float64, the whole network from image to logits; and it does depend on the pixel before it."""
    model = decoder(**sizes)
    maps, x = model.network(codes(1)).detach(), torch.rand(SHAPE, dtype=torch.float64)
    by_pixel = jacobian(lambda v: model.head(model.network.given(v, maps)), x)
    assert (by_pixel.triu(0) == 0).all()
    beside = [i for i in range(1, 64) if i % 8]  # those with a pixel to their left
    assert (by_pixel[beside, [i - 1 for i in beside]] != 0).all()


def test_trap_13_blocks_see_their_own_place_and_nothing_after_it():
    model = decoder()
    x = torch.rand(8, 8, 8, dtype=torch.float64)
    for block in (*model.network.blocks, *model.network.skips):
        by_place = jacobian(block, x).reshape(8, 64, 8, 64).abs().sum((0, 2))
        assert (by_place.triu(1) == 0).all()
        assert (by_place.diagonal() > 0).all()


def test_trap_13_the_first_layer_sees_the_code_in_full_and_not_its_own_pixel():
    layer = Causal(1, 4, 5, centre=False, free=2).double()
    x = torch.rand(3, 8, 8, dtype=torch.float64)
    by_place = jacobian(layer, x).reshape(4, 64, 3, 64).abs().sum(0)
    assert (by_place[:, 0].triu(0) == 0).all()
    assert (by_place[27, 1:].reshape(2, 8, 8)[:, 1:6, 1:6] > 0).all()  # 27: row 3, column 3, its whole window


def test_every_logit_depends_on_every_dimension_of_the_code():
    model, x = decoder(), torch.rand(1, *SHAPE, dtype=torch.float64)
    logits = lambda z: model.head(model.network.given(x, model.network(z)))  # noqa: E731
    by_code = torch.autograd.functional.jacobian(logits, codes(1))
    assert (by_code.reshape(64, LATENT) != 0).all()


def test_how_far_back_the_decoder_of_the_paper_sees():
    """3 + 3 + 3 + 2 + 2 + 1 + 1 = 15 rows up and 15 columns to each side, from the middle of a 33x33 image."""
    model = decoder((1, 33, 33), maps=4, kernels=(7, 7, 5, 5, 3, 3), first=7)
    maps, x = model.network(codes(1)).detach(), torch.rand(1, 1, 33, 33, dtype=torch.float64, requires_grad=True)
    model.head(model.network.given(x, maps))[0, 0, 16, 16].backward()
    rows, columns = x.grad[0, 0].nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 16, 1, 31)


def naive(model: BernoulliLikelihood, z: Tensor, uniform: Tensor) -> Tensor:
    """As many full passes as there are positions."""
    maps, x = model.network(z), torch.zeros_like(uniform)
    for i, j in itertools.product(*map(range, x.shape[2:])):
        x[..., i, j] = (uniform[..., i, j] < model.head(model.network.given(x, maps))[..., i, j].sigmoid()).to(x.dtype)
    return x


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        (SHAPE, {}),
        ((2, 5, 7), {}),
        ((1, 6, 4), {"kernels": (3,)}),
        (SHAPE, {"kernels": (3, 3), "first": 7}),
        (SHAPE, TIED),
        (SHAPE, TIED | {"tied": False, "skips": True}),
    ],
)
@torch.no_grad()
def test_pixel_by_pixel_gives_the_pixels_of_full_passes(shape, sizes):
    """In float64 under the same noise: not one pixel differs, and the logits are those of the finished image."""
    model, z = decoder(shape, **sizes), codes(5)
    uniform = torch.rand(5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x, logits = model(z).from_uniform(uniform)
    assert torch.equal(x, naive(model, z, uniform))
    assert 0.1 < x.mean() < 0.9  # neither all on nor all off: that would show nothing
    torch.testing.assert_close(logits, model.head(model.network.given(x, model.network(z))), atol=1e-12, rtol=0)


@torch.no_grad()
def test_pixel_by_pixel_in_float32():
    """Logits of given images along the walk, within 1e-4 of those of one pass; the paper's kernels."""
    model = decoder(maps=32, kernels=(7, 7, 5, 5, 3, 3), first=7).float()
    maps, x = model.network(codes(4).float()), (torch.rand(4, *SHAPE) < 0.5).float()
    pixels, logits = model.network.walk(maps, model.head, lambda i, j, logits: x[..., i, j])
    assert torch.equal(pixels, x)
    torch.testing.assert_close(logits, model.head(model.network.given(x, maps)), atol=1e-4, rtol=0)


def test_tied_blocks_are_one_block_applied_again():
    """Two blocks, of kernel 3 and 1, in place of six; untied copies of them give the same features."""
    tied = decoder(**TIED)
    assert [block.middle.kernel for block in tied.network.blocks] == [3, 1]
    untied = decoder(**TIED | {"tied": False})
    held = tied.state_dict()
    for name in untied.state_dict():
        at = name.split(".")
        if at[:2] == ["network", "blocks"]:
            at[2] = str(int(int(at[2]) >= 4))
        held[name] = tied.state_dict()[".".join(at)]
    untied.load_state_dict(held)
    x, z = torch.rand(2, *SHAPE, dtype=torch.float64), codes(2)
    one, other = (model.network.given(x, model.network(z)) for model in (untied, tied))
    torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_how_far_back_six_layers_of_three_see():
    """The first convolution and six blocks, one row and column each."""
    model = decoder((1, 33, 33), maps=4, kernels=(3,) * 6 + (1,) * 4, first=3, tied=True, skips=False)
    maps, x = model.network(codes(1)).detach(), torch.rand(1, 1, 33, 33, dtype=torch.float64, requires_grad=True)
    model.head(model.network.given(x, maps))[0, 0, 16, 16].backward()
    rows, columns = x.grad[0, 0].nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (9, 16, 9, 23)


@pytest.mark.parametrize("sizes", [{"kernels": ()}, {"kernels": (4,)}, {"first": 1}])
def test_kernels_have_a_centre(sizes):
    with pytest.raises(InputError, match="needs a block or more, with odd kernels, and a first one from 3 up"):
        decoder(**sizes)


def test_a_code_through_a_network_needs_images_that_it_can_halve():
    with pytest.raises(InputError, match=r"'pixelcnn' networks take images of 8x8 to 64x64; .* \(1, 4, 4\)"):
        decoder((1, 4, 4), code_channels=(4, 4))


def test_blocks_of_no_network_are_refused():
    decoder = {"kind": "pixelcnn", "code_extra": 1}
    with pytest.raises(InputError, match="code_extra is of the network that code_channels describe"):
        run_from({"data": {"name": "digits", "binarize": "dynamic"}, "model": {"decoder": decoder}})


def test_images_only():
    with pytest.raises(InputError, match="'pixelcnn' networks take images of 1x1 to 64x64"):
        decoder((64,))

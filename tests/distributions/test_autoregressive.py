"""Pixels in order: the masses of all images sum to one, samples have them, and shapes follow those of codes."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from elboroom.models import BernoulliLikelihood
from elboroom.networks import pixelcnn

SHAPE = (1, 3, 3)


@pytest.fixture(scope="module")
def model() -> BernoulliLikelihood:
    """Of 3x3 images, so that all 512 can be listed."""
    torch.manual_seed(0)
    made = BernoulliLikelihood(pixelcnn.Decoder(2, SHAPE, maps=8, kernels=(3, 3), first=3), SHAPE).double()
    for name, parameter in made.named_parameters():
        if "direction" not in name:
            nn.init.normal_(parameter, std=0.2)
    return made.eval()


@pytest.fixture(scope="module")
def every() -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=9)), dtype=torch.float64).reshape(512, *SHAPE)


def z_of(*lead: int) -> Tensor:
    return torch.randn(*lead, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_the_masses_of_all_images_sum_to_one(model, every):
    masses = model(z_of(4)).log_prob(every[:, None]).exp()
    assert masses.shape == (512, 4)
    torch.testing.assert_close(masses.sum(0), torch.ones(4, dtype=torch.float64))
    assert masses.max() < 0.9


@torch.no_grad()
def test_samples_have_these_masses(model, every):
    """6,000 samples of one code: chi-square over the images expected 10 times or more, 5 deviations of it."""
    z, n = z_of(1), 6_000
    masses = model(z).log_prob(every[:, None]).exp()[:, 0]
    x = model(z.expand(n, 2)).sample(generator=torch.Generator().manual_seed(0))
    number = (x.flatten(1) @ 2.0 ** torch.arange(8, -1, -1, dtype=torch.float64)).long()
    counts, expected = torch.bincount(number, minlength=512).double(), n * masses
    often = expected >= 10
    statistic, freedom = ((counts - expected).square() / expected)[often].sum(), int(often.sum())
    assert freedom > 30
    assert abs(statistic - freedom) < 5 * (2 * freedom) ** 0.5


@torch.no_grad()
def test_probabilities_along_a_path_average_to_the_mean(model, every):
    """E[x|z] by listing all images, against 6,000 paths, 5 standard errors; `mean` is one of them."""
    z, n = z_of(1), 6_000
    exact = (model(z).log_prob(every[:, None]).exp()[:, :, None, None] * every[:, 0][:, None]).sum(0).squeeze()
    uniform = torch.rand(n, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    paths = model(z.expand(n, 2)).from_uniform(uniform)[1].sigmoid().squeeze(1)
    assert ((paths.mean(0) - exact).abs() < 5 * paths.std(0) / n**0.5 + 1e-12).all()


@torch.no_grad()
def test_the_mean_of_a_code_is_the_same_beside_any_others(model):
    z = z_of(300)  # more than are walked together
    alone = torch.cat([model(z[i : i + 1]).mean for i in (0, 255, 256, 299)])
    torch.testing.assert_close(model(z).mean[[0, 255, 256, 299]], alone)
    assert model(z.reshape(3, 100, 2)).mean.shape == (3, 100, *SHAPE)


SHAPES = [((5,), (5,)), ((4, 5), (5,)), ((1, 5), (4, 1)), ((), (6,)), ((3, 1), (5,))]  # of codes, of images


@pytest.mark.parametrize(("lead", "images"), SHAPES)
@torch.no_grad()
def test_shapes_are_those_of_independent_pixels(model, every, lead, images):
    """Broadcasting of images against codes, each value that of its own pair."""
    z, x = z_of(*lead), every[:: 512 // 20][: torch.Size(images).numel()].reshape(*images, *SHAPE)
    found = model(z).log_prob(x)
    shape = torch.broadcast_shapes(lead, images)
    assert found.shape == shape
    pairs = zip(z.expand(*shape, 2).reshape(-1, 1, 2), x.expand(*shape, *SHAPE).reshape(-1, 1, *SHAPE), strict=True)
    torch.testing.assert_close(found.reshape(-1), torch.cat([model(a).log_prob(b) for a, b in pairs]))


@torch.no_grad()
def test_samples_of_a_generator_repeat_and_have_a_leading_shape(model):
    p = model(z_of(4))
    first, again, other = (p.sample((3,), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert first.shape == (3, 4, *SHAPE)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert p.sample().shape == (4, *SHAPE)

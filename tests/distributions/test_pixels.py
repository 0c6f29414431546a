"""p(x|z) of independent pixels: masses that sum to one, densities that integrate to one, numbers at the edge."""

import itertools
import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from elboroom.distributions import BernoulliPixels, GreyPixels, NormalPixels

EXTREME = [0.0, 1.0, -1.0, 17.5, -17.5, 40.0, -40.0, 100.0, -100.0]


def test_bernoulli_masses_sum_to_one():
    """Over all 2^3 binary vectors."""
    logits = torch.tensor([[-2.0, 0.3, 5.0], [0.0, 40.0, -40.0]], dtype=torch.float64)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64)
    masses = BernoulliPixels(logits, 1).log_prob(every[:, None]).exp()
    torch.testing.assert_close(masses.sum(0), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("logit", EXTREME)
@pytest.mark.parametrize("x", [0.0, 1.0])
def test_bernoulli_equals_the_float64_formula(logit, x):
    """log sigmoid(a) = -log1p(exp(-a)) and log(1 - sigmoid(a)) = -a - log1p(exp(-a)), in Python's float64."""
    a = abs(logit)
    right, wrong = -math.log1p(math.exp(-a)), -a - math.log1p(math.exp(-a))
    expected = right if (logit >= 0) == (x == 1) else wrong
    got = BernoulliPixels(torch.tensor([[logit]]), 1).log_prob(torch.tensor([[x]]))
    torch.testing.assert_close(got, torch.tensor([expected]), rtol=1e-6, atol=1e-7 * max(1, a))


@pytest.mark.parametrize("logit", EXTREME)
@pytest.mark.parametrize("x", [0.0, 1.0])
def test_bernoulli_gradient_is_x_minus_p_everywhere(logit, x):
    logits = torch.tensor([[logit]], requires_grad=True)
    BernoulliPixels(logits, 1).log_prob(torch.tensor([[x]])).sum().backward()
    p = 1 / (1 + math.exp(-logit))
    torch.testing.assert_close(logits.grad, torch.tensor([[x - p]]), rtol=1e-6, atol=1e-7)


def test_bernoulli_of_an_image_keeps_its_digits():
    """784 logits of standard deviation 10 in float32, against float64: within 2e-3 nats."""
    generator = torch.Generator().manual_seed(0)
    logits = 10 * torch.randn(64, 1, 28, 28, generator=generator)
    x = (torch.rand(64, 1, 28, 28, generator=generator) < logits.sigmoid()).float()
    exact = Bernoulli(logits=logits.double()).log_prob(x.double()).sum((1, 2, 3))
    torch.testing.assert_close(BernoulliPixels(logits, 3).log_prob(x).double(), exact, rtol=0, atol=2e-3)


def test_bernoulli_samples():
    """10,000 draws of p = 0.2, 0.5, 0.999: within 5 standard errors."""
    p = torch.tensor([0.2, 0.5, 0.999])
    draws = BernoulliPixels(p.logit(), 1).sample(torch.Size((10_000,)))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert ((draws.mean(0) - p).abs() < 5 * (p * (1 - p) / 10_000).sqrt()).all()


def test_gaussian_density_integrates_to_one():
    """Two pixels on a grid of 0.05 over 8 standard deviations (the rectangle rule is exact to 1e-12 here)."""
    for variance in (0.25, 1.0, 2.0):
        step = 0.05
        axis = torch.arange(-12, 12, step, dtype=torch.float64)
        x = torch.cartesian_prod(axis, axis)
        pixels = NormalPixels(torch.tensor([[0.3, -0.7]], dtype=torch.float64), 1, variance)
        total = pixels.log_prob(x).exp().sum() * step**2
        torch.testing.assert_close(total, torch.tensor(1.0, dtype=torch.float64), rtol=1e-10, atol=0)


@pytest.mark.parametrize("variance", [0.25, 0.5, 1.0, 3.0])
def test_gaussian_equals_torch(variance):
    mean, x = torch.randn(5, 1, 4, 3), torch.randn(2, 5, 1, 4, 3)
    expected = Normal(mean, math.sqrt(variance)).log_prob(x).sum((-1, -2, -3))
    torch.testing.assert_close(NormalPixels(mean, 3, variance).log_prob(x), expected)
    assert NormalPixels(mean, 3, variance).variance.eq(variance).all()


def test_without_its_constant_a_gaussian_of_variance_a_half_is_minus_the_sum_of_squares():
    mean, x = torch.rand(5, 12), torch.rand(5, 12)
    pixels = NormalPixels(mean, 1, variance=0.5, constant=False)
    torch.testing.assert_close(pixels.log_prob(x), -(x - mean).square().sum(-1))


def test_gaussian_samples():
    draws = NormalPixels(torch.tensor([[2.0]]), 1, 0.25).sample(torch.Size((20_000,)))
    assert abs(draws.mean() - 2) < 5 * 0.5 / 20_000**0.5
    assert abs(draws.var() / 0.25 - 1) < 5 * (2 / 20_000) ** 0.5


def test_grey_pixels_are_never_drawn():
    pixels = GreyPixels(torch.tensor([[0.0, 2.0]]), 1)
    torch.testing.assert_close(pixels.sample(torch.Size((3,))), pixels.mean.expand(3, 1, 2))


@pytest.mark.parametrize("make", [BernoulliPixels, GreyPixels, NormalPixels])
@pytest.mark.parametrize("event", [(4,), (1, 3, 2), (3, 2, 2)])
@pytest.mark.parametrize("lead", [(), (5,), (2, 5)])
def test_one_value_per_example(make, event, lead):
    pixels = make(torch.randn(*lead, *event), len(event))
    assert (pixels.batch_shape, pixels.event_shape) == (lead, event)
    assert pixels.log_prob(torch.rand(*lead, *event)).shape == lead
    assert pixels.mean.shape == lead + event
    assert pixels.sample(torch.Size((2,))).shape == (2, *lead, *event)

"""Densities and masses of grey pixels: they integrate or sum to one; value and gradient are right everywhere."""

import math

import pytest
import torch
from torch.distributions import ContinuousBernoulli, Normal

from elboroom.distributions import (
    BatchNormalPixels,
    ContinuousBernoulliPixels,
    DiscretizedLogisticPixels,
    ScaledNormalPixels,
)
from elboroom.distributions.continuous_bernoulli import NEAR, log_normalizer

LOGITS = [0.0, 1e-8, -1e-4, 0.01, -0.29, 0.31, 1.0, -3.0, 12.0, -40.0, 100.0]
LEVELS = torch.arange(256, dtype=torch.float64) / 255


def exact_normalizer(a: float) -> float:
    """log((e^a - 1) / a) in Python's float64, by its first terms near 0 where the quotient loses digits."""
    if abs(a) < 1e-3:
        return a / 2 + a * a / 24
    return max(a, 0.0) + math.log(-math.expm1(-abs(a)) / abs(a))


def exact_mean(a: float) -> float:
    """Its derivative."""
    return 0.5 + a / 12 - a**3 / 720 if abs(a) < 1e-2 else -1 / math.expm1(-a) - 1 / a


@pytest.mark.parametrize("a", LOGITS)
def test_continuous_bernoulli_in_float32(a):
    """Value and gradient of the normalizer, and the mean, to float32's digits."""
    logit = torch.tensor([[a]], requires_grad=True)
    value = log_normalizer(logit)
    value.sum().backward()
    torch.testing.assert_close(value, torch.tensor([[exact_normalizer(a)]]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logit.grad, torch.tensor([[exact_mean(a)]]), rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(ContinuousBernoulliPixels(logit, 1).mean, logit.grad, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("a", LOGITS)
def test_continuous_bernoulli_integrates_to_one(a):
    """Trapezoids of 1e-5 in float64: their error is below a^2 1e-10 / 12."""
    x = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    density = ContinuousBernoulliPixels(torch.tensor([[a]]).double(), 1).log_prob(x[:, None, None]).exp()[:, 0]
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-6)


def test_continuous_bernoulli_equals_torch():
    logits, x = 4 * torch.randn(5, 12).double(), torch.rand(5, 12).double()
    theirs = ContinuousBernoulli(logits=logits)
    ours = ContinuousBernoulliPixels(logits, 1)
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x).sum(-1))
    torch.testing.assert_close(ours.mean, theirs.mean)


def test_the_normalizer_at_a_half_is_two():
    """log C(1/2) = log 2: the density of a flat pixel is (1/2)^x (1/2)^(1 - x) 2 = 1."""
    assert ContinuousBernoulliPixels(torch.zeros(1, 1), 1).log_prob(torch.tensor([[0.3]])).item() == 0


def test_the_series_meets_the_formula():
    a = torch.tensor([NEAR * (1 - 1e-9), NEAR * (1 + 1e-9)], dtype=torch.float64)
    for f in (log_normalizer, lambda a: ContinuousBernoulliPixels(a, 1).mean):
        assert abs(f(a).diff().item()) < 1e-9


def test_gradients_of_the_continuous_bernoulli_equal_finite_differences():
    logits, x = torch.tensor([[-9.0, -0.2, 0.1, 5.0]]).double().requires_grad_(), torch.rand(1, 4).double()
    assert torch.autograd.gradcheck(lambda a: ContinuousBernoulliPixels(a, 1).log_prob(x), (logits,))


@pytest.mark.parametrize("a", [0.0, 1e-5, 0.5, -4.0, 30.0, -200.0])
def test_samples_of_the_continuous_bernoulli(a):
    """20,000 draws within 5 standard errors of the mean (the spread is at most that of a uniform)."""
    draws = ContinuousBernoulliPixels(torch.tensor([a]), 1).sample(torch.Size((20_000,)))
    assert ((draws >= 0) & (draws <= 1)).all()
    assert abs(draws.mean().item() - exact_mean(a)) < 5 * draws.std().item() / 20_000**0.5 + 1e-6


EXTREMES = [(0.5, -2.0), (-3.0, 0.0), (0.0, -7.0), (0.5, -95.0), (1.3, -6.0), (0.2, 4.0), (200.0, -7.0)]


@pytest.mark.parametrize(("loc", "log_scale"), EXTREMES)
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_masses_sum_to_one(loc, log_scale, levels):
    """Over all levels, in float64 (a scale of exp(-95) counts as exp(-7))."""
    pixels = DiscretizedLogisticPixels(torch.tensor([loc]).double(), torch.tensor([log_scale]).double(), 1, levels)
    every = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    assert pixels.log_prob(every[:, None]).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("loc", "log_scale"), EXTREMES)
def test_trap_11_13_masses_are_finite_in_float32_and_agree_with_float64(loc, log_scale):
    narrow = DiscretizedLogisticPixels(torch.tensor([loc]), torch.tensor([log_scale]), 1).log_prob(
        LEVELS[:, None].float()
    )
    wide = DiscretizedLogisticPixels(torch.tensor([loc]).double(), torch.tensor([log_scale]).double(), 1)
    assert narrow.isfinite().all()
    assert (narrow <= 0).all()
    torch.testing.assert_close(narrow.double(), wide.log_prob(LEVELS[:, None]), rtol=1e-4, atol=1e-4)


def test_a_mass_is_the_difference_of_two_sigmoids():
    """At x = 100/255, by definition."""
    loc, scale, x = 0.3, 0.1, 100 / 255
    sigmoid = lambda t: 1 / (1 + math.exp(-t))  # noqa: E731
    expected = math.log(sigmoid((x + 1 / 510 - loc) / scale) - sigmoid((x - 1 / 510 - loc) / scale))
    values = torch.tensor([loc, math.log(scale), x], dtype=torch.float64)[:, None]
    pixels = DiscretizedLogisticPixels(values[0], values[1], 1)
    assert pixels.log_prob(values[2]).item() == pytest.approx(expected, rel=1e-10)


def test_a_value_between_two_levels_has_the_mass_of_the_nearer():
    pixels = DiscretizedLogisticPixels(torch.tensor([0.4]), torch.tensor([-3.0]), 1)
    torch.testing.assert_close(pixels.log_prob(torch.tensor([100.4 / 255])), pixels.log_prob(torch.tensor([100 / 255])))


def test_gradients_of_the_masses_equal_finite_differences():
    loc = torch.tensor([[0.3, -0.1, 1.2, 0.5]]).double().requires_grad_()
    log_scale = torch.tensor([[-2.0, -6.9, 0.5, -4.0]]).double().requires_grad_()
    x = torch.tensor([[0.0, 20 / 255, 1.0, 128 / 255]]).double()
    assert torch.autograd.gradcheck(lambda a, b: DiscretizedLogisticPixels(a, b, 1).log_prob(x), (loc, log_scale))


@pytest.mark.parametrize(("loc", "log_scale"), [(0.5, -2.0), (-0.1, -3.0), (0.02, -7.0), (1.5, -1.0)])
def test_the_mean_is_that_of_the_masses_to_half_a_level_and_samples_follow(loc, log_scale):
    pixels = DiscretizedLogisticPixels(torch.tensor([loc]).double(), torch.tensor([log_scale]).double(), 1)
    exact = (LEVELS * pixels.log_prob(LEVELS[:, None]).exp()).sum().item()
    assert abs(pixels.mean.item() - exact) <= 1 / 510
    draws = pixels.sample(torch.Size((20_000,)))
    torch.testing.assert_close((draws * 255).round() / 255, draws)
    assert abs(draws.mean().item() - exact) < 5 * draws.std().item() / 20_000**0.5 + 1e-9


# Gaussians


@pytest.mark.parametrize("log_var", [torch.tensor(-1.3), torch.randn(5, 1, 4, 3)], ids=["one", "per pixel"])
def test_scaled_gaussian_equals_torch(log_var):
    mean, x = torch.randn(5, 1, 4, 3), torch.randn(2, 5, 1, 4, 3)
    pixels = ScaledNormalPixels(mean, log_var, 3)
    expected = Normal(mean, (log_var / 2).exp().expand(mean.shape)).log_prob(x).sum((-1, -2, -3))
    torch.testing.assert_close(pixels.log_prob(x), expected)
    torch.testing.assert_close(pixels.variance, log_var.exp().expand(mean.shape))
    assert pixels.sample(torch.Size((2,))).shape == (2, 5, 1, 4, 3)


def test_scaled_gaussian_integrates_to_one():
    axis = torch.arange(-12, 12, 0.05, dtype=torch.float64)
    pixels = ScaledNormalPixels(torch.tensor([[0.3, -0.7]]).double(), torch.tensor([[-1.0, 0.8]]).double(), 1)
    total = pixels.log_prob(torch.cartesian_prod(axis, axis)).exp().sum() * 0.05**2
    assert total.item() == pytest.approx(1, rel=1e-8)


def test_the_batch_s_variance_maximizes_its_density_so_it_needs_no_gradient():
    """The gradient through the mean is the same with the variance held fixed and with it moving along."""
    told, mean, x = [], torch.randn(2, 4, 6).double().requires_grad_(), torch.randn(4, 6).double()
    found = BatchNormalPixels(mean, 1, told.append, 1e-9).log_prob(x).mean()
    (ours,) = torch.autograd.grad(found, mean)
    variance = (x - mean).square().mean()
    whole = Normal(mean, variance.sqrt()).log_prob(x).sum(-1).mean()
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(ours, torch.autograd.grad(whole, mean)[0])
    torch.testing.assert_close(told[0], variance.detach())
    for other in (0.9, 1.1):
        assert Normal(mean, (other * variance).sqrt()).log_prob(x).sum(-1).mean() < found

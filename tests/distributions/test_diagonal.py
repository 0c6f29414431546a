"""Posteriors and priors over codes, against torch's own distributions."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal

from elboroom.distributions import DiagonalNormal, Point, StandardNormal


@pytest.fixture
def q() -> DiagonalNormal:
    return DiagonalNormal(torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64))


def torch_normal(q: DiagonalNormal) -> Independent:
    return Independent(Normal(q.loc, (q.log_var / 2).exp()), 1)


def test_log_density_is_summed_over_the_code(q):
    z = torch.randn(5, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(q.log_prob(z), torch_normal(q).log_prob(z))
    assert q.log_prob(z).shape == (5, 4)


def test_samples_and_their_density_in_one_pass(q):
    noise = torch.randn(5, 4, 3, dtype=torch.float64)
    z, log_qz = q.rsample_with_log_prob(noise)
    torch.testing.assert_close(z, q.loc + q.variance.sqrt() * noise)
    torch.testing.assert_close(log_qz, torch_normal(q).log_prob(z))


def test_the_second_parameter_is_the_log_of_the_variance():
    """log N(0; 0, sigma^2 = 4) = -log 2 - log(2 pi) / 2 = -1.612086; with log sigma it would be -2.305233."""
    q = DiagonalNormal(torch.zeros(1, 1), torch.full((1, 1), math.log(4.0)))
    torch.testing.assert_close(q.log_prob(torch.zeros(1, 1)), torch.tensor([-1.612086]))
    torch.testing.assert_close(q.variance, torch.tensor([[4.0]]))


def test_moments_of_samples(q):
    """20,000 draws: the mean within 5 standard errors, the variance within 5 of its own."""
    n = 20_000
    z = q.rsample(torch.Size((n,)))
    assert ((z.mean(0) - q.mean).abs() < 5 * (q.variance / n).sqrt()).all()
    assert ((z.var(0) / q.variance - 1).abs() < 5 * math.sqrt(2 / n)).all()


def test_standard_normal():
    p, z = StandardNormal(3), torch.randn(5, 4, 3)
    torch.testing.assert_close(p.log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(-1))
    torch.testing.assert_close(p.mean, torch.zeros(3))
    torch.testing.assert_close(p.variance, torch.ones(3))
    assert p.rsample(torch.Size((2, 5))).shape == (2, 5, 3)
    assert p.from_noise(z) is z


def test_a_point_has_no_density():
    q = Point(torch.randn(4, 3))
    z, log_qz = q.rsample_with_log_prob(torch.empty(6, 4, 0))
    assert log_qz is None
    torch.testing.assert_close(z, q.loc.expand(6, 4, 3))
    torch.testing.assert_close(q.rsample(torch.Size((2,))), q.mean.expand(2, 4, 3))


def test_gradients_reach_both_parameters():
    loc, log_var = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    noise = torch.randn(1, 2, 3)
    z, _ = DiagonalNormal(loc, log_var).rsample_with_log_prob(noise)
    z.sum().backward()
    torch.testing.assert_close(loc.grad, torch.ones(2, 3))  # dz / d mu
    torch.testing.assert_close(log_var.grad, 0.5 * (log_var / 2).exp().detach() * noise[0])  # dz / d log sigma^2

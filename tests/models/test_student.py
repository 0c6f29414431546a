"""The Student prior: torch's density and scipy's quantiles, its limits, and evidence under it by quadrature."""

import math

import pytest
import torch
from oracles.linear_gaussian import examples, linear_gaussian
from scipy import stats
from torch.distributions import Normal
from torch.distributions import StudentT as Theirs

from elboroom.models import StudentPrior, StudentT
from elboroom.models.evidence import log_evidence

LAWS = [(0.5, 1.0), (1.0, 0.7), (3.0, 2.0), (5.0, 1.0), (1e6, 0.3)]
LAW = pytest.mark.parametrize(("degrees", "scale"), LAWS)


@LAW
def test_the_density_is_torch_s(degrees, scale):
    z = 4 * torch.randn(7, 3, dtype=torch.float64)
    expected = Theirs(torch.tensor(degrees).double(), 0.0, scale).log_prob(z).sum(-1)
    torch.testing.assert_close(StudentPrior(3, degrees, scale)().log_prob(z), expected, rtol=1e-6, atol=1e-6)


@LAW
def test_moments_are_torch_s(degrees, scale):
    p, theirs = StudentT(3, degrees, scale), Theirs(torch.tensor(degrees), 0.0, scale)
    torch.testing.assert_close(p.mean, theirs.mean.expand(3), equal_nan=True)
    torch.testing.assert_close(p.variance, theirs.variance.expand(3), equal_nan=True)


@LAW
def test_it_integrates_to_one(degrees, scale):
    """z = sinh(v), |v| < 60, in 60,000 steps; with half a degree, 1e-13 of the mass lies beyond."""
    v = torch.linspace(-60, 60, 60_001, dtype=torch.float64)
    density = StudentT(1, degrees, scale).log_prob(v.sinh()[:, None]).exp()
    assert torch.trapezoid(density * v.cosh(), v).item() == pytest.approx(1, abs=1e-8)


@LAW
def test_draws_follow_scipy_s_quantiles(degrees, scale):
    """60,000 numbers: the share below each quantile within 5 standard errors, and the quantiles are ours as well."""
    p = StudentT(3, degrees, scale)
    z, q = p.draw(20_000, torch.Generator().manual_seed(3)), torch.tensor([0.001, 0.1, 0.5, 0.8, 0.999]).double()
    quantiles = torch.from_numpy(stats.t.ppf(q.numpy(), degrees, scale=scale))
    torch.testing.assert_close(p.icdf(q), quantiles)
    share = (z.flatten() < quantiles[:, None]).double().mean(1)
    assert ((share - q).abs() < 5 * (q * (1 - q) / z.numel()).sqrt()).all()


def test_many_degrees_are_a_normal_distribution():
    z = torch.randn(7, 3)
    expected = Normal(0.0, 2.0).log_prob(z).sum(-1)
    torch.testing.assert_close(StudentT(3, 1e7, 2.0).log_prob(z), expected, rtol=0, atol=1e-5)


def test_a_far_code_costs_a_logarithm_and_not_a_square():
    """From 10 to 100: (nu + 1) log 10 nats, where a normal prior takes 4,950."""
    near, far = StudentT(1, 4.0).log_prob(torch.tensor([[10.0], [100.0]]).double())
    assert (near - far).item() == pytest.approx(5 * math.log(10), abs=0.1)


def test_the_wildest_draws_are_scored():
    z = StudentT(3, 0.05).draw(2_000, torch.Generator().manual_seed(0))
    assert z.abs().max() == 1e18
    assert StudentT(3, 0.05).log_prob(z).isfinite().all()


def test_gradients_equal_finite_differences():
    z = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(StudentT(3, 3.0, 0.7).log_prob, (z,))


def test_it_reaches_the_integral_of_the_evidence():
    """p(x|z) = N(w z + b, v I) with one latent; rectangles over [-30, 30]; 5 standard errors of each estimate."""
    oracle, k = linear_gaussian(latent=1), 4000
    oracle.model.prior = StudentPrior(1, degrees=3.0, scale=0.8)
    x, z = examples(oracle, 12), torch.arange(-30, 30, 2e-3)[:, None]
    with torch.no_grad():
        log_px = oracle.model.decoder(z[:, None].expand(-1, 12, -1)).log_prob(x.expand(len(z), *x.shape))
        joint = log_px.double() + oracle.model.prior().log_prob(z.double())[:, None]
    found = log_evidence(oracle.model, x, torch.arange(12), k)
    error = ((k / found.effective_samples - 1) / k).sqrt()
    assert ((found.bound - joint.logsumexp(0) - math.log(2e-3)).abs() < 5 * error + 1e-4).all()


@pytest.mark.parametrize(("degrees", "scale"), [(0.0, 1.0), (5.0, -1.0)])
def test_bad_arguments(degrees, scale):
    with pytest.raises(ValueError, match=f"positive degrees and a positive scale, got {degrees} and {scale}"):
        StudentPrior(3, degrees, scale)

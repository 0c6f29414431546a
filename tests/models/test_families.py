"""Laplace and uniform posteriors, the legacy reading of log sigma, and what every posterior of the table shares."""

import math

import pytest
import torch
from oracles.configurations import kinds, model_of
from torch import Tensor

from elboroom.config.models import Posterior
from elboroom.distributions import CentredUniform, rate_by_dimension
from elboroom.models import (
    VAE,
    BernoulliLikelihood,
    GaussianPosterior,
    LaplacePosterior,
    NormalPrior,
    UniformPosterior,
)
from elboroom.networks import mlp
from elboroom.numerics import Randomness
from elboroom.objectives.bounds import rate
from elboroom.records import Draw

SHAPE = (1, 8, 8)
FACTORIZED = [GaussianPosterior, LaplacePosterior, UniformPosterior]


def with_head(posterior: torch.nn.Module, *values: float) -> torch.nn.Module:
    """A posterior whose last layer gives these numbers, whatever x is."""
    with torch.no_grad():
        posterior.head.weight.zero_()
        posterior.head.bias.copy_(torch.tensor(values))
    return posterior


def linear(kind: type, latent: int = 2, **more: object) -> torch.nn.Module:
    return kind(mlp.Encoder((4,), hidden=()), latent, **more)


X = torch.zeros(3, 4)


def test_laplace_head_is_location_and_log_scale():
    q = with_head(linear(LaplacePosterior), 1.0, 2.0, 0.0, math.log(3.0))(X)
    torch.testing.assert_close(q.mean, torch.tensor([[1.0, 2.0]]).expand(3, 2))
    torch.testing.assert_close(q.variance, torch.tensor([[2.0, 18.0]]).expand(3, 2))  # 2 s^2


def test_uniform_without_support_is_centre_and_log_half_width():
    q = with_head(linear(UniformPosterior), 1.0, 2.0, 0.0, math.log(3.0))(X)
    torch.testing.assert_close(q.mean, torch.tensor([[1.0, 2.0]]).expand(3, 2))
    torch.testing.assert_close(q.variance, torch.tensor([[1 / 3, 3.0]]).expand(3, 2))  # h^2 / 3


def test_uniform_with_support_by_hand():
    """c = 2: h = 2 sigmoid(b), m = (2 - h) tanh(a), to the 1e-5 that keeps rounding inside."""
    q = with_head(linear(UniformPosterior, support=2.0), 0.5, -1.0, 0.0, 1.0)(X[:1])
    half = [2 / (1 + math.exp(-b)) for b in (0.0, 1.0)]
    centre = [(2 - h) * math.tanh(a) for h, a in zip(half, (0.5, -1.0), strict=True)]
    torch.testing.assert_close(q.log_half.exp(), torch.tensor([half]), rtol=2e-5, atol=0)
    torch.testing.assert_close(q.loc, torch.tensor([centre]), rtol=2e-5, atol=0)


@pytest.mark.parametrize("support", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_no_interval_leaves_the_prior_whatever_the_head_says(support, clip):
    """Heads of up to 200, 4,000 samples each: every sample has a finite prior density, and the rate is finite."""
    posterior = linear(UniformPosterior, support=support, clip=clip)
    with torch.no_grad():
        posterior.head.weight.normal_(std=50)
    q, p = posterior(torch.randn(20, 4)), CentredUniform(2, support)
    z, log_qz = q.rsample_with_log_prob(posterior.noise(Randomness(0)("noise"), 4000, 20))
    assert p.log_prob(z).isfinite().all()
    assert log_qz.isfinite().all()
    found = rate_by_dimension(q, p)
    assert found.isfinite().all()
    assert (found >= 0).all()


@pytest.mark.parametrize("kind", FACTORIZED)
def test_the_whole_posterior_against_finite_differences(kind):
    more = {"support": 2.0} if kind is UniformPosterior else {}
    posterior = linear(kind, clip=0.7, **more).double()
    noise = posterior.noise(torch.Generator().manual_seed(0), 2, 3)

    def sampled(x: Tensor) -> tuple[Tensor, Tensor]:
        return posterior(x).rsample_with_log_prob(noise)

    assert torch.autograd.gradcheck(sampled, (torch.randn(3, 4).double().requires_grad_(),))


@pytest.mark.parametrize("kind", FACTORIZED)
def test_clipping_holds_the_location_of_every_family(kind):
    posterior = linear(kind, clip=0.1)
    q = posterior(100 * torch.randn(20, 4))
    assert (q.loc.norm(dim=-1) <= posterior.radius * (1 + 1e-6)).all()
    assert (q.norm > posterior.radius).any()


@pytest.mark.parametrize("kind", kinds(Posterior))
def test_noise_is_a_function_of_the_generator_and_the_family_says_its_name(kind):
    encoder = model_of({"posterior": {"kind": kind, "latent": 3}}, SHAPE).encoder
    one, same = (encoder.noise(Randomness(0)("noise", 1), 2, 5) for _ in range(2))
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    if kind != "point":
        assert not torch.equal(one, encoder.noise(Randomness(0)("noise", 2), 2, 5))
    assert encoder(torch.rand(5, *SHAPE)).family == kind
    assert encoder.covers == (kind != "uniform")


def test_a_support_is_positive():
    with pytest.raises(ValueError, match=r"half-width of the support must be positive, got 0\.0"):
        linear(UniformPosterior, support=0.0)


# The legacy reading of log sigma (SPEC 3.1)


def legacy_draw(posterior: torch.nn.Module) -> Draw:
    model = VAE(posterior, NormalPrior(2), BernoulliLikelihood(mlp.Decoder(2, (4,), ()), (4,)))
    return model(X, torch.ones(1, 3, 2))


def test_legacy_samples_with_exp_s_and_is_trained_with_the_program_s_rate():
    s, mean = [0.3, -1.0], [0.5, 2.0]
    posterior = with_head(linear(GaussianPosterior, legacy_logsigma=True), *mean, *s)
    draw = legacy_draw(posterior)
    expected = torch.tensor([m + math.exp(v) for m, v in zip(mean, s, strict=True)])
    torch.testing.assert_close(draw.z[0, 0], expected)
    program = -0.5 * sum(1 + v - m**2 - math.exp(v) for m, v in zip(mean, s, strict=True))
    torch.testing.assert_close(rate(draw), torch.full((3,), program))
    torch.testing.assert_close(draw.base.log_var[0], torch.tensor([0.6, -2.0]))  # of the variance that it has


def test_legacy_is_evaluated_with_the_true_rate():
    s, mean = [0.3, -1.0], [0.5, 2.0]
    posterior = with_head(linear(GaussianPosterior, legacy_logsigma=True), *mean, *s).eval()
    true = 0.5 * sum(m**2 + math.exp(2 * v) - 2 * v - 1 for m, v in zip(mean, s, strict=True))
    torch.testing.assert_close(rate(legacy_draw(posterior)), torch.full((3,), true))

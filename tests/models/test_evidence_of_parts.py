"""Bounds against evidence that is known, for the parts beside Gaussian posterior, normal prior, fixed variance.

p(x|z) = N(w z + b, v I) with one latent, so p(x, z) is known for any prior, and so is log p(x) by quadrature or in
closed form.
"""

import math

import pytest
import torch
from oracles.linear_gaussian import LinearGaussian, examples, linear_gaussian
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from elboroom.distributions import DiagonalMixture, DiagonalNormal
from elboroom.models import (
    VAE,
    LaplacePosterior,
    LaplacePrior,
    LearnedGaussianLikelihood,
    MixturePrior,
    NormalPrior,
    OptimalGaussianLikelihood,
    PixelGaussianLikelihood,
    UniformPosterior,
    UniformPrior,
    VampPrior,
)
from elboroom.models.evidence import log_evidence
from elboroom.networks import mlp
from elboroom.numerics import Randomness
from elboroom.objectives import elbo

ROWS = 12


def gaussian_decoder(kind: type, oracle: LinearGaussian) -> torch.nn.Module:
    """The oracle's decoder, its variance held by another part."""
    latent, dims = oracle.weight.shape[1], oracle.weight.shape[0]
    decoder = kind(mlp.Decoder(latent, (dims,), hidden=()), (dims,), mean="identity").eval()
    floor, target = math.log(1e-5), math.log(oracle.variance)
    raw = floor + math.log(math.expm1(target - floor))  # the inverse of the soft floor
    with torch.no_grad():
        decoder.head[0].weight[:dims] = oracle.weight
        decoder.head[0].bias[:dims] = oracle.bias
        if kind is PixelGaussianLikelihood:
            decoder.head[0].weight[dims:] = 0
            decoder.head[0].bias[dims:] = raw
        elif kind is LearnedGaussianLikelihood:
            decoder.raw_log_var.fill_(raw)
        else:
            decoder.variance.fill_(oracle.variance)
    return decoder


@pytest.mark.parametrize("kind", [LearnedGaussianLikelihood, PixelGaussianLikelihood, OptimalGaussianLikelihood])
def test_every_gaussian_likelihood_reaches_the_evidence_at_the_exact_posterior(kind):
    oracle = linear_gaussian()
    oracle.model.decoder = gaussian_decoder(kind, oracle)
    x = examples(oracle, ROWS)
    found = log_evidence(oracle.model, x, torch.arange(ROWS), 5)
    torch.testing.assert_close(found.bound, oracle.evidence(x), rtol=0, atol=2e-5)


def moved_prior(oracle: LinearGaussian) -> DiagonalMixture:
    latent = oracle.weight.shape[1]
    return DiagonalMixture(
        DiagonalNormal(torch.tensor([[-1.0], [1.5]]).expand(2, latent), torch.zeros(2, latent)),
        torch.tensor([0.0, 1.0]),
    )


def test_a_mixture_prior_reaches_the_evidence():
    """p(x) = sum_c pi_c N(x; W m_c + b, W W^T + v I); 4,000 samples, within 5 standard errors sqrt((K/ESS - 1)/K)."""
    oracle, k = linear_gaussian(latent=1), 4000
    expected = moved_prior(oracle)
    prior = MixturePrior(1, components=2)
    prior.load_state_dict(
        {"logits": torch.tensor([0.0, 1.0]), "loc": expected.components.loc, "log_var": torch.zeros(2, 1)}
    )
    oracle.model.prior = prior
    covariance = oracle.weight @ oracle.weight.T + oracle.variance * torch.eye(len(oracle.bias)).double()
    centres = expected.components.loc.double() @ oracle.weight.T + oracle.bias
    x = examples(oracle, ROWS)
    parts = MultivariateNormal(centres, covariance).log_prob(x.double()[:, None])
    evidence = torch.logsumexp(parts + expected.log_weights.double(), -1)
    found = log_evidence(oracle.model, x, torch.arange(ROWS), k)
    error = ((k / found.effective_samples - 1) / k).sqrt()
    assert ((found.bound - evidence).abs() < 5 * error + 1e-4).all()


def test_a_vamp_prior_of_the_exact_encoder_reaches_the_integral():
    """log of the sum of p(x|z) p(z) dz over a grid of 0.01 on [-8, 8]."""
    oracle, k = linear_gaussian(latent=1), 4000
    oracle.model.prior = VampPrior(1, (6,), components=3, values="real")
    x = examples(oracle, ROWS)
    check(oracle.model, x, k)


def integral(model: VAE, x: Tensor, step: float = 0.01, low: float = -8.0, high: float = 8.0) -> Tensor:
    """log p(x) by rectangles around the middle of each step."""
    z = (torch.arange(round((high - low) / step)) * step + low + step / 2)[:, None]
    with torch.no_grad():
        log_px = model.decoder(z[:, None].expand(-1, len(x), -1)).log_prob(x).double()
        joint = log_px + model.prior(model.encoder).log_prob(z).double()[:, None]
    return torch.logsumexp(joint, 0) + math.log(step)


def check(model: VAE, x: Tensor, k: int) -> None:
    found = log_evidence(model, x, torch.arange(len(x)), k)
    error = ((k / found.effective_samples - 1) / k).sqrt()
    assert ((found.bound - integral(model, x)).abs() < 5 * error + 1e-3).all()
    with torch.no_grad():
        draw = model(x, model.noise(Randomness(0)("noise"), 500, len(x)))
    assert elbo(draw).bound.mean() < integral(model, x).mean()


def one_latent(posterior: type, prior: torch.nn.Module, width: float, **more: object) -> VAE:
    """The oracle's decoder, and a posterior at the exact mean with the head's width the same for all."""
    oracle = linear_gaussian(latent=1)
    encoder = posterior(mlp.Encoder((6,), hidden=()), 1, **more)
    with torch.no_grad():
        encoder.head.weight.copy_(torch.cat([oracle.model.encoder.head.weight[:1], torch.zeros(1, 6)]))
        encoder.head.bias.copy_(torch.stack([oracle.model.encoder.head.bias[0], torch.tensor(width)]))
    return VAE(encoder, prior, oracle.model.decoder).eval()


@pytest.mark.parametrize("prior", [NormalPrior, LaplacePrior])
def test_a_laplace_posterior_reaches_the_integral(prior):
    check(one_latent(LaplacePosterior, prior(1), math.log(0.4)), examples(linear_gaussian(latent=1), ROWS), 4000)


def test_a_uniform_posterior_gives_a_bound_that_stops_at_its_mass():
    """SPEC 11.3: many samples bring log p(x) + log P(a < z < b | x) and no more; P by the exact posterior."""
    oracle, k, half = linear_gaussian(latent=1), 20_000, 0.3
    model = one_latent(UniformPosterior, NormalPrior(1), math.log(half))
    x = examples(oracle, ROWS)
    covered = 2 * Normal(0.0, 1.0).cdf(half / oracle.posterior_variance.sqrt()) - 1
    found = log_evidence(model, x, torch.arange(ROWS), k)
    error = ((k / found.effective_samples - 1) / k).sqrt()
    assert covered < 0.9
    assert ((found.bound - oracle.evidence(x) - covered.log()).abs() < 5 * error + 1e-4).all()


def test_a_uniform_posterior_as_wide_as_its_uniform_prior_reaches_the_integral():
    """Where q is the prior itself, every z is covered (to the 1e-5 at the edges) and the rate is 0."""
    model = one_latent(UniformPosterior, UniformPrior(1, half_width=3.0), 30.0, support=3.0)
    x = examples(linear_gaussian(latent=1), ROWS)
    found = log_evidence(model, x, torch.arange(ROWS), 20_000)
    error = ((20_000 / found.effective_samples - 1) / 20_000).sqrt()
    expected = integral(model, x, step=0.001, low=-3.0, high=3.0)
    assert ((found.bound - expected).abs() < 5 * error + 1e-3).all()
    with torch.no_grad():
        draw = model(x, model.noise(Randomness(0)("noise"), 2, ROWS))
    torch.testing.assert_close(draw.rate, torch.zeros(ROWS, 1), atol=2e-5, rtol=0)

"""p(x|z) of every likelihood in the table: leading shapes, sums over pixels, and what makes it a density."""

import math

import pytest
import torch
from oracles.configurations import classes, kinds, model_of
from torch.distributions import Normal

from elboroom import build
from elboroom.config.base import kind_of
from elboroom.config.models import Likelihood
from elboroom.models import DiscretizedLogisticLikelihood, GaussianLikelihood, SquaredErrorLikelihood
from elboroom.networks import mlp

SHAPE = (1, 8, 8)
LIKELIHOODS = kinds(Likelihood)


def decoder_of(likelihood: str, network: str = "mlp", values: str = "binary", **more: object) -> torch.nn.Module:
    content = {"decoder": {"kind": network}, "posterior": {"latent": 3}, "likelihood": {"kind": likelihood, **more}}
    return model_of(content, SHAPE, values).decoder


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("lead", [(), (5,), (2, 5), (4, 2, 5)])
def test_codes_of_any_leading_shape(likelihood, network, lead):
    decoder, z, x = decoder_of(likelihood, network), torch.randn(*lead, 3), torch.rand(*lead, *SHAPE).round()
    p = decoder(z)
    assert p.mean.shape == lead + SHAPE
    assert p.log_prob(x).shape == lead
    folded = decoder(z.reshape(-1, 3)).log_prob(x.reshape(-1, *SHAPE)).reshape(lead)
    torch.testing.assert_close(p.log_prob(x), folded, rtol=1e-5, atol=1e-4)


def test_a_decoder_with_features_gets_a_linear_head():
    network = torch.nn.Linear(3, 7)
    network.features = 7
    p = DiscretizedLogisticLikelihood(network, (2, 4, 5))(torch.randn(6, 3))  # two numbers a pixel
    assert p.log_prob(torch.rand(6, 2, 4, 5)).shape == (6,)
    assert p.mean.shape == (6, 2, 4, 5)


@pytest.mark.parametrize("config", classes(Likelihood), ids=kind_of)
@pytest.mark.parametrize("x", [0.0, 1.0])
def test_log_density_is_a_sum_over_pixels_and_no_mean(config, x):
    """64 equal pixels weigh 64 times as much as one."""
    totals = []
    for pixels in (1, 64):
        decoder = build.named(config.builds)(mlp.Decoder(3, (pixels,), hidden=()), (pixels,))
        with torch.no_grad():
            decoder.head[0].weight.zero_()
            decoder.head[0].bias.fill_(0.7)
        totals.append(decoder(torch.zeros(2, 3)).log_prob(torch.full((2, pixels), x)))
    assert (totals[0] != 0).all()
    torch.testing.assert_close(totals[1], 64 * totals[0])


def test_squared_error_plus_its_offset_is_the_gaussian_of_variance_a_half():
    z, x = torch.randn(4, 3), torch.rand(4, *SHAPE)
    decoder = decoder_of("squared-error", values="unit-interval")
    p = decoder(z)
    expected = Normal(p.mean, math.sqrt(0.5)).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(p.log_prob(x) + decoder.offset(SHAPE), expected)
    torch.testing.assert_close(p.log_prob(x), -(x - p.mean).square().sum((1, 2, 3)))


def test_the_constant_can_be_kept():
    decoder = decoder_of("squared-error", values="unit-interval", constant=True)
    z, x = torch.randn(4, 3), torch.rand(4, *SHAPE)
    assert decoder.offset(SHAPE) == 0
    expected = Normal(decoder(z).mean, math.sqrt(0.5)).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(decoder(z).log_prob(x), expected)
    without = decoder_of("squared-error", values="unit-interval")
    assert decoder.name == "gaussian (variance 0.5)" != without.name  # their distortions are never ranked together


@pytest.mark.parametrize("variance", [0.1, 1.0])
def test_gaussian(variance):
    decoder = decoder_of("gaussian", values="real", variance=variance)
    z, x = torch.randn(4, 3), torch.randn(4, *SHAPE)
    expected = Normal(decoder(z).mean, math.sqrt(variance)).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(decoder(z).log_prob(x), expected)
    assert decoder.name == f"gaussian (variance {variance:g})"


@pytest.mark.parametrize("kind", [GaussianLikelihood, SquaredErrorLikelihood])
@pytest.mark.parametrize(
    ("mean", "values", "squashed"),
    [
        ("auto", "unit-interval", True),
        ("auto", "binary", True),
        ("auto", "real", False),
        ("identity", "unit-interval", False),
        ("sigmoid", "real", True),
    ],
)
def test_what_the_mean_passes_through(kind, mean, values, squashed):
    decoder = kind(mlp.Decoder(3, (4,), hidden=()), (4,), mean=mean, values=values)
    with torch.no_grad():
        decoder.head[0].weight.zero_()
        decoder.head[0].bias.fill_(3.0)
    expected = 1 / (1 + math.exp(-3)) if squashed else 3.0
    torch.testing.assert_close(decoder(torch.zeros(2, 3)).mean, torch.full((2, 4), expected))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_densities_are_float32_under_autocast(likelihood):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        p = decoder_of(likelihood)(torch.randn(4, 3))
        log_px = p.log_prob(torch.ones(4, *SHAPE))
    assert {p.mean.dtype, log_px.dtype} == {torch.float32}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood_says_whether_it_is_a_density(likelihood):
    decoder = decoder_of(likelihood)
    assert isinstance(decoder.name, str)
    assert (decoder.offset(SHAPE) is None) == (likelihood == "grey-bce")

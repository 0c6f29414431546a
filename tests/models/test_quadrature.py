"""The importance-sampled NLL of a trained model with two latents, against the integral over z on a grid."""

import pytest
import torch
from oracles.quadrature import black_and_white, integrated, trained_model
from torch import Tensor

from elboroom.models import VAE
from elboroom.models.evidence import log_evidence
from elboroom.numerics import Randomness
from elboroom.objectives import elbo

IMAGES = 40


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return black_and_white()


@pytest.fixture(scope="module")
def trained() -> VAE:
    return trained_model()


def test_nll_equals_the_integral(trained, digits):
    """Within 5 standard errors of the estimate, sqrt((K / ESS - 1) / K), of each image, and 0.005 nats on average."""
    x, k = digits[-IMAGES:], 2000
    exact = integrated(trained, x, 0.05)
    torch.testing.assert_close(integrated(trained, x, 0.1), exact, rtol=0, atol=1e-3)  # the grid is fine enough
    found = log_evidence(trained, x, torch.arange(IMAGES), k)
    error = ((k / found.effective_samples - 1) / k).sqrt()
    assert ((found.bound - exact).abs() < 5 * error + 1e-4).all()
    assert abs((found.bound - exact).mean()) < 0.005


def test_the_elbo_lies_below_it_and_the_model_has_learned(trained, digits):
    """An image of 64 fair coins has 64 log 2 = 44.4 nats; the gap of a trained Gaussian posterior is a few tenths."""
    x = digits[-IMAGES:]
    exact = integrated(trained, x, 0.1)
    with torch.no_grad():
        bound = elbo(trained(x, trained.noise(Randomness(1)("noise", 0), 500, IMAGES))).bound
    assert exact.mean() > -28
    assert 0 < (exact - bound).mean() < 2

"""The importance-sampled NLL of a trained model with two latents, against the integral over z on a grid."""

import math

import pytest
import torch
from oracles.configurations import small_run
from sklearn.datasets import load_digits
from torch import Tensor

from elboroom import build
from elboroom.models import VAE
from elboroom.models.evidence import log_evidence
from elboroom.numerics import Randomness
from elboroom.objectives import elbo

IMAGES = 40


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """1,797 real digits of 8x8, black and white."""
    return torch.from_numpy(load_digits().images > 8).float().unsqueeze(1)


@pytest.fixture(scope="module")
def trained(digits) -> VAE:
    """400 steps of Adam on the first 1,500, about two seconds."""
    run = small_run(latent=2)
    model, random = build.model(run, (1, 8, 8), "binary"), Randomness(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(400):
        x = digits[torch.randint(1500, (100,), generator=random("order", step))]
        elbo(model(x, model.noise(random("noise", step), 1, 100))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def integrated(model: VAE, x: Tensor, step: float, reach: float = 7.0) -> Tensor:
    r"""log of the sum of p(x|z) p(z) step^2 over a grid on [-reach, reach]^2 (the rest of the prior weighs 1e-11)."""
    axis = torch.arange(-reach, reach + step / 2, step)
    total = torch.full((len(x),), -math.inf, dtype=torch.float64)
    for z in torch.cartesian_prod(axis, axis).split(20_000):
        log_px = model.decoder(z[:, None].expand(-1, 1, -1)).log_prob(x[:, None, None]).squeeze(-1).double()
        joint = log_px + model.prior(model.encoder).log_prob(z).double()
        total = torch.logaddexp(total, joint.logsumexp(1))
    return total + 2 * math.log(step)


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

"""An opened run against its model, by formulas written here."""

import math

import numpy as np
import pytest
import torch

from elboroom import runs
from elboroom.config import run_from
from elboroom.studies.execute import execute

LATENT, SAMPLES = 2, 5_000


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Squared error on grey digits, whose density has a constant that training leaves out."""
    folder = tmp_path_factory.mktemp("opened") / "run"
    content = {
        "data": {"name": "digits", "limit": 60, "binarize": "none"},
        "model": {
            "encoder": {"kind": "mlp", "hidden": [8]},
            "decoder": {"kind": "mlp", "hidden": [8]},
            "posterior": {"latent": LATENT},
            "likelihood": {"kind": "squared-error"},
        },
        "training": {"epochs": 1, "threads": 1},
    }
    execute(run_from(content), folder)
    return runs.load(folder)


def test_the_likelihood_is_that_of_the_density(opened):
    """E_q[N(x; decoded, 1/2) p / q] by plain sampling: 64 pixels have the constant -32 log pi."""
    x = torch.from_numpy(opened.images("test", 3))
    with torch.no_grad():
        q = opened.model.encoder(x)
        z = q.loc + (q.log_var / 2).exp() * torch.randn(
            SAMPLES, *q.loc.shape, generator=torch.Generator().manual_seed(1)
        )
        distance = (x - opened.model.decoder(z).mean).square().flatten(2).sum(2)
        log_p = -distance - 32 * math.log(math.pi) - (z.square() + math.log(2 * math.pi)).sum(2) / 2
        log_q = -((z - q.loc).square() / q.log_var.exp() + q.log_var + math.log(2 * math.pi)).sum(2) / 2
        expected = (log_p - log_q).logsumexp(0) - math.log(SAMPLES)
    np.testing.assert_allclose(opened.log_likelihood(x.numpy(), samples=SAMPLES), expected, atol=0.05)


def test_sigma_widens_the_draws_from_the_prior(opened):
    still = opened.sample(5, sigma=0.0)
    np.testing.assert_allclose(still, opened.decode(np.zeros((5, LATENT), np.float32)), atol=1e-6)
    assert opened.sample(50, sigma=3.0).std(0).mean() > 1.5 * opened.sample(50, sigma=1.0).std(0).mean()


def test_the_model_is_opened_in_evaluation_mode(opened):
    assert not any(module.training for module in opened.model.modules())

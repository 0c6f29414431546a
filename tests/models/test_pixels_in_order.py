"""A model whose pixels depend on each other: its NLL against the integral over z, its pictures, its first weights."""

import dataclasses
import math

import pytest
import torch
from oracles.configurations import SMALL, small_run
from oracles.small_data import data_of, run_of
from torch import Tensor

from elboroom import build
from elboroom.models import VAE, BernoulliLikelihood, FlowPrior, GaussianPosterior
from elboroom.models.evidence import log_evidence, row_bytes
from elboroom.networks import mlp, pixelcnn
from elboroom.networks.normalized import Normalized
from elboroom.numerics import Randomness
from elboroom.objectives import elbo
from elboroom.studies.weights import fit_to_images

SHAPE = (1, 4, 4)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Bars: one row or one column, sometimes two; two latents tell most of it."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = (torch.rand(600, 4, generator=generator) < 0.25 for _ in range(2))
    return (rows[:, :, None] | columns[:, None, :]).float().unsqueeze(1)


@pytest.fixture(scope="module")
def trained(images) -> VAE:
    """A Gaussian posterior, a flow as prior and a PixelCNN on 4x4 images; 150 steps of Adam."""
    torch.manual_seed(0)
    network = pixelcnn.Decoder(2, SHAPE, maps=6, kernels=(3,), first=3, code_maps=2)
    encoder = GaussianPosterior(mlp.Encoder(SHAPE, (16,)), 2)
    model, random = VAE(encoder, FlowPrior(2, steps=2), BernoulliLikelihood(network, SHAPE)), Randomness(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(150):
        x = images[torch.randint(500, (100,), generator=random("order", step))]
        elbo(model(x, model.noise(random("noise", step), 1, 100))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def integrated(model: VAE, x: Tensor, step: float = 0.1, reach: float = 7.0) -> Tensor:
    """log of the sum of p(x|z) p(z) step^2 over a grid; the prior's own mass on it is checked beside."""
    axis = torch.arange(-reach, reach, step)
    z = torch.cartesian_prod(axis, axis)
    log_pz = model.prior(model.encoder).log_prob(z).double() + 2 * math.log(step)
    assert log_pz.exp().sum().item() == pytest.approx(1.0, abs=2e-3)
    return torch.stack([torch.logsumexp(model.decoder(z).log_prob(one).double() + log_pz, 0) for one in x])


def test_nll_equals_the_integral(trained, images):
    """Within 5 standard errors of each image, sqrt((K / ESS - 1) / K); 16 fair coins would have 11.1 nats."""
    x, k = images[-5:], 500
    exact = integrated(trained, x)
    found = log_evidence(trained, x, torch.arange(5), k)
    error = ((k / found.effective_samples - 1) / k).sqrt()
    assert ((found.bound - exact).abs() < 5 * error + 2e-3).all()
    assert exact.mean() > -9.0
    with torch.no_grad():
        bound = elbo(trained(x, trained.noise(Randomness(1)("noise", 0), 500, 5))).bound
    assert (bound - exact).mean() < 0.02


def test_the_memory_of_a_row_counts_every_layer_of_one_pass(trained):
    """At the least the 6 maps of 4x4 of every activation, 4 bytes each; and no walk through the pixels."""
    given = trained.decoder, torch.zeros(1, 2), torch.zeros(1, *SHAPE)
    assert row_bytes(*given) > 4 * 6 * 16 * 4
    assert 8 * 6 * 16 * 4 <= row_bytes(*given, kept=False) < row_bytes(*given)


def test_decoded_pictures_are_a_function_of_the_code(trained):
    z = torch.randn(7, 2)
    with torch.no_grad():
        mean = trained.decoder(z).mean
        assert mean.shape == (7, *SHAPE)
        assert ((mean > 0) & (mean < 1)).all()
        torch.testing.assert_close(trained.decoder(z.flip(0)).mean.flip(0), mean)


def test_first_weights_are_fitted_to_the_images_through_encoder_decoder_and_prior():
    """Outputs of deviation 1 in every layer of encoder and decoder, 0.1 in the last layers of the flow."""
    config = dataclasses.replace(small_run(), model={**small_model(), "prior": {"kind": "flow", **SMALL["flow"]}})
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(300, 1, 8, 8, generator=generator) < 0.4).float()
    model = build.model(config, (1, 8, 8), "binary")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fit_to_images(model, data_of(x), 300, seed=0)
    moved = [k for k, v in model.state_dict().items() if k.endswith("log_gain") and not torch.equal(v, before[k])]
    assert len(moved) == sum(isinstance(m, Normalized) for m in model.modules())
    with torch.no_grad():
        q = model.encoder(x)
        log_px = model.decoder(q.mean).log_prob(x)
    torch.testing.assert_close(q.mean.std(0), torch.ones(3), atol=1e-3, rtol=0)
    assert log_px.isfinite().all()


def small_model() -> dict:
    return {
        "encoder": {"kind": "resnet", **SMALL["resnet"]},
        "posterior": {"latent": 3},
        "decoder": {"kind": "pixelcnn", **SMALL["pixelcnn"]},
        "likelihood": "bernoulli",
    }


def test_a_run_decodes_samples_and_scores():
    """The opened run's own methods, as for any other model."""
    config = dataclasses.replace(small_run(), model=small_model())
    opened = run_of(config, build.model(config, (1, 8, 8), "binary").eval(), (1, 8, 8))
    opened.__dict__["_facts"] = {"data_values": "binary"}
    images = opened.sample(3)
    assert images.shape == (3, 1, 8, 8)
    assert opened.log_likelihood(images.round(), samples=4).shape == (3,)
    assert opened.interpolate(images[:1].round(), images[1:2].round(), 4).shape == (1, 4, 1, 8, 8)

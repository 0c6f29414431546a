"""The inverse autoregressive posterior: its density by the Jacobian and by the way back, its bound, its refusals."""

import math

import pytest
import torch
from oracles.configurations import SMALL, small_run
from torch import nn

from elboroom import build
from elboroom.data import load
from elboroom.errors import InputError
from elboroom.models import IafPosterior
from elboroom.networks import mlp
from elboroom.networks.made import Made
from elboroom.numerics import Randomness
from elboroom.studies.weights import fit_to_images


def posterior(latent: int = 3, **more: object) -> IafPosterior:
    """In float64, its networks away from their start."""
    torch.manual_seed(0)
    made = IafPosterior(mlp.Encoder((4,), (6,)), latent, **({"width": 4, "context": 3, "steps": 3} | more)).double()
    for name, parameter in made.named_parameters():
        if name.endswith(("bias", "log_gain")):
            nn.init.normal_(parameter, std=0.3)
    return made


X = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_data_dependent_initialization_reaches_the_steps():
    """Behind the encoder's own layers: every network of the flow gets its first outputs fitted (SPEC 6.2)."""
    run = small_run(posterior="iaf")
    data = load(run.data)
    model = build.model(run, data.shape, data.values)
    fit_to_images(model, data, 100, seed=0)
    lasts, seen = [m for m in model.encoder.steps.modules() if isinstance(m, Made)], {}
    for made in lasts:
        made.last.register_forward_hook(lambda layer, _, y: seen.setdefault(layer, y))
    random = Randomness(0)
    x = data.train.batch(data.train.order(random, 0)[:100], random("init")).x
    with torch.no_grad():
        model.eval().encoder(x).rsample_with_log_prob(model.noise(random("init-noise"), 1, 100))
    assert len(seen) == len(lasts) == 4  # shift and scale of two steps
    for layer, y in seen.items():
        varies = y.std((0, 1)) > 1e-6  # the first dimension depends on nothing
        torch.testing.assert_close(y.mean((0, 1))[varies], torch.zeros(int(varies.sum())), atol=1e-4, rtol=0)
        torch.testing.assert_close(
            y.std((0, 1))[varies], torch.full_like(y[0, 0][varies], layer.spread), rtol=0.01, atol=0
        )


def test_the_density_of_a_sample_is_that_of_its_noise_over_the_jacobian():
    q, noise = posterior()(X[:1]), torch.randn(1, 1, 3, dtype=torch.float64)
    z, log_qz = q.rsample_with_log_prob(noise)
    by_noise = torch.autograd.functional.jacobian(lambda e: q.rsample_with_log_prob(e)[0].flatten(), noise)
    expected = -0.5 * (noise.square() + math.log(2 * math.pi)).sum() - by_noise.reshape(3, 3).slogdet().logabsdet
    torch.testing.assert_close(log_qz.squeeze(), expected)
    torch.testing.assert_close(q.log_prob(z), log_qz)  # by the way back


def test_the_density_of_any_code_is_not_that_of_the_autocast_around_it():
    q, z = posterior().float()(X.float()), torch.randn(5, 3)
    plain = q.log_prob(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(q.log_prob(z), plain, rtol=0, atol=0)


def test_the_density_integrates_to_one():
    """Two latents, rectangles of 0.2 on [-24, 24]^2; the limit keeps the mass inside."""
    axis = torch.arange(-24, 24, 0.2, dtype=torch.float64)
    with torch.no_grad():
        density = posterior(2, steps=2, limit=0.5)(X[:1]).log_prob(torch.cartesian_prod(axis, axis)[:, None]).exp()
    assert density.sum().item() * 0.04 == pytest.approx(1.0, abs=1e-3)


def test_it_is_no_gaussian_and_knows_the_image():
    """Two images with the same base have other codes; every example has its own context."""
    made = posterior()
    q = made(X)
    alone = torch.cat([made(X[i : i + 1]).mean for i in range(5)])
    torch.testing.assert_close(q.mean, alone)
    with torch.no_grad():
        made.head.weight[:6] = 0  # μ and log σ² of all images are the bias
        q = made(X)
    assert torch.equal(q.loc[0], q.loc[1])
    assert (q.mean[0] - q.mean[1]).abs().max() > 1e-3


def test_samples_of_many_noises_at_once_are_those_of_each():
    q, noise = posterior()(X), posterior().noise(Randomness(0)("noise"), 7, 5).double()
    z, log_qz = q.rsample_with_log_prob(noise)
    assert (z.shape, log_qz.shape) == ((7, 5, 3), (7, 5))
    one, log_one = q.rsample_with_log_prob(noise[3:4])
    torch.testing.assert_close(z[3:4], one)
    torch.testing.assert_close(log_qz[3:4], log_one)


@pytest.mark.parametrize("objective", ["mu", "mutual-divergence", "total-correlation", "dip"])
def test_objectives_that_read_a_factorized_posterior_refuse_it(objective):
    with pytest.raises(InputError, match=f"posterior 'iaf' does not go with objective '{objective}': it reads means"):
        small_run(posterior="iaf", objective=objective)
    assert "steps" in SMALL["iaf"]


@pytest.mark.parametrize("steps", [1, 2])
def test_the_order_of_the_steps_alternates(steps):
    """By gradient: one step leaves a triangle, a second one in the other order lets each dimension of the code depend
    on each of the noise."""
    made = posterior(4, steps=steps)
    noise = torch.randn(1, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    jacobian = torch.autograd.functional.jacobian(lambda e: made(X[:1]).rsample_with_log_prob(e)[0], noise)
    reached = jacobian.reshape(4, 4) != 0
    assert torch.equal(reached, torch.ones(4, 4).tril().bool() if steps == 1 else torch.ones(4, 4).bool())

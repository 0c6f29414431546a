"""Likelihoods of grey and real data: their variances, their floors, and the one that is fitted to the batch."""

import math

import pytest
import torch
from oracles.configurations import model_of
from torch.distributions import Normal

from elboroom.models.likelihoods import above

SHAPE = (1, 8, 8)


def decoder_of(likelihood: str, values: str = "unit-interval", **more: object) -> torch.nn.Module:
    content = {"posterior": {"latent": 3}, "likelihood": {"kind": likelihood, **more}}
    return model_of(content, SHAPE, values).decoder


Z, X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.rand(4, *SHAPE)


def test_the_floor_is_soft_and_far_above_it_there_is_none():
    """log f + softplus(r - log f): 0.6931 above the floor at the floor, and a gradient of 1/2 there."""
    raw = torch.tensor([0.0, math.log(1e-5), -40.0], requires_grad=True)
    found = above(raw, 1e-5)
    found.sum().backward()
    low = math.log(1e-5)
    torch.testing.assert_close(found, torch.tensor([math.log(1 + 1e-5), low + math.log(2), low]))
    assert (raw.grad > 0).all()
    torch.testing.assert_close(raw.grad[:2], torch.tensor([1.0, 0.5]), atol=1e-4, rtol=0)


def test_one_learned_variance_finds_the_mean_squared_error():
    """The variance that maximizes a Gaussian's density is its mean squared error."""
    decoder = decoder_of("gaussian-learned", values="real")
    optimizer = torch.optim.Adam([decoder.raw_log_var], lr=0.05)
    for _ in range(300):
        loss = -decoder(Z).log_prob(X).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    p = decoder(Z)
    torch.testing.assert_close(p.variance, (X - p.mean).square().mean().expand_as(X), rtol=1e-3, atol=0)


def test_a_variance_for_each_pixel_is_the_decoder_s_second_output():
    decoder = decoder_of("gaussian-pixel", values="real")
    mean, log_var = decoder.outputs(Z)
    p = decoder(Z)
    expected = Normal(mean, (above(log_var, 1e-5) / 2).exp()).log_prob(X).sum((1, 2, 3))
    torch.testing.assert_close(p.log_prob(X), expected)


def test_pixels_that_never_change_stop_at_the_floor():
    """Without a floor the density of constant pixels grows without limit; with it, to log N(0; 0, f) a pixel."""
    decoder = decoder_of("gaussian-pixel", values="real", floor=1e-4)
    with torch.no_grad():
        decoder.head[0].weight.zero_()
        decoder.head[0].bias.copy_(torch.tensor([0.0] * 64 + [-1000.0] * 64))
    most = -0.5 * math.log(2 * math.pi * 1e-4) * 64
    torch.testing.assert_close(decoder(Z).log_prob(torch.zeros(4, *SHAPE)), torch.full((4,), most))


def test_optimal_variance_is_the_batch_s_in_training_and_the_running_mean_in_evaluation():
    decoder = decoder_of("gaussian-optimal").train()
    batches = [torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    seen = []
    for x in batches:
        mean = decoder(Z).mean
        mse = (x - mean).square().mean()
        seen.append(mse.item())
        expected = Normal(mean, mse.sqrt()).log_prob(x).sum((1, 2, 3))
        torch.testing.assert_close(decoder(Z).log_prob(x), expected)
    assert decoder.variance.item() == pytest.approx(sum(seen) / 3)  # the first 100 batches weigh the same
    p = decoder.eval()(Z)
    torch.testing.assert_close(p.variance, decoder.variance.expand_as(X))
    alone = torch.cat([decoder(Z[i : i + 1]).log_prob(X[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(p.log_prob(X), alone)  # a density: an example's value does not depend on the others


def test_optimal_variance_learns_from_steps_alone():
    """Passes without gradient (the first look at the data, evaluation) leave it; it is saved with the weights."""
    decoder = decoder_of("gaussian-optimal").train()
    with torch.no_grad():
        decoder(Z).log_prob(X)
    assert (decoder.variance.item(), decoder.batches.item()) == (1, 0)
    decoder(Z).log_prob(X)
    assert decoder.batches.item() == 1
    decoder.eval()(Z).log_prob(X)
    assert decoder.batches.item() == 1
    other = decoder_of("gaussian-optimal")
    other.load_state_dict(decoder.state_dict())
    assert other.variance == decoder.variance


def test_after_a_hundred_batches_each_weighs_a_hundredth():
    decoder = decoder_of("gaussian-optimal")
    for _ in range(200):
        decoder._observe(torch.tensor(1.0))
    decoder._observe(torch.tensor(2.0))
    assert decoder.variance.item() == pytest.approx(1.01)


def test_discretized_logistic_begins_near_half_grey():
    """256 equal levels cost 5.55 nats a pixel; the start may not be worse than by a nat."""
    decoder = decoder_of("discretized-logistic")
    levels = (255 * torch.rand(4, *SHAPE)).round() / 255
    assert -decoder(Z).log_prob(levels).mean() / 64 < math.log(256) + 1


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("gaussian-learned", "gaussian (learned variance, floor 1e-05)"),
        ("gaussian-pixel", "gaussian (variance per pixel, floor 1e-05)"),
        ("gaussian-optimal", "gaussian (optimal variance)"),
        ("continuous-bernoulli", "continuous-bernoulli"),
        ("discretized-logistic", "discretized-logistic (256 levels)"),
    ],
)
def test_names_hold_no_learned_number(kind, name):
    """A learned constant in the name would make two seeds of a run incomparable."""
    decoder = decoder_of(kind)
    assert decoder.name == name
    assert decoder.offset(SHAPE) == 0

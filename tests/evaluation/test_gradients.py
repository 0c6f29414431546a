"""The two estimates of the encoder's gradient, against their variances in closed form."""

import math

import pytest
import torch
from oracles.configurations import small_run
from oracles.small_data import data_of, run_of
from torch import nn

from elboroom import build
from elboroom.distributions import DiagonalNormal
from elboroom.evaluation.gradients import gradient_variance, moments, resolves
from elboroom.evaluation.subject import Subject


class Shifted(nn.Module):
    """q(z|x) = N(w, exp(log_var)) for every x."""

    def __init__(self, w: float, log_var: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[w]], dtype=torch.float64))
        self.log_var = log_var

    def forward(self, x):
        loc = self.w.expand(len(x), 1)
        return DiagonalNormal(loc, torch.full_like(loc, self.log_var))


class Shift(nn.Module):
    """The posterior N(w, exp(log_var)), and log p(x|z) = -z²/2."""

    def __init__(self, w: float, log_var: float = 0.0) -> None:
        super().__init__()
        self.encoder = Shifted(w, log_var)

    def decoder(self, z):
        return Parabola(z)

    def noise(self, generator, k, batch):
        return torch.randn(k, batch, 1, generator=generator, dtype=torch.float64)


class Parabola:
    """log p(x|z) = -z²/2."""

    def __init__(self, z):
        self.z = z

    def log_prob(self, x):
        return -self.z.square().sum(-1) / 2


@pytest.mark.parametrize("w", [0.0, 1.5])
def test_means_and_variances_in_closed_form(w):
    """With z = w + ε: -z has mean -w and variance 1; -(z²/2) ε has the same mean and, by the moments of ε, the variance
    (w⁴ + 18 w² + 15)/4 - w². Four standard errors; that of a variance is at most sqrt(E g⁴ / n)."""
    draws = 2000
    found = moments(Shift(w), torch.zeros(1, 1, dtype=torch.float64), draws)
    expected = {"reparameterized": 1.0, "score-function": (w**4 + 18 * w**2 + 15) / 4 - w**2}
    for name, variance in expected.items():
        assert found[name].mean.item() == pytest.approx(-w, abs=4 * (variance / draws) ** 0.5)
        assert found[name].variance.item() == pytest.approx(variance, rel=0.4 if name == "score-function" else 0.1)


def test_a_batch_divides_the_variance():
    one, ten = (moments(Shift(1.0), torch.zeros(n, 1, dtype=torch.float64), 800)["reparameterized"] for n in (1, 10))
    assert (one.variance / ten.variance).item() == pytest.approx(10, rel=0.25)


@pytest.mark.parametrize(("log_var", "told_apart"), [(0.0, True), (-40.0, True), (-70.0, False), (-340.0, False)])
def test_a_posterior_narrower_than_rounding_is_seen(log_var, told_apart):
    """float64 keeps 2e-16 of a mean of 1.5; σ is 2e-9 at -40 and 6e-16 at -70."""
    assert resolves(Shift(1.5, log_var), torch.zeros(3, 1, dtype=torch.float64)) == told_apart


class Narrow(nn.Module):
    """An encoder whose log-variances are shifted."""

    def __init__(self, encoder: nn.Module, shift: float) -> None:
        super().__init__()
        self.inner, self.noise, self.shift = encoder, encoder.noise, shift

    def forward(self, x):
        q = self.inner(x)
        return DiagonalNormal(q.loc, q.log_var + self.shift)


@pytest.mark.parametrize("shift", [0.0, -300.0])
def test_a_point_like_posterior_leaves_the_score_function_out_with_a_reason(tmp_path, shift):
    """Precisions of exp(300) overflow float32; β = 0 learns such."""
    config = small_run()
    model = build.model(config, (1, 8, 8), "binary").eval()
    model.encoder = Narrow(model.encoder, shift)
    run = run_of(config, model, (1, 8, 8))
    x = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(1)).round()
    run.__dict__.update(folder=tmp_path, data=data_of(x))
    found = gradient_variance(Subject(run, keep=False), images=4, draws=3)
    names = [s.name.partition("/")[2] for s in found.scores]
    assert names == (["reparameterized"] if shift else ["reparameterized", "score-function", "ratio", "agreement"])
    assert all(math.isfinite(s.value) for s in found.scores)
    assert (found.notes["gradient-variance"] is not None) == bool(shift)


def test_a_uniform_posterior_leaves_it_out_since_its_support_moves(tmp_path):
    config = small_run(posterior="uniform")
    run = run_of(config, build.model(config, (1, 8, 8), "binary").eval(), (1, 8, 8))
    run.__dict__.update(folder=tmp_path, data=data_of(torch.zeros(60, 1, 8, 8)))
    found = gradient_variance(Subject(run, keep=False), images=4, draws=3)
    assert [s.name for s in found.scores] == ["gradient-variance/reparameterized"]
    assert "moves with its parameters" in found.notes["gradient-variance"]


def test_a_decoder_that_does_not_hear_the_code_leaves_it_out(tmp_path):
    """A quotient by a variance of 0 would be infinite."""
    config = small_run()
    model = build.model(config, (1, 8, 8), "binary").eval()
    for p in model.decoder.parameters():
        torch.nn.init.zeros_(p)
    run = run_of(config, model, (1, 8, 8))
    run.__dict__.update(folder=tmp_path, data=data_of(torch.zeros(60, 1, 8, 8)))
    found = gradient_variance(Subject(run, keep=False), images=4, draws=3)
    assert [(s.name, s.value) for s in found.scores] == [("gradient-variance/reparameterized", 0.0)]
    assert "does not hear the code" in found.notes["gradient-variance"]

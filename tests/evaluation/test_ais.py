"""Annealed importance sampling against evidence that is known."""

import math

import pytest
import torch
from oracles.configurations import small_run
from oracles.linear_gaussian import examples, linear_gaussian
from oracles.quadrature import black_and_white, integrated, trained_model
from oracles.small_data import data_of, run_of

from elboroom import build
from elboroom.config.files import metrics_from
from elboroom.errors import InputError, Stopped
from elboroom.evaluation.ais import Annealed, annealed_by_block, doubt, temperatures
from elboroom.evaluation.evaluate import measure
from elboroom.evaluation.subject import Subject
from elboroom.models.evidence import log_evidence

SETTINGS = "[{kind: ais, images: 6, chains: 4, steps: 3, leapfrog: 2}]"


def estimate(model, x, rows=None, **settings) -> Annealed:
    parts = list(annealed_by_block(model, x, torch.arange(len(x)) if rows is None else rows, **settings))
    return Annealed(*(torch.cat([getattr(p, name) for p in parts]) for name in vars(parts[0])))


def error(found: Annealed, chains: int) -> torch.Tensor:
    """The standard error of the log of a mean of weights: sqrt((C / ESS - 1) / C)."""
    return ((chains / found.effective_chains - 1) / chains).sqrt()


def subject(tmp_path, model=None, **parts) -> Subject:
    config = small_run(**parts)
    x = black_and_white()[:8]
    run = run_of(config, build.model(config, (1, 8, 8), "binary").eval() if model is None else model, (1, 8, 8))
    run.__dict__.update(folder=tmp_path, data=data_of(x))
    return Subject(run)


def test_temperatures_are_those_of_the_paper():
    """Three between: sigmoid(4 (2t/4 - 1)) rescaled; t = 1: (s(-2) - s(-4)) / (s(4) - s(-4)) = 0.1050."""
    assert temperatures(0).tolist() == [0, 1]
    found = temperatures(3)
    s = [1 / (1 + math.exp(-v)) for v in (-4, -2, 0, 2, 4)]
    expected = [(v - s[0]) / (s[-1] - s[0]) for v in s]
    assert found.tolist() == pytest.approx(expected, abs=1e-15)
    assert expected[1] == pytest.approx(0.1050, abs=1e-4)


def test_without_steps_it_is_importance_sampling():
    oracle = linear_gaussian(shift=0.4)
    x = examples(oracle, 10)
    found, usual = estimate(oracle.model, x, chains=50, steps=0), log_evidence(oracle.model, x, torch.arange(10), 50)
    torch.testing.assert_close(found.bound, usual.bound, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.effective_chains, usual.effective_samples, rtol=1e-4, atol=0)
    assert found.acceptance.isnan().all()  # nothing moved


def test_at_the_exact_posterior_every_chain_has_the_evidence():
    oracle = linear_gaussian()
    x = examples(oracle, 10)
    found = estimate(oracle.model, x, chains=3, steps=8)
    torch.testing.assert_close(found.bound, oracle.evidence(x), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("start", "shift"), [("posterior", 1.0), ("prior", 0.0)])
def test_it_reaches_the_evidence_of_the_linear_gaussian(start, shift):
    """40 chains of 40 steps: each image within 5 standard errors, the mean within 5 of its own."""
    oracle = linear_gaussian(shift=shift)
    x = examples(oracle, 20)
    found = estimate(oracle.model, x, chains=40, steps=40, start=start)
    gap, errors = oracle.evidence(x) - found.bound, error(found, 40)
    assert (gap.abs() < 5 * errors).all()
    bias = (errors.square() / 2).mean()  # Jensen's, to first order
    assert abs(gap.mean() - bias) < 5 * errors.square().sum().sqrt() / 20
    assert 0.5 < found.acceptance.mean() < 0.8
    plain = oracle.evidence(x) - log_evidence(oracle.model, x, torch.arange(20), 40).bound
    assert start == "prior" or gap.mean() < plain.mean() / 5


def test_more_steps_bring_it_nearer():
    oracle = linear_gaussian(shift=1.5)
    x = examples(oracle, 10)
    gaps = [(oracle.evidence(x) - estimate(oracle.model, x, chains=8, steps=s).bound).mean() for s in (0, 5, 30)]
    assert gaps[0] > 1.5 * gaps[1] > 3 * gaps[2] > 0


@pytest.mark.parametrize("start", ["posterior", "prior"])
def test_it_equals_the_integral_of_a_trained_model(start):
    """12 digits, 24 chains of 40 steps; each within 5 standard errors, the mean within 0.1 nats."""
    model, x = trained_model(), black_and_white()[-12:]
    exact = integrated(model, x, 0.1)
    found = estimate(model, x, chains=24, steps=40, leapfrog=3, start=start)
    assert ((found.bound - exact).abs() < 5 * error(found, 24) + 1e-3).all()
    assert abs((found.bound - exact).mean()) < 0.1
    assert 0.4 < found.acceptance.mean() < 0.85


def test_it_depends_on_neither_memory_nor_batch_nor_where_it_begins(monkeypatch):
    """More steps than are drawn at once; one chain of one image at a time, or all."""
    monkeypatch.setattr("elboroom.evaluation.ais.AT_ONCE", 2)
    monkeypatch.setattr("elboroom.evaluation.ais.WARM", 1)
    oracle = linear_gaussian(shift=0.4)
    x, settings = examples(oracle, 3), {"chains": 3, "steps": 3, "leapfrog": 1}
    usual = estimate(oracle.model, x, **settings)
    torch.testing.assert_close(estimate(oracle.model, x, budget=1, **settings).bound, usual.bound, rtol=0, atol=1e-4)
    rest = estimate(oracle.model, x, budget=1, begin=1, **settings)
    assert torch.equal(rest.bound, estimate(oracle.model, x, budget=1, **settings).bound[1:])
    alone = estimate(oracle.model, x[2:], torch.tensor([2]), **settings)
    torch.testing.assert_close(alone.bound, usual.bound[2:], rtol=0, atol=1e-4)
    for change in ({"seed": 1}, {"copy": 1}):
        assert (estimate(oracle.model, x, **settings, **change).bound != usual.bound).all()


def test_scores_and_values_per_example(tmp_path):
    found = measure(subject(tmp_path), metrics_from(SETTINGS))[0]
    scores = {s.name: s for s in found.scores}
    assert list(scores) == ["nll/ais", "nll/ais-acceptance", "nll/ais-effective-samples"]
    nll = scores["nll/ais"]
    assert (nll.better, nll.unit, nll.examples, nll.protocol.samples) == ("lower", "nats", 6, 4)
    assert nll.protocol.estimator == "annealed importance sampling from the posterior, 3 steps of 2 leapfrogs"
    assert nll.value == pytest.approx(found.examples["nll/ais"].mean().item())
    assert 0 <= scores["nll/ais-acceptance"].value <= 100
    assert 1 <= scores["nll/ais-effective-samples"].value <= 4


def test_interrupted_and_resumed_it_is_the_one_left_alone(tmp_path):
    alone = measure(subject(tmp_path / "a"), metrics_from(SETTINGS))[0].scores[0]
    interrupted = subject(tmp_path / "b")
    told = []

    def stop(what, done, total):
        told.append(done)
        raise Stopped("here")

    interrupted.progress = stop
    with pytest.raises(Stopped):
        measure(interrupted, metrics_from(SETTINGS))
    again = subject(tmp_path / "b")
    again.progress = lambda what, done, total: told.append(done)
    assert measure(again, metrics_from(SETTINGS))[0].scores[0] == alone
    again.forget_partials()
    assert told == sorted(set(told))
    assert not list((tmp_path / "b").rglob("*.safetensors"))


def test_a_plain_autoencoder_is_refused_and_a_uniform_posterior_says_bound(tmp_path):
    point = subject(tmp_path, posterior="point", objective="reconstruction")
    ((_, reason),) = measure(point, metrics_from(SETTINGS))[1].items()
    assert "plain autoencoder has no likelihood" in reason
    uniform = subject(tmp_path, posterior="uniform")
    found = measure(uniform, metrics_from(SETTINGS))[0].scores[0]
    assert (found.name, found.better) == ("bound/ais", "higher")
    prior = measure(uniform, metrics_from(SETTINGS.replace("ais,", "ais, start: prior,")))[0].scores[0]
    assert prior.name == "nll/ais"


def test_a_posterior_that_scores_only_its_own_samples_begins_at_the_prior(monkeypatch):
    oracle = linear_gaussian()
    x = examples(oracle, 2)

    def unknown(self, value):
        raise NotImplementedError

    monkeypatch.setattr("elboroom.distributions.DiagonalNormal.log_prob", unknown)
    with pytest.raises(InputError, match="start: prior"):
        estimate(oracle.model, x, chains=2, steps=1)
    assert estimate(oracle.model, x, chains=2, steps=1, start="prior").bound.isfinite().all()


def test_a_note_where_single_chains_decide():
    """Two of twenty images: 10 %."""
    some, many = torch.zeros(20).double(), torch.full((20,), 9.0).double()
    effective = many.clone()
    effective[:2] = 1.5
    assert doubt(Annealed(some, many, some), 16) is None
    assert "10 % of images" in doubt(Annealed(some, effective, some), 16)
    assert doubt(Annealed(some, many * math.nan, some), 16) is not None
    two = torch.full_like(some, 1.99)  # of two chains, alike; 1 where one carries all
    assert doubt(Annealed(some, two, some), 2) is None
    assert doubt(Annealed(some, two - 0.6, some), 2) is not None

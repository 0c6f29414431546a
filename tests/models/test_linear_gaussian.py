"""Bounds against a model whose log p(x) is known: by hand, and built from the toolkit's own modules."""

import math

import pytest
import torch
from oracles.linear_gaussian import examples, linear_gaussian, scalar_draw, scalar_evidence

from elboroom.models.evidence import log_evidence
from elboroom.numerics import Randomness, log_mean_exp
from elboroom.objectives import elbo

X = torch.tensor([-2.0, 0.0, 3.0])


def rows(n: int) -> torch.Tensor:
    return torch.arange(n)


@pytest.mark.parametrize("k", [1, 7])
def test_bounds_reach_the_evidence_at_the_exact_posterior(k):
    draw = scalar_draw(X, k)
    torch.testing.assert_close(elbo(draw).bound, scalar_evidence(X))
    torch.testing.assert_close(log_mean_exp(draw.log_px + draw.log_pz - draw.log_qz), scalar_evidence(X))


@pytest.mark.parametrize("shift", [0.3, -1.0])
def test_the_gap_of_a_shifted_posterior(shift):
    """KL(N(m + s, 0.2) || N(m, 0.2)) = s^2 / 0.4; 40,000 samples, within 5 standard errors."""
    draw = scalar_draw(X, 40_000, shift)
    error = (draw.log_px + draw.log_pz - draw.log_qz).std(0) / math.sqrt(40_000)
    assert ((scalar_evidence(X) - elbo(draw).bound - shift**2 / 0.4).abs() < 5 * error).all()


@pytest.mark.parametrize("k", [1, 7, 300])
def test_modules_reach_the_evidence_at_the_exact_posterior(k):
    """Every weight is the same, so the effective sample size is K; float32 densities of 10 nats give 1e-5."""
    oracle = linear_gaussian()
    x = examples(oracle, 20)
    found = log_evidence(oracle.model, x, rows(20), k)
    torch.testing.assert_close(found.bound, oracle.evidence(x), rtol=0, atol=2e-5)
    torch.testing.assert_close(found.effective_samples, torch.full((20,), float(k)).double(), rtol=1e-6, atol=0)


def test_modules_in_float64_reach_it_to_rounding():
    oracle = linear_gaussian(dtype=torch.float64)
    x = examples(oracle, 20).double()
    found = log_evidence(oracle.model, x, rows(20), 3)
    torch.testing.assert_close(found.bound, oracle.evidence(x), rtol=0, atol=1e-11)


def test_elbo_of_the_modules_has_the_closed_form_rate_and_the_known_gap():
    """100 examples of 200 samples each; the mean gap within 5 standard errors."""
    oracle = linear_gaussian(shift=0.4)
    x = examples(oracle, 100)
    with torch.no_grad():
        draw = oracle.model(x, oracle.model.noise(Randomness(0)("noise", 0), 200, 100))
    error = (draw.log_px.double().var(0) / 200).sum().sqrt() / 100
    gap = (oracle.evidence(x) - elbo(draw).bound).mean()
    assert abs(gap - oracle.gap(0.4)) < 5 * error
    ratio = draw.log_qz.double() - draw.log_pz
    sampled = (ratio.mean(0) - draw.rate.sum(-1)).mean()
    assert abs(sampled) < 5 * (ratio.var(0) / 200).sum().sqrt() / 100


def test_importance_bound_rises_with_the_samples_and_stays_below():
    """400 images; E[L_1] = ELBO = log p - gap; each difference within or beyond 4 standard errors, as it should be."""
    oracle = linear_gaussian(shift=0.4)
    x = examples(oracle, 400)
    evidence = oracle.evidence(x)
    gaps = {}
    for k in (1, 4, 16, 128):
        gap = evidence - log_evidence(oracle.model, x, rows(400), k).bound
        gaps[k] = (gap.mean().item(), gap.std().item() / 20)
    mean, error = gaps[1]
    assert abs(mean - oracle.gap(0.4)) < 4 * error
    for few, many in ((1, 4), (4, 16), (16, 128)):
        assert gaps[few][0] - gaps[many][0] > 4 * math.hypot(gaps[few][1], gaps[many][1])
    assert all(mean > -4 * error for mean, error in gaps.values())  # a lower bound in expectation


def test_effective_samples_fall_as_the_posterior_moves_away():
    """With shift s, E[w^2] / E[w]^2 = exp(sum_k s^2 / S_kk): for s = 0.1 the ESS of 4,000 is known within 5 %."""
    oracle = linear_gaussian(shift=0.1)
    x = examples(oracle, 10)
    expected = 4000 * math.exp(-(0.1**2 / oracle.posterior_variance).sum())
    found = log_evidence(oracle.model, x, rows(10), 4000).effective_samples
    assert ((found / expected - 1).abs() < 0.05).all()
    assert (found < 4000).all()


@pytest.mark.parametrize("budget", [1, 3_000, 1 << 30])
@pytest.mark.parametrize("samples", [1, 127, 128, 300])
def test_the_value_does_not_depend_on_the_memory(budget, samples):
    oracle = linear_gaussian(shift=0.4)
    x = examples(oracle, 5)
    usual = log_evidence(oracle.model, x, rows(5), samples)
    other = log_evidence(oracle.model, x, rows(5), samples, budget=budget)
    torch.testing.assert_close(other.bound, usual.bound, rtol=0, atol=1e-5)
    torch.testing.assert_close(other.effective_samples, usual.effective_samples, rtol=1e-4, atol=0)


def test_the_value_does_not_depend_on_batch_or_order():
    """Each row has its own noise."""
    oracle = linear_gaussian(shift=0.4)
    x = examples(oracle, 6)
    together = log_evidence(oracle.model, x, rows(6), 50).bound
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    permuted = log_evidence(oracle.model, x[order], order, 50).bound
    torch.testing.assert_close(permuted, together[order], rtol=0, atol=1e-5)
    alone = torch.cat([log_evidence(oracle.model, x[i : i + 1], torch.tensor([i]), 50).bound for i in range(6)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


@pytest.mark.parametrize("change", [{"seed": 1}, {"copy": 1}])
def test_noise_differs_by_seed_and_copy(change):
    oracle = linear_gaussian(shift=0.4)
    x = examples(oracle, 4)
    one, other = log_evidence(oracle.model, x, rows(4), 5), log_evidence(oracle.model, x, rows(4), 5, **change)
    assert (one.bound != other.bound).all()


def test_equal_examples_on_different_rows_have_different_noise():
    oracle = linear_gaussian(shift=0.4)
    found = log_evidence(oracle.model, examples(oracle, 1).repeat(4, 1), rows(4), 5).bound
    assert len(found.unique()) == 4


def test_progress_is_told_to_the_end():
    oracle, told = linear_gaussian(), []
    log_evidence(oracle.model, examples(oracle, 7), rows(7), 200, budget=1, progress=told.append)
    assert told == [1, 2, 3, 4, 5, 6, 7]


def test_no_samples_no_bound():
    oracle = linear_gaussian()
    with pytest.raises(ValueError, match="needs at least 1 sample, got 0"):
        log_evidence(oracle.model, examples(oracle, 2), rows(2), 0)

"""Scores, codes and pictures from models whose answers are known."""

import dataclasses
import math

import pytest
import torch
from oracles.configurations import small_run
from oracles.linear_gaussian import examples, linear_gaussian
from oracles.small_data import data_of, run_of
from torch import nn

from elboroom import build
from elboroom.config import run_from
from elboroom.evaluation import monitor
from elboroom.evaluation.codes import Codes, accuracy, active_units, code_scores, codes
from elboroom.evaluation.density import Gaussian
from elboroom.evaluation.likelihood import bound, bound_scores, evidence, nll_scores
from elboroom.evaluation.samples import (
    GRID,
    STEPS,
    drawn,
    interpolations,
    manifold,
    to_bytes,
    traversal_values,
    traversals,
)
from elboroom.evaluation.views import code_protocol, mean_score, protocol, view
from elboroom.models import VAE, GaussianLikelihood, GaussianPosterior, NormalPrior
from elboroom.models.evidence import log_evidence
from elboroom.networks import mlp
from elboroom.objectives import elbo
from elboroom.scores import Protocol, dump, load

HELD = Protocol(data="d", split="test", rows="r", binarization="none", likelihood="bernoulli")


class Identity(nn.Module):
    """The code itself as logits of classes."""

    def forward(self, code):
        return code


def binary_model(shape: tuple[int, ...] = (1, 8, 8)) -> VAE:
    return build.model(small_run(latent=2), shape, "binary").eval()


# A Score from values


def test_mean_score():
    """1, 2, 3, 6: mean 3, variance 14/3, error sqrt(14/3 / 4) = 1.0801."""
    score = mean_score("elbo", torch.tensor([1.0, 2.0, 3.0, 6.0]), "nats", "higher", HELD)
    assert (score.value, score.examples) == (3.0, 4)
    assert score.stderr == pytest.approx(1.0801, abs=1e-4)


def test_mean_score_is_float64():
    """A mean of float32 sums is off in the seventh digit or so."""
    score = mean_score("x", torch.full((1_000_000,), 0.1), "nats", "", HELD)
    assert score.value == pytest.approx(float(torch.tensor(0.1).double()), rel=1e-12)


def test_nan_is_reported_and_one_example_has_no_error():
    assert math.isnan(mean_score("x", torch.tensor([1.0, math.nan]), "nats", "", HELD).value)
    assert mean_score("x", torch.tensor([1.0]), "nats", "", HELD).stderr is None


# Views


@pytest.mark.parametrize("size", [1, 3, 7, 500])
def test_batches_cover_a_view_once_and_in_order(size):
    seen = view(data_of(torch.arange(7.0)[:, None]))
    index, x = zip(*((i, b.x) for i, b in seen.batches(size)), strict=True)
    assert torch.cat(index).tolist() == list(range(7))
    assert torch.cat(x).flatten().tolist() == list(range(7))


def test_a_view_of_the_first_examples():
    seen = view(data_of(torch.arange(7.0)[:, None]), count=3)
    assert (seen.count, view(data_of(torch.zeros(7, 1)), count=30).count) == (3, 7)
    assert [len(i) for i, _ in seen.batches(2)] == [2, 1]


def test_some_of_sorted_data_are_a_fixed_sample_and_the_protocol_says_so():
    data = dataclasses.replace(data_of(torch.arange(50.0)[:, None]), sorted=True)
    seen, again = view(data, count=5), view(data, count=5)
    assert torch.equal(seen.drawn, again.drawn)
    assert seen.drawn.tolist() == sorted(seen.drawn.tolist()) != list(range(5))
    index, x = zip(*((i, b.x) for i, b in seen.batches(2)), strict=True)
    assert torch.cat(index).tolist() == list(range(5))
    assert torch.cat(x).flatten().tolist() == seen.drawn.tolist()
    assert seen.rows == f"{data.test.rows_hash}[5 drawn]"
    assert (view(data).drawn, view(data).rows) == (None, data.test.rows_hash)
    assert view(dataclasses.replace(data, sorted=False), count=5).rows.endswith("[:5]")


# Bounds


def test_bound_of_the_linear_gaussian():
    """Its rate is the closed form; elbo = log p(x) - gap within 5 standard errors."""
    oracle = linear_gaussian(shift=0.4)
    x = examples(oracle, 200)
    found = bound(oracle.model, view(data_of(x)), samples=20)
    with torch.no_grad():
        q = oracle.model.encoder(x)
    rate = 0.5 * (q.loc.double().square() + q.variance.double() - q.log_var.double() - 1)
    torch.testing.assert_close(found.rate, rate.sum(-1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.rate_by_dimension, rate.mean(0), rtol=1e-5, atol=1e-5)
    gaps = oracle.evidence(x) + found.distortion + found.rate
    assert abs(gaps.mean() - oracle.gap(0.4)) < 5 * gaps.std() / math.sqrt(200)


def test_bound_and_evidence_average_over_copies():
    """Three binarizations of each grey image; values per image, not per copy."""
    model, x = binary_model(), torch.rand(6, 1, 8, 8)
    seen = view(data_of(x, binarize="dynamic", copies=3))
    each = [next(iter(seen.batches(copy=c)))[1].x for c in range(3)]
    assert not torch.equal(each[0], each[1])
    rows = torch.arange(6)
    expected = sum(log_evidence(model, e, rows, 20, copy=c).bound for c, e in enumerate(each)) / 3
    torch.testing.assert_close(evidence(model, seen, 20).bound, expected)
    with torch.no_grad():
        rates = sum(elbo(model(e, torch.zeros(1, 6, 2))).example["rate"] for e in each) / 3
    found = bound(model, seen)
    torch.testing.assert_close(found.rate, rates.double(), rtol=1e-5, atol=1e-6)
    assert found.distortion.shape == (6,)


def test_bound_is_the_same_each_time():
    model, seen = binary_model(), view(data_of(torch.rand(6, 1, 8, 8), binarize="dynamic"))
    torch.testing.assert_close(bound(model, seen).distortion, bound(model, seen).distortion, rtol=0, atol=0)


def test_a_point_posterior_has_no_rate():
    model = build.model(small_run(posterior="point", objective="reconstruction"), (4,), "binary")
    found = bound(model, view(data_of(torch.rand(5, 4).round())))
    assert (found.rate, found.rate_by_dimension) == (None, None)


def test_progress_of_the_evidence():
    told = []
    seen = view(data_of(torch.rand(6, 1, 8, 8), binarize="dynamic", copies=2))
    evidence(binary_model(), seen, 3, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (12, 12)


@pytest.mark.parametrize(
    ("likelihood", "offset"), [("bernoulli", 0.0), ("squared-error", -0.5 * 4 * math.log(math.pi)), ("grey-bce", None)]
)
def test_scores_of_a_bound_are_called_what_they_are(likelihood, offset):
    config = small_run(likelihood=likelihood)
    model, seen = build.model(config, (4,), "binary").eval(), view(data_of(torch.rand(5, 4).round()))
    found = bound(model, seen)
    scores = {s.name: s for s in bound_scores(run_of(config, model, (4,)), seen, found)}
    name = "bound/grey-bce" if offset is None else "elbo"
    assert list(scores) == ["distortion", "rate", name]
    total = -(found.distortion + found.rate).mean().item() + (offset or 0.0)
    assert scores[name].value == pytest.approx(total, rel=1e-12)
    assert scores["rate"].protocol.estimator == "closed form"
    assert scores["distortion"].protocol.samples == 10


def test_a_sampled_rate_says_how_many_samples():
    config = run_from({"data": {"name": "digits"}, "model": {"posterior": {"latent": 2}, "prior": {"kind": "mixture"}}})
    model, seen = build.model(config, (4,), "binary").eval(), view(data_of(torch.rand(5, 4).round()))
    scores = {s.name: s for s in bound_scores(run_of(config, model, (4,)), seen, bound(model, seen))}
    assert (scores["rate"].protocol.estimator, scores["rate"].protocol.samples) == ("posterior samples", 10)


@pytest.mark.parametrize(
    ("likelihood", "name", "offset"),
    [("squared-error", "elbo", -0.5 * 4 * math.log(math.pi)), ("grey-bce", "bound/grey-bce", 0.0)],
)
def test_the_monitor_calls_bounds_what_they_are(likelihood, name, offset):
    config = small_run(likelihood=likelihood)
    model = build.model(config, (4,), "binary").eval()
    with torch.no_grad():
        line = monitor(data_of(torch.rand(5, 4).round()), elbo, batch=5)(model, None)
    assert {"elbo", "bound/grey-bce"} & set(line) == {name}
    assert line[name] == pytest.approx(offset - line["loss"], rel=1e-6)


def test_the_monitor_goes_through_every_copy_of_an_image():
    """The mean of its lines on either copy alone, in batches that end unevenly."""
    config = small_run()
    model = build.model(config, (4,), "binary").eval()
    grey = torch.rand(7, 4, generator=torch.Generator().manual_seed(3))
    both = data_of(grey, binarize="dynamic", copies=2)
    alone = [data_of(both.test.fixed(torch.arange(7), copy).x) for copy in (0, 1)]
    with torch.no_grad():
        line = monitor(both, elbo, batch=3)(model, None)
        expected = [monitor(data, elbo, batch=3)(model, None) for data in alone]
    assert line["rate"] == pytest.approx(sum(e["rate"] for e in expected) / 2, rel=1e-5)  # no noise in it
    assert line["distortion"] == pytest.approx(sum(e["distortion"] for e in expected) / 2, rel=0.2)
    assert line["examples"] == 7


def test_nll_is_minus_the_bound_and_says_how_many_samples():
    config = small_run(likelihood="squared-error")
    model, seen = build.model(config, (4,), "binary").eval(), view(data_of(torch.rand(5, 4).round()))
    found = evidence(model, seen, 30)
    nll, effective = nll_scores(run_of(config, model, (4,)), seen, found, 30)
    constant = 0.5 * 4 * math.log(math.pi)
    assert nll.value == pytest.approx(-found.bound.mean().item() + constant, rel=1e-12)
    assert (nll.protocol.samples, nll.better, effective.unit) == (30, "lower", "samples")
    assert 1 <= effective.value <= 30


def test_the_protocol_tells_part_of_a_split_and_the_effective_beta():
    data = data_of(torch.rand(5, 4).round())
    config = small_run(objective="reconstruction")
    model = build.model(config, (4,), "binary")
    whole, part = (protocol(run_of(config, model, (4,)), view(data, count=n)) for n in (None, 3))
    assert part.rows == f"{whole.rows}[:3]"
    assert whole.beta == 0.0
    assert protocol(run_of(small_run(), model, (4,)), view(data)).beta is None


# Codes


def test_active_units_three_controls():
    """All used; none; and duplicates count twice, as its page says."""
    z = torch.randn(1000, 2)
    assert active_units(z) == 2
    assert active_units(torch.full((1000, 3), 0.7)) == 0
    assert active_units(z.repeat(1, 2)) == 4


@pytest.mark.parametrize("means", [torch.ones(1, 3), torch.tensor([[1.0, 2.0], [math.nan, 0.0], [0.0, 1.0]])])
def test_active_units_of_what_has_no_variance_are_no_number(means):
    assert math.isnan(active_units(means))


def test_active_units_have_a_threshold_of_a_hundredth():
    """Variances 0.0121 and 0.0081."""
    means = torch.randn(5000, 1)
    means = (means - means.mean()) / means.std()
    assert active_units(torch.cat([0.11 * means, 0.09 * means], dim=1)) == 1


def test_codes_of_a_split():
    oracle = linear_gaussian()
    x, labels = examples(oracle, 1200), torch.arange(1200) % 3
    found = codes(oracle.model, view(data_of(x, labels), count=1100))
    with torch.no_grad():
        q = oracle.model.encoder(x[:1100])
    torch.testing.assert_close(found.mean, q.loc, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.log_var, q.log_var, rtol=1e-5, atol=1e-5)
    assert (found.labels.tolist(), found.rows.tolist()) == (labels[:1100].tolist(), list(range(1100)))
    standard = (found.z - found.mean) * (-found.log_var / 2).exp()
    assert abs(standard.mean()) < 5 / math.sqrt(3300)
    assert abs(standard.std() - 1) < 5 / math.sqrt(2 * 3300)


def test_accuracy():
    code = torch.tensor([[2.0, 1.0], [0.0, 1.0], [5.0, 1.0], [0.0, 3.0]])
    assert accuracy(Identity(), code, torch.tensor([0, 1, 1, 1])).tolist() == [1, 1, 0, 1]


def test_accuracy_on_samples_and_on_means_are_two_scores():
    config = small_run()
    model, labels = build.model(config, (4,), "binary").eval(), torch.arange(40) % 2
    seen = view(data_of(torch.rand(40, 4).round(), labels))
    scores = code_scores(run_of(config, model, (4,), companion=Identity()), seen, codes(model, seen))
    assert [s.name for s in scores] == ["active-units", "accuracy/z", "accuracy/mean"]
    assert [s.protocol.code for s in scores[1:]] == ["z", "mean"]


# Pictures


def identity_decoder() -> VAE:
    """The mean of p(x|z) is z."""
    decoder = GaussianLikelihood(mlp.Decoder(2, (2,), hidden=()), (2,), mean="identity")
    with torch.no_grad():
        decoder.head[0].weight.copy_(torch.eye(2))
        decoder.head[0].bias.zero_()
    return VAE(GaussianPosterior(mlp.Encoder((2,), (3,)), 2), NormalPrior(2), decoder)


def test_the_manifold_lies_as_it_is_drawn():
    """First latent rightwards, second upwards, at equally spaced quantiles: the corners at those of 0.025 and 0.975."""
    model = identity_decoder()
    found = codes(model, view(data_of(torch.randn(50, 2))))
    with torch.no_grad():
        grid = manifold(model, found, follow_codes=False)
    assert grid.shape == (GRID, GRID, 2)
    edge = 1.959964  # the standard normal's quantile of 0.975
    torch.testing.assert_close(grid[0, 0], torch.tensor([-edge, edge]))  # upper left
    torch.testing.assert_close(grid[-1, -1], torch.tensor([edge, -edge]))  # lower right
    with torch.no_grad():
        following = manifold(model, found, follow_codes=True)
    mean, scale = found.mean.mean(0), found.mean.std(0)
    torch.testing.assert_close(following, mean + scale * grid)


def test_traversals_move_one_dimension_at_a_time():
    model = identity_decoder()
    values = torch.linspace(-3, 3, 7)
    with torch.no_grad():
        lines = traversals(model, 2, values)
    zero = torch.zeros(7)
    torch.testing.assert_close(lines, torch.stack([torch.stack([values, zero], 1), torch.stack([zero, values], 1)]))


def test_traversals_reach_as_far_as_the_codes():
    model = identity_decoder()
    found = codes(model, view(data_of(torch.randn(50, 2))))
    values = traversal_values(found)
    reach = max(2.0, found.z.abs().quantile(0.99, dim=0).max().item())
    assert (len(values), values[-1].item()) == (STEPS, pytest.approx(reach))
    torch.testing.assert_close(values, -values.flip(0))


def test_interpolations_run_from_code_to_code():
    model = identity_decoder()
    found = codes(model, view(data_of(torch.randn(50, 2))))
    with torch.no_grad():
        lines = interpolations(model, found, steps=3)
    torch.testing.assert_close(lines[:, 0], found.mean[:4])
    torch.testing.assert_close(lines[:, 2], found.mean[4:8])
    torch.testing.assert_close(lines[:, 1], (found.mean[:4] + found.mean[4:8]) / 2)


@pytest.mark.parametrize("rank", [1, 2])
def test_fitted_draws_have_the_mean_and_covariance_of_the_codes(rank):
    """Two latents that are copies have a covariance of rank one."""
    z = torch.randn(500, 1).repeat(1, 2) if rank == 1 else torch.randn(500, 2)
    z = z * torch.tensor([1.0, 3.0]) + 5
    noise = torch.randn(20_000, 2)
    noise = (noise - noise.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(noise.T))).T  # exactly white
    draws = Gaussian(z).from_noise(noise)
    torch.testing.assert_close(draws.mean(0), z.mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(torch.cov(draws.T), torch.cov(z.T), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("z", [torch.full((1, 2), 3.0), torch.tensor([[1.0, math.inf], [0.0, 1.0]])])
def test_draws_fitted_to_one_code_or_to_none_that_is_finite(z):
    """One code is a point; of codes that are not finite there is nothing to draw."""
    found = Codes(mean=z, z=z, log_var=None, labels=None, rows=torch.arange(len(z)))
    made = drawn(binary_model(), found, clipped=False)
    assert ("samples-fitted" in made) == bool(z.isfinite().all())
    if "samples-fitted" in made:
        assert Gaussian(z).draw(5, torch.Generator()).equal(z.expand(5, 2))


def test_bytes():
    assert to_bytes(torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0])).tolist() == [0, 0, 128, 255, 255]


# The monitor


def test_the_monitor_weighs_batches_by_their_examples():
    """7 examples in batches of 3, 3 and 1."""
    oracle = linear_gaussian()
    x, labels = examples(oracle, 7), torch.zeros(7, dtype=torch.int64)
    watch = monitor(data_of(x, labels), elbo, batch=3)
    with torch.no_grad():
        line = watch(oracle.model, Identity())
        whole = oracle.model(x, torch.zeros(1, 7, 3))
    assert (line["split"], line["examples"]) == ("test", 7)
    assert line["rate"] == pytest.approx(elbo(whole).example["rate"].mean().item(), rel=1e-5)
    assert line["elbo"] == pytest.approx(-line["loss"], rel=1e-6)
    right = 100 * (whole.base.loc.argmax(-1) == labels).double().mean().item()
    assert line["accuracy/mean"] == pytest.approx(right)
    with torch.no_grad():
        assert watch(oracle.model, Identity()) == line  # the same noise each time


# What a protocol says of codes


@pytest.mark.parametrize(("code", "samples"), [("mean", 0), ("z", 1), ("mean-of-50", 50), ("control: pca-2", 0)])
def test_a_score_of_codes_is_of_one_binarization_and_names_its_samples(code, samples):
    data = data_of(torch.rand(6, 1, 8, 8), binarize="dynamic", copies=3)
    run = run_of(small_run(latent=2), binary_model(), (1, 8, 8))
    held = code_protocol(run, view(data), code=code)
    assert (held.copies, held.samples) == (1, samples)
    assert protocol(run, view(data)).copies == 3


@pytest.mark.parametrize(("old", "new"), [("z", "z"), ("control: noise", "control: noise-2"), ("mean", "mean")])
def test_older_files_state_the_same_score_otherwise(tmp_path, old, new):
    """They gave codes the copies of the bounds, no samples to z, and noise no size: it is one score all the same."""
    five = dataclasses.replace(HELD, code=old, copies=5)
    bound = mean_score("nll", torch.ones(2), "nats", "lower", dataclasses.replace(five, code=""))
    (tmp_path / "old.json").write_text(dump([mean_score("probe/knn", torch.ones(2), "%", "higher", five), bound]))
    read, same = load(tmp_path / "old.json")
    now = dataclasses.replace(HELD, code=new, samples=int(new == "z"))
    assert read.key == mean_score("probe/knn", torch.ones(2), "%", "higher", now).key
    assert same == bound

"""Pairs, information and the shape of the codes: against loops, closed forms and quadrature."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from oracles.configurations import small_run
from oracles.small_data import data_of, run_of
from sklearn.datasets import load_digits
from torch import Tensor
from torch.distributions import Laplace, Normal, kl_divergence

from elboroom import build
from elboroom.config.files import metrics_from
from elboroom.config.metrics import SETS
from elboroom.distributions import DiagonalLaplace, DiagonalNormal, StandardLaplace, StandardNormal
from elboroom.evaluation import information as module
from elboroom.evaluation.evaluate import measure
from elboroom.evaluation.information import (
    dimension_statistics,
    histograms,
    ks_distance,
    pair_statistics,
    posteriors,
    split_rate,
    weighted,
)
from elboroom.evaluation.subject import Subject
from elboroom.models import MixturePrior
from elboroom.objectives import elbo

X = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(1)).round()


def subject_of(tmp_path, x=X, model=None, **config) -> Subject:
    config = small_run(**config)
    model = model or build.model(config, (1, 8, 8), "binary").eval()
    run = run_of(config, model, (1, 8, 8))
    run.__dict__.update(folder=tmp_path, data=data_of(x))
    return Subject(run, keep=False)


def gaussians(n: int, latent: int, spread: float = 1.0, seed: int = 0) -> DiagonalNormal:
    generator = torch.Generator().manual_seed(seed)
    loc, log_var = (torch.randn(n, latent, generator=generator, dtype=torch.float64) for _ in range(2))
    return DiagonalNormal(spread * loc, 0.3 * log_var - 1)


def codes_of(q, k: int, seed: int = 0) -> Tensor:
    noise = q.noise((k, *q.loc.shape), torch.Generator().manual_seed(seed)).double()
    return q.rsample_with_log_prob(noise)[0]


def near(values: Tensor, wanted: float, errors: float = 4.0) -> None:
    """Their mean is within so many of its own standard errors."""
    values = values.flatten()
    error = values.std().item() / math.sqrt(len(values))
    assert abs(values.mean().item() - wanted) < errors * error, (values.mean().item(), wanted, error)


# Pairs


@pytest.mark.parametrize("family", ["gaussian", "laplace"])
@pytest.mark.parametrize("piece", [1, 1 << 23])
def test_pairs_against_loops_in_float64(monkeypatch, family, piece):
    """Mean and unbiased deviation of torch's own divergences, pair by pair."""
    monkeypatch.setattr(module, "PIECE_BYTES", piece)
    loc, width = (torch.randn(7, 3, dtype=torch.float64) for _ in range(2))
    q = {"gaussian": DiagonalNormal, "laplace": DiagonalLaplace}[family](loc, width)
    one = {
        "gaussian": lambda i: Normal(loc[i], (width[i] / 2).exp()),
        "laplace": lambda i: Laplace(loc[i], width[i].exp()),
    }
    each = [one[family](i) for i in range(7)]
    sums = [kl_divergence(a, b).sum().item() for i, a in enumerate(each) for j, b in enumerate(each) if i != j]
    mean, std = pair_statistics(q)
    assert mean.item() == pytest.approx(sum(sums) / 42, rel=1e-12)
    assert std.item() == pytest.approx(math.sqrt(sum((s - mean.item()) ** 2 for s in sums) / 41), rel=1e-12)


def test_pairs_three_controls():
    """All alike: 0. On a line at distance 2: KL is 2, without spread. Doubled dimensions: both double."""
    same = DiagonalNormal(torch.ones(5, 3).double(), torch.zeros(5, 3).double())
    assert [v.item() for v in pair_statistics(same)] == [0, 0]
    two = DiagonalNormal(torch.tensor([[0.0], [2.0]]).double(), torch.zeros(2, 1).double())
    assert [v.item() for v in pair_statistics(two)] == [2, 0]
    q = gaussians(6, 2)
    once, twice = pair_statistics(q), pair_statistics(DiagonalNormal(q.loc.repeat(1, 2), q.log_var.repeat(1, 2)))
    torch.testing.assert_close(torch.stack(twice), 2 * torch.stack(once))


def test_theorem_1_of_the_mean_pairwise_divergence():
    """MPD (B-1)/B = E_x[KL(q(z|x) || q(z)) + KL(q(z) || q(z|x))], by quadrature (Ma et al. 2019, theorem 1)."""
    q = gaussians(5, 1)
    z = torch.linspace(-15, 15, 60_001, dtype=torch.float64)[:, None]
    each = Normal(q.loc[:, 0], (q.log_var[:, 0] / 2).exp()).log_prob(z)
    mixture = torch.logsumexp(each, 1, keepdim=True) - math.log(5)
    wanted = torch.trapezoid((each.exp() - mixture.exp()) * (each - mixture), z, dim=0).mean()
    assert pair_statistics(q)[0].item() * 4 / 5 == pytest.approx(wanted.item(), rel=1e-9)


@pytest.mark.parametrize("weighting", ["batches", "pairs"])
def test_pairs_of_a_run_in_batches_the_last_one_smaller(tmp_path, weighting):
    """60 examples in batches of 25, 25 and 10, in the subject's order."""
    subject = subject_of(tmp_path)
    found = measure(subject, metrics_from(f"{{kind: pairs, batch: 25, weighting: {weighting}}}"))[0].scores
    order, q = subject.permutation(60, "pairs"), posteriors(subject)
    each = [pair_statistics(q.at(order[a:b])) for a, b in ((0, 25), (25, 50), (50, 60))]
    weights = [1, 1, 1] if weighting == "batches" else [600, 600, 90]
    for score, name, values in zip(found, ("mpd", "mpd-std"), zip(*each, strict=True), strict=True):
        assert (score.name, score.unit, score.examples) == (name, "nats", 60)
        assert score.value == pytest.approx(np.average([v.item() for v in values], weights=weights))
        assert weighting in score.protocol.estimator
    plain = np.array([v[0].item() for v in each])
    if weighting == "batches":
        assert found[0].stderr == pytest.approx(plain.std(ddof=1) / math.sqrt(3))


def test_a_last_batch_of_one_has_no_pairs(tmp_path):
    scores = measure(subject_of(tmp_path), metrics_from("{kind: pairs, batch: 59}"))[0].scores
    assert [s.examples for s in scores] == [59, 59]
    assert scores[0].stderr is None
    _, skipped = measure(subject_of(tmp_path, X[:1]), metrics_from("[pairs, information]"))
    assert "one example has no pairs" in skipped["pairs"]
    assert "one example makes no aggregate posterior" in skipped["information"]


def test_weighted():
    """1, 2 and 6 with weights 1, 1, 2: 3.75; its error is the plain one where weights are equal."""
    values = torch.tensor([1.0, 2.0, 6.0]).double()
    assert weighted(values, torch.tensor([1.0, 1.0, 2.0]).double())[0] == 3.75
    assert weighted(values, torch.ones(3).double())[1] == pytest.approx(values.std().item() / math.sqrt(3))
    assert weighted(values[:1], torch.ones(1).double()) == (1.0, None)


# Information: oracles


def entropy(log_density: Tensor, *steps: float) -> float:
    """-∫ q log q over a grid; the sum over a fine grid of a smooth density that has died out is exact to rounding."""
    assert (log_density.exp().sum() * math.prod(steps)).item() == pytest.approx(1, abs=1e-6)
    return -(log_density.exp() * log_density).sum().item() * math.prod(steps)


def quadrature(q, reach: float = 8.0, step: float = 0.04) -> dict[str, float]:
    """The three quantities of the mixture of a few diagonal Gaussians in two dimensions, beside N(0, I)."""
    axis = torch.arange(-reach, reach, step, dtype=torch.float64)
    scale = (q.log_var / 2).exp()
    logs = [Normal(q.loc[:, d], scale[:, d]).log_prob(axis[:, None]) for d in range(2)]  # [grid, n] each
    n = len(q.loc)
    joint = (logs[0].exp() @ logs[1].exp().T / n).clamp_min(1e-300).log()
    marginals = [entropy(torch.logsumexp(log, 1) - math.log(n), step) for log in logs]
    together = entropy(joint, step, step)
    own = 0.5 * (q.log_var + math.log(2 * math.pi) + 1).sum(-1).mean().item()
    cross = 0.5 * (q.loc.square() + q.log_var.exp() + math.log(2 * math.pi)).sum(-1).mean().item()
    return {
        "mutual_information": together - own,
        "total_correlation": sum(marginals) - together,
        "aggregate_kl": cross - together,
        "dimension_kl": cross - sum(marginals),
    }


def train(steps: int = 300) -> tuple[torch.nn.Module, Tensor]:
    """A VAE of two latents after a second of training on digits, and 150 of them."""
    x = torch.tensor(load_digits().images, dtype=torch.float32)[:, None].div(16).round()
    torch.manual_seed(0)
    model = build.model(small_run(), (1, 8, 8), "binary")
    adam = torch.optim.Adam(model.parameters(), 2e-2)
    for step in range(steps):
        batch = x[step * 64 % 1400 :][:64]
        adam.zero_grad()
        elbo(model(batch, torch.randn(1, 64, 2))).loss.backward()
        adam.step()
    return model.eval(), x[-150:]


def test_a_trained_model_of_two_latents_against_quadrature(tmp_path):
    """Information, total correlation and both divergences from the prior, each within its stated error."""
    model, x = train()
    subject = subject_of(tmp_path, x, model)
    scores = {s.name: s for s in measure(subject, metrics_from("information"))[0].scores}
    wanted = quadrature(posteriors(subject))
    assert wanted["mutual_information"] > 1  # it has learned something
    for name, value in wanted.items():
        score = scores[name.replace("_", "-")]
        assert score.unit == "nats"
        assert score.examples == 150
        assert abs(score.value - value) < 3 * score.stderr, (name, score.value, value, score.stderr)
        assert score.stderr < 0.1
    assert scores["mutual-information"].protocol.samples == 13
    assert (
        "mixture of 150 posteriors, at codes of 150 images, at most log 150"
        in scores["mutual-information"].protocol.estimator
    )
    assert [
        scores[f"{name}/leave-one-out"].protocol.estimator.split()[-1]
        for name in ("mutual-information", "aggregate-kl")
    ] == ["above", "below"]


def test_few_gaussians_in_two_dimensions_against_quadrature():
    """Far more codes than examples: within the error of the codes alone."""
    q = gaussians(6, 2)
    parts, _ = split_rate(q, codes_of(q, 3000), StandardNormal(2))
    for name, wanted in quadrature(q).items():
        near(getattr(parts, name).mean(1), wanted)


def test_few_laplace_posteriors_against_quadrature():
    loc = torch.tensor([[-2.0], [0.3], [1.5]]).double()
    q = DiagonalLaplace(loc, torch.tensor([[-0.5], [-1.5], [0.2]]).double())
    z = torch.linspace(-40, 40, 400_001, dtype=torch.float64)
    each = torch.stack([Laplace(m, s).log_prob(z) for m, s in zip(loc[:, 0], q.log_scale[:, 0].exp(), strict=True)])
    mixture = torch.logsumexp(each, 0) - math.log(3)
    prior = Laplace(0.0, 1.0).log_prob(z)
    parts, _ = split_rate(q, codes_of(q, 3000), StandardLaplace(1))
    near(parts.mutual_information.mean(1), torch.trapezoid(each.exp() * (each - mixture), z).mean().item())
    near(parts.aggregate_kl.mean(1), torch.trapezoid(mixture.exp() * (mixture - prior), z).item())
    torch.testing.assert_close(parts.dimension_kl, parts.aggregate_kl)  # one dimension
    torch.testing.assert_close(parts.total_correlation, torch.zeros(3000, 3).double())


@pytest.mark.parametrize(("n", "gap"), [(20, 1.5), (400, 0.15)])
def test_the_information_of_a_population_lies_between_the_two_estimates(n, gap):
    """x ~ N(0, I₂), q(z|x) = N(2x, I): q(z) = N(0, 5 I) and I = log 5, from the same codes; more of them close in."""
    below, above, known = [], [], []
    for seed in range(800 // n):
        x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        q = DiagonalNormal(2 * x, torch.zeros_like(x))
        z = codes_of(q, 8, seed)
        inside, outside = split_rate(q, z)
        below.append(inside.mutual_information.mean().item())
        above.append(outside.mutual_information.mean().item())
        known.append((q.log_prob(z) - Normal(0, math.sqrt(5)).log_prob(z).sum(-1)).mean().item())
    assert np.mean(known) == pytest.approx(math.log(5), abs=0.1)
    assert np.mean(below) < np.mean(known) < np.mean(above) < np.mean(below) + gap


def test_total_correlation_of_a_correlated_gaussian():
    """x ~ N(0, S) with correlation 0.9, q(z|x) = N(x, 0.25): -log det R / 2 of the correlation R of the codes."""
    correlation = 0.9 / 1.25
    wanted = -0.5 * math.log(1 - correlation**2)
    root = torch.linalg.cholesky(torch.tensor([[1.0, 0.9], [0.9, 1.0]]).double())
    x = torch.randn(1500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ root.T
    q = DiagonalNormal(x, torch.full_like(x, math.log(0.25)))
    inside, outside = split_rate(q, codes_of(q, 1))
    near(inside.total_correlation, wanted)
    assert outside.total_correlation.mean() < inside.total_correlation.mean() < wanted + 0.05


def test_total_correlation_is_0_where_codes_factorize():
    """Means on a product grid: the mixture is the product of its two marginals."""
    axis = torch.tensor([-2.0, -0.5, 0.1, 1.0, 3.0]).double()
    q = DiagonalNormal(torch.cartesian_prod(axis, axis), torch.full((25, 2), -2.0).double())
    inside, _ = split_rate(q, codes_of(q, 20))
    torch.testing.assert_close(inside.total_correlation, torch.zeros(20, 25).double(), rtol=0, atol=1e-12)


def test_a_collapsed_posterior_tells_nothing():
    """All posteriors are N(0.5, e^-1): no information, no correlation, and the aggregate is any of them."""
    q = DiagonalNormal(torch.full((40, 3), 0.5).double(), torch.full((40, 3), -1.0).double())
    z = codes_of(q, 50)
    for parts in split_rate(q, z, StandardNormal(3)):
        torch.testing.assert_close(parts.mutual_information, torch.zeros(50, 40).double(), rtol=0, atol=1e-12)
        torch.testing.assert_close(parts.total_correlation, torch.zeros(50, 40).double(), rtol=0, atol=1e-12)
        near(parts.aggregate_kl, 3 * 0.5 * (0.25 + math.exp(-1) + 1 - 1))


def test_posteriors_far_apart_tell_log_n_and_no_more():
    """Each code is its own example's for sure; without its own posterior the mixture knows nothing of it."""
    q = DiagonalNormal(1e4 * torch.arange(50).double()[:, None].expand(50, 2), torch.zeros(50, 2).double())
    inside, outside = split_rate(q, codes_of(q, 3), StandardNormal(2))
    torch.testing.assert_close(inside.mutual_information, torch.full((3, 50), math.log(50)).double())
    torch.testing.assert_close(
        inside.total_correlation, torch.full((3, 50), math.log(50)).double()
    )  # one dimension tells
    assert (outside.mutual_information > 1e6).all()


def test_duplicated_latents_are_correlated_and_tell_a_little_more():
    """The same code twice, each with its own noise."""
    q = gaussians(8, 1)
    twice = DiagonalNormal(q.loc.repeat(1, 2), q.log_var.repeat(1, 2))
    once, both = (split_rate(p, codes_of(p, 500))[0] for p in (q, twice))
    assert once.total_correlation.abs().max() < 1e-12
    assert both.total_correlation.mean() > 0.3
    assert once.mutual_information.mean() < both.mutual_information.mean() < 2 * once.mutual_information.mean()


@pytest.mark.parametrize("piece", [1, 3000, 1 << 23])
def test_the_rate_is_the_sum_of_its_parts_whatever_the_pieces(monkeypatch, piece):
    """At every code, for both mixtures; and codes of the first examples need no more than those."""
    monkeypatch.setattr(module, "PIECE_BYTES", piece)
    q, p = gaussians(30, 3), StandardNormal(3)
    z = codes_of(q, 2)[:, :10]
    rate = q.at(torch.arange(10)).log_prob(z) - p.log_prob(z)
    for parts in split_rate(q, z, p):
        torch.testing.assert_close(parts.mutual_information + parts.aggregate_kl, rate, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            parts.total_correlation + parts.dimension_kl, parts.aggregate_kl, rtol=1e-5, atol=1e-5
        )
    loop = torch.stack([torch.stack([q.log_prob(z[i, j].expand(30, 3)) for j in range(10)]) for i in range(2)])
    inside, outside = split_rate(q, z, p)
    own = q.at(torch.arange(10)).log_prob(z)
    torch.testing.assert_close(inside.mutual_information, own - torch.logsumexp(loop, 2) + math.log(30))
    loop[:, torch.arange(10), torch.arange(10)] = -math.inf
    torch.testing.assert_close(outside.mutual_information, own - torch.logsumexp(loop, 2) + math.log(29))


def test_a_learned_prior_has_no_dimension_wise_part(tmp_path):
    """Its dimensions depend on each other, so the KL to it does not come apart."""
    scores = [s.name for s in measure(subject_of(tmp_path), metrics_from("information"))[0].scores]
    assert "dimension-kl" in scores
    assert "dimension-kl/leave-one-out" in scores
    subject = subject_of(tmp_path)
    subject.model.prior = MixturePrior(2)
    scores = {s.name: s for s in measure(subject, metrics_from("information"))[0].scores}
    assert "dimension-kl" not in scores
    assert math.isfinite(scores["aggregate-kl"].value)


def test_fewer_codes_than_examples_and_fewer_posteriors(tmp_path):
    chosen = metrics_from("{kind: information, samples: 20, components: 40}")
    score = measure(subject_of(tmp_path), chosen)[0].scores[0]
    assert (score.examples, score.protocol.samples, score.protocol.code) == (20, 1, "z")
    assert "mixture of 40 posteriors" in score.protocol.estimator


@pytest.mark.parametrize(
    ("posterior", "objective", "why"),
    [("point", "reconstruction", "has no density"), ("uniform", "elbo", "its logarithm is infinite")],
)
@pytest.mark.parametrize("kind", ["pairs", "information"])
def test_posteriors_without_densities_are_refused(tmp_path, kind, posterior, objective, why):
    subject = subject_of(tmp_path, posterior=posterior, objective=objective)
    _, skipped = measure(subject, metrics_from(kind))
    assert why in skipped[kind]
    assert "posterior gaussian or laplace" in skipped[kind]


def test_laplace_runs_have_pairs_and_information(tmp_path):
    subject = subject_of(tmp_path, posterior="laplace")
    q = posteriors(subject)
    with torch.no_grad():
        torch.testing.assert_close(q.log_scale.float(), subject.model.encoder(X).log_scale, rtol=1e-4, atol=1e-5)
    scores = {s.name: s.value for s in measure(subject, metrics_from("[pairs, information]"))[0].scores}
    assert all(math.isfinite(v) for v in scores.values())
    assert scores["mutual-information"] <= scores["mutual-information/leave-one-out"]


# Dimensions


def test_ks_distance_against_scipy():
    z = torch.randn(200, 3, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.1]) + torch.tensor([0.0, 0.5, 0.0])
    wanted = [scipy.stats.kstest(column.numpy(), "norm").statistic for column in z.T]
    torch.testing.assert_close(ks_distance(z), torch.tensor(wanted))


def test_moments_against_scipy():
    z = torch.randn(500, 2, dtype=torch.float64).exp()
    found = dimension_statistics(z)
    assert found["skewness"].tolist() == pytest.approx(scipy.stats.skew(z.numpy()))
    assert found["excess-kurtosis"].tolist() == pytest.approx(scipy.stats.kurtosis(z.numpy()))
    own = [scipy.stats.kstest(c.numpy(), "norm", (c.mean().item(), c.std().item())).statistic for c in z.T]
    assert found["ks-own-gaussian"].tolist() == pytest.approx(own)


def test_three_controls_of_the_distance_from_a_gaussian():
    """Exact quantiles: 1/2n. A constant at 0: 1/2, and no shape. Duplicates: the same twice."""
    quantiles = torch.special.ndtri((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)
    z = torch.stack([quantiles, torch.zeros_like(quantiles), quantiles], 1)
    found = dimension_statistics(z)
    assert found["ks"].tolist() == pytest.approx([0.0005, 0.5, 0.0005])
    assert found["skewness"].isnan().tolist() == [False, True, False]
    assert found["ks-own-gaussian"].isnan().tolist() == [False, True, False]


def test_histograms_against_numpy_and_of_a_constant():
    z = torch.randn(300, 2, dtype=torch.float64)
    counts, edges = histograms(torch.cat([z, torch.ones(300, 1)], 1), 11)
    for d in range(2):
        wanted, places = np.histogram(z[:, d].numpy(), 11)
        assert counts[d].tolist() == wanted.tolist()
        np.testing.assert_allclose(edges[d].numpy(), places)
    assert counts[2].tolist() == [300] + [0] * 10


def test_dimensions_of_a_run(tmp_path):
    subject = subject_of(tmp_path)
    found = measure(subject, metrics_from("dimensions"))[0]
    z, arrays = subject.codes().z.double(), found.arrays["dimensions"]
    values = {s.name: s.value for s in found.scores}
    assert values["codes/mean-abs"] == pytest.approx(z.mean(0).abs().mean().item())
    assert values["codes/std-mean"] == pytest.approx(z.std(0).mean().item())
    assert values["codes/ks"] == pytest.approx(arrays["ks"].mean().item())
    assert arrays["counts"].sum(1).tolist() == [60, 60]
    assert arrays["edges"].shape == (2, 51)
    with torch.no_grad():
        rate = elbo(subject.model(X, torch.zeros(1, 60, 2))).example["rate"].double()
    assert arrays["rate"].sum().item() == pytest.approx(rate.mean().item(), rel=1e-4)
    assert all(v.is_contiguous() for v in arrays.values())


def test_a_point_posterior_has_dimensions_without_a_rate(tmp_path):
    found = measure(subject_of(tmp_path, posterior="point", objective="reconstruction"), metrics_from("dimensions"))[0]
    assert "rate" not in found.arrays["dimensions"]
    assert len(found.scores) == 3


def test_they_belong_to_the_standard_set():
    kinds = [m["kind"] for m in SETS["standard"]]
    assert {"pairs", "information", "dimensions"} <= set(kinds) <= {m["kind"] for m in SETS["full"]}

"""The Fréchet distance and the confidence of a classifier, against closed forms and loops written out."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from oracles.copying import blobs, copying, subject_of
from oracles.small_data import data_of
from torch import nn

from elboroom import build
from elboroom.config.files import metrics_from
from elboroom.config.metrics import Frechet
from elboroom.errors import InputError
from elboroom.evaluation import generation
from elboroom.evaluation.classifiers import FEATURES, WEAK, Classifier, classifier
from elboroom.evaluation.evaluate import measure
from elboroom.evaluation.generation import (
    CONTROL,
    confidence,
    decoded,
    frechet,
    frechet_distance,
    matrix_sqrt,
    moments,
    over,
)
from elboroom.models import VAE, BernoulliLikelihood, NormalPrior, PointPosterior
from elboroom.networks import mlp

X, LABELS = blobs()


def covariance(d: int, seed: int, rank: int | None = None) -> torch.Tensor:
    a = torch.randn(d, rank or d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a @ a.T


# The distance itself


@pytest.mark.parametrize("seed", range(3))
def test_the_root_is_scipys(seed):
    s = covariance(8, seed)
    np.testing.assert_allclose(matrix_sqrt(s).numpy(), scipy.linalg.sqrtm(s.numpy()).real, atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_the_distance_is_that_of_the_textbook_formula(seed):
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) with scipy's root of the product, which is not symmetric."""
    s1, s2 = covariance(7, seed), covariance(7, seed + 10)
    m1, m2 = torch.randn(2, 7, dtype=torch.float64)
    root = scipy.linalg.sqrtm((s1 @ s2).numpy()).real
    expected = (m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * np.trace(root)
    assert frechet_distance(m1, s1, m2, s2) == pytest.approx(float(expected), rel=1e-9)


def test_two_diagonal_gaussians():
    """sum (m1 - m2)^2 + (s1 - s2)^2 = 9 + 16 + 1 + 4."""
    d = frechet_distance(
        torch.tensor([3.0, 0]),
        torch.diag(torch.tensor([4.0, 1])),
        torch.tensor([0.0, 4]),
        torch.diag(torch.tensor([9.0, 9])),
    )
    assert d == pytest.approx(9 + 16 + 1 + 4, rel=1e-12)


@pytest.mark.parametrize("rank", [6, 2, 1])
def test_nothing_is_between_a_thing_and_itself(rank):
    """Of any rank: the roots of rounded zeros, 1e-8 each, do not show."""
    m, s = torch.randn(6), covariance(6, 0, rank) * 1e3
    assert 0 <= frechet_distance(m, s, m, s) < 1e-9


def test_turning_both_changes_nothing_and_turning_one_does():
    x, y = torch.randn(500, 5).double() * torch.arange(1, 6), torch.randn(400, 5).double() + 1
    q, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    plain = frechet_distance(*moments(x), *moments(y))
    assert frechet_distance(*moments(x @ q), *moments(y @ q)) == pytest.approx(plain, rel=1e-9)
    assert frechet_distance(*moments(y), *moments(x)) == pytest.approx(plain, rel=1e-9)
    assert abs(frechet_distance(*moments(x @ q), *moments(x))) > 1


def test_all_the_same_image_costs_the_spread_of_the_others():
    """A point against N(m, S): |m - c|^2 + tr S."""
    m, s, c = torch.randn(4), covariance(4, 1), torch.ones(4)
    expected = (m - c).double().square().sum() + s.trace()
    assert frechet_distance(m, s, c, torch.zeros(4, 4)) == pytest.approx(float(expected), rel=1e-9)


def test_few_examples_have_a_higher_distance():
    """Two samples of one Gaussian: the bias falls about as 1/n."""
    torch.manual_seed(3)
    few, more = (
        np.mean([frechet_distance(*moments(torch.randn(n, 8)), *moments(torch.randn(n, 8))) for _ in range(30)])
        for n in (100, 400)
    )
    assert few / more == pytest.approx(4, rel=0.2)


def test_nan_is_reported():
    m, s = torch.zeros(2), torch.eye(2)
    assert math.isnan(frechet_distance(m, s, m, s * float("nan")))
    assert math.isnan(frechet_distance(m, s, torch.tensor([0, float("inf")]), s))


# The metric: perfect, constant and duplicated codes


def by_code(found):
    return {s.protocol.code: s for s in found.scores if s.name == "fd"}


def on(tmp_path, model, **more):
    return subject_of(tmp_path, model, X, LABELS, cache=tmp_path.parent / "cache", **more)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    return by_code(frechet(on(tmp_path_factory.mktemp("a"), copying(6))))


def test_a_perfect_autoencoder_reconstructs_at_no_distance(copied):
    assert list(copied) == [CONTROL, "reconstructions", "gaussian", "mixture", "prior"]
    assert copied["reconstructions"].value < 1e-5
    assert copied[CONTROL].value < 1e-9  # the same examples are in train and test here


def test_a_mixture_finds_blobs_where_a_gaussian_lies_between_and_the_prior_elsewhere(tmp_path):
    x, labels = blobs(1000, apart=12)
    values = by_code(frechet(subject_of(tmp_path, copying(6), x, labels)))
    assert 3 * values["mixture"].value < values["gaussian"].value < values["prior"].value


def test_a_constant_decoder_costs_the_spread_and_the_offset(tmp_path):
    """In closed form from the features of the 200 images and of the constant one."""
    found = on(tmp_path, copying(6, constant=X[0]))
    network = classifier(found, FEATURES).network
    with torch.no_grad():
        f, c = network.features(X).double(), network.features(X[:1])[0].double()
    expected = (f.mean(0) - c).square().sum() + torch.cov(f.T).trace()
    values = [s.value for code, s in by_code(frechet(found)).items() if code != CONTROL]
    assert values == pytest.approx([float(expected)] * 4, rel=1e-5)


def test_duplicated_codes_change_nothing(tmp_path, copied):
    double = by_code(frechet(on(tmp_path, copying(6, copies=2))))
    assert double["reconstructions"].value < 1e-5
    assert double["gaussian"].value == pytest.approx(copied["gaussian"].value, rel=0.5)  # other draws of 200


def test_the_protocol_says_what_was_compared(tmp_path):
    found = on(tmp_path, copying(6))
    judge = classifier(found, FEATURES)
    scores = frechet(found, images=100).scores
    assert {s.protocol.classifier for s in scores} == {judge.hash}
    fd = by_code(frechet(found, images=100))["prior"]
    assert (fd.better, fd.examples, fd.stderr) == ("lower", 100, None)
    assert fd.protocol.estimator.startswith("Gaussian fits to features of 100 images; means of p(x|z)")
    assert scores[0].name == "fd/accuracy"
    assert scores[0].value > 90


def test_the_control_is_computed_once(tmp_path, monkeypatch):
    found, calls = subject_of(tmp_path, copying(6), X, LABELS, cache=tmp_path / "c"), []
    monkeypatch.setattr(generation, "_control", lambda *a: calls.append(1) or 2.5)
    values = [by_code(frechet(found, images=n))[CONTROL].value for n in (50, 50, 60)]
    assert (values, len(calls)) == ([2.5] * 3, 2)


def binary_subject(tmp_path):
    """Images of probabilities 0.2 and 0.8, dynamically binarized, and a decoder that gives these probabilities."""
    p = torch.where(torch.arange(300)[:, None] % 2 == 0, 0.2, 0.8).expand(300, 12).reshape(300, 1, 3, 4).clone()
    encoder, decoder = PointPosterior(mlp.Encoder((1, 3, 4), hidden=()), 12), mlp.Decoder(12, (1, 3, 4), hidden=())
    likelihood = BernoulliLikelihood(decoder, (1, 3, 4))
    with torch.no_grad():
        encoder.head.weight.copy_(torch.eye(12))
        encoder.head.bias.zero_()
        likelihood.head[0].weight.copy_(2 * math.log(4) / 1 * torch.eye(12))  # z = 0 and 1: logits -log 4 and log 4
        likelihood.head[0].bias.fill_(-math.log(4))
    found = subject_of(tmp_path, VAE(encoder, NormalPrior(12), likelihood).eval(), p, torch.arange(300) % 2)
    found.data.__dict__.update(data_of(p, torch.arange(300) % 2, binarize="dynamic").__dict__)
    return found


def test_means_are_compared_before_binarization_and_draws_after_it(tmp_path):
    """A decoder of p(x|z) that gives p = 0.2 for a 0 and 0.8 for a 1 adds noise, as a binarization does."""
    found = binary_subject(tmp_path)
    seen = found.data.test
    every = torch.arange(300)
    before = torch.cat(list(generation.originals(seen, every, "mean")))
    after = torch.cat(list(generation.originals(seen, every, "sample")))
    assert before.unique().tolist() == pytest.approx([0.2, 0.8])
    assert set(after.unique().tolist()) == {0.0, 1.0}
    z = after.flatten(1)
    means, draws = (torch.cat(list(decoded(found.model, z, pixels))) for pixels in ("mean", "sample"))
    assert means.unique().tolist() == pytest.approx([0.2, 0.8], abs=1e-6)
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert draws.mean().item() == pytest.approx(means.mean().item(), abs=0.03)
    held = {p: by_code(frechet(found, pixels=p))["prior"].protocol for p in ("mean", "sample")}
    assert (held["mean"].binarization, held["sample"].binarization) == ("none", "dynamic, seed 0")
    assert held["sample"].differences(held["mean"]).keys() == {"binarization", "estimator"}


def test_draws_of_pixels_are_the_same_each_time_and_leave_the_global_generator_alone(tmp_path):
    found = binary_subject(tmp_path)
    z = torch.rand(600, 12)
    before = torch.get_rng_state()
    first, again = (torch.cat(list(decoded(found.model, z, "sample"))) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(decoded_part(found, z, 0), decoded_part(found, z, 1))
    assert torch.equal(torch.get_rng_state(), before)


def decoded_part(found, z, i):
    """Of the same codes in the first and the second batch, what is drawn."""
    same = z[:5].repeat(2, 1)
    return list(decoded(found.model, same, "sample", size=5))[i]


def test_without_labels_both_metrics_are_skipped_with_the_reason(tmp_path):
    found = subject_of(tmp_path, copying(6), X, None)
    result, skipped = measure(found, metrics_from("frechet, confidence"))
    assert result.scores == []
    assert all("has no labels" in skipped[kind] for kind in ("frechet", "confidence"))


def test_one_image_is_no_distribution(tmp_path):
    with pytest.raises(InputError, match="10,000 are asked for, 1 to score, 1 of training"):
        frechet(subject_of(tmp_path, copying(6), X[:1], LABELS[:1]))


# Confidence


class Sure(nn.Module):
    """Logits (10 x_1, 0): a probability of sigmoid(|10 x_1|) for the likelier of two classes."""

    def forward(self, x):
        return torch.stack([10 * x[:, 0], torch.zeros(len(x))], dim=1)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(generation, "classifier", lambda subject, recipe: Classifier(Sure(), "toy"))


def test_confidence_by_hand(toy, tmp_path):
    """Baseline: mean of sigmoid(10 |x_1|). A constant decoder of x_1 = 0.1 has sigmoid(1) everywhere."""
    constant = torch.tensor([0.1, 0, 0, 0, 0, 0])
    found = {s.name: s for s in confidence(on(tmp_path, copying(6, constant=constant)), images=500).scores}
    baseline = (1 / (1 + np.exp(-10 * np.abs(X[:, 0].double().numpy())))).mean()
    assert found["confidence/baseline"].value == pytest.approx(baseline, rel=1e-6)
    ratio = 1 / (1 + math.exp(-1)) / baseline
    for name, n, code in (
        ("samples", 500, "prior"),
        ("reconstructions", 200, "z"),
        ("mean-reconstructions", 200, "mean"),
    ):
        score = found[f"confidence/{name}"]
        assert (score.value, score.stderr) == (pytest.approx(ratio, rel=1e-6), pytest.approx(0, abs=1e-9))
        assert (score.examples, score.protocol.code, score.protocol.classifier) == (n, code, "toy")
    right = ((X[:, 0] > 0).long() != LABELS).double().mean()  # class 0 where the first logit is the larger
    assert found["classifier/accuracy"].value == pytest.approx(100 * right.item())


def test_perfect_and_duplicated_codes_have_the_confidence_of_the_images(toy, tmp_path):
    for copies in (1, 2):
        found = {
            s.name: s for s in confidence(on(tmp_path / str(copies), copying(6, copies=copies)), images=200).scores
        }
        assert found["confidence/reconstructions"].value == pytest.approx(1, abs=1e-6)
        assert found["confidence/mean-reconstructions"].value == pytest.approx(1, abs=1e-6)


def test_samples_of_a_fitted_density_are_said_to_be_that(toy, tmp_path):
    found = on(tmp_path, copying(6))
    by_density = {
        d: next(s for s in confidence(found, density=d, images=2000).scores if s.name == "confidence/samples")
        for d in ("prior", "gaussian", "mixture")
    }
    assert {s.protocol.code for s in by_density.values()} == set(by_density)
    assert by_density["mixture"].value == pytest.approx(1, abs=0.03)
    assert len({s.value for s in by_density.values()}) == 3


def test_both_metrics_are_made_from_their_configuration(tmp_path, monkeypatch):
    monkeypatch.setattr("elboroom.evaluation.generation.WEAK", dataclasses.replace(WEAK, least_steps=0))
    found, skipped = measure(on(tmp_path, copying(6)), metrics_from("[{kind: frechet, images: 100}, confidence]"))
    names = [s.name for s in found.scores]
    assert (names.count("fd"), skipped) == (5, {})
    assert {"fd/accuracy", "classifier/accuracy", "confidence/baseline", "confidence/samples"} <= set(names)
    assert build.named(Frechet.builds) is frechet


def test_what_is_looked_at_in_batches_is_in_order():
    found = over(lambda x: x[:, 0], (torch.arange(5.0)[:, None] + i for i in (0, 5)))
    assert (found.tolist(), found.dtype) == (list(range(10)), torch.float64)

"""Probes: codes whose accuracy is known, numbers by hand, and what cannot be had."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from oracles.configurations import small_run
from oracles.encoded import LABELS, SKEWED, Encoded, blurred, one_hot
from oracles.small_data import data_of, run_of
from sklearn.linear_model import LogisticRegression

from elboroom import build
from elboroom.config import run_from
from elboroom.config.files import metrics_from
from elboroom.config.metrics import Knn, Probe
from elboroom.data import Data, Examples, load
from elboroom.errors import InputError
from elboroom.evaluation.controls import MOST_PIXELS, Labelled, images
from elboroom.evaluation.evaluate import measure
from elboroom.evaluation.probes import (
    Learner,
    LinearSgd,
    Logistic,
    Network,
    Plan,
    Subset,
    fit,
    knn,
    logistic,
    nearest_neighbours,
    probe,
    right,
    row_of,
    subset,
    svm,
)
from elboroom.evaluation.subject import Subject

FAST = {"labels": (20, None), "repetitions": 2, "controls": ()}
PROBES = {
    "knn": "knn",
    "logistic": "logistic",
    "logistic-sgd": "logistic-sgd",
    "svm": "svm",
    "svm-linear": "{kind: svm, kernel: linear}",
    "mlp": "{kind: mlp, epochs: 20, lr: 0.001, batch: 120}",
}


def values(found, **protocol):
    """The accuracies under a protocol."""
    wanted = protocol.items()
    return [
        s.value
        for s in found.scores
        if s.name != "probe/rarest-class" and all(getattr(s.protocol, k) == v for k, v in wanted)
    ]


def measured(subject, text, **changes):
    (metric,) = metrics_from(text)
    return measure(subject, [dataclasses.replace(metric, **changes)])


# codes whose accuracy is known, by every probe


@pytest.mark.parametrize("text", PROBES.values(), ids=PROBES)
def test_perfect_codes_are_read_without_error(text):
    found, skipped = measured(Encoded(one_hot(), one_hot(seed=1)), text, **{**FAST, "labels": (None,)})
    assert not skipped
    assert values(found) == [100.0] * len(values(found))
    assert len(values(found)) in (1, 2)


@pytest.mark.parametrize("text", PROBES.values(), ids=PROBES)
def test_constant_codes_give_one_class_for_all(text):
    """One answer whatever the image is: the share of a class. Of probes that see class sizes, of the largest."""
    found, _ = measured(Encoded(torch.full((120, 3), 0.7), labels=SKEWED), text, **{**FAST, "labels": (None,)})
    (value,) = values(found, scaling="raw")
    shares = {50.0, 100 / 3, 50 / 3} if "knn" in text else {50.0}
    assert any(value == pytest.approx(share) for share in shares)
    assert not values(found, scaling="standardized")


def test_constant_codes_cannot_be_standardized_and_the_note_says_so():
    found, _ = measured(Encoded(torch.ones(120, 2), labels=SKEWED), "knn", **FAST)
    (note,) = {n for where, n in found.notes.items() if "standardized" in where}
    assert "constant" in note


def test_a_dimension_that_does_not_vary_standardizes_to_zero():
    codes = np.array([[1.0, 5.0], [3.0, 5.0]], dtype=np.float32)
    scaled = Labelled(codes, np.array([0, 1]), codes + 1, np.array([0, 1])).standardized()
    np.testing.assert_allclose(scaled.train, [[-1, 0], [1, 0]])
    np.testing.assert_allclose(scaled.test, [[0, 1], [2, 1]])


def test_duplicated_codes_change_no_neighbour():
    """Distances all grow by sqrt 2, and weights 1/distance shrink by it."""
    train, test = blurred(), blurred(seed=1)
    once = knn(Encoded(train, test), **FAST)
    twice = knn(Encoded(train.repeat(1, 2), test.repeat(1, 2)), **FAST)
    assert values(once) == values(twice)
    assert all(a.equal(b) for a, b in zip(once.examples.values(), twice.examples.values(), strict=True))


def test_duplicated_codes_nearly_leave_logistic_regression():
    """The penalty halves: w = (w', w') has half the norm of (2 w'). Few answers change."""
    train, test = blurred(), blurred(seed=1)
    once = logistic(Encoded(train, test), **FAST)
    twice = logistic(Encoded(train.repeat(1, 2), test.repeat(1, 2)), **FAST)
    np.testing.assert_allclose(values(once), values(twice), atol=4)


# numbers by hand


def test_votes_of_neighbours_by_hand():
    """Codes on a line. 1.0 is 1 from 0 (class 0) and from 2 (class 1), 0.5 from 1.5 (class 1): 1 against 1 + 2.
    -1.0 is 1 from 0 (class 0), 2.5 and 3 from the others: 1 against 0.4 + 1/3. 0.1: 10 against 1/1.4 + 1/1.9."""
    train = np.array([[0.0], [2.0], [1.5], [9.0]], dtype=np.float32)
    test = np.array([[1.0], [-1.0], [0.1]], dtype=np.float32)
    codes = Labelled(train, np.array([0, 1, 1, 0]), test, np.array([1, 0, 0]))
    found = fit(nearest_neighbours(3), codes, Subset(np.arange(4)))
    assert right(found, codes).tolist() == [True, True, True]
    unweighted = dataclasses.replace(codes, test_labels=np.array([1, 1, 1]))  # what a plain vote of three would say
    assert right(found, unweighted).tolist() == [True, False, False]


def test_logistic_regression_minimizes_the_penalized_cross_entropy():
    """The gradient of C sum CE + |W|²/2 by W vanishes, written out here."""
    x, y = blurred().numpy(), LABELS.numpy()
    fitted = Logistic(C=0.5).fit(x, y)
    p = np.exp(x @ fitted.coef_.T + fitted.intercept_)
    p = p / p.sum(1, keepdims=True) - np.eye(3)[y]
    gradient = 0.5 * p.T @ x + fitted.coef_
    assert abs(gradient).max() / (0.5 * len(x)) < 2e-4  # the tolerance of L-BFGS, on the mean


def test_deviation_is_of_the_population_and_one_fit_is_binomial():
    """50 % and 100 %: mean 75, population deviation 25. One fit of 3 in 4: sqrt(0.75 * 0.25 / 4)."""
    half, all_ = np.array([True, False]), np.array([True, True])
    assert dataclasses.astuple(row_of([half, all_])) == (75.0, 25.0, 0)
    row = row_of([np.array([True, True, False, True])])
    assert (row.value, row.error) == (75.0, pytest.approx(100 * (0.75 * 0.25 / 4) ** 0.5))


def test_the_program_s_sgd_finds_the_optimum_of_the_same_loss():
    """Its last steps are small: accuracy on overlapping classes is that of regression without penalty."""
    labels = torch.arange(1200) % 3
    x, y = blurred(labels=labels).numpy(), labels.numpy()
    sgd = LinearSgd(0).fit(x[100:], y[100:], x[:100], y[:100])
    exact = LogisticRegression(C=1e6).fit(x[100:], y[100:])
    assert np.mean(sgd.predict(x) == exact.predict(x)) > 0.95


def test_the_gradient_of_a_step_of_sgd():
    """Against torch's autograd, for cross-entropy summed over the batch."""
    x, y = blurred().numpy().astype(np.float64), LABELS.numpy()
    model = LinearSgd(0)
    model._weight, model._bias = np.full((3, 3), 0.3) + np.eye(3), np.array([0.1, 0.2, -0.1])
    weight, bias = (torch.tensor(v, requires_grad=True) for v in (model._weight, model._bias))
    torch.nn.functional.cross_entropy(torch.tensor(x) @ weight + bias, LABELS, reduction="sum").backward()
    model._descend(x, y, 0.01)
    np.testing.assert_allclose(model._weight, (weight - 0.01 * weight.grad).detach())
    np.testing.assert_allclose(model._bias, (bias - 0.01 * bias.grad).detach())


def test_when_the_program_halves_its_rate_and_stops():
    """Accuracy that never rises after the first check: checks 4 to 7 are the third to sixth without a new best, and
    each halves; the fourth halving ends it, at step 3,500."""
    rates = []

    class Frozen(LinearSgd):
        def _descend(self, x, targets, rate):
            rates.append(rate)

    x, y = one_hot().numpy(), LABELS.numpy()
    Frozen(0).fit(x, y, x, y)
    assert len(rates) == 3500
    assert [k for k, _ in itertools.groupby(rates)] == [0.01, 0.005, 0.0025, 0.00125]
    assert rates[1999:2001] == [0.01, 0.005]


def test_a_network_follows_from_its_seed_and_leaves_the_global_generator():
    x, y = blurred().numpy(), LABELS.numpy()
    before = torch.random.get_rng_state()
    first, again, other = (Network(seed, epochs=1).fit(x, y) for seed in (0, 0, 1))
    assert torch.random.get_rng_state().equal(before)
    weights = [next(n._network.parameters()) for n in (first, again, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


# which labels


def test_the_first_of_an_order_and_the_end_held_out():
    order = np.arange(59, -1, -1)
    assert subset(np.zeros(60, dtype=int), order, 3).chosen.tolist() == [59, 58, 57]
    found = subset(np.zeros(60, dtype=int), order, None, held_out=1 / 30)
    assert found.held_out.tolist() == list(range(29, -1, -1))  # a thirtieth would be two: too few to stop by
    assert found.chosen.tolist() == list(range(59, 29, -1))
    assert len(subset(np.zeros(1500, dtype=int), np.arange(1500), 100, held_out=1 / 30).held_out) == 50
    with pytest.raises(InputError, match="30 training examples are too few to hold 30 of them out"):
        subset(np.zeros(30, dtype=int), np.arange(30), None, held_out=1 / 30)


def test_balanced_labels_are_the_first_of_each_class():
    labels, order = np.array([0, 0, 0, 1, 1, 0, 1]), np.array([6, 5, 0, 1, 2, 3, 4])
    assert subset(labels, order, 4, balanced=True).chosen.tolist() == [6, 5, 0, 3]
    with pytest.raises(InputError, match=r"5 labels cannot be balanced over 2 classes.*Take a multiple of 2 up to 6"):
        subset(labels, order, 5, balanced=True)


def test_every_learner_and_model_sees_the_same_labels():
    seen = []

    class Spy:
        def fit(self, x, y):
            seen.append(x.copy())
            return self

        def predict(self, x):
            return np.zeros(len(x), dtype=np.int64)

    plan = Plan(labels=(20, 50), repetitions=3, scaling=("raw",), controls=())
    for _ in range(2):
        probe(Encoded(blurred()), Learner("spy", "spy", lambda seed: Spy()), plan)
    assert all(np.array_equal(a, b) for a, b in zip(seen[:6], seen[6:], strict=True))
    assert len({a.tobytes() for a in seen}) == 6  # and each repetition others


def test_the_rarest_class_is_told():
    found = knn(Encoded(blurred(labels=SKEWED), labels=SKEWED), **FAST)
    (score,) = [s for s in found.scores if s.name == "probe/rarest-class"]
    orders = [Encoded(blurred()).permutation(120, f"20 labels, repetition {i}") for i in range(2)]
    assert score.value == min(int((SKEWED[order[:20]] == c).sum()) for order in orders for c in range(3))
    assert score.examples == 20


# protocol, examples, controls


def test_protocols_of_a_table():
    found = knn(Encoded(blurred(), blurred(1)), labels=(20, None), repetitions=3)
    rows = {(s.protocol.code, s.protocol.labels, s.protocol.scaling) for s in found.scores if s.name == "probe/knn"}
    codes = ("mean", "control: pca-3", "control: pixels", "control: noise-3")
    assert rows == set(itertools.product(codes, ("20, 3 repetitions", "all"), ("raw", "standardized")))
    (score,) = [s for s in found.scores if s.protocol.code == "mean" and s.protocol.labels == "all"][:1]
    assert score.protocol.estimator.startswith("10 nearest neighbours, weights 1/distance; ± deviation")
    assert (score.unit, score.better, score.examples) == ("%", "higher", 120)
    words = "10 nearest neighbours, weights 1/distance"
    assert set(found.examples) == {f"probe/knn/mean/all/{scale}, {words}" for scale in ("raw", "standardized")}
    kept = found.examples[score.examples_name]
    assert kept.mean().item() == pytest.approx(score.value)
    assert set(kept.tolist()) == {0.0, 100.0}


def test_labels_to_stop_by_are_counted_beside_the_labelled():
    found, _ = measured(Encoded(blurred()), "logistic-sgd", **FAST | {"scaling": ("raw",)})
    named = {s.name: s.protocol.labels for s in found.scores if s.protocol.labels != "all"}
    assert set(named.values()) == {"20 and 30 to stop by, 2 repetitions"}


def test_settings_of_one_probe_keep_their_values_and_notes_apart():
    both = [*metrics_from("[{kind: svm}, {kind: svm, kernel: linear}]")]
    both = [dataclasses.replace(m, labels=(5000, None), scaling=("raw",), controls=()) for m in both]
    found, _ = measure(Encoded(blurred()), both)
    assert len(found.examples) == 2
    assert {where.partition("raw")[2] for where in found.notes} == {"", ", linear"}


def test_defaults_of_configuration_and_by_hand_agree():
    fields = {f.name: getattr(Knn(), f.name) for f in dataclasses.fields(Probe)}
    assert Plan(**fields) == Plan()


def test_pixels_and_components_are_what_their_names_say():
    """Class in the pixels alone: pixels and components read it, noise and constant codes do not."""
    labels = LABELS
    x = torch.zeros(120, 1, 8, 8)
    x[torch.arange(120), 0, labels, labels] = 1
    found = Encoded(torch.zeros(120, 2))
    found.data = data_of(x, labels)
    scores = knn(found, labels=(None,), scaling=("raw",))
    table = {s.protocol.code: s.value for s in scores.scores}
    assert table["control: pixels"] == table["control: pca-2"] == 100
    assert table["control: noise-2"] < 60
    assert table["mean"] == pytest.approx(100 / 3)


def test_controls_are_kept_per_data_labels_and_size(tmp_path, monkeypatch):
    fits = []
    make = Logistic.fit
    monkeypatch.setattr(Logistic, "fit", lambda self, x, y: fits.append(x.shape[1]) or make(self, x, y))

    def fitted(codes, labels=LABELS, **more):
        fits.clear()
        plan = {"labels": (None,), "scaling": ("raw",)} | more
        return logistic(Encoded(codes, labels=labels, cache=tmp_path), **plan), list(fits)

    first, dimensions = fitted(blurred())
    assert dimensions == [3, 3, 64, 3]  # codes, components, pixels, noise
    again, dimensions = fitted(blurred())
    assert dimensions == [3]
    assert values(again) == values(first)
    assert fitted(blurred()[:, :2])[1] == [2, 2, 2]  # another size: not the pixels again
    assert fitted(blurred(), labels=SKEWED)[1] == [3, 3, 64, 3]
    assert fitted(blurred(), c=2.0)[1] == [3, 3, 64, 3]
    assert fitted(blurred(), scaling=("raw", "standardized"))[1] == [3, 3, 3, 64, 3]


def test_progress_tells_every_fit():
    told = []
    knn(Encoded(blurred(), progress=lambda *a: told.append(a)), labels=(500, 20, None), repetitions=2)
    assert told[-1] == ("probe knn", 40, 40)  # (2 + 2 + 1) fits, 2 scalings, 4 codes
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})


# what cannot be had


def test_rows_that_cannot_be_had_are_noted_and_the_others_stand():
    found, skipped = measured(Encoded(blurred()), "knn", labels=(5, 20, 5000), controls=())
    assert not skipped
    assert {s.protocol.labels for s in found.scores} == {"20, 5 repetitions"}
    notes = found.notes
    assert "needs 10 labelled examples or more, got 5" in notes["probe/knn, mean, labels 5, raw"]
    assert "5,000 labels are asked for, and 120 training" in notes["probe/knn, mean, labels 5000, raw"]


def test_a_probe_without_any_row_is_refused():
    with pytest.raises(InputError, match="5,000 labels are asked for, and 120 training"):
        knn(Encoded(blurred()), labels=(5000,))


def test_notes_are_found_and_missing_labels_skip_the_metric():
    found, _ = measure(Encoded(blurred()), [Knn(labels=(5, None), controls=())])
    assert any("got 5" in text for text in found.notes.values())
    subject = Encoded(blurred())
    subject.data = data_of(torch.rand(120, 1, 8, 8))
    _, skipped = measure(subject, [Knn(), Knn(code="z", labels=(100, None))])
    assert list(skipped) == ["knn", "knn, code z, labels 100 null"]
    assert all("has no labels" in reason for reason in skipped.values())


def test_codes_that_are_no_numbers_are_refused():
    broken = blurred()
    broken[7, 1] = float("nan")
    with pytest.raises(InputError, match=r"train split hold NaN or infinite numbers \(row 7.*another checkpoint"):
        knn(Encoded(broken))


def test_one_class_is_nothing_to_learn():
    with pytest.raises(InputError, match="all training examples are of one class"):
        logistic(Encoded(torch.rand(120, 2), labels=torch.zeros(120, dtype=torch.int64)))


def test_a_fit_that_stopped_early_is_noted():
    found = logistic(Encoded(100 * blurred()), iterations=2, **FAST)
    assert "2 of its fits had not converged" in found.notes["probe/logistic, mean, labels 20, raw, iterations-2"]
    found = svm(Encoded(100 * blurred()), kernel="linear", iterations=2, **FAST)
    assert "2 of its fits had not converged" in found.notes["probe/svm, mean, labels 20, raw, linear-iterations-2"]
    assert all("linear, C 1, 2 iterations at most" in s.protocol.estimator for s in found.scores[:4])
    assert not any(svm(Encoded(blurred()), kernel="linear", iterations=100_000, **FAST).notes.values())


def test_images_beyond_memory_are_no_control(monkeypatch):
    monkeypatch.setattr("elboroom.evaluation.controls.MOST_PIXELS", 1000)
    assert MOST_PIXELS > 60_000 * 784
    with pytest.raises(InputError, match=r"7,680 pixels.*data\.limit"):
        images(Encoded(blurred()), "train")
    found = knn(Encoded(blurred()), **FAST | {"controls": ("pixels", "noise")})
    assert {s.protocol.code for s in found.scores if s.protocol.code} == {"mean", "control: noise-3"}


def test_digits_end_to_end(tmp_path):
    """Codes of a real model on real digits: an untrained encoder keeps enough to beat chance by far."""
    generator = torch.Generator().manual_seed(0)
    from sklearn.datasets import load_digits

    x = torch.tensor(load_digits().images[:400, None] / 16, dtype=torch.float32)
    y = torch.tensor(load_digits().target[:400])
    order = torch.randperm(400, generator=generator)
    parts = {n: Examples(n, x[r], labels=y[r]) for n, r in (("train", order[:300]), ("test", order[300:]))}
    data = dataclasses.replace(data_of(x, y), **parts)
    assert isinstance(data, Data)
    config = small_run(latent=10)
    run = run_of(config, build.model(config, (1, 8, 8), "binary").eval(), (1, 8, 8))
    run.__dict__.update(folder=tmp_path, data=data)
    found = knn(Subject(run, cache=tmp_path / "cache"), labels=(100, None), code="z")
    table = {(s.protocol.code, s.protocol.labels, s.protocol.scaling): s.value for s in found.scores}
    assert table["control: pixels", "all", "raw"] > 90
    assert table["control: pca-10", "all", "raw"] > 85
    assert table["z", "all", "raw"] < 35
    assert table["control: noise-10", "all", "raw"] < 25


@pytest.mark.slow
def test_neighbours_of_real_digits():
    """The page of MNIST lists 3.1 % errors (K. Wilder) for nearest neighbours by L2 on its pixels as they are."""
    subject = Encoded(blurred())
    subject.data = load(run_from({"data": {"name": "mnist"}}).data)
    y = {split: subject.labels(split).numpy() for split in ("train", "test")}
    codes = Labelled(images(subject, "train"), y["train"], images(subject, "test"), y["test"])
    found = right(fit(nearest_neighbours(), codes, Subset(np.arange(60_000))), codes)
    assert 100 * found.mean() == pytest.approx(96.9, abs=0.3)

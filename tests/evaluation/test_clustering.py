"""Clusters: partitions whose measures are known, and the two ways to name a cluster."""

import math
import re

import numpy as np
import pytest
import torch
from oracles.encoded import LABELS, SKEWED, Encoded, blurred, one_hot

from elboroom.config.files import metrics_from
from elboroom.config.metrics import Clusters
from elboroom.errors import InputError
from elboroom.evaluation.clustering import clusters, k_means, majority_labels, measured, nearest_labels
from elboroom.evaluation.controls import Labelled
from elboroom.evaluation.evaluate import measure

THREE = {"sizes": (3,), "seeds": 2, "controls": ()}


def on_a_line(train, train_labels, test, test_labels):
    train, test = (np.array(codes, dtype=np.float32)[:, None] for codes in (train, test))
    return Labelled(train, np.array(train_labels), test, np.array(test_labels))


def values(found):
    return {s.name: s.value for s in found.scores}


# numbers by hand


def test_clusters_named_by_the_nearest_and_by_the_majority():
    """Clusters around 0 and 10. The mean of -1, -0.9, 0.02, 1.9 is 0.005: nearest is 0.02, of class 1; most are 0."""
    codes = on_a_line(
        [-1, -0.9, 0.02, 1.9, 9, 10, 11], [0, 0, 1, 0, 1, 1, 1], test=[0.1, -0.5, 10, 0.2], test_labels=[1, 0, 1, 0]
    )
    fitted = k_means(codes.train, 2)
    low, high = np.argsort(fitted.cluster_centers_[:, 0])
    nearest = nearest_labels(fitted.cluster_centers_, codes.train, codes.train_labels)
    majority = majority_labels(fitted.labels_, codes.train_labels, 2)
    assert (nearest[low], nearest[high]) == (1, 1)
    assert (majority[low], majority[high]) == (0, 1)
    found = measured(fitted, codes)
    assert (found["nearest"], found["majority"]) == (50, 75)


def test_measures_of_a_known_partition():
    """Classes 000111 against clusters 001111: counts 2, 1 and 0, 3.

    Mutual information sum p log p/(p p) over the mean entropy. Rand: pairs together in both 1 + 3 = 4, in classes 6, in
    clusters 7, of 15: expected 2.8, at most 6.5, so (4 - 2.8) / (6.5 - 2.8).
    """
    codes = on_a_line([0, 0, 10, 10], [0, 0, 1, 1], test=[0, 0, 10, 10, 10, 10], test_labels=[0, 0, 0, 1, 1, 1])
    found = measured(k_means(codes.train, 2), codes)
    shared = 2 / 6 * math.log(2) + 1 / 6 * math.log(1 / 2) + 3 / 6 * math.log(3 / 2)
    entropy = (math.log(2) + 1 / 3 * math.log(3) + 2 / 3 * math.log(3 / 2)) / 2
    assert found["nmi"] == pytest.approx(shared / entropy)
    assert found["ari"] == pytest.approx(1.2 / 3.7)
    assert found["majority"] == pytest.approx(500 / 6)


def test_the_lowest_of_equally_common_labels_and_of_an_empty_cluster():
    assert majority_labels(np.array([0, 0, 2]), np.array([7, 5, 9]), 3).tolist() == [5, 5, 9]


# codes whose measures are known


def test_perfect_codes():
    found = clusters(Encoded(one_hot(), one_hot(seed=1)), **THREE)
    assert values(found) == {
        "cluster/nearest": 100,
        "cluster/majority": 100,
        "cluster/nmi": pytest.approx(1),
        "cluster/ari": 1,
    }
    assert {s.stderr for s in found.scores} == {0}


def test_constant_codes_are_one_cluster():
    """All get the majority class, which is half; nothing is known of the classes."""
    found = values(clusters(Encoded(torch.ones(120, 2), labels=SKEWED), **THREE))
    assert found["cluster/majority"] == 50
    assert found["cluster/nmi"] == found["cluster/ari"] == 0


def test_duplicated_codes():
    train, test = blurred(), blurred(seed=1)
    once = values(clusters(Encoded(train, test), **THREE))
    assert once == pytest.approx(values(clusters(Encoded(train.repeat(1, 2), test.repeat(1, 2)), **THREE)))
    assert 0.1 < once["cluster/nmi"] < 0.9


def test_noise_is_at_chance():
    labels = torch.arange(1200) % 3
    found = clusters(Encoded(blurred(labels=labels), labels=labels), **THREE | {"controls": ("noise",)})
    noise = {s.name: s.value for s in found.scores if s.protocol.code == "control: noise-3"}
    assert abs(noise["cluster/ari"]) < 0.01
    assert noise["cluster/majority"] < 40


# the table


def test_scores_are_means_and_deviations_over_seeds():
    train, test, y = blurred(), blurred(seed=1), LABELS.numpy()
    codes = Labelled(train.numpy(), y, test.numpy(), y)
    by_hand = [measured(k_means(codes.train, 10, restarts=1, seed=seed), codes) for seed in range(3)]
    found = clusters(Encoded(train, test), sizes=(10,), seeds=3, restarts=1, controls=())
    for score in found.scores:
        numbers = [row[score.name.removeprefix("cluster/")] for row in by_hand]
        assert score.value == pytest.approx(sum(numbers) / 3)
        assert score.stderr == pytest.approx(np.std(numbers))
    assert len({row["nmi"] for row in by_hand}) > 1  # else the deviation shows nothing


def test_protocols_of_a_table():
    found = clusters(Encoded(blurred()), sizes=(3, 4), seeds=2, controls=("pca", "noise", "pixels"))
    codes = {s.protocol.code for s in found.scores}
    assert codes == {"mean", "control: pca-3", "control: noise-3", "control: pixels"}
    assert {s.protocol.estimator for s in found.scores} == {
        f"K-means, K {k}, k-means++, best of 10 starts; ± deviation over seeds 0 to 1" for k in (3, 4)
    }
    assert {s.name: (s.unit, s.better, s.protocol.labels) for s in found.scores} == {
        "cluster/nearest": ("%", "higher", "one a cluster"),
        "cluster/majority": ("%", "higher", "all"),
        "cluster/nmi": ("", "higher", ""),
        "cluster/ari": ("", "higher", ""),
    }
    assert len({s.key for s in found.scores}) == len(found.scores) == 4 * 2 * 4


def test_controls_are_kept(tmp_path):
    first = clusters(Encoded(blurred(), cache=tmp_path), **THREE | {"controls": ("noise",)})
    (kept,) = tmp_path.iterdir()
    kept.write_text(re.sub(r'"ari": [-.0-9e]+', '"ari": 7', kept.read_text()))
    again = clusters(Encoded(blurred(), cache=tmp_path), **THREE | {"controls": ("noise",)})
    assert again.scores[:7] == first.scores[:7]
    assert again.scores[7].value == 7  # what was written into the file


def test_rows_that_cannot_be_had():
    found, _ = measure(Encoded(blurred()), [Clusters(sizes=(3, 500), seeds=2, controls=())])
    assert len(found.scores) == 4
    assert "500 clusters need as many training examples or more, got 120" in found.notes["cluster, mean, K 500, raw"]
    with pytest.raises(InputError, match="500 clusters need"):
        clusters(Encoded(blurred()), sizes=(500,))
    (metric,) = metrics_from("clusters")
    broken = blurred()
    broken[3] = float("inf")
    assert "NaN or infinite" in measure(Encoded(broken), [metric])[1]["clusters"]


def test_one_class_is_nothing_to_be_found():
    with pytest.raises(InputError, match="all training examples are of one class"):
        clusters(Encoded(one_hot(), labels=torch.zeros(120, dtype=torch.long)), sizes=(3,), controls=())


def test_progress_tells_every_run():
    told = []
    clusters(Encoded(blurred(), progress=lambda *a: told.append(a)), sizes=(3, 500), seeds=2)
    assert told[-1] == ("clusters", 12, 12)
    assert [done for _, done, _ in told] == list(range(1, 13))


def test_clusters_are_named_by_training_labels_alone():
    """Two clear clusters, whose test labels are the other way round: every test example is then wrong."""
    codes = np.array([[0.0], [0.1], [9.0], [9.1]])
    found = measured(k_means(codes, 2), Labelled(codes, np.array([0, 0, 1, 1]), codes, np.array([1, 1, 0, 0])))
    assert (found["nearest"], found["majority"]) == (0, 0)


def test_of_many_starts_the_best_is_kept():
    """Points without clusters have many local optima: the best of ten starts is better than the first one, which is
    among them."""
    codes = np.random.default_rng(0).uniform(size=(400, 2))
    for seed in range(3):
        assert k_means(codes, 20, seed=seed).inertia_ < k_means(codes, 20, restarts=1, seed=seed).inertia_

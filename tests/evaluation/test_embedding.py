"""Codes in the plane: principal components in closed form, t-SNE that keeps clusters apart."""

import sys
import types

import numpy as np
import pytest
import torch
from oracles.copying import blobs, copying, subject_of

from elboroom.errors import InputError
from elboroom.evaluation.embedding import embedding, pca, tsne
from elboroom.scores import Score

X, LABELS = blobs()


def apart(n: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    """Three clusters in five dimensions, twenty standard deviations apart."""
    labels = torch.arange(n) % 3
    return 20 * torch.eye(3, 5)[labels] + torch.randn(n, 5), labels


def nearest_is_of_the_same_class(points: torch.Tensor, labels: torch.Tensor) -> float:
    distance = torch.cdist(points, points).fill_diagonal_(torch.inf)
    return (labels[distance.argmin(1)] == labels).double().mean().item()


def test_components_and_shares_in_closed_form():
    """Variances exactly 9, 4, 1 along axes that are turned: shares 9/14 and 4/14, coordinates up to their sign."""
    white = torch.randn(400, 3, dtype=torch.float64)
    white = (white - white.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(white.T))).T
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    plane, shares = pca(white * torch.tensor([3.0, 2, 1]) @ turn + 5)
    torch.testing.assert_close(shares, torch.tensor([9 / 14, 4 / 14], dtype=torch.float64))
    torch.testing.assert_close(plane.abs(), (white[:, :2] * torch.tensor([3.0, 2])).abs(), atol=1e-9, rtol=0)


def test_one_dimension_and_codes_that_never_change():
    plane, shares = pca(torch.tensor([[1.0], [2.0], [6.0]]))
    assert plane.tolist() == [[-2, 0], [-1, 0], [3, 0]]
    assert shares.tolist() == [1, 0]
    plane, shares = pca(torch.ones(4, 3))
    assert plane.abs().max() == 0
    assert shares.tolist() == [0, 0]


def test_duplicated_codes_have_the_same_picture_but_for_scale():
    codes, _ = apart()
    one, two = pca(codes)[0], pca(torch.cat([codes, codes], dim=1))[0]
    torch.testing.assert_close(two, one * 2**0.5)


@pytest.mark.parametrize("copies", [1, 2])
def test_tsne_keeps_clusters_apart(copies):
    codes, labels = apart()
    plane, perplexity = tsne(codes.repeat(1, copies), perplexity=10, iterations=300)
    assert (plane.shape, perplexity) == ((90, 2), 10)
    assert nearest_is_of_the_same_class(plane, labels) == 1
    centres = torch.stack([plane[labels == k].mean(0) for k in range(3)])
    widths = torch.stack([(plane[labels == k] - centres[k]).norm(dim=1).max() for k in range(3)])
    assert torch.pdist(centres).min() > 2 * widths.max()


def test_tsne_is_the_same_each_time():
    codes, _ = apart(30)
    first, again = (tsne(codes, perplexity=5, iterations=250)[0] for _ in range(2))
    assert torch.equal(first, again)


def test_few_codes_have_a_smaller_perplexity():
    assert tsne(torch.randn(16, 3), perplexity=40, iterations=250)[1] == 5


def test_open_tsne_is_taken_where_it_is_there(monkeypatch):
    """Its stand-in here says how it was called: iterations after the early ones, nothing left to its defaults."""
    told = {}

    class TSNE:
        def __init__(self, n_components, **settings):
            told.update(settings, n_components=n_components)

        def fit(self, x):
            return x[:, :2] + 1

    module = types.ModuleType("openTSNE")
    module.TSNE, module.__spec__ = TSNE, types.SimpleNamespace(name="openTSNE")
    monkeypatch.setitem(sys.modules, "openTSNE", module)
    codes, _ = apart()
    plane, _ = tsne(codes, perplexity=10, iterations=1000)
    torch.testing.assert_close(plane, codes[:, :2] + 1)
    start = told.pop("initialization")
    assert start[:, 0].std() == pytest.approx(1e-4)
    expected = {"n_components": 2, "perplexity": 10, "early_exaggeration": 12, "early_exaggeration_iter": 250}
    assert told == expected | {"n_iter": 750, "learning_rate": 50, "random_state": 0}


def scored(found) -> Score:
    (score,) = found.scores
    return score


def test_the_metric_keeps_points_labels_and_rows_together(tmp_path):
    found = embedding(subject_of(tmp_path, copying(6), X, LABELS), points=50)
    kept = found.arrays["embedding"]
    assert set(kept) == {"pca", "pca-explained", "labels", "rows"}
    order = kept["rows"]
    assert len(set(order.tolist())) == 50
    assert order.tolist() != sorted(order.tolist())  # the first rows of sorted data are no fair sample
    torch.testing.assert_close(kept["labels"], LABELS[order])
    plane, shares = pca(X[order])
    torch.testing.assert_close(kept["pca"], plane.float())
    score = scored(found)
    assert (score.name, score.unit, score.examples) == ("pca/explained-variance", "%", 50)
    assert score.value == pytest.approx(100 * shares.sum().item())


def test_training_data_follow_where_they_are_asked_for(tmp_path):
    subject = subject_of(tmp_path, copying(6), X, LABELS)
    assert len(embedding(subject, points=300).arrays["embedding"]["rows"]) == 200
    kept = embedding(subject, points=300, train=True).arrays["embedding"]
    assert len(kept["pca"]) == len(kept["labels"]) == len(kept["rows"]) == 300
    score = scored(embedding(subject, points=300, train=True))
    shares = pca(torch.cat([X[kept["rows"][:200]], X[kept["rows"][200:]]]))[1]
    assert (score.examples, score.value) == (300, pytest.approx(100 * shares.sum().item()))
    assert score.protocol.estimator.endswith("fitted to 200 of these codes and 100 of training data")
    assert sorted(kept["rows"][:200].tolist()) == list(range(200))
    assert len(embedding(subject, points=70_000, train=True).arrays["embedding"]["rows"]) == 400


def test_without_labels_there_are_points_all_the_same(tmp_path):
    assert "labels" not in embedding(subject_of(tmp_path, copying(6), X, None)).arrays["embedding"]


def test_both_methods_lie_in_one_file(tmp_path):
    subject = subject_of(tmp_path, copying(6), X[:60], LABELS[:60])
    kept = embedding(subject, methods=("pca", "tsne"), iterations=250).arrays["embedding"]
    assert kept["tsne"].shape == (60, 2)
    assert kept["tsne-perplexity"].item() == pytest.approx(59 / 3)
    assert np.isfinite(kept["tsne"].numpy()).all()


def test_codes_that_are_not_finite_are_not_drawn(tmp_path):
    bad = X.clone()
    bad[3] = float("nan")
    with pytest.raises(InputError, match=r"1 of 200 codes are not finite"):
        embedding(subject_of(tmp_path, copying(6), bad, LABELS))

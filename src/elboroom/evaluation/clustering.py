"""Clusters: whether K-means finds the classes in the codes without being told of them."""

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Integer
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from elboroom.errors import InputError
from elboroom.evaluation.controls import Labelled, Source, several_classes, sources
from elboroom.evaluation.probes import score
from elboroom.evaluation.subject import Found, Subject
from elboroom.scores import Score

MEASURES = {
    "nearest": ("%", "one a cluster"),
    "majority": ("%", "all"),
    "nmi": ("", ""),
    "ari": ("", ""),
}
"""Unit of each measure, and how many training labels it takes."""


# the pure part: arrays in, numbers out


def k_means(codes: Float[np.ndarray, "n d"], size: int, *, restarts: int = 10, seed: int = 0) -> KMeans:
    """Lloyd's algorithm from k-means++, the best of so many starts, 300 iterations at most.

    Raises:
        InputError: fewer codes than clusters.
    """
    if size > len(codes):
        raise InputError(f"{size} clusters need as many training examples or more, got {len(codes)}. Take fewer.")
    fitted = KMeans(
        size, init="k-means++", n_init=restarts, max_iter=300, tol=1e-4, algorithm="lloyd", random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct codes than clusters: some stay empty
        return fitted.fit(codes)


def nearest_labels(
    centres: Float[np.ndarray, "k d"], codes: Float[np.ndarray, "n d"], labels: Integer[np.ndarray, " n"]
) -> Integer[np.ndarray, " k"]:
    """The label of the code nearest to each centre, whichever cluster it is in: MAE, section 4.3."""
    found = [np.argmin(np.square(codes - centre).sum(axis=1)) for centre in centres]
    return labels[np.asarray(found)]


def majority_labels(
    clusters: Integer[np.ndarray, " n"], labels: Integer[np.ndarray, " n"], size: int
) -> Integer[np.ndarray, " k"]:
    """The commonest label in each cluster, of a tie the lowest: what MAE's program does."""
    classes, numbers = np.unique(labels, return_inverse=True)
    counts = np.zeros((size, len(classes)), dtype=np.int64)
    np.add.at(counts, (clusters, numbers), 1)
    return classes[counts.argmax(axis=1)]


def measured(fitted: KMeans, codes: Labelled) -> dict[str, float]:
    """Accuracy (%) on the test split with either naming of clusters, NMI and adjusted Rand index there.

    NMI is the mutual information of clusters and classes over the mean of their entropies (Strehl and Ghosh 2002 divide
    by the geometric mean); the Rand index is adjusted for chance (Hubert and Arabie 1985).
    """
    found = fitted.predict(codes.test)
    nearest = nearest_labels(fitted.cluster_centers_, codes.train, codes.train_labels)
    majority = majority_labels(fitted.labels_, codes.train_labels, fitted.n_clusters)
    return {
        "nearest": 100 * float(np.mean(nearest[found] == codes.test_labels)),
        "majority": 100 * float(np.mean(majority[found] == codes.test_labels)),
        "nmi": float(normalized_mutual_info_score(codes.test_labels, found)),
        "ari": float(adjusted_rand_score(codes.test_labels, found)),
    }


# the metric


def clusters(
    subject: Subject,
    *,
    code: str = "mean",
    thresholded: bool = False,
    sizes: tuple[int, ...] = (10, 20, 30),
    seeds: int = 5,
    restarts: int = 10,
    scaling: tuple[str, ...] = ("raw",),
    controls: tuple[str, ...] = ("pca", "noise"),
) -> Found:
    """K-means on all training codes, scored on the test split; mean and population deviation over seeds.

    Rows that cannot be had are left out with a note; InputError where none of the run's own can.
    """
    subject = subject.thresholded if thresholded else subject
    several_classes(subject)
    found, done = Found(), 0
    read = sources(subject, code, controls)
    wanted = [(source, scale, size) for source in read for scale in scaling for size in sizes]

    def step() -> None:
        nonlocal done
        done += 1
        subject.progress("clusters", done, len(wanted) * seeds)

    for source, scale, size in wanted:
        if not source.own and not found.scores:
            break
        until = done + seeds
        try:
            rows = _rows(source, scale, size, seeds, restarts, step)
            found.scores.extend(_scores(subject, source, scale, size, restarts, rows))
        except InputError as reason:
            found.notes[f"cluster, {source.words}, K {size}, {scale}"] = str(reason)
        while done < until:
            step()
    if not found.scores:
        raise InputError(next(iter(found.notes.values())))
    return found


def _rows(
    source: Source, scaling: str, size: int, seeds: int, restarts: int, step: Callable[[], None]
) -> list[dict[str, float]]:
    """What each seed gives."""

    def make() -> list[dict[str, float]]:
        codes, rows = source.scaled(scaling), []
        for seed in range(seeds):
            rows.append(measured(k_means(codes.train, size, restarts=restarts, seed=seed), codes))
            step()
        return rows

    settings = {"clusters": size, "seeds": seeds, "restarts": restarts, "scaling": scaling}
    return source.remembered(settings, make)


def _scores(
    subject: Subject, source: Source, scaling: str, size: int, restarts: int, rows: list[dict[str, float]]
) -> list[Score]:
    words = f"K-means, K {size}, k-means++, best of {restarts} starts; ± deviation over seeds 0 to {len(rows) - 1}"
    scores = []
    for name, (unit, labels) in MEASURES.items():
        values = [row[name] for row in rows]
        held = subject.code_protocol(estimator=words, code=source.words, labels=labels, scaling=scaling)
        error = float(np.std(values)) if len(values) > 1 else None
        scores.append(score(f"cluster/{name}", float(np.mean(values)), error, unit, subject.seen.count, held))
    return scores

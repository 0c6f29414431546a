"""Each probe over scikit-learn called directly on the same codes: time of fitting and scoring, as ratios.

    OMP_NUM_THREADS=1 python benchmarks/probes.py                       # some minutes
    OMP_NUM_THREADS=1 python benchmarks/probes.py --only knn --rounds 1

Codes are made, not encoded: ten normal classes in 32 dimensions, with spread-out and narrow dimensions as a VAE has
them, 10,000 to learn from and 10,000 to score. Both sides run in one process, in turn, and begin each round in the
other order; a ratio is formed within a round, and the table gives its median, smallest and largest. On a busy
machine believe the ratio by CPU seconds.
"""

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from elboroom.evaluation.controls import Labelled
from elboroom.evaluation.probes import (
    Learner,
    Subset,
    fit,
    nearest_neighbours,
    network,
    regression,
    right,
    support_vectors,
)

CLASSES, LATENT = 10, 32
WIDE = (1024, 1024, 1024)

Pair = tuple[Learner, Callable[[], Any]]


def codes(train: int, test: int, seed: int = 0) -> Labelled:
    """Codes of ten classes, float32 as those of a run are; about one in ten is on the wrong side."""
    random = np.random.default_rng(seed)
    centres = random.normal(scale=0.3, size=(CLASSES, LATENT)) * np.linspace(1.5, 0.1, LATENT)
    y = random.integers(CLASSES, size=train + test)
    x = (centres[y] + random.normal(scale=0.5, size=(train + test, LATENT))).astype(np.float32)
    return Labelled(x[:train], y[:train], x[train:], y[train:])


def pairs(epochs: int) -> dict[str, Pair]:
    """Ours, and what scikit-learn is called with for the same; its network has ReLU, having no LeakyReLU."""
    mlp = {"solver": "adam", "learning_rate_init": 1e-4, "batch_size": 64, "alpha": 0.0, "random_state": 0}
    mlp |= {"max_iter": epochs, "tol": 0.0, "n_iter_no_change": epochs + 1}
    return {
        "knn": (nearest_neighbours(), lambda: KNeighborsClassifier(10, weights="distance")),
        "logistic": (regression(), lambda: LogisticRegression(C=1.0, max_iter=1000, tol=1e-4)),
        "svm linear": (support_vectors("linear"), lambda: SVC(C=1.0, kernel="linear")),
        "svm rbf": (support_vectors("rbf"), lambda: SVC(C=1.0, kernel="rbf", gamma="auto")),
        "mlp": (network(epochs), lambda: MLPClassifier(WIDE, **mlp)),
    }


def ours(learner: Learner, found: Labelled) -> float:
    """Accuracy (%), fitted on all training codes."""
    return 100 * float(right(fit(learner, found, Subset(np.arange(len(found.train)))), found).mean())


def theirs(make: Callable[[], Any], found: Labelled) -> float:
    """The same by scikit-learn itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return 100 * float(make().fit(found.train, found.train_labels).score(found.test, found.test_labels))


def clocked(work: Callable[[], float]) -> tuple[float, float, float]:
    """Seconds, CPU seconds, and what it returns."""
    begun, busy = time.perf_counter(), time.process_time()
    value = work()
    return time.perf_counter() - begun, time.process_time() - busy, value


def row(name: str, pair: Pair, found: Labelled, rounds: int) -> str:
    """A line of the table."""
    learner, make = pair
    sides = {"ours": lambda: ours(learner, found), "theirs": lambda: theirs(make, found)}
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    busy: dict[str, list[float]] = {"ours": [], "theirs": []}
    accuracy = {}
    for i in range(rounds):
        for side in list(sides)[:: 1 if i % 2 == 0 else -1]:
            seconds, cpu, accuracy[side] = clocked(sides[side])
            times[side].append(seconds)
            busy[side].append(cpu)
    middle = {side: statistics.median(seconds) for side, seconds in times.items()}
    return (
        f"| {name} | {middle['ours']:.2f} | {middle['theirs']:.2f} "
        f"| {spread(times)} | {spread(busy)} | {accuracy['ours']:.2f} | {accuracy['theirs']:.2f} |"
    )


def spread(times: dict[str, list[float]]) -> str:
    """Median, smallest and largest of the ratios of the rounds."""
    ratios = [a / b for a, b in zip(times["ours"], times["theirs"], strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Time them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train", type=int, default=10_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=1, help="of the network; the probe's default is 10")
    parser.add_argument("--only", help="one of the probes")
    parser.add_argument("--out", type=Path, help="a file for the table")
    asked = parser.parse_args()
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    torch.set_num_threads(threads)
    found = codes(asked.train, asked.test)
    lines = [
        f"{asked.train:,} + {asked.test:,} codes of {LATENT} dimensions, {asked.rounds} rounds, threads {threads}; the "
        f"network learns for {asked.epochs} epoch{'s' * (asked.epochs > 1)}.",
        "",
        "| probe | ours, s | scikit-learn, s | ratio (over rounds) | ratio by CPU | ours, % | scikit-learn, % |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines), flush=True)
    chosen = {n: p for n, p in pairs(asked.epochs).items() if asked.only in (None, n)}
    if not chosen:
        parser.error(f"no probe '{asked.only}'; known: {', '.join(pairs(1))}")
    for name, pair in chosen.items():
        lines.append(row(name, pair, found, asked.rounds))
        print(lines[-1], flush=True)
    if asked.out is not None:
        asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

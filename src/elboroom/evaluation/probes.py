"""Probes: how much of the labels a simple classifier reads off the codes."""

import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import nn

from elboroom.errors import InputError
from elboroom.evaluation.controls import Labelled, Source, labels_of, several_classes, sources
from elboroom.evaluation.subject import Found, Subject
from elboroom.numerics import seed_for
from elboroom.scores import Protocol, Score
from elboroom.training.companions import Classifier

DEVIATION = "± deviation over repetitions, of all labels binomial"
HELD_OUT = 30
"""Examples held out at the least, where a learner asks for a share: fewer tell nothing of when to stop."""
PATIENT = 10_000
"""Random codes that a slow learner is made to separate; more of them take minutes and give chance all the same."""


@dataclass(frozen=True)
class Learner:
    """A kind of classifier.

    Args:
        name: of its score, ``probe/<name>``.
        words: itself and its settings, as the protocol's estimator.
        make: from a seed, an object with scikit-learn's ``fit`` and ``predict``.
        variant: what tells its notes from those of its default settings.
        least: labelled examples below which it cannot be fitted.
        held_out: share of the training examples that it is validated on while it learns, over ``fit``'s further
            arguments; these are never among the labelled, and protocols count them beside these.
        slow: whether random codes take it minutes.
    """

    name: str
    words: str
    make: Callable[[int], Any]
    variant: str = ""
    least: int = 2
    held_out: float = 0.0
    slow: bool = False


@dataclass(frozen=True)
class Plan:
    """What all probes share: the fields of `elboroom.config.metrics.Probe`."""

    code: str = "mean"
    thresholded: bool = False
    labels: tuple[int | None, ...] = (100, 1000, None)
    balanced: bool = False
    repetitions: int = 5
    scaling: tuple[str, ...] = ("raw", "standardized")
    controls: tuple[str, ...] = ("pca", "pixels", "noise")

    def times(self, n: int | None) -> int:
        """How often a learner is fitted on so many labels: all of them are always the same."""
        return 1 if n is None else self.repetitions

    def words(self, n: int | None, held_out: int = 0) -> str:
        """So many labels, as protocols say it, with those that a learner is validated on: it sees these too."""
        times = f"{self.repetitions} repetition{'s' * (self.repetitions > 1)}"
        more = f" and {held_out} to stop by" if held_out else ""
        return "all" if n is None else f"{n}{' balanced' * self.balanced}{more}, {times}"


@dataclass(frozen=True)
class Subset:
    """Rows of the training split: the labelled ones, and those that a learner is validated on."""

    chosen: Integer[np.ndarray, " n"]
    held_out: Integer[np.ndarray, " v"] = field(default_factory=lambda: np.arange(0))


@dataclass(frozen=True)
class Row:
    """Accuracy on the test split (%), and its deviation over repetitions, or of one fit the binomial standard error."""

    value: float
    error: float
    unfinished: int = 0


# the pure part: arrays in, numbers out


def subset(
    labels: Integer[np.ndarray, " n"],
    order: Integer[np.ndarray, " n"],
    count: int | None,
    *,
    balanced: bool = False,
    held_out: float = 0.0,
) -> Subset:
    """The first ``count`` rows of an order (all where None); the end of the order is held out, 30 rows at the least.

    Balanced, it is the first ``count / classes`` rows of each class.

    Raises:
        InputError: there are not so many.
    """
    kept = len(order) - (max(HELD_OUT, int(held_out * len(order))) if held_out else 0)
    if kept < 1:
        raise InputError(f"{len(order)} training examples are too few to hold {HELD_OUT} of them out. Give more.")
    order, last = order[:kept], order[kept:]
    if count is None:
        return Subset(order, last)
    if count >= kept:
        raise InputError(
            f"{count:,} labels are asked for, and {kept:,} training examples have one"
            f"{f' beside the {len(last):,} held out' * bool(len(last))}. Take fewer, or null for all."
        )
    if not balanced:
        return Subset(order[:count], last)
    classes, sizes = np.unique(labels[order], return_counts=True)
    each = count // len(classes)
    if each * len(classes) != count or sizes.min() < each:
        raise InputError(
            f"{count:,} labels cannot be balanced over {len(classes)} classes, the rarest of {sizes.min():,} examples. "
            f"Take a multiple of {len(classes)} up to {sizes.min() * len(classes):,}."
        )
    ranks = np.concatenate([np.flatnonzero(labels[order] == c)[:each] for c in classes])
    return Subset(order[np.sort(ranks)], last)


def fit(learner: Learner, codes: Labelled, rows: Subset, seed: int = 0) -> Any:
    """The classifier, fitted on some rows; InputError where these cannot be learned from."""
    labels = codes.train_labels[rows.chosen]
    if len(labels) < learner.least:
        raise InputError(f"{learner.words} needs {learner.least} labelled examples or more, got {len(labels)}.")
    if len(np.unique(labels)) < 2:
        raise InputError(f"all {len(labels)} labelled examples are of one class. Give more labels.")
    held_out = (codes.train[rows.held_out], codes.train_labels[rows.held_out]) if learner.held_out else ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # counted, see `unfinished`
        return learner.make(seed).fit(codes.train[rows.chosen], labels, *held_out)


def unfinished(classifier: Any) -> bool:
    """Whether it stopped at its limit of iterations, before it had converged."""
    if isinstance(classifier, SVC):
        return bool(classifier.fit_status_)
    return isinstance(classifier, LogisticRegression) and bool(max(classifier.n_iter_) >= classifier.max_iter)


def right(classifier: Any, codes: Labelled) -> Bool[np.ndarray, " m"]:
    """Which test examples it classifies rightly."""
    return classifier.predict(codes.test) == codes.test_labels


def row_of(each: list[Bool[np.ndarray, " m"]], stopped: int = 0) -> Row:
    """Mean accuracy and population deviation over repetitions; of one fit sqrt(p (1 - p) / m)."""
    accuracy = [float(np.mean(r, dtype=np.float64)) for r in each]
    mean = float(np.mean(accuracy))
    error = np.std(accuracy) if len(each) > 1 else np.sqrt(mean * (1 - mean) / len(each[0]))
    return Row(100 * mean, 100 * float(error), stopped)


# learners, by hand: `fit(nearest_neighbours(5), codes, Subset(rows))`


def nearest_neighbours(k: int = 10) -> Learner:
    """The vote of the nearest labelled codes, weighted by 1/distance; a code at distance 0 decides alone."""
    words = f"{k} nearest neighbours, weights 1/distance"
    make = partial(KNeighborsClassifier, k, weights="distance")
    return Learner("knn", words, lambda seed: make(), "" if k == 10 else f"k-{k}", least=k)


def regression(c: float = 1.0, iterations: int = 1000) -> Learner:
    """Multinomial logistic regression that minimizes C sum(cross-entropy) + ‖W‖²/2, by L-BFGS."""
    words = f"multinomial logistic regression, L2 with C {c:g}, L-BFGS to 1e-4 in {iterations:,} iterations at most"
    variant = [f"c-{c:g}"] * (c != 1) + [f"iterations-{iterations}"] * (iterations != 1000)
    return Learner("logistic", words, lambda seed: Logistic(c, iterations), "-".join(variant))


def linear_sgd() -> Learner:
    """A linear classifier without penalty, by the procedure of MAE's program (`LinearSgd`)."""
    words = f"linear classifier, SGD 0.01 on sums over 128, halved and stopped by 1/30 held out, {HELD_OUT} or more"
    return Learner("logistic-sgd", words, LinearSgd, held_out=1 / 30)


def support_vectors(kernel: str = "rbf", gamma: str = "auto", c: float = 1.0, iterations: int | None = None) -> Learner:
    """Support vector machine, one class against one. Its kernel depends on the scale of the code, most of all rbf, and
    so does the time of the linear one; ``iterations`` ends each of its pairs of classes."""
    width = {"auto": "1/features", "scale": "1/(features x variance)"}[gamma]
    words = f"support vector machine, {kernel}{f', gamma {width}' if kernel == 'rbf' else ''}, C {c:g}"
    variant = [kernel] * (kernel != "rbf") + [gamma] * (kernel == "rbf" and gamma != "auto") + [f"c-{c:g}"] * (c != 1)
    if iterations is not None:
        words += f", {iterations:,} iterations at most"
        variant.append(f"iterations-{iterations}")
    make = partial(SVC, C=c, kernel=kernel, gamma=gamma, cache_size=500, max_iter=iterations or -1)
    return Learner("svm", words, lambda seed: make(), "-".join(variant), slow=True)


def network(epochs: int = 10, lr: float = 1e-4, batch: int = 64, device: torch.device | str = "cpu") -> Learner:
    """μ-VAE's classifier (table 4), learned from the codes of the finished model."""
    words = f"3 x 1024 LeakyReLU, Adam {lr:g}, batches of {batch}, {epochs} epochs"
    variant = "" if (epochs, lr, batch) == (10, 1e-4, 64) else f"epochs-{epochs}-lr-{lr:g}-batch-{batch}"
    make = partial(Network, epochs=epochs, lr=lr, batch=batch, device=device)
    return Learner("mlp", words, make, variant, slow=True)


class Logistic(LogisticRegression):
    """Logistic regression in float64: single precision ends L-BFGS early where codes are of large scale."""

    def __init__(self, C: float = 1.0, max_iter: int = 1000) -> None:
        super().__init__(C=C, max_iter=max_iter, tol=1e-4, solver="lbfgs")

    def fit(self, x: Float[np.ndarray, "n d"], y: Integer[np.ndarray, " n"]) -> "Logistic":
        return super().fit(x.astype(np.float64), y)


class LinearSgd:
    """A linear layer that minimizes cross-entropy summed over batches of 128, as the program of MAE does it.

    Every 500 steps its accuracy on held-out examples is taken. The third time in a row without a new best, and every
    time thereafter until there is one, halves the learning rate of 0.01; the fourth halving ends it. Batches are fixed,
    their order is drawn anew each epoch; the last weights are what is used.
    """

    BATCH, RATE, EVERY, PATIENCE = 128, 0.01, 500, 3

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def fit(self, x: np.ndarray, y: np.ndarray, valid_x: np.ndarray, valid_y: np.ndarray) -> "LinearSgd":
        """Fit to the training rows; the validation rows say when to halve the rate.

        On raw codes of large scale its steps are too long, and its accuracy is low.
        """
        self.classes_, targets = np.unique(y, return_inverse=True)
        bound = x.shape[1] ** -0.5
        self._weight = self._random.uniform(-bound, bound, (x.shape[1], len(self.classes_)))
        self._bias = self._random.uniform(-bound, bound, len(self.classes_))
        x, valid_x = x.astype(np.float64), valid_x.astype(np.float64)
        rate, best, bad, halved = self.RATE, 0.0, 0, 0
        for step, rows in enumerate(self._batches(len(x)), start=1):
            self._descend(x[rows], targets[rows], rate)
            if step % self.EVERY:
                continue
            accuracy = np.mean(self.predict(valid_x) == valid_y)
            best, bad = (accuracy, 0) if accuracy > best else (best, bad + 1)
            if bad >= self.PATIENCE:
                rate, halved = rate / 2, halved + 1
            if halved > self.PATIENCE:
                return self
        raise AssertionError("batches never end")

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.classes_[np.argmax(x @ self._weight + self._bias, axis=1)]

    def _batches(self, n: int) -> Iterator[slice]:
        starts = np.arange(0, n, self.BATCH)
        while True:
            yield from (slice(start, start + self.BATCH) for start in self._random.permutation(starts))

    def _descend(self, x: np.ndarray, targets: np.ndarray, rate: float) -> None:
        """One step; the gradient of cross-entropy by the logits is p - 1[class]."""
        logits = x @ self._weight + self._bias
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(x)), targets] -= 1
        self._weight -= rate * (x.T @ p)
        self._bias -= rate * p.sum(axis=0)


class Network:
    """μ-VAE's classifier with scikit-learn's two methods."""

    def __init__(
        self, seed: int = 0, *, epochs: int = 10, lr: float = 1e-4, batch: int = 64, device: str | torch.device = "cpu"
    ) -> None:
        self._seed, self._epochs, self._lr, self._batch, self._device = seed, epochs, lr, batch, device

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Network":
        self.classes_, numbers = np.unique(y, return_inverse=True)
        codes = torch.from_numpy(x).float().to(self._device)
        targets = torch.from_numpy(numbers).to(self._device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self._network = Classifier(x.shape[1], len(self.classes_), lr=self._lr).to(self._device)
            orders = [torch.randperm(len(x)) for _ in range(self._epochs)]
        optimizer = self._network.optimizer()
        for order in orders:
            for rows in order.to(self._device).split(self._batch):
                _step(self._network, optimizer, codes[rows], targets[rows])
        return self

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        pieces = torch.from_numpy(x).float().split(1000)
        best = torch.cat([self._network(piece.to(self._device)).argmax(-1).cpu() for piece in pieces])
        return self.classes_[best.numpy()]


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, targets: torch.Tensor) -> None:
    F.cross_entropy(network(x), targets).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


# the metrics


def knn(subject: Subject, *, neighbours: int = 10, **plan: Any) -> Found:
    """Accuracy (%) of the nearest labelled codes; ``plan``, here and below, holds the fields of `Plan`."""
    return probe(subject, nearest_neighbours(neighbours), Plan(**plan))


def logistic(subject: Subject, *, c: float = 1.0, iterations: int = 1000, **plan: Any) -> Found:
    """Accuracy (%) of multinomial logistic regression."""
    return probe(subject, regression(c, iterations), Plan(**plan))


def logistic_sgd(subject: Subject, **plan: Any) -> Found:
    """Accuracy (%) of the linear classifier of MAE's program."""
    return probe(subject, linear_sgd(), Plan(**plan))


def svm(
    subject: Subject,
    *,
    kernel: str = "rbf",
    gamma: str = "auto",
    c: float = 1.0,
    iterations: int | None = None,
    **plan: Any,
) -> Found:
    """Accuracy (%) of a support vector machine."""
    return probe(subject, support_vectors(kernel, gamma, c, iterations), Plan(**plan))


def mlp(subject: Subject, *, epochs: int = 10, lr: float = 1e-4, batch: int = 64, **plan: Any) -> Found:
    """Accuracy (%) of μ-VAE's classifier."""
    return probe(subject, network(epochs, lr, batch, subject.run.device), Plan(**plan))


def probe(subject: Subject, learner: Learner, plan: Plan) -> Found:
    """Fit and score a learner on the run's codes and on the controls, for each scaling and each number of labels.

    Rows that cannot be had (fewer examples than labels asked for, constant codes that cannot be standardized) are left
    out with a note; InputError where none of the run's own can.
    """
    subject = subject.thresholded if plan.thresholded else subject
    several_classes(subject)
    read = sources(subject, plan.code, plan.controls)
    work = Work(subject, learner, plan, len(read) * len(plan.scaling) * sum(map(plan.times, plan.labels)))
    for source in read:
        for scaling, n in itertools.product(plan.scaling, plan.labels):
            work.add(source, scaling, n)
        if source.own and not work.found.scores:
            raise InputError(next(filter(None, work.found.notes.values())))
        source.forget()
    work.found.scores.extend(work.rarest(n) for n in plan.labels if n is not None and n in work.scored)
    return work.found


class Work:
    """A learner at work on a subject: what it has found, and how far it has come (of ``total`` fits)."""

    def __init__(self, subject: Subject, learner: Learner, plan: Plan, total: int) -> None:
        self.subject, self.learner, self.plan, self.total = subject, learner, plan, total
        self.labels = labels_of(subject, "train")
        self.found, self.scored = Found(), set[int | None]()
        self._drawn: dict[int | None, list[Subset]] = {}
        self._done = 0

    def add(self, source: Source, scaling: str, n: int | None) -> None:
        """One score, or the note why there is none."""
        until = self._done + self.plan.times(n)
        if not self._hopeless(source, n):
            words = [f"probe/{self.learner.name}", source.words, f"labels {n or 'all'}", scaling, self.learner.variant]
            where = ", ".join(filter(None, words))
            try:
                self._add(source, scaling, n, where)
            except InputError as reason:
                self.found.notes[where] = str(reason)
        self._advance(until)

    def _hopeless(self, source: Source, n: int | None) -> bool:
        """Whether a slow learner would be made to separate many random codes."""
        slow = self.learner.slow and source.words.startswith("control: noise")
        return slow and (len(self.labels) if n is None else n) > PATIENT

    def _add(self, source: Source, scaling: str, n: int | None, where: str) -> None:
        each: list[Bool[np.ndarray, " m"]] = []
        kept = source.remembered(self._settings(scaling, n), lambda: asdict(self._row(source.scaled(scaling), n, each)))
        row = Row(**kept)
        stopped = f"{row.unfinished} of its fits had not converged. Raise `iterations`."
        self.found.notes[where] = stopped if row.unfinished else None
        more = {"code": source.words, "labels": self._labels(n), "scaling": scaling}
        held = self.subject.code_protocol(estimator=f"{self.learner.words}; {DEVIATION}", **more)
        made = score(f"probe/{self.learner.name}", row.value, row.error, "%", self.subject.seen.count, held)
        self.found.scores.append(made)
        if source.own:
            self.scored.add(n)
        if source.own and n is None:
            self.found.examples[made.examples_name] = 100 * torch.from_numpy(each[0]).double()

    def _labels(self, n: int | None) -> str:
        """All labels that a row has seen: few of them, and those that its learner was validated on."""
        return self.plan.words(n, len(self.subsets(n)[0].held_out))

    def _row(self, codes: Labelled, n: int | None, each: list[Bool[np.ndarray, " m"]]) -> Row:
        """A row of the table; ``each`` gets the test examples that each repetition classified rightly."""
        stopped = 0
        for i, rows in enumerate(self.subsets(n)):
            classifier = fit(self.learner, codes, rows, seed_for(0, f"probe {self.learner.name}", i))
            each.append(right(classifier, codes))
            stopped += unfinished(classifier)
            self._advance(self._done + 1)
        return row_of(each, stopped)

    def subsets(self, n: int | None) -> list[Subset]:
        """The labelled rows of each repetition: the same for every model, code and learner."""
        if n in self._drawn:
            return self._drawn[n]
        count, more = len(self.labels), {"balanced": self.plan.balanced, "held_out": self.learner.held_out}
        names = [f"{n} labels, repetition {i}" for i in range(self.plan.times(n))]
        orders = [self.subject.permutation(count, name).numpy() for name in names]
        self._drawn[n] = [subset(self.labels, order, n, **more) for order in orders]
        return self._drawn[n]

    def rarest(self, n: int) -> Score:
        """The fewest labelled examples that a class has in any of the repetitions: 100 labels can hold 3 of one."""
        classes = np.unique(self.labels)
        counts = [np.sum(self.labels[rows.chosen] == c) for rows in self.subsets(n) for c in classes]
        held = self.subject.code_protocol(estimator="labelled training examples", labels=self._labels(n))
        return score("probe/rarest-class", float(min(counts)), None, "examples", n, held, better="")

    def _settings(self, scaling: str, n: int | None) -> dict[str, Any]:
        """What a row of a control depends on beside the data and the control."""
        more = {"balanced": self.plan.balanced, "repetitions": self.plan.repetitions} if n is not None else {}
        return {"probe": self.learner.words, "count": n, "scaling": scaling} | more

    def _advance(self, done: int) -> None:
        if done > self._done:
            self._done = done
            self.subject.progress(f"probe {self.learner.name}", done, self.total)


def score(
    name: str, value: float, error: float | None, unit: str, examples: int, held: Protocol, better: str = "higher"
) -> Score:
    """A score from its numbers."""
    return Score(name=name, value=value, unit=unit, better=better, stderr=error, examples=examples, protocol=held)

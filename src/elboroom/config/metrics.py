"""What is measured of a trained model beyond the bounds: a line per metric.

Each names a function ``(subject, *, <its fields>) -> Found`` (`elboroom.evaluation.subject`). A metric that a run
cannot have (no labels, no density) says so, and the others go on.
"""

from typing import Any, ClassVar, Literal

from elboroom.config.base import Positive, PositiveFloat, choice, settings

Code = Literal["mean", "z", "mean-of-50"]
Scaling = Literal["raw", "standardized"]
Control = Literal["pca", "pixels", "noise"]


@settings
class ShuffledCodes:
    """How much worse the reconstruction gets when codes are permuted between images: 0 where the decoder ignores z."""

    kind: Literal["shuffled-codes"] = "shuffled-codes"
    images: Positive = 2000
    """Test images, the first ones of a fixed permutation."""

    builds: ClassVar[str] = "elboroom.evaluation.shuffled:shuffled_codes"


@settings
class Probe:
    """What all probes share: a classifier learns the labels from codes of the training split and is scored (%) on those
    of the test split, beside the same classifier on what is no code (the controls)."""

    code: Code = "mean"
    """The code that is read: the posterior's mean, one sample z, or the mean of 50 samples."""
    labels: tuple[Positive | None, ...] = (100, 1000, None)
    """Labelled training examples; null is all of them, which is one fit."""
    balanced: bool = False
    """The same number of labels of each class, in place of whatever chance gives."""
    repetitions: Positive = 5
    """Subsets of labels, each by a fresh permutation that is the same for every model; the deviation is over them."""
    scaling: tuple[Scaling, ...] = ("raw", "standardized")
    """Codes as they are, or of mean 0 and variance 1 over all training codes: probes depend on the scale of a code."""
    controls: tuple[Control, ...] = ("pca", "pixels", "noise")
    """Beside the codes: as many principal components, the pixels, N(0, I) noise. Kept per data set and latent size."""


@settings
class Knn(Probe):
    """The vote of the nearest labelled codes, weighted by 1/distance."""

    kind: Literal["knn"] = "knn"
    neighbours: Positive = 10

    builds: ClassVar[str] = "elboroom.evaluation.probes:knn"


@settings
class Logistic(Probe):
    """Multinomial logistic regression, by L-BFGS."""

    kind: Literal["logistic"] = "logistic"
    c: PositiveFloat = 1.0
    """Inverse strength of the L2 penalty, as scikit-learn's C; it matters at 100 labels."""
    iterations: Positive = 1000
    """At most so many."""

    builds: ClassVar[str] = "elboroom.evaluation.probes:logistic"


@settings
class LogisticSgd(Probe):
    """A linear classifier by plain SGD without penalty, as MAE's program trains it: a thirtieth of the training
    examples (2,000 of MNIST's) says when the learning rate is halved and when to stop."""

    kind: Literal["logistic-sgd"] = "logistic-sgd"

    builds: ClassVar[str] = "elboroom.evaluation.probes:logistic_sgd"


@settings
class Svm(Probe):
    """Support vector machine; a fit with 60,000 labels takes from a quarter of a minute to several."""

    kind: Literal["svm"] = "svm"
    kernel: Literal["linear", "rbf"] = "rbf"
    gamma: Literal["auto", "scale"] = "auto"
    """Of the kernel rbf: 1/features (auto, as scikit-learn had it when MAE was written) or 1/(features x variance)."""
    c: PositiveFloat = 1.0
    controls: tuple[Control, ...] = ("pca", "noise")
    """Beside the codes, as above; noise with 10,000 labels at most, as more would take minutes to come to chance."""

    builds: ClassVar[str] = "elboroom.evaluation.probes:svm"


@settings
class Mlp(Probe):
    """μ-VAE's classifier, three hidden layers of 1024 LeakyReLU by Adam, learned after the model, not beside it."""

    kind: Literal["mlp"] = "mlp"
    labels: tuple[Positive | None, ...] = (None,)
    """Labelled training examples; null is all of them. Few labels are few steps an epoch: give more epochs."""
    epochs: Positive = 10
    lr: PositiveFloat = 1e-4
    batch: Positive = 64
    scaling: tuple[Scaling, ...] = ("raw",)
    """The network learns from either scale, so once is enough."""
    controls: tuple[Control, ...] = ("pca",)
    """Beside the codes, as above."""

    builds: ClassVar[str] = "elboroom.evaluation.probes:mlp"


@settings
class Clusters:
    """K-means on the training codes: accuracy on the test split when clusters get the labels of training examples,
    normalized mutual information and adjusted Rand index, with the deviation over seeds."""

    kind: Literal["clusters"] = "clusters"
    code: Code = "mean"
    sizes: tuple[Positive, ...] = (10, 20, 30)
    """Numbers of clusters K."""
    seeds: Positive = 5
    """Runs from the random states 0, 1, ..."""
    restarts: Positive = 10
    """Starts of each run, of which the best is kept."""
    scaling: tuple[Scaling, ...] = ("raw",)
    controls: tuple[Control, ...] = ("pca", "noise")
    """Beside the codes, as for probes."""

    builds: ClassVar[str] = "elboroom.evaluation.clustering:clusters"


Metric = choice("metric", ShuffledCodes, Knn, Logistic, LogisticSgd, Svm, Mlp, Clusters)

LABELS = [100, 1000, 10_000, None]


def _both_codes(metric: dict[str, Any]) -> list[dict[str, Any]]:
    """A metric of the mean and of the sampled code, beside one set of controls."""
    return [metric, metric | {"code": "z", "controls": []}]


SETS: dict[str, list[dict[str, Any]]] = {
    "standard": [
        {"kind": "shuffled-codes"},
        {"kind": "knn"},
        {"kind": "logistic"},
        {"kind": "svm"},
        {"kind": "clusters"},
    ],
    "full": [
        {"kind": "shuffled-codes"},
        *_both_codes({"kind": "knn", "labels": LABELS}),
        *_both_codes({"kind": "logistic", "labels": LABELS}),
        *_both_codes({"kind": "logistic-sgd", "labels": LABELS}),
        *_both_codes({"kind": "svm", "labels": LABELS}),
        *_both_codes({"kind": "svm", "labels": LABELS, "gamma": "scale"}),
        *_both_codes({"kind": "svm", "labels": LABELS, "kernel": "linear"}),
        *_both_codes({"kind": "mlp"}),
        *_both_codes({"kind": "clusters", "controls": ["pca", "pixels", "noise"]}),
    ],
}
"""Named sets of metrics."""


def expanded(value: Any) -> Any:
    """A list of metrics in which the names of sets stand for their members; a single name is a list of one."""
    entries = [value] if isinstance(value, str | dict) else value
    if not isinstance(entries, list | tuple):
        return value
    members: list[Any] = []
    for entry in entries:
        members += SETS[entry] if isinstance(entry, str) and entry in SETS else [entry]
    return [m for i, m in enumerate(members) if m not in members[:i]]

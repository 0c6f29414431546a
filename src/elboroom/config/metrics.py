"""What is measured of a trained model beyond the bounds: a line per metric.

Each names a function ``(subject, *, <its fields>) -> Found`` (`elboroom.evaluation.subject`). A metric that a run
cannot have (no labels, no density) says so, and the others go on. ``reads_encoder`` is False where it serves for runs
whose encoder was not trained.
"""

from typing import Annotated, Any, ClassVar, Literal

import pydantic

from elboroom.config.base import Positive, PositiveFloat, choice, settings

Code = Literal["mean", "z", "mean-of-50"]
Scaling = Literal["raw", "standardized"]
Control = Literal["pca", "pixels", "noise"]


@settings
class ShuffledCodes:
    """How much worse the reconstruction gets when codes are permuted between images: 0 where the decoder ignores z."""

    kind: Literal["shuffled-codes"] = "shuffled-codes"
    images: Annotated[int, pydantic.Field(ge=2)] = 2000
    """Test images, the first ones of a fixed permutation."""

    builds: ClassVar[str] = "elboroom.evaluation.shuffled:shuffled_codes"


@settings
class Pictures:
    """Pictures beyond those of every evaluation: traversals over given ranges, samples of given spreads."""

    kind: Literal["pictures"] = "pictures"
    reaches: tuple[PositiveFloat, ...] = ()
    """A traversal of each dimension over [-r, r], the others at zero, for each r."""
    steps: Annotated[int, pydantic.Field(ge=2)] = 40
    """Images of a traversal."""
    sigmas: tuple[PositiveFloat, ...] = ()
    """Decoded draws from N(0, σ²I) for each σ, a standard deviation, whatever the prior is."""
    count: Positive = 100
    """Draws of each."""
    centre: float = 0.0
    """Mean of these draws in every dimension."""
    repeats: Annotated[int, pydantic.Field(ge=0)] = 0
    """The first test image, and so many reconstructions of it from sampled z."""

    builds: ClassVar[str] = "elboroom.evaluation.samples:more_pictures"

    @property
    def reads_encoder(self) -> bool:
        """Whether it needs an encoder that was trained: reconstructions come from q(z|x)."""
        return self.repeats > 0


@settings
class GradientVariance:
    """How noisy the encoder's gradient is from one sample: reparameterized, and by the score function."""

    kind: Literal["gradient-variance"] = "gradient-variance"
    images: Positive = 100
    """One batch of so many test images, the first ones of a fixed permutation."""
    draws: Annotated[int, pydantic.Field(ge=2)] = 200
    """Gradients of each kind."""

    builds: ClassVar[str] = "elboroom.evaluation.gradients:gradient_variance"


@settings
class Pairs:
    """Mean and spread of the divergence between the posteriors of different examples (MPD and STD)."""

    kind: Literal["pairs"] = "pairs"
    batch: Annotated[int, pydantic.Field(ge=2)] = 100
    """Examples whose ordered pairs are taken together."""
    weighting: Literal["batches", "pairs"] = "batches"
    """Whether every batch counts the same, or each pair: it matters where the last batch is smaller."""

    builds: ClassVar[str] = "elboroom.evaluation.information:pairs"


@settings
class Information:
    """Mutual information of example and code, total correlation, and divergences of all codes from the prior."""

    kind: Literal["information"] = "information"
    samples: Positive = 2000
    """Codes at which the aggregate posterior is taken."""
    components: Annotated[int, pydantic.Field(ge=2)] = 10_000
    """Posteriors in the aggregate at most; its information is at most the logarithm of their number."""

    builds: ClassVar[str] = "elboroom.evaluation.information:information"


@settings
class Dimensions:
    """How the codes are distributed in each dimension, beside a standard normal."""

    kind: Literal["dimensions"] = "dimensions"
    bins: Positive = 50
    """Bins of each dimension's histogram."""

    builds: ClassVar[str] = "elboroom.evaluation.information:dimensions"


@settings
class Disentanglement:
    """How far single dimensions of the code stand for single known factors; for data that have them (sprites)."""

    kind: Literal["disentanglement"] = "disentanglement"
    measures: tuple[Literal["mig", "dci", "sap", "factorvae", "betavae"], ...] = (
        "mig",
        "dci",
        "sap",
        "factorvae",
        "betavae",
    )
    """Which scores."""
    code: Code = "mean"
    """Which code they read; MIG from posteriors reads a sample."""
    information: Literal["posterior", "bins"] = "posterior"
    """What MIG is computed from: the posteriors, as in its paper, or the code in bins."""
    bins: Annotated[int, pydantic.Field(ge=2)] = 20
    """Bins of the code, for MIG."""
    images: Annotated[int, pydantic.Field(ge=8)] = 10_000
    """Training images at most, from which forests, votes and classifiers learn."""
    trees: Positive = 20
    """Of each random forest of DCI."""
    votes: Annotated[int, pydantic.Field(ge=2)] = 800
    """Of FactorVAE and β-VAE, for learning and again for scoring."""
    rows: Annotated[int, pydantic.Field(ge=2)] = 64
    """Of each vote; pairs, for β-VAE."""
    categorical: tuple[str, ...] = ("shape",)
    """Names of factors whose values have no order, for SAP."""

    builds: ClassVar[str] = "elboroom.evaluation.disentanglement:disentanglement"


@settings
class Probe:
    """What all probes share: a classifier learns the labels from codes of the training split and is scored (%) on those
    of the test split, beside the same classifier on what is no code (the controls)."""

    code: Code = "mean"
    """The code that is read: the posterior's mean, one sample z, or the mean of 50 samples."""
    thresholded: bool = False
    """Read images whose pixels are 1 above 0.5, as MAE's program does, in place of a drawn binarization."""
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
    examples (2,000 of MNIST's, 30 at the least) says when the learning rate is halved and when to stop. So a row of
    100 labels has seen 2,100, and its protocol says so."""

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
    iterations: Positive | None = None
    """At most so many for each pair of classes: codes of large scale take the linear kernel hours without a limit."""
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
    thresholded: bool = False
    """Read images whose pixels are 1 above 0.5, as MAE's program does, in place of a drawn binarization."""
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


@settings
class Frechet:
    """Fréchet distance between features of test images and of reconstructions, of samples from the prior, and of
    samples from densities fitted to the training codes; with training images as a control. Lower is better."""

    kind: Literal["frechet"] = "frechet"
    images: Annotated[int, pydantic.Field(ge=2)] = 10_000
    """Images on either side, at most; fewer where the test split or the training split is smaller."""
    pixels: Literal["mean", "sample"] = "mean"
    """What is decoded: the mean of p(x|z), set against test images before binarization; or one draw of p(x|z), set
    against test images as the model sees them."""

    builds: ClassVar[str] = "elboroom.evaluation.generation:frechet"


@settings
class Confidence:
    """How sure a weak classifier is of samples and reconstructions, relative to test images."""

    kind: Literal["confidence"] = "confidence"
    images: Positive = 10_000
    """Samples, and reconstructions at most."""
    density: Literal["prior", "gaussian", "mixture"] = "prior"
    """Where the codes of samples come from: the prior, or a density fitted to the training codes."""

    builds: ClassVar[str] = "elboroom.evaluation.generation:confidence"


@settings
class Embedding:
    """Test codes in the plane, for the report: principal components, and t-SNE where asked for."""

    kind: Literal["embedding"] = "embedding"
    methods: tuple[Literal["pca", "tsne"], ...] = ("pca",)
    """How codes come into the plane; t-SNE of 5,000 codes takes a minute or more."""
    points: Annotated[int, pydantic.Field(ge=2)] = 5000
    """Codes at most, the first of a fixed permutation of the test data."""
    train: bool = False
    """Training data follow where the test data are fewer than the points (points: 70000 is then all of MNIST)."""
    code: Code = "z"
    """One sample each, the posterior means, or the mean of 50 samples."""
    thresholded: bool = False
    """Read images whose pixels are 1 above 0.5, as MAE's program does, in place of a drawn binarization."""
    perplexity: PositiveFloat = 40
    """Of t-SNE: about how many neighbours a code has; a third of the codes at most."""
    iterations: Annotated[int, pydantic.Field(ge=250)] = 1000
    """Of t-SNE."""

    builds: ClassVar[str] = "elboroom.evaluation.embedding:embedding"


@settings
class AnnealedImportance:
    """NLL by annealed importance sampling, where plain importance sampling has not converged; slow."""

    kind: Literal["ais"] = "ais"
    images: Positive = 100
    """Test images: the first ones, or of sorted data a fixed sample."""
    chains: Positive = 16
    """Chains of each image; their number is the K of the estimate."""
    steps: Positive = 200
    """Temperatures between start and p(x, z), with one HMC transition each; more bring it nearer."""
    leapfrog: Positive = 5
    """Leapfrog steps of each transition."""
    start: Literal["posterior", "prior"] = "posterior"
    """Where chains begin: q(z|x), or p(z), which leaves the encoder out of it."""

    builds: ClassVar[str] = "elboroom.evaluation.ais:ais"

    @property
    def reads_encoder(self) -> bool:
        """Whether it needs an encoder that was trained."""
        return self.start == "posterior"


@settings
class Marginal:
    """NLL from both sides by samples of p(z|x) itself (AEVB, appendix D), for models of fewer than five latents; by
    default the encoder takes no part."""

    kind: Literal["marginal"] = "marginal"
    images: Positive = 1000
    """Images: the first ones, or of sorted data a fixed sample."""
    split: Literal["train", "valid", "test"] = "test"
    """Of which split."""
    samples: Annotated[int, pydantic.Field(ge=4)] = 50
    """Chains of each image: samples that the density is fitted to, and as many that it is averaged over."""
    leapfrog: Positive = 4
    """Leapfrog steps of each transition."""
    burn_in: Annotated[int, pydantic.Field(ge=4)] = 40
    """Transitions before the density is fitted; while they last, steps are tuned."""
    acceptance: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.9
    """That steps are tuned to."""
    density: Literal["gaussian", "kernels"] = "gaussian"
    """What is fitted: a Gaussian of full covariance, or one around each sample (a kernel density)."""
    start: Literal["prior", "posterior"] = "prior"
    """Where chains begin, by importance weights: draws of p(z), or of q(z|x)."""

    builds: ClassVar[str] = "elboroom.evaluation.marginal:marginal"

    @property
    def reads_encoder(self) -> bool:
        """Whether it needs an encoder that was trained."""
        return self.start == "posterior"


Metric = choice(
    "metric",
    Knn,
    Logistic,
    LogisticSgd,
    Svm,
    Mlp,
    Clusters,
    Pairs,
    Information,
    Dimensions,
    ShuffledCodes,
    Disentanglement,
    Frechet,
    Confidence,
    Embedding,
    AnnealedImportance,
    Marginal,
    Pictures,
    GradientVariance,
)

LABELS = [100, 1000, 10_000, None]


def _both_codes(metric: dict[str, Any]) -> list[dict[str, Any]]:
    """A metric of the mean and of the sampled code, beside one set of controls."""
    return [metric, metric | {"code": "z", "controls": []}]


SETS: dict[str, list[dict[str, Any]]] = {
    "standard": [
        {"kind": "knn"},
        {"kind": "logistic"},
        {"kind": "svm"},
        {"kind": "clusters"},
        {"kind": "pairs"},
        {"kind": "information"},
        {"kind": "dimensions"},
        {"kind": "shuffled-codes"},
        {"kind": "frechet"},
        {"kind": "confidence"},
        {"kind": "embedding"},
    ],
    "full": [
        *_both_codes({"kind": "knn", "labels": LABELS}),
        *_both_codes({"kind": "logistic", "labels": LABELS}),
        *_both_codes({"kind": "logistic-sgd", "labels": LABELS}),
        *_both_codes({"kind": "svm", "labels": LABELS}),
        *_both_codes({"kind": "svm", "labels": LABELS, "gamma": "scale"}),
        *_both_codes({"kind": "svm", "labels": LABELS, "kernel": "linear"}),
        *_both_codes({"kind": "mlp"}),
        *_both_codes({"kind": "clusters", "controls": ["pca", "pixels", "noise"]}),
        {"kind": "pairs"},
        {"kind": "information"},
        {"kind": "dimensions"},
        {"kind": "shuffled-codes"},
        {"kind": "disentanglement"},
        {"kind": "frechet"},
        {"kind": "confidence"},
        {"kind": "embedding", "methods": ["pca", "tsne"]},
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

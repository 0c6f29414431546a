"""What is measured of a trained model beyond the bounds: a line per metric.

Each names a function ``(subject, *, <its fields>) -> Found`` (`elboroom.evaluation.subject`). A metric that a run cannot
have (no labels, no density) says so, and the others go on.
"""

from typing import Annotated, Any, ClassVar, Literal

import pydantic

from elboroom.config.base import Positive, PositiveFloat, choice, settings

Code = Literal["mean", "z", "mean-of-50"]


@settings
class ShuffledCodes:
    """How much worse the reconstruction gets when codes are permuted between images: 0 where the decoder ignores z."""

    kind: Literal["shuffled-codes"] = "shuffled-codes"
    images: Positive = 2000
    """Test images, the first ones of a fixed permutation."""

    builds: ClassVar[str] = "elboroom.evaluation.shuffled:shuffled_codes"


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
    perplexity: PositiveFloat = 40
    """Of t-SNE: about how many neighbours a code has; a third of the codes at most."""
    iterations: Annotated[int, pydantic.Field(ge=250)] = 1000
    """Of t-SNE."""

    builds: ClassVar[str] = "elboroom.evaluation.embedding:embedding"


Metric = choice("metric", ShuffledCodes, Frechet, Confidence, Embedding)

SETS: dict[str, list[dict[str, Any]]] = {
    "standard": [
        {"kind": "shuffled-codes"},
        {"kind": "frechet"},
        {"kind": "confidence"},
        {"kind": "embedding"},
    ],
    "full": [
        {"kind": "shuffled-codes"},
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

"""What is measured of a trained model beyond the bounds: a line per metric.

Each names a function ``(subject, *, <its fields>) -> Found`` (`elboroom.evaluation.subject`). A metric that a run
cannot have (no labels, no density) says so, and the others go on.
"""

from typing import Annotated, Any, ClassVar, Literal

import pydantic

from elboroom.config.base import Positive, choice, settings

Code = Literal["mean", "z", "mean-of-50"]


@settings
class ShuffledCodes:
    """How much worse the reconstruction gets when codes are permuted between images: 0 where the decoder ignores z."""

    kind: Literal["shuffled-codes"] = "shuffled-codes"
    images: Positive = 2000
    """Test images, the first ones of a fixed permutation."""

    builds: ClassVar[str] = "elboroom.evaluation.shuffled:shuffled_codes"


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


Metric = choice("metric", ShuffledCodes, Pairs, Information, Dimensions, Disentanglement)

SETS: dict[str, list[dict[str, Any]]] = {
    "standard": [{"kind": "shuffled-codes"}, {"kind": "pairs"}, {"kind": "information"}, {"kind": "dimensions"}],
    "full": [
        {"kind": "shuffled-codes"},
        {"kind": "pairs"},
        {"kind": "information"},
        {"kind": "dimensions"},
        {"kind": "disentanglement"},
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

"""What is measured of a trained model beyond the bounds: a line per metric.

Each names a function ``(subject, *, <its fields>) -> Found`` (`elboroom.evaluation.subject`). A metric that a run
cannot have (no labels, no density) says so, and the others go on.
"""

from typing import Any, ClassVar, Literal

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
class AnnealedImportance:
    """NLL by annealed importance sampling, where plain importance sampling has not converged; slow."""

    kind: Literal["ais"] = "ais"
    images: Positive = 100
    """Test images, the first ones."""
    chains: Positive = 16
    """Chains of each image; their number is the K of the estimate."""
    steps: Positive = 200
    """Temperatures between start and p(x, z), with one HMC transition each; more bring it nearer."""
    leapfrog: Positive = 5
    """Leapfrog steps of each transition."""
    start: Literal["posterior", "prior"] = "posterior"
    """Where chains begin: q(z|x), or p(z), which leaves the encoder out of it."""

    builds: ClassVar[str] = "elboroom.evaluation.ais:ais"


Metric = choice("metric", ShuffledCodes, AnnealedImportance)

SETS: dict[str, list[dict[str, Any]]] = {
    "standard": [{"kind": "shuffled-codes"}],
    "full": [{"kind": "shuffled-codes"}],
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

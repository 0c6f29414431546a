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


Metric = choice("metric", ShuffledCodes)

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

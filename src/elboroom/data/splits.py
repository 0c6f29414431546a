"""Which rows are for training, validation and test: a part of the protocol, so fixed for the data and not by the run.

Rows are numbered through all parts of a source, one after another: in MNIST the test images are 60,000 to 69,999.
Each division keeps its rows in ascending order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from elboroom.errors import InputError
from elboroom.numerics import seed_for

Rows = dict[str, np.ndarray]
"""Name of a part or of a split -> its row numbers, int64."""

NONE = np.arange(0)


@dataclass(frozen=True)
class Split:
    """A published or agreed division, and the (train, valid, test) sizes that it must come to."""

    divide: Callable[[Rows], Rows]
    sizes: tuple[int, int, int]

    @property
    def words(self) -> str:
        """``1,500 / - / 465``"""
        return " / ".join(f"{n:,}" if n else "-" for n in self.sizes)


def permutation(n: int, purpose: str) -> np.ndarray:
    """The order of n rows that ``purpose`` fixes, int64 [n]; the same on every machine and with every version.

    It sorts raw 64-bit numbers: numpy promises for good what its bit generators yield, not what `permutation` makes
    of it (NEP 19).
    """
    return np.argsort(np.random.PCG64(seed_for(0, purpose)).random_raw(n), kind="stable")


def set_aside(rows: np.ndarray, n: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """The first n of ``rows`` in the order of ``purpose``, and the others; both ascending."""
    order = permutation(len(rows), purpose)
    return np.sort(rows[order[:n]]), np.sort(rows[order[n:]])


def as_given(parts: Rows) -> Rows:
    """The parts are the splits."""
    return {"train": parts["train"], "valid": parts.get("valid", NONE), "test": parts["test"]}


def at_random(valid: int, test: int) -> Callable[[Rows], Rows]:
    """A division of the one part ``all`` by a fixed permutation: test first, then validation, training the rest."""

    def divide(parts: Rows) -> Rows:
        tested, rest = set_aside(parts["all"], test, "test")
        validated, trained = set_aside(rest, valid, "valid")
        return {"train": trained, "valid": validated, "test": tested}

    return divide


def last(test: int) -> Callable[[Rows], Rows]:
    """A division of the one part ``all`` in its own order: the last rows are for test."""
    return lambda parts: {"train": parts["all"][:-test], "valid": NONE, "test": parts["all"][-test:]}


def shuffled(valid: int, seed: int) -> Callable[[Rows], Rows]:
    """A published division: validation is the last of the training rows as `numpy.random.RandomState` permutes them."""

    def divide(parts: Rows) -> Rows:
        order = np.random.RandomState(seed).permutation(len(parts["train"]))  # a stream that is frozen
        train, validated = np.sort(order[:-valid]), np.sort(order[-valid:])
        return {"train": parts["train"][train], "valid": parts["train"][validated], "test": parts["test"]}

    return divide


def of_own(parts: Rows, where: str) -> Rows:
    """One's own data: its own splits where it has them; else a sixth, by a permutation from seed 0, is for test."""
    train = parts["all"] if "all" in parts else parts["train"]
    if "test" in parts:
        return {"train": train, "valid": parts.get("valid", NONE), "test": parts["test"]}
    if len(train) < 6:
        raise InputError(
            f"{where}: {len(train)} examples are too few to set a sixth aside for test. "
            "Give at least 6, or a test split."
        )
    test, train = set_aside(train, len(train) // 6, "test")
    return {"train": train, "valid": parts.get("valid", NONE), "test": test}


def numbered(counts: dict[str, int]) -> Rows:
    """Row numbers of the parts, one part after another."""
    ends = np.cumsum(list(counts.values()))
    return {name: np.arange(end - n, end) for (name, n), end in zip(counts.items(), ends, strict=True)}


def choose(rows: Rows, valid: int, limit: int | None, where: str) -> Rows:
    """Apply `data.valid` and `data.limit`.

    With ``valid`` 0 an own validation split stands; else training and validation are pooled and divided anew.
    ``limit`` keeps at most that many training rows; a smaller limit takes a subset of what a larger one takes.

    Raises:
        InputError: ``valid`` leaves nothing to train on.
    """
    train, validated = rows["train"], rows["valid"]
    if valid:
        pool = np.sort(np.concatenate([train, validated]))
        if valid >= len(pool):
            raise InputError(
                f"{where}: data.valid asks for {valid:,} of {len(pool):,} training examples. "
                f"Set data.valid to less than {len(pool):,}."
            )
        validated, train = set_aside(pool, valid, "valid")
    if limit is not None:
        train, _ = set_aside(train, limit, "limit")
    return {"train": train, "valid": validated, "test": rows["test"]}

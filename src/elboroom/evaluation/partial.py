"""Numbers per example of a long estimate, kept while it is under way, so that a killed process loses little."""

import hashlib
import time
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from elboroom.training.checkpoint import pack, replace_bytes, room, unpack

OFTEN = 10.0
"""Seconds between two savings: what a killed process loses at most, beside the block that it was at."""


class Partial:
    """Columns of one number an example, filled from the first example to the last.

    Used as a context: however it is left, what was added is in the file, and an estimate of the same key goes on
    behind it.

    Args:
        folder: where the file lies; None keeps nothing.
        name: first word of the file's name.
        key: whatever the numbers depend on. A file of another key is left alone.
        columns: names of the columns.
        total: their length.
        often: seconds between two savings.
    """

    def __init__(
        self, folder: Path | None, name: str, key: str, columns: tuple[str, ...], total: int, often: float = OFTEN
    ) -> None:
        self.key = f"{key} {' '.join(columns)} {total}"
        self.path = None if folder is None else folder / f"{name}-{_short(self.key)}.safetensors"
        self.columns = {column: torch.zeros(total, dtype=torch.float64) for column in columns}
        self.total, self.done, self.often = total, 0, often
        self._saved, self._when = 0, time.monotonic()
        self._read()

    def __enter__(self) -> "Partial":
        return self

    def __exit__(self, *error: object) -> None:
        self.save()

    def add(self, **values: Float[Tensor, " n"]) -> None:
        """The numbers of the next n examples, all columns."""
        count = len(next(iter(values.values())))
        for column, held in self.columns.items():
            held[self.done : self.done + count] = values[column].double().cpu()
        self.done += count
        if time.monotonic() - self._when >= self.often:
            self.save()

    def save(self) -> None:
        """Write the file, unless it holds all this already."""
        if self.path is None or self._saved == self.done:
            return
        content = pack(self.columns | {"done": torch.tensor([self.done]), "key": _bytes(self.key)})
        with room(self.path.parent, "try again"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_bytes(self.path, content)
        self._saved, self._when = self.done, time.monotonic()

    def remove(self) -> None:
        """Remove the file, and its folder where it was the last: the numbers lie elsewhere now."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
                self.path.parent.rmdir()

    def _read(self) -> None:
        """Go on behind what the file holds; a torn file is none."""
        try:
            found = unpack(self.path.read_bytes()) if self.path else {}
        except (FileNotFoundError, SafetensorError):
            return
        if set(found) == {*self.columns, "done", "key"} and torch.equal(found["key"], _bytes(self.key)):
            self.columns = {column: found[column].clone() for column in self.columns}
            self.done = self._saved = int(found["done"])


def mean_of_copies(values: Float[Tensor, " total"], copies: int) -> Float[Tensor, " n"]:
    """The mean for each example of its copies, of which all first ones come first, added up copy by copy."""
    parts = values.reshape(copies, -1)
    total = torch.zeros_like(parts[0])
    for part in parts:
        total += part / copies
    return total


def _bytes(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]

"""From stored numbers to what a model sees: the axes, the scale, and the binarization of pixels."""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from elboroom.errors import InputError
from elboroom.numerics import Randomness, seed_for
from elboroom.records import Batch

CHUNK = 2**22
"""Numbers looked at in one go, so that checking a large file takes little memory."""


@dataclass(frozen=True)
class Scaling:
    """What the stored numbers are, and how the model sees them: x = stored / scale."""

    values: str  # binary, unit-interval or real
    grey: str  # the same in words, for messages
    scale: float = 1.0
    dtype: type = np.uint8  # in which they are stored: uint8 or float32


BINARY = Scaling("binary", "2 values")
BLACK_AND_WHITE = Scaling("binary", "2 values", scale=255.0)
GREY_LEVELS = Scaling("unit-interval", "256 grey levels", scale=255.0)
UNIT_INTERVAL = Scaling("unit-interval", "real numbers in [0, 1]", dtype=np.float32)
REAL = Scaling("real", "real numbers", dtype=np.float32)


# what arrays of unknown origin hold


def interpret(arrays: Sequence[np.ndarray], where: Path | str) -> Scaling:
    """How to read the numbers of one's own arrays.

    Two values alone, 0 and 1 or 0 and 255, are binary. Whole numbers of 0 to 255 are grey levels; floats within [0, 1]
    are taken as they are; all else is real.

    Raises:
        InputError: no numbers, or some are missing or infinite.
    """
    kinds = {array.dtype.kind for array in arrays}
    if not kinds <= set("biuf"):
        raise InputError(f"{where}: holds {arrays[0].dtype}, not numbers. Save plain integers or floats.")
    for array in arrays:
        refuse_gaps(array, where)
    low, high = min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)
    if low < 0 or high > (1 if "f" in kinds else 255):
        return REAL
    if only(arrays, 0, 1):
        return BINARY
    if "f" in kinds:
        return UNIT_INTERVAL
    return BLACK_AND_WHITE if only(arrays, 0, 255) else GREY_LEVELS


def pieces(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The number of its first row, and a piece of at most `CHUNK` numbers (one row at least)."""
    rows = max(1, CHUNK // max(1, int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]


def only(arrays: Sequence[np.ndarray], *values: int) -> bool:
    """Whether the arrays hold no other values."""
    return all(np.isin(piece, values).all() for array in arrays for _, piece in pieces(array))


def refuse_gaps(array: np.ndarray, where: Path | str) -> None:
    """Refuse missing and infinite numbers, and those that float32 cannot hold."""
    if array.dtype.kind != "f":
        return
    for start, piece in pieces(array):
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(piece.astype(np.float32, copy=False))
        if bad.any():
            row = start + int(np.argwhere(bad)[0, 0])
            raise InputError(
                f"{where}: a value of row {row} (counted from 0) is missing (NaN) or infinite. "
                "Fill such values, or drop their rows, and save the file anew."
            )


def channels_first(array: np.ndarray, where: Path | str) -> np.ndarray:
    """Bring an array to [n, channels, height, width], or [n, d] for vectors, without a copy.

    Four axes are channels-last where only the last can be: 1 or 3 long, and the second not.
    """
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        array = np.moveaxis(array, -1, 1)
    if array.ndim not in (2, 4):
        raise InputError(
            f"{where}: an array of shape {array.shape}. "
            "Give images as [n, height, width], [n, channels, height, width] or [n, height, width, 3]; "
            "vectors as [n, d]."
        )
    if 0 in array.shape:
        raise InputError(
            f"{where}: no examples, its shape is {array.shape}. Give at least one example with values in it."
        )
    return array


def average_areas(images: np.ndarray, size: int, scale: float, name: str) -> np.ndarray:
    """Images [n, channels, size, size] of means over squares of pixels, in units of what the model sees.

    Raises:
        InputError: images that are not square, or whose side is no multiple of ``size``.
    """
    n, channels, height, width = images.shape if images.ndim == 4 else (len(images), 0, 0, 1)
    if height != width or height % size:
        raise InputError(
            f"data.size {size}: the examples of {name} are {'x'.join(map(str, images.shape[1:]))}, and a set by name "
            "is made smaller by averaging squares of pixels. Take a size that divides its sides, or leave it out."
        )
    factor = height // size
    result = np.empty((n, channels, size, size), np.float32)
    for start, piece in pieces(images):
        squares = piece.reshape(len(piece), channels, size, factor, size, factor)
        result[start : start + len(piece)] = squares.mean((3, 5), dtype=np.float64) / scale
    return result


def label_numbers(
    labels: Sequence[np.ndarray | None], where: Path | str
) -> tuple[list[np.ndarray | None], tuple | None]:
    """The labels of all parts as int64 numbers of classes, and the names of the classes, in order.

    Raises:
        InputError: a label is missing, or is a fraction.
    """
    given = [check_labels(label, where) for label in labels if label is not None]
    if not given:
        return list(labels), None
    classes = np.unique(np.concatenate(given))
    numbers = [None if x is None else np.searchsorted(classes, x.astype(classes.dtype)) for x in labels]
    return numbers, tuple(str(c) for c in classes)


def check_labels(labels: np.ndarray, where: Path | str) -> np.ndarray:
    """Labels as whole numbers or text."""
    cure = "Give each example a whole number or a name, or set data.labels to false."
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise InputError(f"{where}: label of row {np.argmin(np.isfinite(labels))} is missing (NaN). {cure}")
        if (labels % 1 != 0).any():
            raise InputError(f"{where}: labels are fractions, such as {labels[labels % 1 != 0][0]}. {cure}")
        return labels.astype(np.int64)
    if labels.dtype.kind == "b":
        return labels.astype(np.int64)
    if labels.dtype.kind == "U" and (labels == "").any():
        raise InputError(f"{where}: label of row {np.argmax(labels == '')} is missing. {cure}")
    if labels.dtype.kind not in "iuU":
        raise InputError(f"{where}: labels of type {labels.dtype}. {cure}")
    return labels


# examples


class Mapped:
    """Rows of a memory-mapped array, fetched as they are asked for; to `Examples` it looks like a tensor [n, ...]."""

    def __init__(self, array: np.ndarray, rows: np.ndarray, dtype: type, device: torch.device | str = "cpu") -> None:
        self._array, self._rows, self._dtype, self.device = array, rows, dtype, torch.device(device)
        self.shape = torch.Size((len(rows), *array.shape[1:]))

    def index_select(self, dim: int, index: Integer[Tensor, " batch"]) -> Tensor:
        """The rows of ``index``, on the device; ``dim`` is 0, as in torch's own."""
        rows = self._array[self._rows[index.cpu().numpy()]]
        return torch.from_numpy(np.ascontiguousarray(rows, dtype=self._dtype)).to(self.device)

    def to(self, device: torch.device | str) -> "Mapped":
        return Mapped(self._array, self._rows, self._dtype, device)


class Examples:
    """One split: stored pixels on a device, and how a batch is made of them.

    Args:
        name: train, valid or test; fixed binarizations differ by it.
        pixels: stored numbers [n, *shape], uint8 or float32.
        rows: number of each example in its source, int64 [n]; 0, 1, ... where None.
        labels: number of each example's class, int64 [n].
        scale: what the stored numbers are divided by.
        binarize: none, threshold, static or dynamic.
        seed: of the fixed binarizations.
        copies: fixed binarizations that an evaluation takes of each example.
        names: file name of each example, where it was a file.
        factors: of each example, the numbers of the classes of what else is known of it, int64 [n, f].
    """

    def __init__(
        self,
        name: str,
        pixels: Tensor | Mapped,
        rows: Integer[Tensor, " n"] | None = None,
        labels: Integer[Tensor, " n"] | None = None,
        *,
        scale: float = 1.0,
        binarize: str = "none",
        seed: int = 0,
        copies: int = 1,
        names: tuple[str, ...] | None = None,
        factors: Integer[Tensor, "n f"] | None = None,
    ) -> None:
        self.name, self.labels, self.names, self.copies = name, labels, names, copies
        self.factors = factors
        self.rows = torch.arange(pixels.shape[0], device=pixels.device) if rows is None else rows
        self._pixels, self._scale, self._binarize, self._seed = pixels, scale, binarize, seed
        self._drawn: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return self._pixels.shape[0]

    @property
    def device(self) -> torch.device:
        return self._pixels.device

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return tuple(self._pixels.shape[1:])

    @cached_property
    def rows_hash(self) -> str:
        """12 hex digits that say which examples these are, in which order: of row numbers and stored values."""
        total = hashlib.sha256(self.rows.cpu().numpy().tobytes())
        for index in self._pieces():
            total.update(self._pixels.index_select(0, index).cpu().numpy().tobytes())
        return total.hexdigest()[:12]

    def to(self, device: torch.device | str) -> "Examples":
        """These examples on a device, with what was drawn already."""
        moved = copy.copy(self)
        moved._pixels, moved.rows = self._pixels.to(device), self.rows.to(device)
        moved.labels = None if self.labels is None else self.labels.to(device)
        moved.factors = None if self.factors is None else self.factors.to(device)
        moved._drawn = {k: drawn.to(device) for k, drawn in self._drawn.items()}
        return moved

    def thresholded(self) -> "Examples":
        """The same, binarized at 0.5."""
        made = copy.copy(self)
        made._binarize, made._drawn, made.copies = "threshold", {}, 1
        return made

    def order(self, randomness: Randomness, epoch: int) -> Integer[Tensor, " n"]:
        """The order in which an epoch goes through the examples, from the seed and the epoch alone."""
        generator = randomness("order", epoch)
        return torch.randperm(len(self), generator=generator, device=generator.device).to(self.device)

    def unbinarized(self, index: Integer[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """Scaled values before any binarization: of binarized pixels the probabilities."""
        return self._scaled(index)

    def batch(self, index: Integer[Tensor, " batch"], generator: torch.Generator | None = None) -> Batch:
        """Examples as training sees them: dynamic binarization draws anew, from ``generator``."""
        if self._binarize == "static":
            return self.fixed(index)
        if self._binarize == "dynamic":
            if generator is None:
                raise ValueError("dynamic binarization draws anew each time: pass a generator, or use fixed().")
            return Batch(quick_bernoulli(self._scaled(index, 2**16), generator), self._labels_of(index))
        x = self._scaled(index)
        if self._binarize == "threshold":
            x = (x > 0.5).to(x.dtype)
        return Batch(x, self._labels_of(index))

    def fixed(self, index: Integer[Tensor, " batch"], copy: int = 0) -> Batch:
        """Examples as evaluation sees them: a random binarization depends on seed, split and ``copy`` alone."""
        if self._binarize not in ("static", "dynamic"):
            return self.batch(index)
        if copy not in self._drawn:
            self._drawn[copy] = self._draw(copy)
        return Batch(self._drawn[copy].index_select(0, index).float(), self._labels_of(index))

    def _scaled(self, index: Integer[Tensor, " batch"], by: float = 1.0) -> Float[Tensor, "batch *shape"]:
        """Values as the model sees them, times ``by``."""
        x = self._pixels.index_select(0, index)
        if x.dtype == torch.uint8:
            x = x.float()
        return x if self._scale == by else x.mul_(by / self._scale)

    def _labels_of(self, index: Integer[Tensor, " batch"]) -> Integer[Tensor, " batch"] | None:
        return None if self.labels is None else self.labels.index_select(0, index)

    def _pieces(self) -> Iterator[Integer[Tensor, " piece"]]:
        """Indices of all examples, 1,024 at a time."""
        yield from torch.arange(len(self), device=self.device).split(1024)

    def _draw(self, copy: int) -> Tensor:
        """One binarization of the whole split, uint8; drawn on the CPU, so that it is the same on every device."""
        generator = torch.Generator().manual_seed(seed_for(self._seed, f"binarize {self.name}", copy))
        drawn = [bernoulli(self._scaled(index).cpu(), generator).byte() for index in self._pieces()]
        return torch.cat(drawn).to(self.device)


def bernoulli(p: Float[Tensor, "..."], generator: torch.Generator) -> Float[Tensor, "..."]:
    """Zeros and ones, one with probability p: three times as fast as `torch.bernoulli`."""
    uniform = torch.rand(p.shape, generator=generator, device=generator.device).to(p.device)
    return uniform.lt_(p)  # in place: writing booleans and converting them costs more than the comparison


def quick_bernoulli(p: Float[Tensor, "..."], generator: torch.Generator) -> Float[Tensor, "..."]:
    """`bernoulli` for training, of probabilities given times 2^16: a draw costs 16 random bits in place of 32.

    A probability counts as the nearest multiple of 2^-16, so it is off by 2^-17 at the most; 0 and 1 are exact.
    """
    count = p.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    draws = words.view(torch.int16)[:count].view(p.shape).to(p.device)
    return draws.float().add_(2**15 + 0.5).lt_(p)  # 0.5, 1.5, ... 65535.5, each as likely

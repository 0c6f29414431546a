"""Data sets by name or by path, divided, scaled and binarized: `load`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from elboroom import config as configuration
from elboroom.data import readers, splits, store
from elboroom.data.catalog import CATALOG, Dataset, Remote, catalog_table, dataset
from elboroom.data.prepare import (
    REAL,
    UNIT_INTERVAL,
    Examples,
    Mapped,
    Scaling,
    average_areas,
    channels_first,
    interpret,
    label_numbers,
)
from elboroom.data.store import CheckResult, Listing, check, describe, fetch, listing
from elboroom.errors import InputError, unknown

__all__ = [
    "CATALOG",
    "CheckResult",
    "Data",
    "Dataset",
    "Examples",
    "Listing",
    "Remote",
    "catalog_table",
    "check",
    "dataset",
    "describe",
    "fetch",
    "listing",
    "load",
]


@dataclass(frozen=True)
class Data:
    """A data set as a run uses it."""

    title: str
    shape: tuple[int, ...]  # of one example: (channels, height, width) or (d,)
    values: str  # after binarization: binary, unit-interval or real
    grey: str  # what the values are before it, in words
    classes: tuple[str, ...] | None  # their names, None without labels
    train: Examples
    valid: Examples | None
    test: Examples
    files: dict[str, str]  # name of each file that was read (or of the folder) -> sha256
    binarization: str  # as protocols say it
    factors: dict[str, tuple[float, ...]] | None = None  # name of each column of `Examples.factors` -> class values
    log_density: Callable[[np.ndarray], np.ndarray] | None = None  # true log p(x) of [n, *shape], where it is known
    sorted: bool = False  # whether its first rows are no fair sample of the others

    def to(self, device: torch.device | str) -> "Data":
        """The same on a device."""
        return replace(self, **{name: examples.to(device) for name, examples in self.splits().items()})

    def thresholded(self) -> "Data":
        """The same, binarized at 0.5; InputError where it is not binarized."""
        if self.binarization == "none":
            raise InputError(
                f"data '{self.title}' are not binarized, so its model knows no thresholded images. "
                "Leave `thresholded` out."
            )
        parts = {name: examples.thresholded() for name, examples in self.splits().items()}
        return replace(self, binarization="threshold", **parts)

    def splits(self) -> dict[str, Examples]:
        """The splits that there are, by name."""
        found = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: examples for name, examples in found.items() if examples is not None}


@dataclass(frozen=True)
class Source:
    """A data set as its files hold it, its parts in order, and the division that was asked for."""

    where: str
    parts: readers.Parts
    scaling: Scaling
    classes: tuple[str, ...] | None
    files: dict[str, str]
    rows: splits.Rows
    factors: dict[str, tuple[float, ...]] | None = None
    log_density: Callable[[np.ndarray], np.ndarray] | None = None
    sorted: bool = True  # one's own may be: by class, by time


def load(config: configuration.Data, folder: Path | None = None) -> Data:
    """Find, verify, read and divide the data of a run, on the CPU.

    Named data sets are looked for in ``folder`` (--data-dir), $ELBOROOM_DATA and the user cache, and else downloaded
    to the first of these that can be written to. One's own data without a test split gives a sixth of it, by a
    permutation from the constant seed 0, for test.

    Args:
        config: which data, which split, which binarization.
        folder: the folder of data sets, as <folder>/<name>/<files>.

    Raises:
        InputError: whatever is wrong with the files or the request, and the cure.
    """
    source = named(config, folder) if config.name is not None else by_path(config)
    rows = splits.choose(source.rows, config.valid, config.limit, source.where)
    binarize = binarization(config.binarize, source)
    split = {name: examples(config, source, name, rows[name], binarize) for name in rows if len(rows[name])}
    return Data(
        title=config.title,
        shape=split["train"].shape,
        values=source.scaling.values if binarize == "none" else "binary",
        grey=source.scaling.grey,
        classes=source.classes,
        train=split["train"],
        valid=split.get("valid"),
        test=split["test"],
        files=source.files,
        binarization=described(binarize, config.seed),
        factors=source.factors,
        log_density=None if binarize != "none" else source.log_density,
        sorted=source.sorted,
    )


def named(config: configuration.Data, folder: Path | None) -> Source:
    """A data set of the catalog."""
    entry = dataset(config.name)
    split = entry.split(config.name, config.split)
    chosen = entry.chosen(config.name, config.options)
    place = store.find(config.name, folder) or fetch(config.name, folder)
    files = store.verify(config.name, place)
    read = entry.read(place, **chosen)
    parts = {name: shaped(part, place) for name, part in read.items()}
    rows = split.divide(splits.numbered({name: len(p.images) for name, p in parts.items()}))
    expected(config.name, split, rows, parts, place)
    parts, classes = labelled(parts, config.labels, place, entry.classes)
    scaling = entry.scaling
    if config.size is not None:
        parts, scaling = shrunk(parts, scaling, config.size, config.name)
    density = None if entry.log_density is None else partial(entry.log_density, **chosen)
    files = files or readers.checksums(read)
    return Source(str(place), parts, scaling, classes, files, rows, entry.factors, density, entry.sorted)


def expected(name: str, split: splits.Split, rows: splits.Rows, parts: readers.Parts, place: Path) -> None:
    """Refuse files that are sound, but not of the data set."""
    shape, sizes = CATALOG[name].shape, tuple(len(rows[part]) for part in ("train", "valid", "test"))
    shapes = {part.images.shape[1:] for part in parts.values()}
    if sizes != split.sizes or shapes != {shape}:
        raise InputError(
            f"{place}: {sizes} examples for train, valid and test, of shape {sorted(shapes)}; "
            f"{name} has {split.sizes} of {shape}. "
            f"Remove these files and fetch the official ones: `elboroom data fetch {name}`."
        )


def by_path(config: configuration.Data) -> Source:
    """One's own data."""
    path = Path(config.path).expanduser()
    if config.split != "official":
        raise unknown(f"split of {path}", config.split, ["official"])
    parts = {name: shaped(part, path) for name, part in readers.own(path, config.size).items()}
    shapes = {part.images.shape[1:] for part in parts.values()}
    if len(shapes) > 1:
        raise InputError(f"{path}: examples of shapes {sorted(shapes)} in its splits. Give all of them one shape.")
    scaling = interpret([part.images for part in parts.values()], path)
    parts, classes = labelled(parts, config.labels, path, None)
    rows = splits.of_own(splits.numbered({name: len(part.images) for name, part in parts.items()}), str(path))
    return Source(str(path), parts, scaling, classes, readers.fingerprint(path, parts), rows)


def shaped(part: readers.Part, where: Path) -> readers.Part:
    return replace(part, images=channels_first(part.images, where))


def shrunk(parts: readers.Parts, scaling: Scaling, size: int, name: str) -> tuple[readers.Parts, Scaling]:
    """All images averaged to size x size, and how to read what they hold then."""
    averaged = {k: replace(p, images=average_areas(p.images, size, scaling.scale, name)) for k, p in parts.items()}
    return averaged, UNIT_INTERVAL if scaling.values != "real" else REAL


def labelled(
    parts: readers.Parts, wanted: bool, where: Path, classes: tuple[str, ...] | None
) -> tuple[readers.Parts, tuple[str, ...] | None]:
    """Labels of all parts as numbers of classes, or none at all; ``classes`` are their names, where those are known."""
    if not wanted:
        return {name: replace(part, labels=None) for name, part in parts.items()}, None
    numbers, seen = label_numbers([part.labels for part in parts.values()], where)
    changed = {name: replace(p, labels=y) for (name, p), y in zip(parts.items(), numbers, strict=True)}
    return changed, seen if seen is None or classes is None else classes


def binarization(wanted: str, source: Source) -> str:
    """The binarization that data get: those of two values need none, and real numbers can have none."""
    if source.scaling.values == "real" and wanted != "none":
        raise InputError(
            f"{source.where}: holds {source.scaling.grey}, and only values in [0, 1] can be binarized. "
            "Set data.binarize to none, or scale the values to [0, 1]."
        )
    return "none" if source.scaling.values == "binary" else wanted


def described(binarize: str, seed: int) -> str:
    """The words of protocols for a binarization."""
    return {"none": "none", "threshold": "threshold 0.5"}.get(binarize, f"{binarize}, seed {seed}")


def examples(config: configuration.Data, source: Source, name: str, rows: np.ndarray, binarize: str) -> Examples:
    """One split of a source."""
    parts = list(source.parts.values())
    labels, names, factors = (gathered(parts, field, rows) for field in ("labels", "names", "factors"))
    return Examples(
        name,
        pixels(parts, rows, source.scaling),
        torch.from_numpy(rows),
        None if labels is None else torch.from_numpy(labels),
        scale=source.scaling.scale,
        binarize=binarize,
        seed=config.seed,
        copies=config.copies if name != "train" and binarize in ("static", "dynamic") else 1,
        names=None if names is None else tuple(names.tolist()),
        factors=None if factors is None else torch.from_numpy(factors),
    )


def pixels(parts: list[readers.Part], rows: np.ndarray, scaling: Scaling) -> torch.Tensor | Mapped:
    """The stored numbers of some rows: a tensor, or a view of the file where that is memory-mapped."""
    if isinstance(parts[0].images, np.memmap):
        return Mapped(parts[0].images, rows, scaling.dtype)
    return torch.from_numpy(np.ascontiguousarray(gathered(parts, "images", rows), dtype=scaling.dtype))


def gathered(parts: list[readers.Part], field: str, rows: np.ndarray) -> np.ndarray | None:
    """What ascending rows hold, through all parts; None where a part that they touch has no such field."""
    found, start = [], 0
    for part in parts:
        low, high = np.searchsorted(rows, (start, start + len(part.images)))
        if low < high:
            found.append((getattr(part, field), rows[low:high] - start))
        start += len(part.images)
    if any(values is None for values, _ in found):
        return None
    return np.concatenate([np.asarray(values)[index] for values, index in found])

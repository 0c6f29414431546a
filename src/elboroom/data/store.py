"""Where the files of known data sets are: found, verified, listed and fetched. Kept as <dir>/<data set>/<file name>."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pooch

from elboroom.data.catalog import CATALOG, Dataset, Remote, dataset
from elboroom.data.readers import checksums, packed_or_not, sha256
from elboroom.errors import InputError

TIMEOUT = 30
"""Seconds that a server may stay silent."""


@dataclass(frozen=True)
class Listing:
    """A line of `data list`. ``where`` is None for what would have to be fetched; ``bytes`` is then what that costs."""

    name: str
    shape: tuple[int, ...]
    splits: dict[str, tuple[int, int, int]]  # name -> sizes of train, valid, test
    bytes: int
    where: Path | None
    source: str
    licence: str


@dataclass(frozen=True)
class CheckResult:
    """A line of `data check`: ``ok`` is None where there is nothing to check."""

    name: str
    path: Path | None
    ok: bool | None
    message: str


def places(folder: Path | None = None) -> list[Path]:
    """Where data sets are looked for, in order: ``folder`` (--data-dir), $ELBOROOM_DATA, the user cache."""
    named = os.environ.get("ELBOROOM_DATA")
    return [Path(p).expanduser() for p in (folder, named, pooch.os_cache("elboroom")) if p]


def present(entry: Dataset, folder: Path) -> list[Path]:
    """Those files of a data set that are in its folder, packed or not."""
    found = (packed_or_not(folder / remote.name) for remote in entry.files)
    return [path for path in found if path is not None]


def find(name: str, folder: Path | None = None) -> Path | None:
    """The first folder that holds all files of a data set, None where none does."""
    entry = dataset(name)
    if entry.package is not None:
        return entry.installed
    candidates = (place / name for place in places(folder))
    return next((c for c in candidates if len(present(entry, c)) == len(entry.files)), None)


def verify(entry: Dataset, folder: Path) -> dict[str, str]:
    """File name -> sha256 of the files of a data set, each as its official place has it.

    Raises:
        InputError: a file is missing or has another content.
    """
    if not entry.files:
        return checksums(entry.read(folder))
    return {path.name: digest for path, digest in (verify_file(remote, folder) for remote in entry.files)}


def verify_file(remote: Remote, folder: Path) -> tuple[Path, str]:
    """The path of a file and its sha256."""
    path = packed_or_not(folder / remote.name)
    if path is None:
        raise InputError(f"{folder / remote.name}: no such file. Fetch it: `elboroom data fetch {folder.name}`.")
    digest, wanted = sha256(path), remote.sha256 if path.name == remote.name else remote.unpacked
    if wanted is not None and digest != wanted:
        raise InputError(
            f"{path}: not the official file, its checksum is {digest[:12]}… and should be {wanted[:12]}…. "
            f"Remove it and fetch it anew: `elboroom data fetch {folder.name}`."
        )
    return path, digest


def fetch(name: str, folder: Path | None = None) -> Path:
    """Download what is missing of a data set, each file by its checksum, and return its folder.

    Files go below ``folder``, or the first of `places` that can be written to. Those there are verified and left alone.

    Raises:
        InputError: unknown name, a file there with another content, no network, or another content from there.
    """
    entry = dataset(name)
    if entry.package is not None:
        return entry.installed
    target = (folder or next(filter(writable, places()), places()[-1])) / name
    for remote in entry.files:
        if packed_or_not(target / remote.name) is None:
            download(remote, target)
        else:
            verify_file(remote, target)
    return target


def writable(folder: Path) -> bool:
    """Whether a folder, or the nearest one above it that exists, can be written to."""
    there = next((p for p in (folder, *folder.absolute().parents) if p.exists()), folder)
    return os.access(there, os.W_OK)


def download(remote: Remote, target: Path) -> None:
    """Fetch one file from the first of its addresses that gives the right content; nothing is left of a wrong one."""
    reasons = []
    for url in remote.urls:
        try:
            loader = pooch.HTTPDownloader(timeout=TIMEOUT)
            pooch.retrieve(url, f"sha256:{remote.sha256}", remote.name, target, downloader=loader)
            return
        except (OSError, ValueError) as error:  # no network, no such page, no right to write; another checksum
            reasons.append(f"{url}: {type(error).__name__}")
    remove_empty(target)
    raise InputError(
        f"{target / remote.name}: could not be downloaded ({'; '.join(reasons)}). "
        f"Get it from {remote.urls[0]} by other means and put it there, "
        f"or name with --data-dir or ELBOROOM_DATA the folder that holds {target.name}/."
    )


def remove_empty(folder: Path) -> None:
    """Take away the folder that a failed download has made."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def describe(folder: Path | None = None) -> list[Listing]:
    """What is known by name, where it is, and how large it is."""
    return [line(name, entry, find(name, folder)) for name, entry in CATALOG.items()]


def listing(folder: Path | None = None) -> str:
    """`describe` as a table of text."""
    rows = [("name", "shape", "split", "train / valid / test", "MB", "where")]
    for row in describe(folder):
        where = f"`elboroom data fetch {row.name}`" if row.where is None else str(row.where)
        for split, sizes in row.splits.items():
            numbers = " / ".join(f"{n:,}" if n else "-" for n in sizes)
            rows.append((row.name, "x".join(map(str, row.shape)), split, numbers, f"{row.bytes / 1e6:.1f}", where))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def line(name: str, entry: Dataset, where: Path | None) -> Listing:
    """The listing of one data set."""
    sizes = {split: division.sizes for split, division in entry.splits.items()}
    size = sum(remote.bytes for remote in entry.files)
    if where is not None:
        files = present(entry, where) or [file for part in entry.read(where).values() for file in part.files]
        size = sum(path.stat().st_size for path in files)
    return Listing(name, entry.shape, sizes, size, where, entry.source, entry.licence)


def check(names: Iterable[str] | None = None, folder: Path | None = None) -> list[CheckResult]:
    """Verify what is there of the named data sets (all, where None): checksums, and that the files can be read."""
    return [check_one(name, folder) for name in (CATALOG if names is None else names)]


def check_one(name: str, folder: Path | None) -> CheckResult:
    entry = dataset(name)
    partly = (place / name for place in places(folder) if present(entry, place / name))
    path = find(name, folder) or next(partly, None)
    if path is None:
        return CheckResult(name, None, None, f"not here; `elboroom data fetch {name}` downloads it")
    try:
        hashes = verify(entry, path)
        parts = entry.read(path)
    except InputError as error:
        return CheckResult(name, path, False, str(error))
    examples = sum(len(part.images) for part in parts.values())
    return CheckResult(name, path, True, f"files as published: {len(hashes)}; examples: {examples:,}")

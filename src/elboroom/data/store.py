"""Where the files of known data sets are: found, verified, listed and fetched. Kept as <dir>/<data set>/<file name>."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pooch

from elboroom.data.catalog import CATALOG, Dataset, Remote, dataset
from elboroom.data.readers import digest_of, sha256
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


def candidates(name: str, folder: Path | None) -> list[Path]:
    """The folders in which the files of a data set may lie, in order."""
    return [place / (dataset(name).folder or name) for place in places(folder)]


def held(remote: Remote, folder: Path) -> list[Path]:
    """The paths that hold a file's content, itself or all of its stand-ins; empty where neither is whole."""
    choices = ([folder / remote.name], [folder / name for name in remote.stand_ins])
    return next((paths for paths in choices if paths and all(p.is_file() for p in paths)), [])


def whole(entry: Dataset, folder: Path) -> bool:
    """Whether all files of a data set are in a folder."""
    return all(held(remote, folder) for remote in entry.files)


def begun(entry: Dataset, folder: Path) -> bool:
    """Whether any file of a data set is in a folder."""
    return any((folder / name).is_file() for remote in entry.files for name in (remote.name, *remote.stand_ins))


def find(name: str, folder: Path | None = None) -> Path | None:
    """The first folder that holds all files of a data set, None where none does."""
    entry = dataset(name)
    if entry.package is not None:
        return entry.installed
    return next((c for c in candidates(name, folder) if whole(entry, c)), None)


def verify(name: str, folder: Path) -> dict[str, str]:
    """File name -> sha256 of the files of a data set, each with the content that is published; nothing is unpickled.

    Raises:
        InputError: a file is missing or has another content.
    """
    return {
        file: digest for remote in dataset(name).files for file, digest in verify_file(remote, folder, name).items()
    }


def verify_file(remote: Remote, folder: Path, name: str) -> dict[str, str]:
    """File name -> sha256 of a file of the data set ``name``, or of its stand-ins."""
    paths = held(remote, folder)
    if not paths:
        raise InputError(f"{missing(remote, folder)}: no such file. Fetch it: `elboroom data fetch {name}`.")
    found = {path.relative_to(folder).as_posix(): sha256(path) for path in paths}
    wanted = {remote.name: remote.sha256, **remote.stand_ins}
    for file, digest in found.items():
        same_checksum(folder / file, digest, wanted[file], name)
    if remote.md5 is not None and remote.name in found:
        same_checksum(folder / remote.name, digest_of(folder / remote.name, "md5"), remote.md5, name)
    return found


def missing(remote: Remote, folder: Path) -> Path:
    """The file that is to be blamed: a missing stand-in where others of them are there, else the file itself."""
    absent = [folder / name for name in remote.stand_ins if not (folder / name).is_file()]
    return absent[0] if 0 < len(absent) < len(remote.stand_ins) else folder / remote.name


def same_checksum(path: Path, digest: str, wanted: str | None, name: str) -> None:
    """Refuse a file whose checksum is not the published one, where there is one."""
    if wanted is not None and digest != wanted:
        raise InputError(
            f"{path}: not the official file, its checksum is {digest[:12]}… and should be {wanted[:12]}…. "
            f"Remove it and fetch it anew: `elboroom data fetch {name}`."
        )


def fetch(name: str, folder: Path | None = None) -> Path:
    """Download what is missing of a data set, each file by its checksum, and return its folder.

    Files go below ``folder``, or the first of `places` that can be written to. Those there are verified and left alone.

    Raises:
        InputError: unknown name, a file there with another content, no network, or another content from there.
    """
    entry = dataset(name)
    if entry.package is not None:
        return entry.installed
    target = (folder or next(filter(writable, places()), places()[-1])) / (entry.folder or name)
    for remote in entry.files:
        if held(remote, target):
            verify_file(remote, target, name)
        else:
            download(remote, target)
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
            pooch.retrieve(url, remote.known_hash, remote.name, target, downloader=loader)
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
        for split, division in CATALOG[row.name].splits.items():
            size = f"{row.bytes / 1e6:.1f}" if row.bytes else "?"
            rows.append((row.name, "x".join(map(str, row.shape)), split, division.words, size, where))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def line(name: str, entry: Dataset, where: Path | None) -> Listing:
    """The listing of one data set."""
    sizes = {split: division.sizes for split, division in entry.splits.items()}
    size = sum(remote.bytes for remote in entry.files)
    if where is not None:
        files = [path for remote in entry.files for path in held(remote, where)] or [where]
        size = sum(path.stat().st_size for path in files)
    return Listing(name, entry.shape, sizes, size, where, entry.source, entry.licence)


def check(names: Iterable[str] | None = None, folder: Path | None = None) -> list[CheckResult]:
    """Verify what is there of the named data sets (all, where None): checksums, and that the files can be read."""
    return [check_one(name, folder) for name in (CATALOG if names is None else names)]


def check_one(name: str, folder: Path | None) -> CheckResult:
    entry = dataset(name)
    partly = (place for place in candidates(name, folder) if begun(entry, place))
    path = find(name, folder) or next(partly, None)
    if path is None:
        return CheckResult(name, None, None, f"not here; `elboroom data fetch {name}` downloads it")
    try:
        hashes = verify(name, path)
        parts = entry.read(path, **entry.chosen(name, {}))
    except InputError as error:
        return CheckResult(name, path, False, str(error))
    examples = sum(len(part.images) for part in parts.values())
    return CheckResult(name, path, True, f"{origin(entry, len(hashes))}; examples: {examples:,}")


def origin(entry: Dataset, files: int) -> str:
    """What a check can say of files that are sound."""
    if entry.package is not None:
        return f"comes with {entry.package.split(':')[0]}"
    if any(remote.known_hash is None for remote in entry.files):
        return f"files: {files}, no checksum is published"
    return f"files as published: {files}"

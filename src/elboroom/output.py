"""Arrays out of the program: .npz, .csv and .png, by the suffix."""

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from elboroom.errors import InputError, unknown
from elboroom.training.checkpoint import check_writable, replace_bytes, room

Array = np.ndarray


def write(path: Path, arrays: dict[str, Array]) -> None:
    """Write named arrays; a .png shows images (several arrays of images: one row of each in turn)."""
    check(path)
    content = io.BytesIO()
    WRITERS[path.suffix.lower()](content, arrays)
    with room(path.parent, "try again"):
        replace_bytes(path, content.getvalue())


def check(path: Path) -> None:
    """InputError where no array can be written to this path; asked before the work is done."""
    if path.suffix.lower() not in WRITERS:
        raise unknown(f"output suffix of {path}", path.suffix, WRITERS)
    check_file(path)


def check_file(path: Path) -> None:
    """InputError where no file can be written to this path; asked before the work is done."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Name a file in it (--out).")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder. Make it, or choose another --out.")
    check_writable(path.parent)


def _npz(file: io.BytesIO, arrays: dict[str, Array]) -> None:
    np.savez_compressed(file, **arrays)


def _csv(file: io.BytesIO, arrays: dict[str, Array]) -> None:
    """One row per example: its flattened arrays, with a header."""
    columns, header = [], []
    for name, values in arrays.items():
        flat = values.reshape(len(values), -1)
        columns.append(flat)
        header += [name] if values.ndim == 1 else [f"{name}-{i}" for i in range(flat.shape[1])]
    rows = np.concatenate([c.astype(np.float64) for c in columns], axis=1)
    np.savetxt(file, rows, delimiter=",", header=",".join(header), comments="", fmt="%.9g")


def _png(file: io.BytesIO, arrays: dict[str, Array]) -> None:
    images = list(arrays.values())
    if any(a.ndim not in (4, 5) or a.shape[-3] not in (1, 3) for a in images):
        raise InputError(
            "a .png holds grey or colour images, and these are vectors or have other channels. "
            "Write .npz or .csv instead (--out)."
        )
    sheet = _lines(images[0]) if images[0].ndim == 5 else _pairs(images)
    Image.fromarray(sheet).save(file, "PNG")


WRITERS = {".npz": _npz, ".csv": _csv, ".png": _png}


def _lines(images: Array) -> Array:
    """[lines, steps, C, H, W]: one line of the sheet each."""
    return tile(images.reshape(-1, *images.shape[2:]), images.shape[1])


def _pairs(arrays: list[Array]) -> Array:
    """A row of each array in turn."""
    across = min(len(arrays[0]), max(1, math.ceil(math.sqrt(len(arrays[0]) * len(arrays)))))
    rows = [a[start : start + across] for start in range(0, len(arrays[0]), across) for a in arrays]
    blank = np.zeros_like(arrays[0][:1])
    padded = [np.concatenate([r, np.repeat(blank, across - len(r), axis=0)]) for r in rows]
    return tile(np.concatenate(padded), across)


def tile(images: Array, across: int, gap: int = 2, least: int = 32) -> Array:
    """Images [n, C, H, W] in [0, 1] on one sheet [height, width(, 3)] of bytes, small ones enlarged."""
    scale = max(1, round(least / images.shape[-1]))
    images = (np.clip(images, 0, 1) * 255).round().astype(np.uint8)
    images = images.repeat(scale, axis=-2).repeat(scale, axis=-1)
    n, channels, height, width = images.shape
    down = -(-n // across)
    sheet = np.full((channels, down * (height + gap) - gap, across * (width + gap) - gap), 128, dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, across)
        y, x = y * (height + gap), x * (width + gap)
        sheet[:, y : y + height, x : x + width] = image
    return sheet[0] if channels == 1 else sheet.transpose(1, 2, 0)

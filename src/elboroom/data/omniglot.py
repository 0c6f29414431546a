"""OMNIGLOT in its two forms: the 28x28 file of Burda et al., and the 105x105 originals made smaller."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from elboroom.data.readers import ANEW, Part, Parts, mat_arrays, npz_array, refusing
from elboroom.errors import InputError


def chardata(folder: Path) -> Parts:
    """Burda's chardata.mat: float32 images in [0, 1], 28x28, labelled by alphabet where the file says it.

    A column of the file is an image, itself written column by column: reading it row by row, as the program of MAE
    does, turns every character on its side. Here they stand upright.
    """
    path = folder / "chardata.mat"
    with refusing(path, ANEW):
        arrays = dict(mat_arrays(path.read_bytes()))
        return {part: chardata_part(path, arrays, prefix) for part, prefix in (("train", ""), ("test", "test"))}


def chardata_part(path: Path, arrays: dict[str, np.ndarray], prefix: str) -> Part:
    """The images whose arrays' names begin so, and their alphabets: ``target`` has a row for each."""
    if f"{prefix}data" not in arrays:
        raise InputError(f"{path}: no array '{prefix}data' in it. {ANEW}")
    images = arrays[f"{prefix}data"].T.reshape(-1, 28, 28).transpose(0, 2, 1)
    if images.min() < 0 or images.max() > 1:
        raise InputError(f"{path}: values of {images.min():g} to {images.max():g}, not within [0, 1]. {ANEW}")
    alphabets = arrays.get(f"{prefix}target")
    labels = None if alphabets is None else alphabets.reshape(-1, len(images)).argmax(0)
    return Part(images.astype(np.float32), (path,), labels)


# the originals

CHARACTERS = tuple(float(number) for number in range(1, 1624))
"""Official numbers of the characters: the first 964 are of the 30 background alphabets."""


def originals(folder: Path) -> Parts:
    """The 30 background alphabets for training and the 20 others for test, as grey 28x28 images with white ink.

    No character and no alphabet is in both, so there are no labels to learn from one and use on the other; the official
    number of the character is a factor.
    """
    return {
        "train": originals_part(folder / "images_background.zip", first=0),
        "test": originals_part(folder / "images_evaluation.zip", first=964),
    }


def originals_part(path: Path, first: int) -> Part:
    """An official archive, or the .npz file of the same images; ``first`` is the number of its first character."""
    if not path.is_file():
        path = path.with_suffix(".npz")
    if path.suffix == ".zip":
        paper, character = from_zip(path)
    else:
        paper = npz_array(path, "images")
        character = np.repeat(np.arange(first, first + len(paper)), paper.shape[1])
    return Part(shrink(paper.reshape(-1, 105, 105)), (path,), factors=character[:, None])


def from_zip(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images, True where the paper is, and numbers of their characters, in the order of the official numbers."""
    with refusing(path, ANEW), zipfile.ZipFile(path) as archive:
        names = {Path(name).stem: name for name in archive.namelist() if name.endswith(".png")}
        keys = sorted(names)  # 0709_01: the character, and who drew it
        images = np.empty((len(keys), 105, 105), np.bool_)
        for i, key in enumerate(keys):
            images[i] = np.asarray(Image.open(io.BytesIO(archive.read(names[key]))))
        return images, np.array([int(key.split("_")[0]) - 1 for key in keys])


def shrink(paper: np.ndarray) -> np.ndarray:
    """Ink of bool images [n, 105, 105] averaged over areas of 3.75 x 3.75 pixels: uint8 [n, 28, 28], 255 all ink.

    Pixels on a border count for the part of them that lies inside. All sums are of whole numbers (15 x 15 sixteenths of
    a pixel an area), so the result is the same on every machine.
    """
    weights = quarters()
    grey = ((2 * 255 * np.arange(226) + 225) // 450).astype(np.uint8)  # of 0 to 225, rounded to the nearest
    small = np.empty((len(paper), 28, 28), np.uint8)
    for start in range(0, len(paper), 256):
        ink = (~paper[start : start + 256]).astype(np.float32)
        areas = weights @ (ink @ weights.T)
        small[start : start + 256] = grey[areas.astype(np.uint8)]
    return small


def quarters() -> np.ndarray:
    """Quarters of pixel j that fall into area i, float32 [28, 105]: 15 for each area, 4 for each pixel."""
    start, pixel = 15 * np.arange(28)[:, None], 4 * np.arange(105)[None]
    return np.clip(np.minimum(start + 15, pixel + 4) - np.maximum(start, pixel), 0, None).astype(np.float32)

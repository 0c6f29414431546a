"""Files to arrays: idx, npy, npz, csv, mat, amat and folders of images. Nothing here scales, divides or writes.

A reader takes a path and returns the parts that the files divide themselves into, ``train``, ``valid`` and ``test``,
or ``all`` where they do not. Whatever is wrong with a file becomes one `InputError` that names it and the cure.
"""

import csv as csv_module
import gzip
import hashlib
import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from elboroom.errors import InputError, nearest

MAPPED_ABOVE = 2 * 2**30
"""Bytes above which a .npy file stays on the disk and its rows are fetched as they are asked for."""

ANEW = "It is cut off or damaged: copy or fetch it anew."


@dataclass(frozen=True)
class Part:
    """One part of a data set as its files hold it, the first axis over examples."""

    images: np.ndarray  # [n, ...], any plain numbers; memory-mapped where the file is large
    files: tuple[Path, ...]
    labels: np.ndarray | None = None  # [n], whole numbers or names
    names: tuple[str, ...] | None = None  # of the image files
    factors: np.ndarray | None = None  # [n, f], int64 numbers of the classes of what is known beside the labels


Parts = dict[str, Part]


@contextmanager
def refusing(path: Path, cure: str) -> Iterator[None]:
    """Make whatever a parser raises one message; on damaged files the parsers in use raise nearly anything."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0].strip().rstrip(".") or type(error).__name__
        raise InputError(f"{path}: cannot be read ({reason}). {cure}") from error


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    return digest_of(path, "sha256")


def digest_of(path: Path, algorithm: str) -> str:
    """Hex digest of a file's bytes by an algorithm of hashlib."""
    with refusing(path, "Check that it exists and that you may read it."), path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def checksums(parts: Parts) -> dict[str, str]:
    """File name -> sha256 of each file that was read; for a part that was drawn, its name and its images."""
    drawn = {name: hashlib.sha256(part.images) for name, part in parts.items() if not part.files}
    read = {file.name: sha256(file) for part in parts.values() for file in part.files}
    return read | {name: images.hexdigest() for name, images in drawn.items()}


def fingerprint(path: Path, parts: Parts) -> dict[str, str]:
    """File name -> sha256 of all that was read; one entry over names and contents for a folder of images."""
    if not path.is_dir():
        return checksums(parts)
    files = [file for part in parts.values() for file in part.files]
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
    return {path.name: total.hexdigest()}


def own(path: Path, size: int | None = None) -> Parts:
    """Read one's own data; what is read how goes by the suffix, or is a folder of images.

    Raises:
        InputError: no such file, unknown suffix, damaged content, or ``size`` for what is no folder of images.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder. Check data.path.")
    if path.is_dir():
        return images(path, size)
    if size is not None:
        raise InputError(f"{path}: data.size resizes folders of images only. Leave data.size out.")
    return reader_for(path)(path)


def reader_for(path: Path) -> Callable[[Path], Parts]:
    """The reader of a single file, by its suffix."""
    if IDX_NAME.search(path.name):
        return idx
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"{path}: a single image. Give data.path the folder that holds the images.")
    if path.suffix.lower() not in READERS:
        known = nearest(path.suffix, [*READERS, ".idx", "-ubyte", "a folder of images"])
        raise InputError(f"{path}: unknown file type '{path.suffix}'; {known}")
    return READERS[path.suffix.lower()]


def with_labels(path: Path, x: np.ndarray, y: np.ndarray | None, *more: Path) -> Part:
    """A part whose labels, where there are any, are one an example."""
    if y is not None and y.ndim == 2 and 1 in y.shape:
        y = y.ravel()
    if y is not None and (y.ndim != 1 or x.ndim == 0 or len(x) != len(y)):
        raise InputError(
            f"{path}: {len(x) if x.ndim else 0:,} images but labels of shape {y.shape}. "
            "Give one label for each image, or take the labels away."
        )
    return Part(x, (path, *more), y)


# idx: the format of MNIST

IDX_NAME = re.compile(r"(\.idx\d*|-ubyte)(\.gz)?$", re.IGNORECASE)
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx(path: Path) -> Parts:
    """An idx file of images; its labels and, for ``train-...``, the test files ``t10k-...`` come from beside it."""
    test = beside(path, {"train": "t10k"})
    if test is None:
        return {"all": idx_part(path)}
    return {"train": idx_part(path), "test": idx_part(test)}


def idx_folder(folder: Path) -> Parts:
    """The four files of MNIST and its relatives, packed or not."""
    train = packed_or_not(folder / "train-images-idx3-ubyte")
    if train is None:
        raise InputError(f"{folder}: no train-images-idx3-ubyte(.gz) in it. {ANEW}")
    return idx(train)


def idx_part(path: Path) -> Part:
    """Images, and the labels of the file beside them."""
    labels = beside(path, {"images": "labels", "idx3": "idx1"})
    if labels is None:
        return Part(idx_array(path), (path,))
    return with_labels(path, idx_array(path), idx_array(labels), labels)


def beside(path: Path, change: dict[str, str]) -> Path | None:
    """The file beside this one whose name has the first word changed (and the others, where they occur)."""
    name = path.name
    for old, new in change.items():
        name = name.replace(old, new)
    return None if next(iter(change)) not in path.name else packed_or_not(path.with_name(name))


def packed_or_not(path: Path) -> Path | None:
    """The .gz file, else the unpacked one, else None."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    packed = plain.with_name(plain.name + ".gz")
    return next((p for p in (packed, plain) if p.is_file()), None)


def idx_array(path: Path) -> np.ndarray:
    """The array of an idx file; its header is held against the length of the file before anything is allocated."""
    with refusing(path, ANEW):
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES or not 1 <= content[3] <= 4:
        raise InputError(f"{path}: not an idx file (it begins with '{content[:4].hex(' ')}'). {ANEW}")
    dtype, axes = np.dtype(IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * axes
    with refusing(path, ANEW):
        shape = struct.unpack(f">{axes}I", content[4:start])
    promised(path, shape, dtype, len(content) - start)
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def promised(path: Path, shape: tuple[int, ...], dtype: np.dtype, held: int) -> None:
    """Refuse a header whose array is not as long as what follows it."""
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != held:
        raise InputError(f"{path}: its header promises {wanted:,} bytes {list(shape)}, it holds {held:,}. {ANEW}")


# numpy

SAVE_PLAIN = "Save it anew, as a plain array of numbers, with numpy.save or numpy.savez."


def npy(path: Path) -> Parts:
    """A .npy file [n, ...]; above `MAPPED_ABOVE` bytes it is memory-mapped."""
    with refusing(path, SAVE_PLAIN):
        # Mapping also holds the header against the length of the file, before anything is allocated.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise InputError(f"{path}: an archive of arrays, not one array. Rename it to .npz.")
        return {"all": Part(array if array.nbytes > MAPPED_ABOVE else np.array(array), (path,))}


def npz(path: Path) -> Parts:
    """A .npz file: images under x, images or data, labels under y or labels; x_train, y_train, x_test are splits."""
    with refusing(path, SAVE_PLAIN), zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        return by_key(path, list(members), lambda key: npy_member(path, archive, members[key]))


def npz_array(path: Path, name: str) -> np.ndarray:
    """One array of a .npz file, by its name."""
    with refusing(path, ANEW), zipfile.ZipFile(path) as archive:
        return npy_member(path, archive, f"{name}.npy")


def npy_member(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array of an archive, its header held against its length before anything is allocated."""
    content = archive.read(name)  # to its end, so that the checksum is looked at
    stream = io.BytesIO(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read_header[np.lib.format.read_magic(stream)](stream)
    if dtype.hasobject:
        raise InputError(f"{path}: '{name}' holds Python objects (a pickle), which are never loaded. {SAVE_PLAIN}")
    promised(path, shape, dtype, len(content) - stream.tell())
    array = np.frombuffer(content, dtype, offset=stream.tell())
    return array.reshape(shape, order="F" if fortran else "C")


IMAGE_KEYS = ("x", "images", "image", "data", "features", "arr_0")
LABEL_KEYS = ("y", "labels", "label", "targets", "target")
SPLIT_NAMES = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}


def by_key(path: Path, keys: list[str], read: Callable[[str], np.ndarray]) -> Parts:
    """Sort the named arrays of a file into parts, by name; a single array needs no particular name."""
    lower = {key.lower(): key for key in keys}
    alone = {part: next((lower[name] for name in names if name in lower), None) for part, names in SPLIT_NAMES.items()}
    found = {part: key_of(lower, IMAGE_KEYS, part) or alone[part] for part in SPLIT_NAMES}
    found = {part: key for part, key in found.items() if key}
    if not found:
        only = keys[0] if len(keys) == 1 else None
        found = {"all": next((lower[k] for k in IMAGE_KEYS if k in lower), only)}
    if found.get("all", "") is None or not found.keys() & {"all", "train"}:
        raise InputError(
            f"{path}: its arrays are named {', '.join(keys) or '(none)'}. "
            "Name the images x (or x_train and x_test), and the labels y (or y_train and y_test)."
        )
    labels = {part: key_of(lower, LABEL_KEYS, part) for part in found}
    return {part: with_labels(path, read(key), read(y) if (y := labels[part]) else None) for part, key in found.items()}


def key_of(lower: dict[str, str], words: tuple[str, ...], part: str) -> str | None:
    """The key for these words in a part: ``x_train`` and ``train_x`` are one."""
    spellings = [k for w in words for p in SPLIT_NAMES.get(part, ()) for k in (f"{w}_{p}", f"{p}_{w}")]
    return next((lower[k] for k in (list(words) if part == "all" else spellings) if k in lower), None)


# MATLAB: read here, because scipy's reader takes the process down with it on some damaged files

MAT_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
MAT_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
MAT_MATRIX, MAT_COMPRESSED = 14, 15
MAT_COMPLEX, MAT_LOGICAL = 0x800, 0x200


def mat(path: Path) -> Parts:
    """A MATLAB 5 to 7.2 file: its largest numeric array, one example a row (``ff`` of Frey faces: one a column).

    An array named y or labels is the labels. MathWorks, "MAT-File Level 5 File Format".
    """
    with refusing(path, "Save it anew from MATLAB with save -v7, numeric arrays only."):
        arrays = dict(mat_arrays(path.read_bytes()))
    labels = [arrays.pop(key) for key in list(arrays) if key.lower() in LABEL_KEYS]
    if not arrays:
        raise InputError(f"{path}: no array of numbers in it. Save the images as one array, an example a row.")
    key = max(arrays, key=lambda k: arrays[k].size)
    return {"all": with_labels(path, arrays[key].T if key == "ff" else arrays[key], labels[0] if labels else None)}


def mat_arrays(content: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values of the real numeric arrays of a file; text, cells, structures and the like are passed over."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or content[125 if order == "<" else 124] != 1:
        raise ValueError("not a MATLAB 5 file")
    for kind, data in mat_elements(memoryview(content)[128:], order):
        if kind == MAT_COMPRESSED:
            kind, data = next(mat_elements(memoryview(zlib.decompress(data)), order))
        found = mat_matrix(data, order) if kind == MAT_MATRIX else None
        if found is not None:
            yield found


def mat_elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and bytes of the elements that follow one another; up to four bytes are packed into the tag itself."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        start = at + 8
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        if start + size > len(content):
            raise ValueError("it ends within an array")
        yield kind, content[start : start + size]
        at = start + size + (0 if kind == MAT_COMPRESSED else -(start + size) % 8)


def mat_matrix(data: memoryview, order: str) -> tuple[str, np.ndarray] | None:
    """Name and values of an array, None where it is not of real numbers."""
    elements = mat_elements(data, order)
    flags = struct.unpack_from(f"{order}I", next(elements)[1])[0]
    if flags & 0xFF not in MAT_CLASSES or flags & MAT_COMPLEX:
        return None
    shape = np.frombuffer(next(elements)[1], f"{order}i4").tolist()
    name = bytes(next(elements)[1]).decode("ascii")
    kind, stored = next(elements)
    values = np.frombuffer(stored, order + MAT_STORED[kind]).reshape(shape, order="F")
    return name, values.astype(np.bool_ if flags & MAT_LOGICAL else MAT_CLASSES[flags & 0xFF])


def frey(folder: Path) -> Parts:
    """The 1,965 frames of Frey faces, 28 rows of 20 pixels, in the order of the film."""
    part = mat(folder / "frey_rawface.mat")["all"]
    if part.images.shape[1:] != (560,):
        raise InputError(f"{part.files[0]}: holds an array of shape {part.images.shape[::-1]}, not 560 x 1965. {ANEW}")
    return {"all": replace(part, images=part.images.reshape(-1, 28, 20))}


# amat: the text of the statically binarized MNIST


def binarized_mnist(folder: Path) -> Parts:
    """The three files of Larochelle, packed or not."""
    paths = {part: folder / f"binarized_mnist_{part}.amat" for part in SPLIT_NAMES}
    paths = {part: path if path.is_file() else path.with_name(path.name + ".gz") for part, path in paths.items()}
    return {part: Part(amat(path, 784).reshape(-1, 28, 28), (path,)) for part, path in paths.items()}


def amat(path: Path, width: int) -> np.ndarray:
    """Lines of ``width`` zeros and ones with a space between each two: uint8 [n, width]."""
    with refusing(path, ANEW):
        content = path.read_bytes()
        text = np.frombuffer(gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content, np.uint8)
        lines = text.reshape(-1, 2 * width)
    digits, between = lines[:, ::2] - ord("0"), lines[:, 1::2]
    if digits.max(initial=0) > 1 or (between[:, :-1] != ord(" ")).any() or (between[:, -1] != ord("\n")).any():
        raise InputError(f"{path}: not {width} zeros and ones a line, with a space between each two. {ANEW}")
    return digits


# tables

LABEL_COLUMNS = ("label", "labels", "class", "target", "y")
NUMBERS_ONLY = (
    "Every row needs the same number of cells, all of them numbers; "
    "fill or drop missing ones, and name a column of class names 'label' in a first line."
)


def csv(path: Path) -> Parts:
    """A table of numbers, an example a row, with or without a first line of names; label, class, target or y is labels.

    Cells are parted by comma, semicolon or tab. Whole numbers of 0 to 255 are grey levels, as in image files.
    """
    with refusing(path, NUMBERS_ONLY):
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
        delimiter = max(",;\t", key=first.count)
        header = next(csv_module.reader([first], delimiter=delimiter), [])
        numbers = [is_number(cell) for cell in header]
        named = not all(numbers)
        label = next((i for i, c in enumerate(header) if named and c.strip().lower() in LABEL_COLUMNS), None)
        if named and any(numbers) and label is None:  # no names, but a row with a gap or a word in it
            raise InputError(f"{path}: its first line holds numbers and other cells. {NUMBERS_ONLY}")
        return {"all": table(path, delimiter, named, [i for i in range(len(header)) if i != label], label)}


def table(path: Path, delimiter: str, named: bool, columns: list[int], label: int | None) -> Part:
    """Read the columns of numbers and the column of labels."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()[int(named) :]
    if not any(line.strip() for line in lines) or not columns:
        raise InputError(f"{path}: no rows of numbers in it. Give one example a row.")
    width = max(len(columns) + (label is not None), 1)
    settings = {"delimiter": delimiter, "quotechar": '"', "comments": None, "ndmin": 2}
    same_width(path, lines, delimiter, width, first=1 + int(named))
    x = np.loadtxt(lines, usecols=columns, **settings)
    if not (np.mod(x, 1) != 0).any() and np.isfinite(x).all() and np.abs(x).max() < 2**53:
        x = x.astype(np.int64)
    return with_labels(path, x, None if label is None else column(lines, label, settings))


def same_width(path: Path, lines: list[str], delimiter: str, width: int, first: int) -> None:
    """Refuse a row with more or fewer cells: loadtxt looks only at the columns that it is asked for."""
    for number, cells in enumerate(csv_module.reader(lines, delimiter=delimiter), first):
        if cells and len(cells) != width:
            raise InputError(f"{path}: line {number} has {len(cells)} cells where {width} are wanted. {NUMBERS_ONLY}")


def column(lines: list[str], label: int, settings: dict) -> np.ndarray:
    """One column, as numbers where they are such, else as text."""
    text = np.loadtxt(lines, usecols=[label], dtype=str, **settings)[:, 0]
    return text.astype(np.float64) if all(is_number(cell) for cell in text) else text


def is_number(cell: str) -> bool:
    """Whether a cell of a table reads as a number; nan does."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


READERS: dict[str, Callable[[Path], Parts]] = {".npy": npy, ".npz": npz, ".csv": csv, ".mat": mat}


# folders of images

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
GREY_MODES = {"1", "L", "LA", "La"}
DEEP_MODES = re.compile(r"I|F")  # more than 8 bits a channel: converting would clip them
CONVERT = "Remove it, or save it anew as an 8-bit PNG."


def images(folder: Path, size: int | None = None) -> Parts:
    """A folder of images, in the order of their names; with ``size``, resized to size x size.

    Sub-folders are class labels. With a sub-folder ``train``, the sub-folders train, valid and test are the splits.
    Grey files give one channel, colour three; where both occur, three. Transparency is dropped, of an animation the
    first frame is taken, and names that begin with a dot are passed over.
    """
    places = split_folders(folder)
    files = {part: image_files(place) for part, place in places.items()}
    for part, place in places.items():
        if not files[part]:
            raise InputError(f"{place}: no images in it. {instead_of_images(place)}")
    everything = [file for found in files.values() for file in found]
    shape = common_shape(everything, size)
    return {part: image_part(folder, places[part], files[part], shape) for part in places}


def split_folders(folder: Path) -> dict[str, Path]:
    """Part -> the folder that holds it."""
    inside = {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")}
    if "train" not in inside:
        return {"all": folder}
    named = {part: [inside.pop(n) for n in names if n in inside] for part, names in SPLIT_NAMES.items()}
    stray = [p for p in inside.values() if image_files(p)] or [p for p in folder.iterdir() if is_image(p)]
    twice = [p for found in named.values() for p in found[1:]]
    if stray or twice:
        raise InputError(
            f"{(stray or twice)[0]}: stands beside {folder.name}/train and belongs to no split. "
            "Move it into train, valid or test, or out of the folder."
        )
    return {part: found[0] for part, found in named.items() if found}


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def image_files(folder: Path) -> list[Path]:
    """All images below a folder, in the order of their names; hidden folders are passed over."""
    found = (p for p in folder.rglob("*") if is_image(p))
    visible = (p for p in found if not any(n.startswith(".") for n in p.relative_to(folder).parts))
    return sorted(visible, key=lambda p: p.relative_to(folder).as_posix())


def instead_of_images(folder: Path) -> str:
    """The cure for a folder without images: what else in it could have been meant."""
    known = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in READERS or IDX_NAME.search(p.name)]
    if known:
        return f"Give data.path a file, such as {known[0]}."
    return f"Put images ({', '.join(sorted(IMAGE_SUFFIXES))}) there, or set data.path to the folder that holds them."


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image, turned as its camera says."""
    with refusing(path, CONVERT), Image.open(path) as image:
        yield ImageOps.exif_transpose(image)


def look(path: Path) -> tuple[int, int, int]:
    """Height, width and channels (1 or 3) of an image."""
    with opened(path) as image:
        if DEEP_MODES.match(image.mode):
            raise InputError(f"{path}: more than 8 bits a channel (mode {image.mode}). {CONVERT}")
        grey = image.mode in GREY_MODES or (image.mode in ("P", "PA") and grey_palette(image))
        return image.height, image.width, 1 if grey else 3


def grey_palette(image: Image.Image) -> bool:
    """Whether all colours of an image with a palette are grey."""
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    return bool((red == green).all() and (green == blue).all())


def common_shape(files: list[Path], size: int | None) -> tuple[int, int, int]:
    """(height, width, channels) of all images.

    Raises:
        InputError: sizes differ and none was asked for, or a file is no image.
    """
    with ThreadPoolExecutor() as pool:
        seen = list(pool.map(look, files))
    height, width, _ = seen[0]
    channels = max(c for _, _, c in seen)
    if size is not None:
        return size, size, channels
    for file, (h, w, _) in zip(files, seen, strict=True):
        if (h, w) != (height, width):
            raise InputError(
                f"{file}: {h}x{w} pixels, but {files[0].name} is {height}x{width}. "
                "Make all images one size: set data.size (--data.size 64)."
            )
    return height, width, channels


def image_part(folder: Path, place: Path, files: list[Path], shape: tuple[int, int, int]) -> Part:
    """Decode images into one array [n, height, width, channels]; the sub-folder of each is its label."""
    array = np.empty((len(files), *shape), np.uint8)

    def decode(i: int) -> None:
        with opened(files[i]) as image:
            pixels = image.convert("L" if shape[2] == 1 else "RGB")
            if pixels.size != (shape[1], shape[0]):
                pixels = pixels.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)  # averages when it shrinks
            array[i] = np.asarray(pixels).reshape(shape)

    with ThreadPoolExecutor() as pool:
        list(pool.map(decode, range(len(files))))
    names = tuple(file.relative_to(folder).as_posix() for file in files)
    return Part(array, tuple(files), folder_labels(place, files), names)


def folder_labels(place: Path, files: list[Path]) -> np.ndarray | None:
    """The first sub-folder of each image, None where the images lie in the folder itself.

    Raises:
        InputError: some images lie in sub-folders and some do not.
    """
    inner = [file.relative_to(place).parts[:-1] for file in files]
    if not any(inner):
        return None
    if not all(inner):
        stray = files[inner.index(())]
        raise InputError(f"{stray}: lies beside sub-folders of images. Move it into one of them: they are its label.")
    return np.array([parts[0] for parts in inner])


# scikit-learn


def digits(path: Path) -> Parts:
    """The 1,797 digits inside scikit-learn, uint8 of 0 to 16; ``path`` is scikit-learn's own file."""
    from sklearn.datasets import load_digits  # slow to import

    bunch = load_digits()
    return {"all": Part(bunch.images.astype(np.uint8), (path,), bunch.target)}

"""CIFAR-10's own files, the only pickles that are ever read: checksum first, then numpy's arrays and nothing else."""

import hashlib
import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from elboroom.data.readers import ANEW, Part, Parts, refusing
from elboroom.errors import InputError

ARCHIVE = "cifar-10-python.tar.gz"
FOLDER = "cifar-10-batches-py"
LARGEST = 2**26
"""Bytes above which no member of the archive is unpacked; a batch has 31 million."""

BATCHES = {
    "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
}
"""Name -> sha256 of the files that hold images."""


def cifar(folder: Path, sums: dict[str, str] = BATCHES) -> Parts:
    """The five training batches and the test batch, from the official archive or unpacked.

    Args:
        folder: where the archive, or the folder that it unpacks to, lies.
        sums: name of each batch -> its sha256, held against its bytes before these are looked into.
    """
    archive = folder / ARCHIVE
    found = packed(archive, sums) if archive.is_file() else unpacked(folder / FOLDER, sums)
    batches = {path.name: batch(path, verified(path, content, sums[path.name])) for path, content in found}
    missing = [name for name in sums if name not in batches]
    if missing:
        raise InputError(f"{archive}: holds no {FOLDER}/{missing[0]}. {ANEW}")
    files = (archive,) if archive.is_file() else tuple(folder / FOLDER / name for name in sums)
    test = {name: name.startswith("test") for name in sums}
    return {
        "train": joined([batches[name] for name in sums if not test[name]], files),
        "test": joined([batches[name] for name in sums if test[name]], files),
    }


def unpacked(folder: Path, names: dict[str, str]) -> Iterator[tuple[Path, bytes]]:
    """Path and content of each batch in a folder."""
    for name in names:
        with refusing(folder / name, ANEW):
            content = (folder / name).read_bytes()
        yield folder / name, content


def packed(archive: Path, names: dict[str, str]) -> Iterator[tuple[Path, bytes]]:
    """Path and content of each batch in the archive; only regular members of these names, and only in memory."""
    with refusing(archive, ANEW), tarfile.open(archive, "r:gz") as members:
        for member in members:
            inside, _, name = member.name.rpartition("/")
            if inside == FOLDER and name in names and member.isreg():
                if member.size > LARGEST:
                    raise InputError(f"{archive}: '{member.name}' is {member.size:,} bytes long. {ANEW}")
                yield archive / name, members.extractfile(member).read()


def verified(path: Path, content: bytes, wanted: str) -> bytes:
    """The content, if it is the official one."""
    digest = hashlib.sha256(content).hexdigest()
    if digest != wanted:
        raise InputError(
            f"{path}: not the official file, its checksum is {digest[:12]}… and not {wanted[:12]}…. {ANEW}"
        )
    return content


def batch(path: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 3, 32, 32], uint8, and labels of a verified batch."""
    with refusing(path, ANEW):
        found = unpickled(content)
        images, labels = found["data"], np.array(found["labels"], np.int64)
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
            raise ValueError("its images are no uint8 array")
        return images.reshape(len(labels), 3, 32, 32), labels


def joined(batches: list[tuple[np.ndarray, np.ndarray]], files: tuple[Path, ...]) -> Part:
    images, labels = zip(*batches, strict=True)
    return Part(np.concatenate(images), files, np.concatenate(labels))


# the unpickler

RECONSTRUCT = np.empty(0).__reduce__()[0]  # numpy's private function, wherever this version of numpy keeps it
ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
"""All that a pickle may name: what arrays are put together from."""


class ArraysOnly(pickle.Unpickler):
    """Loads plain containers, numbers, text and numpy arrays; whatever else a pickle names is refused, not imported."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}")
        return ADMITTED[module, name]


def unpickled(content: bytes) -> object:
    """What a pickle of Python 2 holds."""
    return ArraysOnly(io.BytesIO(content), encoding="latin1").load()

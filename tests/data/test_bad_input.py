"""Every bad input is one message: the file, and the cure; and nothing on the disk has changed."""

import gzip
import io
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from elboroom.config.data import Data as Config
from elboroom.data import check, fetch, load, store
from elboroom.data.catalog import CATALOG
from elboroom.errors import InputError

GREY = np.random.default_rng(0).integers(0, 256, (12, 5, 4), dtype=np.uint8)


def idx_bytes(array, claimed=None):
    shape = claimed or array.shape
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + array.astype(np.uint8).tobytes()


def npy_bytes(array, **settings):
    stream = io.BytesIO()
    np.save(stream, array, **settings)
    return stream.getvalue()


def npz_bytes(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def zip_bytes(name, content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def mat_bytes(**arrays):
    stream = io.BytesIO()
    scipy.io.savemat(stream, arrays)
    return stream.getvalue()


def png_bytes(height=5, width=4, mode="L"):
    stream = io.BytesIO()
    Image.new(mode, (width, height)).save(stream, "PNG")
    return stream.getvalue()


def spoiled(content, at=-20):
    changed = bytearray(content)
    changed[at] ^= 0xFF
    return bytes(changed)


def with_hole(value):
    x = np.linspace(-1, 2, 24).reshape(12, 2)
    x[7, 1] = value
    return x


HUGE = idx_bytes(GREY, claimed=(2**31, 2**16, 2**16))
HUGE_NPY = npy_bytes(np.zeros((12, 4))).replace(b"(12, 4)", b"(9" + b"9" * 17 + b",)", 1)
MAT_SHAPE, MAT_HUGE = struct.pack("<3i", 12, 5, 4), struct.pack("<3i", 2**31 - 1, 2**31 - 1, 4)
IMAGES, LABELS = "a-images-idx3-ubyte", "a-labels-idx1-ubyte"

# what: (files, data.path within them, what names the offender, a word of the cure)
CASES = {
    "missing": ({}, "none.npy", "none.npy", "Check data.path"),
    "unknown suffix": ({"x.npx": b"1"}, "x.npx", "x.npx", "Did you mean '.np"),
    "single image": ({"a.png": png_bytes()}, "a.png", "a.png", "folder that holds"),
    "empty folder": ({"d/read.me": b""}, "d", "d: no images", "Put images"),
    "folder of arrays": ({"d/x.npy": b""}, "d", "d: no images", "x.npy"),
    "empty split": ({"d/train/a.png": png_bytes(), "d/test/read.me": b""}, "d", "test", "Put images"),
    "gz cut off": ({"x.idx.gz": gzip.compress(idx_bytes(GREY))[:-30]}, "x.idx.gz", "x.idx.gz", "anew"),
    "gz damaged": ({"x.idx.gz": spoiled(gzip.compress(idx_bytes(GREY)))}, "x.idx.gz", "x.idx.gz", "anew"),
    "gz with a wrong sum": ({"x.idx.gz": spoiled(gzip.compress(idx_bytes(GREY)), -6)}, "x.idx.gz", "x.idx.gz", "anew"),
    "idx cut off": ({"x.idx3": idx_bytes(GREY)[:-1]}, "x.idx3", "x.idx3", "anew"),
    "idx cut in its header": ({"x.idx3": idx_bytes(GREY)[:9]}, "x.idx3", "x.idx3", "anew"),
    "idx of a huge claim": ({"x.idx3": HUGE}, "x.idx3", "x.idx3", "anew"),
    "idx that is none": ({"x.idx3": b"hello, world"}, "x.idx3", "x.idx3", "anew"),
    "idx empty": ({"x.idx3": b""}, "x.idx3", "x.idx3", "anew"),
    "idx of labels": ({"x.idx1": idx_bytes(GREY[:, 0, 0])}, "x.idx1", "x.idx1", "[n, height, width]"),
    "idx counts": ({IMAGES: idx_bytes(GREY), LABELS: idx_bytes(GREY[:11, 0, 0])}, IMAGES, IMAGES, "one label"),
    "idx labels cut": ({IMAGES: idx_bytes(GREY), LABELS: idx_bytes(GREY[:, 0, 0])[:-1]}, IMAGES, LABELS, "anew"),
    "npy cut off": ({"x.npy": npy_bytes(GREY)[:-1]}, "x.npy", "x.npy", "numpy.save"),
    "npy empty": ({"x.npy": b""}, "x.npy", "x.npy", "numpy.save"),
    "npy of a huge claim": ({"x.npy": HUGE_NPY}, "x.npy", "x.npy", "numpy.save"),
    "npy of objects": ({"x.npy": npy_bytes(np.array([1, None]), allow_pickle=True)}, "x.npy", "x.npy", "numpy.save"),
    "npy of text": ({"x.npy": npy_bytes(np.full((12, 2), "a"))}, "x.npy", "x.npy", "integers or floats"),
    "npy of complex": ({"x.npy": npy_bytes(np.full((12, 2), 1j))}, "x.npy", "x.npy", "integers or floats"),
    "npy of a scalar": ({"x.npy": npy_bytes(np.array(1.0))}, "x.npy", "x.npy", "[n, height, width]"),
    "npy without examples": ({"x.npy": npy_bytes(GREY[:0])}, "x.npy", "x.npy", "at least one"),
    "npy without pixels": ({"x.npy": npy_bytes(GREY[:, :0])}, "x.npy", "x.npy", "at least one"),
    "npy that is npz": ({"x.npy": npz_bytes(x=GREY)}, "x.npy", "x.npy", "Rename it to .npz"),
    "nan": ({"x.npy": npy_bytes(with_hole(np.nan))}, "x.npy", "row 7", "Fill such values"),
    "infinite": ({"x.npy": npy_bytes(with_hole(-np.inf))}, "x.npy", "row 7", "Fill such values"),
    "too large for float32": ({"x.npy": npy_bytes(with_hole(1e300))}, "x.npy", "row 7", "Fill such values"),
    "too few": ({"x.npy": npy_bytes(GREY[:5])}, "x.npy", "x.npy", "at least 6"),
    "npz cut off": ({"x.npz": npz_bytes(x=GREY)[:-40]}, "x.npz", "x.npz", "numpy.save"),
    "npz damaged": ({"x.npz": spoiled(npz_bytes(x=GREY), 200)}, "x.npz", "x.npz", "numpy.save"),
    "npz of a huge claim": ({"x.npz": zip_bytes("x.npy", HUGE_NPY)}, "x.npz", "x.npz", "anew"),
    "npz of objects": ({"x.npz": npz_bytes(x=np.array([1, None]))}, "x.npz", "x.npz", "pickle"),
    "npz of labels as objects": ({"x.npz": npz_bytes(x=GREY, y=np.array([1, None]))}, "x.npz", "x.npz", "numpy.save"),
    "npz without images": ({"x.npz": npz_bytes(a=GREY, b=GREY)}, "x.npz", "named a, b", "Name the images x"),
    "npz without training": ({"x.npz": npz_bytes(x_test=GREY)}, "x.npz", "x.npz", "Name the images x"),
    "npz empty": ({"x.npz": npz_bytes()}, "x.npz", "x.npz", "Name the images x"),
    "npz counts": ({"x.npz": npz_bytes(x=GREY, y=np.arange(11))}, "x.npz", "x.npz", "one label"),
    "npz shapes": ({"x.npz": npz_bytes(x_train=GREY, x_test=GREY[:, :3])}, "x.npz", "x.npz", "one shape"),
    "nan labels": ({"x.npz": npz_bytes(x=GREY, y=with_hole(np.nan)[:, 1])}, "x.npz", "row 7", "data.labels"),
    "labels that are fractions": ({"x.npz": npz_bytes(x=GREY, y=np.arange(12) / 5)}, "x.npz", "x.npz", "data.labels"),
    "mat cut off": ({"x.mat": mat_bytes(x=GREY)[:-50]}, "x.mat", "x.mat", "-v7"),
    "mat of a huge claim": ({"x.mat": mat_bytes(x=GREY).replace(MAT_SHAPE, MAT_HUGE)}, "x.mat", "x.mat", "-v7"),
    "mat damaged": ({"x.mat": b"hello" * 60}, "x.mat", "x.mat", "-v7"),
    "mat empty": ({"x.mat": b""}, "x.mat", "x.mat", "-v7"),
    "mat of text": ({"x.mat": mat_bytes(x="text")}, "x.mat", "x.mat", "one array"),
    "mat of version 7.3": ({"x.mat": b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"}, "x.mat", "x.mat", "-v7"),
    "csv with text": ({"x.csv": b"1,2\n3,four\n"}, "x.csv", "four", "all of them numbers"),
    "csv with a hole": ({"x.csv": b"1,2\n3,\n5,6\n"}, "x.csv", "x.csv", "fill or drop missing"),
    "csv with a hole in its first line": ({"x.csv": b"1,,3\n4,5,6\n7,8,9\n"}, "x.csv", "first line", "fill or drop"),
    "csv with nan": ({"x.csv": b"1,2\n3,nan\n5,6\n"}, "x.csv", "row 1", "Fill such values"),
    "csv ragged": ({"x.csv": b"a,b\n1,2\n3,4,5\n"}, "x.csv", "line 3", "same number of cells"),
    "csv empty": ({"x.csv": b""}, "x.csv", "x.csv", "one example a row"),
    "csv of a header": ({"x.csv": b"a,b\n"}, "x.csv", "x.csv", "one example a row"),
    "csv of bytes": ({"x.csv": b"\xff\xfe\x00,1"}, "x.csv", "x.csv", "numbers"),
    "csv labels missing": ({"x.csv": b"a,label\n1,1\n2,nan\n"}, "x.csv", "row 1", "data.labels"),
    "csv label empty": ({"x.csv": b"a,label\n1,cat\n2,\n"}, "x.csv", "row 1", "data.labels"),
    "mixed sizes": ({"d/a.png": png_bytes(), "d/b.png": png_bytes(6)}, "d", "b.png", "data.size"),
    "no image": ({"d/a.png": png_bytes(), "d/b.png": b"hello"}, "d", "b.png", "Remove it"),
    "image cut off": ({"d/a.png": png_bytes(50, 50)[:-30]}, "d", "a.png", "Remove it"),
    "image empty": ({"d/a.jpg": b""}, "d", "a.jpg", "Remove it"),
    "image of 16 bits": ({"d/a.png": png_bytes(mode="I;16")}, "d", "a.png", "8-bit"),
    "image beside classes": ({"d/a.png": png_bytes(), "d/cat/b.png": png_bytes()}, "d", "a.png", "Move it"),
    "class beside splits": ({"d/train/a.png": png_bytes(), "d/cat/b.png": png_bytes()}, "d", "cat", "Move it"),
}


def tree(folder: Path):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def put(folder: Path, files: dict[str, bytes]):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def refusal(folder: Path, call) -> str:
    """The message of a refused call, which leaves the folder as it was."""
    before = tree(folder)
    with pytest.raises(InputError) as refused:
        call()
    assert tree(folder) == before
    return str(refused.value)


@pytest.mark.parametrize("case", CASES)
def test_bad_files_are_refused_with_the_file_and_the_cure(case, tmp_path):
    files, path, offender, cure = CASES[case]
    put(tmp_path, files)
    message = refusal(tmp_path, lambda: load(Config(path=str(tmp_path / path))))
    assert str(tmp_path) in message, message
    assert offender in message and cure in message, message
    assert "\n" not in message


REQUESTS = {
    "unknown name": ({"name": "mnits"}, "mnits", "Did you mean 'mnist'"),
    "unknown split": ({"name": "digits", "split": "offical"}, "offical", "Did you mean 'official'"),
    "unknown split of one's own": ({"path": "x.npy", "split": "iwae"}, "iwae", "known: official"),
    "valid takes all": ({"name": "digits", "valid": 1_497}, "1,497", "less than 1,497"),
    "valid takes all of one's own": ({"path": "x.npy", "valid": 10}, "x.npy", "less than 10"),
    "size of what is no folder": ({"path": "x.npy", "size": 8}, "x.npy", "Leave data.size out"),
    "size that divides no side": ({"name": "digits", "size": 3}, "digits are 1x8x8", "a size that divides its sides"),
    "size beyond that of a known set": ({"name": "digits", "size": 16}, "data.size 16", "leave it out"),
    "real numbers binarized": ({"path": "real.npy", "binarize": "dynamic"}, "real.npy", "data.binarize to none"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_requests_that_cannot_be_met(case, tmp_path, monkeypatch):
    put(tmp_path, {"x.npy": npy_bytes(GREY), "real.npy": npy_bytes(GREY / 3.0)})
    monkeypatch.chdir(tmp_path)
    settings, offender, cure = REQUESTS[case]
    message = refusal(tmp_path, lambda: load(Config(**settings)))
    assert offender in message and cure in message, message


@pytest.fixture
def unreachable(monkeypatch):
    """Addresses at which nothing answers."""
    files = tuple(replace(f, urls=(f"http://127.0.0.1:9/{f.name}",)) for f in CATALOG["mnist"].files)
    monkeypatch.setitem(CATALOG, "mnist", replace(CATALOG["mnist"], files=files))
    monkeypatch.delenv("ELBOROOM_DATA", raising=False)


def test_without_a_network_the_file_and_its_place_are_named(tmp_path, unreachable):
    message = refusal(tmp_path, lambda: fetch("mnist", tmp_path))
    assert str(tmp_path / "mnist" / "train-images-idx3-ubyte.gz") in message
    assert "put it there" in message and "ELBOROOM_DATA" in message
    assert not (tmp_path / "mnist").exists()


NAMES = [remote.name for remote in CATALOG["mnist"].files]


@pytest.mark.parametrize("packed", [True, False])
def test_files_of_another_content_are_refused(tmp_path, unreachable, packed):
    names = [name if packed else name.removesuffix(".gz") for name in NAMES]
    put(tmp_path, {f"mnist/{name}": idx_bytes(GREY) for name in names})
    for call in (lambda: load(Config(name="mnist"), tmp_path), lambda: fetch("mnist", tmp_path)):
        message = refusal(tmp_path, call)
        assert str(tmp_path / "mnist" / names[0]) in message
        assert "checksum" in message and "Remove it" in message
    (result,) = check(["mnist"], tmp_path)
    assert result.ok is False and names[0] in result.message


def test_a_file_that_is_missing_is_found_by_the_check(tmp_path, unreachable):
    put(tmp_path, {f"mnist/{name}": b"" for name in NAMES[1:]})
    (result,) = check(["mnist"], tmp_path)
    assert result.ok is False
    assert NAMES[0] in result.message and "data fetch mnist" in result.message


def test_nothing_is_no_failure_of_the_check(tmp_path, unreachable):
    (result,) = check(["mnist"], tmp_path)
    assert result.ok is None and result.path is None and "data fetch mnist" in result.message


def test_sound_files_of_another_data_set_are_refused(tmp_path, unreachable, monkeypatch):
    put(tmp_path, {f"mnist/{n}": idx_bytes(GREY if "images" in n else GREY[:, 0, 0]) for n in NAMES})
    monkeypatch.setattr(store, "verify_file", lambda remote, folder, name: {remote.name: ""})
    message = refusal(tmp_path, lambda: load(Config(name="mnist"), tmp_path))
    assert str(tmp_path / "mnist") in message and "(12, 0, 12)" in message and "data fetch mnist" in message

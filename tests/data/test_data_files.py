"""The real files, where $ELBOROOM_DATA has them; and downloads, from a server of this test's own."""

import functools
import gzip
import hashlib
import http.server
import os
import threading

import numpy as np
import pytest
import torch

from elboroom.config.data import Data as Config
from elboroom.data import CATALOG, check, fetch, load
from elboroom.data.catalog import Dataset, Remote
from elboroom.data.prepare import GREY_LEVELS
from elboroom.data.readers import idx_folder
from elboroom.data.splits import Split, as_given
from elboroom.data.store import find
from elboroom.errors import InputError

real = pytest.mark.skipif("ELBOROOM_DATA" not in os.environ, reason="$ELBOROOM_DATA names no folder of data files")

COUNTS = {  # of the classes 0 to 9
    "mnist": (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ),
    "fashion-mnist": ([6000] * 10, [1000] * 10),
}


@real
@pytest.mark.parametrize("name", COUNTS)
def test_real_files(name):
    data = load(Config(name=name))
    train, test = COUNTS[name]
    assert data.train.labels.bincount().tolist() == train and data.test.labels.bincount().tolist() == test
    assert data.shape == (1, 28, 28) and data.valid is None and len(data.classes) == 10
    assert data.files == {remote.name: remote.sha256 for remote in CATALOG[name].files}
    raw = idx_folder(find(name))
    index = torch.arange(0, 60_000, 997)
    np.testing.assert_allclose(data.train.batch(index).x[:, 0], raw["train"].images[index] / 255.0, rtol=2e-7)
    assert data.test.rows[0] == 60_000


@real
def test_real_files_unpacked(tmp_path):
    (tmp_path / "mnist").mkdir()
    for file in find("mnist").iterdir():
        (tmp_path / "mnist" / file.name.removesuffix(".gz")).write_bytes(gzip.decompress(file.read_bytes()))
    packed, unpacked = load(Config(name="mnist", limit=100)), load(Config(name="mnist", limit=100), tmp_path)
    assert unpacked.files["train-images-idx3-ubyte"].startswith("ba891046")
    assert packed.test.rows_hash == unpacked.test.rows_hash


@real
def test_real_files_pass_the_check():
    results = {result.name: result for result in check()}
    assert list(results) == list(CATALOG)
    for name in CATALOG:
        assert results[name].ok is (None if find(name) is None else True), results[name].message


# a small data set on a server here


def idx(array):
    content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()
    return gzip.compress(content, mtime=0)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A data set 'tiny' of 12 images, whose files are to be had at the second of two addresses."""
    folder = tmp_path / "served"
    folder.mkdir()
    x = np.arange(12 * 6, dtype=np.uint8).reshape(12, 3, 2)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(x))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(12) % 2))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    bases = [f"http://127.0.0.1:{server.server_port}/{sub}" for sub in ("gone/", "")]
    files = tuple(
        Remote(f.name, tuple(b + f.name for b in bases), hashlib.sha256(f.read_bytes()).hexdigest(), f.stat().st_size)
        for f in sorted(folder.iterdir())
    )
    split = {"official": Split(as_given, (12, 0, 12))}
    entry = Dataset((1, 3, 2), GREY_LEVELS, split, idx_folder, "here", "MIT", files, ("even", "odd"))
    monkeypatch.setitem(CATALOG, "tiny", entry)
    monkeypatch.delenv("ELBOROOM_DATA", raising=False)
    yield folder
    server.shutdown()
    server.server_close()


def test_fetched_once_and_then_found(served, tmp_path):
    target = tmp_path / "data"
    assert fetch("tiny", target) == target / "tiny"
    assert sorted(p.name for p in (target / "tiny").iterdir()) == sorted(p.name for p in served.iterdir())
    times = {p: p.stat().st_mtime_ns for p in (target / "tiny").iterdir()}
    fetch("tiny", target)
    data = load(Config(name="tiny"), target)
    assert {p: p.stat().st_mtime_ns for p in (target / "tiny").iterdir()} == times
    assert len(data.train) == 12 and data.classes == ("even", "odd")
    assert check(["tiny"], target)[0].ok is True


def test_loading_downloads_what_is_nowhere(served, tmp_path, monkeypatch):
    monkeypatch.setenv("ELBOROOM_DATA", str(tmp_path / "elsewhere"))
    assert len(load(Config(name="tiny")).test) == 12
    assert find("tiny") == tmp_path / "elsewhere" / "tiny"


def test_the_folder_comes_before_the_variable(served, tmp_path, monkeypatch):
    first, second = fetch("tiny", tmp_path / "a"), fetch("tiny", tmp_path / "b")
    monkeypatch.setenv("ELBOROOM_DATA", str(tmp_path / "a"))
    assert find("tiny") == first and find("tiny", tmp_path / "b") == second
    assert find("tiny", tmp_path / "none") == first


def test_a_download_of_another_content_leaves_nothing(served, tmp_path):
    name = "t10k-images-idx3-ubyte.gz"
    (served / name).write_bytes(b"not what was promised")
    with pytest.raises(InputError, match=f"{name}: could not be downloaded.*ValueError"):
        fetch("tiny", tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.gz")) and not (tmp_path / "data" / "tiny").exists()

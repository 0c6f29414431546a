"""The real files, where $ELBOROOM_DATA has them; and downloads, from a server of this test's own."""

import functools
import gzip
import hashlib
import http.server
import os
import tarfile
import threading

import numpy as np
import pytest
import torch

from elboroom import build
from elboroom.config import run_from
from elboroom.config.data import Data as Config
from elboroom.data import CATALOG, check, cifar, fetch, load, omniglot
from elboroom.data.catalog import Dataset, Remote
from elboroom.data.prepare import GREY_LEVELS
from elboroom.data.readers import idx_folder
from elboroom.data.splits import Split, as_given
from elboroom.data.store import find
from elboroom.errors import InputError

MD5 = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    "cifar-10": {
        "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
        "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
        "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
    },
}

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


def stored(examples):
    """The grey levels of all examples, uint8 [n, channels, height, width]."""
    return examples.fixed(torch.arange(len(examples))).x.mul_(255).round_().byte().numpy()


@real
def test_real_binarized_mnist():
    data = load(Config(name="binarized-mnist", binarize="dynamic"))
    assert data.shape == (1, 28, 28) and data.classes is None and data.binarization == "none"
    assert [len(s) for s in data.splits().values()] == [50_000, 10_000, 10_000]
    for examples, share in zip(data.splits().values(), (0.13056, 0.13113, 0.13251), strict=True):
        x = stored(examples)
        assert set(np.unique(x)) == {0, 255} and (x > 0).mean() == pytest.approx(share, abs=5e-6)
    assert data.files == {f"{r.name}.gz": r.stand_ins[f"{r.name}.gz"] for r in CATALOG["binarized-mnist"].files}


@real
@pytest.mark.slow
def test_real_binarized_mnist_unpacked(tmp_path):
    (tmp_path / "binarized-mnist").mkdir()
    for file in find("binarized-mnist").iterdir():
        (tmp_path / "binarized-mnist" / file.name.removesuffix(".gz")).write_bytes(gzip.decompress(file.read_bytes()))
    unpacked = load(Config(name="binarized-mnist"), tmp_path)
    assert unpacked.files == {r.name: r.sha256 for r in CATALOG["binarized-mnist"].files}
    assert unpacked.test.rows_hash == load(Config(name="binarized-mnist")).test.rows_hash


@real
@pytest.mark.slow
def test_real_originals_of_omniglot():
    data = load(Config(name="omniglot-105"))
    assert data.shape == (1, 28, 28) and data.values == "unit-interval" and data.valid is None
    assert (len(data.train), len(data.test)) == (19_280, 13_180)
    assert data.classes is None and data.train.labels is None
    character, others = data.train.factors[:, 0], data.test.factors[:, 0]
    assert character.bincount().tolist() == [20] * 964
    assert others.bincount()[964:].tolist() == [20] * 659 and others.min() == 964
    assert [data.factors["character"][i] for i in (0, 964)] == [1, 965]
    with pytest.raises(InputError, match="companion 'classifier' needs labels; 'omniglot-105' has none"):
        build.data(run_from({"data": {"name": "omniglot-105", "binarize": "dynamic"}, "companion": {}}))
    paper = omniglot.npz_array(find("omniglot-105") / "images_evaluation.npz", "images")
    x, ink = stored(data.test), 1 - paper.reshape(-1, 105, 105)[::1_000].mean((1, 2))
    np.testing.assert_allclose(x[::1_000].mean((1, 2, 3)) / 255, ink, atol=5e-4)
    assert 0.05 < x.mean() / 255 < 0.1  # white on black


@real
@pytest.mark.parametrize("split", ["random", "last"])
def test_real_frey_faces(split):
    data = load(Config(name="frey-faces", split=split, valid=100))
    x = np.concatenate([stored(examples) for examples in data.splits().values()])
    assert data.shape == (1, 28, 20) and data.classes is None
    assert [len(s) for s in data.splits().values()] == [1_400, 100, 465]
    assert (x.min(), x.max()) == (8, 238)
    flat = x.reshape(len(x), -1).astype(int)
    unlike = {lag: np.abs(flat[:, lag:] - flat[:, :-lag]).mean() for lag in (18, 19, 20, 21, 22, 28)}
    assert min(unlike, key=unlike.get) == 20  # pixels of neighbouring rows are alike


@real
@pytest.mark.slow
def test_real_cifar():
    data = load(Config(name="cifar-10", valid=2_000))
    assert data.shape == (3, 32, 32) and data.classes[0] == "airplane" and data.classes[9] == "truck"
    assert [len(s) for s in data.splits().values()] == [48_000, 2_000, 10_000]
    assert data.test.labels.bincount().tolist() == [1_000] * 10
    assert (data.train.labels.bincount() + data.valid.labels.bincount()).tolist() == [5_000] * 10
    total = sum(stored(examples).sum((0, 2, 3), dtype=np.int64) for examples in (data.train, data.valid))
    np.testing.assert_allclose(total / (50_000 * 1024), (125.30691805, 122.95039414, 113.86538318), atol=5e-9)


@real
@pytest.mark.slow
def test_real_cifar_is_the_same_from_an_archive(tmp_path):
    with tarfile.open(tmp_path / cifar.ARCHIVE, "w:gz", compresslevel=1) as archive:
        archive.add(find("cifar-10") / cifar.FOLDER, cifar.FOLDER)
    ours, theirs = cifar.cifar(tmp_path), cifar.cifar(find("cifar-10"))
    for part in ("train", "test"):
        np.testing.assert_array_equal(ours[part].images, theirs[part].images)
        np.testing.assert_array_equal(ours[part].labels, theirs[part].labels)


@real
def test_published_md5_sums_are_those_of_the_files():
    """The official places give md5 sums; the sha256 sums of the catalog are of the same files."""
    for name, sums in MD5.items():
        for file, md5 in sums.items():
            assert hashlib.md5((find(name) / file).read_bytes()).hexdigest() == md5, file


@real
def test_real_files_unpacked(tmp_path):
    (tmp_path / "mnist").mkdir()
    for file in find("mnist").iterdir():
        (tmp_path / "mnist" / file.name.removesuffix(".gz")).write_bytes(gzip.decompress(file.read_bytes()))
    packed, unpacked = load(Config(name="mnist", limit=100)), load(Config(name="mnist", limit=100), tmp_path)
    assert unpacked.files["train-images-idx3-ubyte"].startswith("ba891046")
    assert packed.test.rows_hash == unpacked.test.rows_hash


@real
@pytest.mark.slow
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

"""CIFAR-10's pickles: read where they are what they should be, and refused before they can do anything else."""

import ast
import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

import elboroom
from elboroom.config.data import Data as Config
from elboroom.data import check, cifar, load
from elboroom.errors import InputError

RNG = np.random.default_rng(0)
IMAGES = {name: RNG.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8) for name in cifar.BATCHES}


def python2(images, labels):
    """A batch as Python 2 pickled it: its array is rebuilt from text of 8-bit characters by the old name of numpy."""

    def text(value):
        return b"T" + len(value).to_bytes(4, "little") + value

    def tuple_of(*parts):
        return b"(" + b"".join(parts) + b"t"

    def number(value):
        return b"J" + value.to_bytes(4, "little", signed=True)

    dtype = b"cnumpy\ndtype\n" + tuple_of(text(b"u1"), number(0), number(1)) + b"R"
    dtype += tuple_of(number(3), text(b"|"), b"NNN", number(-1), number(-1), number(0)) + b"b"
    array = b"cnumpy.core.multiarray\n_reconstruct\n"
    array += tuple_of(b"cnumpy\nndarray\n", tuple_of(number(0)), text(b"b")) + b"R"
    shape = tuple_of(number(len(images)), number(3072))
    array += tuple_of(number(1), shape, dtype, b"\x89", text(images.tobytes())) + b"b"
    listed = b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + listed + b"u."


CONTENTS = {name: python2(x, [0, 1, 2, 9]) for name, x in IMAGES.items()}
SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}


def put(folder, contents=CONTENTS):
    (folder / cifar.FOLDER).mkdir()
    for name, content in contents.items():
        (folder / cifar.FOLDER / name).write_bytes(content)
    return folder


def pack(folder, contents=CONTENTS, **more):
    with tarfile.open(folder / cifar.ARCHIVE, "w:gz") as archive:
        for name, content in {**{f"{cifar.FOLDER}/{k}": v for k, v in contents.items()}, **more}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return folder


@pytest.mark.parametrize("place", [put, pack])
def test_batches_of_python_2(tmp_path, place):
    parts = cifar.cifar(place(tmp_path), SUMS)
    train = np.concatenate([x for name, x in IMAGES.items() if name != "test_batch"])
    np.testing.assert_array_equal(parts["train"].images, train)
    np.testing.assert_array_equal(parts["test"].images, IMAGES["test_batch"])
    assert parts["train"].labels.tolist() == [0, 1, 2, 9] * 5 and parts["test"].labels.tolist() == [0, 1, 2, 9]


def test_batches_of_this_python():
    written = pickle.dumps({"data": IMAGES["test_batch"].reshape(4, -1), "labels": [1, 2, 3, 4]}, protocol=4)
    images, labels = cifar.batch(Path("test_batch"), written)
    np.testing.assert_array_equal(images, IMAGES["test_batch"])
    assert labels.tolist() == [1, 2, 3, 4]


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def evil_pickles(mark):
    """Pickles that write a file, or would do other harm, in several ways."""
    yield pickle.dumps({"data": Evil(mark), "labels": []})
    yield pickle.dumps(Evil(mark), protocol=0)
    yield b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR."
    yield b"c__builtin__\neval\n(S'open(\"" + str(mark).encode() + b'", "w")\'\ntR.'
    yield b"cnumpy\nload\n(S'x.npy'\ntR."
    yield b"cnumpy.core.multiarray\n_reconstruct.__globals__\n."
    yield b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93."


def test_an_evil_pickle_would_do_harm(tmp_path):
    pickle.loads(next(evil_pickles(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("which", range(7))
def test_an_evil_pickle_is_refused_without_running_it(tmp_path, which):
    content = list(evil_pickles(tmp_path / "mark"))[which]
    sums = {**SUMS, "test_batch": hashlib.sha256(content).hexdigest()}  # even where its checksum is what is asked for
    put(tmp_path, {**CONTENTS, "test_batch": content})
    with pytest.raises(InputError, match=r"test_batch: cannot be read \(it asks to run "):
        cifar.cifar(tmp_path, sums)
    assert not (tmp_path / "mark").exists()


@pytest.fixture
def no_unpickling(monkeypatch):
    def refuse(content):
        raise AssertionError("unpickled before its checksum was known")

    monkeypatch.setattr(cifar, "unpickled", refuse)


@pytest.mark.parametrize("place", [put, pack])
def test_a_wrong_checksum_is_refused_before_unpickling(tmp_path, place, no_unpickling):
    with pytest.raises(InputError, match="data_batch_1: not the official file"):
        cifar.cifar(place(tmp_path))


def test_a_named_data_set_is_refused_before_unpickling(tmp_path, no_unpickling, monkeypatch):
    monkeypatch.delenv("ELBOROOM_DATA", raising=False)
    (tmp_path / "cifar-10").mkdir()
    put(tmp_path / "cifar-10", {**CONTENTS, "data_batch_1": next(evil_pickles(tmp_path / "mark"))})
    with pytest.raises(InputError, match=r"data_batch_1: not the official file.*data fetch cifar-10"):
        load(Config(name="cifar-10"), tmp_path)
    (result,) = check(["cifar-10"], tmp_path)
    assert result.ok is False and "data_batch_1" in result.message
    (tmp_path / "cifar-10" / cifar.FOLDER / "data_batch_4").unlink()
    (result,) = check(["cifar-10"], tmp_path)
    assert result.ok is False and "data_batch_4: no such file" in result.message


def test_an_archive_cut_off_is_refused(tmp_path):
    path = pack(tmp_path) / cifar.ARCHIVE
    path.write_bytes(path.read_bytes()[:-3_000])
    with pytest.raises(InputError, match=rf"{cifar.ARCHIVE}: .*anew"):
        cifar.cifar(tmp_path, SUMS)


def test_an_archive_without_a_batch_is_refused(tmp_path):
    pack(tmp_path, {k: v for k, v in CONTENTS.items() if k != "data_batch_3"})
    with pytest.raises(InputError, match="holds no cifar-10-batches-py/data_batch_3"):
        cifar.cifar(tmp_path, SUMS)


def test_other_members_of_an_archive_are_never_written(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    pack(inside, **{"../escaped": b"x", "/test_batch": b"x", f"{cifar.FOLDER}/../../escaped": b"x"})
    cifar.cifar(inside, SUMS)
    assert [p.name for p in tmp_path.rglob("*")] == ["inside", cifar.ARCHIVE]


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02}.", CONTENTS["test_batch"][:-9], python2(IMAGES["test_batch"], [1])]
)
def test_a_batch_of_another_content_is_refused(content):
    with pytest.raises(InputError, match="test_batch: cannot be read"):
        cifar.batch(Path("test_batch"), content)


def test_pickle_is_imported_nowhere_else():
    root = Path(elboroom.__file__).parent
    names = {"pickle", "dill", "joblib", "cloudpickle", "shelve"}
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            found |= {path.relative_to(root).as_posix() for m in modules if m and m.split(".")[0] in names}
    assert found == {"data/cifar.py"}

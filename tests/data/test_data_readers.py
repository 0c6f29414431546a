"""What was written is what is read, whatever the format."""

import gzip
import hashlib

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from elboroom import build
from elboroom.config import run_from
from elboroom.config.data import Data as Config
from elboroom.data import load, readers
from elboroom.data.prepare import BINARY, BLACK_AND_WHITE, GREY_LEVELS, REAL, UNIT_INTERVAL, channels_first, interpret
from elboroom.errors import InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (30, 5, 4), dtype=np.uint8)
LABELS = np.arange(30) % 3


def every_row(data):
    """All examples in the order of their source, with their labels."""
    splits = list(data.splits().values())
    order = torch.cat([s.rows for s in splits]).argsort()
    batches = [s.fixed(torch.arange(len(s))) for s in splits]
    labels = None if batches[0].labels is None else torch.cat([b.labels for b in batches])[order].numpy()
    return torch.cat([b.x for b in batches])[order].numpy(), labels


def write_idx(path, array, pack=False):
    content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if pack else content)
    return path


def write(kind, folder):
    """The 30 grey images and their labels, in one file of a kind."""
    path = folder / f"mine.{kind}"
    flat = GREY.reshape(30, -1)
    if kind == "npz":
        np.savez(path, X=GREY, labels=LABELS)
    elif kind == "mat":
        scipy.io.savemat(path, {"pictures": GREY, "y": LABELS})
    elif kind == "csv":
        rows = [",".join(map(str, row)) + f",{'abc'[y]}" for row, y in zip(flat, LABELS, strict=True)]
        path.write_text("\n".join([",".join(f"p{i}" for i in range(20)) + ",Label", *rows]) + "\n")
    elif kind == "folder":
        for i, (image, y) in enumerate(zip(GREY, LABELS, strict=True)):
            (path / "abc"[y]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path / "abc"[y] / f"{i:02}.png")
    else:
        write_idx(folder / "images-idx3-ubyte", GREY, pack=kind == "gz")
        write_idx(folder / "labels-idx1-ubyte", LABELS)
        path = (folder / "images-idx3-ubyte").rename(folder / ("images-idx3-ubyte" + (".gz" if kind == "gz" else "")))
    return path


@pytest.mark.parametrize("kind", ["npz", "mat", "csv", "folder", "idx", "gz"])
def test_round_trip_with_labels(kind, tmp_path):
    data = load(Config(path=str(write(kind, tmp_path)), valid=4))
    x, labels = every_row(data)
    order = np.argsort(LABELS, kind="stable") if kind == "folder" else np.arange(30)
    np.testing.assert_allclose(x.reshape(30, 20) * 255, GREY[order].reshape(30, 20), atol=1e-4)
    assert labels.tolist() == LABELS[order].tolist()
    assert data.shape == ((20,) if kind == "csv" else (1, 5, 4))
    assert data.classes == (tuple("abc") if kind in ("csv", "folder") else tuple("012"))
    assert [len(s) for s in data.splits().values()] == [21, 4, 5]
    assert (data.values, data.grey) == ("unit-interval", "256 grey levels")


def test_labels_can_be_left_out(tmp_path):
    data = load(Config(path=str(write("npz", tmp_path)), labels=False))
    assert data.classes is None and data.train.labels is None and data.train.batch(torch.tensor([0])).labels is None


def test_npy_has_the_hash_of_its_file(tmp_path):
    np.save(tmp_path / "x.npy", GREY)
    data = load(Config(path=str(tmp_path / "x.npy")))
    assert data.files == {"x.npy": hashlib.sha256((tmp_path / "x.npy").read_bytes()).hexdigest()}
    assert data.title == "x.npy" and data.valid is None and data.classes is None


def test_a_mapped_file_gives_the_same_as_one_in_memory(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", GREY.astype(np.float64) / 255)
    config = Config(path=str(tmp_path / "x.npy"), valid=4, binarize="dynamic")
    whole = load(config)
    monkeypatch.setattr(readers, "MAPPED_ABOVE", 100)
    mapped = load(config)
    index = torch.tensor([3, 0, 7])
    assert isinstance(mapped.train._pixels, type(mapped.test._pixels)) and not torch.is_tensor(mapped.train._pixels)
    for draw in (lambda s: s.batch(index, torch.Generator().manual_seed(5)).x, lambda s: s.fixed(index, 1).x):
        assert torch.equal(draw(whole.train), draw(mapped.train.to("cpu")))
    assert whole.train.rows_hash == mapped.train.rows_hash


def test_official_splits_of_npz_stand(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=GREY[:20], y_train=LABELS[:20], val_x=GREY[20:24], x_test=GREY[24:])
    data = load(Config(path=str(tmp_path / "x.npz")))
    assert [s.rows.tolist() for s in data.splits().values()] == [[*range(20)], [*range(20, 24)], [*range(24, 30)]]
    assert data.train.labels is not None and data.test.labels is None


def test_splits_of_npz_may_be_named_alone(tmp_path):
    np.savez(tmp_path / "x.npz", train=GREY[:20], validation=GREY[20:24], test=GREY[24:])
    data = load(Config(path=str(tmp_path / "x.npz")))
    assert {name: len(s) for name, s in data.splits().items()} == {"train": 20, "valid": 4, "test": 6}


def test_names_of_classes_are_as_long_as_the_longest_of_any_split(tmp_path):
    names = {"y_train": np.array(["1", "2"] * 10), "y_test": np.array(["10", "2"] * 5)}
    np.savez(tmp_path / "x.npz", x_train=GREY[:20], x_test=GREY[20:], **names)
    data = load(Config(path=str(tmp_path / "x.npz")))
    assert data.classes == ("1", "10", "2")
    assert data.test.labels.tolist() == [1, 2] * 5


def test_labels_of_numbers_in_one_split_and_names_in_another(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=GREY[:20], y_train=np.arange(20) % 2, x_test=GREY[20:], y_test=["1"] * 10)
    data = load(Config(path=str(tmp_path / "x.npz")))
    assert (data.classes, data.test.labels.tolist()) == (("0", "1"), [1] * 10)


def test_csv_whose_other_columns_are_named_by_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("label,0,1\n" + "a,1,2\nb,3,4\n" * 4)
    data = load(Config(path=str(tmp_path / "t.csv")))
    assert (data.classes, data.shape) == (("a", "b"), (2,))


def test_a_companion_needs_the_labels_of_training_and_of_what_is_watched(tmp_path):
    """Validation, or test where there is none; a test split that nobody has labelled is no hindrance."""
    splits = {"x_train": GREY[:20], "x_valid": GREY[20:24], "x_test": GREY[24:], "y_train": LABELS[:20]}
    for more, missing in (({"y_valid": LABELS[20:24]}, None), ({"y_test": LABELS[24:]}, "valid")):
        np.savez(tmp_path / "x.npz", **splits, **more)
        data = {"path": str(tmp_path / "x.npz")}
        config = run_from({"data": data, "companion": "classifier", "model": {"likelihood": "gaussian"}})
        if missing is None:
            assert build.data(config).test.labels is None
            continue
        with pytest.raises(InputError, match=f"'x.npz' has none in its split '{missing}'"):
            build.data(config)


def test_test_files_beside_an_idx_file(tmp_path):
    for name, images, labels in (("train", GREY[:20], LABELS[:20]), ("t10k", GREY[20:], LABELS[20:])):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte.gz", images, pack=True)
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte", labels)
    data = load(Config(path=str(tmp_path / "train-images-idx3-ubyte.gz")))
    np.testing.assert_array_equal(data.test.batch(torch.arange(10)).x.mul(255).round().numpy()[:, 0], GREY[20:])
    assert data.test.labels.tolist() == LABELS[20:].tolist() and len(data.files) == 4


def test_frey_faces_are_columns(tmp_path):
    scipy.io.savemat(tmp_path / "frey.mat", {"ff": GREY.reshape(30, 20).T})
    x, _ = every_row(load(Config(path=str(tmp_path / "frey.mat"))))
    np.testing.assert_allclose(x * 255, GREY.reshape(30, 20), atol=1e-4)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "u8", "f4", "f8", "?"])
def test_matlab_arrays_are_those_of_scipy(tmp_path, dtype, compressed):
    x = (GREY % 100).astype(dtype)
    others = {"text": "abc", "cell": np.array(["a", 1], object), "complex": x * 1j, "one": x[:1, 0, 0], "none": x[:0]}
    scipy.io.savemat(tmp_path / "x.mat", {**others, "long_name_of_x": x}, do_compression=compressed)
    arrays = dict(readers.mat_arrays((tmp_path / "x.mat").read_bytes()))
    expected = scipy.io.loadmat(tmp_path / "x.mat")
    assert set(arrays) == {"one", "none", "long_name_of_x"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])
        assert array.dtype == (np.bool_ if dtype == "?" else expected[name].dtype)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_of_real_numbers_without_header(tmp_path, delimiter):
    table = RNG.normal(size=(9, 3)).round(6)
    np.savetxt(tmp_path / "t.csv", table, delimiter=delimiter, fmt="%.6f")
    data = load(Config(path=str(tmp_path / "t.csv")))
    np.testing.assert_allclose(every_row(data)[0], table, rtol=1e-6)
    assert (data.values, data.grey, data.shape) == ("real", "real numbers", (3,))


# folders of images


def save(path, array, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **settings)


def test_split_folders_classes_and_names(tmp_path):
    for part, n in (("train", 4), ("val", 2), ("test", 3)):
        for i in range(n):
            save(tmp_path / part / ("cat" if i % 2 else "dog") / f"{i}.png", GREY[i])
    save(tmp_path / "train" / ".hidden" / "x.png", GREY[0][:2])
    data = load(Config(path=str(tmp_path)))
    assert {name: len(s) for name, s in data.splits().items()} == {"train": 4, "valid": 2, "test": 3}
    assert data.classes == ("cat", "dog")
    assert data.train.names == ("train/cat/1.png", "train/cat/3.png", "train/dog/0.png", "train/dog/2.png")
    assert data.train.labels.tolist() == [0, 0, 1, 1]


def test_grey_and_colour(tmp_path):
    colour = RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    for i in range(6):
        save(tmp_path / f"{i}.png", GREY[i])
    assert load(Config(path=str(tmp_path))).shape == (1, 5, 4)
    save(tmp_path / "6.bmp", colour)
    data = load(Config(path=str(tmp_path)))
    x, labels = every_row(data)
    np.testing.assert_allclose(x[6] * 255, np.moveaxis(colour, -1, 0), atol=1e-4)
    np.testing.assert_allclose(x[2] * 255, np.stack([GREY[2]] * 3), atol=1e-4)
    assert labels is None


@pytest.mark.parametrize("suffix", ["png", "JPG", "jpeg", "bmp", "gif", "webp", "tif", "tiff"])
def test_grey_images_of_every_suffix_have_one_channel(tmp_path, suffix):
    for i in range(6):
        save(tmp_path / f"{i}.{suffix}", np.full((8, 8), 40 * i, np.uint8))
    x, _ = every_row(load(Config(path=str(tmp_path))))
    expected = np.repeat(np.arange(6) * 40 / 255, 3 if suffix == "webp" else 1).reshape(6, -1)  # webp knows colour only
    np.testing.assert_allclose(x.mean((2, 3)), expected, atol=0.02)


def test_size_resizes_images_of_all_sizes(tmp_path):
    for i in range(6):
        save(tmp_path / f"{i}.png", np.full((6 + i, 9), 30 * i, np.uint8))
    data = load(Config(path=str(tmp_path), size=4))
    assert data.shape == (1, 4, 4)
    np.testing.assert_allclose(every_row(data)[0][3] * 255, 90, atol=0.5)


def test_the_hash_of_a_folder_is_of_names_and_contents(tmp_path):
    for i in range(6):
        save(tmp_path / "d" / f"{i}.png", GREY[i])
    seen = [load(Config(path=str(tmp_path / "d"))).files]
    (tmp_path / "d" / "5.png").rename(tmp_path / "d" / "7.png")
    seen.append(load(Config(path=str(tmp_path / "d"))).files)
    save(tmp_path / "d" / "7.png", GREY[9])
    seen.append(load(Config(path=str(tmp_path / "d"))).files)
    assert [list(files) for files in seen] == [["d"]] * 3
    assert len({files["d"] for files in seen}) == 3


# binarized MNIST and Frey faces


def write_amat(folder, pack=False):
    """Three small files of zeros and ones, and what is in them."""
    written = {}
    for part, n in (("train", 5), ("valid", 3), ("test", 2)):
        x = RNG.integers(0, 2, (n, 784), dtype=np.uint8)
        text = "".join(" ".join(map(str, row)) + "\n" for row in x).encode()
        path = folder / f"binarized_mnist_{part}.amat{'.gz' if pack else ''}"
        path.write_bytes(gzip.compress(text) if pack else text)
        written[part] = x.reshape(n, 28, 28)
    return written


@pytest.mark.parametrize("pack", [False, True])
def test_amat_round_trip(tmp_path, pack):
    written = write_amat(tmp_path, pack)
    read = readers.binarized_mnist(tmp_path)
    assert list(read) == ["train", "valid", "test"] and read["test"].labels is None
    for part, x in written.items():
        assert read[part].images.dtype == np.uint8
        np.testing.assert_array_equal(read[part].images, x)


@pytest.mark.parametrize("spoil", ["cut", "row cut", "two", "no space", "no line", "empty line", "gz cut"])
def test_amat_of_another_content_is_refused(tmp_path, spoil):
    write_amat(tmp_path, pack=spoil == "gz cut")
    path = tmp_path / f"binarized_mnist_valid.amat{'.gz' if spoil == 'gz cut' else ''}"
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-7],
            "row cut": content[:1568] + content[1570:],
            "two": b"2" + content[1:],
            "no space": content.replace(b" ", b"1", 1),
            "no line": content.replace(b"\n", b" ", 1),
            "empty line": content + b"\n",
            "gz cut": content[:-9],
        }[spoil]
    )
    with pytest.raises(InputError, match=rf"{path.name}: .*anew"):
        readers.binarized_mnist(tmp_path)


def test_frey_faces_are_frames_of_28_rows(tmp_path):
    frames = RNG.integers(8, 239, (30, 28, 20), dtype=np.uint8)
    scipy.io.savemat(tmp_path / "frey_rawface.mat", {"ff": frames.reshape(30, 560).T})
    np.testing.assert_array_equal(readers.frey(tmp_path)["all"].images, frames)


def test_frey_faces_of_another_shape_are_refused(tmp_path):
    scipy.io.savemat(tmp_path / "frey_rawface.mat", {"ff": np.zeros((28, 20), np.uint8)})
    with pytest.raises(InputError, match=r"frey_rawface.mat: .*not 560 x 1965.*anew"):
        readers.frey(tmp_path)


# what numbers are


@pytest.mark.parametrize(
    ("array", "scaling"),
    [
        (GREY, GREY_LEVELS),
        (GREY.astype(np.int64), GREY_LEVELS),
        (GREY > 99, BINARY),
        ((GREY > 99).astype(np.uint8), BINARY),
        ((GREY > 99).astype(np.float32), BINARY),
        ((GREY > 99).astype(np.uint8) * 255, BLACK_AND_WHITE),
        (GREY / 255, UNIT_INTERVAL),
        (GREY / 255 - 0.1, REAL),
        (GREY.astype(np.float16), REAL),
        (GREY.astype(np.int16) - 1, REAL),
        (GREY.astype(np.int32) * 2, REAL),
    ],
)
def test_what_numbers_are_taken_for(array, scaling):
    assert interpret([array], "here") == scaling
    assert interpret([array[:10], array[10:]], "here") == scaling


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((7, 5), (7, 5)),
        ((7, 5, 4), (7, 1, 5, 4)),
        ((7, 5, 4, 3), (7, 3, 5, 4)),
        ((7, 5, 4, 1), (7, 1, 5, 4)),
        ((7, 3, 5, 4), (7, 3, 5, 4)),
        ((7, 1, 5, 3), (7, 1, 5, 3)),
        ((7, 16, 5, 4), (7, 16, 5, 4)),
    ],
)
def test_axes(given, wanted):
    assert channels_first(np.zeros(given), "here").shape == wanted


def test_channels_are_moved_and_not_reshaped():
    x = RNG.normal(size=(2, 5, 4, 3))
    assert channels_first(x, "here")[1, 2, 4, 3] == x[1, 4, 3, 2]

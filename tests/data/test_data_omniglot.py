"""OMNIGLOT, from small files in the layout of the official ones: characters upright, ink white, splits as published."""

import io
import zipfile

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from elboroom.config.data import Data as Config
from elboroom.data import check, load, omniglot
from elboroom.errors import InputError

RNG = np.random.default_rng(0)
COUNTS = {"": 24_345, "test": 8_070}


def columns(images):
    """Images [n, 28, 28] as chardata.mat holds them: a column an image, itself column by column."""
    return images.transpose(2, 1, 0).reshape(784, -1)


def save(folder, *, labelled=True, images=None):
    """A chardata.mat in which the pixels of the first rows are the bits of the image's number."""
    folder.mkdir(exist_ok=True)
    arrays = {}
    for prefix, n in COUNTS.items():
        x = np.zeros((n, 28, 28), np.uint8)
        x[:, 0, :15] = np.arange(n)[:, None] >> np.arange(15) & 1
        arrays[f"{prefix}data"] = columns(x if images is None else images)
        if labelled:
            arrays[f"{prefix}target"] = np.arange(50)[:, None] == np.arange(arrays[f"{prefix}data"].shape[1]) % 50
    scipy.io.savemat(folder / "chardata.mat", arrays, do_compression=True)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of data with a chardata.mat of the official sizes."""
    folder = tmp_path_factory.mktemp("data")
    save(folder / "omniglot")
    return folder


def numbers(examples):
    """What the bits in the first row of each image say."""
    x = examples.fixed(torch.arange(len(examples))).x
    return (x[:, 0, 0, :15].long() << torch.arange(15)).sum(1).numpy()


@pytest.mark.parametrize(("split", "seed", "valid"), [("iwae", 123, 1_345), ("mae", 524_287, 2_345)])
def test_splits_are_those_of_the_programs(whole, split, seed, valid):
    data = load(Config(name="omniglot", split=split), whole)
    order = np.random.RandomState(seed).permutation(24_345)
    assert set(numbers(data.train)) == set(order[:-valid]) and set(numbers(data.valid)) == set(order[-valid:])
    assert [len(s) for s in data.splits().values()] == [24_345 - valid, valid, 8_070]
    assert numbers(data.test).tolist() == list(range(8_070))
    for examples in (data.train, data.valid):
        assert examples.rows.tolist() == numbers(examples).tolist()
        assert torch.equal(examples.labels, examples.rows % 50)
    assert len(data.classes) == 50 and data.shape == (1, 28, 28) and data.values == "unit-interval"


def test_permutation_of_the_program_is_pinned():
    assert np.random.RandomState(123).permutation(24_345)[-5:].tolist() == [15377, 21602, 17730, 15725, 19966]
    assert np.random.RandomState(524_287).permutation(24_345)[-5:].tolist() == [19118, 11610, 2568, 2832, 7652]


def test_the_split_must_be_named(whole):
    with pytest.raises(InputError, match=r"no official split.*iwae \(23,000 / 1,345 / 8,070\); mae \(22,000"):
        load(Config(name="omniglot"), whole)
    with pytest.raises(InputError, match=r"unknown split of omniglot 'iwea'; known: iwae, mae\. Did you mean 'iwae'"):
        load(Config(name="omniglot", split="iwea"), whole)


def test_the_check_says_that_no_checksum_is_published(whole):
    (result,) = check(["omniglot"], whole)
    assert result.ok and "no checksum is published" in result.message and "32,415" in result.message


def test_characters_stand_upright(tmp_path):
    images = RNG.random((7, 28, 28)).astype(np.float64)
    parts = omniglot.chardata(save(tmp_path, images=images))
    np.testing.assert_array_equal(parts["train"].images, images.astype(np.float32))
    np.testing.assert_array_equal(parts["test"].images, images.astype(np.float32))
    assert parts["train"].labels.tolist() == list(range(7))


def test_labels_may_be_missing(tmp_path):
    assert omniglot.chardata(save(tmp_path, images=RNG.random((7, 28, 28)), labelled=False))["test"].labels is None


@pytest.mark.parametrize("spoil", ["short", "large", "other"])
def test_other_files_of_that_name_are_refused(tmp_path, spoil):
    path = save(tmp_path, images=RNG.random((7, 28, 28)) * (255 if spoil == "large" else 1)) / "chardata.mat"
    if spoil == "short":
        path.write_bytes(path.read_bytes()[:-100])
    elif spoil == "other":
        scipy.io.savemat(path, {"x": np.zeros((784, 3))})
    with pytest.raises(InputError, match=r"chardata.mat.*anew"):
        omniglot.chardata(tmp_path)


# the originals


def area_mean(image):
    """What `shrink` should give, by enlarging each pixel to 4 x 4 and averaging 15 x 15 of those."""
    large = np.kron(1.0 - image, np.ones((4, 4)))
    return large.reshape(28, 15, 28, 15).mean((1, 3)) * 255


def test_area_average_counts_parts_of_pixels():
    paper = RNG.random((3, 105, 105)) < 0.8
    wanted = np.stack([area_mean(image) for image in paper])
    small = omniglot.shrink(paper)
    assert small.dtype == np.uint8 and np.abs(small - wanted).max() <= 0.5 + 1e-9
    assert (omniglot.shrink(np.zeros((1, 105, 105), bool)) == 255).all()
    assert (omniglot.shrink(np.ones((1, 105, 105), bool)) == 0).all()


def test_one_pixel_of_ink_keeps_its_mass():
    paper = np.ones((105, 105, 105), bool)
    paper[np.arange(105), 3, np.arange(105)] = False  # its quarters fall into two areas where it lies on a border
    small = omniglot.shrink(paper).astype(float)
    assert np.abs(small.sum((1, 2)) - 255 * 16 / 225).max() <= 2
    assert set(small[2].nonzero()[1]) == {0} and set(small[3].nonzero()[1]) == {0, 1}
    assert set(small[4].nonzero()[1]) == {1}


PAPER = RNG.random((3, 20, 105, 105)) < 0.8


def save_npz(path, paper):
    np.savez_compressed(path, images=paper, labels=np.arange(len(paper))[:, None].repeat(20, 1))


def save_zip(path, paper, first, backwards=True):
    """The PNG files of an official archive, in an order of their own."""
    keys = [(character, drawer) for character in range(len(paper)) for drawer in range(20)]
    with zipfile.ZipFile(path, "w") as archive:
        for character, drawer in keys[:: -1 if backwards else 1]:
            stream = io.BytesIO()
            Image.fromarray(paper[character, drawer]).save(stream, "PNG")
            number = first + character + 1
            archive.writestr(
                f"{path.stem}/A/character{character:02}/{number:04}_{drawer + 1:02}.png", stream.getvalue()
            )


@pytest.mark.parametrize("kind", ["npz", "zip"])
def test_originals_from_either_file(tmp_path, kind):
    for name, first, paper in (("background", 0, PAPER), ("evaluation", 964, PAPER[:2])):
        path = tmp_path / f"images_{name}.{kind}"
        save_npz(path, paper) if kind == "npz" else save_zip(path, paper, first)
    parts = omniglot.originals(tmp_path)
    np.testing.assert_array_equal(parts["train"].images, omniglot.shrink(PAPER.reshape(-1, 105, 105)))
    np.testing.assert_array_equal(parts["test"].images, omniglot.shrink(PAPER[:2].reshape(-1, 105, 105)))
    assert parts["train"].factors[:, 0].tolist() == np.repeat([0, 1, 2], 20).tolist()
    assert parts["test"].factors[:, 0].tolist() == np.repeat([964, 965], 20).tolist()
    assert parts["train"].labels is None


@pytest.mark.parametrize("kind", ["npz", "zip"])
def test_originals_cut_off_are_refused(tmp_path, kind):
    path = tmp_path / f"images_background.{kind}"
    save_npz(path, PAPER) if kind == "npz" else save_zip(path, PAPER, 0)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=rf"images_background.{kind}.*anew"):
        omniglot.originals(tmp_path)

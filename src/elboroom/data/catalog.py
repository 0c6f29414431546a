"""The table of data sets: what each is, where its files come from, and how it is divided. One entry a data set."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from elboroom.data import readers, splits
from elboroom.data.prepare import GREY_LEVELS, Scaling
from elboroom.data.splits import Split
from elboroom.errors import unknown


@dataclass(frozen=True)
class Remote:
    """A file as its official place gives it; ``urls`` in the order in which they are tried."""

    name: str
    urls: tuple[str, ...]
    sha256: str
    bytes: int
    unpacked: str | None = None  # sha256 of the content of a .gz file, for those who have unpacked it


@dataclass(frozen=True)
class Dataset:
    """A data set that is known by name.

    ``read`` goes from the folder of its files to its parts as they are published; ``splits`` divide these parts.
    """

    shape: tuple[int, ...]
    scaling: Scaling
    splits: dict[str, Split]
    read: Callable[[Path], readers.Parts]
    source: str
    licence: str
    files: tuple[Remote, ...] = ()
    classes: tuple[str, ...] | None = None
    package: str | None = None  # whose sub-folder holds it, where it needs no download: "package:folder"

    @property
    def installed(self) -> Path | None:
        """The folder of a data set that comes with an installed package."""
        if self.package is None:
            return None
        package, folder = self.package.split(":")
        return Path(importlib.util.find_spec(package).origin).parent / folder


def mirrored(bases: tuple[str, ...], *files: tuple[str, int, str, str]) -> tuple[Remote, ...]:
    """Files of (name, bytes, sha256, sha256 unpacked), each to be had under all of the addresses."""
    return tuple(Remote(name, tuple(b + name for b in bases), sha, size, raw) for name, size, sha, raw in files)


def dataset(name: str) -> Dataset:
    """The entry of a name; raises InputError with the nearest known one."""
    if name not in CATALOG:
        raise unknown("data set", name, CATALOG)
    return CATALOG[name]


TEN_DIGITS = tuple("0123456789")

CATALOG: dict[str, Dataset] = {
    "digits": Dataset(
        shape=(1, 8, 8),
        scaling=Scaling("unit-interval", "17 grey levels", scale=16.0, dtype=np.uint8),
        splits={"official": Split(splits.at_random(valid=200, test=300), (1_297, 200, 300))},
        read=readers.digits,
        classes=TEN_DIGITS,
        source="Alpaydin & Kaynak (1998), Optical Recognition of Handwritten Digits; the test part, as in scikit-learn",
        licence="CC BY 4.0",
        package="sklearn:datasets/data",
    ),
    "mnist": Dataset(
        shape=(1, 28, 28),
        scaling=GREY_LEVELS,
        splits={"official": Split(splits.as_given, (60_000, 0, 10_000))},
        read=readers.idx_folder,
        classes=TEN_DIGITS,
        source="LeCun, Cortes & Burges, The MNIST database of handwritten digits",
        licence="CC BY-SA 3.0, as commonly given",
        files=mirrored(
            # The mirror first: the official place often refuses.
            ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
            (
                "train-images-idx3-ubyte.gz",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
    ),
    "fashion-mnist": Dataset(
        shape=(1, 28, 28),
        scaling=GREY_LEVELS,
        splits={"official": Split(splits.as_given, (60_000, 0, 10_000))},
        read=readers.idx_folder,
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        source="Xiao, Rasul & Vollgraf (2017), arXiv:1708.07747",
        licence="MIT",
        files=mirrored(
            (
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            ),
            (
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
    ),
}

"""The table of data sets: what each is, where its files come from, and how it is divided. One entry a data set."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from elboroom.config.catalogue import fields_table
from elboroom.config.files import validated
from elboroom.data import cifar, omniglot, readers, ring, splits, sprites
from elboroom.data.prepare import BINARY, GREY_LEVELS, REAL, UNIT_INTERVAL, Scaling
from elboroom.data.splits import Split
from elboroom.errors import InputError, unknown


@dataclass(frozen=True)
class Remote:
    """A file as its official place gives it; ``urls`` in the order in which they are tried."""

    name: str
    urls: tuple[str, ...]
    sha256: str | None
    bytes: int
    stand_ins: dict[str, str] = field(default_factory=dict)  # name -> sha256 of files that hold the same: unpacked, say
    md5: str | None = None  # where that is what the official place gives

    @property
    def known_hash(self) -> str | None:
        """The published checksum, as pooch writes it; None where there is none."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}" if self.md5 else None


@dataclass(frozen=True)
class Dataset:
    """A data set that is known by name.

    ``read`` goes from the folder of its files (or what ``package`` names) to its parts as they are published;
    ``splits`` divide these parts. A set that is drawn may have ``options``, a configuration class: ``read`` and
    ``log_density`` then take one of them as ``options``.
    """

    shape: tuple[int, ...]
    scaling: Scaling
    splits: dict[str, Split]
    read: Callable[..., readers.Parts]
    source: str
    licence: str
    files: tuple[Remote, ...] = ()
    classes: tuple[str, ...] | None = None
    package: str | None = None  # whose file holds or draws it, where it needs no download: "package:file"
    folder: str | None = None  # where its files lie, where that is not its name
    factors: dict[str, tuple[float, ...]] | None = None  # what is known beside labels: name -> value of each class
    note: str = ""  # what users of it should know
    sorted: bool = False  # by class, writer or time, so that its first rows are no fair sample
    options: type | None = None  # what can be chosen of it, under data.options
    log_density: Callable[..., Float[np.ndarray, " n"]] | None = (
        None  # of examples [n, *shape], where it is known (nats)
    )

    def chosen(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The further arguments of ``read`` and ``log_density``: the options, validated, where there are any.

        Raises:
            InputError: options of a set that has none, an unknown one, or a value that cannot be.
        """
        if self.options is not None:
            return {"options": validated(self.options, dict(options), "data.options")}
        if options:
            having = ", ".join(known for known, entry in CATALOG.items() if entry.options) or "none"
            raise InputError(f"data.options: {name} has none. Leave them out (data sets with options: {having}).")
        return {}

    @property
    def installed(self) -> Path | None:
        """The file of a data set that comes with an installed package."""
        if self.package is None:
            return None
        package, file = self.package.split(":")
        return Path(importlib.util.find_spec(package).origin).parent / file

    def split(self, name: str, wanted: str) -> Split:
        """The division of that name; ``official``, the default, also means the only one that there is."""
        if wanted == "official" and len(self.splits) == 1:
            return next(iter(self.splits.values()))
        if wanted == "official" and wanted not in self.splits:
            known = "; ".join(f"{split} ({divided.words})" for split, divided in self.splits.items())
            raise InputError(
                f"{name} has no official split, and results depend on it. Set data.split to one of: {known}."
            )
        if wanted not in self.splits:
            raise unknown(f"split of {name}", wanted, self.splits)
        return self.splits[wanted]


def mirrored(bases: tuple[str, ...], *files: tuple[str, int, str, str]) -> tuple[Remote, ...]:
    """Files of (name, bytes, sha256, sha256 unpacked), each to be had under all of the addresses."""
    return tuple(
        Remote(name, tuple(b + name for b in bases), sha, size, {name.removesuffix(".gz"): raw})
        for name, size, sha, raw in files
    )


def dataset(name: str) -> Dataset:
    """The entry of a name; raises InputError with the nearest known one."""
    if name not in CATALOG:
        raise unknown("data set", name, CATALOG)
    return CATALOG[name]


def catalog_table() -> str:
    """The catalog as Markdown: a table with a line for each split, and what users should know."""
    head = ("name", "shape", "values", "split", "train", "valid", "test", "source", "licence")
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for name, entry in CATALOG.items():
        for split, divided in entry.splits.items():
            sizes = [f"{n:,}" if n else "-" for n in divided.sizes]
            shape = "x".join(map(str, entry.shape))
            lines.append(
                " | ".join((f"`{name}`", shape, entry.scaling.grey, f"`{split}`", *sizes, entry.source, entry.licence))
            )
    table = [f"| {line} |" for line in lines]
    notes = [f"- `{name}`: {entry.note}" for name, entry in CATALOG.items() if entry.note]
    return "\n".join([*table, "", *notes, "", *_options()])


def _options() -> Iterator[str]:
    """What can be chosen of the sets that are drawn, as Markdown."""
    for name, entry in CATALOG.items():
        if entry.options is not None:
            yield from (f"`data.options` of `{name}`:", "", *fields_table(entry.options), "")


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
        package="sklearn:datasets/data/digits.csv.gz",
        note="Inside scikit-learn: needs no download. The default of every smoke run.",
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
    "binarized-mnist": Dataset(
        shape=(1, 28, 28),
        scaling=BINARY,
        splits={"official": Split(splits.as_given, (50_000, 10_000, 10_000))},
        read=readers.binarized_mnist,
        sorted=True,
        source="Larochelle; binarization of Salakhutdinov & Murray (2008)",
        licence="none stated; made from MNIST",
        note="One fixed binarization of MNIST in an order of its own, without labels. Its likelihoods are 1 to 2 nats "
        "from those of dynamic binarization and are never ranked with them.",
        files=tuple(
            Remote(
                name,
                (f"http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/{name}",),
                sha,
                size,
                {f"{name}.gz": packed},
            )
            for name, size, sha, packed in (
                (
                    "binarized_mnist_train.amat",
                    78_400_000,
                    "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
                    "092365d813e5c21dc079caf1c06c0f651976f886cf649818f5272d338cc5dac2",
                ),
                (
                    "binarized_mnist_valid.amat",
                    15_680_000,
                    "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
                    "a340636f6c4a8df5715467d5a5c4c16a727a9fb7405c2d2f707f3f94403b2f15",
                ),
                (
                    "binarized_mnist_test.amat",
                    15_680_000,
                    "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
                    "7f2dd6edd98e934efff89342d83482a591cfd6f4fbe3445112325b957d519cef",
                ),
            )
        ),
    ),
    "omniglot": Dataset(
        shape=(1, 28, 28),
        scaling=UNIT_INTERVAL,
        splits={
            "iwae": Split(splits.shuffled(valid=1_345, seed=123), (23_000, 1_345, 8_070)),
            "mae": Split(splits.shuffled(valid=2_345, seed=524_287), (22_000, 2_345, 8_070)),
        },
        read=omniglot.chardata,
        sorted=True,
        source="Burda, Grosse & Salakhutdinov (2016), arXiv:1509.00519; from Lake et al. (2015)",
        licence="none stated of its own; OMNIGLOT is MIT",
        note="The 28x28 file of most published likelihoods. No checksum is published: sizes and values are checked. "
        "Characters stand upright, while the program of MAE reads them transposed: another order of pixels for an "
        "autoregressive decoder. Splits: `iwae` permutes with numpy's RandomState(123), `mae` with 524287. "
        "Labels: the 50 alphabets.",
        files=(
            Remote(
                "chardata.mat",
                ("https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat",),
                sha256=None,
                bytes=0,
            ),
        ),
    ),
    "omniglot-105": Dataset(
        shape=(1, 28, 28),
        scaling=GREY_LEVELS,
        splits={"alphabets": Split(splits.as_given, (19_280, 0, 13_180))},
        read=omniglot.originals,
        folder="omniglot",
        factors={"character": omniglot.CHARACTERS},
        sorted=True,
        source="Lake, Salakhutdinov & Tenenbaum (2015), Science 350",
        licence="MIT",
        note="The 105x105 originals, inverted and averaged to 28x28. Not the file of the published likelihoods, which "
        "is `omniglot`. The 30 background alphabets train, the 20 others test: they share no character, so there are "
        "no labels, and what needs them says so; the official number of the character is a factor.",
        files=tuple(
            Remote(
                f"images_{part}.zip",
                (f"https://github.com/brendenlake/omniglot/raw/master/python/images_{part}.zip",),
                sha256=None,
                bytes=size,
                stand_ins={f"images_{part}.npz": sha},
                md5=md5,
            )
            for part, size, md5, sha in (
                (
                    "background",
                    9_464_212,
                    "68d2efa1b9178cc56df9314c21c6e718",
                    "8bf84167413cd00beacdce3fe582f780ab538d8dbef043a6d688f2527bbce199",
                ),
                (
                    "evaluation",
                    6_462_886,
                    "6b91aef0f799c5bb55b94e3f2daec811",
                    "0b84c7ffd94c4841c0040e529c86a82eaaccb986d8eadad5673f7991b7475276",
                ),
            )
        ),
    ),
    "frey-faces": Dataset(
        shape=(1, 28, 20),
        scaling=GREY_LEVELS,
        splits={
            "random": Split(splits.at_random(valid=0, test=465), (1_500, 0, 465)),
            "last": Split(splits.last(test=465), (1_500, 0, 465)),
        },
        read=readers.frey,
        sorted=True,
        source="Frey & Roweis; used by Kingma & Welling (2013), arXiv:1312.6114",
        licence="none stated",
        note="Frames of one film: neighbours are alike, so `random` tests on near copies of training frames and `last` "
        "does not; they differ by hundreds of nats. No labels.",
        files=(
            Remote(
                "frey_rawface.mat",
                ("https://cs.nyu.edu/~roweis/data/frey_rawface.mat",),
                "265a83a23adb081755cd3de375509828e690324d1d60f076b8ecebc840d59c64",
                1_100_584,
            ),
        ),
    ),
    "cifar-10": Dataset(
        shape=(3, 32, 32),
        scaling=GREY_LEVELS,
        splits={"official": Split(splits.as_given, (50_000, 0, 10_000))},
        read=cifar.cifar,
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        source="Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images",
        licence="none stated",
        note="Its files are pickles: each is held against its checksum before it is looked into, and then nothing but "
        "numpy arrays is taken from it.",
        files=(
            Remote(
                cifar.ARCHIVE,
                (f"https://www.cs.toronto.edu/~kriz/{cifar.ARCHIVE}",),
                "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                170_498_071,
                {f"{cifar.FOLDER}/{name}": sha for name, sha in cifar.BATCHES.items()},
                md5="c58f30108f718f92721af3b95e74349a",
            ),
        ),
    ),
    "sprites": Dataset(
        shape=(1, 64, 64),
        scaling=BINARY,
        splits={"official": Split(splits.as_given, (20_000, 2_000, 2_000))},
        read=sprites.sprites,
        classes=sprites.SHAPES,
        package="elboroom:data/sprites.py",
        factors=sprites.FACTORS,
        source="drawn by elboroom in the manner of dSprites (Matthey et al. 2017)",
        licence="Apache-2.0",
        note="Not dSprites itself: 24,000 of 737,280 combinations of shape, scale, rotation, x and y, drawn when they "
        "are asked for. Labels: the shape; all five are factors.",
    ),
    "gaussian-ring": Dataset(
        shape=(2,),
        scaling=REAL,
        splits={"official": Split(splits.as_given, (10_000, 1_000, 5_000))},
        read=ring.ring,
        options=ring.Ring,
        log_density=ring.log_density,
        package="elboroom:data/ring.py",
        source="drawn by elboroom: a mixture of Gaussians around a circle",
        licence="Apache-2.0",
        note="Vectors, not images: choose a Gaussian likelihood. The density is known, "
        "`data.load(...).log_density(x)`; its mean over test is the ELBO of a perfect model. Labels: the Gaussian.",
    ),
}

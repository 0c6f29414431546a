"""Divisions are fixed for the data, disjoint, and as large as they were asked to be."""

import hashlib
import re
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from elboroom.config.data import Data as Config
from elboroom.data import CATALOG, catalog_table, describe, listing, load, splits
from elboroom.data.splits import numbered, permutation
from elboroom.errors import InputError
from elboroom.numerics import Randomness


def rows_of(**settings):
    return {name: s.rows.tolist() for name, s in load(Config(name="digits", **settings)).splits().items()}


def disjoint(rows):
    every = list(chain(*rows.values()))
    return len(every) == len(set(every))


def test_official_digits_stand_for_good():
    rows = rows_of()
    assert {name: len(r) for name, r in rows.items()} == {"train": 1_297, "valid": 200, "test": 300}
    assert disjoint(rows) and sorted(chain(*rows.values())) == list(range(1_797))
    digest = hashlib.sha256(np.array(rows["valid"] + rows["test"], np.int64).tobytes()).hexdigest()
    assert digest[:16] == "26d0bf0c4ec718f9"


def test_digits_are_of_unit_interval_and_ten_classes():
    data = load(Config(name="digits"))
    x = data.train.batch(torch.arange(1_297)).x
    assert data.shape == (1, 8, 8) and (data.values, data.grey) == ("unit-interval", "17 grey levels")
    assert x.dtype == torch.float32 and x.min() == 0 and x.max() == 1
    assert torch.equal(x * 16, (x * 16).round())
    assert data.train.labels.unique().tolist() == list(range(10)) and data.classes == tuple("0123456789")


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    data, bunch = load(Config(name="digits")), load_digits()
    batch = data.test.batch(torch.arange(300))
    np.testing.assert_array_equal(batch.x[:, 0].numpy() * 16, bunch.images[data.test.rows.numpy()])
    np.testing.assert_array_equal(batch.labels.numpy(), bunch.target[data.test.rows.numpy()])


def test_permutation_is_pinned():
    assert permutation(8, "test").tolist() == [2, 6, 5, 7, 4, 3, 0, 1]
    assert sorted(permutation(1000, "valid")) == list(range(1000))
    assert permutation(1000, "valid").tolist() != permutation(1000, "limit").tolist()


def test_valid_is_fixed_by_the_data_set_and_not_by_the_seed():
    a, b = rows_of(valid=500), rows_of(valid=500, seed=7, binarize="dynamic")
    assert a == b and disjoint(a)
    assert {name: len(r) for name, r in a.items()} == {"train": 997, "valid": 500, "test": 300}
    assert a["test"] == rows_of()["test"]
    assert rows_of(valid=200) == rows_of()


def test_limit_takes_from_what_validation_leaves_and_larger_limits_contain_smaller_ones():
    small, large = rows_of(valid=500, limit=10), rows_of(valid=500, limit=100)
    assert len(small["train"]) == 10 and len(large["train"]) == 100
    assert set(small["train"]) < set(large["train"]) < set(rows_of(valid=500)["train"])
    assert small["valid"] == large["valid"] == rows_of(valid=500)["valid"]
    assert rows_of(limit=10**6) == rows_of()


def test_own_data_without_splits_give_a_sixth_for_test(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 3)))
    np.save(tmp_path / "other name.npy", np.random.default_rng(1).normal(size=(60, 3)))
    one, other = (load(Config(path=str(tmp_path / name), valid=5)) for name in ("x.npy", "other name.npy"))
    assert {name: len(s) for name, s in one.splits().items()} == {"train": 45, "valid": 5, "test": 10}
    assert disjoint({name: s.rows.tolist() for name, s in one.splits().items()})
    assert torch.equal(one.test.rows, other.test.rows)
    assert one.test.rows_hash != other.test.rows_hash


def test_rows_hash_follows_rows_and_pixels():
    a, b = load(Config(name="digits")), load(Config(name="digits", valid=300))
    assert a.train.rows_hash == load(Config(name="digits", binarize="dynamic", seed=3)).train.rows_hash
    assert a.test.rows_hash == b.test.rows_hash and a.train.rows_hash != b.train.rows_hash
    assert len(a.train.rows_hash) == 12 and a.to("cpu").train.rows_hash == a.train.rows_hash


def test_order_depends_on_seed_and_epoch_alone():
    train = load(Config(name="digits")).train
    order = train.order(Randomness(0), 3)
    assert order.dtype == torch.int64 and torch.equal(order.sort().values, torch.arange(1_297))
    randomness = Randomness(0)
    randomness("noise", 1)
    assert torch.equal(order, train.order(randomness, 3))
    assert not torch.equal(order, train.order(randomness, 4))
    assert not torch.equal(order, train.order(Randomness(1), 3))


DIVISIONS = {  # what is divided, and the beginning of the sha256 of what is for validation and test
    ("digits", "official"): ({"all": 1_797}, "26d0bf0c4ec718f9"),
    ("mnist", "official"): ({"train": 60_000, "test": 10_000}, "8d294bd1e8418920"),
    ("fashion-mnist", "official"): ({"train": 60_000, "test": 10_000}, "8d294bd1e8418920"),
    ("binarized-mnist", "official"): ({"train": 50_000, "valid": 10_000, "test": 10_000}, "e55fa353b228ed2d"),
    ("omniglot", "iwae"): ({"train": 24_345, "test": 8_070}, "f227a7c57cfe8439"),
    ("omniglot", "mae"): ({"train": 24_345, "test": 8_070}, "91597ec071fbbf59"),
    ("omniglot-105", "alphabets"): ({"train": 19_280, "test": 13_180}, "92a1d499146cbd51"),
    ("frey-faces", "random"): ({"all": 1_965}, "3422db629dda6110"),
    ("frey-faces", "last"): ({"all": 1_965}, "b0a8e12806a3c1d8"),
    ("cifar-10", "official"): ({"train": 50_000, "test": 10_000}, "ce9d2f664b42d0b7"),
    ("sprites", "official"): ({"train": 20_000, "valid": 2_000, "test": 2_000}, "5cc578a6c21acd59"),
}


def test_every_published_split_is_divided_here():
    """All but those of sets that are drawn as they are divided."""
    every = {(name, split): entry for name, entry in CATALOG.items() for split in entry.splits}
    drawn = {(n, s) for (n, s), entry in every.items() if not entry.files and entry.splits[s].divide is splits.as_given}
    assert set(every) - drawn <= set(DIVISIONS) <= set(every)


@pytest.mark.parametrize(("name", "split"), DIVISIONS)
def test_published_splits_stand_for_good(name, split):
    parts, digest = DIVISIONS[name, split]
    division = CATALOG[name].split(name, split)
    rows = {part: r.tolist() for part, r in division.divide(numbered(parts)).items()}
    assert tuple(map(len, rows.values())) == division.sizes and list(rows) == ["train", "valid", "test"]
    assert disjoint(rows) and sorted(chain(*rows.values())) == list(range(sum(parts.values())))
    assert all(r == sorted(r) for r in rows.values())
    held = np.array(rows["valid"] + rows["test"], np.int64)
    assert hashlib.sha256(held.tobytes()).hexdigest()[:16] == digest


def test_the_last_frames_are_the_last():
    rows = CATALOG["frey-faces"].splits["last"].divide(numbered({"all": 1_965}))
    assert rows["test"].tolist() == list(range(1_500, 1_965))


def test_official_is_also_the_only_split():
    entry = CATALOG["omniglot-105"]
    assert entry.split("omniglot-105", "official") is entry.splits["alphabets"]
    with pytest.raises(InputError, match="known: alphabets"):
        entry.split("omniglot-105", "iwae")


def test_where_there_are_several_splits_one_must_be_named():
    wanted = r"frey-faces has no official split.*random \(1,500 / - / 465\); last \(1,500 / - / 465\)\."
    with pytest.raises(InputError, match=wanted):
        load(Config(name="frey-faces"))


def test_the_table_for_the_documentation_has_a_line_for_every_split():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in catalog_table().splitlines() if "|" in line]
    rows = [row for row in rows if len(row) == 9]
    every = [(f"`{name}`", f"`{split}`") for name, entry in CATALOG.items() for split in entry.splits]
    assert [(row[0], row[3]) for row in rows[2:]] == every


def test_the_example_of_the_page_runs():
    page = Path(__file__).parents[2] / "docs" / "data.md"
    names = {}
    exec(re.search(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[1], names)
    assert 0 <= names["radians"] < 6.3


def test_listing_names_every_split(tmp_path):
    lines = [line.split() for line in listing(tmp_path).splitlines()]
    assert [(line[0], line[2]) for line in lines[1:]] == [(n, split) for n, e in CATALOG.items() for split in e.splits]


@pytest.mark.parametrize("name", CATALOG)
def test_every_entry_is_whole(name):
    entry = CATALOG[name]
    assert entry.splits and entry.source and entry.licence
    assert entry.files or entry.installed.is_file()
    for remote in entry.files:
        assert remote.urls and all(url.endswith(remote.name) for url in remote.urls)
        assert remote.known_hash is None or remote.bytes > 0


def test_checksums_are_whole_and_all_different():
    remotes = [remote for entry in CATALOG.values() for remote in entry.files]
    sums = [s for r in remotes for s in (r.sha256, r.md5, *r.stand_ins.values()) if s is not None]
    assert {len(s) for s in sums} == {32, 64} and len(set(sums)) == len(sums)
    assert [r.name for r in remotes if r.known_hash is None] == ["chardata.mat"]


def test_described_without_files(tmp_path, monkeypatch):
    monkeypatch.delenv("ELBOROOM_DATA", raising=False)
    rows = {row.name: row for row in describe(tmp_path)}
    assert rows["mnist"].where is None and rows["mnist"].bytes == 11_594_722
    assert rows["mnist"].splits == {"official": (60_000, 0, 10_000)}
    assert rows["digits"].where.is_file()


def test_nothing_of_an_unknown_name():
    with pytest.raises(InputError, match="Did you mean 'digits'"):
        load(Config(name="digit"))


def test_a_set_by_name_is_made_smaller_by_averaging_squares():
    """Rows, labels and splits stay; another protocol than that of the full size."""
    from sklearn.datasets import load_digits

    full, small = load(Config(name="digits")), load(Config(name="digits", size=4))
    expected = load_digits().images.reshape(-1, 4, 2, 4, 2).mean((2, 4)) / 16
    for name, part in small.splits().items():
        batch = part.batch(torch.arange(len(part)))
        np.testing.assert_allclose(batch.x[:, 0].numpy(), expected[part.rows.numpy()], rtol=1e-6)
        assert torch.equal(part.rows, full.splits()[name].rows) and torch.equal(part.labels, full.splits()[name].labels)
        assert part.rows_hash != full.splits()[name].rows_hash
    assert (small.shape, small.values, small.title) == ((1, 4, 4), "unit-interval", "digits 4x4")
    assert (full.title, load(Config(name="digits", size=8)).shape) == ("digits", (1, 8, 8))


def test_averages_are_binarized_and_not_averaged_after_it():
    data = load(Config(name="digits", size=4, binarize="dynamic"))
    x = data.train.batch(torch.arange(500), Randomness(0)("binarize")).x
    assert data.values == "binary" and set(x.unique().tolist()) == {0.0, 1.0}

"""Options of data sets that are drawn: given to the reader and the density, validated, refused where there are none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from elboroom.config import run_from
from elboroom.config.base import Positive, PositiveFloat, merged, settings
from elboroom.config.data import Data as Config
from elboroom.data import CATALOG, catalog_table, load, splits
from elboroom.data.prepare import REAL
from elboroom.data.readers import Part
from elboroom.errors import InputError


@settings
class Steps:
    """Of the set that these tests draw."""

    count: Positive = 3
    """How many."""
    width: PositiveFloat = 0.5


def draw(place, options):
    images = options.width * (np.arange(60 * 2).reshape(60, 2) % options.count).astype(np.float32)
    return {"train": Part(images[:40], ()), "test": Part(images[40:], ())}


def log_density(x, options):
    return np.full(len(x), -2 * np.log(options.count))


@pytest.fixture(autouse=True)
def steps(monkeypatch):
    drawn = replace(
        CATALOG["digits"],
        shape=(2,),
        scaling=REAL,
        splits={"official": splits.Split(splits.as_given, (40, 0, 20))},
        read=draw,
        classes=None,
        note="",
        options=Steps,
        log_density=log_density,
    )
    monkeypatch.setitem(CATALOG, "steps", drawn)


def largest(**options):
    return load(Config(name="steps", options=options)).train.batch(torch.arange(40)).x.max().item()


def test_the_reader_and_the_density_get_them():
    assert largest() == 1.0 and largest(count=5) == 2.0 and largest(count=5, width=1) == 4.0
    data = load(Config(name="steps", options={"count": 7}))
    np.testing.assert_array_equal(data.log_density(np.zeros((3, 2))), -2 * np.log([7, 7, 7]))
    assert load(Config(name="digits")).log_density is None


def test_other_options_are_other_data():
    one, other = (load(Config(name="steps", options={"count": n})) for n in (3, 4))
    assert one.test.rows_hash != other.test.rows_hash and one.files != other.files


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("steps", {"count": 0}, "data.options: count: .* greater than or equal to 1, got 0"),
        ("steps", {"cuont": 4}, "data.options: cuont: unknown key 'cuont'; known: count, width. Did you mean 'count'"),
        ("digits", {"count": 4}, r"data.options: digits has none\. Leave them out \(data sets with options: .*steps"),
    ],
)
def test_what_cannot_be_chosen_is_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        load(Config(name=name, options=options))


def test_own_data_have_none():
    with pytest.raises(InputError, match=r"data\.options are of data sets by name"):
        run_from({"data": {"path": "x.npy", "options": {"count": 3}}})


def test_another_data_set_forgets_them_and_the_same_one_keeps_them():
    base = {"data": {"name": "steps", "options": {"count": 4}}}
    assert merged(base, {"data": {"name": "digits"}}) == {"data": {"name": "digits"}}
    assert merged(base, {"data": {"path": "x"}}) == {"data": {"path": "x"}}
    assert merged(base, {"data": {"name": "steps", "valid": 3}})["data"]["options"] == {"count": 4}
    assert merged(base, {"data": {"options": {"width": 2}}})["data"]["options"] == {"count": 4, "width": 2}


def test_the_page_of_data_sets_has_their_fields():
    assert "`data.options` of `steps`:" in catalog_table()
    assert "| `count` | `3` | How many. At least 1. |" in catalog_table()

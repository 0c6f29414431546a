"""Sprites: the factors say what is drawn."""

import hashlib
import math

import numpy as np
import pytest
import torch

from elboroom.config.data import Data as Config
from elboroom.data import load, sprites

FACTORS = sprites.combinations(2_000)
IMAGES = sprites.draw(FACTORS)
NAMES = list(sprites.FACTORS)


def one(shape=0, scale=5, rotation=0, x=16, y=16):
    return sprites.draw(np.array([[shape, scale, rotation, x, y]]))[0]


def test_the_set_stands_for_good():
    assert hashlib.sha256(FACTORS.tobytes()).hexdigest()[:16] == "3d052a1a1925d4cb"
    assert hashlib.sha256(IMAGES.tobytes()).hexdigest()[:16] == "0ed200cf0460d6ab"
    np.testing.assert_array_equal(sprites.combinations(100), FACTORS[:100])


def test_no_combination_occurs_twice_and_all_classes_occur_alike():
    assert len(np.unique(FACTORS, axis=0)) == len(FACTORS)
    for column, values in zip(FACTORS.T, sprites.FACTORS.values(), strict=True):
        share = np.bincount(column, minlength=len(values)) / len(FACTORS)
        assert len(share) == len(values) and np.abs(share - 1 / len(values)).max() < 0.05
    with pytest.raises(ValueError, match="737,280"):
        sprites.combinations(737_281)


def test_the_middle_of_mass_is_the_position():
    rows, columns = np.mgrid[:64, :64]
    mass = IMAGES.sum((1, 2))
    x, y = (IMAGES * columns).sum((1, 2)) / mass, (IMAGES * rows).sum((1, 2)) / mass
    symmetric = FACTORS[:, 0] < 2
    np.testing.assert_allclose(x[symmetric], 16 + FACTORS[symmetric, 3], atol=0.05)
    np.testing.assert_allclose(y[symmetric], 16 + FACTORS[symmetric, 4], atol=0.05)
    assert max(np.abs(x - 16 - FACTORS[:, 3]).max(), np.abs(y - 16 - FACTORS[:, 4]).max()) < 3  # hearts are not


def test_position_moves_and_nothing_else():
    for shape in range(3):
        np.testing.assert_array_equal(np.roll(one(shape), (3, -5), (0, 1)), one(shape, x=11, y=19))


def test_area_grows_with_the_square_of_the_scale():
    for shape in range(3):
        area = np.mean([[one(shape, s, r).sum() for s in range(6)] for r in range(40)], axis=0)
        np.testing.assert_allclose(area / area[5], np.array(sprites.FACTORS["scale"]) ** 2, rtol=0.03)


def patch(shape, **more):
    return one(shape, **more)[16:49, 16:49]


@pytest.mark.parametrize("shape", range(3))
def test_rotation_is_counter_clockwise(shape):
    np.testing.assert_array_equal(patch(shape, rotation=10), np.rot90(patch(shape)))
    turned = {k for k in range(40) if np.array_equal(patch(shape, rotation=k), patch(shape))}
    assert turned == [{0, 10, 20, 30}, {0, 20}, {0}][shape]  # a square and an ellipse look alike after a turn
    assert sprites.FACTORS["rotation"][10] == pytest.approx(math.pi / 2)


def test_shapes_are_what_they_are_called():
    square, ellipse, heart = (patch(shape) for shape in range(3))
    assert square.sum() == 23**2 and square[5:28, 5:28].all()
    rows, columns = ellipse.nonzero()
    assert (np.ptp(rows), np.ptp(columns)) == (14, 30)
    np.testing.assert_array_equal(heart, heart[:, ::-1])
    first = heart[heart.any(1)][0]
    assert (np.diff(first.astype(int)) == 1).sum() == 2  # two lobes at the top
    assert heart[heart.any(1)][-1].sum() <= 3  # and a point at the bottom


def test_loaded_with_its_factors():
    data = load(Config(name="sprites", valid=100, limit=500))
    assert data.shape == (1, 64, 64) and data.values == "binary" and data.classes == ("square", "ellipse", "heart")
    assert [len(s) for s in data.splits().values()] == [500, 100, 2_000]
    assert list(data.factors) == ["shape", "scale", "rotation", "x", "y"] == NAMES
    for examples in data.splits().values():
        x = examples.fixed(torch.arange(len(examples))).x
        assert torch.equal(x[:, 0].byte(), torch.from_numpy(sprites.draw(examples.factors.numpy())))
        assert torch.equal(examples.labels, examples.factors[:, 0])
        assert torch.equal(examples.to("cpu").factors, examples.factors)
    again = load(Config(name="sprites", valid=100, limit=500))
    assert data.files == again.files and data.test.rows_hash == again.test.rows_hash

"""Sprites: shapes of known size, angle and place, drawn here in the manner of dSprites (Matthey et al. 2017).

Unlike there, the 40 angles are all different (there the first and the last are one), and a step of the position is one
pixel. The 737,280 combinations of the factors are in a fixed order, of which a data set takes the first.
"""

import math
from pathlib import Path

import numpy as np

from elboroom.data.readers import Part, Parts
from elboroom.data.splits import permutation

SIZE, HALF = 64, 16  # of the image; and from a sprite's middle to the edge of its patch, in pixels

FACTORS: dict[str, tuple[float, ...]] = {
    "shape": (0.0, 1.0, 2.0),  # square, ellipse, heart
    "scale": (0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    "rotation": tuple(2 * math.pi * k / 40 for k in range(40)),  # radians, counter-clockwise
    "x": tuple(k / 31 for k in range(32)),  # left to right
    "y": tuple(k / 31 for k in range(32)),  # top to bottom
}
"""Name -> value of each class."""
SHAPES = ("square", "ellipse", "heart")
COUNTS = tuple(len(values) for values in FACTORS.values())


def sprites(place: Path | None = None, sizes: tuple[int, int, int] = (20_000, 2_000, 2_000)) -> Parts:
    """The first combinations of the factors, in their fixed order, drawn; labels are the shapes.

    Args:
        place: not used, since nothing is read.
        sizes: how many for training, validation and test.
    """
    factors = combinations(sum(sizes))
    images, ends = draw(factors), np.cumsum(sizes)
    return {
        name: Part(images[end - n : end], (), factors[end - n : end, 0], factors=factors[end - n : end])
        for name, n, end in zip(("train", "valid", "test"), sizes, ends, strict=True)
    }


def combinations(n: int) -> np.ndarray:
    """The first n combinations of factors, as int64 [n, 5] numbers of classes; no two are alike."""
    order = permutation(math.prod(COUNTS), "sprites")
    if n > len(order):
        raise ValueError(f"there are {len(order):,} sprites, and no {n:,}.")
    return np.stack(np.unravel_index(order[:n], COUNTS), axis=1).astype(np.int64)


def draw(factors: np.ndarray) -> np.ndarray:
    """Images of combinations [n, 5]: uint8 [n, 64, 64] of 0 and 1."""
    kinds, kind = np.unique(factors[:, :3], axis=0, return_inverse=True)
    drawn = np.stack([patch(*k) for k in kinds.tolist()])
    images = np.zeros((len(factors), SIZE, SIZE), np.uint8)
    corners, corner = np.unique(factors[:, 3:], axis=0, return_inverse=True)
    order = np.argsort(corner.ravel(), kind="stable")
    for (x, y), rows in zip(corners, np.split(order, np.cumsum(np.bincount(corner.ravel()))[:-1]), strict=True):
        images[rows, y : y + 2 * HALF + 1, x : x + 2 * HALF + 1] = drawn[kind.ravel()[rows]]
    return images


def patch(shape: int, scale: int, rotation: int) -> np.ndarray:
    """One sprite in the middle of a patch: which pixels have their middle inside the shape, bool [33, 33]."""
    angle = FACTORS["rotation"][rotation]
    up, right = np.mgrid[HALF : -HALF - 1 : -1, -HALF : HALF + 1] / (HALF * FACTORS["scale"][scale])
    u = right * math.cos(angle) + up * math.sin(angle)
    v = up * math.cos(angle) - right * math.sin(angle)
    return inside(SHAPES[shape], u, v)


def inside(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether points lie inside a shape that is upright and fits the unit circle."""
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) <= 0.7
    if shape == "ellipse":
        return u**2 + (2 * v) ** 2 <= 0.95**2
    u, v = 1.35 * u, 1.35 * v + 0.1
    return (u**2 + v**2 - 1) ** 3 <= u**2 * v**3

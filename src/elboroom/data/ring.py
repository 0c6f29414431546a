"""Points of the plane around a ring of Gaussians: a density that is known, to hold a model's likelihood against."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float

from elboroom.config.base import Positive, PositiveFloat, settings
from elboroom.data.readers import Part, Parts

RADIUS = 2.0


@settings
class Ring:
    """What can be chosen of the ring."""

    modes: Positive = 8
    """Gaussians, evenly on a circle of radius 2."""
    noise: PositiveFloat = 0.2
    """Standard deviation of each Gaussian, in both directions."""


def centres(modes: int) -> Float[np.ndarray, "modes 2"]:
    """Where the Gaussians lie, the first to the right, counter-clockwise."""
    angles = 2 * math.pi * np.arange(modes) / modes
    return RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def ring(place: Path | None = None, *, options: Ring, sizes: tuple[int, int, int] = (10_000, 1_000, 5_000)) -> Parts:
    """Points drawn from the mixture; labels are the Gaussian's number.

    From numpy's frozen RandomState, seed 0: the same points for good, and other options use the same random numbers.

    Args:
        place: not used, since nothing is read.
        options: how many Gaussians, and how wide.
        sizes: how many for training, validation and test.
    """
    stream, n = np.random.RandomState(0), sum(sizes)
    mode = np.minimum((stream.random_sample(n) * options.modes).astype(np.int64), options.modes - 1)
    points = (centres(options.modes)[mode] + options.noise * stream.standard_normal((n, 2))).astype(np.float32)
    ends = np.cumsum(sizes)
    return {
        name: Part(points[end - size : end], (), mode[end - size : end])
        for name, size, end in zip(("train", "valid", "test"), sizes, ends, strict=True)
    }


def log_density(x: Float[np.ndarray, "n 2"], *, options: Ring) -> Float[np.ndarray, " n"]:
    r""":math:`\log p(x) = \log \frac1M \sum_m N(x; c_m, s^2 I)`, in nats; minus its mean over test is what no NLL beats
    by more than the sample's error."""
    square = ((np.asarray(x, np.float64)[:, None] - centres(options.modes)) ** 2).sum(-1) / options.noise**2
    top = -square.min(1) / 2
    total = np.exp(-square / 2 - top[:, None]).mean(1)
    return top + np.log(total) - math.log(2 * math.pi * options.noise**2)

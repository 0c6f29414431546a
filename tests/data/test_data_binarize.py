"""Binarization: drawn anew in training, fixed in evaluation, with the probability that the grey value says."""

import pytest
import torch

from elboroom.config.data import Data as Config
from elboroom.data import Examples, load
from elboroom.data.prepare import quick_bernoulli
from elboroom.numerics import Randomness

INDEX = torch.tensor([5, 0, 9, 9])


def digits(binarize, **settings):
    return load(Config(name="digits", binarize=binarize, **settings))


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("draw", ["batch", "fixed"])
def test_the_mean_of_many_draws_is_the_grey_value(draw):
    draws, levels = 2_000, torch.arange(256, dtype=torch.uint8)
    examples, source = Examples("train", levels[None], scale=255.0, binarize="dynamic"), generator(0)
    index = torch.zeros(1, dtype=torch.int64)
    one = {"batch": lambda i: examples.batch(index, source), "fixed": lambda i: examples.fixed(index, copy=i)}[draw]
    mean = torch.stack([one(i).x[0] for i in range(draws)]).mean(0)
    # 256 pixels, five standard errors of the worst p = 1/2: a false alarm in less than 2 of 10,000 seeds
    torch.testing.assert_close(mean, levels / 255, atol=5 * 0.5 / draws**0.5, rtol=0)
    assert mean[0] == 0 and mean[-1] == 1
    assert abs(float(mean.mean()) - 0.5) < 5 * 0.41 / (256 * draws) ** 0.5  # sqrt(mean of p (1 - p)) = 0.41


def test_dynamic_is_a_function_of_its_generator():
    train = digits("dynamic").train
    assert torch.equal(train.batch(INDEX, generator(1)).x, train.batch(INDEX, generator(1)).x)
    source = generator(1)
    first, second = train.batch(INDEX, source).x, train.batch(INDEX, source).x
    assert not torch.equal(first, second) and not torch.equal(first[2], first[3])
    assert set(first.unique().tolist()) == {0.0, 1.0} and first.dtype == torch.float32


def test_dynamic_without_a_generator_is_refused():
    with pytest.raises(ValueError, match="pass a generator"):
        digits("dynamic").train.batch(INDEX)


def test_fixed_draws_differ_by_copy_seed_and_split_alone():
    data = digits("dynamic", copies=3)
    x = data.test.fixed(INDEX, 1).x
    again = digits("dynamic", copies=3).test
    again.batch(INDEX, generator(3))
    assert torch.equal(x, data.test.fixed(INDEX, 1).x) and torch.equal(x, again.fixed(INDEX, 1).x)
    assert torch.equal(x[2], x[3]) and torch.equal(data.test.fixed(INDEX[1:], 1).x, x[1:])
    assert not torch.equal(x, data.test.fixed(INDEX, 2).x)
    assert not torch.equal(x, digits("dynamic", seed=1).test.fixed(INDEX, 1).x)
    pixels = torch.full((10, 1, 8, 8), 128, dtype=torch.uint8)
    train, valid = (Examples(name, pixels, scale=255.0, binarize="dynamic") for name in ("train", "valid"))
    assert not torch.equal(train.fixed(INDEX).x, valid.fixed(INDEX).x)


def test_static_training_is_the_fixed_copy_zero():
    train = digits("static").train
    x = train.batch(INDEX, generator(0)).x
    assert torch.equal(x, train.batch(INDEX, generator(1)).x) and torch.equal(x, train.fixed(INDEX, 0).x)
    assert torch.equal(x, digits("dynamic").train.fixed(INDEX, 0).x)
    assert set(x.unique().tolist()) == {0.0, 1.0}


def test_threshold():
    x = digits("threshold").train.batch(INDEX).x
    assert torch.equal(x, (digits("none").train.batch(INDEX).x > 0.5).float())
    pixels = torch.tensor([[127], [128]], dtype=torch.uint8)
    both = Examples("train", pixels, scale=255.0, binarize="threshold").fixed(torch.tensor([0, 1]))
    assert both.x.tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize(
    ("binarize", "text", "values"),
    [
        ("none", "none", "unit-interval"),
        ("threshold", "threshold 0.5", "binary"),
        ("static", "static, seed 4", "binary"),
        ("dynamic", "dynamic, seed 4", "binary"),
    ],
)
def test_protocols_say_which(binarize, text, values):
    data = digits(binarize, seed=4)
    assert (data.binarization, data.values) == (text, values)


def test_copies_are_of_validation_and_test():
    data = digits("dynamic", copies=5)
    assert {name: s.copies for name, s in data.splits().items()} == {"train": 1, "valid": 5, "test": 5}


def test_data_of_two_values_need_no_draw(tmp_path):
    import numpy as np

    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((12, 4)) > 0.5)
    data = load(Config(path=str(tmp_path / "x.npy"), binarize="dynamic", copies=2))
    assert (data.values, data.grey, data.binarization, data.test.copies) == ("binary", "2 values", "none", 1)


def test_moving_keeps_draws_labels_and_rows():
    data = digits("dynamic")
    x = data.test.fixed(INDEX).x
    moved = data.to("cpu")
    assert torch.equal(moved.test.fixed(INDEX).x, x) and torch.equal(moved.test.rows, data.test.rows)
    assert torch.equal(moved.test.labels, data.test.labels) and moved.title == "digits"


def test_random_numbers_of_torch_itself_are_left_alone():
    train = digits("dynamic").train
    before = torch.get_rng_state()
    train.batch(INDEX, generator(0)), train.fixed(INDEX), train.order(Randomness(0), 0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("scale", [255.0, 16.0])
def test_the_largest_value_is_one_exactly(scale):
    pixels = torch.arange(int(scale) + 1, dtype=torch.uint8)[:, None]
    x = Examples("train", pixels, scale=scale).batch(torch.arange(len(pixels))).x[:, 0]
    assert x[0] == 0 and x[-1] == 1
    torch.testing.assert_close(x, torch.arange(scale + 1) / scale, rtol=2e-7, atol=0)


def test_training_draws_follow_their_probabilities_to_two_to_the_minus_seventeen():
    """All 256 grey levels; the deviations of n draws are normal, so the largest of 254 stays below 4.5 (p = 0.002)."""
    levels, n = torch.arange(256) / 255, 50_000
    drawn = quick_bernoulli((levels * 2**16).repeat(n, 1), torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    mean = drawn.double().mean(0)
    assert mean[0] == 0
    assert mean[255] == 1
    z = (mean - levels)[1:255] / (levels * (1 - levels) / n).sqrt()[1:255]
    assert z.abs().max() < 4.5
    assert 0.85 < z.std() < 1.15


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_training_draws_of_any_number(count):
    """Four draws share 64 random bits; a number that is no multiple of four wastes some."""
    drawn = quick_bernoulli(torch.full((count, 1), 2.0**15), torch.Generator().manual_seed(0))
    assert drawn.shape == (count, 1)

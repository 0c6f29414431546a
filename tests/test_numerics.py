"""Sums that keep their digits, and random numbers that are a function of all their arguments."""

import math

import pytest
import torch

from elboroom.numerics import (
    LOG_2PI,
    Randomness,
    StreamingLogMeanExp,
    at_least_float32,
    event_sum,
    log_mean_exp,
    seed_for,
)


def test_log_2pi():
    assert pytest.approx(1.8378770664093453, abs=1e-15) == LOG_2PI  # log 6.283185307179586


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_event_sum_sums_the_last_dimensions(dims):
    x = torch.arange(120.0).reshape(2, 3, 4, 5)
    torch.testing.assert_close(event_sum(x, dims), x.sum(dim=tuple(range(-dims, 0))))


def test_log_mean_exp_of_equal_terms_is_the_term():
    x = torch.full((7, 2), -1000.0)  # exp underflows in float32 and in float64
    torch.testing.assert_close(log_mean_exp(x), torch.full((2,), -1000.0))
    torch.testing.assert_close(log_mean_exp(-x), torch.full((2,), 1000.0))


def test_log_mean_exp_against_the_plain_formula():
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(log_mean_exp(x), x.exp().mean(0).log())
    torch.testing.assert_close(log_mean_exp(x, dim=1), x.exp().mean(1).log())


@pytest.mark.parametrize("pieces", [(12,), (1,) * 12, (5, 7), (11, 1)])
def test_streaming_does_not_depend_on_the_pieces(pieces):
    log_w = 30 * torch.randn(12, 4, generator=torch.Generator().manual_seed(0)) - 500
    sums = StreamingLogMeanExp()
    for piece in log_w.split(pieces):
        sums.add(piece)
    w = (log_w.double() - log_w.double().max(0).values).exp()
    torch.testing.assert_close(sums.log_mean, log_mean_exp(log_w.double()), rtol=1e-14, atol=0)
    torch.testing.assert_close(sums.effective_samples, w.sum(0).square() / w.square().sum(0), rtol=1e-10, atol=0)


@pytest.mark.parametrize("pieces", [(12,), (1,) * 12, (5, 7), (4, 6, 2)])
def test_streaming_keeps_the_log_mean_at_marks_inside_of_pieces(pieces):
    """At 1, 4, 10 and 12 of 12 weights, against the plain formula; the final value is the same to the last bit."""
    log_w = 30 * torch.randn(12, 4, generator=torch.Generator().manual_seed(0)) - 500
    sums, plain = StreamingLogMeanExp(marks=(1, 4, 10, 12, 13)), StreamingLogMeanExp()
    for piece in log_w.split(pieces):
        sums.add(piece)
        plain.add(piece)
    assert list(sums.along) == [1, 4, 10, 12]  # 13 was not reached
    for mark, value in sums.along.items():
        torch.testing.assert_close(value, log_mean_exp(log_w[:mark].double()), rtol=1e-14, atol=0)
    assert torch.equal(sums.along[12], sums.log_mean)
    assert torch.equal(sums.log_mean, plain.log_mean)
    torch.testing.assert_close(sums.mean_log, log_w.double().mean(0), rtol=1e-14, atol=0)


def test_streaming_keeps_small_terms_of_4096():
    """4,096 equal weights: log w itself, and all of them effective; float16 or bfloat16 sums lose this."""
    sums = StreamingLogMeanExp()
    for _ in range(32):
        sums.add(torch.full((128, 1), -123.456))
    torch.testing.assert_close(sums.log_mean, torch.tensor([-123.456]).double(), rtol=1e-12, atol=0)
    torch.testing.assert_close(sums.effective_samples, torch.tensor([4096.0]).double(), rtol=1e-9, atol=0)


def test_one_dominant_weight_is_one_effective_sample():
    sums = StreamingLogMeanExp()
    sums.add(torch.tensor([[0.0], [-200.0], [-300.0]]))
    torch.testing.assert_close(sums.effective_samples, torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(sums.log_mean, torch.tensor([-math.log(3)], dtype=torch.float64))


def test_an_infinite_weight_is_reported_as_nan():
    sums = StreamingLogMeanExp()
    sums.add(torch.tensor([[0.0], [math.nan]]))
    assert sums.log_mean.isnan().all()


@pytest.mark.parametrize(
    ("given", "wanted"), [("bfloat16", "float32"), ("float16", "float32"), ("float32", "float32"), ("float64",) * 2]
)
def test_densities_are_float32_or_better(given, wanted):
    assert at_least_float32(torch.ones(2, dtype=getattr(torch, given))).dtype == getattr(torch, wanted)


DIFFERENT = [
    ((0, "noise", 0), (1, "noise", 0)),
    ((0, "noise", 0), (0, "binarize", 0)),
    ((0, "noise", 0), (0, "noise", 1)),
    ((0, "noise", 1, 0), (0, "noise", 0, 1)),
    ((1, "noise", 0), (1 + 2**32, "noise", 0)),  # torch's CPU generator reads the low 32 bits of a seed only
    ((1, "noise", 2), (1, "noise", 2 + 2**32)),
    ((1, "noise", 2), (2, "noise", 1)),
]


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_draws_differ_in_each_of_seed_purpose_and_step(first, second):
    a, b = (torch.rand(8, generator=Randomness(key[0])(*key[1:])) for key in (first, second))
    assert not torch.equal(a, b)


def test_draws_depend_on_nothing_else():
    random = Randomness(3)
    first = torch.rand(5, generator=random("noise", 7))
    torch.rand(100, generator=random("binarize", 7))
    torch.manual_seed(99)
    torch.testing.assert_close(torch.rand(5, generator=random("noise", 7)), first, rtol=0, atol=0)
    state = torch.get_rng_state()
    random("noise", 8)
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_of_a_study_do_not_collide():
    """10 seeds, 3 purposes, 100 steps in 2^32: the chance of any collision is 0.1 %; these fixed ones have none."""
    seeds = {seed_for(s, p, i) for s in range(10) for p in ("noise", "binarize", "order") for i in range(100)}
    assert len(seeds) == 3000
    assert 0 <= min(seeds) <= max(seeds) < 2**32


def test_seeds_are_stable_across_versions():
    """The first 4 bytes, little-endian, of `printf 0/noise/0 | b2sum -l 32`: a run resumed later must draw the same."""
    assert seed_for(0, "noise", 0) == 1854187973

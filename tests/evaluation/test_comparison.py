"""Paired bootstrap and Holm's correction against closed forms, scipy and hand calculation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from elboroom.evaluation.comparison import LEVEL, enough, holm, paired_bootstrap, resampled_means


def correlated(n: int, shift: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Two rows that share most of their variance, as two models on the same images do."""
    random = np.random.default_rng(seed)
    common, own = random.normal(-100, 30, n), random.normal(0, 2, (2, n))
    return {"a": (common + own[0] + shift)[None], "b": (common + own[1])[None]}


def test_interval_is_that_of_the_paired_t():
    """Normal limit of the bootstrap of a mean: d ± 1.96 s / sqrt(n), from the differences alone. Monte Carlo error of
    an end with 10,000 resamples: about 0.03 standard errors."""
    rows = correlated(2000, 0.3)
    (found,) = paired_bootstrap(rows)
    d = (rows["a"] - rows["b"])[0]
    error = d.std(ddof=1) / math.sqrt(len(d))
    assert found.value == pytest.approx(d.mean(), abs=1e-12)
    np.testing.assert_allclose([found.low, found.high], d.mean() + error * np.array([-1.96, 1.96]), atol=0.1 * error)
    unpaired = math.hypot(*(v.std() / math.sqrt(v.size) for v in rows.values()))
    assert found.high - found.low < unpaired  # which would hide the difference


def test_p_is_that_of_the_paired_t():
    rows = correlated(2000, 0.1)
    (found,) = paired_bootstrap(rows)
    expected = stats.ttest_rel(rows["a"][0], rows["b"][0]).pvalue
    assert 0.01 < expected < 0.9  # within reach of 10,000 resamples
    assert found.p == pytest.approx(expected, abs=0.02)


def test_small_case_against_scipy():
    """The same percentile interval of the paired difference of means, to the noise of two resamplings."""
    rows = correlated(40, 1.0, seed=3)
    (found,) = paired_bootstrap(rows, resamples=40_000)
    theirs = stats.bootstrap(
        (rows["a"][0], rows["b"][0]),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        paired=True,
        method="percentile",
        n_resamples=40_000,
        confidence_level=LEVEL,
        rng=np.random.default_rng(1),
    )
    interval = theirs.confidence_interval
    np.testing.assert_allclose([found.low, found.high], interval, atol=0.05 * theirs.standard_error)


def test_identical_rows_do_not_differ():
    values = np.random.default_rng(0).normal(size=(3, 50))
    (found,) = paired_bootstrap({"a": values[:1], "b": values[:1].copy()})
    assert (found.value, found.low, found.high, found.p, found.adjusted) == (0, 0, 0, 1, 1)
    assert not found.real


def test_a_constant_difference_is_certain():
    values = np.random.default_rng(0).normal(size=(1, 50))
    (found,) = paired_bootstrap({"a": values + 0.5, "b": values})
    np.testing.assert_allclose([found.value, found.low, found.high], 0.5)
    assert found.p == pytest.approx(2 / 10_001)
    assert found.real


def test_resamples_do_not_depend_on_the_chunks(monkeypatch):
    rows = list(correlated(30, 1.0).values())
    whole = resampled_means(rows, 100)
    monkeypatch.setattr("elboroom.evaluation.comparison.CHUNK", 30 * 7)
    np.testing.assert_allclose(resampled_means(rows, 100), whole, rtol=1e-13)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_are_a_second_level(seeds):
    """Rows x[s, i] = a_s + b_i have means of variance var(a) / S + var(b) / n, unbiased variances both; the common b
    leaves the difference of two rows with that of the seeds: var(a) / S + var(a') / S."""
    random = np.random.default_rng(seeds)
    images, a, other = random.normal(0, 3, 400), random.normal(0, 1, seeds), random.normal(0, 0.5, seeds)
    means = resampled_means([a[:, None] + images, other[:, None] + images], 40_000)
    of_seeds = [v.var(ddof=1) / seeds for v in (a, other)]
    expected = [v + images.var(ddof=1) / 400 for v in of_seeds]
    np.testing.assert_allclose(means.var(axis=0), expected, rtol=0.05)
    assert (means[:, 0] - means[:, 1]).var() == pytest.approx(sum(of_seeds), rel=0.05)


def test_more_seeds_than_one_widen_the_interval():
    """Ten images tell two runs apart, and two more seeds say that it was luck."""
    random = np.random.default_rng(0)
    images = random.normal(0, 5, 200)
    one = {"a": (images + 1 + random.normal(0, 0.5, 200))[None], "b": images[None]}
    assert paired_bootstrap(one)[0].real
    several = {"a": images + np.array([[1.0], [-1.5], [0.2]]), "b": images + np.array([[0.0], [0.9], [-1.0]])}
    assert not paired_bootstrap(several)[0].real


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_told_and_never_real(bad):
    values = np.random.default_rng(0).normal(size=(3, 1, 20))
    values[0, 0, 5] = bad
    found = paired_bootstrap(dict(zip("abc", values, strict=True)), resamples=100)
    assert [d.real for d in found[:2]] == [False, False]
    assert all(math.isnan(d.low) and math.isnan(d.p) and not math.isfinite(d.value) for d in found[:2])
    assert math.isfinite(found[2].p)  # b against c


def test_holm_by_hand():
    """m = 4: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1 raised to the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_counts_a_test_without_a_number():
    first, second = holm([math.nan, 0.02])
    assert math.isnan(first)
    assert second == pytest.approx(0.04)


def test_large_families_can_still_find_something():
    """Twenty rows have 190 pairs: Holm asks the smallest p for 0.05 / 190, which 10,000 resamples could just reach, and
    thirty rows would never."""
    for rows in (5, 20, 30):
        pairs = rows * (rows - 1) // 2
        assert 2 / (enough(pairs) + 1) * pairs < 1 - LEVEL
    values = np.random.default_rng(0).normal(size=(1, 20))
    found = paired_bootstrap({str(i): values + i for i in range(30)}, resamples=1)
    assert all(d.real for d in found)


def test_false_discoveries_of_a_family_are_rare():
    """Five rows without any difference, 100 times: one is found in about 5 (binomial: 12 at most, p < 0.005)."""
    random = np.random.default_rng(0)
    families = [{str(i): random.normal(size=(1, 60)) for i in range(5)} for _ in range(100)]
    wrong = [any(d.real for d in paired_bootstrap(f, resamples=1000)) for f in families]
    uncorrected = [any(d.p <= 0.05 for d in paired_bootstrap(f, resamples=1000)) for f in families]
    assert sum(wrong) <= 12 < sum(uncorrected)


def test_every_pair_once_in_the_order_of_the_rows():
    values = np.random.default_rng(0).normal(size=(4, 1, 10))
    found = paired_bootstrap(dict(zip("dacb", values, strict=True)), resamples=10)
    assert [(d.first, d.second) for d in found] == list(itertools.combinations("dacb", 2))


def test_two_seeds_call_few_differences_real_that_are_none():
    """Pure seed noise, 200 pairs of rows of two seeds: Welch's test holds 5 %, a bootstrap of two seeds calls 19 %."""
    random, real = np.random.default_rng(0), 0
    for trial in range(200):
        rows = {name: random.normal(size=(2, 1)) + np.zeros((2, 50)) for name in "ab"}
        real += paired_bootstrap(rows, resamples=200, seed=trial)[0].real
    assert real <= 20  # 10 expected; more than 20 has a chance of 0.1 %


def test_over_seeds_the_interval_is_that_of_welch():
    """Seed means 1, 2, 3 and 7, 8, 9: difference -6, error sqrt(2/3), 4 degrees of freedom: reach 2.776 * 0.8165."""
    rows = {
        "a": np.array([[1.0], [2.0], [3.0]]) + np.zeros((3, 5)),
        "b": np.array([[7.0], [8.0], [9.0]]) + np.zeros((3, 5)),
    }
    (found,) = paired_bootstrap(rows, resamples=500)
    assert found.low == pytest.approx(-6 - 2.7764 * (2 / 3) ** 0.5, abs=1e-3)
    assert found.real


@pytest.mark.parametrize("seeds", [2, 3])
def test_one_seed_beside_several_calls_few_differences_real_that_are_none(seeds):
    """Pure seed noise: the t-test holds 5 %, a bootstrap alone calls about half of them real."""
    random, real = np.random.default_rng(0), 0
    for trial in range(200):
        rows = {name: random.normal(size=(n, 1)) + np.zeros((n, 50)) for name, n in (("a", 1), ("b", seeds))}
        real += paired_bootstrap(rows, resamples=200, seed=trial)[0].real
    assert real <= 20  # 10 expected; more than 20 has a chance of 0.1 %


@pytest.mark.parametrize("turned", [False, True])
def test_one_seed_is_asked_whether_it_could_be_one_more_of_the_other(turned):
    """7 beside 1, 2, 3: difference 5, error sqrt(1 + 1/3), 2 degrees of freedom: reach 4.3027 * 1.1547; scipy's t of
    two samples with equal variances pools nothing from a sample of one, and is the same test."""
    rows = {"a": np.full((1, 5), 7.0), "b": np.array([[1.0], [2.0], [3.0]]) + np.zeros((3, 5))}
    (found,) = paired_bootstrap(dict(reversed(rows.items())) if turned else rows, resamples=500)
    sign = -1 if turned else 1
    assert sorted([sign * found.low, sign * found.high]) == pytest.approx(
        [5 - 4.3027 * 1.1547, 5 + 4.3027 * 1.1547], abs=1e-3
    )
    assert found.p == pytest.approx(stats.ttest_ind([7], [1, 2, 3]).pvalue)


def test_rows_of_one_seed_vary_as_those_of_several_do():
    """Beside rows with seeds 1, 2, 3 and 0, 4, of variances 1 and 8 and 3 degrees of freedom together: pooled variance
    (2 * 1 + 1 * 8) / 3, reach of two single seeds 3.1824 * sqrt(2 * 10 / 3), of one and three of sqrt(4/3 * 10 / 3)."""
    seeds = {"a": [7.0], "b": [5.0], "c": [1.0, 2.0, 3.0], "d": [0.0, 4.0]}
    found = paired_bootstrap({k: np.array(v)[:, None] + np.zeros((1, 5)) for k, v in seeds.items()}, resamples=500)
    pairs = {(d.first, d.second): d for d in found}
    assert pairs["a", "b"].high == pytest.approx(2 + 3.1824 * (2 * 10 / 3) ** 0.5, abs=1e-3)
    assert pairs["a", "c"].low == pytest.approx(5 - 3.1824 * (4 / 3 * 10 / 3) ** 0.5, abs=1e-3)


def test_a_row_that_is_no_number_says_nothing_of_the_others():
    rows = {"a": np.full((1, 5), 7.0), "b": np.array([[1.0], [2.0], [3.0]]) + np.zeros((3, 5))}
    alone, beside = (paired_bootstrap(rows | more, resamples=500)[0] for more in ({}, {"c": np.full((2, 5), math.nan)}))
    assert (alone.low, alone.high, alone.p) == (beside.low, beside.high, beside.p)


def test_one_seed_each_is_of_the_images_alone():
    rows = correlated(40, 1.0)
    (found,) = paired_bootstrap(rows, resamples=500)
    drawn = np.subtract(*resampled_means(list(rows.values()), 500).T)
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))

"""Disentanglement: each score perfect, constant, independent and duplicated, and against values taken by hand."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from oracles.configurations import small_run
from oracles.small_data import data_of, run_of

from elboroom import build
from elboroom.config.files import metrics_from
from elboroom.config.metrics import SETS
from elboroom.distributions import DiagonalLaplace, DiagonalNormal
from elboroom.errors import InputError
from elboroom.evaluation import information as information_module
from elboroom.evaluation.disentanglement import (
    Known,
    Sharing,
    betavae,
    binned_information,
    completeness_of,
    differences,
    disentanglement_of,
    entropies,
    factorvae,
    forest_importance,
    gap,
    mig,
    posterior_information,
    predictability,
    sap,
    vote,
)
from elboroom.evaluation.evaluate import measure
from elboroom.evaluation.subject import Subject
from elboroom.models import VAE, GaussianLikelihood, GaussianPosterior, NormalPrior
from elboroom.networks import mlp

COUNTS = (3, 4, 5)
FACTORS = np.array(list(itertools.product(*map(range, COUNTS))) * 6)  # every combination six times: independent
NOISE = np.random.default_rng(0)


def known(code: np.ndarray, factors: np.ndarray = FACTORS) -> Known:
    names = ("shape", "x", "y", "size")[: factors.shape[1]]
    return Known(code.astype(np.float64), factors, names, factors.astype(np.float64))


def rotated(code: np.ndarray) -> np.ndarray:
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    return code / code.std(0) @ turn


PERFECT = known(FACTORS)
CODES = {
    "perfect": PERFECT,
    "constant": known(np.zeros_like(FACTORS)),
    "independent": known(NOISE.normal(size=FACTORS.shape)),
    "duplicated": known(np.repeat(FACTORS, 2, axis=1)),
    "rotated": known(rotated(FACTORS)),
}


def scores(codes: Known) -> dict[str, float]:
    """All of them, learned and scored on halves."""
    mixed = np.random.default_rng(1).permutation(len(codes.code))
    train, test = codes.first(180, mixed), codes.first(180, mixed[180:])
    importance, accuracy = forest_importance(train, test, trees=10)
    drawn = {"count": 200, "size": 32}
    return {
        "mig": mig(binned_information(codes.code, codes.factors), entropies(codes.factors)),
        "disentanglement": disentanglement_of(importance),
        "completeness": completeness_of(importance),
        "informativeness": float(accuracy.mean()),
        "sap": sap(predictability(codes, np.array([True, False, False]))),
        "factorvae": factorvae(train, test, **drawn, random=np.random.default_rng(0)),
        "betavae": betavae(train, test, **drawn, random=np.random.default_rng(0)),
    }


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, float]]:
    return {name: scores(codes) for name, codes in CODES.items()}


# Controls


def test_perfect_codes_reach_the_maximum(found):
    """1 everywhere but SAP, where for three classes the second dimension guesses: (2/3 + 1 + 1) / 3."""
    wanted = dict.fromkeys(found["perfect"], 1.0) | {"sap": 8 / 9}
    assert found["perfect"] == pytest.approx(wanted, abs=0.005)


def test_constant_codes_tell_nothing(found):
    """0; chance for what guesses: a third of the factors, and for the classes the mean of 1/3, 1/4 and 1/5."""
    nothing = found["constant"]
    for name in ("mig", "disentanglement", "completeness", "sap"):
        assert nothing[name] == 0
    assert nothing["informativeness"] == pytest.approx(0.26, abs=0.08)
    assert nothing["factorvae"] == pytest.approx(1 / 3, abs=0.12)
    assert nothing["betavae"] == pytest.approx(1 / 3, abs=0.12)


def test_independent_codes_tell_next_to_nothing(found):
    noise = found["independent"]
    for name in ("mig", "disentanglement", "completeness", "sap"):
        assert noise[name] < 0.1, name
    assert noise["informativeness"] == pytest.approx(0.26, abs=0.12)
    assert noise["factorvae"] < 0.5
    assert noise["betavae"] < 0.5


def test_duplicated_codes_lose_what_each_paper_says(found):
    """No gap between two copies; half of a factor's importance each: 1 - log 2 / log 6; modularity is untouched."""
    twice = found["duplicated"]
    assert twice["mig"] == twice["sap"] == 0
    assert twice["completeness"] == pytest.approx(1 - math.log(2) / math.log(6), abs=0.05)
    for name in ("disentanglement", "informativeness", "factorvae", "betavae"):
        assert twice[name] == pytest.approx(1, abs=0.005), name


def test_rotated_codes_are_informative_and_entangled(found):
    """The classifiers of β-VAE see every dimension, so a rotation costs there least."""
    turned = found["rotated"]
    for name in ("mig", "disentanglement", "completeness", "sap"):
        assert turned[name] < 0.6, name
    assert turned["factorvae"] < turned["betavae"] + 0.05
    assert turned["informativeness"] > 0.5


# MIG


def test_information_by_hand():
    """Codes (v + w, w) of two coins: I(v + w; v) = I(v + w; w) = log 2 / 2, I(w; w) = log 2; both gaps are a half."""
    coins = np.array(list(itertools.product((0, 1), (0, 1))) * 5)
    code = np.stack([coins.sum(1), coins[:, 1]], axis=1).astype(float)
    table, half = binned_information(code, coins), math.log(2) / 2
    np.testing.assert_allclose(table, [[half, half], [0, 2 * half]], atol=1e-12)
    np.testing.assert_allclose(entropies(coins), [math.log(2)] * 2)
    assert mig(table, entropies(coins)) == pytest.approx(0.5)


def test_fewer_bins_than_classes_lose_information():
    """Two bins tell at most log 2."""
    table = binned_information(FACTORS.astype(float), FACTORS, bins=2)
    assert table.max() <= math.log(2) + 1e-12
    assert mig(table, entropies(FACTORS)) < 0.7


@pytest.mark.parametrize("piece", [1, 1 << 23])
def test_information_of_posteriors_against_the_capacity_of_a_channel(monkeypatch, piece):
    """A sign sent as N(±1, 1): 0.3368 nats (the antipodal channel at 0 dB has 0.486 bits), here by quadrature too."""
    monkeypatch.setattr(information_module, "PIECE_BYTES", piece)
    n = 300 if piece == 1 else 2000
    coins = torch.stack([torch.arange(n) % 2, torch.arange(n) // 2 % 2], 1)
    loc = torch.stack([2.0 * coins[:, 0] - 1, torch.zeros(n)], 1).double()
    q = DiagonalNormal(loc, torch.zeros_like(loc))
    z = loc + torch.randn(n, 2, dtype=torch.float64)
    grid = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    each = torch.stack([torch.distributions.Normal(m, 1.0).log_prob(grid) for m in (-1.0, 1.0)])
    wanted = torch.trapezoid(each.exp() * (each - torch.logsumexp(each, 0) + math.log(2)), grid).mean().item()
    assert wanted == pytest.approx(0.3368, abs=2e-4)
    table = posterior_information(q, z, coins)
    assert table[0, 0] == pytest.approx(wanted, abs=4 * 0.5 / math.sqrt(n))
    np.testing.assert_allclose(table[[0, 1, 1], [1, 0, 1]], 0, atol=1e-12)


def test_information_of_posteriors_against_a_loop():
    """Laplace posteriors, three classes, example by example."""
    loc, log_scale = (torch.randn(9, 2, dtype=torch.float64) for _ in range(2))
    classes = torch.tensor([[0, 0], [0, 1], [0, 0], [1, 1], [1, 0], [2, 1], [2, 1], [2, 0], [1, 1]])
    q, z = DiagonalLaplace(loc, log_scale), loc + torch.randn(9, 2, dtype=torch.float64)
    table = posterior_information(q, z, classes)
    for j, k in itertools.product(range(2), range(2)):
        total = 0.0
        for i in range(9):
            p = [
                torch.distributions.Laplace(loc[n, j], log_scale[n, j].exp()).log_prob(z[i, j]).exp() for n in range(9)
            ]
            same = [p[n] for n in range(9) if classes[n, k] == classes[i, k]]
            total += math.log(sum(same) / len(same)) - math.log(sum(p) / 9)
        assert table[j, k] == pytest.approx(total / 9)


def test_the_gap_of_one_dimension_is_all_that_it_has():
    np.testing.assert_array_equal(gap(np.array([[0.3, 0.7]])), [0.3, 0.7])
    np.testing.assert_allclose(gap(np.array([[0.3, 0.7], [0.9, 0.1], [0.5, 0.2]])), [0.4, 0.5])


# DCI


def test_disentanglement_and_completeness_by_hand():
    """Rows (1, 0) and (1/2, 1/2) weigh 1 each, the empty one nothing: (1 + 0) / 2. Column (2/3, 1/3, 0) has the entropy
    0.6365 of log 3 = 1.0986, the other none: (0.4206 + 1) / 2."""
    table = np.array([[1, 0], [0.5, 0.5], [0, 0]])
    assert disentanglement_of(table) == pytest.approx(0.5)
    assert completeness_of(table) == pytest.approx((1 - 0.636514 / 1.098612 + 1) / 2, abs=1e-6)
    assert disentanglement_of(np.array([[0.8, 0.2], [0.2, 0.8]])) == pytest.approx(1 - 0.721928, abs=1e-6)


def test_importances_with_nothing_in_them():
    assert disentanglement_of(np.zeros((4, 3))) == completeness_of(np.zeros((4, 3))) == 0
    assert completeness_of(np.array([[1.0, 0.0]])) == 0.5  # one dimension, which matters to one of two factors
    assert completeness_of(np.array([[1.0, 0.0], [0.0, 0.0]])) == 0.5


# SAP


def test_predictability_by_hand():
    """Codes (v + w, v) of two coins: R² is 1/2 and 1/2, 1 and 0; both gaps are a half."""
    coins = np.array(list(itertools.product((0, 1), (0, 1))) * 5)
    codes = known(np.stack([coins.sum(1), coins[:, 0]], axis=1), coins)
    table = predictability(codes, np.array([False, False]))
    np.testing.assert_allclose(table, [[0.5, 0.5], [1, 0]], atol=1e-12)
    assert sap(table) == pytest.approx(0.5)


def test_thresholds_by_hand():
    """z = 0 0 1 1 of the classes 0 1 1 1: a threshold between gets all of class 0 and two thirds of class 1 right."""
    codes = known(np.array([[0], [0], [1], [1]]), np.array([[0], [1], [1], [1]]))
    assert predictability(codes, np.array([True]))[0, 0] == pytest.approx(5 / 6)


def test_order_does_not_matter_to_categories():
    """A line finds nothing where the middle class lies outside; thresholds find all."""
    classes = np.array([0, 1, 2] * 10)[:, None]
    codes = known(np.array([0.0, 2.0, 0.9])[classes], classes)
    assert predictability(codes, np.array([False]))[0, 0] < 0.3
    assert predictability(codes, np.array([True]))[0, 0] == 1


def test_a_dimension_that_hardly_varies_predicts_nothing():
    assert predictability(known(0.1 * FACTORS[:, :1]), np.array([True, False, False])).max() == 0
    assert predictability(known(0.2 * FACTORS[:, :1]), np.array([True, False, False])).max() == 1


# Rows that share


def test_batches_and_pairs_share_their_factor_and_nothing_else():
    sharing, random = Sharing(FACTORS), np.random.default_rng(0)
    for k in range(3):
        rows = FACTORS[sharing.batch(k, 200, random)]
        first, second = (FACTORS[i] for i in sharing.pairs(k, 200, random))
        for other in range(3):
            assert (len(np.unique(rows[:, other])) == 1) == (other == k)
            assert (first[:, other] == second[:, other]).all() == (other == k)
        assert len(np.unique(first[:, k])) == COUNTS[k]  # each pair has a value of its own


def test_pairs_are_two_rows():
    sharing = Sharing(np.array([[0], [0], [1], [1], [2]]))
    first, second = sharing.pairs(0, 100, np.random.default_rng(0))
    assert (first != second).all()
    assert 4 not in first  # alone with its value
    with pytest.raises(InputError, match="no two examples share a value of factor 1"):
        Sharing(np.array([[0, 0], [0, 1], [0, 2]]))


def test_votes_of_perfect_codes_name_the_factor_whatever_the_scale():
    least, factor = vote(known(FACTORS * np.array([1.0, 100.0, 0.3])), 50, 20, np.random.default_rng(0))
    np.testing.assert_array_equal(least, factor)


def test_a_dimension_that_does_not_vary_gets_no_votes():
    least, factor = vote(known(np.concatenate([0 * FACTORS, FACTORS], 1)), 50, 20, np.random.default_rng(0))
    np.testing.assert_array_equal(least, factor + 3)


def test_one_dimension_names_the_commonest_factor():
    """All votes are for dimension 0: right as often as the commonest factor of learning occurs in scoring."""
    one, random = known(FACTORS[:, :1]), np.random.default_rng(5)
    learned, scored = (vote(one, 100, 10, random)[1] for _ in range(2))
    wanted = (scored == np.bincount(learned).argmax()).mean()
    assert factorvae(one, one, count=100, size=10, random=np.random.default_rng(5)) == wanted


def test_what_is_learned_is_not_what_is_scored():
    """Dimensions exchanged between training and test: no vote is right."""
    other = known(np.roll(FACTORS, 1, axis=1))
    assert factorvae(PERFECT, other, count=100, size=20, random=np.random.default_rng(0)) == 0
    assert betavae(PERFECT, other, count=100, size=20, random=np.random.default_rng(0)) < 0.2


def test_differences_of_perfect_codes():
    """0 in the shared factor; of c classes E|a - b| = (c² - 1) / 3c elsewhere."""
    seen, factor = differences(PERFECT, 60, 400, np.random.default_rng(0))
    wanted = [(c * c - 1) / (3 * c) for c in COUNTS]
    for row, k in zip(seen, factor, strict=True):
        assert row[k] == 0
        others = [j for j in range(3) if j != k]
        np.testing.assert_allclose(row[others], np.array(wanted)[others], rtol=0.25)


# A run


def subject_of(tmp_path, *, factors=FACTORS, names=("shape", "x", "y"), log_var=-8.0, posterior="gaussian") -> Subject:
    """An encoder whose mean is the factors themselves, which are the data."""
    x = torch.tensor(FACTORS, dtype=torch.float32)
    encoder = GaussianPosterior(mlp.Encoder((3,), hidden=()), 3)
    with torch.no_grad():
        encoder.head.weight.copy_(torch.cat([torch.eye(3), torch.zeros(3, 3)]))
        encoder.head.bias.copy_(torch.cat([torch.zeros(3), torch.full((3,), log_var)]))
    decoder = GaussianLikelihood(mlp.Decoder(3, (3,), hidden=()), (3,), mean="identity")
    model = VAE(encoder, NormalPrior(3), decoder).eval()
    config = small_run(latent=3)
    if posterior == "point":
        config = small_run(latent=3, posterior="point", objective="reconstruction")
        model = build.model(config, (3,), "real").eval()
    data = data_of(x)
    for examples in (data.train, data.test):
        examples.factors = None if factors is None else torch.tensor(factors)
    table = None if factors is None else {n: tuple(map(float, range(c))) for n, c in zip(names, COUNTS, strict=False)}
    run = run_of(config, model, (3,))
    run.__dict__.update(folder=tmp_path, data=dataclasses.replace(data, factors=table))
    return Subject(run, keep=False)


FAST = "{kind: disentanglement, trees: 4, votes: 60, rows: 16}"


def test_a_run_whose_code_is_its_factors(tmp_path):
    subject = subject_of(tmp_path)
    result = measure(subject, metrics_from(FAST))[0]
    by_name = {s.name: s for s in result.scores}
    assert list(by_name) == [
        "disentanglement/mig",
        "disentanglement/dci-disentanglement",
        "disentanglement/dci-completeness",
        "disentanglement/dci-informativeness",
        "disentanglement/sap",
        "disentanglement/factorvae",
        "disentanglement/betavae",
    ]
    for name, score in by_name.items():
        assert score.value == pytest.approx(8 / 9 if name.endswith("sap") else 1, abs=0.01), name
        assert (score.better, score.examples) == ("higher", 360)
    assert by_name["disentanglement/mig"].protocol.code == "z"
    assert by_name["disentanglement/mig"].protocol.estimator == "mixtures of posteriors"
    assert by_name["disentanglement/sap"].protocol.estimator.endswith("categories: shape")
    assert by_name["disentanglement/factorvae"].protocol.code == "mean"
    tables = result.arrays["disentanglement"]
    assert {name: tuple(t.shape) for name, t in tables.items()} == dict.fromkeys(
        ("information", "importance", "predictability"), (3, 3)
    )


def test_noise_in_the_posterior_costs_information(tmp_path):
    """Spread as wide as the factors: the sampled code tells less, the mean as much."""
    chosen = metrics_from("{kind: disentanglement, measures: [mig]}")
    bins = metrics_from("{kind: disentanglement, measures: [mig], information: bins}")
    wide = subject_of(tmp_path, log_var=0.0)
    assert measure(wide, chosen)[0].scores[0].value < 0.6
    assert measure(wide, bins)[0].scores[0].value == pytest.approx(1)


def test_a_point_posterior_is_taken_in_bins(tmp_path):
    found, skipped = measure(subject_of(tmp_path, posterior="point"), metrics_from(FAST))
    assert not skipped
    assert found.scores[0].protocol.estimator == "code in 20 bins"
    assert all(math.isfinite(s.value) for s in found.scores)


def test_factors_that_do_not_vary_are_none(tmp_path):
    """One of three is fixed: two are measured; two are fixed: it is refused."""
    fixed = FACTORS * np.array([1, 0, 1])
    found = measure(subject_of(tmp_path, factors=fixed), metrics_from(FAST))[0]
    assert found.arrays["disentanglement"]["information"].shape == (3, 2)
    assert found.scores[0].value == pytest.approx(1, abs=0.01)
    _, skipped = measure(subject_of(tmp_path, factors=FACTORS * np.array([1, 0, 0])), metrics_from(FAST))
    (reason,) = skipped.values()
    assert "has 1 factor that varies" in reason


def test_data_without_factors_are_refused_with_the_cure(tmp_path):
    _, skipped = measure(subject_of(tmp_path, factors=None), metrics_from(FAST))
    (reason,) = skipped.values()
    assert "has no known factors" in reason
    assert "--data.name sprites" in reason


def test_the_values_of_factors_count_not_their_numbers(tmp_path):
    """R² of a line is one of the values, which need not be equally far apart."""
    subject = subject_of(tmp_path)
    values = {"shape": (0.0, 1.0, 2.0), "x": (0.0, 1.0, 2.0, 30.0), "y": (0.0, 1.0, 2.0, 3.0, 4.0)}
    subject.data = dataclasses.replace(subject.data, factors=values)
    table = measure(subject, metrics_from("{kind: disentanglement, measures: [sap]}"))[0].arrays["disentanglement"]
    wanted = np.corrcoef([0, 1, 2, 3], values["x"])[0, 1] ** 2
    assert table["predictability"][1, 1].item() == pytest.approx(wanted)


def test_it_belongs_to_the_full_set_alone():
    assert "disentanglement" in [m["kind"] for m in SETS["full"]]
    assert "disentanglement" not in [m["kind"] for m in SETS["standard"]]


@pytest.mark.slow
def test_sprites_of_an_untrained_model(tmp_path):
    """The whole way from the data set: five factors, finite scores, less than of perfect codes."""
    from elboroom.config import run_from
    from elboroom.data import load

    config = run_from({"data": {"name": "sprites"}, "model": {"posterior": {"latent": 4}}})
    data = load(config.data)
    run = run_of(config, build.model(config, data.shape, data.values).eval(), data.shape)
    run.__dict__.update(folder=tmp_path, data=data)
    found, skipped = measure(Subject(run, keep=False), metrics_from("{kind: disentanglement, images: 2000, trees: 4}"))
    assert not skipped
    assert found.arrays["disentanglement"]["information"].shape == (4, 5)
    values = {s.name: s.value for s in found.scores}
    assert all(0 <= v <= 1 for v in values.values()), values
    assert values["disentanglement/mig"] < 0.3

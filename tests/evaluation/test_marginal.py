"""log p(x) from both sides, against evidence that is known."""

import math

import pytest
import torch
from oracles.configurations import small_run
from oracles.linear_gaussian import examples, linear_gaussian
from oracles.quadrature import black_and_white, integrated, trained_model
from oracles.small_data import data_of, run_of
from torch.distributions import MultivariateNormal

from elboroom import build
from elboroom.config.files import metrics_from
from elboroom.errors import InputError, Stopped
from elboroom.evaluation.evaluate import measure
from elboroom.evaluation.marginal import COLUMNS, Brackets, Fitted, brackets_by_block, doubt
from elboroom.evaluation.subject import Subject

SETTINGS = "[{kind: marginal, images: 6, samples: 8, burn_in: 6, leapfrog: 2}]"


def estimate(model, x, rows=None, **settings) -> Brackets:
    rows = torch.arange(len(x)) if rows is None else rows
    parts = list(brackets_by_block(model, x, rows, **settings))
    return Brackets(*(torch.cat([getattr(p, name) for p in parts]) for name in COLUMNS))


def subject(tmp_path, **parts) -> Subject:
    config = small_run(**parts)
    run = run_of(config, build.model(config, (1, 8, 8), "binary").eval(), (1, 8, 8))
    run.__dict__.update(folder=tmp_path, data=data_of(black_and_white()[:8]))
    return Subject(run)


@pytest.mark.parametrize("settings", [{}, {"density": "kernels"}, {"start": "posterior"}], ids=str)
def test_both_sides_reach_the_integral_of_a_trained_model(settings):
    """60 digits, 50 samples: each image within 5 standard errors, sqrt((L / ESS - 1) / L); the means within 5 of theirs
    and 0.03 nats (0.1 of a kernel density), from the side where Jensen has them."""
    model, x = trained_model(), black_and_white()[-60:]
    exact = integrated(model, x, 0.1)
    found = estimate(model, x, **settings)
    wide = 0.1 if "density" in settings else 0.03
    for side, effective, sign in ((found.upper, found.upper_effective, 1), (found.lower, found.lower_effective, -1)):
        gap, error = sign * (side - exact), ((50 / effective - 1) / 50).sqrt()
        assert (gap.abs() < 5 * error + 0.03).all()  # the errors are estimates too
        own = gap.std() / math.sqrt(60)
        assert -5 * own < gap.mean() < wide + 5 * own
    assert found.acceptance.mean() == pytest.approx(0.9, abs=0.05)


def test_the_integral_of_a_trained_model_lies_between_them_where_samples_are_few():
    """5 samples for two latents, three seeds: the mean of either side is apart from the integral, on its own side."""
    model, x = trained_model(), black_and_white()[-60:]
    exact = integrated(model, x, 0.1)
    found = [estimate(model, x, samples=5, seed=seed) for seed in range(3)]
    upper, lower = (torch.stack([getattr(f, side) for f in found]).mean(0) - exact for side in ("upper", "lower"))
    for gap in (upper, -lower):
        assert gap.mean() > 2 * gap.std() / math.sqrt(60)


def test_both_sides_reach_the_evidence_of_the_linear_gaussian():
    oracle = linear_gaussian(shift=1.0)  # of the encoder, which takes no part
    x = examples(oracle, 60)
    exact, found = oracle.evidence(x), estimate(oracle.model, x)
    for side in (found.upper, found.lower):
        assert (side - exact).mean().abs() < 5 * (side - exact).std() / math.sqrt(60) + 0.02
        assert (side - exact).abs().max() < 0.5


def test_the_truth_lies_between_them_where_samples_are_few():
    """6 samples for three latents: the fit is poor, the gaps are far larger than their errors, and of opposite sign."""
    oracle = linear_gaussian()
    x = examples(oracle, 100)
    exact, found = oracle.evidence(x), estimate(oracle.model, x, samples=6, burn_in=20)
    above, below = found.upper - exact, exact - found.lower
    assert below.mean() > 4 * below.std() / 10
    assert above.mean() > -4 * above.std() / 10
    assert (found.upper - found.lower).mean() > 4 * (found.upper - found.lower).std() / 10


@pytest.mark.parametrize("kind", ["gaussian", "kernels"])
def test_a_fitted_density_is_that_of_what_it_draws(kind):
    """Against torch's own, and E[q / q] = 1 by its draws: their mean log-density is minus their entropy."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(30, 2, 3, generator=generator) * torch.tensor([1.0, 0.1, 3.0]) + 5
    fitted, at = Fitted(z, kind), torch.randn(7, 2, 3, generator=generator) + 5
    for n in range(2):
        covariance = torch.cov(z[:, n].double().T)
        scale = 1.0 if kind == "gaussian" else (4 / (5 * 30)) ** (2 / 7)
        centres = z[:, n].double().mean(0, keepdim=True) if kind == "gaussian" else z[:, n].double()
        each = MultivariateNormal(centres, scale * covariance).log_prob(at[:, n].double()[:, None])
        expected = each.logsumexp(1) - math.log(len(centres))
        torch.testing.assert_close(fitted.log_prob(at)[:, n], expected, rtol=1e-3, atol=1e-3)
    noise, uniform = torch.randn(20_000, 2, 3, generator=generator), torch.rand(20_000, 2, 1, generator=generator)
    drawn = fitted.draw(noise, uniform)
    torch.testing.assert_close(drawn.mean(0), z.double().mean(0), rtol=0, atol=0.15)
    spread = drawn.var(0) / z.double().var(0)
    wider = 1 if kind == "gaussian" else 29 / 30 + (4 / (5 * 30)) ** (2 / 7)
    torch.testing.assert_close(spread, torch.full_like(spread, wider), rtol=0.05, atol=0)


def test_too_few_samples_for_a_covariance():
    with pytest.raises(InputError, match="3 latents cannot be fitted to 4 samples"):
        Fitted(torch.randn(4, 2, 3))
    one = Fitted(torch.ones(9, 1, 2))  # all in one place: it has an inverse all the same
    assert one.log_prob(torch.ones(1, 1, 2)).isfinite().all()


def test_it_depends_on_neither_memory_nor_batch_nor_where_it_begins():
    oracle = linear_gaussian()
    x, settings = examples(oracle, 3), {"samples": 6, "burn_in": 4}
    usual = estimate(oracle.model, x, **settings)
    one_by_one = estimate(oracle.model, x, budget=1, **settings)
    torch.testing.assert_close(one_by_one.upper, usual.upper, rtol=0, atol=1e-3)
    rest = estimate(oracle.model, x, budget=1, begin=1, **settings)
    assert torch.equal(rest.lower, one_by_one.lower[1:])
    alone = estimate(oracle.model, x[2:], torch.tensor([2]), **settings)
    torch.testing.assert_close(alone.upper, usual.upper[2:], rtol=0, atol=1e-3)
    for change in ({"seed": 1}, {"copy": 1}):
        assert (estimate(oracle.model, x, **settings, **change).upper != usual.upper).all()


@pytest.mark.parametrize("split", ["test", "train"])
def test_scores_and_values_per_example(tmp_path, split):
    found = measure(subject(tmp_path), metrics_from(SETTINGS.replace("images", f"split: {split}, images")))[0]
    scores = {s.name: s for s in found.scores}
    assert list(scores) == [
        "nll/bracket/low",
        "nll/bracket/high",
        "nll/bracket/low-effective-samples",
        "nll/bracket/high-effective-samples",
        "nll/bracket-acceptance",
    ]
    ending = "" if split == "test" else "/train"
    for name, better in (("nll/bracket/low", ""), ("nll/bracket/high", "lower")):
        score = scores[name]
        assert (score.better, score.unit, score.examples, score.protocol.samples) == (better, "nats", 6, 8)
        assert score.protocol.split == split
        values = found.examples[name + ending]
        assert score.value == pytest.approx(values.mean().item())
        assert score.stderr == pytest.approx(values.std().item() / math.sqrt(6))
    assert scores["nll/bracket/low"].protocol.estimator == (
        "posterior samples: HMC from the prior, 6 transitions of 2 leapfrogs, acceptance 0.9, fitted gaussian"
    )
    assert 0 <= scores["nll/bracket-acceptance"].value <= 100


def test_interrupted_and_resumed_it_is_the_one_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("elboroom.evaluation.ais.row_bytes", lambda *given: 1 << 40)  # one image at a time
    alone = measure(subject(tmp_path / "a"), metrics_from(SETTINGS))[0].scores
    interrupted, told = subject(tmp_path / "b"), []

    def stop(what, done, total):
        told.append(done)
        if done == 3:
            raise Stopped("here")

    interrupted.progress = stop
    with pytest.raises(Stopped):
        measure(interrupted, metrics_from(SETTINGS))
    again = subject(tmp_path / "b")
    again.progress = lambda what, done, total: told.append(done)
    assert measure(again, metrics_from(SETTINGS))[0].scores == alone
    assert told == [1, 2, 3, 4, 5, 6]


def test_who_has_none(tmp_path):
    point = subject(tmp_path, posterior="point", objective="reconstruction")
    (why,) = measure(point, metrics_from(SETTINGS))[1].values()
    assert "plain autoencoder has no likelihood" in why
    (why,) = measure(subject(tmp_path), metrics_from(SETTINGS.replace("images", "split: valid, images")))[1].values()
    assert "unknown split 'valid'" in why


def test_an_encoder_that_was_not_trained_is_not_read(tmp_path):
    """Monte Carlo EM: the brackets serve; codes, and chains that begin at q(z|x), do not."""
    untrained = subject(tmp_path, objective="monte-carlo-em")
    found, skipped = measure(untrained, metrics_from(SETTINGS))
    assert found.scores[0].protocol.trained == "no bound (monte-carlo-em); the encoder was not trained"
    assert skipped == {}
    others = metrics_from("[knn, shuffled-codes, {kind: marginal, start: posterior}, {kind: ais, images: 1}]")
    found, skipped = measure(untrained, (*others, *metrics_from("[{kind: pictures, repeats: 2}]")))
    assert set(skipped) == {
        "knn",
        "shuffled-codes",
        "marginal, start posterior",
        "ais, images 1",
        "pictures, repeats 2",
    }
    assert all("does not train the encoder" in why for why in skipped.values())
    with pytest.raises(InputError, match=r"does not train the encoder.*marginal"):
        untrained.codes()


@pytest.mark.parametrize(("split", "name"), [("test", "nll/bracket/low"), ("train", "nll/bracket/low/train")])
def test_the_note_of_each_split_has_its_own_name(tmp_path, monkeypatch, split, name):
    monkeypatch.setattr("elboroom.evaluation.marginal.FEW_LATENTS", 0)
    found = measure(subject(tmp_path), metrics_from(SETTINGS.replace("images", f"split: {split}, images")))[0]
    assert list(found.notes) == [name]


def test_a_note_where_it_is_not_to_be_trusted():
    some, few = torch.zeros(20).double(), torch.full((20,), 0.2).double()
    assert doubt(Brackets(some, some, some, some, some), 4) is None
    assert "5 latents" in doubt(Brackets(some, some, some, some, some), 5)
    assert "crossed by 0.2 nats" in doubt(Brackets(some, few, some, some, some), 2)
    assert doubt(Brackets(some, some * math.nan, some, some, some), 2) is not None

"""The readings of μ-VAE's printed formulas, against explicit loops; the unbounded ones are held back."""

import json
import math

import pytest
import torch

from elboroom.config import run_from
from elboroom.config.objectives import READINGS, Mu
from elboroom.distributions import DiagonalNormal, StandardNormal, rate_by_dimension
from elboroom.errors import Diverged, InputError
from elboroom.objectives import mu
from elboroom.records import Base, Draw
from elboroom.studies.execute import execute

LOC = torch.tensor([[0.5, -2.0, 0.25], [-1.5, 1.0, 3.0]], dtype=torch.float64)
LOG_VAR = torch.tensor([[-1.0, 0.5, 0.0], [0.75, -2.0, 1.0]], dtype=torch.float64)


def draw() -> Draw:
    q, p = DiagonalNormal(LOC, LOG_VAR), StandardNormal(3)
    z, log_qz = q.rsample_with_log_prob(torch.zeros(1, 2, 3, dtype=torch.float64))
    zero = torch.zeros(1, 2, dtype=torch.float64)
    return Draw(z, zero, p.log_prob(z), log_qz, Base("gaussian", LOC, LOG_VAR), rate_by_dimension(q, p))


def total(values: list) -> float:
    return sum(sum(row) for row in values)


def columns(values: list) -> list:
    return [[row[d] for row in values] for d in range(len(values[0]))]


MEANS = {  # of SPEC 5.5, before 1/B, in plain Python
    "total": lambda m: abs(total(m)),
    "per-sample": lambda m: sum(abs(sum(row)) for row in m),
    "per-dimension": lambda m: sum(abs(sum(column)) for column in columns(m)),
    "elementwise": lambda m: sum(abs(v) for row in m for v in row),
}
VARIANCES = {
    "signed": lambda v: total(v),
    "abs-total": lambda v: abs(total(v)),
    "abs-per-dimension": lambda v: sum(abs(sum(column)) for column in columns(v)),
    "abs": lambda v: sum(abs(x) for row in v for x in row),
    "exp-minus-one": lambda v: sum(math.exp(x) - 1 for row in v for x in row),
    "full": lambda v: sum(math.exp(x) - x - 1 for row in v for x in row),
}
TABLE = {  # SPEC 5.5, written again
    "A1": ("total", "signed"), "A2": ("per-dimension", "signed"), "A3": ("total", "abs-total"),
    "A4": ("per-dimension", "abs-per-dimension"), "A5": ("per-sample", "signed"), "A6": ("total", "abs"),
    "A7": ("per-dimension", "abs"), "A8": ("total", "exp-minus-one"), "A9": ("per-dimension", "full"),
    "A10": ("total", "full"), "A11": ("per-sample", "abs"), "A12": ("elementwise", "abs"),
}  # fmt: skip


@pytest.mark.parametrize("reading", TABLE)
def test_every_reading_against_loops(reading):
    mean, variance = TABLE[reading]
    config = Mu(reading=reading, allow_unbounded=True)
    assert (config.mean, config.variance) == (mean, variance)
    terms = mu(draw(), mean=config.mean, variance=config.variance, allow_unbounded=True)
    assert terms.batch["mean-bar"].item() == pytest.approx(MEANS[mean](LOC.tolist()) / 2, rel=1e-12)
    assert terms.batch["variance-bar"].item() == pytest.approx(VARIANCES[variance](LOG_VAR.tolist()) / 2, rel=1e-12)
    assert bool(terms.floors) == (reading in ("A1", "A2", "A5"))


def test_no_two_readings_agree_here():
    values = [
        (MEANS[mean](LOC.tolist()), VARIANCES[variance](LOG_VAR.tolist())) for mean, variance in READINGS.values()
    ]
    assert len(set(values)) == 12
    assert READINGS == TABLE


def test_the_default_is_a6():
    assert Mu() == Mu(reading="A6") == Mu(mean="total", variance="abs")
    torch.testing.assert_close(mu(draw()).loss, mu(draw(), mean="total", variance="abs").loss)


@pytest.mark.parametrize("reading", ["A1", "A2", "A5"])
def test_the_unbounded_ones_are_refused_without_the_flag(reading):
    with pytest.raises(InputError, match=r"'signed' is unbounded below: .* or watch it happen with allow_unbounded"):
        run_from({"objective": {"kind": "mu", "reading": reading}})
    with pytest.raises(InputError, match="unbounded below"):
        mu(draw(), mean=TABLE[reading][0], variance="signed")


def test_a_reading_and_another_pair_are_not_both_obeyed():
    with pytest.raises(InputError, match="reading A7 is mean: per-dimension, and mean: total is asked for beside it"):
        run_from({"objective": {"kind": "mu", "reading": "A7", "mean": "total"}})


def small(objective: dict) -> object:
    content = {"data": {"name": "digits"}, "objective": {"kind": "mu", **objective}}
    content["model"] = {"encoder": {"hidden": [32]}, "decoder": {"hidden": [32]}, "posterior": {"latent": 4}}
    content["model"]["likelihood"] = {"kind": "squared-error"}
    content["training"] = {"epochs": 40, "log_every": 10, "optimizer": {"lr": 0.03}, "device": "cpu"}
    return run_from(content)


def test_a_run_that_runs_away_ends_as_diverged(tmp_path):
    with pytest.raises(Diverged, match=r"log-variance runaway \(its mean fell below -20\)"):
        execute(small({"reading": "A1", "allow_unbounded": True}), tmp_path / "run")
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert (state["status"], state["term"]) == ("diverged", "log-variance runaway")
    assert state["why"] == "(its mean fell below -20)"
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    train = [line["log-variance"] for line in logged if line.get("split") == "train"]
    assert train[0] > train[-1] > -20  # it was seen to fall, and stopped before the next line
    assert all(math.isfinite(line["loss"]) for line in logged if "loss" in line)  # no NaN would have shown it

"""The doctor: verdicts from numbers made by hand, signals known in closed form, planted defects, the early warning."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
from oracles.configurations import small_run
from oracles.linear_gaussian import examples, linear_gaussian
from oracles.small_data import data_of, run_of

from elboroom.config import load_run, run_from, to_yaml
from elboroom.config.base import merged
from elboroom.evaluation import cures, doctor, monitors
from elboroom.evaluation.checkup import examine, keep
from elboroom.evaluation.codes import Codes
from elboroom.evaluation.cures import admits, prescribed
from elboroom.evaluation.doctor import diagnose, named, severity, verdict
from elboroom.evaluation.monitors import EarlyWarning, warmed_up
from elboroom.evaluation.signals import Signals, signals, told
from elboroom.evaluation.subject import Subject
from elboroom.models import VAE
from elboroom.runs import write_state
from elboroom.studies.execute import execute, extend

GOOD = Signals(
    latent=4,
    examples=300,
    steps=5000,
    objective="elbo",
    beta=1.0,
    posterior="gaussian",
    decoder="mlp",
    diverged=None,
    rate=6.0,
    rate_by_dimension=(1.5, 1.5, 1.5, 1.5),
    mean_variance=(0.9, 0.9, 0.9, 0.9),
    told=(0.9, 0.9, 0.9, 0.9),
    active_units=4,
    log_var_mean=-2.0,
    log_var_by_dimension=(-2.0, -2.0, -2.0, -2.0),
    shuffled=20.0,
    shuffled_stderr=0.5,
    heard=(5.0, 5.0, 5.0, 5.0),
    moved=(6.0, 6.0, 6.0, 6.0),
    distortion=80.0,
    silent=90.0,
    centre=(0.0, 0.1, -0.1, 0.0),
    width=(1.0, 1.0, 0.9, 1.1),
    outside=0.02,
    clipped=None,
    raw_norm=None,
)
POINT = {"posterior": "point", "objective": "reconstruction", "beta": 0.0, "rate": None, "rate_by_dimension": None,
         "log_var_mean": None, "log_var_by_dimension": None}  # fmt: skip
NOTHING = {"rate": 0.001, "shuffled": 0.003, "told": (1e-4,) * 4, "moved": (0.05,) * 4, "active_units": 0}
PRUNED = {"told": (0.9, 1e-3, 0.9, 1e-4), "moved": (6.0, 0.08, 6.0, 0.03), "rate_by_dimension": (3.0, 1e-3, 3.0, 1e-4)}

CASES = [
    ({}, "healthy"),
    ({"objective": "importance-weighted", "rate_by_dimension": None}, "healthy"),
    (NOTHING, "collapsed"),
    ({**NOTHING, "beta": 200.0}, "collapsed; over-regularized"),
    ({"shuffled": 0.0, "moved": (0.0,) * 4}, "collapsed"),  # though the encoder pays six nats
    ({"told": (1e-3,) * 4}, "collapsed"),
    ({**POINT, "shuffled": 0.0, "moved": (0.0,) * 4}, "collapsed"),
    ({"rate": 0.6, "beta": 8.0, "shuffled": 2.0}, "over-regularized"),
    ({"rate": 0.6, "shuffled": 2.0}, "healthy, with remarks: over-regularized"),
    ({"moved": (6.0, 0.0, 6.0, 0.0)}, "partially collapsed: dimensions 1, 3"),
    ({"told": (0.9, 0.9, 0.9, 0.0)}, "partially collapsed: dimension 3"),
    ({**POINT, "told": (1.0, 0.0, 0.5, 0.5)}, "partially collapsed: dimension 1"),
    (PRUNED, "healthy, with remarks: unused capacity: dimensions 1, 3"),
    ({**PRUNED, "moved": (6.0, 0.08, 6.0, 0.0)}, "partially collapsed: dimension 3"),
    ({"outside": 0.9}, "codes outside the prior"),
    ({"centre": (0.0, 4.0, 0.0, 0.0)}, "codes outside the prior"),
    ({"outside": 0.51}, "codes outside the prior"),
    ({"outside": 0.49}, "healthy, with remarks: codes outside the prior"),
    ({"outside": 0.19}, "healthy"),
    ({"outside": 0.9, "objective": "mu", "beta": None}, "healthy, with remarks: codes outside the prior"),
    ({**POINT, "outside": 1.0}, "healthy, with remarks: codes outside the prior"),
    ({"outside": 1.0, "beta": 0.0}, "healthy, with remarks: codes outside the prior"),
    ({"log_var_by_dimension": (-2.0, -30.0, -2.0, -2.0)}, "variance runaway: dimension 1"),
    ({"log_var_by_dimension": (-1e6,) * 4}, "variance runaway"),
    ({"clipped": 1.0, "raw_norm": 500.0}, "variance runaway"),
    ({"clipped": 0.9, "raw_norm": 1.2}, "healthy"),
    ({"diverged": "log-variance runaway (its mean fell below -20) at step 90"}, "variance runaway"),
    ({"diverged": "weights is not finite at step 90"}, "diverged"),
    ({"distortion": math.nan}, "not finite"),
]


@pytest.mark.parametrize(("changes", "said"), CASES, ids=[said for _, said in CASES])
def test_verdicts(changes, said):
    assert verdict(diagnose(dataclasses.replace(GOOD, **changes))) == said


def test_a_finding_has_figures_a_cure_and_the_worst_comes_first():
    found = diagnose(dataclasses.replace(GOOD, **PRUNED, outside=0.9))
    assert [f.severity for f in found] == ["alarm", "remark"]
    assert severity(found) == "alarm"
    for changes, said in CASES:
        for finding in diagnose(dataclasses.replace(GOOD, **changes)):
            assert finding.remedies or said == "healthy"
            assert finding.figures or finding.name in ("not finite", "diverged")


def test_too_few_steps_are_the_first_suspect():
    assert diagnose(dataclasses.replace(GOOD, **NOTHING, steps=200))[0].remedies[0] == cures.LONGER
    assert diagnose(dataclasses.replace(GOOD, **NOTHING))[0].remedies[0] == cures.WARMUP
    others = {"pixelcnn": cures.NARROWER, "mine:Decoder": cures.PLAIN_DECODER, "resnet": cures.WARMUP}
    for decoder, first in others.items():
        assert diagnose(dataclasses.replace(GOOD, **NOTHING, decoder=decoder))[0].remedies[0] == first


def test_dimensions_in_words():
    assert named((3,)) == "dimension 3"
    assert named((0, 1, 2, 7, 9, 10)) == "dimensions 0-2, 7, 9-10"


def test_the_page_has_the_thresholds_of_the_program():
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    said = {name: float(value) for name, value in re.findall(r"^\| `([A-Z_]+)` \| ([^ ]+) \|", page, re.MULTILINE)}
    assert said == {k: v for k, v in vars(doctor).items() if k.isupper() and isinstance(v, int | float)}


# Signals -------------------------------------------------------------------------------------------------------------


def subject(oracle, tmp_path, n=3000):
    config = small_run(likelihood="gaussian", latent=oracle.weight.shape[1])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    run = run_of(config, oracle.model, (oracle.weight.shape[0],))
    run.__dict__.update(folder=tmp_path, data=data_of(examples(oracle, n)), step=5000)
    return Subject(run)


def test_signals_of_a_linear_gaussian_model(tmp_path):
    r"""With w_j the columns of W, v the variance and S the posterior's: another image's code costs
    :math:`\sum_j |w_j|^2 / v`, one dimension :math:`|w_j|^2 / v`, the mean code :math:`\sum_j |w_j|^2 / 2v`; the means
    vary by 1 - S_j; all codes together are N(0, I)."""
    oracle = linear_gaussian()
    found = signals(subject(oracle, tmp_path))
    power, s = oracle.weight.square().sum(0) / oracle.variance, oracle.posterior_variance
    assert found.shuffled == pytest.approx(power.sum().item(), rel=0.1)
    assert found.heard == pytest.approx(power.tolist(), rel=0.25)  # of 500 images
    assert found.silent - found.distortion == pytest.approx(power.sum().item() / 2, rel=0.05)  # of the same images
    assert found.told == pytest.approx((1 - s).tolist(), rel=0.05)
    assert found.mean_variance == pytest.approx((1 - s).tolist(), rel=0.1)
    assert found.log_var_by_dimension == pytest.approx(s.log().tolist(), abs=1e-4)
    assert found.rate == pytest.approx(-0.5 * s.log().sum().item(), rel=0.05)
    assert found.rate_by_dimension == pytest.approx((-0.5 * s.log()).tolist(), rel=0.1)
    assert found.centre == pytest.approx([0] * 3, abs=0.1)
    assert found.width == pytest.approx([1] * 3, abs=0.1)
    assert found.outside == pytest.approx(0.02, abs=0.01)
    assert all(m >= abs(h) for m, h in zip(found.moved, found.heard, strict=True))
    assert (found.clipped, found.raw_norm, found.diverged) == (None, None, None)
    assert verdict(diagnose(found)) == "healthy"


@pytest.mark.parametrize(
    ("prior", "posterior"), [("laplace", "laplace"), ("uniform", "uniform"), ("mixture", "gaussian")]
)
def test_codes_from_the_prior_are_inside_whichever_it_is(prior, posterior, tmp_path):
    """An encoder that is made to draw from the prior itself."""
    from elboroom import build

    config = run_from(merged({"model": {"prior": {"kind": prior}}}, {"model": {"posterior": {"kind": posterior}}}))
    model = build.model(config, (1, 8, 8), "binary").eval()
    run = run_of(config, model, (1, 8, 8))
    run.__dict__.update(folder=tmp_path, data=data_of(torch.rand(600, 1, 8, 8).round()))
    looked = Subject(run)
    z = model.prior(model.encoder).draw(600, torch.Generator().manual_seed(3)).detach()
    looked._codes["test"] = dataclasses.replace(looked.codes(), z=z)
    found = signals(looked)
    assert found.outside == pytest.approx(0.02, abs=0.02)
    assert found.width == pytest.approx([1] * 20, abs=0.2)
    looked._codes["test"] = dataclasses.replace(looked.codes(), z=z + 20)
    assert signals(looked).outside == 1


def test_what_is_told_has_no_scale():
    rows, both = torch.arange(2), torch.tensor([[0.0, -4.0], [0.0, -4.0]])
    one, wide = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.tensor([[-1.0, 2.0], [1.0, -2.0]])
    assert told(Codes(one, one, both, None, rows)).tolist() == [0.5, 0.0]
    assert told(Codes(wide, wide, None, None, rows)).tolist() == [0.25, 1.0]
    assert told(Codes(0 * one, one, None, None, rows)).tolist() == [0.0, 0.0]


def test_clipped_share_and_norm(tmp_path):
    """Every second code is outside of the radius: its encoder doubled, the radius chosen between."""
    looked = subject(linear_gaussian(), tmp_path)
    norms = looked.codes().mean.norm(dim=1)
    looked.model.encoder.radius = norms.median().item()
    found = signals(looked)
    assert found.clipped == pytest.approx(0.5, abs=0.01)
    assert found.raw_norm == pytest.approx((norms.mean() / norms.median()).item(), rel=1e-4)


def test_a_training_that_ran_away_is_told(tmp_path):
    looked = subject(linear_gaussian(), tmp_path)
    write_state(tmp_path, "diverged", term="log-variance runaway", why="(its mean fell below -20)", at=1200, kept=1000)
    assert examine(looked).verdict == "variance runaway"
    assert "at step 1,200" in signals(looked).diverged


# Planted -------------------------------------------------------------------------------------------------------------


class Deaf(torch.nn.Module):
    """A decoder that does not listen to the code."""

    def __init__(self, decoder):
        super().__init__()
        self.inner, self.name = decoder, decoder.name

    def forward(self, z):
        return self.inner(torch.zeros_like(z))


def test_a_deaf_decoder_is_found(tmp_path):
    oracle = linear_gaussian()
    oracle.model = VAE(oracle.model.encoder, oracle.model.prior, Deaf(oracle.model.decoder))
    found = examine(subject(oracle, tmp_path))
    assert found.verdict == "collapsed"
    assert "does not read the code" in found.findings[0].says


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_dead_dimension_is_found(tmp_path, side):
    oracle = linear_gaussian()
    with torch.no_grad():
        if side == "encoder":
            oracle.model.encoder.head.weight[1] = 0
        else:
            oracle.model.decoder.head[0].weight[:, 1] = 0
    found = examine(subject(oracle, tmp_path))
    assert found.verdict == "partially collapsed: dimension 1"
    assert side in found.findings[0].says


# Cures ---------------------------------------------------------------------------------------------------------------

ALL = [c for c in vars(cures).values() if isinstance(c, cures.Cure)]


@pytest.mark.parametrize("posterior", ["gaussian", "laplace", "point"])
def test_commands_are_those_that_the_configuration_takes(tmp_path, posterior):
    objective = "reconstruction" if posterior == "point" else "elbo"
    config = small_run(posterior=posterior, objective=objective)
    run = tmp_path / "a run"
    run.mkdir()
    (run / "config.yaml").write_text(to_yaml(config))
    given = prescribed(ALL, config, run, steps=390, epochs=30)
    names = {c.name for c in given}
    assert ("mutual divergence (MAE)" in names) == (posterior == "gaussian")
    assert ("free bits" in names) == (posterior != "point")
    assert cures.ELBO.name not in names  # it is that already, or refused
    for cure in given:
        assert "{" not in cure.command
        if cure.verb == "train":
            assert cure.command.startswith(f"elboroom train '{run}/config.yaml' --")
            assert load_run(run / "config.yaml", cure.options) != config
    if posterior == "gaussian":
        assert "--objective.warmup.steps 195 --out" in next(c.command for c in given if c.name == "warm-up")


def test_a_cure_that_changes_nothing_is_none(tmp_path):
    config = small_run(latent=2)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert not admits(cures.smaller_latent(2), config, tmp_path)
    assert admits(cures.smaller_latent(1), config, tmp_path)


def test_smaller_weights():
    assert cures.smaller_beta(200).options == ("--objective.beta", "1")
    assert cures.smaller_beta(1).options == cures.smaller_beta(None).options == ("--objective.beta", "0.25")


def test_what_is_kept(tmp_path):
    found = examine(looked := subject(linear_gaussian(), tmp_path))
    keep(looked.run, found)
    content = json.loads((tmp_path / "evaluation" / "step-5000" / "doctor.json").read_text())
    assert (content["format"], content["verdict"], content["severity"]) == (1, "healthy", "healthy")
    assert content["signals"]["told"] == list(found.signals.told)
    assert examine(looked).json() == found.json()


# During training -----------------------------------------------------------------------------------------------------


def said_of(rates, *, warm=0, per_epoch=100):
    """What is said, and at which step, of evaluations with these rates."""
    said = []
    watch = EarlyWarning(lambda text: said.append(watch.step), warm)
    for epoch, rate in enumerate(rates, 1):
        watch({"split": "train", "step": epoch * per_epoch, "rate": 0.0})
        watch({"split": "test", "epoch": epoch, "rate": rate})
    return said


def test_the_warning_comes_once_and_at_the_second_low_evaluation():
    assert said_of([0.01] * 5) == [200]
    assert said_of([0.01] * 5, per_epoch=10) == []
    assert said_of([0.01, 2.0, 0.01, 0.01, 2.0, 0.01, 0.01]) == [400]
    assert said_of([0.01, 0.2, 0.01, 0.2]) == []
    assert said_of([0.01] * 9, warm=500) == [700]


def test_a_run_without_a_rate_is_not_warned():
    watch = EarlyWarning(lambda text: pytest.fail(text))
    for step in range(100, 1000, 100):
        watch({"split": "test", "step": step})


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, 0),
        ({"objective": {"warmup": {"kind": "linear", "steps": 300}}}, 300),
        ({"objective": {"warmup": {"kind": "cyclic", "period": 300, "rise": 0.5}}}, 150),
        ({"objective": {"kind": "capacity", "steps": 700}}, 700),
        ({"objective": {"kind": "mu"}, "training": {"warmup": 40}}, 40),
    ],
)
def test_the_end_of_the_warm_up(changes, steps):
    assert warmed_up(run_from(changes)) == steps


def collapsing(**more):
    """A β that leaves nothing, in two steps an epoch."""
    return run_from(merged({
        "data": {"name": "digits", "binarize": "dynamic", "limit": 64},
        "model": {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}, "posterior": {"latent": 2}},
        "objective": {"kind": "elbo", "beta": 200},
        "training": {"epochs": 6, "batch": 32, "threads": 1, "checkpoint_every": 1000},
    }, more))  # fmt: skip


def test_a_collapsing_training_warns_once_even_when_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(monitors, "WARNED_AFTER", 4)
    said = []
    execute(collapsing(), tmp_path / "run", say=said.append)
    assert len(said) == 1
    assert re.search(r"carries almost nothing \(rate [\d.e-]+ nats.*warm-up .*elboroom doctor", said[0])
    config = extend(tmp_path / "run", collapsing(), ["--training.epochs", "9"])
    execute(config, tmp_path / "run", resume=True, say=said.append)
    assert len(said) == 1
    warmed = collapsing(objective={"warmup": {"kind": "linear", "steps": 100}})
    execute(warmed, tmp_path / "warm", say=said.append)
    assert len(said) == 1


def test_an_evaluation_line_has_the_cheap_signals(tmp_path):
    clipped = {"model": {"posterior": {"clip": 1e-3}}, "training": {"epochs": 1}}
    execute(collapsing(**clipped), tmp_path / "run")
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["clipped"] == 1
    assert line["idle-dimensions"] in (0, 1, 2)
    assert math.isfinite(line["log-variance"])

"""What a study would take: by finished runs, by timed steps, or said to be unknown; a dry run leaves nothing behind."""

import dataclasses
import json
import os
import sys

import pytest

from elboroom import cli
from elboroom.config.files import parse_yaml
from elboroom.config.study import Metrics, Study
from elboroom.data import store
from elboroom.studies import estimate as estimates
from elboroom.studies import study as studies
from elboroom.studies.estimate import Cost, duration, estimate, size, summary, words

TEXT = """
name: small
base:
  data: {name: digits, binarize: dynamic, limit: 64}
  model:
    encoder: {kind: mlp, hidden: [200]}
    decoder: {kind: mlp, hidden: [200]}
    posterior: {kind: gaussian, latent: 2}
  training: {epochs: 2, batch: 32, threads: 1}
axes: {seed: [0, 1]}
metrics: {nll: {samples: 2, images: 4}}
"""
STUDY = Study(**parse_yaml(TEXT, "here"))


def looked(out, *options, study=STUDY):
    planned = studies.plan(study, out, options=options)
    for run in planned:
        studies.look(run)
    return planned


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The study's folder after its first seed, whose clock is set: 64 images a second, 7 seconds of evaluation."""
    out = tmp_path_factory.mktemp("study")
    planned = looked(out)[:1]
    studies.carry_out(STUDY, out, planned)
    timing = planned[0].folder / "timing.jsonl"
    assert json.loads(next((planned[0].folder / "evaluation").glob("step-*/timing.json")).read_text())["seconds"] > 0
    timing.write_text(json.dumps({"step": 4, "epoch": 2, "seconds": 2.0, "images_per_s": 64.0}) + "\n")
    for path in (planned[0].folder / "evaluation").glob("step-*/timing.json"):
        path.write_text(json.dumps({"format": 1, "seconds": 7.0}))
    return out


def bytes_of(folder):
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_a_finished_run_lends_its_speed(finished, monkeypatch):
    """Batches of 32 at 64 images a second: half a second a step, 2 steps an epoch, 2 epochs, 7 seconds evaluation."""
    monkeypatch.setattr(estimates, "_timed", lambda *a: pytest.fail("there was no need to time anything"))
    done, missing = estimate(looked(finished), STUDY.metrics)
    assert done is None
    assert missing == Cost("finished", 4 * 0.5 + 7, bytes_of(finished / "base" / "seed-0"))
    longer = estimate(looked(finished / "other", "--training.epochs", "10")[1:] + looked(finished)[:1], STUDY.metrics)
    assert longer[0].seconds == pytest.approx(20 * 0.5 + 7)
    assert "finished runs of the same configuration" in summary(longer, STUDY.metrics)


@pytest.mark.parametrize("change", [{"also": ("shuffled-codes",)}, {"nll": {"samples": 3}}])
def test_a_run_that_was_evaluated_with_other_metrics_is_not_finished(finished, change):
    metrics = Metrics(**{"nll": {"samples": 2, "images": 4}, **change})
    done, _ = estimate(looked(finished), metrics)
    assert (done.trained, done.seconds) == (True, 7)
    assert words(done) == "to be evaluated with these metrics: about 7 s, 0.0 MB"
    assert "metrics that were asked for then" in summary([done], metrics)


def test_a_stopped_run_has_its_steps_behind_it(finished, monkeypatch):
    planned = looked(finished)
    planned[1].status = "stopped"
    monkeypatch.setattr(
        estimates.runs, "read_state", lambda folder: {"step": 3 if "seed-1" in str(folder) else 4, "epoch": 2}
    )
    assert estimate(planned, STUDY.metrics)[1].seconds == pytest.approx(0.5 + 7)


def test_another_model_is_timed_and_its_disk_is_what_it_becomes(finished, tmp_path):
    """Within a fifth and 30 kB, which configuration, log and environment take."""
    wider = ("--model.encoder.hidden", "[400]", "--seed", "0")
    (cost,) = estimate(looked(tmp_path, *wider), STUDY.metrics)
    assert cost.basis == "timed"
    assert 0 < cost.seconds < 60
    assert list(tmp_path.iterdir()) == []
    planned = looked(tmp_path, *wider)
    studies.carry_out(STUDY, tmp_path, planned)
    assert cost.bytes == pytest.approx(bytes_of(planned[0].folder), rel=0.2, abs=30_000)


def test_more_samples_and_more_epochs_take_longer(tmp_path):
    """Through the same measured speed, so that noise cannot turn it: 100 times the samples, 50 times the steps."""
    run, other = looked(tmp_path)[0], looked(tmp_path, "--training.epochs", "100")[0]
    speed = estimates.Speed("timed", step=0.1, watch=1.0, evaluation=3.0, steps_per_epoch=2, kept=1000, rest=10)
    assert estimates._cost(run, speed) == Cost("timed", 4 * 0.1 + 2 * 1.0 + 3.0, 1010)
    assert estimates._cost(other, speed).seconds == pytest.approx(200 * 0.1 + 100 * 1.0 + 3.0)
    data = estimates.build.data(run.config)
    few, many = (estimates._evaluation_seconds(data, Metrics(nll={"samples": n}), 1e-3) for n in (10, 1000))
    assert many - few == pytest.approx(990 * len(data.test) * 1e-3)


def test_evaluations_of_kept_epochs_count(finished):
    """Epochs 1 and 2 of 3 kept, at 2 and 4 seconds; a run that keeps one more takes their mean once more."""
    speed = estimates.Speed("timed", 0.1, 0.0, 7.0, steps_per_epoch=2, kept=1000, rest=10, along=3.0)
    two, three = (
        looked(finished / "other", "--training.epochs", "4", "--training.keep_epochs", kept)[0]
        for kept in ("[1, 2]", "[1, 2, 3, 4]")
    )
    assert estimates._cost(two, speed) == Cost("timed", 8 * 0.1 + 7 + 2 * 3, 3 * 1000 + 3 * 10)
    assert estimates._cost(three, speed).seconds == pytest.approx(8 * 0.1 + 7 + 3 * 3)
    assert estimates._cost(two, dataclasses.replace(speed, along=None)).seconds == pytest.approx(8 * 0.1 + 7)


def test_a_finished_run_tells_what_its_kept_epochs_took(tmp_path):
    run = looked(tmp_path, "--training.epochs", "3", "--training.keep_epochs", "[1, 2, 3]")[0]
    for step, seconds in ((2, 2.0), (4, 4.0), (1, 50.0), (6, 7.0)):  # of step 1 when the run was another; last the run
        place = run.folder / "evaluation" / f"step-{step}"
        place.mkdir(parents=True)
        (place / "timing.json").write_text(json.dumps({"format": 1, "seconds": seconds}))
        os.utime(place / "timing.json", (0, 1000 * (step + 1)))
    assert estimates._evaluations(run, 2) == (7.0, 3.0)
    alone = looked(tmp_path, "--training.epochs", "3")[0]
    assert estimates._evaluations(alone, 2) == (7.0, 7.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((), ("--training.updates", "5")),
        (("--objective", "monte-carlo-em"), ("--objective.kind", "monte-carlo-em", "--objective.leapfrog", "3")),
        (("--objective", "monte-carlo-em"), ("--objective.kind", "monte-carlo-em", "--objective.transitions", "3")),
        (("--objective", "monte-carlo-em"), ("--objective.kind", "monte-carlo-em", "--objective.burn_in", "3")),
    ],
)
def test_what_a_step_takes_longer_for_has_a_speed_of_its_own(tmp_path, one, other):
    first, second = (estimates._key(looked(tmp_path, *options)[0].config) for options in (one, other))
    assert first != second


def test_metrics_that_are_not_in_the_estimate_are_named():
    costs = [Cost("timed", 1.0, 1)]
    for metrics in (Metrics(also=("shuffled-codes",)), Metrics(along=("shuffled-codes",))):
        assert "Further metrics of the study are not in it." in summary(costs, metrics)
    assert "Further metrics" not in summary(costs, Metrics())


def test_kept_checkpoints_count(tmp_path):
    kept = ("--data.valid", "10", "--training.keep_epochs", "[1, 2]", "--training.average", "0.9")
    assert estimates._checkpoints(looked(tmp_path, *kept)[0].config) == 3  # last (epoch 2), best, and epoch 1


def test_what_is_not_here_is_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("ELBOROOM_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(store, "download", lambda *a: pytest.fail("a dry run downloads nothing"))
    costs = estimate(looked(tmp_path, "--data.name", "mnist"), STUDY.metrics)
    assert words(costs[0]).startswith("not known: the data 'mnist' are not here (`elboroom data fetch mnist`)")
    assert summary(costs, STUDY.metrics) == "2 to do."


def test_what_cannot_work_is_said_beforehand(tmp_path):
    costs = estimate(looked(tmp_path, "--data.binarize", "none"), STUDY.metrics)
    assert words(costs[0]).startswith("not known: likelihood 'bernoulli' needs values in {0, 1}")


def test_patience_ends(tmp_path):
    assert [words(c) for c in estimate(looked(tmp_path), STUDY.metrics, patience=0.0)] == [
        "not known: it was not timed"
    ] * 2


def test_a_plain_autoencoder_is_timed_as_well(tmp_path):
    point = ("--model.posterior.kind", "point", "--objective", "reconstruction")
    assert estimate(looked(tmp_path, *point), STUDY.metrics)[0].basis == "timed"


def test_at_the_command_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "s.yaml").write_text(TEXT)
    out = tmp_path / "out"

    def dry(*more):
        arguments = ["study", tmp_path / "s.yaml", "--out", out, *more]
        monkeypatch.setattr(sys, "argv", ["elboroom", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    lines = dry("--dry-run").splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["missing"] * 2
    assert all(" about " in line and line.endswith("MB") for line in lines[:2])
    assert lines[2].startswith("2 to do: about ")
    assert "timed just now on this machine" in lines[3]
    assert not out.exists()
    studies.carry_out(STUDY, out, studies.plan(STUDY, out))
    assert dry("--dry-run").splitlines()[2:] == ["Nothing is left to do."]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (99, "99 s"), (100, "2 min"), (5_000, "83 min"), (9_000, "2.5 h")]
)
def test_durations_in_words(seconds, said):
    assert duration(seconds) == said


def test_sizes_in_words():
    assert (size(3_400_000), size(1_240_000_000)) == ("3.4 MB", "1.2 GB")

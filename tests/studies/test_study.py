"""A study trains what is missing, goes on where it stopped, and records what went wrong."""

import dataclasses
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from elboroom import cli, runs, scores
from elboroom.config import run_from
from elboroom.config.files import parse_yaml
from elboroom.config.study import Metrics, Nll, Study
from elboroom.errors import Diverged, InputError, Stopped
from elboroom.report import report
from elboroom.report.folders import read_run, read_study
from elboroom.studies import study as studies
from elboroom.studies.execute import execute
from elboroom.studies.results import collect
from elboroom.studies.verify import arithmetic
from elboroom.training import Trainer

TEXT = """
name: small
base:
  data: {name: digits, binarize: dynamic, limit: 64}
  model:
    encoder: {kind: mlp, hidden: [8]}
    decoder: {kind: mlp, hidden: [8]}
    posterior: {kind: gaussian, latent: 2}
  training: {epochs: 1, batch: 32, threads: 1}
variants:
  vae: {}
  beta: {objective: {kind: elbo, beta: 4.0}}
axes: {seed: [0, 1]}
metrics: {nll: {samples: 2, images: 4}}
scales:
  smoke: {axes: {seed: [0]}}
"""


@pytest.fixture
def study():
    return Study(**parse_yaml(TEXT, "here"))


def go(study, out, **more):
    """Carry a study out; the lines it says."""
    said = []
    planned = studies.plan(study, out)
    studies.carry_out(study, out, planned, say=said.append, **more)
    return said


def written(out):
    return {r["folder"]: r for r in json.loads((out / "study.json").read_text())["runs"]}


def test_done_runs_are_not_trained_again(study, tmp_path):
    first = go(study, tmp_path)
    assert sum("training" in line for line in first) == 4
    assert sum("evaluating" in line for line in first) == 4
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    assert go(study, tmp_path) == []
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")} == times
    assert {r["status"] for r in written(tmp_path).values()} == {"done"}


def test_stopped_and_resumed(study, tmp_path):
    """Within the second run; the first is skipped then, and the second is the one left alone."""
    go(study, tmp_path / "alone")
    calls = [0]

    def stop():
        calls[0] += 1
        return "SIGINT" if calls[0] > 6 else None

    with pytest.raises(Stopped):
        go(study, tmp_path / "out", stop=stop)
    before = [r["status"] for r in written(tmp_path / "out").values()]
    assert before[0] == "done"
    assert "missing" in before
    said = go(study, tmp_path / "out")
    assert not any("vae/seed-0: training" in line for line in said)
    for folder in written(tmp_path / "out"):
        left, right = (runs.load(tmp_path / name / folder).checkpoint_hash for name in ("alone", "out"))
        assert left == right


def test_stopped_while_evaluating(study, tmp_path, monkeypatch):
    """No training is left that would ask; the evaluation asks."""
    go(study, tmp_path)
    for path in tmp_path.rglob("scores.json"):
        path.unlink()
    asked = [0]

    def stop():
        asked[0] += 1
        return "SIGTERM" if asked[0] > 1 else None

    with pytest.raises(Stopped, match="SIGTERM"):
        go(study, tmp_path, stop=stop)
    assert {r["status"] for r in written(tmp_path).values()} == {"done"}
    assert sum("evaluating" in line for line in go(study, tmp_path)) == 4


def test_trap_11_6_changed_weights_are_scored_anew(study, tmp_path):
    go(study, tmp_path)
    scores = tmp_path / "vae" / "seed-0" / "scores.json"
    run = runs.load(scores.parent)
    scores.write_text(scores.read_text().replace(run.checkpoint_hash, "0" * 12))
    said = go(study, tmp_path)
    assert [line.split(": ")[1] for line in said] == ["evaluating", "nll"]  # two samples: the note says so
    assert run.checkpoint_hash in scores.read_text()


def test_folder_of_another_configuration_is_refused(study, tmp_path):
    go(study, tmp_path)
    other = parse_yaml(TEXT.replace("latent: 2", "latent: 3"), "here")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=r"another configuration.*--out"):
        go(Study(**other), tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def longer(text, epochs):
    return Study(**parse_yaml(text.replace("epochs: 1", f"epochs: {epochs}"), "here"))


def test_more_epochs_lengthen_the_runs(study, tmp_path):
    """They end as runs of that length would; a second call finds them done."""
    small = studies.scaled(study, "smoke")
    more = dataclasses.replace(small, base=longer(TEXT, 2).base)
    go(small, tmp_path / "out")
    said = go(more, tmp_path / "out")
    assert sum("going on 1 -> 2 epochs" in line for line in said) == 2
    assert sum("evaluating" in line for line in said) == 2
    go(more, tmp_path / "alone")
    for folder in written(tmp_path / "out"):
        left, right = (runs.load(tmp_path / name / folder).checkpoint_hash for name in ("alone", "out"))
        assert left == right
    assert go(more, tmp_path / "out") == []


@pytest.mark.parametrize(("old", "new"), [("epochs: 1", "epochs: 1, log_every: 7"), ("limit: 64", "limit: 60")])
def test_fewer_epochs_or_other_intervals_are_refused(study, tmp_path, old, new):
    planned = studies.plan(longer(TEXT, 2), tmp_path)
    runs.create(planned[0].config, tmp_path / "vae" / "seed-0")
    other = Study(**parse_yaml(TEXT.replace(old, new), "here"))
    message = "another configuration" if "limit" in new else "epochs 2 there, 1 asked for.*never shorter"
    with pytest.raises(InputError, match=message):
        go(other, tmp_path)


def test_a_diverged_run_is_not_lengthened(tmp_path):
    bad = TEXT.replace("vae: {}", "").replace("beta: 4.0}}", "beta: 4.0}, training: {optimizer: {lr: 1.0e+38}}}")
    go(longer(bad, 9), tmp_path)
    assert {r["status"] for r in written(tmp_path).values()} == {"diverged"}
    assert go(longer(bad, 10), tmp_path) == []
    assert {r["status"] for r in written(tmp_path).values()} == {"diverged"}


def test_a_run_of_an_older_version_is_lengthened_too(study, tmp_path):
    """Its file lacks a field that came later, and its checkpoints belong to that file."""
    small = studies.scaled(study, "smoke")
    planned = studies.plan(small, tmp_path)
    path = planned[0].folder / "config.yaml"
    runs.create(planned[0].config, planned[0].folder)
    path.write_text(path.read_text().replace("  weight_prior: null\n", ""))
    go(small, tmp_path)
    go(dataclasses.replace(small, base=longer(TEXT, 2).base), tmp_path)
    assert {r["status"] for r in written(tmp_path).values()} == {"done"}
    assert "weight_prior" not in path.read_text()
    assert "epochs: 2" in path.read_text()


def test_runs_of_earlier_plans_stay_listed(study, tmp_path):
    small = studies.scaled(study, "smoke")
    go(small, tmp_path)
    studies.carry_out(small, tmp_path, studies.plan(small, tmp_path, options=("--seed", "3")))
    assert list(written(tmp_path)) == ["vae/seed-0", "vae/seed-3", "beta/seed-0", "beta/seed-3"]
    shutil.rmtree(tmp_path / "vae" / "seed-0")
    go(dataclasses.replace(small, variants={"beta": small.variants["beta"]}), tmp_path)
    assert list(written(tmp_path)) == ["beta/seed-0", "beta/seed-3", "vae/seed-3"]
    assert {r["status"] for r in written(tmp_path).values()} == {"done"}


def test_each_session_leaves_a_line(study, tmp_path):
    """Training, then more epochs from the step at which the first ended: 64 images in batches of 32 are 2 steps."""
    small = studies.scaled(study, "smoke")
    go(small, tmp_path)
    folder = tmp_path / "vae" / "seed-0"
    with (folder / "sessions.jsonl").open("a") as file:
        file.write('{"started": "2026-0')  # torn
    go(dataclasses.replace(small, base=longer(TEXT, 2).base), tmp_path)
    sessions = runs.read_sessions(folder)
    assert [s["step"] for s in sessions] == [0, 2]
    assert {"started", "commit", "machine", "device", "threads", "precision"} <= set(sessions[0])
    assert runs.read_environment(folder)["commit"] == sessions[-1]["commit"]


@pytest.mark.parametrize("state", ["missing", "torn", "no configuration"])
def test_run_killed_in_its_first_instants(study, tmp_path, state):
    folder = tmp_path / "vae" / "seed-0"
    folder.mkdir(parents=True)
    if state == "no configuration":
        (folder / ".config.yaml.7.tmp").write_text("half")
    else:
        runs.create(studies.plan(study, tmp_path)[0].config, folder)
    if state == "torn":
        (folder / "state.json").write_text("{")
    go(study, tmp_path)
    assert {r["status"] for r in written(tmp_path).values()} == {"done"}


def test_diverged_variant_is_a_result(study, tmp_path):
    bad = parse_yaml(TEXT.replace("beta: 4.0}}", "beta: 4.0}, training: {epochs: 9, optimizer: {lr: 1.0e+38}}}"), "x")
    said = go(Study(**bad), tmp_path)
    rows = written(tmp_path)
    assert [r["status"] for r in rows.values()] == ["done", "done", "diverged", "diverged"]
    assert "diverged at step" in rows["beta/seed-0"]["error"]
    assert any("the study goes on" in line for line in said)
    assert go(Study(**bad), tmp_path) == []  # and is not tried again
    assert written(tmp_path) == rows
    state = runs.read_state(tmp_path / "beta" / "seed-0")
    assert f"diverged at step {state['at']:,}: {state['term']} {state['why']}" in report([tmp_path]).read_text()


def test_failing_run_does_not_end_the_study(study, tmp_path, monkeypatch):
    real = studies.execute

    def failing(config, folder, **options):
        if config.seed == 1:
            raise InputError("no such thing")
        real(config, folder, **options)

    monkeypatch.setattr(studies, "execute", failing)
    go(study, tmp_path)
    assert [r["status"] for r in written(tmp_path).values()] == ["done", "failed", "done", "failed"]
    monkeypatch.undo()
    go(study, tmp_path)
    assert {r["status"] for r in written(tmp_path).values()} == {"done"}


def test_error_of_ours_goes_through_with_all_recorded(study, tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "execute", lambda *a, **o: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        go(study, tmp_path)
    assert (tmp_path / "study.json").exists()


def test_an_exception_leaves_a_state_that_says_so_and_can_go_on(tmp_path, monkeypatch):
    """An error of anyone's in the middle of a training: the folder does not say that it is still running."""
    config, real = run_from({"training": {"epochs": 2, "batch": 500}}), Trainer._step

    def failing(trainer, rows, step):
        if step == 4:
            raise RuntimeError("a part gave up")
        real(trainer, rows, step)

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="gave up"):
        patched.setattr(Trainer, "_step", failing)
        execute(config, tmp_path / "run")
    state = runs.read_state(tmp_path / "run")
    assert (state["status"], state["step"], state["error"]) == (
        "failed",
        4,
        "RuntimeError: a part gave up",
    )
    execute(config, tmp_path / "run", resume=True)
    assert runs.read_state(tmp_path / "run")["status"] == "done"


def test_plan_has_the_precedence_that_it_says(study, tmp_path):
    planned = studies.plan(studies.scaled(study, "smoke"), tmp_path, options=("--training.epochs", "7"))
    assert [(p.variant, p.axes) for p in planned] == [("vae", {"seed": 0}), ("beta", {"seed": 0})]
    assert {p.config.training.epochs for p in planned} == {7}
    assert [p.config.objective.beta for p in planned] == [1.0, 4.0]


def test_an_option_that_names_an_axis_leaves_it_that_value(study, tmp_path):
    """A folder says with which seed its run was made."""
    planned = studies.plan(study, tmp_path, options=("--seed", "3"))
    assert [(p.axes, p.config.seed, p.folder.name) for p in planned] == [({"seed": 3}, 3, "seed-3")] * 2


def test_a_beginning_that_is_no_path(study, tmp_path):
    with pytest.raises(InputError, match=r"init_from: Input should be a valid string, got 5"):
        studies.plan(dataclasses.replace(study, base=study.base | {"init_from": 5}), tmp_path)


def test_without_an_axis_of_seeds_the_folder_has_the_seed_of_the_run(study, tmp_path):
    """`--seed 5` once trained seed 5 into seed-0."""
    one = dataclasses.replace(study, axes={"objective.samples": [2]})
    planned = studies.plan(one, tmp_path, options=("--seed", "5"))
    assert [r.folder.relative_to(tmp_path).as_posix() for r in planned] == ["vae/2/seed-5", "beta/2/seed-5"]


def test_a_beginning_follows_the_seed_where_no_axis_gives_one(tmp_path):
    chain = Study(name="chain", variants={"first": {}, "second": {"init_from": "{out}/first/seed-{seed}"}})
    first, second = studies.plan(chain, tmp_path, options=("--seed", "5"))
    assert second.config.init_from == str(first.folder)


def test_a_scale_changes_what_it_may_and_nothing_else():
    published = "{published: [{where: {variant: vae}, elbo: -1}]}"
    small = Study(**parse_yaml(TEXT.replace("{axes: {seed: [0]}}", published), "here"))
    assert studies.scaled(small, "smoke").published == [{"where": {"variant": "vae"}, "elbo": -1}]
    with pytest.raises(ValueError, match=r"unknown key of scale 'smoke' 'axis'.*Did you mean 'axes'"):
        Study(**parse_yaml(TEXT.replace("{axes: {seed: [0]}}", "{axis: {seed: [0]}}"), "here"))


@pytest.mark.parametrize(
    ("samples", "images", "anew"), [(2, 4, 0), (3, 4, 4), (1, 4, 4), (2, None, 4), (None, None, 0)]
)
def test_scores_under_another_protocol_are_not_those_asked_for(study, tmp_path, samples, images, anew):
    go(study, tmp_path)
    nll = None if samples is None else Nll(samples=samples, images=images)
    said = go(dataclasses.replace(study, metrics=Metrics(nll=nll)), tmp_path)
    assert sum("evaluating" in line for line in said) == anew
    assert bool(said) == bool(anew)


def test_what_was_trained_before_is_evaluated_with_the_threads_of_its_training(study, tmp_path, monkeypatch):
    """One beside another on one machine: a study that goes on must not take the whole of it."""
    go(study, tmp_path)
    seen, evaluate = [], studies.evaluate
    monkeypatch.setattr(studies, "evaluate", lambda *a, **k: seen.append(torch.get_num_threads()) or evaluate(*a, **k))
    torch.set_num_threads(2)
    try:
        go(dataclasses.replace(study, metrics=Metrics(nll=Nll(samples=3, images=4))), tmp_path)
    finally:
        torch.set_num_threads(1)
    assert seen == [1] * 4


def test_a_study_scores_where_it_trained(study, tmp_path, monkeypatch):
    """Ten thousand images of an autoregressive decoder take hours on the CPU beside an idle CUDA device."""
    go(study, tmp_path)
    seen, load = [], studies.runs.load
    monkeypatch.setattr(studies, "scoring_device", lambda training: f"{training}, where it is")
    monkeypatch.setattr(studies.runs, "load", lambda *a, device, **k: seen.append(device) or load(*a, **k))
    go(study, tmp_path)
    assert seen == ["auto, where it is"] * 4


def test_metrics_of_a_version_that_knew_fewer_fields_are_those_asked_for(study, tmp_path):
    """measured.json without a field that has its default since; with another value it is another metric."""
    more = Study(**parse_yaml(TEXT.replace("metrics: {", "metrics: {also: [{kind: clusters, seeds: 1}], "), "here"))
    go(more, tmp_path)
    for path in tmp_path.rglob("measured.json"):
        content = json.loads(path.read_text())
        del content["also"][0]["restarts"]
        path.write_text(json.dumps(content))
    assert not any("evaluating" in line for line in go(more, tmp_path))
    for path in tmp_path.rglob("measured.json"):
        content = json.loads(path.read_text())
        content["also"][0]["restarts"] = 3
        path.write_text(json.dumps(content))
    assert sum("evaluating" in line for line in go(more, tmp_path)) == 4


def test_a_metric_that_is_added_later_is_measured_once(study, tmp_path):
    """A run that cannot have it is skipped with the reason, and is not tried at every call."""
    go(study, tmp_path)
    also = "metrics: {also: [shuffled-codes, disentanglement], "
    more = Study(**parse_yaml(TEXT.replace("metrics: {", also), "here"))
    said = go(more, tmp_path)
    assert sum("evaluating" in line for line in said) == 4
    assert not any("evaluating" in line for line in go(more, tmp_path))
    names = {s.name for s in scores.load(tmp_path / "vae" / "seed-0" / "scores.json")}
    assert {"elbo", "nll", "shuffled-codes"} <= names


def test_results_are_kept_whole_or_as_they_were(study, tmp_path):
    go(study, tmp_path / "s")
    (tmp_path / "s" / "vae" / "seed-0" / "lr-search.json").write_text('{"format": 1, "losses": {}, "chosen": 0.1}')
    page = report([tmp_path / "s"])
    ledger = collect(tmp_path / "s", tmp_path / "kept", page, "typed")
    assert "runs/vae/seed-0/lr-search.json" in ledger["files"]
    assert arithmetic(tmp_path / "kept").findings == []
    assert json.loads((tmp_path / "kept" / "ledger.json").read_text()) == ledger
    assert [(r["axes"]["seed"], bool(r["weights"])) for r in ledger["runs"]] == [(0, True), (1, False)] * 2
    row = ledger["runs"][0]
    assert {"commit", "machine", "data", "seconds", "checkpoint"} <= set(row)
    values = load_file(tmp_path / "kept" / row["folder"] / "examples.safetensors")
    assert {v.dtype for v in values.values()} == {torch.float32}
    assert (tmp_path / "kept" / row["folder"] / "weights.safetensors").exists()
    before = {p: p.read_bytes() for p in (tmp_path / "kept").rglob("*") if p.is_file()}
    (tmp_path / "s" / "beta" / "seed-1" / "checkpoints" / "best").write_text("?")
    with pytest.raises(InputError):
        collect(tmp_path / "s", tmp_path / "kept", page, "typed again")
    assert {p: p.read_bytes() for p in (tmp_path / "kept").rglob("*") if p.is_file()} == before
    assert {p.name for p in tmp_path.iterdir()} == {"s", "kept"}


def test_results_of_a_study_that_failed_and_a_place_that_cannot_be_replaced(study, tmp_path, monkeypatch):
    """A study without a figure once ended in a traceback, and so did `--out .`."""
    for run in (planned := studies.plan(study, tmp_path / "s")):
        run.status, run.error = "failed", "no data"
    (tmp_path / "s").mkdir()
    studies.record(study, tmp_path / "s", planned)
    page = report([tmp_path / "s"])
    assert [r["status"] for r in collect(tmp_path / "s", tmp_path / "kept", page, "typed")["runs"]] == ["failed"] * 4
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InputError, match=r"is the folder you are in, .* Run this from outside of it"):
        collect(tmp_path / "s", Path(), page, "typed")


def test_results_and_pages_go_by_the_states_of_the_runs(study, tmp_path):
    """study.json knows nothing of what `elboroom resume` does to a run, and kept nothing of it."""
    go(study, tmp_path / "s")
    listed = json.loads((tmp_path / "s" / "study.json").read_text())
    for row, status in zip(listed["runs"], ("stopped", "failed", "done", "failed"), strict=True):
        row |= {"status": status, "error": "why" if status == "failed" else None}
    (tmp_path / "s" / "study.json").write_text(json.dumps(listed))
    (tmp_path / "s" / "beta" / "seed-0" / "state.json").write_text('{"format": 1, "status": "stopped"}')
    (tmp_path / "s" / "beta" / "seed-1" / "state.json").write_text('{"format": 1, "status": "stopped"}')
    collect(tmp_path / "s", tmp_path / "kept", report([tmp_path / "s"]), "typed")
    kept = json.loads((tmp_path / "kept" / "study.json").read_text())["runs"]
    assert [(r["status"], r["error"]) for r in kept] == [("done", None)] * 2 + [("stopped", None), ("failed", "why")]
    assert [r.status for r in read_study(tmp_path / "s").runs] == ["done", "done", "stopped", "failed"]
    assert arithmetic(tmp_path / "kept").findings == []


def test_an_evaluation_without_nll_keeps_the_older_one(study, tmp_path):
    go(study, tmp_path)
    run = runs.load(tmp_path / "vae" / "seed-0")
    path = run.evaluation / "examples.safetensors"
    before = load_file(path)
    studies.evaluate(run, samples=None)
    assert load_file(path).keys() == before.keys()
    assert torch.equal(load_file(path)["nll"], before["nll"])
    assert "nll" in {s.name for s in scores.load(run.folder / "scores.json")}


def test_two_processes_do_not_share_a_study(study, tmp_path):
    """A lock belongs to an open file, so that a second one of this process is refused as well."""
    with runs.locked(tmp_path), pytest.raises(InputError, match="another process"):
        go(study, tmp_path)


def shell(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["elboroom", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr()


def test_at_the_command_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "s.yaml").write_text(TEXT)
    arguments = ("study", tmp_path / "s.yaml", "--scale", "smoke", "--out", tmp_path / "out")
    code, said = shell(monkeypatch, capsys, *arguments, "--dry-run")
    assert code == 0
    assert said.out.count("missing") == 2
    assert not (tmp_path / "out").exists()
    code, said = shell(monkeypatch, capsys, *arguments, "--budget", "0.001s")
    assert code == 3
    assert "the same study command" in said.out
    code, said = shell(monkeypatch, capsys, *arguments)
    assert code == 0
    assert (tmp_path / "out" / "report.html").exists()
    code, said = shell(monkeypatch, capsys, *arguments, "--dry-run")
    assert said.out.count("done") == 2


def test_signal_while_a_study_evaluates(study, tmp_path, monkeypatch):
    real = studies.evaluate

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(studies, "evaluate", interrupted)
        with pytest.raises(Stopped, match="SIGINT"), cli.stopping(None) as stop:
            go(study, tmp_path, stop=stop)
    assert sum("training" in line for line in go(study, tmp_path)) == 3


def test_diverged_error_says_what_is_kept():
    assert str(Diverged(1_200, "rate")) == "diverged at step 1,200: rate is not finite"


def test_kept_epochs_are_measured_too_and_once(tmp_path):
    """Their scores stay beside their checkpoint; the run's own are those of the last."""
    content = parse_yaml(TEXT.replace("epochs: 1", "epochs: 3, keep_epochs: [1, 2]"), "here")
    content["metrics"] = {**content["metrics"], "along": ["pictures"]}
    study = studies.scaled(Study(**content), "smoke")
    said = go(study, tmp_path)
    assert sum("evaluating step" in line for line in said) == 4
    folder = tmp_path / "vae" / "seed-0"
    read = read_run(folder)
    assert [row["epoch"] for row in read.along] == [1, 2, 3]
    assert read.along[-1]["elbo"] == next(s.value for s in read.scores if s.name == "elbo")
    assert read.along[0]["elbo"] != read.along[-1]["elbo"]
    assert read.at(1).tensors("codes-test")["z"].shape == read.tensors("codes-test")["z"].shape
    assert read.at(7).evaluation is None
    early = min((folder / "evaluation").glob("step-*"), key=lambda p: int(p.name.removeprefix("step-")))
    weights = json.loads((early / "scores.json").read_text())["scores"][0]["protocol"]["checkpoint"]
    (early / "notes.json").write_text(json.dumps({"format": 1, "checkpoint": weights, "notes": {"elbo": "unsure"}}))
    assert "epoch 1: elbo: unsure" in read_run(folder).doubts
    assert not [line for line in go(study, tmp_path) if "evaluating" in line]


def test_a_run_without_a_trained_encoder_is_evaluated_once(tmp_path):
    """It has no scores, unless the study asks for metrics that do without the encoder."""
    content = parse_yaml(TEXT, "here")
    content["variants"] = {"em": {"objective": {"kind": "monte-carlo-em", "leapfrog": 2, "burn_in": 2}}}
    study = studies.scaled(Study(**content), "smoke")
    assert sum("evaluating" in line for line in go(study, tmp_path)) == 1
    assert scores.load(tmp_path / "em" / "seed-0" / "scores.json") == []
    assert go(study, tmp_path) == []
    marginal = [{"kind": "marginal", "images": 4, "samples": 8, "burn_in": 4, "leapfrog": 2}]
    more = Study(**content | {"metrics": {"nll": None, "also": marginal}, "axes": {"seed": [0]}})
    assert sum("evaluating" in line for line in go(more, tmp_path)) == 1
    assert scores.load(tmp_path / "em" / "seed-0" / "scores.json") != []
    assert go(more, tmp_path) == []


def test_some_variants_alone(study, tmp_path):
    planned = studies.plan(study, tmp_path)
    assert {run.variant for run in studies.only(planned, "beta")} == {"beta"}
    assert studies.only(planned, "") == planned
    with pytest.raises(ValueError, match=r"unknown variant 'bta'.*Did you mean 'beta'"):
        studies.only(planned, "vae, bta")


def test_runs_are_listed_in_the_studys_order_whichever_came_first(study, tmp_path):
    planned = studies.plan(study, tmp_path)
    other = Study(**parse_yaml(TEXT.replace("[0, 1]", "[5]", 1), "here"))
    for part in (planned[3:], planned[:1], studies.plan(other, tmp_path)[:1], planned[1:3]):
        for run in part:
            run.folder.mkdir(parents=True)
            (run.folder / "config.yaml").touch()
        studies.record(study, tmp_path, part)
    assert list(written(tmp_path)) == ["vae/seed-0", "vae/seed-1", "vae/seed-5", "beta/seed-0", "beta/seed-1"]


def test_a_variant_may_have_values_of_its_own_on_an_axis(small_base, tmp_path):
    content = {
        "name": "own",
        "base": small_base,
        "variants": {"all": {}, "some": {"objective": "mu", "axes": {"model.posterior.latent": [3]}}},
        "axes": {"model.posterior.latent": [2, 3, 4], "seed": [0]},
    }
    study = studies.study_from(content, "here")
    latents = [(run.variant, run.config.model.posterior.latent) for run in studies.plan(study, tmp_path)]
    assert latents == [("all", 2), ("all", 3), ("all", 4), ("some", 3)]
    asked = studies.plan(study, tmp_path, options=("--model.posterior.latent", "4"))
    assert [(run.variant, run.config.model.posterior.latent) for run in asked] == [("all", 4), ("some", 4)]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"beta": [1]}, "axis of variant 'some'"),
        ({"seed": 1}, "wants a list of values"),
        ({"seed": []}, "got \\[\\]"),
        (3, "wants axes with"),
    ],
)
def test_own_values_on_an_axis_that_is_none(small_base, own, said):
    with pytest.raises(InputError, match=said):
        studies.study_from({"name": "own", "base": small_base, "variants": {"some": {"axes": own}}}, "here")

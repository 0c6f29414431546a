"""A study goes on from kept results: the same scores, no training, and nothing claimed that was not kept."""

import dataclasses
import json
import shutil

import pytest

from elboroom import runs, scores
from elboroom.config import Study, load_study
from elboroom.config.files import parse_yaml
from elboroom.errors import InputError
from elboroom.evaluation import classifiers
from elboroom.report import report
from elboroom.report.folders import read_run, read_study
from elboroom.report.page import configuration, pictures
from elboroom.studies import study as studies
from elboroom.studies.execute import extend
from elboroom.studies.recompute import from_weights
from elboroom.studies.restore import take_over
from elboroom.studies.results import collect, hashes
from elboroom.studies.verify import arithmetic


@pytest.fixture(scope="module")
def study(four_kept):
    return load_study(four_kept / "study.yaml")


def taken(study, out, kept, options=()):
    """The plan after the runs were taken over, and what was said."""
    said = []
    planned = studies.plan(study, out, options=options)
    take_over(study, out, planned, kept, said.append)
    return planned, said


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_nothing_is_trained_or_scored_anew_and_the_same_is_kept_again(study, four_kept, tmp_path):
    planned, said = taken(study, tmp_path / "s", four_kept)
    assert said == [f"8 of 8 runs taken over from {four_kept}"]
    studies.carry_out(study, tmp_path / "s", planned, say=said.append)
    assert len(said) == 1
    assert {run.status for run in planned} == {"done"}
    shutil.copytree(four_kept / "figures", tmp_path / "s" / "figures")
    ledger = collect(tmp_path / "s", tmp_path / "again", four_kept / "report.html", "typed")
    assert files(tmp_path / "again" / "runs") == files(four_kept / "runs")
    assert ledger["runs"] == json.loads((four_kept / "ledger.json").read_text())["runs"]
    assert arithmetic(tmp_path / "again").findings == []


def test_weights_that_were_kept_decode_and_those_that_were_not_are_named(study, four_kept, four, tmp_path):
    taken(study, tmp_path, four_kept)
    first, second = (runs.load(tmp_path / "vae" / f"seed-{i}") for i in (0, 1))
    assert (first.sample(2, seed=1) == runs.load(four / "vae" / "seed-0").sample(2, seed=1)).all()
    assert second.checkpoint_hash == runs.load(four / "vae" / "seed-1").checkpoint_hash
    with pytest.raises(InputError, match=r"model\.safetensors: this file of the checkpoint is missing"):
        second.sample(2)


def test_other_metrics_are_measured_where_the_weights_are(study, four_kept, tmp_path):
    """The classifier beside the model was not kept: what it said stays, and nothing fails for want of it."""
    planned, said = taken(study, tmp_path, four_kept)
    before = (tmp_path / "vae" / "seed-1" / "scores.json").read_bytes()
    nll = dataclasses.replace(study.metrics.nll, samples=3)
    more = dataclasses.replace(study, metrics=dataclasses.replace(study.metrics, nll=nll))
    studies.carry_out(more, tmp_path, studies.only(planned, "vae"), say=said.append)
    assert [line for line in said[1:] if "converged" not in line] == [
        "[1/2] vae/seed-0: evaluating",
        "[2/2] vae/seed-1: asked for other metrics, but its weights were not kept: its scores stay as they are",
    ]
    assert (tmp_path / "vae" / "seed-1" / "scores.json").read_bytes() == before
    found = scores.load(tmp_path / "vae" / "seed-0" / "scores.json")
    assert {3} <= {s.protocol.samples for s in found if s.name == "nll"}
    assert "accuracy/z" in {s.name for s in found}


def test_another_configuration_is_not_taken_over(study, four_kept, tmp_path):
    planned, said = taken(study, tmp_path, four_kept, ("--training.batch", "16"))
    assert {run.status for run in planned} == {"missing"}
    assert said[0] == (
        f"vae/seed-0: not taken over from {four_kept}: it was trained with another configuration (other options, "
        "or data at another path)"
    )
    assert said[-1] == f"0 of 8 runs taken over from {four_kept}"
    assert not list(tmp_path.rglob("config.yaml"))


def test_what_is_there_already_stays(study, four_kept, tmp_path):
    (tmp_path / "vae" / "seed-0").mkdir(parents=True)
    (tmp_path / "vae" / "seed-0" / "mine").touch()
    _, said = taken(study, tmp_path, four_kept)
    assert said[-1].startswith("7 of 8")
    assert [p.name for p in (tmp_path / "vae" / "seed-0").iterdir()] == ["mine"]


def test_results_of_an_older_version_are_said_to_lack_the_record(study, four_kept, tmp_path):
    old = shutil.copytree(four_kept, tmp_path / "old")
    for record in old.rglob("checkpoint.json"):
        record.unlink()
    _, said = taken(study, tmp_path / "s", old)
    assert said[0].endswith("checkpoint.json was not kept, as by older versions")
    assert not list((tmp_path / "s").rglob("config.yaml"))


def test_results_without_hashes_are_not_taken_over(study, four_kept, tmp_path):
    old = shutil.copytree(four_kept, tmp_path / "old")
    ledger = json.loads((old / "ledger.json").read_text())
    del ledger["files"], ledger["seal"]
    (old / "ledger.json").write_text(json.dumps(ledger))
    with pytest.raises(InputError, match=r"ledger\.json: has no hashes of files, .* \(leave --kept out\)"):
        taken(study, tmp_path / "s", old)


def test_a_run_taken_over_gets_no_longer(study, four_kept, tmp_path):
    taken(study, tmp_path, four_kept)
    planned = studies.plan(study, tmp_path, options=("--training.epochs", "2"))
    with pytest.raises(InputError, match=r"hold nothing to go on training from\. Ask for as many epochs"):
        studies.carry_out(study, tmp_path, planned)


def edited(kept, place, name, old, new):
    """A copy of kept results in which a file of a run says something else."""
    folder = shutil.copytree(kept, place)
    path = folder / "runs" / "vae" / "seed-0" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return folder


@pytest.mark.parametrize(
    ("name", "old", "new"), [("scores.json", "0.", "1."), ("checkpoint.json", '"step": 2', '"step": "../../elsewhere"')]
)
def test_a_file_that_is_not_as_the_ledger_lists_it_is_not_taken_over(study, four_kept, tmp_path, name, old, new):
    _, said = taken(study, tmp_path / "s", edited(four_kept, tmp_path / "edited", name, old, new))
    assert f"{name}: not as ledger.json lists it" in said[0]
    assert said[-1].startswith("7 of 8")
    assert {p.name for p in tmp_path.iterdir()} == {"s", "edited"}


def test_a_record_that_leads_elsewhere_is_refused_also_under_its_own_seal(study, four_kept, tmp_path):
    folder = edited(four_kept, tmp_path / "edited", "checkpoint.json", '"step": 2', '"step": "../../elsewhere"')
    ledger = json.loads((folder / "ledger.json").read_text())
    ledger["files"] = hashes(folder)
    (folder / "ledger.json").write_text(json.dumps(ledger))
    _, said = taken(study, tmp_path / "s", folder)
    assert said[0].endswith("checkpoint.json: it names no step")
    assert {p.name for p in tmp_path.iterdir()} == {"s", "edited"}


def test_results_of_another_study(study, four_kept, tmp_path):
    with pytest.raises(InputError, match="holds results of the study 'four', not of 'five'"):
        taken(dataclasses.replace(study, name="five"), tmp_path, four_kept)


def test_a_page_of_kept_results_goes_elsewhere_and_leaves_them_as_they_are(four_kept, tmp_path):
    before = files(four_kept)
    with pytest.raises(InputError, match=r"kept results.*Name a file for the page \(--out\)"):
        report([four_kept])
    assert report([four_kept], tmp_path / "page.html").exists()
    assert files(four_kept) == before


CHAIN = """
name: chain
variants:
  first: {}
  raw: {training: {evaluate_with: raw}}
  second: {init_from: "{out}/first/seed-{seed}"}
axes: {seed: [0, 1]}
metrics: {nll: {samples: 2, images: 40}, along: [{kind: shuffled-codes}]}
"""


def test_kept_epochs_averages_and_runs_that_start_from_another(small_base, tmp_path):
    training = small_base["training"] | {"epochs": 3, "average": 0.9, "keep_epochs": [1, 2]}
    study = Study(base=small_base | {"training": training}, **parse_yaml(CHAIN, "here"))
    planned = studies.plan(study, tmp_path / "a")
    studies.carry_out(study, tmp_path / "a", studies.only(planned, "first,raw"))
    (tmp_path / "page.html").touch()
    (tmp_path / "a" / "figures").mkdir(exist_ok=True)
    studies.record(study, tmp_path / "a", planned)  # with runs that were not begun
    collect(tmp_path / "a", tmp_path / "kept", tmp_path / "page.html", "typed")
    assert not (tmp_path / "kept" / "runs" / "second").exists()
    again, said = taken(study, tmp_path / "b", tmp_path / "kept")
    assert [line.split(": not")[0] for line in said if "not taken" in line] == ["first/seed-1"]
    assert said[0].endswith("its weights were not kept, and another run starts from them")
    studies.carry_out(study, tmp_path / "b", again, say=said.append)
    assert {run.status for run in again} == {"done"}
    assert [line for line in said if "training" in line] == [
        "[2/6] first/seed-1: training",
        "[5/6] second/seed-0: training",
        "[6/6] second/seed-1: training",
    ]
    assert not any("evaluating" in line for line in said if "first/seed-0" in line or "raw" in line)
    for name in ("first/seed-0", "raw/seed-0", "raw/seed-1"):
        there, here, kept = (read_run(tmp_path / place / name) for place in ("a", "b", "kept/runs"))
        assert there.along == here.along == kept.along
        assert [row["step"] for row in there.along] == [2, 4, 6]
        assert there.evaluated_step == here.evaluated_step == kept.evaluated_step == 6
    told = configuration(read_run(tmp_path / "b" / "second" / "seed-0"))
    assert "\ninit_from: ../../first/seed-0\n" in told  # no path of this machine in a page
    for name in ("first/seed-0", "raw/seed-0"):
        assert (runs.load(tmp_path / "a" / name).sample(1) == runs.load(tmp_path / "b" / name).sample(1)).all()


def test_another_machine_leans_on_the_classifiers_that_were_kept(small_base, tmp_path, monkeypatch):
    metrics = {"nll": None, "also": [{"kind": "frechet"}]}
    study = Study(name="judged", base=small_base, axes={"seed": [0, 1]}, metrics=metrics)
    planned = studies.plan(study, tmp_path / "a")
    studies.carry_out(study, tmp_path / "a", planned[:1])
    (tmp_path / "page.html").touch()
    (tmp_path / "a" / "figures").mkdir(exist_ok=True)
    collect(tmp_path / "a", tmp_path / "kept", tmp_path / "page.html", "typed")
    assert files(tmp_path / "kept" / "classifiers") == files(tmp_path / "a" / "classifiers")
    assert len(files(tmp_path / "kept" / "classifiers")) == 1
    monkeypatch.setattr(classifiers, "trained", lambda *a: pytest.fail("a classifier was trained anew"))
    before = files(tmp_path / "kept")
    first = planned[0].folder.relative_to(tmp_path / "a")
    for place in (tmp_path / "kept", tmp_path / "kept" / "runs" / first, tmp_path / "a" / first):
        found = from_weights(place, ["fd"])
        assert (found.findings, found.gaps) == ([], [])
    assert files(tmp_path / "kept") == before
    again, said = taken(study, tmp_path / "b", tmp_path / "kept")
    studies.carry_out(study, tmp_path / "b", again, say=said.append)
    assert {run.status for run in again} == {"done"}
    scored = [scores.load(run.folder / "scores.json") for run in again]
    assert len({s.protocol.classifier for run in scored for s in run if s.name == "fd"}) == 1
    assert not any("lean on" in line for line in said)
    (kept,) = (tmp_path / "kept" / "classifiers").iterdir()
    kept.unlink()
    assert any(
        "its scores lean on the classifiers" in line for line in taken(study, tmp_path / "d", tmp_path / "kept")[1]
    )
    kept.write_bytes(b"edited")
    with pytest.raises(InputError, match=r"not as ledger\.json lists it"):
        taken(study, tmp_path / "c", tmp_path / "kept")


def test_resuming_a_run_that_was_taken_over_changes_nothing(study, four_kept, tmp_path):
    taken(study, tmp_path, four_kept)
    folder = tmp_path / "vae" / "seed-0"
    before = files(folder)
    with pytest.raises(InputError, match="taken over from kept results"):
        extend(folder, runs.load(folder).config, ["--training.epochs", "5"])
    assert files(folder) == before


def test_a_folder_without_results(study, tmp_path):
    with pytest.raises(InputError, match=r"ledger\.json: no such file"):
        taken(study, tmp_path / "s", tmp_path / "nowhere")


def test_a_page_of_kept_results_has_the_pictures_of_the_study(four, four_kept):
    for there, here in zip(read_study(four).runs, read_study(four_kept).runs, strict=True):
        assert here.evaluated_step == there.evaluated_step
        assert here.doubts == there.doubts
        drawn = [p.name for p in pictures(there)] if there.seed == 0 else []  # one seed's alone are kept
        assert [p.name for p in pictures(here)][: len(drawn)] == drawn
        assert bool(here.tensors("pictures")) == (there.seed == 0)

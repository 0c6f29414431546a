"""A study goes on from kept results: the same scores, no training, and nothing claimed that was not kept."""

import dataclasses
import json
import shutil

import pytest

from elboroom import runs
from elboroom.config import load_study
from elboroom.errors import InputError
from elboroom.report.folders import read_study
from elboroom.report.page import pictures
from elboroom.studies import study as studies
from elboroom.studies.restore import take_over
from elboroom.studies.results import collect
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


def test_other_metrics_leave_the_scores_of_weights_that_were_not_kept(study, four_kept, tmp_path):
    planned, said = taken(study, tmp_path, four_kept)
    before = (tmp_path / "vae" / "seed-1" / "scores.json").read_bytes()
    nll = dataclasses.replace(study.metrics.nll, samples=3)
    more = dataclasses.replace(study, metrics=dataclasses.replace(study.metrics, nll=nll))
    studies.carry_out(more, tmp_path, studies.only(planned, "vae"), say=said.append)
    assert [line for line in said if "seed-1" in line] == [
        "[2/2] vae/seed-1: asked for other metrics, but its weights were not kept: its scores stay as they are"
    ]
    assert (tmp_path / "vae" / "seed-1" / "scores.json").read_bytes() == before


def test_another_configuration_is_not_taken_over(study, four_kept, tmp_path):
    planned, said = taken(study, tmp_path, four_kept, ("--training.batch", "16"))
    assert {run.status for run in planned} == {"missing"}
    assert said[0] == f"vae/seed-0: not taken over from {four_kept}: it was trained with another configuration"
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


def test_a_run_taken_over_gets_no_longer(study, four_kept, tmp_path):
    taken(study, tmp_path, four_kept)
    planned = studies.plan(study, tmp_path, options=("--training.epochs", "2"))
    with pytest.raises(InputError, match=r"hold nothing to go on training from\. Ask for as many epochs"):
        studies.carry_out(study, tmp_path, planned)


def test_a_folder_without_results(study, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        taken(study, tmp_path / "s", tmp_path / "nowhere")


def test_a_page_of_kept_results_has_the_pictures_of_the_study(four, four_kept):
    for there, here in zip(read_study(four).runs, read_study(four_kept).runs, strict=True):
        assert [p.name for p in pictures(here)] == [p.name for p in pictures(there)]
        assert here.evaluated_step == there.evaluated_step
        assert here.doubts == there.doubts

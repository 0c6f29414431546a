"""What is refused, or printed where nobody reads, changes no run."""

import json
import subprocess
import sys

import pytest

from elboroom import cli, runs

TRAIN = (
    "train --data.limit 60 --model.encoder.hidden [8] --model.decoder.hidden [8] --model.posterior.latent 2 "
    "--training.epochs 2 --training.threads 1"
)


@pytest.fixture
def done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run([*TRAIN.split(), "--out", "run"]) == cli.DONE
    return tmp_path / "run"


@pytest.mark.parametrize("wrong", [["--budget", "5x"], ["--data-dir", "absent"]])
def test_a_refused_resume_leaves_a_finished_run_as_it_was(done, call, wrong):
    before = {p: p.read_bytes() for p in done.rglob("*") if p.is_file()}
    result = call("resume", done, "--training.epochs", "3", *wrong)
    assert (result.code, "elboroom: " in result.err) == (cli.BAD_INPUT, True)
    assert {p: p.read_bytes() for p in done.rglob("*") if p.is_file()} == before


def test_a_resume_on_other_data_leaves_a_finished_run_as_it_was(done, call, monkeypatch):
    monkeypatch.setattr("elboroom.training.loop.Trainer._data_hashes", lambda self: {"train": "another"})
    before = {p: p.read_bytes() for p in done.rglob("*") if p.is_file()}
    result = call("resume", done, "--training.epochs", "3")
    assert result.code == cli.BAD_INPUT
    assert "other examples" in result.err
    assert {p: p.read_bytes() for p in done.rglob("*") if p.is_file()} == before


def test_a_run_that_another_process_trains_is_not_touched(done, call):
    before = {p: p.read_bytes() for p in done.rglob("*") if p.is_file()}
    with runs.locked(done):
        result = call("resume", done, "--training.epochs", "3")
    assert "trained by another process" in result.err
    assert {p: p.read_bytes() for p in done.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("command", ["resume", "sample", "doctor"])
def test_a_run_of_kept_results_is_not_trained_over(done, call, command):
    (done / "checkpoint.json").write_text("{}")
    for path in sorted((done / "checkpoints").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (done / "checkpoints").rmdir()
    result = call(command, done)
    assert result.code == cli.BAD_INPUT
    assert "`elboroom study NAME --kept RESULTS --out STUDY`" in result.err


def test_a_training_goes_on_when_its_reader_is_gone(tmp_path):
    command = [sys.executable, "-m", "elboroom", *TRAIN.split(), "--out", tmp_path / "run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    said = process.communicate(timeout=300)[1].decode()
    assert "Traceback" not in said
    assert json.loads((tmp_path / "run" / "state.json").read_text())["status"] == "done"


def test_the_speed_counts_the_examples_that_there_are(tmp_path, call):
    result = call(*TRAIN.split(), "--training.batch", "100000", "--out", tmp_path / "run")
    assert result.code == cli.DONE
    last = json.loads((tmp_path / "run" / "timing.jsonl").read_text().splitlines()[-1])
    seen = last["images_per_s"] * last["seconds"]  # which are rounded to milliseconds
    assert seen == pytest.approx(2 * 60, abs=last["images_per_s"] * 0.001)

"""Signals and budgets stop after the step, with a checkpoint; the resumed run is the run left alone."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_run import TINY

import elboroom
from elboroom import cli, runs

LONG = TINY.replace("epochs: 2", "epochs: 400")


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step(call, monkeypatch, which):
    """The signal comes while a line is logged, in the middle of a step's work."""
    Path("c.yaml").write_text(TINY)
    assert call("train", "c.yaml", "--out", "alone").code == 0
    with monkeypatch.context() as patched:
        send = iter([which])
        patched.setattr(cli.Screen, "line", lambda screen, line: [os.kill(os.getpid(), s) for s in send])
        outcome = call("train", "c.yaml", "--out", "run")
    assert outcome.code == 3
    assert f"stopped: {which.name}" in outcome.out
    assert "elboroom resume RUN" in outcome.out
    state = runs.read_state(Path("run"))
    assert (state["status"], state["step"]) == ("stopped", 2)
    assert elboroom.load("run").step == 2
    assert call("resume", "run").code == 0
    assert elboroom.load("run").checkpoint_hash == elboroom.load("alone").checkpoint_hash
    assert Path("run/metrics.jsonl").read_bytes() == Path("alone/metrics.jsonl").read_bytes()


def test_handlers_are_put_back(call):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    Path("c.yaml").write_text(TINY)
    call("train", "c.yaml", "--out", "run")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_signal_ends_at_once():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born deaf to SIGINT
    try:
        with pytest.raises(KeyboardInterrupt), cli.stopping(None) as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop() == "SIGINT"
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_budget_stops_in_time_and_can_be_resumed(call):
    Path("c.yaml").write_text(TINY)
    outcome = call("train", "c.yaml", "--budget", "0.001s", "--out", "run")
    assert outcome.code == 3
    assert "budget of 0.001s is used up" in outcome.out
    assert runs.read_state(Path("run"))["step"] == 1
    assert call("resume", "run", "--budget", "0.001s").code == 3
    assert runs.read_state(Path("run"))["step"] == 2
    assert call("resume", "run", "--budget", "5m").code == 0
    assert call("train", "c.yaml", "--out", "alone").code == 0
    assert elboroom.load("run").checkpoint_hash == elboroom.load("alone").checkpoint_hash


def test_an_evaluation_stops_in_time_and_goes_on(call, run, place):
    """One block a call at least, so that it ends; the scores are those of an evaluation left alone."""
    shutil.copytree(run, place / "alone")
    assert call("evaluate", "alone", "--samples", "300").code == 0
    outcome = call("evaluate", run, "--samples", "300", "--budget", "0.001s")
    assert outcome.code == 3
    assert "budget of 0.001s is used up" in outcome.out
    assert "the same command goes on" in outcome.out
    assert list(run.rglob("partial/nll-*.safetensors"))
    outcome = call("evaluate", run, "--samples", "300", "--budget", "5m")
    assert outcome.code == 0
    assert not list(run.rglob("partial"))
    assert (run / "scores.json").read_bytes() == (place / "alone" / "scores.json").read_bytes()
    assert "nll/bound/100 =" in outcome.out


@pytest.mark.parametrize(("text", "seconds"), [("45m", 2700), ("2h", 7200), ("90s", 90), ("90", 90), ("1.5m", 90)])
def test_durations(text, seconds):
    assert cli.seconds(text) == seconds


@pytest.mark.parametrize(("seconds", "text"), [(59.9, "00:00:59"), (3900, "01:05:00"), (2 * 86400 + 3610, "49:00:10")])
def test_time_left_counts_the_hours_of_days_too(seconds, text):
    assert cli.clock(seconds) == text


@pytest.mark.slow
def test_a_process_of_its_own_obeys_sigterm(tmp_path):
    (tmp_path / "c.yaml").write_text(LONG)
    code = "from elboroom.cli import main; main()"
    command = [sys.executable, "-c", code, "train", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    until = time.monotonic() + 60
    while not (tmp_path / "run/checkpoints/last").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.terminate()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "stopped: SIGTERM" in said
    assert runs.read_state(tmp_path / "run")["status"] == "stopped"

"""Threads, precision and its trial in a child process."""

import json
import signal
import subprocess

import pytest
import torch

from elboroom import runs
from elboroom.config import run_from
from elboroom.config.files import to_dict
from elboroom.errors import InputError, Stopped
from elboroom.models import likelihoods
from elboroom.objectives import regularizers
from elboroom.studies.execute import execute
from elboroom.training import runtime


def probe(code, text=""):
    return lambda: subprocess.CompletedProcess([], code, text, "")


@pytest.mark.parametrize(
    ("trial", "gain", "why"),
    [
        (probe(-signal.SIGILL), 0, "killed by signal 4"),
        (probe(1), 0, "failed"),
        (probe(0, "junk"), 0, "gave no time"),
        (probe(0, "nan"), 0, "gave no time"),
        (probe(0, ""), 0, "gave no time"),
        (probe(0, "0.31\n"), 0.31, "0.31 times the speed"),
        (probe(0, "1.7\n"), 1.7, "1.70 times the speed"),
    ],
)
def test_trial_of_bf16(trial, gain, why):
    found, words = runtime.bf16_gain(trial)
    assert found == gain
    assert why in words


def test_trial_that_does_not_end():
    def endless():
        raise subprocess.TimeoutExpired("python", 120)

    assert runtime.bf16_gain(endless)[0] == 0


@pytest.mark.parametrize(
    ("gain", "before", "precision"),
    [(0.0, None, "fp32"), (0.5, None, "fp32"), (1.5, None, "bf16"), (0.5, "bf16", "bf16"), (1.5, "fp32", "fp32"),
     (0.0, "bf16", "fp32")],
)  # fmt: skip
def test_precision_that_serves(monkeypatch, gain, before, precision):
    """A resumed run keeps its precision, though the trial's time falls on the other side; not where it cannot work."""
    monkeypatch.setattr(runtime, "bf16_gain", lambda: (gain, "the reason"))
    chosen = runtime.start("cpu", 1, "bf16", before=before)
    assert chosen.precision == precision
    assert bool(chosen.notes) == (precision == "fp32")
    assert all("float32 serves: the reason" in note for note in chosen.notes)


def test_bf16_run_has_densities_in_float32(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(runtime, "bf16_gain", lambda: (2.0, ""))
    seen, networks = set(), set()
    outputs = likelihoods.Likelihood.outputs

    def watched(self, z):
        self.head.register_forward_hook(lambda module, given, result: networks.add(result.dtype))
        found = outputs(self, z)
        seen.update(part.dtype for part in found)
        return found

    monkeypatch.setattr(likelihoods.Likelihood, "outputs", watched)
    execute(tiny(precision="bf16"), tmp_path / "run")
    assert seen == {torch.float32}
    assert torch.bfloat16 in networks
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["precision"] == "bf16"


def test_objectives_of_a_bf16_run_are_computed_in_float32(tmp_path, tiny, monkeypatch):
    """Their products of codes with codes would else lose what the densities have kept (trap 12)."""
    monkeypatch.setattr(runtime, "bf16_gain", lambda: (2.0, ""))
    seen = set()
    dip = regularizers.dip

    def watched(draw, **settings):
        terms = dip(draw, **settings)
        seen.update((torch.is_autocast_enabled("cpu"), value.dtype) for value in terms.batch.values())
        return terms

    monkeypatch.setattr(regularizers, "dip", watched)
    content = to_dict(tiny(precision="bf16"))
    execute(run_from(content | {"objective": {"kind": "dip"}}), tmp_path / "run")
    assert seen == {(False, torch.float32)}


def test_fallen_back_run_says_so_and_trains(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(runtime, "bf16_gain", lambda: (0.0, "its trial in a child process was killed by signal 4"))
    said = []
    execute(tiny(precision="bf16"), tmp_path / "run", say=said.append)
    assert "killed by signal 4" in said[0]
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["precision"] == "fp32"
    assert environment["notes"] == said


def test_trap_11_9_threads_are_recorded_and_kept(tmp_path, tiny):
    content = to_dict(tiny())
    content["training"]["threads"] = None
    config, threads = run_from(content), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(Stopped):
            execute(config, tmp_path / "run", stop=lambda: "now")
        torch.set_num_threads(1)
        execute(config, tmp_path / "run", resume=True)
        assert torch.get_num_threads() == 2
        assert runs.read_environment(tmp_path / "run")["threads"] == 2
    finally:
        torch.set_num_threads(threads)


def test_scores_are_had_without_the_device_of_the_training(monkeypatch):
    assert [runtime.scoring_device(d) for d in ("cpu", "cuda:99")] == ["cpu"] * 2
    monkeypatch.setattr(runtime, "find_device", lambda name: torch.device("cuda:1"))
    assert runtime.scoring_device("auto") == "cuda:1"


def test_float32_is_not_tf32(monkeypatch, tmp_path, tiny):
    execute(tiny(), tmp_path / "run")
    for open_one in (lambda: runtime.start("cpu"), lambda: runs.load(tmp_path / "run")):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
        open_one()
        assert not torch.backends.cudnn.allow_tf32


def test_deterministic_concerns_cuda_alone():
    runtime.start("cpu", deterministic=True)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "xyz:0", ""])
def test_unknown_device(device):
    with pytest.raises(InputError, match=r"cannot be used here: .* Choose auto, cpu or cuda"):
        runtime.start(device)


@pytest.mark.slow
def test_real_trial_of_bf16_ends_with_a_number_or_a_reason():
    gain, why = runtime.bf16_gain()
    assert gain >= 0
    assert "trial" in why

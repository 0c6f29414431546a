"""A run that is killed at any moment, and resumed, is the run left alone: byte for byte."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("kill_driver.py")

EVERYTHING = {
    "data": {"name": "digits", "binarize": "dynamic", "limit": 150},
    "model": {
        "encoder": {"kind": "mlp", "hidden": [8]},
        "decoder": {"kind": "mlp", "hidden": [8]},
        "posterior": {"kind": "gaussian", "latent": 3, "clip": 3.0},
    },
    "objective": {"kind": "elbo", "samples": 5},
    "companion": {"kind": "classifier", "hidden": [8]},
    "training": {
        "epochs": 4,
        "batch": 32,  # five steps an epoch
        "log_every": 3,
        "checkpoint_every": 4,
        "keep_epochs": [1, 3],
        "average": 0.99,
        "warmup": 4,
        "clip_norm": 1.0,
        "schedule": {"kind": "exponential", "decay": 0.99},
        "threads": 1,
    },
}
CONV = {
    "data": {"name": "digits", "limit": 100},
    "model": {
        "encoder": {"kind": "conv", "channels": [4, 4]},
        "decoder": {"kind": "conv", "channels": [4, 4]},
        "posterior": {"kind": "gaussian", "latent": 2},
        "likelihood": {"kind": "gaussian"},
    },
    "training": {"epochs": 2, "batch": 32, "checkpoint_every": 3, "threads": 1},
}
COMPILED = {**CONV, "model": EVERYTHING["model"], "training": {**CONV["training"], "compile": True}}
COMPILED["model"] = {**EVERYTHING["model"], "likelihood": {"kind": "gaussian"}}


def outcome(folder, orders):
    """The driver's reports on some orders."""
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(folder)],
        input=json.dumps(orders),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(result, kills):
    """Every order ended as the run left alone; at least so many kills hit."""
    for report in result["reports"]:
        assert not report["errors"], report["errors"][0]
        assert report["status"] == "done"
        assert report["different"] == [], f"killed at {report['order']}"
        assert report["files"] > 5
    assert sum(report["killed"] for report in result["reports"]) >= kills


def at(config, *moments):
    return {"config": config, "kills": list(moments)}


def test_killed_anywhere_and_resumed(tmp_path):
    """The first moments (before the first checkpoint) one by one, then moments through the run, then often."""
    chance = random.Random(0)
    orders = [at(EVERYTHING, n) for n in (1, 2, 3, 6, 9, 12)]
    orders += [at(EVERYTHING, chance.random()) for _ in range(20)]
    orders.append(at(EVERYTHING, *[chance.randint(20, 80) for _ in range(12)]))
    orders.append({"config": EVERYTHING, "seconds": [chance.random() for _ in range(3)]})
    check(outcome(tmp_path, orders), kills=30)


def test_killed_before_the_first_checkpoint_it_begins_with_the_same_weights(tmp_path):
    begun = {**EVERYTHING, "training": {**EVERYTHING["training"], "init": "data-dependent"}}
    moments = [5 * n for n in range(1, 7)]
    check(outcome(tmp_path, [at(begun, n) for n in moments]), kills=len(moments))


def test_conv_run_keeps_the_memory_layout_of_its_moments(tmp_path):
    check(outcome(tmp_path, [at(CONV, 0.3, 0.4), at(CONV, 0.7), at(CONV, 0.97)]), kills=3)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["wake-sleep", "monte-carlo-em"])
def test_dreams_and_chains_go_on_after_a_kill(tmp_path, objective):
    """Three updates with each batch; the chains' places and step size are among the files that must not differ."""
    config = {**EVERYTHING, "objective": {"kind": objective}, "training": {**EVERYTHING["training"], "updates": 3}}
    if objective == "monte-carlo-em":  # has no codes for a classifier
        del config["companion"]
    check(outcome(tmp_path, [at(config, 2, 9), at(config, 0.3, 0.4, 0.5), at(config, 0.95)]), kills=5)


@pytest.mark.slow
def test_killed_at_each_moment_and_resumed(tmp_path):
    """Every system call, every half of a write, every step."""
    count = outcome(tmp_path / "count", [at(EVERYTHING, 1)])["moments"][0]
    check(outcome(tmp_path / "all", [at(EVERYTHING, n) for n in range(1, count + 1)]), kills=count)


@pytest.mark.compiled
@pytest.mark.slow
def test_compiled_run_resumes_bit_for_bit(tmp_path):
    outcome(tmp_path / "warm", [at(COMPILED, 1)])  # else compiling makes moments that the killed runs do not have
    check(outcome(tmp_path, [at(COMPILED, 0.5), at(COMPILED, 0.8)]), kills=2)

"""Metrics along a training, and runs whose encoder was not trained, from their folders."""

import json

import pytest

from elboroom import runs
from elboroom.cli import Doctor
from elboroom.config import run_from
from elboroom.config.files import metrics_from
from elboroom.errors import InputError, Stopped
from elboroom.evaluation import along, evaluate
from elboroom.report import report
from elboroom.studies.execute import execute
from elboroom.training.checkpoint import unpack

SMALL = {
    "data": {"name": "digits", "binarize": "dynamic", "limit": 64},
    "model": {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}, "posterior": {"latent": 2}},
    "training": {"epochs": 3, "batch": 32, "threads": 1, "keep_epochs": [1]},
}
BRACKETS = "{kind: marginal, images: 5, samples: 6, burn_in: 4}"
BOTH = metrics_from(f"[{BRACKETS}, {BRACKETS.replace('images', 'split: train, images')}]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run by the ELBO, with the checkpoints of epochs 1 and 3 (the last)."""
    where = tmp_path_factory.mktemp("along") / "run"
    execute(run_from(SMALL), where)
    return where


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A run by Monte Carlo EM."""
    where = tmp_path_factory.mktemp("along") / "em"
    execute(run_from({**SMALL, "objective": {"kind": "monte-carlo-em", "leapfrog": 2, "burn_in": 2}}), where)
    return where


def test_a_line_for_each_checkpoint_and_split(folder):
    run, said = runs.load(folder), []
    lines = along(run, BOTH, say=said.append)
    steps = run.store.steps()
    assert [(line["step"], line["epoch"], line["split"]) for line in lines] == [
        (step, step // 2, split) for step in steps for split in ("test", "train")
    ]
    assert len(said) == len(steps) >= 2
    assert lines == [json.loads(line) for line in (folder / "along.jsonl").read_text().splitlines()]
    assert lines[0]["nll/bracket/low"] != lines[2]["nll/bracket/low"]
    assert {"nll/bracket/low", "nll/bracket/high"} <= lines[0]["stderr"].keys()
    assert along(run, BOTH, say=said.append) == lines
    assert len(said) == len(steps)  # nothing was measured again
    scores = {(s.name, s.protocol.split): s.value for s in evaluate(run, samples=None, metrics=BOTH)}
    mine = next(line for line in lines if line["step"] == run.step and line["split"] == "train")
    assert mine["nll/bracket/low"] == scores["nll/bracket/low", "train"]


def test_interrupted_it_goes_on(folder):
    run, count = runs.load(folder), []
    metrics = metrics_from(BRACKETS.join("[]"))

    def stop(what, done, total):
        count.append(done)
        if len(count) == 2:
            raise Stopped("here")

    with pytest.raises(Stopped):
        along(run, metrics, progress=stop)
    said = []
    lines = along(run, metrics, say=said.append)
    assert len(said) == len(run.store.steps()) - 1
    assert [line["step"] for line in lines] == run.store.steps()


def test_without_a_trained_encoder_the_rest_is_evaluated(untrained):
    run, said = runs.load(untrained), []
    scores = evaluate(run, samples=10, metrics=[*BOTH, *metrics_from("pictures, knn")], say=said.append)
    assert {s.name.split("/")[0] for s in scores} == {"nll"}
    assert {s.protocol.trained for s in scores} == {"no bound (monte-carlo-em); the encoder was not trained"}
    assert any(line.startswith("bounds, codes and NLL by importance sampling: left out") for line in said)
    assert any(line.startswith("knn: skipped") for line in said)
    pictures = unpack((run.evaluation / "pictures.safetensors").read_bytes())
    assert {name: tuple(t.shape) for name, t in pictures.items()} == {
        "samples-1": (64, 1, 8, 8),
        "manifold": (20, 20, 1, 8, 8),
    }
    assert not (run.evaluation / "codes-test.safetensors").exists()
    assert run.sample(2).shape == (2, 1, 8, 8)
    for refused in (run.encode, run.reconstruct, run.log_likelihood):
        with pytest.raises(InputError, match="does not train the encoder"):
            refused(run.images("test", 2))
    with pytest.raises(InputError, match="does not train the encoder"):
        Doctor(untrained)()


def test_the_page_says_that_the_encoder_is_not_trained(untrained, tmp_path):
    evaluate(runs.load(untrained), samples=None, metrics=BOTH)
    page = report([untrained], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "no bound on log p(x), the encoder is not trained" in page
    assert "NLL from below" in page

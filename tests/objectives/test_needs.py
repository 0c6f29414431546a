"""What objectives ask of a draw, and that training and monitors give it."""

import json

import pytest
import torch
from oracles.configurations import kinds, small_run

from elboroom import build
from elboroom.config import run_from
from elboroom.config.objectives import Objective
from elboroom.objectives import ask
from elboroom.objectives.needs import NEEDS
from elboroom.records import Asked
from elboroom.studies.execute import execute

ASKING = {
    "elbo": {"warmup": {"kind": "linear", "steps": 20}},
    "importance-weighted": {"gradient": "doubly-reparameterized", "samples": 3},
    "mutual-divergence": {"free_bits": 2.0},
}


@pytest.mark.parametrize("kind", kinds(Objective))
def test_an_objective_is_given_what_it_needs_and_nothing_else(kind):
    run = small_run(objective=kind)
    objective, model = build.objective(run), build.model(run, (1, 8, 8), "binary")
    assert objective.needs <= set(NEEDS)
    noise = model.noise(torch.Generator(), 2, 5)
    x = torch.ones(5, 1, 8, 8)
    draw = model(x, noise, ask(objective, model, torch.Generator(), noise, 100, step=3, x=x))
    assert {name for name in NEEDS if getattr(draw, name) is not None} == objective.needs
    if "prior_z" in objective.needs:
        assert draw.prior_z.shape == (10, 2)
    if "dream" in objective.needs:
        assert draw.dream.shape == (5,)
    if "sampled" in objective.needs:
        assert (draw.z.shape, draw.base, draw.log_qz) == ((2, 5, 2), None, None)


def test_a_bare_function_asks_for_nothing():
    run = small_run()
    model = build.model(run, (1, 8, 8), "binary")
    assert ask(lambda draw: None, model, torch.Generator(), torch.zeros(1, 1, 2), 100, 3) == Asked()


def trained(tmp_path, kind: str, name: str = "run") -> list[dict]:
    content = {"data": {"name": "digits", "binarize": "dynamic", "valid": 200}, "training": {"epochs": 1}}
    content["model"] = {"encoder": {"hidden": [16]}, "decoder": {"hidden": [16]}, "posterior": {"latent": 4}}
    content["objective"] = {"kind": kind, **ASKING.get(kind, {})}
    content["training"] |= {"log_every": 10, "device": "cpu", "batch": 100}
    execute(run_from(content), tmp_path / name)
    return [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", kinds(Objective))
def test_a_run_on_digits_learns(tmp_path, kind):
    """One epoch of `elboroom train`, through the loop, the meter and the monitor."""
    lines = trained(tmp_path, kind)
    losses = {s: [line["loss"] for line in lines if line.get("split") == s] for s in ("train", "valid")}
    assert len(losses["train"]) >= 2
    assert len(losses["valid"]) == 1
    distortions = [line["distortion"] for line in lines if line.get("split") == "train"]
    assert distortions[-1] < distortions[0]


def test_prior_samples_are_a_function_of_the_seed_and_the_step(tmp_path):
    first, again = (trained(tmp_path, "mmd", name) for name in ("a", "b"))
    assert [line["mmd"] for line in first if "mmd" in line] == [line["mmd"] for line in again if "mmd" in line]


@pytest.mark.compiled
def test_a_moving_weight_does_not_compile_anew():
    run = run_from({"objective": {"kind": "elbo", "warmup": {"kind": "cyclic", "period": 4}}})
    objective, model = build.objective(run), build.model(run, (1, 8, 8), "binary")
    x, noise, seen = torch.ones(3, 1, 8, 8), model.noise(torch.Generator(), 1, 3), []

    def count(graph: object, inputs: object) -> object:
        seen.append(graph)
        return graph.forward

    whole = torch.compile(lambda *given: objective(model(*given)).loss, backend=count, fullgraph=True)
    for step in range(4):
        asked = ask(objective, model, torch.Generator(), noise, 100, step)
        torch.testing.assert_close(whole(x, noise, asked), objective(model(x, noise, asked)).loss)
    assert len(seen) == 1

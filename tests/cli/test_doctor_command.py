"""`elboroom doctor`: a few lines, a file, and an exit code that may say more."""

import json
from pathlib import Path

import pytest


def test_a_verdict_in_words_and_as_json(call, run):
    outcome = call("doctor", run, "--out", "verdict.json")
    assert outcome.code == 0, outcome.err
    content = json.loads(Path("verdict.json").read_text())
    first = outcome.out.splitlines()[0]
    assert first == f"run, step-4: {content['verdict']}"
    assert all(f["title"] in outcome.out and f["says"].split()[0] in outcome.out for f in content["findings"])
    (kept,) = run.rglob("doctor.json")
    assert kept.read_bytes() == Path("verdict.json").read_bytes()
    assert kept.parent.name == content["checkpoint"]
    assert call("doctor", run).out == outcome.out


def test_strict_fails_on_an_alarm_alone(call, run):
    """Four steps on 64 images: no code has formed."""
    assert call("doctor", run).out.startswith("run, step-4: collapsed\n")
    assert call("doctor", run, "--strict").code == 1
    call("train", "--objective.kind", "reconstruction", "--model.posterior.kind", "point", "--out", "ae",
         "--training.epochs", "3")  # fmt: skip
    outcome = call("doctor", "ae", "--strict")
    assert (outcome.code, outcome.out.split(": ")[1]) == (0, "healthy, with remarks")


def test_the_first_command_that_it_gives_can_be_typed(call, run):
    said = call("doctor", run).out
    command = next(line.strip() for line in said.splitlines() if line.startswith("    elboroom train"))
    outcome = call(*command.split()[1:], "--training.epochs", "1")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("doctor", "nowhere"), "no run folder"), (("doctor", "run", "--out", "no/where.json"), "no such folder"),
     (("doctor", "run", "--out", "run"), "run: is a folder. Name a file in it"),
     (("doctor", "run", "--checkpoint", "step-7"), "step-7: no whole checkpoint")],
)  # fmt: skip
def test_bad_input(call, run, arguments, words):
    outcome = call(*arguments)
    assert outcome.code == 2
    assert words in outcome.err

"""The README's commands and its Python run as they stand.

Two things differ, so that it takes seconds: studies run at their smoke scale, and trainings for one epoch.
"""

import re
import shlex
from pathlib import Path

import pytest
from oracles.small_data import write_images

from elboroom import InputError, cli

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for kind, block in BLOCKS if not kind for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("elboroom ")]


def quick(command: list[str]) -> list[str]:
    if command[0] == "study":
        named = [w for i, w in enumerate(command) if "--data-dir" not in (w, command[i - 1])]
        return [*named, "--scale", "smoke"]
    return [*command, "--training.epochs", "1"] if command[0] == "train" else command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's folder, with 60 images of their own in folders named after their class."""
    place = tmp_path_factory.mktemp("newcomer")
    write_images(place)
    return place


def test_commands_of_the_readme_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = commands()
    assert len(found) >= 8
    for command in found:
        assert cli.run(quick(command)) == cli.DONE, command
    for name in ("codes.csv", "samples.png", "runs/mine/report.html"):
        assert (folder / name).stat().st_size > 0


def test_python_of_the_readme_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    if not (folder / "runs/demo").exists():
        cli.run(["study", "demo", "--scale", "smoke", "--out", "runs/demo"])
    names: dict = {}
    for kind, block in BLOCKS:
        if kind == "python":
            exec(block, names)
    assert names["z"].shape == (16, 10)
    assert names["again"].shape == (16, 1, 8, 8)
    assert names["new"].shape == (64, 1, 8, 8)
    assert names["nats"].shape == (16,)
    assert sum(p.numel() for p in names["model"].parameters()) == 815_824  # SPEC 2.4, z = 20


def test_the_error_message_of_the_readme_is_the_real_one():
    block = next(b for _, b in BLOCKS if b.startswith("$ elboroom"))
    command, message = block.split("\n", 1)
    with pytest.raises(InputError) as error:
        cli.run([*shlex.split(command)[2:], "--data.name", "digits"])
    said = " ".join(message.removeprefix("elboroom: ").split())
    assert str(error.value) == said.replace("mnist", "digits").replace("256 grey levels", "17 grey levels")

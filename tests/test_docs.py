"""The documentation is true: its commands, its Python and its configurations run as they stand, and print what it says.

Trainings take one epoch and studies are only planned, so that it takes seconds; `make test-all` also runs the study at
the scale that its page calls a rehearsal.
"""

import contextlib
import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from elboroom import InputError, cli
from elboroom.config import catalogue, run_from
from elboroom.config.files import study_from

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [p for p in sorted(DOCS.rglob("*.md")) if "```" in p.read_text(encoding="utf-8")]
BLOCK = re.compile(r"^```([^`\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, content) of a page's code blocks, in order."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def quick(command: list[str]) -> list[str]:
    if command[0] == "study":
        return [*command, *["--dry-run"] * ("--dry-run" not in command)]
    if command[0] == "train":
        return [*command, "--training.epochs", "1"]
    if command[0] == "resume":
        return [*command, "--training.epochs", "2"]
    return [*command, "--samples", "2"] if command[0] == "evaluate" else command


def run_commands(block: str) -> None:
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("elboroom "):
            command = quick(shlex.split(line)[1:])
            assert cli.run(command) == cli.DONE, line


def check_console(block: str) -> None:
    """A command that is refused, with its message."""
    command, message = block.split("\n", 1)
    with pytest.raises(InputError) as error:
        cli.run(shlex.split(command)[2:])
    assert str(error.value) == " ".join(message.removeprefix("elboroom: ").split())


def written_files(page: Path) -> Iterator[tuple[str, str]]:
    """Files that a page tells its reader to write: ``As `name.yaml```, then a block."""
    text = page.read_text(encoding="utf-8")
    yield from re.findall(r"[Aa]s\s`([\w-]+\.(?:yaml|py))`[^`]*?```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of someone who follows the documentation, with some images, and the first run of Getting started."""
    place = tmp_path_factory.mktemp("reader")
    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images[:60], digits.target[:60], strict=True)):
        path = place / "my-images" / f"class-{label}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype("uint8")).save(path)
    with contextlib.chdir(place):
        run_commands("elboroom train --out runs/first\n")
    return place


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_examples_run(page, reader, tmp_path, monkeypatch):
    own = page.name == "getting-started.md"  # which trains the first run itself
    place = tmp_path if own else reader
    if own:
        (tmp_path / "my-images").symlink_to(reader / "my-images")
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    for name, content in written_files(page):
        Path(name).write_text(content, encoding="utf-8")
    names: dict = {"__name__": "docs"}
    printed = ""
    for language, block in blocks(page):
        if language == "python":
            shown = io.StringIO()
            with contextlib.redirect_stdout(shown):
                exec(compile(block, str(page), "exec"), names)
            printed = shown.getvalue()
        elif language == "text":
            assert printed == block
        elif language == "sh":
            run_commands(block)
        elif language == "console":
            check_console(block)
        elif language == "yaml":
            content = yaml.safe_load(block)
            (study_from if "variants" in content else run_from)(content, str(page))


@pytest.mark.slow
def test_the_study_of_getting_started_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ((name, content),) = written_files(DOCS / "getting-started.md")
    Path(name).write_text(content, encoding="utf-8")
    assert cli.run(["study", name, "--scale", "smoke"]) == cli.DONE
    assert Path("runs/objectives-smoke/report.html").stat().st_size > 0


def test_a_part_of_ones_own_trains(reader, monkeypatch):
    page = DOCS / "adding-a-part.md"
    monkeypatch.chdir(reader)
    monkeypatch.syspath_prepend(reader)
    for name, content in written_files(page):
        Path(name).write_text(content, encoding="utf-8")
    config = next(block for language, block in blocks(page) if language == "yaml")
    Path("own.yaml").write_text(config, encoding="utf-8")
    assert cli.run(quick(["train", "own.yaml", "--out", "runs/own"])) == cli.DONE


@pytest.mark.parametrize("name", ["parts", "fields"])
def test_generated_pages_are_those_of_the_classes(name):
    page = DOCS / f"{name}.md"
    made = {"parts": catalogue.parts_page, "fields": catalogue.fields_page}[name]()
    assert page.read_text(encoding="utf-8") == made, f"{page}: `python -m elboroom.config.catalogue` writes it anew"


def test_every_choice_is_in_the_catalogue():
    from elboroom.config import models, objectives, training

    seams = list(catalogue.SEAMS.values())
    for module in (models, objectives, training):
        chosen = [v for v in vars(module).values() if "BeforeValidator" in repr(v) and "Tag" in repr(v)]
        assert all(any(v is seam for seam in seams) for v in chosen)


def test_the_page_of_the_run_folder_names_every_file_and_field(reader):
    said = (DOCS / "run-folder.md").read_text(encoding="utf-8")
    with contextlib.chdir(reader):
        options = "--companion classifier --training.average 0.9 --training.lr_search.steps 2 --model.posterior.clip 3"
        run_commands(f"elboroom train {options} --out runs/all\nelboroom evaluate runs/all\n")
        files = [p for p in Path("runs/all").rglob("*") if p.is_file()]
        states = [json.loads(p.read_text()) for p in files if p.name == "state.json"]
    assert len(states) == 2
    for name in {p.name.removesuffix(".safetensors") for p in files}:
        assert name in said, f"the run folder's page does not name the file {name}"
    for key in {key for state in states for key in (*state, *state.get("values", ()))} - {
        "optimizer",
        "companion-optimizer",
    }:
        assert f"`{key}`" in said or re.search(rf"[{{ ]{key}[,:}}]", said), (
            f"the run folder's page lacks the field {key}"
        )


def test_links_between_pages_lead_somewhere():
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"

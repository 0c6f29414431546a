"""The documentation is true: its commands, its Python and its configurations run as they stand, and print what it says.

Trainings take one epoch and studies are only planned, so that it takes seconds; `make test-all` also runs the study at
the scale that its page calls a rehearsal.
"""

import contextlib
import dataclasses
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from oracles.configurations import classes
from oracles.small_data import write_images

from elboroom import InputError, cli
from elboroom.config import catalogue, run_from
from elboroom.config.base import kind_of
from elboroom.config.files import study_from
from elboroom.data import CATALOG

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
    write_images(place)
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


PLACE = re.compile(r"<!-- built: ([\w-]+) -->(.*?)<!-- /built -->", re.DOTALL)  # filled by docs/conf.py
TARGETS = set(re.findall(r"^\(([\w-]+)\)=$", catalogue.parts_page(), re.MULTILINE))


def test_each_generated_part_has_one_place_with_a_stub():
    found = [place for page in DOCS.rglob("*.md") for place in PLACE.findall(page.read_text(encoding="utf-8"))]
    assert sorted(name for name, _ in found) == sorted([*catalogue.PAGES, "commands", "data-sets"])
    assert all("make docs" in stub for _, stub in found)


@pytest.mark.parametrize("seam", catalogue.SEAMS)
def test_every_kind_has_its_section_and_every_field_its_line(seam):
    page = catalogue.parts_page()
    for cls in classes(catalogue.SEAMS[seam]):
        section = page.split(f"({seam}-{kind_of(cls)})=\n### {kind_of(cls)}\n\n")[1].split("\n#")[0]
        assert " ".join(cls.__doc__.split()).split("``")[0] in section
        fields = [f for f in dataclasses.fields(cls) if f.name != "kind"]
        assert all(f"| `{field.name}` |" in section for field in fields)
        assert "- Builds " in section


def test_every_field_of_a_run_and_a_study_has_its_line():
    page = catalogue.fields_page()
    for name, cls in catalogue.FIELDS.items():
        section = page.split(f"## {name}\n")[1].split("\n## ")[0]
        assert all(f"| `{field.name}` |" in section for field in dataclasses.fields(cls))


def test_what_a_class_inherits_is_explained_too():
    section = catalogue.parts_page().split("(metric-knn)=")[1].split("\n(")[0]
    (row,) = (line for line in section.splitlines() if line.startswith("| `thresholded` |"))
    assert "pixels are 1 above 0.5" in row


def test_the_reference_has_what_parts_are_built_from():
    pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    modules = set(re.findall(r"automodule:: (elboroom\S*)", pages))
    named = set(re.findall(r"py:obj}`~(elboroom\.[\w.]+)\.\w+`", catalogue.parts_page()))
    assert named - modules - {"elboroom.objectives"} == set()


def test_links_to_parts_lead_to_their_sections():
    pages = {page.name: page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md")}
    made = {name: write() for name, write in catalogue.PAGES.items()}
    for name, text in (pages | made).items():
        links = set(re.findall(r"\]\(#([\w-]+)\)", text))
        assert links <= TARGETS, f"{name}: no section for {sorted(links - TARGETS)}"


def test_every_choice_is_in_the_catalogue():
    from elboroom.config import metrics, models, objectives, training

    seams = list(catalogue.SEAMS.values())
    for module in (metrics, models, objectives, training):
        chosen = [v for v in vars(module).values() if "BeforeValidator" in repr(v) and "Tag" in repr(v)]
        assert all(any(v is seam for seam in seams) for v in chosen)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_has_every_part(tmp_path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-d", tmp_path / "trees"]
    subprocess.run([*command, "-b", "html", DOCS, tmp_path / "site"], check=True, timeout=600)
    parts = (tmp_path / "site" / "parts.html").read_text(encoding="utf-8")
    assert {target for target in TARGETS if f'id="{target}"' not in parts} == set()
    commands = (tmp_path / "site" / "commands.html").read_text(encoding="utf-8")
    assert all(f'id="{command.__name__.lower()}"' in commands for command in cli.COMMANDS)
    assert "--checkpoint" in commands
    data_sets = (tmp_path / "site" / "data.html").read_text(encoding="utf-8")
    assert all(f">{name}</span>" in data_sets for name in CATALOG)


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


def test_docstrings_cite_what_a_reader_can_find():
    """Papers, not the notes that the code was written from."""
    for path in Path(catalogue.__file__).parents[1].rglob("*.py"):
        assert not re.search(r"\bSPEC\b", path.read_text(encoding="utf-8")), path


def test_links_between_pages_lead_somewhere():
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"

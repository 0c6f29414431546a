"""The command line inside of this process: quick, with its exit code, output and errors."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from elboroom import cli

TINY = """
data: {name: digits, binarize: dynamic, limit: 64}
model:
  encoder: {kind: mlp, hidden: [8]}
  decoder: {kind: mlp, hidden: [8]}
  posterior: {kind: gaussian, latent: 2}
companion: {kind: classifier, hidden: [8]}
training: {epochs: 2, batch: 32, threads: 1}
"""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def call(capsys, monkeypatch):
    """`call("train", "x.yaml")` as the console script would; an exception that is none of ours goes through."""

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["elboroom", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Outcome(ended.value.code or 0, said.out, said.err)

    return called


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch):
    """Commands run in an empty folder, know no data but `digits`, and find user_part.py."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ELBOROOM_DATA", str(tmp_path / "data"))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished run, not to be changed."""
    from elboroom.config import run_from
    from elboroom.config.files import parse_yaml
    from elboroom.studies.execute import execute

    folder = tmp_path_factory.mktemp("finished") / "run"
    execute(run_from(parse_yaml(TINY, "here")), folder)
    return folder


@pytest.fixture
def run(finished, place):
    """A copy of a finished run, at ./run."""
    import shutil

    shutil.copytree(finished, place / "run")
    return Path("run")

"""A module imports from its own folder or from lines above it in the listing; help does not wait for torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import elboroom

ROOT = Path(elboroom.__file__).parent
ORDER = (
    *("errors", "numerics", "scores", "config", "records", "data", "distributions", "networks", "models"),
    *("objectives", "build", "training", "runs", "evaluation", "studies", "output", "report", "cli", "__main__"),
)
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
ALLOWED_TO_REPORT = {"errors", "scores", "records", "config", "report"}
HEAVY = {"torch", "numpy", "scipy", "sklearn", "matplotlib", "safetensors", "jaxtyping"}


def own_line(module: Path) -> str:
    """The line of the listing that a file belongs to."""
    return module.parts[0].removesuffix(".py")


def imported(module: Path) -> set[str]:
    """Dotted names of all that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import; write it out, so that its line can be seen"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def lines_of(module: Path) -> set[str]:
    """Which lines of the listing a file imports from."""
    ours = {name.split(".")[1] for name in imported(module) if name.startswith("elboroom.")}
    return ours & set(ORDER) | {name for name in ours if (ROOT / name).exists() or (ROOT / f"{name}.py").exists()}


def test_every_module_has_a_line():
    assert {own_line(module) for module in MODULES} <= set(ORDER)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_come_from_above(module):
    line = ORDER.index(own_line(module))
    below = {other for other in lines_of(module) if ORDER.index(other) > line}
    assert not below, f"{module} imports from below: {sorted(below)}"


def test_the_reader_of_imports_sees_them_all():
    assert {"config", "data", "models", "networks", "errors"} <= lines_of(Path("build.py"))
    assert "runs" in lines_of(Path("cli.py"))  # inside of a function


@pytest.mark.parametrize("module", [m for m in MODULES if own_line(m) == "report"], ids=str)
def test_the_report_needs_no_model(module):
    assert lines_of(module) <= ALLOWED_TO_REPORT
    assert not {name for name in imported(module) if name.split(".")[0] == "torch"}


@pytest.mark.parametrize("module", [m for m in MODULES if own_line(m) in ("errors", "scores", "config")], ids=str)
def test_configuration_and_scores_are_light(module):
    assert not {name for name in imported(module) if name.split(".")[0] in HEAVY}
    assert lines_of(module) <= {"errors", "scores", "config"}


def run_python(code: str) -> str:
    """The output of a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_package_runs_as_its_command():
    told = subprocess.run([sys.executable, "-m", "elboroom", "--help"], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0
    assert told.stdout.startswith("usage: elboroom ")


LOADED = "print('LOADED', sorted({'torch', 'sklearn', 'matplotlib'} & set(sys.modules)))"
HELP = (
    """
import sys
from elboroom import cli
sys.argv = ["elboroom", *ARGUMENTS]
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
"""
    + LOADED
)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]], ids=" ".join)
def test_help_does_not_import_torch(arguments):
    out = run_python(HELP.replace("ARGUMENTS", repr(arguments)))
    assert "usage" in out
    assert "LOADED []" in out


def test_configuration_does_not_import_torch():
    assert run_python(f"import sys, elboroom.config, elboroom.scores\n{LOADED}").strip() == "LOADED []"

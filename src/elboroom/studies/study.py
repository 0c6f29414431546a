"""A study: a grid of runs that skips what is done and goes on where it stopped."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from elboroom import runs
from elboroom.config import Run as RunConfig
from elboroom.config import Study, load_run, load_study
from elboroom.config.files import apply_options, merged, nested, run_from, study_from, to_yaml
from elboroom.config.run import to_dict
from elboroom.errors import Diverged, InputError, unknown
from elboroom.evaluation import evaluate
from elboroom.studies.execute import Report, execute
from elboroom.training.checkpoint import replace_text

FORMAT = 1


@dataclass
class Planned:
    """One run of a study, and what became of it."""

    variant: str
    axes: dict[str, Any]
    config: RunConfig
    folder: Path
    status: str = "missing"
    error: str | None = None


def recipes() -> dict[str, str]:
    """The built-in studies: name -> description."""
    files = resources.files("elboroom.studies").joinpath("recipes").iterdir()
    found = {f.name.removesuffix(".yaml"): yaml.safe_load(f.read_text()) for f in files if f.name.endswith(".yaml")}
    return {name: content.get("description", "") for name, content in sorted(found.items())}


def find(name: str) -> Study:
    """A study by the path of its YAML file, or by the name of a recipe."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return load_study(Path(name))
    if name not in recipes():
        raise unknown("recipe", name, recipes())
    with resources.as_file(resources.files("elboroom.studies") / "recipes" / f"{name}.yaml") as path:
        return load_study(path)


def scaled(study: Study, scale: str | None) -> Study:
    """The study at one of its scales: base, axes and metrics as the scale changes them."""
    if scale is None:
        return study
    if scale not in study.scales:
        raise unknown(f"scale of study '{study.name}'", scale, study.scales or ["none: leave --scale out"])
    change = study.scales[scale]
    content = to_dict(study) | {"base": merged(study.base, change.get("base", {})), "scales": {}}
    content["axes"] = {**study.axes, **change.get("axes", {})}
    content["metrics"] = merged(content["metrics"], change.get("metrics", {}))
    return study_from(content, f"study '{study.name}', scale '{scale}'")


def plan(study: Study, out: Path, *, options: tuple[str, ...] = ()) -> list[Planned]:
    """Every run of the grid, validated. Precedence: base (with its scale), variant, axis, command line."""
    planned = []
    for variant, change in study.variants.items():
        for values in itertools.product(*study.axes.values()):
            point = dict(zip(study.axes, values, strict=True))
            content = {"name": variant, **merged(study.base, change)}
            for axis, value in point.items():
                content = merged(content, nested(axis, value))
            config = run_from(apply_options(content, options), f"study '{study.name}', variant '{variant}'")
            planned.append(Planned(variant, point, config, _folder(out, variant, point)))
    return planned


def _folder(out: Path, variant: str, point: dict[str, Any]) -> Path:
    """<variant>/<axis values>/seed-N."""
    others = [str(value).replace("/", "_") for axis, value in point.items() if axis != "seed"]
    return out.joinpath(variant, *others, f"seed-{point.get('seed', 0)}")


def look(run: Planned) -> None:
    """Set a planned run's status from its folder; InputError where the folder holds another configuration."""
    if not (run.folder / "config.yaml").exists():
        return
    if load_run(run.folder / "config.yaml").hash != run.config.hash:
        raise InputError(
            f"{run.folder}: holds a run of another configuration. Choose another folder (--out), or remove it."
        )
    state = runs.read_state(run.folder)
    run.status = state["status"]
    if run.status == "diverged":
        run.error = f"diverged at step {state['at']:,}: {state['term']} is not finite"


def carry_out(
    study: Study,
    out: Path,
    planned: list[Planned],
    *,
    samples: int | None,
    images: int | None = None,
    stop: Callable[[], str | None] = lambda: None,
    report: Callable[[Planned], Report] = lambda run: lambda line: None,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Train what is missing, evaluate what is trained. A run that fails or diverges is recorded, and the rest goes on.

    Raises Stopped when a signal or the budget ended it; everything so far is kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    for run in planned:
        look(run)
    record(study, out, planned)
    for number, run in enumerate(planned, 1):
        label = f"[{number}/{len(planned)}] {run.folder.relative_to(out)}"
        try:
            _one(run, label, samples, images, stop, report, say)
        finally:
            record(study, out, planned)


def _one(
    run: Planned,
    label: str,
    samples: int | None,
    images: int | None,
    stop: Callable[[], str | None],
    report: Callable[[Planned], Report],
    say: Callable[[str], None],
) -> None:
    try:
        if run.status not in ("done", "diverged"):
            say(f"{label}: {'training' if run.status == 'missing' else 'going on'}")
            resume = run.status != "missing"
            run.status = "stopped"
            execute(run.config, run.folder, resume=resume, stop=stop, report=report(run), say=say)
            run.status = "done"
        if run.status == "done" and not (run.folder / "scores.json").exists():
            say(f"{label}: evaluating")
            evaluate(runs.load(run.folder, trust=True), samples=samples, images=images)
    except Diverged as error:
        run.status, run.error = "diverged", str(error)
        say(f"{label}: {error}; the study goes on")
    except InputError as error:
        run.status, run.error = "failed", str(error)
        say(f"{label}: failed: {error}; the study goes on")


def record(study: Study, out: Path, planned: list[Planned]) -> None:
    """Write study.json and study.yaml: what the report reads."""
    rows = [
        {
            "variant": run.variant,
            "axes": run.axes,
            "folder": str(run.folder.relative_to(out)),
            "status": run.status,
            "error": run.error,
        }
        for run in planned
    ]
    content = {
        "format": FORMAT,
        "name": study.name,
        "description": study.description,
        "runs": rows,
        "published": study.published,
    }
    replace_text(out / "study.json", json.dumps(content, indent=1) + "\n")
    replace_text(out / "study.yaml", to_yaml(study))

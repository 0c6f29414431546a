"""Runs taken over from kept results: a study goes on where another machine's ended, without training them anew."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from elboroom import runs
from elboroom.config import Study, load_run
from elboroom.errors import InputError
from elboroom.studies.kept import read, read_json
from elboroom.studies.results import CHECKPOINT, SMALL_FILES
from elboroom.studies.study import Planned, look, record
from elboroom.training.checkpoint import replace_text, room


def take_over(study: Study, out: Path, planned: list[Planned], kept: Path, say: Callable[[str], None]) -> None:
    """Copy what `elboroom results` kept of the planned runs into the study's folder, where they are not there yet.

    Such a run has its scores, logs and pictures, and its weights where these were kept; nothing to train on from.

    Args:
        study: the study, whose list of runs is written anew.
        out: its folder.
        planned: all of its runs.
        kept: a folder that `elboroom results` wrote.
        say: told how many were taken over, and of each that cannot be, why.

    Raises:
        InputError: the folder holds no results, or another process works in ``out``.
    """
    runs.make_folder(out)
    with runs.locked(out), room(out, "the same command goes on"):
        taken = [run for run in _offered(out, planned, kept) if _taken(kept, run, out, say)]
        for run in taken:
            look(run)
        record(study, out, taken)
    say(f"{len(taken)} of {len(planned)} runs taken over from {kept}")


def _offered(out: Path, planned: list[Planned], kept: Path) -> list[Planned]:
    """The planned runs that the results list as ended, and that are not there yet."""
    ended = {run.path.relative_to(kept / "runs") for run in read(kept) if run.status in ("done", "diverged")}
    return [run for run in planned if run.folder.relative_to(out) in ended and not run.folder.exists()]


def _taken(kept: Path, run: Planned, out: Path, say: Callable[[str], None]) -> bool:
    name = run.folder.relative_to(out)
    reason = _take(kept / "runs" / name, run)
    if reason:
        say(f"{name}: not taken over from {kept}: {reason}")
    return not reason


def _take(source: Path, run: Planned) -> str:
    """Lay out a kept run as a run folder; why not, where it is another one than the study asks for."""
    aside = run.folder.with_name(f".{run.folder.name}.tmp")  # beside it: an init_from in its configuration is relative
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        _lay_out(source, aside)
        if load_run(aside / "config.yaml").hash != run.config.hash:
            return "it was trained with another configuration"
        aside.rename(run.folder)
    except InputError as error:
        return str(error)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return ""


def _lay_out(source: Path, target: Path) -> None:
    for name in SMALL_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    if (source / "evaluation").is_dir():
        shutil.copytree(source / "evaluation", target / "evaluation")
    for scores in source.glob("along/step-*[0-9].json"):
        _scored(scores, scores.with_name(f"{scores.stem}-notes.json"), target / "evaluation" / scores.stem)
    if (source / "scores.json").exists():
        record = _record(source)
        _scored(source / "scores.json", source / "notes.json", target / "evaluation" / f"step-{record['step']}")
        examples = source / "examples.safetensors"
        if examples.exists():
            shutil.copyfile(examples, target / "evaluation" / f"step-{record['step']}" / examples.name)
        _checkpoint(source, target / "checkpoints", f"step-{record['step']}", list(record["sha256"]))


def _record(source: Path) -> dict[str, Any]:
    if not (source / CHECKPOINT).exists():
        raise InputError(f"{CHECKPOINT} was not kept, as by older versions")
    return read_json(source / CHECKPOINT)


def _scored(scores: Path, notes: Path, evaluation: Path) -> None:
    evaluation.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(scores, evaluation / "scores.json")
    if notes.exists():
        shutil.copyfile(notes, evaluation / "notes.json")


def _checkpoint(source: Path, store: Path, step: str, files: list[str]) -> None:
    """The evaluated checkpoint: its record, and its weights where they were kept."""
    (store / step).mkdir(parents=True)
    shutil.copyfile(source / CHECKPOINT, store / step / "state.json")
    if (source / "weights.safetensors").exists():
        name = "average.safetensors" if "average.safetensors" in files else "model.safetensors"
        shutil.copyfile(source / "weights.safetensors", store / step / name)
    replace_text(store / "last", f"{step}\n")

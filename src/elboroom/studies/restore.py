"""Runs taken over from kept results: a study goes on where another machine's ended, without training them anew."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from elboroom import runs
from elboroom.config import Study, load_run
from elboroom.errors import InputError
from elboroom.evaluation.classifiers import hashes_in
from elboroom.studies.kept import CLASSIFIERS, Kept, read, read_json
from elboroom.studies.results import CHECKPOINT, SMALL_FILES
from elboroom.studies.study import Planned, look, record
from elboroom.training.checkpoint import Store, check_writable, replace_bytes, replace_text, room

Say = Callable[[str], None]


def take_over(study: Study, out: Path, planned: list[Planned], folder: Path, say: Say) -> None:
    """Copy what `elboroom results` kept of the planned runs into the study's folder, where they are not there yet.

    Such a run has its scores, logs and pictures, and its weights where these were kept; nothing to train on from.

    Args:
        study: the study, whose list of runs is written anew.
        out: its folder.
        planned: all of its runs.
        folder: what `elboroom results` wrote of this study.
        say: told how many were taken over, of each that cannot be, why, and whether a classifier is missing.

    Raises:
        InputError: the folder holds no results of this study, a classifier in it is not the one that its ledger lists,
            or another process works in ``out``.
    """
    results = _opened(folder, study.name)
    runs.make_folder(out)
    check_writable(out)
    with runs.locked(out), room(out, "the same command goes on"):
        _take_classifiers(results, out, say)
        taken = []
        for run in (r for r in planned if not r.folder.exists()):
            name = run.folder.relative_to(out).as_posix()
            if name not in results.ended:
                continue
            if reason := _take(results, name, run, planned, out):
                say(f"{name}: not taken over from {folder}: {reason}")
            else:
                look(run)
                taken.append(run)
        record(study, out, taken)
    say(f"{len(taken)} of {len(planned)} runs taken over from {folder}")


def _take_classifiers(results: "_Results", out: Path, say: Say) -> None:
    """Those that the kept scores lean on, so that the runs to come lean on the same; a study's own stay."""
    _as_listed(results, results.folder / CLASSIFIERS)
    for path in (results.folder / CLASSIFIERS).glob("*.safetensors"):
        if not (out / CLASSIFIERS / path.name).exists():
            (out / CLASSIFIERS).mkdir(exist_ok=True)
            replace_bytes(out / CLASSIFIERS / path.name, path.read_bytes())
    named = {score.protocol.classifier for run in results.ended.values() for score in run.scores} - {""}
    if missing := named - hashes_in(out / CLASSIFIERS):
        say(
            f"{results.folder}: its scores lean on the classifiers {', '.join(sorted(missing))}, which {out} has not. "
            "Unless the cache has them, new scores of the same metrics lean on others, and stand apart from them."
        )


@dataclass(frozen=True)
class _Results:
    """Kept results: the runs that ended, by their folder in the study, and the sha256 of every file."""

    folder: Path
    ended: dict[str, Kept]
    files: dict[str, str]


def _opened(folder: Path, study: str) -> _Results:
    ledger = read_json(folder / "ledger.json")
    if ledger.get("study") != study:
        raise InputError(f"{folder}: holds results of the study '{ledger.get('study')}', not of '{study}'.")
    if "files" not in ledger:
        raise InputError(
            f"{folder / 'ledger.json'}: has no hashes of files, as an older version wrote it, so that nothing says "
            "whether its runs are whole. Train them (leave --kept out)."
        )
    ended = [run for run in read(folder) if run.status in ("done", "diverged")]  # inside of the folder, as read says
    return _Results(folder, {r.path.relative_to(folder / "runs").as_posix(): r for r in ended}, ledger["files"])


def _take(results: _Results, name: str, run: Planned, planned: list[Planned], out: Path) -> str:
    """Lay out a kept run as a run folder; why not, where that cannot be."""
    source = results.ended[name]
    aside = run.folder.with_name(f".{run.folder.name}.tmp")  # beside it: an init_from in its configuration is relative
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        _as_listed(results, source.path)
        if not (source.path / "weights.safetensors").exists() and _starts(run, results, planned, out):
            return "its weights were not kept, and another run starts from them"
        _lay_out(source, aside)
        if load_run(aside / "config.yaml").hash != run.config.hash:
            return "it was trained with another configuration (other options, or data at another path)"
        aside.rename(run.folder)
    except InputError as error:
        return str(error)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return ""


def _as_listed(results: _Results, folder: Path) -> None:
    """InputError where a kept file is not the one that the ledger lists: what is copied gets a new seal."""
    for path in (p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(results.folder).as_posix()
        if results.files.get(name) != hashlib.sha256(path.read_bytes()).hexdigest():
            raise InputError(
                f"{path}: not as ledger.json lists it; `elboroom verify {results.folder}` names such files"
            )


def _starts(run: Planned, results: _Results, planned: list[Planned], out: Path) -> bool:
    """Whether a run that is neither there nor kept starts from this one."""
    wanted = [r for r in planned if r.config.init_from and Path(r.config.init_from).resolve() == run.folder.resolve()]
    return any(not r.folder.exists() and r.folder.relative_to(out).as_posix() not in results.ended for r in wanted)


def _lay_out(run: Kept, target: Path) -> None:
    source = run.path
    for name in SMALL_FILES:
        _copy(source / name, target / name)
    if run.status != "done":  # a diverged run has no scores and no weights
        return
    if (source / "evaluation").is_dir():
        shutil.copytree(source / "evaluation", target / "evaluation")
    for scores in source.glob("along/step-*[0-9].json"):
        _copy(scores, target / "evaluation" / scores.stem / "scores.json")
        _copy(scores.with_name(f"{scores.stem}-notes.json"), target / "evaluation" / scores.stem / "notes.json")
    step = _checkpoint(source, target / "checkpoints")
    for name in ("scores.json", "notes.json", "examples.safetensors"):
        _copy(source / name, target / "evaluation" / step / name)


def _checkpoint(source: Path, store: Path) -> str:
    """The evaluated checkpoint, its weights where they were kept; its name. InputError for a record that is none."""
    number = _step(source / CHECKPOINT)
    step = f"step-{number}"
    (store / step).mkdir(parents=True)
    shutil.copyfile(source / CHECKPOINT, store / step / "state.json")
    sums = Store(store).sums(number)  # which looks at its seal
    if (weights := source / "weights.safetensors").exists():
        held = hashlib.sha256(weights.read_bytes()).hexdigest()
        name = next((file for file, expected in sums.items() if expected == held), None)
        if name is None:
            raise InputError(f"{weights}: not the weights that {CHECKPOINT} names")
        shutil.copyfile(weights, store / step / name)
    elif not (source / "scores.json").exists():
        raise InputError("neither its weights nor scores were kept")
    replace_text(store / "last", f"{step}\n")
    return step


def _step(path: Path) -> int:
    """The step that a checkpoint's record names: part of a path from here on."""
    if not path.exists():
        raise InputError(f"{path.name} was not kept, as by older versions")
    content = read_json(path)
    if not isinstance(content.get("step"), int):
        raise InputError(f"{path}: it names no step")
    return content["step"]


def _copy(source: Path, target: Path) -> None:
    """Where there is such a file; with its time, which a page tells."""
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)

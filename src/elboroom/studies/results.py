"""What a study leaves for good: page, figures, ledger, scores per example, and small weights."""

import functools
import hashlib
import itertools
import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from elboroom import runs
from elboroom.errors import InputError
from elboroom.studies.kept import CLASSIFIERS
from elboroom.training.checkpoint import pack, replace_text

FORMAT = 1
LARGEST_WEIGHTS = 4_000_000  # bytes; larger ones stay in the run folder
ALL_WEIGHTS = 15_000_000  # bytes in all, as far as they fit, in the study's order: a repository is no store of models
SMALL_FILES = (
    *("config.yaml", "environment.json", "sessions.jsonl", "state.json"),
    *("metrics.jsonl", "timing.jsonl", "scores.json", "lr-search.json"),
)
MEASURED_FILES = ("measured.json", "skipped.json", "timing.json")
"""Of an evaluation; its scores, notes and values per example lie beside the run's other files."""
CODES = "codes-test"
CHECKPOINT = "checkpoint.json"
"""The evaluated checkpoint's own record: its step, what the model is built for, the hashes of its files."""
LARGEST_CODES = 1_000_000  # bytes at half precision; larger ones are not kept
ALL_SHOWN = 10_000_000  # bytes in all of what pages are drawn from, of one seed, as far as they fit


def collect(study: Path, out: Path, page: Path, command: str) -> dict[str, Any]:
    """Copy what is worth keeping of a study into ``out``, with a ledger that says how each number came about.

    Args:
        study: a study's folder, trained and evaluated.
        out: the folder to write, new or an older version of the same study, which is replaced.
        page: the report on the study.
        command: what was typed to obtain the study.

    Returns:
        The ledger, also written as ledger.json: per run its seed, commit, machine, data hashes, seconds and scores; the
        sha256 of every other file, and of the ledger itself (`elboroom verify` reads them).
    """
    content = _read(study)
    _check_out(out, content["name"])
    aside = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        ledger = _gather(study, aside, page, command, content)
        _swap(aside, out)
    finally:  # whatever went wrong, the older version stands
        shutil.rmtree(aside, ignore_errors=True)
    return ledger


def _check_out(out: Path, study: str) -> None:
    """InputError where the folder holds something else than an older version of the same study's results, or where
    somebody stands in it: it is replaced as a whole."""
    if Path.cwd().is_relative_to(out.resolve()):
        raise InputError(f"{out}: is the folder you are in, or holds it, and is replaced. Run this from outside of it.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        held = json.loads((out / "ledger.json").read_text(encoding="utf-8"))["study"]
    except (OSError, ValueError, KeyError, TypeError):
        held = None
    if held != study:
        what = f"the results of the study '{held}'" if held else "something else than results"
        raise InputError(f"{out}: holds {what}. Choose another folder (--out).")


def _swap(new: Path, out: Path) -> None:
    """Put a folder in the place of an older one, which comes back where that fails."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    try:
        new.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _gather(study: Path, out: Path, page: Path, command: str, content: dict[str, Any]) -> dict[str, Any]:
    """All that is kept, in a new folder; the ledger."""
    out.mkdir(parents=True)
    first = min((run["axes"].get("seed", 0) for run in content["runs"]), default=0)
    rows, room = [], ALL_WEIGHTS
    for run in content["runs"]:
        is_first = run["axes"].get("seed", 0) == first
        rows.append(_keep(study, out, run, room if is_first else 0))
        room -= _size(out / rows[-1]["folder"] / "weights.safetensors")
    firsts = [run["folder"] for run in content["runs"] if run["axes"].get("seed", 0) == first]
    _keep_shown([(study / folder, out / "runs" / folder) for folder in firsts])
    replace_text(out / "study.json", json.dumps(content, indent=1) + "\n")
    shutil.copyfile(study / "study.yaml", out / "study.yaml")
    shutil.copyfile(page, out / "report.html")
    if (study / "figures").is_dir():  # none where no run came so far
        shutil.copytree(study / "figures", out / "figures")
    for path in (study / CLASSIFIERS).glob("*.safetensors"):  # trained anew on another machine they would be others
        (out / CLASSIFIERS).mkdir(exist_ok=True)
        shutil.copyfile(path, out / CLASSIFIERS / path.name)
    ledger = {"format": FORMAT, "study": content["name"], "command": command, "written": _today(), "runs": rows}
    ledger |= {"files": hashes(out)}
    ledger |= {"seal": seal(ledger)}
    replace_text(out / "ledger.json", json.dumps(ledger, indent=1) + "\n")
    return ledger


def _read(study: Path) -> dict[str, Any]:
    """study.json, with what has become of each run since it was written."""
    try:
        content = json.loads((study / "study.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        raise InputError(f"{study}: no study folder (no whole study.json). Run `elboroom study` first.") from None
    return content | {"runs": [{**row, **_now(study / row["folder"], row)} for row in content["runs"]]}


def _now(run: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Status and error of a listed run by its own state, which `elboroom resume` changes and study.json does not tell.

    That a study saw it fail stands until it is done: a run that could not be opened has written no state.
    """
    status = runs.read_state(run)["status"]
    if status in (row["status"], "new", "unknown") or (row["status"] == "failed" and status != "done"):
        return {}
    return {"status": status, "error": row["error"] if status == "diverged" else None}


def hashes(folder: Path) -> dict[str, str]:
    """The sha256 of every file but the ledger, by its path in the folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / "ledger.json")
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def seal(ledger: dict[str, Any]) -> str:
    """The sha256 of a ledger's own content, so that an edit of it shows."""
    content = {key: value for key, value in ledger.items() if key != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def brief(scores: Path) -> list[dict[str, Any]]:
    """What the ledger says of a file of scores: each with a hash of its protocol, which tells equal names apart."""
    listed = json.loads(scores.read_text(encoding="utf-8"))["scores"]
    return [{"name": s["name"], "value": s["value"], "stderr": s["stderr"], "protocol": _short(s)} for s in listed]


def _short(score: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(score["protocol"], sort_keys=True).encode()).hexdigest()[:8]


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def _size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def _keep(study: Path, out: Path, run: dict[str, Any], room: int) -> dict[str, Any]:
    """One run's small files, scores per example as float32, and weights that are small and fit; its ledger row."""
    source, target = study / run["folder"], out / "runs" / run["folder"]
    if source.is_dir():  # of a run that was not begun nothing is kept but its row
        target.mkdir(parents=True, exist_ok=True)
    for name in SMALL_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    row = {**run, "folder": f"runs/{run['folder']}"}
    if run["status"] == "done":
        opened = runs.load(source, trust=True)
        _keep_examples(opened, target)
        if (opened.evaluation / "notes.json").exists():  # what is to be doubted of these numbers
            shutil.copyfile(opened.evaluation / "notes.json", target / "notes.json")
        _keep_along(opened, target)
        _keep_measured(opened, target)
        shutil.copyfile(opened.store.path(opened.step) / "state.json", target / CHECKPOINT)
        row |= {"checkpoint": opened.checkpoint_hash, "weights": _keep_weights(opened, target, room)}
    if (target / "scores.json").exists():
        row |= {"scores": brief(target / "scores.json")}
    return row | circumstances(target)


def _keep_examples(run: runs.Run, target: Path) -> None:
    path = run.evaluation / "examples.safetensors"
    if path.exists():
        values = {k: v.to(torch.float32) for k, v in load_file(path).items()}
        save_file(values, target / "examples.safetensors", metadata={"format": str(FORMAT)})


def _keep_measured(run: runs.Run, target: Path) -> None:
    """With which metrics the evaluation was made, what could not be had, and how long it took."""
    for evaluation in run.folder.glob("evaluation/step-*"):
        for name in MEASURED_FILES:
            if (evaluation / name).exists():
                (target / "evaluation" / evaluation.name).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(evaluation / name, target / "evaluation" / evaluation.name / name)


def _keep_shown(folders: list[tuple[Path, Path]]) -> None:
    """What pages are drawn from, (from, to) of each run, so that they can be drawn again: as far as the room goes,
    pictures of all runs first, then their planes, then their codes, of which the draws come before the posteriors."""
    room = ALL_SHOWN
    for (name, content_of), (source, target) in itertools.product(SHOWN, folders):
        for path in sorted(source.glob(f"evaluation/step-*/{name}.safetensors")):
            place = target / "evaluation" / path.parent.name / path.name
            content = content_of(path)
            more = len(content) - _size(place)  # codes have two turns, and the second takes the place of the first
            if content and more <= room:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
                room -= more


def _codes(path: Path, names: tuple[str, ...]) -> bytes:
    """These codes with their labels at half precision, which no eye tells apart; nothing where they are large."""
    codes = load_file(path)
    halves = {name: codes[name].half() for name in names if name in codes}
    labels = {name: _two_bytes(codes[name]) for name in ("labels",) if name in codes}
    small = 0 < sum(v.numel() * v.element_size() for v in halves.values()) <= LARGEST_CODES
    return pack(halves | labels) if small else b""


def _two_bytes(labels: Tensor) -> Tensor:
    """Labels of two bytes, where these hold them."""
    small = bool(((labels >= 0) & (labels < 1 << 15)).all())
    return labels.to(torch.int16) if small else labels


SHOWN = (
    ("pictures", Path.read_bytes),
    ("embedding", Path.read_bytes),
    (CODES, functools.partial(_codes, names=("z",))),
    (CODES, functools.partial(_codes, names=("z", "mean", "log_var"))),
)
"""What a page is drawn from, and as what it is kept."""


def _keep_along(run: runs.Run, target: Path) -> None:
    """The scores of checkpoints on the way, which figures are drawn from, and what is to be doubted of them."""
    for scores in run.folder.glob("evaluation/step-*/scores.json"):
        if scores.parent != run.evaluation:
            (target / "along").mkdir(exist_ok=True)
            shutil.copyfile(scores, target / "along" / f"{scores.parent.name}.json")
            if (notes := scores.parent / "notes.json").exists():
                shutil.copyfile(notes, target / "along" / f"{scores.parent.name}-notes.json")


def _keep_weights(run: runs.Run, target: Path, room: int) -> bool:
    name = {"raw": "model", "average": "average"}[run.weights]
    source = run.store.path(run.step) / f"{name}.safetensors"
    fits = 0 < _size(source) <= min(room, LARGEST_WEIGHTS)
    if fits:
        shutil.copyfile(source, target / "weights.safetensors")
    return fits


def circumstances(run: Path) -> dict[str, Any]:
    """Commit, machine, data and seconds of a run, and the commits of all its sessions, as its own files say."""
    result: dict[str, Any] = {}
    if (run / "environment.json").exists():
        environment = json.loads((run / "environment.json").read_text())
        result |= {
            k: environment.get(k) for k in ("commit", "machine", "device", "threads", "precision", "versions", "data")
        }
    if sessions := runs.read_sessions(run):
        result["commits"] = list(dict.fromkeys(s["commit"] for s in sessions))
    if (run / "timing.jsonl").exists():
        lines = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]
        result["seconds"] = round(sum(_sessions(lines)), 1)
    return result


def _sessions(lines: list[dict[str, Any]]) -> list[float]:
    """Seconds of each session of a run: they start anew when it is resumed."""
    last: list[float] = []
    for line in lines:
        if last and line["seconds"] >= last[-1]:
            last[-1] = line["seconds"]
        else:
            last.append(line["seconds"])
    return last

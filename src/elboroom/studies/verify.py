"""Do the numbers agree with what they were made from? Depth 1, arithmetic: nothing is computed anew but means and
hashes. (`elboroom.studies.recompute` goes deeper.)"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from elboroom import runs as run_files
from elboroom.config.files import merged, nested, parse_yaml, run_from
from elboroom.config.run import identity_of
from elboroom.errors import InputError
from elboroom.scores import Score
from elboroom.studies import results
from elboroom.studies.kept import Kept, Values, kept_values, near, read, read_json, study_of, wrong
from elboroom.training.checkpoint import Store


@dataclass(frozen=True)
class Finding:
    """Something that does not agree: in which file, and what it should be."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass
class Verified:
    """What was checked at one depth."""

    depth: int
    done: list[str] = field(default_factory=list)
    """What agrees, or was looked at."""
    findings: list[Finding] = field(default_factory=list)
    """What does not agree."""
    gaps: list[str] = field(default_factory=list)
    """What could not be checked, and why."""
    reached: bool = True


Findings = Iterator[Finding]


def arithmetic(folder: Path) -> Verified:
    """Check a run folder, a study or kept results against themselves: means, hashes, tables, configurations.

    Raises:
        InputError: no such folder, or one whose list of runs cannot be read.
    """
    result = Verified(1)
    members = read(folder)
    for run in members:
        _run(run, folder, result)
    if result.gaps and (folder / "ledger.json").is_file() and _records_scores(folder):
        result.gaps = [f"{gap}; ledger.json's record alone speaks for them" for gap in result.gaps]
    if (folder / "study.json").is_file():
        _collect(result, folder, _study(folder))
        result.done.append("study.json agrees with study.yaml, and with the states of its runs")
    if (folder / "ledger.json").is_file():
        _ledger(folder, members, result)
    else:
        result.gaps.append("numbers without values per example, and other files: only kept results have their hashes")
    if result.findings:
        result.done = []
    return result


def _collect(result: Verified, folder: Path, found: Iterable[Finding]) -> None:
    """Add what a check finds; a file that cannot be read is a finding too."""
    try:
        result.findings.extend(found)
    except InputError as error:
        finding = Finding(folder.name, str(error))
    except (OSError, KeyError, TypeError, ValueError) as error:  # a file that is JSON, and not what it should be
        finding = Finding(folder.name, f"a file does not hold what it should ({type(error).__name__}: {error})")
    else:
        return
    if finding not in result.findings:
        result.findings.append(finding)


# A run ---------------------------------------------------------------------------------------------------------------


def _run(run: Kept, folder: Path, result: Verified) -> None:
    """A run against its own files."""
    if run.status in ("missing", "failed") and not run.path.is_dir():
        return
    name = run.path.relative_to(folder).as_posix()
    where = "" if name == "." else f"{name}/"
    checked: list[str] = []
    unkept: list[str] = []
    _collect(result, run.path, _scores(run, where, checked, unkept))
    _collect(result, run.path, _weights(run, where))
    _collect(result, run.path, _pointers(run, where))
    if run.status == "done" and not Store(run.path / "checkpoints").steps() and not _is_kept(run, folder):
        result.gaps.append(f"{where or run.path.name}: no checkpoint is left, so nothing tells which weights it had")
    _collect(result, run.path, _config(run, where))
    _collect(result, run.path, _evaluated(run, where))
    _on_the_way(run, where, result)
    if checked:
        result.done.append(f"{where or run.path.name}: {', '.join(checked)} equal the mean and error of their values")
    if unkept:
        result.gaps.append(f"{where or run.path.name}: no values per example of {', '.join(unkept)}")


def _on_the_way(run: Kept, where: str, result: Verified) -> None:
    """Kept epochs, which figures are drawn from: against their values where those are there."""
    if (run.path / "along").is_dir():
        result.gaps.append(f"{where}along/: scores of kept epochs, which figures show, have no values beside them")
    folders = [p.parent for p in sorted((run.path / "evaluation").glob("step-*/scores.json"))]
    for folder in folders:
        if folder != run.evaluation:
            part = Kept(path=folder, variant=run.variant, axes=run.axes)
            _collect(result, folder, _scores(part, f"{where}evaluation/{folder.name}/", [], []))


def _scores(run: Kept, where: str, checked: list[str], unkept: list[str]) -> Findings:
    """Each score against the values that it is the mean of; names of what was checked, and of what could not be."""
    if run.status == "done" and not run.scores:
        unkept.append("all scores (there are none)")
    for name, split in dict.fromkeys((s.name, s.protocol.split) for s in run.scores):
        named = [s for s in run.scores if (s.name, s.protocol.split) == (name, split)]
        label = name if split in ("", "test") else f"{name} of {split}"
        kept = [(s, v) for s in named if (v := kept_values(s, run)) is not None]
        if not kept:
            unkept.append(label)
            continue
        files: dict[str, list[tuple[Score, Values]]] = {}
        for score, values in kept:
            files.setdefault(score.examples_name, []).append((score, values))
        for alike in files.values():
            if not any(not wrong(s, v) for s, v in alike):
                yield from _disagreements(*min(alike, key=lambda pair: abs(pair[0].value - pair[1].mean)), run, where)
        rest = len(named) - len(files)
        (unkept if rest else []).extend([f"{label} ({rest} of {len(named)} protocols)"])
        checked.append(label if len(files) == 1 else f"{label} ({len(files)} of {len(named)} protocols)")
    yield from _by_dimension(run, where)


def _disagreements(score: Score, found: Values, run: Kept, where: str) -> Findings:
    file = run.examples_file.relative_to(run.path).as_posix()
    whose = {"value": "", "stderr": "standard error of ", "examples": "number of examples of "}
    limits = {"value": found.tolerance, "stderr": found.stderr_tolerance, "examples": 0}
    for part, (now, should) in wrong(score, found).items():
        yield Finding(
            f"{where}scores.json",
            f"{whose[part]}{score.name} is {now:.10g}, should be {should:.10g} as {where}{file} has it "
            f"(tolerance {limits[part]:.1g}, the rounding of that file)",
        )


def _by_dimension(run: Kept, where: str) -> Findings:
    """A closed-form rate is the sum of its dimensions."""
    parts = run.examples.get("rate-by-dimension")
    rates = [s for s in run.scores if s.name == "rate" and s.protocol.estimator == "closed form"]
    if parts is None or not rates:
        return
    total = float(parts.astype(np.float64).sum())
    tolerance = 1e-6 * float(np.abs(parts.astype(np.float64)).sum())
    if not any(near(s.value, total, tolerance) for s in rates):
        yield Finding(
            f"{where}{run.examples_file.relative_to(run.path).as_posix()}",
            f"rate-by-dimension sums to {total:.10g}, should be the rate {rates[0].value:.10g} "
            f"(tolerance {tolerance:.1g})",
        )


def _weights(run: Kept, where: str) -> Findings:
    """The weights that are there are those that were scored."""
    scored = {s.protocol.checkpoint for s in run.scores}
    kept = run.path / "weights.safetensors"
    files = [kept] if kept.is_file() else sorted((run.path / "checkpoints").glob("step-*/*.safetensors"))
    hashes = {short_hash(f): f for f in files if f.stem in ("weights", "model", "average")}
    for checkpoint in sorted(scored - hashes.keys()) if hashes else ():
        names = ", ".join(s.name for s in run.scores if s.protocol.checkpoint == checkpoint)
        there = ", ".join(f"{f.relative_to(run.path).as_posix()} is {h}" for h, f in hashes.items())
        yield Finding(f"{where}scores.json", f"{names}: measured on the weights {checkpoint}, and {there}")


def _is_kept(run: Kept, folder: Path) -> bool:
    """Whether a run is part of kept results, which hold no checkpoints."""
    return any((place / "ledger.json").is_file() for place in (folder, study_of(run.path)) if place is not None)


def _pointers(run: Kept, where: str) -> Findings:
    """``last`` and ``best`` name checkpoints that are there."""
    store = Store(run.path / "checkpoints")
    steps = store.steps()
    for name in ("last", "best") if steps else ():
        try:
            step = store.pointer(name)
        except InputError as error:
            yield Finding(f"{where}checkpoints/{name}", str(error).removeprefix(f"{store.folder / name}: "))
            continue
        if step is not None and step not in steps:
            yield Finding(f"{where}checkpoints/{name}", f"names step-{step}, which is not there")


def short_hash(path: Path) -> str:
    """Twelve hexadecimal digits of a file's sha256, as protocols name weights."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _config(run: Kept, where: str) -> Findings:
    """The configuration is the one that was trained, and that the axes say."""
    state = run_files.read_state(run.path)
    path = run.path / "config.yaml"
    if not path.is_file():
        yield Finding(f"{where}config.yaml", "is missing")
        return
    now, trained = identity_of(run.config, run.path), state.get("config")
    if trained not in (None, now):
        yield Finding(f"{where}config.yaml", f"has the hash {now}, should be {trained} as {where}state.json says")
    for axis in other_axes(run):
        held: Any = run.config
        for part in axis.split("."):
            held = held.get(part) if isinstance(held, dict) else None
        value = run.axes[axis]
        yield Finding(f"{where}config.yaml", f"{axis} is {held!r}, should be {value!r} as the study lists the run")


UNTRACED = ("model", "model.kind", "init_from")
"""Axes that config.yaml does not hold as they were said: a model by its name, the folder of another run."""


def other_axes(run: Kept) -> list[str]:
    """The axes whose values the configuration does not have: laid over it as the plan does, they change it."""
    held = {k: v for k, v in run.config.items() if k != "format"}
    changes = {axis: nested(axis, value) for axis, value in run.axes.items() if axis not in UNTRACED}
    if _same(held, functools.reduce(merged, changes.values(), held)):
        return []
    return [axis for axis, change in changes.items() if not _same(held, merged(held, change))] or list(changes)


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two mappings are one configuration, however their values are written."""
    try:
        return one == other or run_from(one) == run_from(other)
    except InputError:
        return False


def _evaluated(run: Kept, where: str) -> Findings:
    """The scores of a run are those of its evaluated checkpoint."""
    inner = run.evaluation
    if inner is None:
        return
    mine, its = ({s.key: s for s in Kept(path=p, variant="").scores} for p in (run.path, inner))
    for key, score in mine.items():
        other = its.get(key)
        if other is None or repr((score.value, score.stderr)) != repr((other.value, other.stderr)):
            should = "not be there" if other is None else f"be {other.value:.10g} ± {other.stderr}"
            where_else = (inner / "scores.json").relative_to(run.path).as_posix()
            yield Finding(
                f"{where}scores.json",
                f"{score.name} is {score.value:.10g} ± {score.stderr}, should {should} as {where_else} has it",
            )


# A study -------------------------------------------------------------------------------------------------------------


def _study(folder: Path) -> Findings:
    """study.json against study.yaml, and against the states of its runs."""
    listed = read_json(folder / "study.json")
    path = folder / "study.yaml"
    said = parse_yaml(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else {}
    for name in ("name", "description", "published"):
        if said and listed.get(name) != said.get(name):
            yield Finding(
                "study.json", f"{name} is {listed.get(name)!r}, should be {said.get(name)!r} as study.yaml says"
            )
    for row in listed.get("runs", ()):
        place = next((p for p in (folder / row["folder"], folder / "runs" / row["folder"]) if p.is_dir()), None)
        status = run_files.read_state(place)["status"] if place else "missing"
        if row["status"] in ("done", "diverged", "stopped") and row["status"] != status:
            yield Finding(
                "study.json", f"{row['folder']} is {row['status']!r}, should be {status!r} as its state.json says"
            )


# Kept results --------------------------------------------------------------------------------------------------------


def _ledger(folder: Path, members: list[Kept], result: Verified) -> None:
    """The ledger against the files that it speaks of."""
    ledger = read_json(folder / "ledger.json")
    rows = list(zip(ledger["runs"], members, strict=True))
    _collect(result, folder, _sealed(folder, ledger))
    _collect(result, folder, _same_runs(folder, ledger))
    for row, run in rows:
        _collect(result, folder, _row(row, run))
        _collect(result, folder, _brief(row, run))
    scores = ", weights and scores" if _records_scores(folder) else " and weights"
    result.done.append(f"ledger.json agrees with the environments, times{scores} of its runs")
    if "files" in ledger:
        result.done.append(f"{len(ledger['files'])} files have the hashes that ledger.json records")
    else:
        result.gaps.append(
            "ledger.json has no hashes of files (an older version wrote it): `elboroom results` adds them"
        )


def _records_scores(folder: Path) -> bool:
    """Whether the ledger records each score: an older version recorded none."""
    return all("scores" in row for row in read_json(folder / "ledger.json")["runs"] if row.get("status") == "done")


def _sealed(folder: Path, ledger: dict[str, Any]) -> Findings:
    """Each file has its hash, the ledger too."""
    if "seal" in ledger and results.seal(ledger) != ledger["seal"]:
        yield Finding("ledger.json", "its content has another hash than its seal: it was edited")
    now = results.hashes(folder) if "files" in ledger else {}
    for name, recorded in ledger.get("files", {}).items():
        if name not in now:
            yield Finding(name, "is missing; ledger.json has its hash")
        elif now[name] != recorded:
            yield Finding(
                name, f"its sha256 is {now[name][:12]}…, should be {recorded[:12]}… as ledger.json records: edited"
            )
    for name in sorted(now.keys() - ledger.get("files", now).keys()):
        yield Finding(name, "is not among the files that ledger.json records")


def _same_runs(folder: Path, ledger: dict[str, Any]) -> Findings:
    """The ledger and study.json list the same runs."""
    fields = ("variant", "axes", "status", "error")
    theirs = {f"runs/{r['folder']}": {k: r.get(k) for k in fields} for r in read_json(folder / "study.json")["runs"]}
    mine = {r["folder"]: {k: r.get(k) for k in fields} for r in ledger["runs"]}
    for name in sorted(mine.keys() | theirs.keys()):
        if mine.get(name) != theirs.get(name):
            yield Finding("ledger.json", f"{name} is {mine.get(name)}, should be {theirs.get(name)} as study.json says")
    if ledger.get("study") != (name := read_json(folder / "study.json").get("name")):
        yield Finding("ledger.json", f"study is {ledger.get('study')!r}, should be {name!r} as study.json says")


def _row(row: dict[str, Any], run: Kept) -> Findings:
    """What the ledger says of a run's circumstances and weights."""
    for key, value in results.circumstances(run.path).items():
        if key in row and row[key] != value:
            yield Finding(
                "ledger.json", f"{key} of {row['folder']} is {row[key]!r}, should be {value!r} as its files say"
            )
    weights = run.path / "weights.safetensors"
    if "weights" in row and bool(row["weights"]) != weights.is_file():
        yield Finding(
            f"{row['folder']}/weights.safetensors", "is " + ("missing" if row["weights"] else "not in the ledger")
        )
    scored = {s.protocol.checkpoint for s in run.scores}
    hashes = {"scores.json": scored} if scored else {}
    hashes |= {"weights.safetensors": {short_hash(weights)}} if weights.is_file() else {}
    for file, found in hashes.items():
        if "checkpoint" in row and found != {row["checkpoint"]}:
            yield Finding(
                f"{row['folder']}/{file}",
                f"speaks of the weights {', '.join(sorted(found))}, should be {row['checkpoint']} as ledger.json says",
            )


def _brief(row: dict[str, Any], run: Kept) -> Findings:
    """Every score is the one that the ledger recorded, those without values per example too."""
    path = run.path / "scores.json"
    if "scores" not in row or not path.is_file():
        return
    with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):  # a torn file is found elsewhere
        now = {(s["name"], s["protocol"]): (s["value"], s["stderr"]) for s in results.brief(path)}
        then = {(s["name"], s["protocol"]): (s["value"], s["stderr"]) for s in row["scores"]}
        for key in [k for k in dict.fromkeys([*then, *now]) if repr(now.get(k)) != repr(then.get(k))]:
            yield Finding(
                f"{row['folder']}/scores.json",
                f"{key[0]} is {_shown(now.get(key))}, should be {_shown(then.get(key))} as ledger.json records",
            )


def _shown(found: tuple[float, float | None] | None) -> str:
    if found is None:
        return "not there under this protocol"
    return f"{found[0]:.10g}" + ("" if found[1] is None else f" ± {found[1]:.6g}")

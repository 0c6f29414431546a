"""Run and study folders as the report reads them: whatever is there, and sentences about what is not."""

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from elboroom import scores
from elboroom.config import Run, load_run
from elboroom.config.files import read_mapping, validated
from elboroom.config.run import to_dict
from elboroom.config.study import Figure, label_of, rows_of
from elboroom.errors import InputError
from elboroom.scores import Score, is_kept


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """One run: what its files say. Reading never fails; what cannot be read is told in `problems`."""

    path: Path
    variant: str
    axes: dict[str, Any] = field(default_factory=dict)
    prefix: str = ""
    """Name of its study, where a page holds several."""
    shown: str = ""
    """How a page names the folder: from the study's folder on."""
    status: str = "missing"
    """done, running, stopped, diverged, failed, or missing."""
    error: str | None = None
    config: Run | None = None
    state: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    timing: list[dict[str, Any]] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    row: str = ""
    """Its label on a page where others have the same name (`together`)."""
    short: str = ""
    """What tells it apart from the other runs of a figure (`told_apart`)."""
    epoch: int | None = None
    """Of a run as it was at a kept epoch (`at`): whose evaluation is read; None: the evaluated checkpoint."""

    @property
    def seed(self) -> Any:
        return self.axes.get("seed", self.config.seed if self.config else 0)

    @property
    def label(self) -> str:
        """The variant and the values of its axes other than the seed: a row of the table."""
        return self.row or self.prefix + label_of(self.variant, self.axes)

    @property
    def title(self) -> str:
        """How a figure names it: no longer than what tells it apart, with the epoch where it is shown at one."""
        name = self.short or self.label
        return name if self.epoch is None else f"{name}, epoch {self.epoch}"

    @property
    def data(self) -> str:
        return self.config.data.title if self.config else ""

    @property
    def is_point(self) -> bool:
        """A plain autoencoder: no posterior density, hence no rate and no likelihood."""
        return self.config is not None and self.config.model.posterior.kind == "point"

    @property
    def seconds(self) -> float | None:
        """Training time with its evaluations: the clock of a log line starts anew when a run is resumed."""
        spent = [t["seconds"] for t in self.timing if isinstance(t.get("seconds"), int | float)]
        ends = [a for a, b in pairwise(spent) if b < a]
        return math.fsum([*ends, spent[-1]]) if spent else None

    @cached_property
    def evaluation(self) -> Path | None:
        """The evaluated checkpoint: the best where there is one, else the last, else the latest evaluated."""
        folder = self.path / "evaluation"
        if self.epoch is not None:
            return self._at_epoch(self.epoch)
        kept = _mapping(self.path / "checkpoint.json", []).get("step")  # of kept results
        names = [_text(self.path / "checkpoints" / pointer).strip() for pointer in ("best", "last")]
        for name in (f"step-{kept}", *names):
            if name and "/" not in name and (folder / name).is_dir():
                return folder / name
        steps = [p for p in folder.glob("step-*") if p.name.removeprefix("step-").isdigit()]
        return max(steps, key=lambda p: int(p.name.removeprefix("step-")), default=None)

    @property
    def evaluated_step(self) -> int | None:
        """The step of the evaluated checkpoint; None where there is none, as in results that older versions kept."""
        return int(self.evaluation.name.removeprefix("step-")) if self.evaluation else None

    @property
    def shown_after(self) -> tuple[int, int] | None:
        """Epochs and training examples behind the evaluated weights; None where no file says which these are."""
        return None if self.evaluated_step is None else self.trained(self.evaluated_step)

    def trained(self, step: int | None = None) -> tuple[int, int] | None:
        """Epochs and training examples till a step (by default till the last), as metrics.jsonl counts them; None
        where it has none."""
        rows = [row for row in self.metrics if row.get("split") == "train" and "examples" in row]
        rows = [row for row in rows if step is None or row.get("step", 0) <= step]
        return (rows[-1].get("epoch", 0), sum(row["examples"] for row in rows)) if rows else None

    @property
    def steps_per_epoch(self) -> int | None:
        """As the state tells it; None where it does not."""
        step, epoch = self.state.get("step"), self.state.get("epoch")
        return step // epoch if isinstance(step, int) and isinstance(epoch, int) and epoch else None

    def at(self, epoch: int) -> "RunFolder":
        """The run as it was evaluated at a kept epoch."""
        return dataclasses.replace(self, epoch=epoch)

    @property
    def is_kept(self) -> bool:
        """Whether it is part of kept results, which have a ledger and stay as they are."""
        return is_kept(self.path)

    def _holding(self, file: str) -> Path | None:
        """The folder with a file of the evaluation: its own, or of kept results the run's; None where there is none."""
        places = [self.evaluation] if self.epoch is not None else [self.evaluation, self.path]
        return next((place for place in places if place is not None and (place / file).is_file()), None)

    def _at_epoch(self, epoch: int) -> Path | None:
        if self.steps_per_epoch is None:
            return None
        folder = self.path / "evaluation" / f"step-{epoch * self.steps_per_epoch}"
        return folder if folder.is_dir() else None

    @property
    def tested(self) -> dict[str, float]:
        """What was measured on the test split of its own data, by name."""
        return by_name([s for s in self.scores if (s.protocol.data, s.protocol.split) == (self.data, "test")])

    @cached_property
    def along(self) -> list[dict[str, Any]]:
        """What was measured of checkpoints on the way and of the last, as log lines, one for each split."""
        rows = []
        files = [*self.path.glob("evaluation/step-*/scores.json"), *self.path.glob("along/step-*[0-9].json")]
        files += [self.path / "scores.json"] if self.is_kept and self.evaluation else []
        for path in files if self.steps_per_epoch else ():
            names = (path.stem, path.parent.name, f"step-{self.evaluated_step}")  # the last: kept results' own scores
            step = int(next(p for p in names if p.startswith("step-")).removeprefix("step-"))
            found = [s for s in _scores_in(path, self) if s.protocol.data == self.data]
            for split in dict.fromkeys(s.protocol.split for s in found):
                values = by_name([s for s in found if s.protocol.split == split])
                rows.append({"split": split, "step": step, "epoch": step // self.steps_per_epoch} | values)
        return sorted(rows, key=lambda row: row["step"])

    @cached_property
    def doubts(self) -> list[str]:
        """What the evaluations said against trusting a number, where that number is one that is shown."""
        noted = self._holding("notes.json")
        last = _doubts(noted, self.scores) if noted else []
        each = self.steps_per_epoch
        before = [
            f"epoch {s // each}: {line}" for s, notes, found in self._on_the_way() for line in _doubted(notes, found)
        ]
        return last + before

    def _on_the_way(self) -> Iterator[tuple[int, dict[str, Any], list[Score]]]:
        """Step, notes and scores of every other checkpoint that was evaluated."""
        files = [p for p in self.path.glob("evaluation/step-*/scores.json") if p.parent != self.evaluation]
        places = {int(p.parent.name.removeprefix("step-")): (p, p.with_name("notes.json")) for p in files}
        for path in self.path.glob("along/step-*[0-9].json"):  # of kept results
            places[int(path.stem.removeprefix("step-"))] = (path, path.with_name(f"{path.stem}-notes.json"))
        for step in sorted(places) if self.steps_per_epoch else ():
            file, notes = places[step]
            yield step, _mapping(notes, []), _scores_in(file, self)

    @cached_property
    def skipped(self) -> list[str]:
        """Metrics that the last evaluation could not take, with the reason."""
        content = _mapping(self.evaluation / "skipped.json", []) if self.evaluation else {}
        found = content.get("skipped")
        return [f"{k}: {v}" for k, v in found.items()] if isinstance(found, dict) else []

    @cached_property
    def search(self) -> dict[str, Any]:
        """What the search of the learning rate found (lr-search.json); empty where there was none."""
        return _mapping(self.path / "lr-search.json", [])

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an evaluation file (`codes-test`, `examples`, `pictures`); none where there is no such file.

        Results keep codes at half precision; they come as float32, since sums of halves end at 65,504.
        """
        folder = self._holding(f"{name}.safetensors")
        if folder is None:
            return {}
        try:
            arrays = load_file(folder / f"{name}.safetensors")
        except (SafetensorError, OSError, KeyError, ValueError):
            return {}
        return {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in arrays.items()}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A folder given to the report: a study with its runs, or one run."""

    path: Path
    name: str
    runs: list[RunFolder]
    description: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    published: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    """Of several runs, as `elboroom.config.study.Figure` has them."""
    problems: list[str] = field(default_factory=list)
    """What cannot be used of the study's own files."""
    is_study: bool = False


def read(folder: Path) -> Source:
    """A study folder or a run folder; raises InputError where it is neither."""
    if (folder / "study.json").is_file():
        return read_study(folder)
    if any((folder / name).is_file() for name in ("config.yaml", "state.json", "metrics.jsonl")):
        run = read_run(folder)
        return Source(path=folder, name=run.variant, runs=[run])
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Give a folder that `elboroom train` or `elboroom study` wrote.")
    raise InputError(
        f"{folder}: neither a run nor a study (no config.yaml and no study.json in it). "
        "Give a folder that `elboroom train` or `elboroom study` wrote."
    )


def read_study(folder: Path) -> Source:
    """A study and every run that its `study.json` lists, whatever became of it."""
    problems: list[str] = []
    content = _mapping(folder / "study.json", problems)
    if problems:
        raise InputError(f"{folder / 'study.json'}: {problems[0]} `elboroom study` writes it anew.")
    if content.get("format", 1) != 1:
        raise InputError(f"{folder / 'study.json'}: format {content['format']} is not known here. Update elboroom.")
    runs = [_listed(folder, entry) for entry in content.get("runs") or [] if isinstance(entry, dict)]
    config = content.get("config") or _study_config(folder)
    return Source(
        path=folder,
        name=str(content.get("name") or folder.resolve().name),
        runs=runs,
        description=str(content.get("description") or ""),
        config=config,
        published=[p for p in content.get("published") or [] if isinstance(p, dict)],
        figures=_figures(config.get("figures") or [], problems),
        problems=problems,
        is_study=True,
    )


def _study_config(folder: Path) -> dict[str, Any]:
    try:
        return read_mapping(folder / "study.yaml")
    except InputError:
        return {}


def _figures(entries: Any, problems: list[str]) -> list[dict[str, Any]]:
    """The figures of a study that can be used, with all their fields; the name of one is that of a file.

    Keys that are not known, as older versions had some, are passed over: kept results stay as they are.
    """
    known, found = {f.name for f in dataclasses.fields(Figure)}, []
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        content = {k: v for k, v in entry.items() if k in known} if isinstance(entry, dict) else entry
        try:
            found.append(to_dict(validated(Figure, content, f"Figure {number} of study.yaml")))
        except InputError as error:
            problems.append(f"{str(error).splitlines()[0]} It is left out.")
    return found


def _listed(study: Path, entry: dict[str, Any]) -> RunFolder:
    """A run as a study lists it; the run's own word on its state counts, except where the study saw it fail and
    it is not done since."""
    path = study / str(entry.get("folder", ""))
    if (study / "ledger.json").is_file():  # what `elboroom results` keeps
        path = study / "runs" / str(entry.get("folder", ""))
    variant, axes = str(entry.get("variant", path.name)), dict(entry.get("axes") or {})
    if not path.resolve().is_relative_to(study.resolve()):  # neither read nor written to
        nowhere = study / "study.json"
        return RunFolder(path=nowhere, variant=variant, axes=axes, problems=["Its folder lies outside the study's."])
    run = read_run(path, variant=variant, axes=axes)
    told = str(entry.get("status") or "missing")
    failed = told == "failed" and run.status != "done"
    status = told if failed or run.status == "missing" else run.status
    return dataclasses.replace(
        run, status=status, error=entry.get("error"), shown=f"{study.resolve().name}/{entry.get('folder')}"
    )


def read_run(folder: Path, variant: str | None = None, axes: dict[str, Any] | None = None) -> RunFolder:
    """Everything of a run folder that is not an array."""
    problems: list[str] = []
    config = _config(folder, problems)
    state = _mapping(folder / "state.json", problems)
    name = config.name if config and config.name != "run" else folder.resolve().name
    run = RunFolder(
        path=folder,
        variant=variant or name,
        axes=axes or {},
        status=str(state.get("status", "missing")),
        config=config,
        state=state,
        environment=_mapping(folder / "environment.json", problems),
        metrics=_lines(folder / "metrics.jsonl", problems),
        timing=_lines(folder / "timing.jsonl", []),
        problems=problems,
    )
    run.scores.extend(_scores(run))
    return run


def _config(folder: Path, problems: list[str]) -> Run | None:
    if not (folder / "config.yaml").is_file():
        problems.append("config.yaml is missing.")
        return None
    try:
        return load_run(folder / "config.yaml")
    except InputError as error:
        problems.append(f"config.yaml cannot be used ({str(error).replace(str(folder) + '/', '')}).")
        return None


def _scores(run: RunFolder) -> list[Score]:
    """The scores of the run, or of its evaluated checkpoint."""
    places = [run.path / "scores.json"] + ([run.evaluation / "scores.json"] if run.evaluation else [])
    for path in places:
        if path.is_file() and (found := _scores_in(path, run)):
            return found
    return []


def _doubts(folder: Path, shown: list[Score]) -> list[str]:
    """The notes of an evaluation on numbers that it has."""
    return _doubted(_mapping(folder / "notes.json", []), shown)


def _doubted(content: dict[str, Any], shown: list[Score]) -> list[str]:
    notes = content.get("notes")
    held = [s for s in shown if s.protocol.checkpoint == content.get("checkpoint")]
    names = {name for s in held for name in (s.name, s.name.split("/")[0], f"{s.name}/{s.protocol.split}")}
    if not isinstance(notes, dict):
        return []
    return scores.briefly({k: str(v) for k, v in notes.items() if k.split(", ")[0] in names})


def by_name(found: list[Score]) -> dict[str, float]:
    """Values by name and by ``name (code)``: ``fd (prior)``, ``probe/knn (mean)``; not those that several protocols
    share, of which none is meant, and no controls."""
    own = [s for s in found if not s.protocol.code.startswith("control:")]
    named: dict[str, list[float]] = {}
    for s in own:
        for name in (s.name, *([f"{s.name} ({s.protocol.code})"] if s.protocol.code else [])):
            named.setdefault(name, []).append(s.value)
    return {name: values[0] for name, values in named.items() if len(values) == 1}


def _scores_in(path: Path, run: RunFolder) -> list[Score]:
    """The scores of a file; none, and a problem told, where it cannot be read."""
    try:
        return scores.load(path)
    except (InputError, OSError) as error:
        run.problems.append(str(error).replace(str(run.path) + "/", ""))
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _mapping(path: Path, problems: list[str]) -> dict[str, Any]:
    """A JSON object; where there is none it is empty and the reason is added to `problems`."""
    if not path.is_file():
        problems.append(f"{path.name} is missing.")
        return {}
    try:
        content = json.loads(_text(path))
    except json.JSONDecodeError as error:
        problems.append(f"{path.name} is not JSON ({error}).")
        return {}
    if not isinstance(content, dict):
        problems.append(f"{path.name} holds no JSON object.")
        return {}
    return content


def _lines(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The JSON objects of a `.jsonl` file; a line that a kill has torn is left out and counted."""
    rows, torn = [], 0
    for line in _text(path).splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif line.strip():
            torn += 1
    if torn:
        problems.append(f"{torn} line{'s' * (torn > 1)} of {path.name} cannot be read (torn by a kill?); left out.")
    return rows


def together(sources: list[Source]) -> list[RunFolder]:
    """The runs of all sources, under labels that different configurations, or one seed twice, do not share."""
    several = len(sources) > 1
    named = [
        dataclasses.replace(r, prefix=f"{s.name} / ") if several and s.is_study else r for s in sources for r in s.runs
    ]
    root = _common([s.path for s in sources])
    told = [(r.label, to_dict(r.config) if r.config else {}, r.seed, _below(root, r.path)) for r in named]
    return [dataclasses.replace(r, row=row) for r, row in zip(named, rows_of(told), strict=True)]


def _common(paths: list[Path]) -> Path:
    """The folder that holds them all; of a single one itself."""
    return Path(os.path.commonpath([p.resolve() for p in paths])) if paths else Path()


def _below(root: Path, folder: Path) -> str:
    """A folder's place from there on; of the folder itself its name."""
    place = Path(os.path.relpath(folder.resolve(), root)).as_posix()
    return folder.resolve().name if place == "." else place


def by_label(runs: list[RunFolder]) -> dict[str, list[RunFolder]]:
    """Label -> its runs (seeds), in the order of first appearance."""
    groups: dict[str, list[RunFolder]] = {}
    for run in runs:
        groups.setdefault(run.label, []).append(run)
    return groups


def told_apart(runs: list[RunFolder]) -> list[RunFolder]:
    """The runs of a figure with short names: without the variant and without the axes that have one value there.

    A single label stays whole, and so do all where short ones would be equal.
    """
    one = len({(r.prefix, r.variant) for r in runs}) == 1
    axes = {k for r in runs for k in r.axes if len({repr(r.axes.get(k)) for r in runs}) > 1}
    short = {
        r.label: r.prefix + label_of("" if one else r.variant, {k: v for k, v in r.axes.items() if k in axes})
        for r in runs
    }
    if len(set(short.values())) < len(short) or len(short) == 1:
        return runs
    return [dataclasses.replace(r, short=short[r.label]) for r in runs]


def length(counts: list[tuple[int, int]]) -> str:
    """Epochs and training examples in words: one value each, or from the least to the most; empty for no runs."""
    if not counts:
        return ""
    epochs, examples = ([c[i] for c in counts] for i in (0, 1))
    unit = "epoch" if max(epochs) == 1 else "epochs"
    return f"{_between(epochs)} {unit}, {_between(examples)} training examples seen"


def an_epoch(counts: list[tuple[int, int]]) -> str:
    """How many training examples an epoch has, in words; empty for no runs."""
    each = [examples // epochs for epochs, examples in counts if epochs]
    return f"an epoch is {_between(each)} training examples" if each else ""


def _between(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"

"""Do the numbers come out again? Depth 2: scores from the kept weights. Depth 3: one run trained anew."""

import dataclasses
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from elboroom import build, runs
from elboroom.config import Run as RunConfig
from elboroom.config import load_run, load_study
from elboroom.config.files import to_yaml
from elboroom.errors import Diverged, InputError, unknown
from elboroom.evaluation import ESTIMATES, IMPORTANCE, evaluate
from elboroom.scores import Protocol, Score
from elboroom.studies.execute import execute
from elboroom.studies.kept import CLASSIFIERS, Kept, near, read, study_of
from elboroom.studies.study import in_the_end
from elboroom.studies.verify import Finding, Verified, short_hash
from elboroom.training.checkpoint import Checkpoint, Store, unpack

Progress = Callable[[str, int, int], None]
Say = Callable[[str], None]
SAME_WEIGHTS = 1e-4
"""Relative difference (of values under 1: absolute) that other processors, threads and library versions may make."""
OF_ERROR = 0.05
"""The same, in standard errors: one example of an accuracy that falls on the other side."""
RETRAINED = 0.01
"""Relative difference of a score after training anew elsewhere, where rounding has grown over the steps."""
RETRAINED_ERRORS = 4.0
"""The same, in standard errors of the score."""


def from_weights(
    folder: Path,
    names: Iterable[str] = (),
    *,
    trust: bool = False,
    cache: Path | None = None,
    progress: Progress = lambda what, done, total: None,
    say: Say = lambda text: None,
) -> Verified:
    """Compute the scores of every run that has weights anew, in a temporary folder, and compare them with the kept."""
    result, names = Verified(2), list(names)
    members = _wanted(folder, names)
    with tempfile.TemporaryDirectory() as aside:
        more = {"cache": cache, "classifiers": _classifiers(folder, Path(aside)), "progress": progress}
        for run in members:
            say(f"{run.path}: scoring its weights anew")
            try:
                with tempfile.TemporaryDirectory(dir=aside) as place:
                    opened = weighed(run, Path(place) / "run", trust)
                    found = scored(opened, run, _metrics(folder), names, **more)
            except InputError as reason:
                result.gaps.append(f"{run.label}, seed {run.seed}: {reason}")
                continue
            _compare(run, found, folder, names, result, same_weights)
    result.reached = bool(result.done or result.findings)
    return result


def from_training(
    folder: Path,
    name: str = "",
    names: Iterable[str] = (),
    *,
    trust: bool = False,
    cache: Path | None = None,
    progress: Progress = lambda what, done, total: None,
    say: Say = lambda text: None,
) -> Verified:
    """Train one run anew by its configuration, in a temporary folder, and compare its weights and scores.

    On the same machine, with the same number of threads and library versions, the weights are the same bit for bit;
    elsewhere rounding grows with the steps, and the scores are compared with a wide tolerance.
    """
    result, names = Verified(3), list(names)
    run = _chosen(_wanted(folder, names), folder, name)
    config = load_run(run.path / "config.yaml")
    _trusted(config, run, trust)
    say(f"{run.path}: training it anew, {config.training.epochs} epochs")
    try:
        with tempfile.TemporaryDirectory() as place:
            execute(_as_then(config, run), Path(place) / "run", say=say)
            opened = runs.load(Path(place) / "run", trust=True)
            same = opened.checkpoint_hash in {s.protocol.checkpoint for s in run.scores}
            more = {"cache": cache, "classifiers": _classifiers(folder, Path(place)), "progress": progress}
            found = scored(opened, run, _metrics(folder), names, **more)
    except (InputError, Diverged) as reason:
        result.gaps.append(f"{run.label}, seed {run.seed}: {reason}")
        result.reached = False
        return result
    if same:
        result.done.append(f"{run.label}, seed {run.seed}: the weights are the same, bit for bit")
    else:
        result.gaps.append(
            f"{run.label}, seed {run.seed}: other weights than then, as another machine, number of threads or version "
            f"gives; scores are compared to {RETRAINED:.0%} or {RETRAINED_ERRORS:g} standard errors"
        )
    _compare(run, found, folder, names, result, same_weights if same else retrained)
    return result


def _wanted(folder: Path, names: list[str]) -> list[Kept]:
    """The runs with scores, among them those that are asked for."""
    members = [run for run in read(folder) if run.scores]
    known = list(dict.fromkeys(s.name for run in members for s in run.scores))
    if not members:
        raise InputError(f"{folder}: none of its runs has scores. `elboroom evaluate RUN` scores a run.")
    for name in names:
        if name not in known:
            raise unknown("score", name, known)
    return members


def _chosen(members: list[Kept], folder: Path, name: str) -> Kept:
    if not name:
        return members[0]
    by_name = {run.path.relative_to(folder).as_posix().removeprefix("runs/"): run for run in members}
    if name.removeprefix("runs/") not in by_name:
        raise unknown(f"run of {folder}", name, by_name)
    return by_name[name.removeprefix("runs/")]


def _as_then(config: RunConfig, run: Kept) -> RunConfig:
    """The configuration with the number of threads of that session, on which sums depend."""
    threads = config.training.threads or runs.read_environment(run.path).get("threads")
    return dataclasses.replace(config, training=dataclasses.replace(config.training, threads=threads))


def _trusted(config: RunConfig, run: Kept, trust: bool) -> None:
    if config.foreign and not trust:
        raise InputError(
            f"{run.path}: its configuration names {', '.join(config.foreign)}; opening it runs that code. "
            "If you trust it, say so (--trust)."
        )


def _classifiers(folder: Path, place: Path) -> Path:
    """Copies of the classifiers of the study that the folder is, or is a run of: nothing is written into it."""
    study = _study(folder)
    if study is not None and (study / CLASSIFIERS).is_dir():
        shutil.copytree(study / CLASSIFIERS, place / CLASSIFIERS)
    return place / CLASSIFIERS


def weighed(run: Kept, place: Path, trust: bool) -> runs.Run:
    """A run of the kept weights in a new folder, so that nothing of the old one changes."""
    config = load_run(run.path / "config.yaml")
    _trusted(config, run, trust)
    kept = run.path / "weights.safetensors"
    place.mkdir(parents=True)
    if kept.is_file():
        _from_file(kept, config, place)
    else:
        _from_checkpoint(run, place)
    return runs.load(place, trust=True)


def _from_file(weights: Path, config: RunConfig, place: Path) -> None:
    """A run folder around a file of weights; its companion is not kept."""
    config = dataclasses.replace(config, companion=None)
    (place / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    data = build.data(config)
    values = {"shape": list(data.shape), "data_values": data.values, "classes": len(data.classes or ())}
    averaged = config.training.average is not None and config.training.evaluate_with != "raw"
    groups = {"average" if averaged else "model": unpack(weights.read_bytes())}
    store = Store(place / "checkpoints")
    store.save(Checkpoint(0, groups, {**values, "identity": runs.identity(place)}))
    store.point("last", 0)


def _from_checkpoint(run: Kept, place: Path) -> None:
    """The scored checkpoint of a run folder, whole."""
    scored = {s.protocol.checkpoint for s in run.scores}
    files = sorted((run.path / "checkpoints").glob("step-*/*.safetensors"))
    step = next((f.parent for f in files if f.stem in ("model", "average") and short_hash(f) in scored), None)
    if step is None:
        raise InputError(f"the weights {', '.join(sorted(scored))} are not kept there; depth 2 needs them.")
    shutil.copytree(step, place / "checkpoints" / step.name)
    shutil.copyfile(run.path / "config.yaml", place / "config.yaml")
    (place / "checkpoints" / "last").write_text(f"{step.name}\n", encoding="utf-8")


def _metrics(folder: Path) -> tuple[Any, ...]:
    """The further metrics that the study asked for, those of kept epochs among them."""
    path = (_study(folder) or folder) / "study.yaml"
    return in_the_end(load_study(path).metrics).also if path.is_file() else ()


def _study(folder: Path) -> Path | None:
    """The study that a folder is, or is a run of."""
    return folder if (folder / "study.json").is_file() else study_of(folder)


BOUNDS = {"elbo", "rate", "distortion", "bound/grey-bce", "active-units", "accuracy/z", "accuracy/mean"}
"""What every evaluation computes."""


def scored(
    opened: runs.Run,
    run: Kept,
    metrics: tuple[Any, ...],
    names: list[str],
    *,
    cache: Path | None,
    classifiers: Path | None,
    progress: Progress,
) -> list[Score]:
    """The scores of an opened run, with the importance samples and the metrics that its kept scores had."""
    wanted = [s for s in run.scores if not names or s.name in names]
    counts = {_count(s.protocol): None for s in wanted if s.name in ESTIMATES}
    further = metrics if any(s.name not in BOUNDS and not _weighed(s) for s in wanted) else ()
    places = {"cache": cache, "classifiers": classifiers}
    found = evaluate(opened, samples=None, metrics=further, **places, progress=progress)
    for samples, images in counts:
        found += evaluate(opened, samples=samples, images=images, progress=progress)
    return found


def _weighed(score: Score) -> bool:
    """Whether it comes with every importance-sampled likelihood."""
    how = score.protocol.estimator
    return how == IMPORTANCE or how.startswith((f"{IMPORTANCE}, ", "mean log-weight"))


def _count(protocol: Protocol) -> tuple[int, int | None]:
    """Samples and images of an NLL, as its protocol says them."""
    some = re.search(r"\[:?(\d+)(?: drawn)?\]$", protocol.rows)
    return protocol.samples, int(some[1]) if some else None


def counted(names: list[str]) -> str:
    """Names, each once, with how often it is there: ``elbo, probe/knn (24 of them)``."""
    return ", ".join(f"{n} ({k} of them)" if k > 1 else n for n, k in Counter(names).items())


def same_weights(score: Score) -> float:
    """How far a score may move when the same weights are scored elsewhere."""
    return max(SAME_WEIGHTS * max(1.0, abs(score.value)), OF_ERROR * (score.stderr or 0.0))


def retrained(score: Score) -> float:
    """How far a score may move when the run is trained elsewhere."""
    return max(RETRAINED * max(1.0, abs(score.value)), RETRAINED_ERRORS * (score.stderr or 0.0))


def _compare(
    run: Kept, found: list[Score], folder: Path, names: list[str], result: Verified, tolerance: Callable[[Score], float]
) -> None:
    """Kept scores against new ones of the same protocol."""
    new = {(s.name, s.restated.comparable()): s for s in found}
    file = (run.path / "scores.json").relative_to(folder).as_posix()
    agree, absent = [], []
    for score in (s for s in run.scores if not names or s.name in names):
        other = new.get((score.name, score.restated.comparable()))
        if other is None:
            absent.append(score.name)
        elif near(score.value, other.value, tolerance(score)):
            agree.append(score.name)
        else:
            how = "as its weights give" if result.depth == 2 else "as training it anew gives"
            what = f"{score.name} is {score.value:.10g}, should be {other.value:.10g} {how}"
            result.findings.append(Finding(file, f"{what} (tolerance {tolerance(score):.2g})"))
    where = f"{run.label}, seed {run.seed}"
    if agree:
        result.done.append(f"{where}: {counted(agree)} come out again")
    if absent:
        result.gaps.append(f"{where}: {counted(absent)} not computed anew (companion not kept, other data, or unknown)")

"""A study: a grid of runs that skips what is done and goes on where it stopped."""

import dataclasses
import functools
import itertools
import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from elboroom import runs, scores
from elboroom.config import Run as RunConfig
from elboroom.config import Study, load_run, load_study
from elboroom.config.files import apply_options, merged, nested, parse_yaml, run_from, study_from, to_yaml, validated
from elboroom.config.run import EXTENDABLE, to_dict
from elboroom.config.study import Metrics
from elboroom.errors import Diverged, InputError, Stopped, unknown
from elboroom.evaluation import ESTIMATES, evaluate, has_likelihood
from elboroom.studies.execute import Report, can_go_on, execute
from elboroom.studies.kept import CLASSIFIERS
from elboroom.training.checkpoint import check_writable, replace_text, room
from elboroom.training.runtime import scoring_device, set_threads

FORMAT = 1
MISSING = object()


@dataclass
class Planned:
    """One run of a study, and what became of it."""

    variant: str
    axes: dict[str, Any]
    config: RunConfig
    folder: Path
    status: str = "missing"
    error: str | None = None
    longer: str = ""
    """``1 -> 3 epochs``, where the folder holds a shorter run that is to be lengthened."""


def recipes() -> dict[str, str]:
    """The built-in studies: name -> description."""
    return {name: parse_yaml(file.read_text(), name).get("description", "") for name, file in sorted(_files().items())}


def _files() -> dict[str, Any]:
    """The files of the built-in studies, by name."""
    files = resources.files("elboroom.studies").joinpath("recipes").iterdir()
    return {f.name.removesuffix(".yaml"): f for f in files if f.name.endswith(".yaml")}


def find(name: str) -> Study:
    """A study by the path of its YAML file, or by the name of a recipe."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return load_study(Path(name))
    if name not in _files():
        raise unknown("recipe", name, sorted(_files()))
    with resources.as_file(resources.files("elboroom.studies") / "recipes" / f"{name}.yaml") as path:
        return load_study(path)


def scaled(study: Study, scale: str | None) -> Study:
    """The study at one of its scales: base, variants, axes, metrics, published numbers and figures as it has them."""
    if scale is None:
        return study
    if scale not in study.scales:
        raise unknown(f"scale of study '{study.name}'", scale, study.scales or ["none: leave --scale out"])
    change = study.scales[scale]
    content = to_dict(study) | {"base": merged(study.base, change.get("base", {})), "scales": {}}
    changed = merged(study.variants, change.get("variants", {}))
    content["variants"] = {name: variant for name, variant in changed.items() if variant is not None}
    content["axes"] = {**study.axes, **change.get("axes", {})}
    content["metrics"] = merged(content["metrics"], change.get("metrics", {}))
    content |= {key: change[key] for key in ("published", "figures") if key in change}
    return study_from(content, f"study '{study.name}', scale '{scale}'")


def plan(study: Study, out: Path, *, options: tuple[str, ...] = ()) -> list[Planned]:
    """Every run of the grid, validated. Precedence: base (with its scale), variant, axis, command line."""
    planned = []
    for variant, change in study.variants.items():
        axes = _fixed({**study.axes, **(change.get("axes") or {})}, options)
        changed = {"name": variant, **merged(study.base, {k: v for k, v in change.items() if k != "axes"})}
        for values in itertools.product(*axes.values()):
            point = dict(zip(axes, values, strict=True))
            content = changed
            for axis, value in point.items():
                content = merged(content, nested(axis, value))
            content = apply_options(content, options)
            if isinstance(content.get("init_from"), str):
                content["init_from"] = _placed(content["init_from"], out, {"seed": content.get("seed", 0), **point})
            config = run_from(content, f"study '{study.name}', variant '{variant}'")
            planned.append(Planned(variant, point, config, _folder(out, variant, point, config.seed)))
    _apart(study, planned)
    return planned


def only(planned: list[Planned], variants: str) -> list[Planned]:
    """The runs of the variants that are named, with commas between; all where none is. InputError for unknown names."""
    names = [name.strip() for name in variants.split(",") if name.strip()]
    known = {run.variant for run in planned}
    for name in names:
        if name not in known:
            raise unknown("variant", name, sorted(known))
    return [run for run in planned if run.variant in names or not names]


def _placed(start: str, out: Path, point: dict[str, Any]) -> str:
    """The run that another one starts from: ``{out}`` is the study's folder, ``{seed}`` and other axes its values."""
    known = {"out": str(out.resolve()), **{axis: str(value) for axis, value in point.items()}}
    for name in re.findall(r"\{([^{}]*)\}", start):
        if name not in known:
            shown = ", ".join(f"{{{name}}}" for name in known)
            raise InputError(f"init_from: '{start}' holds {{{name}}}; it may hold {shown}.")
        start = start.replace(f"{{{name}}}", known[name])
    return start


def _fixed(axes: dict[str, list[Any]], options: tuple[str, ...]) -> dict[str, list[Any]]:
    """The axes, where an option that names one leaves it that value alone: a folder says what its run was made with."""
    result, asked = dict(axes), apply_options({}, options)
    for axis in axes:
        value: Any = asked
        for part in axis.split("."):
            value = value.get(part, MISSING) if isinstance(value, dict) else MISSING
        if value is not MISSING:
            result[axis] = [value]
    return result


def _apart(study: Study, planned: list[Planned]) -> None:
    """InputError where two runs of the grid would share a folder."""
    taken = set()
    for run in planned:
        if run.folder in taken:
            raise InputError(
                f"study '{study.name}': two runs would share the folder {run.folder}. "
                "Give each axis different values, and its variants different names."
            )
        taken.add(run.folder)


def _folder(out: Path, variant: str, point: dict[str, Any], seed: int) -> Path:
    """<variant>/<axis values>/seed-N; the seed is an axis, or one for all."""
    others = [str(value).replace("/", "_") for axis, value in point.items() if axis != "seed"]
    return out.joinpath(variant, *others, f"seed-{seed}")


def look(run: Planned) -> None:
    """Set a planned run's status from its folder, which may hold the same run, or a shorter one to be lengthened.

    InputError where it holds another configuration.
    """
    if not (run.folder / "config.yaml").exists():
        return
    try:
        held = load_run(run.folder / "config.yaml")
    except InputError:
        held = None
    if held is None or held.identity != run.config.identity:
        raise InputError(
            f"{run.folder}: holds a run of another configuration. Choose another folder (--out), or remove it."
        )
    state = runs.read_state(run.folder)
    run.status = state["status"]
    if held.hash != run.config.hash:
        _longer(run, held)
    if run.status == "diverged":
        run.error = str(Diverged(state.get("at", 0), state.get("term", "loss"), state.get("why", "is not finite")))


def _longer(run: Planned, held: RunConfig) -> None:
    """Plan to lengthen a run of fewer epochs; InputError for one of as many or more. A diverged one stays as it is."""
    before, now = held.training.epochs, run.config.training.epochs
    if now <= before:
        mine, its = to_dict(run.config)["training"], to_dict(held)["training"]
        shown = ", ".join(f"{n} {its[n]} there, {mine[n]} asked for" for n in EXTENDABLE if mine[n] != its[n])
        raise InputError(
            f"{run.folder}: holds a run of another length or with other intervals ({shown}). A run can get longer, "
            "never shorter: ask for more epochs, choose another folder (--out), or remove it."
        )
    if run.status != "diverged":
        can_go_on(run.folder)
        run.longer, run.status = f"{before} -> {now} epochs", "stopped"


def carry_out(
    study: Study,
    out: Path,
    planned: list[Planned],
    *,
    stop: Callable[[], str | None] = lambda: None,
    cache: Path | None = None,
    report: Callable[[Planned], Report] = lambda run: lambda line: None,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Train what is missing, evaluate what is trained. A run that fails or diverges is recorded, and the rest goes on.

    Raises Stopped when a signal or the budget ended it; everything so far is kept.
    """
    for run in planned:
        look(run)
    runs.make_folder(out)
    check_writable(out)
    scored = functools.partial(evaluate, cache=cache, classifiers=out / CLASSIFIERS)
    with runs.locked(out), room(out, "the same command goes on"):
        record(study, out, planned)
        for number, run in enumerate(planned, 1):
            label = f"[{number}/{len(planned)}] {run.folder.relative_to(out)}"
            try:
                _unless_stopped(stop)
                _one(run, label, study.metrics, scored, stop, report, say)
            finally:
                record(study, out, planned)


def _unless_stopped(stop: Callable[[], str | None]) -> None:
    if reason := stop():
        raise Stopped(reason)


def _one(
    run: Planned,
    label: str,
    metrics: Metrics,
    scored: Callable[..., Any],
    stop: Callable[[], str | None],
    report: Callable[[Planned], Report],
    say: Callable[[str], None],
) -> None:
    try:
        if run.status not in ("done", "diverged"):
            say(f"{label}: {'training' if run.status == 'missing' else f'going on {run.longer}'.strip()}")
            resume = run.status != "missing"
            run.status = "stopped"
            execute(run.config, run.folder, resume=resume, stop=stop, report=report(run), say=say)
            run.status = "done"
        if run.status == "done":
            _score(run, metrics, scored, stop, lambda text: say(f"{label}: {text}"))
    except Diverged as error:
        run.status, run.error = "diverged", str(error)
        say(f"{label}: {error}; the study goes on")
    except InputError as error:
        run.status, run.error = "failed", str(error)
        say(f"{label}: failed: {error}; the study goes on")


def _score(
    run: Planned,
    metrics: Metrics,
    scored: Callable[..., Any],
    stop: Callable[[], str | None],
    say: Callable[[str], None],
) -> None:
    """Score the kept epochs, where that is asked for, and then the run, with as many threads as its training names."""
    set_threads(run.config.training.threads)
    device = scoring_device(run.config.training.device)
    last = runs.load(run.folder, device=device, trust=True)
    if metrics.along:
        way = dataclasses.replace(metrics, nll=None, also=metrics.along, along=())
        for step in _kept(last):
            opened = runs.load(run.folder, checkpoint=f"step-{step}", device=device, trust=True)
            opened.data = last.data  # read once
            _evaluate(opened, way, scored, stop, say, headline=False)
    _evaluate(last, in_the_end(metrics), scored, stop, say)


def in_the_end(metrics: Metrics) -> Metrics:
    """What is measured of the last weights (or the best)."""
    also = (*metrics.also, *(m for m in metrics.along if m not in metrics.also))
    return dataclasses.replace(metrics, also=also, along=())


def _kept(run: runs.Run) -> list[int]:
    """The steps of the kept epochs that are there, without the checkpoint that is evaluated anyway."""
    state = runs.read_state(run.folder)
    each = state["step"] // state["epoch"]
    kept = {epoch * each for epoch in run.config.training.keep_epochs}
    return sorted(kept & set(run.store.steps()) - {run.step})


def _evaluate(
    run: runs.Run,
    metrics: Metrics,
    scored: Callable[..., Any],
    stop: Callable[[], str | None],
    say: Callable[[str], None],
    headline: bool = True,
) -> None:
    """Score a checkpoint, unless that was done already with these metrics on these weights."""
    if evaluated(run, metrics, headline):
        return
    if run.lost:
        say("asked for other metrics, but its weights were not kept: its scores stay as they are")
        return
    samples, images = _importance(metrics)
    say("evaluating" if headline else f"evaluating step {run.step}")
    begun = time.perf_counter()
    scored(
        run,
        samples=samples,
        images=images,
        metrics=metrics.also,
        headline=headline,
        progress=lambda what, done, total: _unless_stopped(stop),
        say=say,
    )
    replace_text(run.evaluation / "measured.json", _asked(run, metrics))
    took = {"format": FORMAT, "seconds": round(time.perf_counter() - begun, 3)}
    replace_text(run.evaluation / "timing.json", json.dumps(took) + "\n")


def evaluated(run: runs.Run, metrics: Metrics, headline: bool = True) -> bool:
    """Whether a run has been scored with these metrics, on the weights that are there now."""
    known = _measured(run.evaluation / "measured.json") == json.loads(_asked(run, metrics))
    if not (headline and run.config.trains_encoder):  # without an encoder there may be no score to find
        return known
    return (known or metrics.also == ()) and _scored(run, *_importance(metrics))


def _importance(metrics: Metrics) -> tuple[int | None, int | None]:
    """Samples and images of the NLL."""
    return (metrics.nll.samples, metrics.nll.images) if metrics.nll else (None, None)


def _asked(run: runs.Run, metrics: Metrics) -> str:
    """The text of measured.json."""
    return json.dumps({"format": FORMAT, "checkpoint": run.checkpoint_hash, "also": to_dict(metrics)["also"]})


def _measured(path: Path) -> dict[str, Any] | None:
    """What measured.json says, metrics written before they had all their fields with the defaults of these."""
    try:
        content = json.loads(path.read_text())
        return content | {"also": to_dict(validated(Metrics, {"also": content["also"]}, str(path)))["also"]}
    except (FileNotFoundError, ValueError, KeyError, TypeError, InputError):
        return None


def _scored(run: runs.Run, samples: int | None, images: int | None) -> bool:
    """Whether scores.json holds what is asked for, of the run's own data and of the weights that are there now."""
    try:
        found = scores.load(run.folder / "scores.json")
    except (FileNotFoundError, InputError):
        return False
    mine = (run.checkpoint_hash, run.config.data.title)
    found = [s for s in found if (s.protocol.checkpoint, s.protocol.data) == mine]
    if not found or samples is None:
        return bool(found)
    weighed = {(s.protocol.samples, s.examples) for s in found if s.name in ESTIMATES}
    can_be = bool(weighed) if run.lost else has_likelihood(run)
    whole = max((s.examples for s in found if s.name == "distortion"), default=0)  # other scores have other examples
    return not can_be or (samples, min(images or math.inf, whole)) in weighed


def record(study: Study, out: Path, planned: list[Planned]) -> None:
    """Write study.json and study.yaml: what the report reads. Runs of earlier plans stay listed while they are there.

    (`study X --seed 3` plans one seed, and the others are still runs of the study.) Their order is the study's own,
    whichever were asked for first.
    """
    rows = {
        folder: {"variant": r.variant, "axes": r.axes, "folder": folder, "status": r.status, "error": r.error}
        for r in planned
        if (folder := str(r.folder.relative_to(out)))
    }
    for row in _earlier(out):
        rows.setdefault(row["folder"], row)
    content = {
        "format": FORMAT,
        "name": study.name,
        "description": study.description,
        "runs": sorted(rows.values(), key=functools.partial(_position, study)),
        "published": study.published,
    }
    replace_text(out / "study.json", json.dumps(content, indent=1) + "\n")
    replace_text(out / "study.yaml", to_yaml(study))


def _position(study: Study, row: dict[str, Any]) -> tuple[int, ...]:
    """Where a run stands in the study; of what the study does not name, behind all that it names."""
    places = [(list(study.variants), row["variant"]), *((study.axes.get(a, []), v) for a, v in row["axes"].items())]
    return tuple(among.index(one) if one in among else len(among) for among, one in places)


def _earlier(out: Path) -> list[dict[str, Any]]:
    """The runs that study.json lists and whose folders are there; none where it is absent or torn."""
    try:
        listed = json.loads((out / "study.json").read_text(encoding="utf-8"))["runs"]
        return [row for row in listed if (out / row["folder"] / "config.yaml").exists()]
    except (OSError, ValueError, KeyError, TypeError):
        return []

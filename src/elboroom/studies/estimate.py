"""What the rest of a study would take, and what that rests on: finished runs of its folder, or a few timed steps."""

import dataclasses
import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from elboroom import build, runs
from elboroom.config import Run as RunConfig
from elboroom.config.run import to_dict
from elboroom.config.study import Metrics
from elboroom.data import Data, store
from elboroom.errors import InputError
from elboroom.models.evidence import log_evidence
from elboroom.records import Batch
from elboroom.studies.assemble import make_trainer
from elboroom.studies.study import Planned, evaluated, in_the_end
from elboroom.training import Trainer
from elboroom.training.runtime import start

TIMED = 0.4  # seconds of steps of one configuration
PATIENCE = 15.0  # seconds after which no further configuration is timed
BOUND_SAMPLES = 10  # of each test image, with which an evaluation always estimates the ELBO
COSTLY = ("batch", "updates", "average", "precision", "device", "threads", "decoder_slices", "compile", "drop_last")
"""Fields of training that a step's time depends on."""
COSTLY_OF_OBJECTIVE = ("kind", "samples", "form", "transitions", "leapfrog", "burn_in")
"""The same of an objective; one that lacks a field does without."""


@dataclass(frozen=True)
class Speed:
    """What one configuration takes."""

    basis: str  # "finished" or "timed"
    step: float  # seconds of a training step, its share of evaluations and checkpoints included where it is finished
    watch: float  # seconds of an evaluation during training; 0 where a step includes it
    evaluation: float  # seconds after training
    steps_per_epoch: int
    kept: int  # bytes of one checkpoint, or of the whole folder of a finished run
    rest: int  # bytes of the evaluation
    along: float | None = None  # seconds of the evaluation of a kept epoch; None where they are not evaluated


@dataclass(frozen=True)
class Cost:
    """What is left of one run: seconds and bytes, or why they are not known."""

    basis: str  # "finished", "timed" or "unknown"
    seconds: float = 0.0
    bytes: int = 0
    why: str = ""
    trained: bool = False  # what is left is the evaluation, with metrics that were not asked for before


def estimate(planned: list[Planned], metrics: Metrics, patience: float = PATIENCE) -> list[Cost | None]:
    """What is left of each run; None where nothing is. Nothing is written, and nothing is downloaded.

    Runs that differ in nothing that costs time (seed, length, weights of terms) share their speed. It is that of a
    finished run of them in the study's folder, else that of some steps of training and samples of the likelihood that
    are timed now, one configuration after another for at most ``patience`` seconds.
    """
    speeds: dict[str, Speed | str] = {}
    for run in planned:
        if run.status == "done" and runs.resumable(run.folder):  # else it was trained elsewhere
            speeds.setdefault(_key(run.config), _finished(run, metrics) or "")
    speeds = {key: speed for key, speed in speeds.items() if speed}
    loaded: dict[str, Data] = {}
    until = time.monotonic() + patience
    costs: list[Cost | None] = []
    for run in planned:
        if run.status == "diverged" or (run.status == "done" and _evaluated(run, metrics)):
            costs.append(None)
            continue
        key = _key(run.config)
        if key not in speeds:
            speeds[key] = _timed(run.config, metrics, loaded) if time.monotonic() < until else "it was not timed"
        costs.append(_cost(run, speeds[key]))
    return costs


def _evaluated(run: Planned, metrics: Metrics) -> bool:
    """Whether the study would leave a trained run as it is: with other metrics it is scored again."""
    try:
        opened = runs.load(run.folder, trust=True)
        return opened.lost or evaluated(opened, in_the_end(metrics))  # without weights its scores stay as they are
    except (InputError, OSError):
        return False


def _key(config: RunConfig) -> str:
    """The same for configurations that take the same time a step."""
    plain = to_dict(config)
    training = {name: plain["training"][name] for name in COSTLY}
    training["optimizer"] = plain["training"]["optimizer"]["kind"]
    objective = {k: v for k, v in plain["objective"].items() if k in COSTLY_OF_OBJECTIVE}
    parts = [plain["data"], plain["model"], objective, plain["companion"], training]
    return json.dumps(parts, sort_keys=True)


def _cost(run: Planned, speed: Speed | str) -> Cost:
    """What is left of a run at a speed; a stopped one has some steps behind it."""
    if isinstance(speed, str):
        return Cost("unknown", why=speed)
    training = run.config.training
    steps = training.epochs * speed.steps_per_epoch
    left = 0 if run.status == "done" else max(0, steps - runs.read_state(run.folder).get("step", 0))
    evaluations = 0 if speed.along is None else len(_kept_epochs(run.config))
    watches = left / steps * (training.epochs // training.evaluate_every)
    seconds = left * speed.step + watches * speed.watch + speed.evaluation + evaluations * (speed.along or 0.0)
    if speed.basis == "timed" and training.lr_search is not None and left == steps:
        seconds += len(training.lr_search.rates) * training.lr_search.steps * speed.step
    written = _checkpoints(run.config) * speed.kept + (1 + evaluations) * speed.rest
    folder = speed.kept if speed.basis == "finished" else written
    return Cost(speed.basis, seconds, max(0, folder - _size(run.folder)), trained=run.status == "done")


def _checkpoints(config: RunConfig) -> int:
    """How many are kept in the end: the last, perhaps the best, and those of certain epochs."""
    return 1 + (config.data.valid > 0) + len(_kept_epochs(config))


def _kept_epochs(config: RunConfig) -> list[int]:
    """The epochs on the way whose checkpoints are kept."""
    return [epoch for epoch in config.training.keep_epochs if epoch < config.training.epochs]


# From a finished run -------------------------------------------------------------------------------------------------


def _finished(run: Planned, metrics: Metrics) -> Speed | None:
    """What a finished run took, as its folder says; None where it does not say."""
    try:
        lines = (run.folder / "timing.jsonl").read_text(encoding="utf-8").splitlines()
        last, state = json.loads(lines[-1]), runs.read_state(run.folder)
        step = run.config.training.batch / last["images_per_s"]
        each = state["step"] // state["epoch"]
        seconds, along = _evaluations(run, each)
        size = _size(run.folder)
        return Speed("finished", step, 0.0, seconds, each, size, 0, along if metrics.along else None)
    except (OSError, ValueError, KeyError, IndexError, TypeError, ZeroDivisionError):
        return None


def _evaluations(run: Planned, each: int) -> tuple[float, float]:
    """Seconds of the evaluation of a finished run, the newest, and the mean of those of its kept epochs.

    Where none of these was evaluated, as much is expected of each as of the run.
    """
    files = sorted((run.folder / "evaluation").glob("step-*/timing.json"), key=lambda p: p.stat().st_mtime)
    took = {p.parent.name: json.loads(p.read_text(encoding="utf-8"))["seconds"] for p in files}
    last = took.popitem()[1] if took else 0.0
    along = [took[name] for epoch in _kept_epochs(run.config) if (name := f"step-{epoch * each}") in took]
    return last, math.fsum(along) / len(along) if along else last


def _size(folder: Path) -> int:
    """Bytes of all files in a folder; 0 where there is none."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


# From some steps -----------------------------------------------------------------------------------------------------


def _timed(config: RunConfig, metrics: Metrics, loaded: dict[str, Data]) -> Speed | str:
    """What a configuration takes on this machine now, or why that cannot be said."""
    if config.data.name is not None and store.find(config.data.name) is None:
        return f"the data '{config.data.name}' are not here (`elboroom data fetch {config.data.name}`)"
    eager = dataclasses.replace(config, training=dataclasses.replace(config.training, compile=False))
    try:
        runtime = start(eager.training.device, eager.training.threads, eager.training.precision)
        place = json.dumps(to_dict(eager.data))
        if place not in loaded:
            loaded[place] = build.data(eager).to(runtime.device)
        data = loaded[place]
        trainer = make_trainer(eager, data, runtime, Path(), "", fresh=False)
    except InputError as error:
        return str(error)
    step = _step_seconds(trainer)
    forward, sample = _inference_seconds(trainer)
    sample = sample if config.trains_encoder else 0.0  # else there is neither bound nor NLL
    watched = len(data.valid if data.valid is not None else data.test) * forward
    checkpoint = sum(t.numel() * t.element_size() for g in trainer.checkpoint().groups.values() for t in g.values())
    evaluation = _evaluation_seconds(data, metrics, sample)
    along = _evaluation_seconds(data, dataclasses.replace(metrics, nll=None), sample) if metrics.along else None
    rest = _evaluation_bytes(eager, data)
    return Speed("timed", step, watched, evaluation, trainer.steps_per_epoch, checkpoint, rest, along)


def _step_seconds(trainer: Trainer) -> float:
    """Of a training step, after one that warms up."""
    seconds, steps = _clock(lambda: trainer.trial(1)), 1
    if seconds < 5 * TIMED:
        steps = max(2, min(200, round(TIMED / seconds)))
        seconds = _clock(lambda: trainer.trial(steps))
    return seconds / steps


def _inference_seconds(trainer: Trainer) -> tuple[float, float]:
    """Of one example without gradient, and of one sample of its likelihood."""
    model = trainer.model.eval()
    count = min(len(trainer.data.test), trainer.plan.batch)
    batch: Batch = trainer.data.test.fixed(torch.arange(count, device=trainer.device))
    noise = model.noise(trainer.random("estimate"), 1, count)
    with torch.no_grad(), trainer.autocast():
        forward = _clock(lambda: model(batch.x, noise).log_px.sum().item()) / count
        if model.encoder(batch.x[:1]).family == "point":
            return forward, 0.0
        rows = torch.arange(min(count, 4))
        sample = _clock(lambda: log_evidence(model, batch.x[: len(rows)], rows, 64).bound.sum().item())
    return forward, sample / (64 * len(rows))


def _clock(work: Any) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _evaluation_seconds(data: Data, metrics: Metrics, sample: float) -> float:
    """Of the bounds and the likelihood on the test split."""
    images = len(data.test) * data.test.copies
    seconds = BOUND_SAMPLES * images * sample
    if metrics.nll is not None:
        seconds += metrics.nll.samples * min(images, metrics.nll.images or math.inf) * sample
    return seconds


def _evaluation_bytes(config: RunConfig, data: Data) -> int:
    """Of codes (mean, variance, sample, row and label of each test example), scores per example, and pictures."""
    latent, n = config.model.posterior.latent, len(data.test)
    images = 0 if len(data.shape) != 3 else 32 * 2 + 64 * 2 + 11 * latent + 40 + (400 if latent == 2 else 0)
    return n * (3 * 4 * latent + 16) + 4 * 8 * n + images * math.prod(data.shape)


# In words ------------------------------------------------------------------------------------------------------------


def words(cost: Cost | None) -> str:
    """``about 12 s, 3.4 MB``; nothing where nothing is left to do."""
    if cost is None:
        return ""
    if cost.basis == "unknown":
        return f"not known: {cost.why}"
    what = "to be evaluated with these metrics: " if cost.trained else ""
    return f"{what}about {duration(cost.seconds)}, {size(cost.bytes)}"


def summary(costs: Iterable[Cost | None], metrics: Metrics) -> str:
    """The total over the runs, and what the estimate rests on, in a few lines."""
    left = [cost for cost in costs if cost is not None]
    known = [cost for cost in left if cost.basis != "unknown"]
    if not left:
        return "Nothing is left to do."
    total = f"{len(left)} to do"
    if known:
        more = "" if len(known) == len(left) else f" for {len(known)} of them"
        total += f": about {duration(sum(c.seconds for c in known))} and {size(sum(c.bytes for c in known))}{more}"
    lines, bases = [total + "."], {cost.basis for cost in known}
    if "finished" in bases:
        lines.append("Time and disk are those of finished runs of the same configuration in this folder.")
    if "timed" in bases:
        lines.append(
            f"{'For the others time' if 'finished' in bases else 'Time'} is that of some training steps and likelihood "
            "samples, timed just now on this machine (not compiled); disk is that of checkpoints, codes and pictures."
        )
    if any(cost.trained and cost.basis == "finished" for cost in known):
        lines.append("The time of an evaluation is that of the metrics that were asked for then.")
    if (metrics.also or metrics.along) and "timed" in bases:
        lines.append("Further metrics of the study are not in it.")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3.4 h``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 1 else "1 s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def size(count: int) -> str:
    """``3.4 MB`` or ``1.2 GB``."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"

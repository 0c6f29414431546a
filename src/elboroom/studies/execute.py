"""One run from its configuration to its last checkpoint: fresh, resumed, stopped or diverged."""

import contextlib
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from elboroom import build, runs
from elboroom.config import Run as RunConfig
from elboroom.config import Training
from elboroom.data import Data
from elboroom.errors import Diverged, InputError, Stopped
from elboroom.evaluation import monitor
from elboroom.training import Trainer
from elboroom.training.checkpoint import Store, room
from elboroom.training.loop import Plan
from elboroom.training.runtime import Runtime, start

Report = Callable[[dict[str, Any]], None]


def execute(
    config: RunConfig,
    folder: Path,
    *,
    resume: bool = False,
    stop: Callable[[], str | None] = lambda: None,
    report: Report = lambda line: None,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Train a run into its folder, or go on with it.

    Nothing is written before data and parts are known to fit.

    Raises:
        InputError: data, configuration or checkpoint that cannot work; the folder is as it was.
        Stopped: a signal or the budget ended it, after a checkpoint.
        Diverged: a number stopped being finite; the last good checkpoint is kept.
    """
    with contextlib.ExitStack() as stack:
        if resume:
            stack.enter_context(runs.locked(folder))
        stack.enter_context(room(folder, f"`elboroom resume {folder}` goes on from the last checkpoint"))
        trainer, runtime = _ready(config, folder, resume, stop, report, say)
        if resume:
            trainer.resume()
        else:
            runs.create(config, folder)
            stack.enter_context(runs.locked(folder))
        runs.write_environment(folder, runtime, trainer.data)
        _train(trainer, folder)


def _ready(
    config: RunConfig,
    folder: Path,
    resume: bool,
    stop: Callable[[], str | None],
    report: Report,
    say: Callable[[str], None],
) -> tuple[Trainer, Runtime]:
    """Runtime, data and parts, known to fit; nothing is written."""
    runtime = _runtime(config.training, folder if resume else None)
    for note in runtime.notes:
        say(note)
    data = build.data(config).to(runtime.device)
    identity = runs.identity(folder) if resume else config.hash
    return make_trainer(config, data, runtime, folder, identity, stop=stop, report=report), runtime


def _train(trainer: Trainer, folder: Path) -> None:
    """The training itself, its outcome in state.json."""

    def state(status: str, **more: Any) -> None:
        step = trainer.progress.step
        epoch = step // trainer.steps_per_epoch
        runs.write_state(folder, status, step=step, epoch=epoch, steps=trainer.steps, config=trainer.identity, **more)

    state("running", process=os.getpid())
    try:
        trainer.run()
    except Stopped as reason:
        state("stopped", reason=str(reason))
        raise
    except Diverged as error:
        kept = trainer.store.pointer("last")
        state("diverged", term=error.term, at=error.step, kept=kept)
        error.add_note("No checkpoint was saved before that" if kept is None else f"Checkpoint step-{kept} is kept")
        raise
    state("done")


def make_trainer(
    config: RunConfig,
    data: Data,
    runtime: Runtime,
    folder: Path,
    identity: str,
    *,
    stop: Callable[[], str | None] = lambda: None,
    report: Report = lambda line: None,
) -> Trainer:
    """A trainer as the configuration says: build, memory layout, averaged copy, optimizer, in this order."""
    model = build.model(config, data.shape, data.values).to(runtime.device)
    if any(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in model.modules()):
        model = model.to(memory_format=torch.channels_last)  # measured faster, see benchmarks/
    objective = build.objective(config)
    companion = build.companion(config, len(data.classes or ()))
    return Trainer(
        model,
        objective,
        data,
        build.optimizer(config, model),
        folder,
        plan(config),
        seed=config.seed,
        schedule=build.schedule(config),
        companion=None if companion is None else companion.to(runtime.device),
        monitor=monitor(data, objective, config.training.batch, samples=config.objective.samples),
        autocast=runtime.autocast,
        stop=stop,
        report=report,
        identity=identity,
    )


def plan(config: RunConfig) -> Plan:
    """The fields of the configuration that the loop reads."""
    names = {f.name for f in dataclasses.fields(Plan)} - {"samples"}
    values = {name: getattr(config.training, name) for name in names}
    return Plan(samples=config.objective.samples, **values)


def _runtime(training: Training, resumed: Path | None) -> Runtime:
    """The machine as the run wants it; a resumed run keeps what its sums depend on: number of threads, precision."""
    threads, before = training.threads, None
    if resumed is not None:
        step = Store(resumed / "checkpoints").pointer("last")
        if step is not None:
            threads = threads or Store(resumed / "checkpoints").load(step, only=()).values["threads"]
            before = runs.read_environment(resumed).get("precision")
    return start(training.device, threads, training.precision, training.deterministic, before)


def check_resumable(folder: Path) -> dict[str, Any]:
    """The state of a run that can go on; InputError for one that is done, or no run at all."""
    if not (folder / "config.yaml").exists():
        raise InputError(f"{folder}: no run folder (it has no config.yaml). Give a folder that `elboroom train` wrote.")
    state = runs.read_state(folder)
    if state["status"] == "done":
        raise InputError(f"{folder}: already done. Look at it (`elboroom evaluate {folder}`), or train another run.")
    return state

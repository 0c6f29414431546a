"""One run from its configuration to its last checkpoint: fresh, resumed, stopped or diverged."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from elboroom import build, runs
from elboroom.config import Run as RunConfig
from elboroom.config import Training, apply_options, load_run, run_from
from elboroom.config.files import parse_yaml
from elboroom.config.run import EXTENDABLE, to_dict
from elboroom.data import Data
from elboroom.errors import Diverged, InputError, Stopped
from elboroom.evaluation.monitors import EarlyWarning, warmed_up
from elboroom.scores import is_kept
from elboroom.studies import search as rates
from elboroom.studies.assemble import Report, make_trainer
from elboroom.training import Trainer
from elboroom.training.checkpoint import Store, check_writable, replace_text, room
from elboroom.training.runtime import Runtime, start


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
    check_writable(folder)
    with contextlib.ExitStack() as stack:
        if resume:
            stack.enter_context(runs.locked(folder))
        stack.enter_context(room(folder, f"`elboroom resume {folder}` goes on from the last checkpoint"))
        runtime, data = _place(config, folder if resume else None, say)
        chosen, losses = rates.found(config, folder) if resume else None, {}
        if chosen is None:
            chosen, losses = rates.search(config, data, runtime, folder, say)
        identity = runs.identity(folder) if resume else config.identity
        warn = EarlyWarning(say, warmed_up(chosen))
        told = _both(report, warn)
        anew = resume and Store(folder / "checkpoints").latest() is None  # killed before the first, or they are lost
        if anew:
            say(f"{folder}: no checkpoint is there; training it from the beginning, with a new log")
        fresh = anew or not resume
        trainer = make_trainer(chosen, data, runtime, folder, identity, stop=stop, report=told, fresh=fresh)
        if resume:
            trainer.resume()
            warn.recall(folder / "metrics.jsonl")
            _lengthen(folder, config)
        else:
            runs.create(config, folder)
            stack.enter_context(runs.locked(folder))
        rates.record(folder, chosen, losses)
        runs.write_environment(folder, runtime, data, trainer.progress.step)
        _train(trainer, folder)


def _both(report: Report, warn: EarlyWarning) -> Report:
    """A log line goes to both."""

    def told(line: dict[str, Any]) -> None:
        report(line)
        warn(line)

    return told


def _place(config: RunConfig, resumed: Path | None, say: Callable[[str], None]) -> tuple[Runtime, Data]:
    """The machine, and the data on its device; nothing is written."""
    runtime = _runtime(config.training, resumed)
    for note in runtime.notes:
        say(note)
    return runtime, build.data(config).to(runtime.device)


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
        state("diverged", term=error.term, why=error.why, at=error.step, kept=kept)
        error.add_note("No checkpoint was saved before that" if kept is None else f"Checkpoint step-{kept} is kept")
        raise
    except Exception as error:  # whatever it is, the folder must not say for ever that it is running
        with contextlib.suppress(OSError):
            state("failed", error=f"{type(error).__name__}: {error}")
        raise
    state("done")


def _runtime(training: Training, resumed: Path | None) -> Runtime:
    """The machine as the run wants it; a resumed run keeps what its sums depend on: number of threads, precision."""
    threads, before = training.threads, None
    if resumed is not None:
        store = Store(resumed / "checkpoints")
        step = store.latest()
        if step is not None:
            threads = threads or store.load(step, only=()).values["threads"]
            before = runs.read_environment(resumed).get("precision")
    return start(training.device, threads, training.precision, training.deterministic, before)


def check_resumable(folder: Path, longer: bool = False) -> dict[str, Any]:
    """The state of a run that can go on; InputError for one that is done (unless it gets longer), or no run at all.

    One whose checkpoint is older than its state, because somebody has pointed ``last`` at it, is not done, nor is one
    whose checkpoints are gone.
    """
    if not (folder / "config.yaml").exists():
        raise InputError(f"{folder}: no run folder (it has no config.yaml). Give a folder that `elboroom train` wrote.")
    if is_kept(folder):
        raise InputError(f"{folder}: nothing to go on training from; {runs.TAKE_OVER}.")
    state = runs.read_state(folder)
    step = Store(folder / "checkpoints").latest()
    behind = step is None or step < state.get("step", 0)
    if state["status"] == "done" and not (longer or behind):
        raise InputError(
            f"{folder}: already done. Look at it (`elboroom evaluate {folder}`), or lengthen it "
            f"(`elboroom resume {folder} --training.epochs 60`)."
        )
    return state


def can_go_on(folder: Path) -> None:
    """InputError for a run that was taken over from kept results, which hold no moments of the optimizer."""
    if not runs.resumable(folder):
        raise InputError(
            f"{folder}: taken over from kept results, which hold nothing to go on training from. Ask for as many "
            "epochs as it has, or choose another folder (--out) to train it anew."
        )


def extend(folder: Path, config: RunConfig, options: list[str]) -> RunConfig:
    """A run's configuration with other lengths and intervals; `execute` writes them into its folder.

    A schedule that depends on the length (cosine) bends from here on; the rest equals a run of that length from the
    start.
    """
    changed = run_from(apply_options(to_dict(config), options), "options")
    if changed.identity != config.identity:
        raise InputError(
            f"{folder}: what is trained already depends on these options. Only training's {', '.join(EXTENDABLE)} can "
            "change when a run goes on; train another run for the rest."
        )
    can_go_on(folder)
    if changed.training.epochs < config.training.epochs:
        raise InputError(
            f"{folder}: a run of {config.training.epochs} epochs gets no shorter, and {changed.training.epochs} are "
            "asked for. Stop it when you like (Ctrl-C), or train another run."
        )
    return changed


def _lengthen(folder: Path, config: RunConfig) -> None:
    """Write a configuration's lengths and intervals into a run's config.yaml where they are others, and nothing else
    of it.

    What a checkpoint depends on stays word for word as it is, so that the file of an older version still belongs to it.
    """
    path = folder / "config.yaml"
    held, lengths = ({name: to_dict(c)["training"][name] for name in EXTENDABLE} for c in (load_run(path), config))
    if held == lengths:
        return
    content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    content["training"] = {**(content.get("training") or {}), **lengths}
    state = runs.read_state(folder)
    if state["status"] == "done":  # from here on it is not, whatever happens before it goes on
        replace_text(folder / "state.json", json.dumps({**state, "status": "stopped"}) + "\n")
    replace_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))

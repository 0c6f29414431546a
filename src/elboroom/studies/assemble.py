"""A configuration, data and a machine made into a trainer."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from elboroom import build
from elboroom.config import Run as RunConfig
from elboroom.config import Training
from elboroom.data import Data
from elboroom.evaluation import monitor
from elboroom.networks.layout import lay_out
from elboroom.studies.weights import first_weights
from elboroom.training import Trainer
from elboroom.training.loop import Plan, Plateau
from elboroom.training.runtime import Runtime

Report = Callable[[dict[str, Any]], None]


def make_trainer(
    config: RunConfig,
    data: Data,
    runtime: Runtime,
    folder: Path,
    identity: str,
    *,
    stop: Callable[[], str | None] = lambda: None,
    report: Report = lambda line: None,
    fresh: bool = True,
) -> Trainer:
    """A trainer as the configuration says: build, memory layout, first weights, averaged copy, optimizer, in this
    order. A run that is not ``fresh`` gets its weights from its checkpoint."""
    model = lay_out(build.model(config, data.shape, data.values).to(runtime.device))
    model.slices = config.training.decoder_slices
    if fresh:
        first_weights(config, model, data)
    objective = build.objective(config)
    companion = build.companion(config, len(data.classes or ()))
    return Trainer(
        model,
        objective,
        data,
        build.optimizer(config, model, len(data.train)),
        folder,
        plan(config),
        seed=config.seed,
        schedule=build.schedule(config),
        companion=None if companion is None else companion.to(runtime.device),
        monitor=monitor(
            data, objective, config.training.batch, samples=config.training.evaluate_samples or config.objective.samples
        ),
        autocast=runtime.autocast,
        stop=stop,
        report=report,
        identity=identity,
    )


def plan(config: RunConfig) -> Plan:
    """The fields of the configuration that the loop reads."""
    names = {f.name for f in dataclasses.fields(Plan)} - {"samples", "plateau"}
    values = {name: getattr(config.training, name) for name in names}
    return Plan(samples=config.objective.samples, plateau=_plateau(config.training), **values)


def _plateau(training: Training) -> Plateau | None:
    if training.schedule.kind != "plateau":
        return None
    return Plateau(**{f.name: getattr(training.schedule, f.name) for f in dataclasses.fields(Plateau)})

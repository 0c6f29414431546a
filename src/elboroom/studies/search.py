"""The search of a learning rate, as AEVB prescribes."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

from elboroom.config import Run as RunConfig
from elboroom.data import Data
from elboroom.errors import Diverged
from elboroom.studies.assemble import make_trainer
from elboroom.training.checkpoint import replace_text
from elboroom.training.runtime import Runtime

FORMAT = 1
FILE = "lr-search.json"
Losses = dict[float, float]


def search(
    config: RunConfig, data: Data, runtime: Runtime, folder: Path, say: Callable[[str], None]
) -> tuple[RunConfig, Losses]:
    """The configuration with the learning rate whose first steps ended lowest, and the loss at each rate.

    Every rate starts from the same weights and sees the same batches and noise; what counts is the mean training loss
    of the second half of the trial. Kingma & Welling (2014), section 5. Without ``lr_search`` nothing happens.

    Raises:
        Diverged: at every rate.
    """
    wanted = config.training.lr_search
    if wanted is None:
        return config, {}
    losses = {
        rate: make_trainer(at_rate(config, rate), data, runtime, folder, "").trial(wanted.steps)
        for rate in wanted.rates
    }
    chosen = min(losses, key=losses.__getitem__)
    if not math.isfinite(losses[chosen]):
        raise Diverged(wanted.steps, "the loss at every learning rate of the search")
    say("learning rate " + ", ".join(f"{r:g}: loss {loss:.5g}" for r, loss in losses.items()) + f"; {chosen:g} it is")
    return at_rate(config, chosen), losses


def record(folder: Path, config: RunConfig, losses: Losses) -> None:
    """Write what the search found into the run folder."""
    if losses:
        shown = {str(rate): loss if math.isfinite(loss) else None for rate, loss in losses.items()}
        content = {"format": FORMAT, "losses": shown, "chosen": config.training.optimizer.lr}
        replace_text(folder / FILE, json.dumps(content) + "\n")


def found(config: RunConfig, folder: Path) -> RunConfig | None:
    """The configuration with the rate that an earlier session chose, or None where the search is still to be done."""
    if config.training.lr_search is None:
        return config
    path = folder / FILE
    return at_rate(config, json.loads(path.read_text())["chosen"]) if path.exists() else None


def at_rate(config: RunConfig, rate: float) -> RunConfig:
    """The same run at another learning rate."""
    optimizer = dataclasses.replace(config.training.optimizer, lr=rate)
    return dataclasses.replace(config, training=dataclasses.replace(config.training, optimizer=optimizer))

"""What is watched during training: bounds on held-out data, use of the code, accuracy of the companion; and an early
warning where the code carries nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from elboroom.config import Run as RunConfig
from elboroom.data import Data
from elboroom.evaluation.codes import accuracy, active_units
from elboroom.evaluation.doctor import COLLAPSED_NATS
from elboroom.evaluation.views import view
from elboroom.numerics import Randomness, full_precision
from elboroom.objectives.needs import ask
from elboroom.records import Draw, Terms

IDLE_NATS = 0.01  # rate of a dimension that counts as idle
WARNED_AFTER = 100  # steps after any warm-up: before it a code may still form
EVALUATIONS = 2  # in a row


def monitor(
    data: Data, objective: Callable[[Draw], Terms], batch: int, seed: int = 0, samples: int = 1
) -> Callable[[nn.Module, nn.Module | None], dict[str, Any]]:
    """A function (model, companion) -> log line on validation data, or on test data (for curves) without them.

    Every copy of an image counts. Batches have the size of training, because an objective's batch terms depend on it;
    noise is the same each time. Weights that move in training stand at their last value, so that losses of different
    epochs can be compared.
    """
    split = "valid" if data.valid is not None else "test"
    seen = view(data, split)

    def watch(model: nn.Module, companion: nn.Module | None) -> dict[str, Any]:
        random = Randomness(seed, seen.examples.rows.device)
        sums: dict[str, torch.Tensor] = {}
        means, right = [], {"z": [], "mean": []}
        rates: torch.Tensor | float | None = 0.0
        for copy, index, examples in seen.all_copies(batch):
            place = (int(index[0]), copy) if copy else (int(index[0]),)  # the first has the noise that it has alone
            noise = model.noise(random("monitor", *place), samples, len(index))
            prior = random("monitor-prior", *place)
            asked = ask(objective, model, prior, noise, len(data.train), x=examples.x)
            draw = model(examples.x, noise, asked)
            with full_precision(draw.z.device):
                terms = objective(draw)
            values = {"loss": terms.loss, **{k: v.mean() for k, v in terms.example.items()}, **terms.batch}
            values |= signs(draw, model.encoder.radius)
            rates = None if draw.rate is None else rates + draw.rate.double().sum(0)
            if terms.own_bound is not None:
                values["bound"] = terms.own_bound.mean()
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value.double() * len(index)
            if draw.base is not None:
                means.append(draw.base.loc)
            if companion is not None:
                right["z"].append(accuracy(companion, draw.z[0], examples.labels))
                right["mean"].append(accuracy(companion, draw.base.loc, examples.labels))
        count = seen.count * seen.copies
        line: dict[str, Any] = {"split": split, "examples": seen.count}
        line |= {name: (total / count).item() for name, total in sums.items()}
        if "rate" in line:
            offset, total = model.decoder.offset(data.shape), -(line["distortion"] + line["rate"])
            line |= {"bound/grey-bce": total} if offset is None else {"elbo": total + offset}
        if means:
            line["active-units"] = active_units(torch.cat(means))
        if rates is not None:
            line["idle-dimensions"] = int((rates / count < IDLE_NATS).sum())
        if companion is not None:
            line |= {f"accuracy/{k}": 100 * torch.cat(v).mean().item() for k, v in right.items()}
        return line

    return watch


def signs(draw: Draw, radius: float | None) -> dict[str, torch.Tensor]:
    """Batch means of the cheap signs of a disease: log-variance, and the share of clipped codes."""
    if draw.base is None:
        return {}
    found = {} if draw.base.log_var is None else {"log-variance": draw.base.log_var.mean()}
    if radius is not None:
        found["clipped"] = (draw.base.norm > radius).double().mean()
    return found


def warmed_up(config: RunConfig) -> int:
    """The first step at which every weight of the objective and the learning rate have risen once."""
    objective = config.objective
    steps, rise = getattr(objective, "warmup", None), 0.0
    if steps is not None:
        rise = steps.steps if steps.kind == "linear" else steps.rise * steps.period
    elif objective.kind == "capacity":  # of which the rate is held at a part
        rise = objective.steps
    return int(max(rise, config.training.warmup))


class EarlyWarning:
    """Says once that the code carries almost nothing: at two evaluations in a row, after any warm-up.

    Args:
        say: told the warning.
        warm: the step at which the warm-up is over (`warmed_up`).
    """

    def __init__(self, say: Callable[[str], None], warm: int = 0) -> None:
        self.say, self.first, self.step, self.low, self.said = say, warm + WARNED_AFTER, 0, 0, False

    def __call__(self, line: dict[str, Any]) -> None:
        """One log line of training or evaluation, in order."""
        self.step = line.get("step", self.step)
        if line["split"] == "train" or "rate" not in line or self.step < self.first or self.said:
            return
        self.low = self.low + 1 if line["rate"] < COLLAPSED_NATS else 0
        if self.low == EVALUATIONS:
            self.said = True
            self.say(warning(line["rate"]))

    def recall(self, metrics: Path) -> None:
        """The lines of a run that goes on: what was said in them is not said again."""
        say, self.say = self.say, lambda text: None
        for line in metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else ():
            self(json.loads(line))
        self.say = say


def warning(rate: float) -> str:
    """In words, with the cure."""
    return (
        f"warning: the code carries almost nothing (rate {rate:.2g} nats per image): posterior collapse. Try a warm-up "
        "(--objective.warmup.kind linear), free bits (--objective.kind free-bits) or a smaller beta; "
        "`elboroom doctor RUN` says more."
    )

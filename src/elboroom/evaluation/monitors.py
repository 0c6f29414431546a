"""What is watched during training: bounds on held-out data, use of the code, accuracy of the companion."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from elboroom.data import Data
from elboroom.evaluation.codes import accuracy, active_units
from elboroom.evaluation.views import view
from elboroom.numerics import Randomness
from elboroom.objectives.needs import ask
from elboroom.records import Draw, Terms


def monitor(
    data: Data, objective: Callable[[Draw], Terms], batch: int, seed: int = 0, samples: int = 1
) -> Callable[[nn.Module, nn.Module | None], dict[str, Any]]:
    """A function (model, companion) -> log line on validation data, or on test data (for curves) without them.

    Batches have the size of training, because an objective's batch terms depend on it; noise is the same each time.
    Weights that move in training stand at their last value, so that losses of different epochs can be compared.
    """
    split = "valid" if data.valid is not None else "test"
    seen = view(data, split)

    def watch(model: nn.Module, companion: nn.Module | None) -> dict[str, Any]:
        random = Randomness(seed, seen.examples.rows.device)
        sums: dict[str, torch.Tensor] = {}
        means, right = [], {"z": [], "mean": []}
        for index, examples in seen.batches(batch):
            noise = model.noise(random("monitor", int(index[0])), samples, len(index))
            asked = ask(objective, model, random("monitor-prior", int(index[0])), noise, len(data.train))
            terms = objective(draw := model(examples.x, noise, asked))
            values = {"loss": terms.loss, **{k: v.mean() for k, v in terms.example.items()}, **terms.batch}
            if terms.own_bound is not None:
                values["bound"] = terms.own_bound.mean()
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value.double() * len(index)
            means.append(draw.base.loc)
            if companion is not None:
                right["z"].append(accuracy(companion, draw.z[0], examples.labels))
                right["mean"].append(accuracy(companion, draw.base.loc, examples.labels))
        line: dict[str, Any] = {"split": split, "examples": seen.count}
        line |= {name: (total / seen.count).item() for name, total in sums.items()}
        if "rate" in line:
            offset, total = model.decoder.offset(data.shape), -(line["distortion"] + line["rate"])
            line |= {"bound/grey-bce": total} if offset is None else {"elbo": total + offset}
        line["active-units"] = active_units(torch.cat(means))
        if companion is not None:
            line |= {f"accuracy/{k}": 100 * torch.cat(v).mean().item() for k, v in right.items()}
        return line

    return watch

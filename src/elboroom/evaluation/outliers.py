"""Which examples a model finds hardest, by row and by file name."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from elboroom.runs import Run
from elboroom.training.checkpoint import replace_text, unpack

FORMAT = 1


@dataclass(frozen=True)
class Outlier:
    """An example far from the others: its value, its position in the split, and its file name where it has one."""

    value: float
    position: int
    name: str | None = None

    def __str__(self) -> str:
        return f"{self.name or f'example {self.position}'}: {self.value:.4g}"


def outliers(values: Float[Tensor, " n"], names: list[str] | None = None, count: int = 3) -> list[Outlier]:
    """The examples of highest value, the highest first; one that is no number comes before all others."""
    order = torch.where(values.isnan(), torch.inf, values.double()).argsort(descending=True, stable=True)[:count]
    return [Outlier(float(values[i]), i, None if names is None else names[i]) for i in order.tolist()]


def worst(run: Run, score: str = "nll", count: int = 3) -> list[Outlier]:
    """The test examples of a run with the highest value of a score that is kept per example; none where none is."""
    try:
        kept = unpack((run.evaluation / "examples.safetensors").read_bytes())
        values = kept[score]
    except (FileNotFoundError, SafetensorError, KeyError):
        return []
    found, names = outliers(values, None, count), read_names(run.evaluation)
    where = kept.get(f"{score}/positions")
    if where is not None and len(where) == len(values):  # else those of an older evaluation, of fewer examples
        found = [replace(o, position=int(where[o.position])) for o in found]
    return found if names is None else [replace(o, name=names[o.position]) for o in found]


def write_names(folder: Path, names: tuple[str, ...]) -> None:
    """names-test.json: the file name of each test example, in their order."""
    replace_text(folder / "names-test.json", json.dumps({"format": FORMAT, "names": list(names)}, indent=0) + "\n")


def read_names(folder: Path) -> list[str] | None:
    """What `write_names` wrote; None where there is none."""
    try:
        return json.loads((folder / "names-test.json").read_text(encoding="utf-8"))["names"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None

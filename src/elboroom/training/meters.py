"""Sums that stay on the device between log lines, and the watch for the first number that is not finite."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from elboroom.errors import Diverged
from elboroom.records import Draw, Terms


def term_names(terms: Terms, draw: Draw) -> list[str]:
    """What a log line of training holds, in order."""
    clipped = ["raw-norm"] if draw.base is not None and draw.base.norm is not None else []
    return ["loss", *terms.example, *terms.batch, *terms.floors, *clipped]


def term_floors(terms: Terms) -> dict[str, float]:
    """The numbers that mean divergence when they fall below a limit."""
    return {name: floor for name, (_, floor) in terms.floors.items()}


def term_values(terms: Terms, draw: Draw, loss: Float[Tensor, ""]) -> Float[Tensor, " terms"]:
    """Batch means of those numbers, in one vector without a gradient."""
    means = [value.mean() for value in terms.example.values()]
    clipped = [draw.base.norm.mean()] if draw.base is not None and draw.base.norm is not None else []
    floored = [value for value, _ in terms.floors.values()]
    return torch.stack([loss, *means, *terms.batch.values(), *floored, *clipped]).detach()


class Meter:
    """Means over examples since the last log line, and the first step at which a number was not finite or fell below
    its floor."""

    def __init__(
        self, names: Sequence[str], device: torch.device, floors: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        self.names, self.floors = list(names), dict(floors)
        lowest = [self.floors.get(name, -math.inf) for name in self.names]
        self._lowest = torch.tensor(lowest, dtype=torch.float64, device=device)
        self.sums = torch.zeros(len(self.names), dtype=torch.float64, device=device)
        self.examples = 0
        self.first_bad = torch.full((len(self.names),), -1, dtype=torch.int64, device=device)

    def add(self, values: Float[Tensor, " terms"], examples: int, step: int) -> None:
        """One step's batch means; no number is read back to the host."""
        self.sums.add_(values, alpha=examples)
        self.examples += examples
        bad = ~values.isfinite() | (values < self._lowest)
        self.first_bad.masked_fill_((self.first_bad < 0) & bad, step)

    def check(self) -> None:
        """Raise Diverged with the first step and term that was not finite or ran away. This reads from the device."""
        bad = [(step, i) for i, step in enumerate(self.first_bad.tolist()) if step >= 0]
        if bad:
            step = min(step for step, _ in bad)
            culprits = [self.names[i] for s, i in bad if s == step]
            culprit = next((c for c in culprits if c != "loss"), "loss")
            if culprit in self.floors:
                raise Diverged(step, f"{culprit} runaway", f"(its mean fell below {self.floors[culprit]:g})")
            raise Diverged(step, culprit)

    def read(self) -> tuple[dict[str, float], int]:
        """The means by name and the number of examples; the sums start anew."""
        means = (self.sums / max(self.examples, 1)).tolist()
        examples, self.examples = self.examples, 0
        self.sums.zero_()
        return dict(zip(self.names, means, strict=True)), examples

    def state(self) -> dict[str, Tensor]:
        return {"sums": self.sums, "examples": torch.tensor(self.examples)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.sums.copy_(state["sums"])
        self.examples = int(state["examples"])

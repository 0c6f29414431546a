"""Sums that stay on the device between log lines, and the watch for the first number that is not finite."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float, Integer
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


ROWS = 64
"""Steps whose numbers wait to be added up: one small copy a step costs less than six small sums."""


class Meter:
    """Means over examples since the last log line, and the first step at which a number was not finite or fell below
    its floor. No number is read back to the host but by `check` and `read`."""

    def __init__(
        self, names: Sequence[str], device: torch.device, floors: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        self.names, self.floors = list(names), dict(floors)
        lowest = [self.floors.get(name, -math.inf) for name in self.names]
        self._lowest = torch.tensor(lowest, dtype=torch.float32, device=device)
        self.sums = torch.zeros(len(self.names), dtype=torch.float64, device=device)
        self.examples = 0
        self.first_bad = torch.full((len(self.names),), -1, dtype=torch.int64, device=device)
        self._waiting = torch.zeros(ROWS, len(self.names), device=device)
        self._counts: list[int] = []  # examples of each row that waits
        self._steps: list[int] = []

    def add(self, values: Float[Tensor, " terms"], examples: int, step: int) -> None:
        """One step's batch means."""
        self._waiting[len(self._counts)].copy_(values)
        self._counts.append(examples)
        self._steps.append(step)
        self.examples += examples
        if len(self._counts) == ROWS:
            self._settle()

    def _settle(self) -> None:
        """Add up what waits. It happens at every `ROWS` steps since the last log line, whenever a run was saved, so
        that a resumed run's sums are those of the run left alone."""
        rows = self._waiting[: len(self._counts)]
        weights = torch.tensor(self._counts, dtype=torch.float64, device=rows.device)
        self.sums.add_(weights @ rows.double())
        self.first_bad = self._first_bad(rows)
        self._counts, self._steps = [], []

    def _first_bad(self, rows: Float[Tensor, "n terms"]) -> Integer[Tensor, " terms"]:
        """The first step of each number that was bad, with these rows."""
        if not len(rows):
            return self.first_bad
        bad = ~rows.isfinite() | (rows < self._lowest)
        steps = torch.tensor(self._steps, device=rows.device)
        found = torch.where(bad.any(0), steps[bad.int().argmax(0)], -1)
        return torch.where(self.first_bad < 0, found, self.first_bad)

    def check(self) -> None:
        """Raise Diverged with the first step and term that was not finite or ran away. This reads from the device."""
        found = self._first_bad(self._waiting[: len(self._counts)])
        bad = [(step, i) for i, step in enumerate(found.tolist()) if step >= 0]
        if bad:
            step = min(step for step, _ in bad)
            culprits = [self.names[i] for s, i in bad if s == step]
            culprit = next((c for c in culprits if c != "loss"), "loss")
            if culprit in self.floors:
                raise Diverged(step, f"{culprit} runaway", f"(its mean fell below {self.floors[culprit]:g})")
            raise Diverged(step, culprit)

    def read(self) -> tuple[dict[str, float], int]:
        """The means by name and the number of examples; the sums start anew."""
        self._settle()
        means = (self.sums / max(self.examples, 1)).tolist()
        examples, self.examples = self.examples, 0
        self.sums.zero_()
        return dict(zip(self.names, means, strict=True)), examples

    def state(self) -> dict[str, Tensor]:
        rows = len(self._counts)
        waiting = {"waiting": self._waiting[:rows], "steps": torch.tensor(self._steps, dtype=torch.int64)}
        waiting["counts"] = torch.tensor(self._counts, dtype=torch.int64)
        return {"sums": self.sums, "examples": torch.tensor(self.examples), **waiting}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.sums.copy_(state["sums"])
        self.examples = int(state["examples"])
        if "counts" in state:  # checkpoints of version 0.1.0 before 2026-11-21 hold sums alone
            self._counts, self._steps = state["counts"].tolist(), state["steps"].tolist()
            self._waiting[: len(self._counts)].copy_(state["waiting"])

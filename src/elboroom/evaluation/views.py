"""A split as evaluation sees it, its protocol, and a Score from values per example."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from elboroom.data import Data, Examples
from elboroom.numerics import Randomness
from elboroom.records import Batch
from elboroom.runs import Run
from elboroom.scores import DRAWN, Protocol, Score


@dataclass(frozen=True)
class View:
    """Examples of one split, in fixed batches, with binarizations fixed by the data's seed.

    All, or ``count`` of them: the first, or the positions ``drawn``. What is found of a view is in its own order, by
    positions 0 to ``count`` - 1.
    """

    data: Data
    split: str
    examples: Examples
    count: int
    drawn: Integer[Tensor, " count"] | None = None

    @property
    def rows(self) -> str:
        """The hash of the split's rows, with which of them these are where they are not all."""
        if self.count == len(self.examples):
            return self.examples.rows_hash
        which = f":{self.count}" if self.drawn is None else f"{self.count} drawn"
        return f"{self.examples.rows_hash}[{which}]"

    @property
    def copies(self) -> int:
        return self.examples.copies

    def batches(self, size: int = 500, copy: int = 0) -> Iterator[tuple[Tensor, Batch]]:
        """(positions in the view, batch) over the view."""
        device = self.examples.rows.device
        for start in range(0, self.count, size):
            index = torch.arange(start, min(start + size, self.count), device=device)
            yield index, self.examples.fixed(index if self.drawn is None else self.drawn[index], copy)

    def all_copies(self, size: int = 500) -> Iterator[tuple[int, Tensor, Batch]]:
        """(number of the copy, positions in the view, batch): the view once for every binarization of its images."""
        for copy in range(self.copies):
            for index, batch in self.batches(size, copy):
                yield copy, index, batch


def view(data: Data, split: str = "test", count: int | None = None) -> View:
    """A view of a split; at most ``count`` examples.

    Fewer are the first ones. Of sorted data these are of one class or writer, so there they are drawn: the first of a
    fixed permutation of the split, in the order of the split.
    """
    examples = data.splits()[split]
    some = min(count or len(examples), len(examples))
    if some == len(examples) or not data.sorted:
        return View(data, split, examples, some)
    drawn = torch.randperm(len(examples), generator=Randomness(0)("some of sorted data"))[:some].sort().values
    return View(data, split, examples, some, drawn.to(examples.rows.device))


def trained(run: Run) -> str:
    """What was trained, as protocols say it."""
    apart = "" if run.config.trains_encoder else "; the encoder was not trained"
    return ("bound" if run.config.trains_bound else f"no bound ({run.config.objective.kind})") + apart


def protocol(run: Run, seen: View, **more: object) -> Protocol:
    """The conditions under which scores of this run on this view hold."""
    objective = run.config.objective
    return Protocol(
        data=seen.data.title,
        split=seen.split,
        rows=seen.rows,
        binarization=seen.data.binarization,
        copies=seen.copies,
        likelihood=run.model.decoder.name,
        weights=run.weights,
        checkpoint=run.checkpoint_hash,
        beta=None if objective.is_bound and objective.effective_beta == 1 else objective.effective_beta,
        trained=trained(run),
        **more,
    )


def code_protocol(run: Run, seen: View, **more: object) -> Protocol:
    """The conditions of a score that reads codes: of one binarization of each image, with the samples of that code."""
    drawn = DRAWN.get(str(more.get("code", "")), 0)
    return dataclasses.replace(protocol(run, seen, **{"samples": drawn, **more}), copies=1)


def mean_score(name: str, values: Float[Tensor, " n"], unit: str, better: str, protocol: Protocol) -> Score:
    """The mean over examples in float64, with its standard error over images."""
    values = values.double()
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else None
    return Score(
        name=name,
        value=values.mean().item(),
        unit=unit,
        better=better,
        stderr=error,
        examples=len(values),
        protocol=protocol,
    )

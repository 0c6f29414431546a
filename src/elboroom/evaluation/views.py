"""A split as evaluation sees it, its protocol, and a Score from values per example."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from elboroom.data import Data, Examples
from elboroom.records import Batch
from elboroom.runs import Run
from elboroom.scores import DRAWN, Protocol, Score


@dataclass(frozen=True)
class View:
    """The first ``count`` examples of one split, in fixed batches, with binarizations fixed by the data's seed."""

    data: Data
    split: str
    examples: Examples
    count: int

    @property
    def copies(self) -> int:
        return self.examples.copies

    def batches(self, size: int = 500, copy: int = 0) -> Iterator[tuple[Tensor, Batch]]:
        """(positions, batch) over the view."""
        device = self.examples.rows.device
        for start in range(0, self.count, size):
            index = torch.arange(start, min(start + size, self.count), device=device)
            yield index, self.examples.fixed(index, copy)


def view(data: Data, split: str = "test", count: int | None = None) -> View:
    """A view of a split; at most ``count`` examples."""
    examples = data.splits()[split]
    return View(data, split, examples, min(count or len(examples), len(examples)))


def trained(run: Run) -> str:
    """What was trained, as protocols say it."""
    objective = run.config.objective
    apart = "" if run.config.trains_encoder else "; the encoder was not trained"
    return ("bound" if objective.is_bound else f"no bound ({objective.kind})") + apart


def protocol(run: Run, seen: View, **more: object) -> Protocol:
    """The conditions under which scores of this run on this view hold."""
    objective = run.config.objective
    rows = seen.examples.rows_hash if seen.count == len(seen.examples) else f"{seen.examples.rows_hash}[:{seen.count}]"
    return Protocol(
        data=seen.data.title,
        split=seen.split,
        rows=rows,
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


def mean_score(
    name: str, values: Float[Tensor, " n"], unit: str, better: str, protocol: Protocol, stderr: bool = True
) -> Score:
    """The mean over examples in float64, with its standard error over images."""
    values = values.double()
    error = values.std().item() / math.sqrt(len(values)) if stderr and len(values) > 1 else None
    return Score(
        name=name,
        value=values.mean().item(),
        unit=unit,
        better=better,
        stderr=error,
        examples=len(values),
        protocol=protocol,
    )

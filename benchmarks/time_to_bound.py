"""How much sooner than a reference the variants of a study come to the bound at which it ends.

    python benchmarks/time_to_bound.py runs/aevb --reference aevb --rounds 5      # on a quiet machine

For each latent size (or whatever the axes are) the reference's best test ELBO is the mark. A row says after how many
training examples a variant first reaches it (at the end of an epoch, since that is when it is evaluated), and what an
example costs: steps of all variants are timed here, interleaved, the median over rounds. Seconds are the product of the
two, so the load under which the runs were trained does not matter; evaluations, checkpoints and the search of a step
size are not in them.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from elboroom import build
from elboroom.report.folders import RunFolder, read_study
from elboroom.studies.assemble import make_trainer
from elboroom.training import Trainer
from elboroom.training.runtime import start

STEPS = 100  # in a block


def curve(run: RunFolder) -> list[tuple[int, float]]:
    """(training examples, test ELBO) of each evaluation during training."""
    lines = [line for line in run.metrics if line.get("split") != "train" and "elbo" in line]
    return [(line["step"] * run.config.training.batch, line["elbo"]) for line in lines]


def examples_to(mark: float, points: list[tuple[int, float]]) -> int | None:
    """When a curve first reaches the mark; None where it never does."""
    return next((examples for examples, elbo in points if elbo >= mark), None)


def seconds_an_example(runs: list[RunFolder], rounds: int) -> dict[str, float]:
    """By label, the median over rounds; a round times a block of steps of every run."""
    runtime, loaded = start("cpu", threads=1), {}
    trainers: dict[str, Trainer] = {}
    for run in runs:
        data = loaded.setdefault(run.data, build.data(run.config))
        trainers[run.label] = make_trainer(run.config, data, runtime, Path(), "", fresh=False)
        trainers[run.label].trial(STEPS)
    taken: dict[str, list[float]] = {label: [] for label in trainers}
    for _ in range(rounds):
        for label, trainer in trainers.items():
            begun = time.perf_counter()
            trainer.trial(STEPS)
            taken[label].append((time.perf_counter() - begun) / STEPS / trainer.plan.batch)
    return {label: statistics.median(seconds) for label, seconds in taken.items()}


def rows(runs: list[RunFolder], reference: str, rounds: int) -> Iterator[str]:
    """A line of the table for each run of one point of the axes; the reference is among them."""
    own = next((run for run in runs if run.variant == reference and curve(run)), None)
    if own is None:
        return
    compared = [run for run in runs if curve(run)]
    cost, mark = seconds_an_example(compared, rounds), max(elbo for _, elbo in curve(own))
    its = examples_to(mark, curve(own)) * cost[own.label]
    for run in compared:
        examples, best = examples_to(mark, curve(run)), max(elbo for _, elbo in curve(run))
        mine = examples and examples * cost[run.label]
        reached = f"{examples:,} | {mine:.0f} | {its / mine:.1f}x" if mine else "never | |"
        yield f"| {run.label} | {mark:.2f} | {1e6 * cost[run.label]:.0f} | {reached} | {best:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--reference", default="aevb", help="the variant whose best bound is the mark")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    groups: dict[str, list[RunFolder]] = {}
    for run in read_study(asked.study).runs:
        groups.setdefault(str(run.axes), []).append(run)
    print("| run | mark: ELBO (nats) | µs an example | examples to it | seconds to it | times sooner | own best ELBO |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for group in groups.values():
        for line in rows(group, asked.reference, asked.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()

"""Seconds that the variants of a study take to the bound at which one of them ends.

    python benchmarks/time_to_bound.py runs/aevb --reference aevb

For each latent size (or whatever the axes are) the reference's best test ELBO is the mark; a row says when each variant
first reaches it, and how many times sooner than the reference that is. Times are those of the runs' own timing.jsonl,
evaluations on the way included; runs of one machine and one load are to be compared, none else.
"""

import argparse
from pathlib import Path

from elboroom.report.folders import RunFolder, read_study


def seconds_by_step(run: RunFolder) -> dict[int, float]:
    """Training seconds up to each logged step, over all sessions: the clock starts anew in each."""
    total, before, found = 0.0, 0.0, {}
    for line in run.timing:
        if line["seconds"] < before:
            total += before
        before = line["seconds"]
        found[line["step"]] = total + before
    return found


def curve(run: RunFolder) -> list[tuple[float, float]]:
    """(seconds, test ELBO) of each evaluation during training."""
    clock = seconds_by_step(run)
    lines = [line for line in run.metrics if line.get("split") != "train" and "elbo" in line]
    return [(clock[line["step"]], line["elbo"]) for line in lines if line["step"] in clock]


def time_to(mark: float, points: list[tuple[float, float]]) -> float | None:
    """When a curve first reaches the mark; None where it never does."""
    return next((seconds for seconds, elbo in points if elbo >= mark), None)


def rows(runs: list[RunFolder], reference: str) -> list[str]:
    """A line of the table for each run whose point of the axes has a reference."""
    marks = {str(r.axes): r for r in runs if r.variant == reference and curve(r)}
    lines = []
    for run in runs:
        own = marks.get(str(run.axes))
        if own is None or not curve(run):
            continue
        mark = max(elbo for _, elbo in curve(own))
        mine, its = time_to(mark, curve(run)), time_to(mark, curve(own))
        best = max(elbo for _, elbo in curve(run))
        reached = "never" if mine is None else f"{mine:.0f}"
        ratio = "" if mine is None else f"{its / mine:.1f}x"
        lines.append(f"| {run.label} | {mark:.2f} | {reached} | {ratio} | {best:.2f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--reference", default="aevb", help="the variant whose best bound is the mark")
    asked = parser.parse_args()
    print("| run | mark: ELBO (nats) | seconds to it | times sooner | own best ELBO |\n| --- | --- | --- | --- | --- |")
    print("\n".join(rows(read_study(asked.study).runs, asked.reference)))


if __name__ == "__main__":
    main()

"""Sides that run in turn, round after round, and what a round was worth: a disturbed one is seen, and repeated."""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
QUIET = 0.05  # share of the machine that other processes may take during a block that counts


@dataclass(frozen=True)
class Block:
    """One timed stretch of one side."""

    units: int
    seconds: float
    cpu: float
    others: float  # share of the machine's cores that was busy with something else
    values: tuple[float, ...] = ()

    @property
    def rate(self) -> float:
        return self.units / self.seconds


@dataclass
class Side:
    """A child process that keeps its state and runs a block of its loop on request (see `ticker`)."""

    name: str
    command: Sequence[str]
    threads: int
    variant: str = ""
    process: subprocess.Popen | None = None
    blocks: list[Block] = field(default_factory=list)

    def start(self) -> None:
        """Start the process and wait until its first step is done."""
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        self.process = subprocess.Popen(
            list(self.command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._read()

    def block(self, seconds: float) -> Block:
        """Run for so long, and watch the rest of the machine meanwhile."""
        busy, started = busy_seconds(), time.perf_counter()
        print(seconds, file=self.process.stdin, flush=True)
        told = self._read()
        wall = time.perf_counter() - started
        others = max(0.0, busy_seconds() - busy - told["cpu"]) / (wall * os.cpu_count())
        return Block(told["units"], told["seconds"], told["cpu"], others, tuple(told["values"]))

    def stop(self) -> None:
        """End the process by the end of its input."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process = None

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} {self.variant}: ended with code {self.process.wait()} (its words are above)")
        return json.loads(line)


def busy_seconds() -> float:
    """Seconds that all cores together have been busy, or taken away by the hypervisor; 0 where Linux is not there."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, path.read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Plan:
    """How long a block is, how many rounds count, and how long to wait for quiet ones."""

    rounds: int = 7
    seconds: float = 2.0
    patience: float = 120.0  # seconds per group that may go into repeating disturbed rounds
    say: Callable[[str], None] = print


def compare(slots: Sequence[Sequence[Side]], plan: Plan) -> list[Side]:
    """Time the fastest variant of every slot, interleaved A B C A B C; the chosen sides hold their blocks."""
    everyone = [side for slot in slots for side in slot]
    try:
        for side in everyone:
            side.start()
        chosen = [_fastest(slot, everyone, plan) for slot in slots]
        for side in everyone:
            if side not in chosen:
                side.stop()
        _rounds(chosen, plan)
    finally:
        for side in everyone:
            side.stop()
    return chosen


def _fastest(slot: Sequence[Side], everyone: Sequence[Side], plan: Plan) -> Side:
    """The variant with the highest median rate of three short rounds; everyone warms up in the first."""
    if len(slot) == 1:
        slot[0].block(plan.seconds / 2)
        return slot[0]
    trials = {id(side): [] for side in slot}
    for _ in range(3):
        for side in slot:
            trials[id(side)].append(side.block(plan.seconds / 2).rate)
    for side in slot:
        plan.say(f"  {side.name}, {side.variant}: {statistics.median(trials[id(side)]):.4g}/s")
    return max(slot, key=lambda side: statistics.median(trials[id(side)]))


def _rounds(sides: Sequence[Side], plan: Plan) -> None:
    """Rounds until enough were quiet or patience is at its end; the quietest are kept, in the order of time."""
    held: list[list[Block]] = []
    until = time.monotonic() + plan.patience
    while len(_quiet(held)) < plan.rounds and (len(held) < plan.rounds or time.monotonic() < until):
        held.append([side.block(plan.seconds) for side in sides])
        worst = max(block.others for block in held[-1])
        rates = ", ".join(f"{side.name} {block.rate:.4g}/s" for side, block in zip(sides, held[-1], strict=True))
        plan.say(f"  round {len(held)}: {rates}; others took up to {worst:.0%}, load {os.getloadavg()[0]:.2f}")
    best = sorted(sorted(held, key=_disturbance)[: plan.rounds], key=held.index)
    for index, side in enumerate(sides):
        side.blocks = [blocks[index] for blocks in best]


def _disturbance(blocks: Sequence[Block]) -> float:
    return max(block.others for block in blocks)


def _quiet(held: Sequence[Sequence[Block]]) -> list[Sequence[Block]]:
    return [blocks for blocks in held if _disturbance(blocks) <= QUIET]


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g}–{self.high:.3g})"


def rate(side: Side) -> Spread:
    """Units of work per second."""
    return Spread.of([block.rate for block in side.blocks])


def ratio(one: Side, other: Side) -> Spread:
    """How many times as fast one side is, by round."""
    return Spread.of([a.rate / b.rate for a, b in zip(one.blocks, other.blocks, strict=True)])


def disturbed(sides: Sequence[Side]) -> int:
    """Rounds kept although something else was running."""
    return sum(max(blocks) > QUIET for blocks in zip(*[[b.others for b in s.blocks] for s in sides], strict=True))

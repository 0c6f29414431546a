"""Timings of elboroom against a peer and against the machine's own limit, as ratios.

    python benchmarks/run.py --pythae PYTHON     # PYTHON: an interpreter with pythae 0.1.2; without it, no peer

Sides run in turn, A B C A B C, each in a process of its own; a ratio is formed within a round, and the table gives its
median, smallest and largest. A round in which other processes took part of the machine is repeated.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import machine
from harness import HERE, Plan, Side, Spread, compare, cpu_ratio, disturbed, rate, ratio
from side_bare import FLOPS

from elboroom.training.runtime import bf16_gain

BUDGET = 64 << 20  # what `log_evidence` promises by default
HELP_SECONDS = 0.35


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    value: str
    target: str = ""
    met: bool | None = None
    disturbed: int = 0
    rounds: int = 0


@dataclass
class Setting:
    """What every benchmark needs to know."""

    threads: int
    plan: Plan
    pythae: str | None
    folder: Path
    samples: int
    images: int
    lines: list[Line] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def side(
        self,
        name: str,
        module: str,
        *arguments: str,
        variant: str = "",
        python: str = sys.executable,
        **environment: str,
    ) -> Side:
        """A child process of one of the ``side_*`` modules."""
        command = [python, str(HERE / f"side_{module}.py"), *arguments]
        command += ["--threads", str(self.threads), "--folder", str(self.folder)]
        return Side(name, command, self.threads, variant, environment)

    def compare(self, title: str, slots: Sequence[Sequence[Side]], plan: Plan | None = None) -> dict[str, Side]:
        """Run the sides in turn; by name, and every block into the raw results."""
        print(f"\n{title}")
        sides = compare([slot for slot in slots if slot], plan or self.plan)
        self.raw[title] = {f"{s.name} {s.variant}".strip(): [asdict(block) for block in s.blocks] for s in sides}
        return {side.name: side for side in sides}

    def line(
        self, what: str, value: object, of: Sequence[Side] = (), target: str = "", met: bool | None = None
    ) -> None:
        """One more line of the table."""
        rounds = len(of[0].blocks) if of else 0
        self.lines.append(Line(what, str(value), target, met, disturbed(of) if of else 0, rounds))
        print(f"  {what}: {value} {target}")

    def at_least(self, what: str, value: Spread, least: float, of: Sequence[Side]) -> None:
        """A ratio with a target."""
        self.line(what, f"{value}x", of, f"≥ {least}x", value.median >= least)
        self.line(f"{what}, by CPU second", f"{cpu_ratio(*of)}x", of)


def training(setting: Setting) -> None:
    """The MLP's training loop against pythae's, a bare loop and the matrix products alone."""
    slots = [
        [
            setting.side("elboroom", "elboroom", "train", variant="eager"),
            setting.side("elboroom", "elboroom", "train", "--compile", variant="compiled"),
        ],
        [
            setting.side("bare loop", "bare", "train", variant="eager"),
            setting.side("bare loop", "bare", "train", "--compile", variant="compiled"),
        ],
        _pythae_training(setting),
        [setting.side("products", "bare", "products")],
        [setting.side("square product", "bare", "square")],
        [setting.side("batches", "elboroom", "batches")],
    ]
    found = setting.compare("training, 784-500-20, batch 100, MNIST", slots)
    ours, bare, batches = found["elboroom"], found["bare loop"], found["batches"]
    setting.line(f"elboroom ({ours.variant}), images/s", rate(ours), [ours])
    setting.line(f"bare loop ({bare.variant}), images/s", rate(bare), [bare])
    if peer := found.get("pythae"):
        setting.line(f"pythae ({peer.variant}), images/s", rate(peer), [peer])
        setting.at_least("training: elboroom / pythae", ratio(ours, peer), 1.5, [ours, peer])
    setting.at_least("training: elboroom / bare loop", ratio(ours, bare), 0.95, [ours, bare])
    _against_the_machine(setting, ours, found["products"], found["square product"])
    cost = ratio(ours, batches)
    setting.line("making a batch, share of a step", percent(cost), [ours, batches])


def _pythae_training(setting: Setting) -> list[Side]:
    if setting.pythae is None:
        return []
    variants = {"eager": (), "compiled": ("--compile",), "eager, 1 loader": ("--workers", "1")}
    return [
        setting.side("pythae", "pythae", "train", *arguments, variant=name, python=setting.pythae)
        for name, arguments in variants.items()
    ]


def _against_the_machine(setting: Setting, ours: Side, products: Side, square: Side) -> None:
    """What part of the machine's float32 rate the whole step reaches."""
    peak = rate(square)
    setting.line("large matrix product, GFLOP/s", Spread(*(x / 1e9 for x in asdict(peak).values())), [square])
    reached = Spread.of([FLOPS * a.rate / b.rate for a, b in zip(ours.blocks, square.blocks, strict=True)])
    setting.line("step's FLOP/s / large matrix product's", percent(reached), [ours, square])
    setting.line("step / its own matrix products alone", percent(ratio(ours, products)), [ours, products])


def percent(share: Spread) -> str:
    """A ratio as per cent."""
    return f"{share.median:.1%} ({share.low:.1%}–{share.high:.1%})"


def convolutions(setting: Setting) -> None:
    """μ-VAE's network: memory layout, and bf16 where this processor has it."""
    gain, why = bf16_gain()
    conv = ("train", "--network", "conv")
    slots = [
        [setting.side("channels-last", "elboroom", *conv)],
        [setting.side("default layout", "elboroom", *conv, "--contiguous")],
    ]
    if gain >= 1:
        slots.append([setting.side("bf16", "elboroom", *conv, "--precision", "bf16")])
    found = setting.compare("training, μ-VAE's convolutional network, batch 64, MNIST", slots)
    last, plain = found["channels-last"], found["default layout"]
    setting.line("convolutions, channels-last, images/s", rate(last), [last])
    setting.line("convolutions: channels-last / default layout", f"{ratio(last, plain)}x", [last, plain])
    if gain >= 1:
        setting.line("convolutions: bf16 / fp32", f"{ratio(found['bf16'], last)}x", [found["bf16"], last])
    else:
        setting.line("convolutions: bf16 / fp32", f"not used: {why}")


def likelihood(setting: Setting) -> None:
    """Importance-sampled NLL against pythae's, on the same weights and images."""
    common = ("nll", "--images", str(setting.images), "--samples", str(setting.samples))
    slots = [[setting.side("elboroom", "elboroom", *common)], _pythae_nll(setting, common)]
    found = setting.compare(f"NLL, {setting.images} images, {setting.samples} samples each", slots)
    ours = found["elboroom"]
    setting.line("NLL, elboroom, images x samples/s", rate(ours), [ours])
    if peer := found.get("pythae"):
        setting.line(f"NLL, pythae ({peer.variant}), images x samples/s", rate(peer), [peer])
        setting.at_least("NLL: elboroom / pythae", ratio(ours, peer), 2.5, [ours, peer])
        _same_value(setting, ours, peer)
    _memory(setting)


def _pythae_nll(setting: Setting, common: tuple[str, ...]) -> list[Side]:
    if setting.pythae is None:
        return []
    sizes = [size for size in (100, 500, 1000) if setting.samples % size == 0] or [setting.samples]
    return [
        setting.side("pythae", "pythae", *common, "--batch", str(s), variant=f"batch {s}", python=setting.pythae)
        for s in sizes
    ]


def _same_value(setting: Setting, ours: Side, peer: Side) -> None:
    """The means over all timed passes, which differ in their samples: equal within two standard errors?"""
    a, b = ([value for block in side.blocks for value in block.values] for side in (ours, peer))
    if min(len(a), len(b)) < 2:
        return
    error = math.sqrt(statistics.variance(a) / len(a) + statistics.variance(b) / len(b))
    difference = statistics.fmean(a) - statistics.fmean(b)
    met = abs(difference) <= 2 * error
    setting.line("NLL: elboroom - pythae, nats", f"{difference:+.4f}", (), f"within 2 x {error:.4f}", met)


def _memory(setting: Setting) -> None:
    for samples in (100, setting.samples * 10):
        arguments = ("memory", "--images", "32", "--samples", str(samples))
        command = setting.side("memory", "elboroom", *arguments).command
        grown = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)["bytes"]
        target = f"≤ {BUDGET >> 20} MiB"
        setting.line(
            f"NLL, {samples} samples: peak memory grows by", f"{grown / 2**20:.1f} MiB", (), target, grown <= BUDGET
        )


def waiting(setting: Setting) -> None:
    """How threads wait for each other: spinning or asleep, alone on the machine and with another process per core."""
    alone = setting.compare("waiting of threads, alone", _waiting(setting))
    setting.line("threads asleep / spinning, alone", f"{ratio(*alone.values())}x", list(alone.values()))
    spin = [sys.executable, "-c", "while True: pass"]
    neighbours = [subprocess.Popen(spin) for _ in range(os.cpu_count())]
    try:
        shared = setting.compare("waiting of threads, shared", _waiting(setting), replace(setting.plan, patience=0))
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    setting.line("threads asleep / spinning, a busy process per core", f"{ratio(*shared.values())}x")


def _waiting(setting: Setting) -> list[list[Side]]:
    """libgomp's default is to spin 300,000 times; said in full, so that the caller's environment does not matter."""
    asleep = setting.side("asleep", "elboroom", "train", OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0")
    return [[asleep], [setting.side("spinning", "elboroom", "train", GOMP_SPINCOUNT="300000")]]


def startup(setting: Setting) -> None:
    """CPU time of `elboroom --help`, and whether it imports torch."""
    print("\nelboroom --help")
    code = "import sys; sys.argv = ['elboroom', '--help']; import elboroom.cli as c; c.main()"
    seen = Spread.of([_cpu_seconds([sys.executable, "-c", code]) for _ in range(setting.plan.rounds)])
    setting.line("--help, CPU seconds", seen, (), f"< {HELP_SECONDS}", seen.median < HELP_SECONDS)
    ask = f"import atexit, os, sys; atexit.register(lambda: os.write(2, str('torch' in sys.modules).encode())); {code}"
    told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False).stderr
    setting.line("--help imports torch", told, (), "False", told == "False")


def _cpu_seconds(command: Sequence[str]) -> float:
    """User and system time of a child."""
    before = os.times()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


BENCHMARKS: dict[str, Callable[[Setting], None]] = {
    "startup": startup,
    "training": training,
    "convolutions": convolutions,
    "likelihood": likelihood,
    "waiting": waiting,
}


def table(setting: Setting, facts: dict[str, str]) -> str:
    """The results as Markdown."""
    rows = ["| what | median (min–max) | target | met | rounds |", "| --- | --- | --- | --- | --- |"]
    for line in setting.lines:
        met = {None: "", True: "yes", False: "**no**"}[line.met]
        rounds = f"{line.rounds}, {line.disturbed} disturbed" if line.disturbed else str(line.rounds or "")
        rows.append(f"| {line.what} | {line.value} | {line.target} | {met} | {rounds} |")
    about = [f"- {name}: {fact}" for name, fact in facts.items()]
    return "\n".join(["# Latest measurement", "", *about, "", *rows, ""])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", choices=[*BENCHMARKS, []], help="which benchmarks; all by default")
    parser.add_argument("--pythae", metavar="PYTHON", help="an interpreter that has pythae 0.1.2 and the same torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a block")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds per benchmark for quiet rounds")
    parser.add_argument("--images", type=int, default=20, help="test images whose NLL is estimated")
    parser.add_argument("--samples", type=int, default=1000, help="samples for each of them")
    parser.add_argument("--epochs", type=int, default=2, help="training of the weights whose NLL is estimated")
    parser.add_argument("--out", type=Path, default=None, help="folder for results.md and results.json")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write where that was asked for."""
    options = arguments()
    facts = machine.facts(options.threads)
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    plan = Plan(options.rounds, options.seconds, options.patience)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(options.threads, plan, options.pythae, Path(folder), options.samples, options.images)
        export = setting.side("export", "elboroom", "export", "--epochs", str(options.epochs)).command
        subprocess.run(export, check=True)
        for name in options.only or BENCHMARKS:
            BENCHMARKS[name](setting)
    facts["load after"] = " ".join(f"{load:.2f}" for load in os.getloadavg())
    text = table(setting, facts)
    print(f"\n{text}")
    if options.out is not None:
        (options.out / "results.md").write_text(text, encoding="utf-8")
        content = {"format": 1, "machine": facts, "table": [asdict(x) for x in setting.lines], "blocks": setting.raw}
        (options.out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What each objective costs over the ELBO, and what pairs of posteriors cost, as ratios.

    python benchmarks/objectives.py [--rounds 9] [--steps 20] [--threads 1] [--out benchmarks/objectives.md]

Everything runs in this process, in turn, round after round; a ratio is formed within a round, and the table gives its
median, smallest and largest, by wall clock and by CPU second. On a busy machine believe the latter, with one
thread (OMP_NUM_THREADS=1). Images are drawn: what a step computes does not depend on them.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from harness import Spread
from torch import Tensor

from elboroom import build
from elboroom.config import objectives as configs
from elboroom.config import run_from
from elboroom.config.base import kind_of
from elboroom.errors import InputError
from elboroom.numerics import Randomness
from elboroom.objectives import ask, mutual_statistics

SHAPE, BATCH, PAIRS = (1, 28, 28), 100, (100, 32)
MEMORY = (1024, 1024)
QUARTER, GIBIBYTE = 0.25, 1024
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "mutual-divergence": [{"pair_softplus": form} for form in ("before-mean", "after-mean")],
    "importance-weighted": [{"samples": 5}, {"samples": 5, "gradient": "doubly-reparameterized"}],
    "free-bits": [{}, {"per": "dimension"}],
}
"""Settings of a kind that cost differently; each other kind is timed as it stands."""


@dataclass
class Timed:
    """One piece of work, and its seconds by round."""

    name: str
    work: Callable[[], None]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def block(self, times: int) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(times):
            self.work()
        self.wall.append((time.perf_counter() - wall) / times)
        self.cpu.append((time.process_time() - cpu) / times)


def kinds(choice: Any) -> list[type]:
    """The configuration classes of a choice, so that a new objective is timed without being named here."""
    return [choice] if isinstance(choice, type) else [c for a in get_args(choice) for c in kinds(a)]


def step_of(objective: dict[str, Any]) -> Callable[[], None]:
    """One training step of 784-500-20 at batch 100, noise and fused Adam included."""
    config = run_from({"data": {"name": "mnist", "binarize": "dynamic"}, "objective": objective})
    model, chosen = build.model(config, SHAPE, "binary"), build.objective(config)
    optimizer, random = build.optimizer(config, model, 60_000), Randomness(0)
    x = (torch.rand(BATCH, *SHAPE, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    count = [0]

    def step() -> None:
        count[0] += 1
        noise = model.noise(random("noise", count[0]), config.objective.samples, BATCH)
        asked = ask(chosen, model, random("prior", count[0]), noise, 60_000, count[0], x, torch.arange(BATCH))
        chosen(model(x, noise, asked)).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def objectives() -> list[Timed]:
    """A step with each objective; one that stands beside no Gaussian posterior is left out with its reason."""
    found = []
    for cls in kinds(configs.Objective):
        for settings in VARIANTS.get(kind_of(cls), [{}]):
            name = " ".join([kind_of(cls), *(f"{k} {v}" for k, v in settings.items())])
            try:
                found.append(Timed(name, step_of({"kind": kind_of(cls), **settings})))
            except InputError as reason:
                print(f"left out: {name}: {reason}")
    return found


def pairs(softplus: bool) -> Callable[[], None]:
    """Forward and backward of the statistics of all pairs at batch 100 and 32 latents."""
    generator = torch.Generator().manual_seed(0)
    loc, log_var = (torch.randn(*PAIRS, generator=generator).requires_grad_() for _ in range(2))

    def both() -> None:
        by_dim, soft, std = mutual_statistics(loc, log_var, softplus=softplus)
        torch.autograd.grad((soft if softplus else by_dim.sum()) + std, (loc, log_var))

    return both


def rounds(works: list[Timed], count: int, times: int) -> None:
    """All in turn; the first round warms up and does not count."""
    for number in range(count + 1):
        for work in works:
            work.block(times if number else 3)
        print(f"  round {number} of {count}", file=sys.stderr)
    for work in works:
        work.wall, work.cpu = work.wall[1:], work.cpu[1:]


def ratio(work: Timed, base: Timed, clock: str) -> Spread:
    return Spread.of([a / b for a, b in zip(getattr(work, clock), getattr(base, clock), strict=True)])


def grown(form: str) -> float:
    """MiB by which the memory of a fresh process peaks over a pass at batch 1,024 and 1,024 latents."""
    command = [sys.executable, __file__, "--memory", form]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_memory(form: str) -> None:
    """In a process of its own: one small pass to warm up, then the large one."""

    def passed(loc: Tensor, log_var: Tensor) -> None:
        by_dim, soft, std = mutual_statistics(loc, log_var, softplus=form == "before-mean")
        ((soft if form == "before-mean" else by_dim.sum()) + std).backward()

    loc, log_var = (torch.randn(*MEMORY, requires_grad=True) for _ in range(2))
    passed(loc[:8], log_var[:8])
    before = peak_kib()
    passed(loc, log_var)
    print((peak_kib() - before) / 1024)


def peak_kib() -> int:
    """The peak of this process's resident memory (Linux); a child's ru_maxrss would begin with its parent's."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def table(works: list[Timed], base: Timed, of_pairs: list[Timed], memory: dict[str, float]) -> str:
    """Everything as Markdown."""
    lines = ["# What objectives cost", ""]
    lines += [
        f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), load {os.getloadavg()[0]:.1f}; 784-500-20"
    ]
    lines += [
        f"at batch {BATCH}; median (min–max) of {len(base.cpu)} interleaved rounds. Believe CPU where load is high.",
        "",
    ]
    lines += [f"A step with the ELBO: {1e3 * Spread.of(base.cpu).median:.2f} ms of CPU.", ""]
    lines += ["| step with | / ELBO, CPU | / ELBO, wall |", "| --- | --- | --- |"]
    lines += [f"| `{w.name}` | {ratio(w, base, 'cpu')} | {ratio(w, base, 'wall')} |" for w in works if w is not base]
    lines += [
        "",
        f"Pairs at batch {PAIRS[0]}, {PAIRS[1]} latents, forward and backward, over that step; target < 0.25.",
    ]
    lines += ["", "| form | / step, CPU | / step, wall | met | memory at 1,024 x 1,024 (target < 1 GiB) |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for work in of_pairs:
        cpu = ratio(work, base, "cpu")
        met = "yes" if cpu.median < QUARTER and memory[work.name] < GIBIBYTE else "**no**"
        lines.append(f"| {work.name} | {cpu} | {ratio(work, base, 'wall')} | {met} | {memory[work.name]:.0f} MiB |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory", choices=("before-mean", "after-mean"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        measure_memory(options.memory)
        return
    works = objectives()
    base = next(w for w in works if w.name == "elbo")
    of_pairs = [Timed(form, pairs(form == "before-mean")) for form in ("before-mean", "after-mean")]
    rounds([*works, *of_pairs], options.rounds, options.steps)
    made = table(works, base, of_pairs, {work.name: grown(work.name) for work in of_pairs})
    print(made)
    if options.out:
        options.out.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()

"""How often `elboroom doctor` finds what was planted, and how often it cries wolf over a healthy run.

    python benchmarks/doctor.py digits sprites mnist --out results/doctor     # a quarter of an hour

Healthy runs: VAE, μ-VAE, IWAE. Planted: a decoder that reads nothing (trained so, or made so after training), β = 200,
and dead dimensions, a random set by the seed (the encoder's output made constant after training, the decoder's weights
zeroed after training, or a decoder trained without them). A plant counts as found when its verdict is given, for dead
dimensions with exactly the planted ones; an alarm over a healthy run is a false one. The thresholds were set on digits
with the seeds 100 and 101; the seeds here begin at 0. One threshold was moved after that count, and the healthy runs
were counted again with other seeds (``--healthy --first 20``).
"""

import argparse
import json
import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from elboroom import runs
from elboroom.config import run_from
from elboroom.config.base import merged
from elboroom.evaluation.checkup import Checkup, examine
from elboroom.evaluation.subject import Subject
from elboroom.runs import Run, code_commit
from elboroom.studies.execute import execute

HERE = Path(__file__).parent
LATENT = 20
MLP = {"kind": "mlp", "hidden": [128]}
MODEL = {"encoder": MLP, "decoder": MLP, "posterior": {"latent": LATENT}}
DATA: dict[str, dict[str, Any]] = {
    "digits": {"data": {"name": "digits", "binarize": "dynamic"}, "training": {"epochs": 30}},
    "sprites": {"data": {"name": "sprites"}, "training": {"epochs": 6}},
    "fashion-mnist": {
        "data": {"name": "fashion-mnist", "binarize": "dynamic", "limit": 20_000},
        "training": {"epochs": 6},
    },
    "mnist": {"data": {"name": "mnist", "binarize": "dynamic"}, "training": {"epochs": 2}},
}
HEALTHY: dict[str, dict[str, Any]] = {
    "VAE": {},
    "μ-VAE": {"objective": "mu", "model": {"posterior": {"clip": 3}}},
    "IWAE": {"objective": "importance-weighted"},
}
BETA = {"objective": {"kind": "elbo", "beta": 200}}
NAMES = {"digits": 20, "sprites": 5, "fashion-mnist": 5, "mnist": 1}  # data set -> seeds


def deaf_decoder(dimensions: list[int]) -> dict[str, Any]:
    """The decoder of planted.py in the place of the MLP."""
    return {"model": {"decoder": {"kind": "planted:Deaf", "options": {"dimensions": dimensions}}}}


def some_dimensions(seed: int) -> list[int]:
    """1 to 10 of the dimensions."""
    draw = random.Random(seed)
    return sorted(draw.sample(range(LATENT), draw.randint(1, 10)))


# After training ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def cut_decoder(run: Run, dimensions: list[int]) -> None:
    """Zero the decoder's weights of these dimensions."""
    first = next(m for m in run.model.decoder.modules() if isinstance(m, torch.nn.Linear))
    first.weight[:, dimensions] = 0


@torch.no_grad()
def cut_encoder(run: Run, dimensions: list[int]) -> None:
    """Make the encoder's mean and log-variance of these dimensions the same for all images: their biases."""
    for rows in (dimensions, [LATENT + d for d in dimensions]):
        run.model.encoder.head.weight[rows] = 0


# Counting ------------------------------------------------------------------------------------------------------------


def trained(name: str, changes: dict[str, Any], seed: int, folder: Path) -> Run:
    """A trained run; its evaluations are few, since they cost more than the training."""
    base = {"model": MODEL, "training": {"threads": 1, "evaluate_every": 1000}, "seed": seed}
    execute(run_from(merged(merged(base, DATA[name]), changes)), folder)
    return runs.load(folder, trust=True)


def again(run: Run) -> Run:
    """The same run, opened anew; the data is shared."""
    opened = runs.load(run.folder, trust=True)
    opened.__dict__["data"] = run.data
    return opened


def checkups(
    name: str, seed: int, folder: Path, healthy: bool
) -> Iterator[tuple[str, Checkup, Callable[[Checkup], bool]]]:
    """(what, checkup, whether it is right) of one seed; of the healthy runs alone where asked."""
    dead, all_of_them = some_dimensions(seed), list(range(LATENT))
    for what, changes in HEALTHY.items():
        run = trained(name, changes, seed, folder / what)
        yield f"healthy: {what}", examine(Subject(run, keep=False)), lambda c: c.severity != "alarm"
        if what == "VAE" and not healthy:
            yield from after_training(run, dead, all_of_them)
    plants = {
        "deaf decoder, trained so": (deaf_decoder([]), says("collapsed")),
        "β = 200": (BETA, says("collapsed", "over-regularized")),
        "dead dimensions: a decoder trained without them": (deaf_decoder(dead), partly(dead)),
    }
    for what, (changes, right) in () if healthy else plants.items():
        yield what, examine(Subject(trained(name, changes, seed, folder / what), keep=False)), right


def after_training(
    run: Run, dead: list[int], all_of_them: list[int]
) -> Iterator[tuple[str, Checkup, Callable[[Checkup], bool]]]:
    """The plants that are made of a trained VAE."""
    for what, cut, dimensions, right in (
        ("deaf decoder, made so", cut_decoder, all_of_them, says("collapsed")),
        ("dead dimensions: the encoder's outputs constant", cut_encoder, dead, partly(dead)),
        ("dead dimensions: the decoder's weights zeroed", cut_decoder, dead, partly(dead)),
    ):
        opened = again(run)
        cut(opened, dimensions)
        yield what, examine(Subject(opened, keep=False)), right


def says(*names: str) -> Callable[[Checkup], bool]:
    """Whether one of these verdicts is given as an alarm."""
    return lambda c: any(f.name in names and f.severity == "alarm" for f in c.findings)


def partly(dead: list[int]) -> Callable[[Checkup], bool]:
    """Whether exactly these dimensions are called dead."""
    return lambda c: any(f.name == "partially collapsed" and list(f.dimensions) == dead for f in c.findings)


def count(name: str, seeds: range, healthy: bool, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """One row a checkup."""
    rows, called = [], f"{name}, healthy" if healthy else name
    for seed in seeds:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            for what, checkup, right in checkups(name, seed, Path(folder), healthy):
                row = {"data": called, "seed": seed, "what": what, "right": right(checkup), "verdict": checkup.verdict}
                planted = {"planted": some_dimensions(seed)} if what.startswith("dead") else {}
                rows.append(row | planted | {"signals": checkup.content()["signals"]})
                if not row["right"]:
                    say(f"  {name} seed {seed}, {what}: {checkup.verdict}")
        say(f"{name} seed {seed}: {time.perf_counter() - started:.0f} s")
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Found of planted, and false alarms of healthy, by data set."""
    names = list(dict.fromkeys(r["data"] for r in rows))  # a column each
    lines = [f"| planted | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for what in sorted(dict.fromkeys(r["what"] for r in rows), key=lambda w: w.startswith("healthy")):
        cells = []
        for name in names:
            right = [r["right"] for r in rows if (r["data"], r["what"]) == (name, what)]
            good, of = sum(right), len(right)
            if not of:
                cells.append("")
                continue
            cells.append(f"{of - good} false alarms of {of}" if what.startswith("healthy") else f"{good} of {of} found")
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def verdicts(rows: list[dict[str, Any]]) -> str:
    """What was said, and how often, the dimensions left out."""
    told: dict[tuple[str, str, str], int] = {}
    for r in rows:
        said = "; ".join(part.split(": dim")[0] for part in r["verdict"].split("; "))
        told[r["data"], r["what"], said] = told.get((r["data"], r["what"], said), 0) + 1
    lines = ["| data | what | verdict | times |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(k)} | {n} |" for k, n in sorted(told.items()))]) + "\n"


def page(said: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    about = [
        f"- {s['data']}: seeds {s['seeds'][0]} to {s['seeds'][-1]}, commit {s['commit']}, {s['seconds'] / 60:.0f} "
        "minutes on one thread of a busy machine"
        for s in said
    ]
    rows = [r for s in said for r in s["rows"]]
    head = "# The doctor, counted\n\nBy `benchmarks/doctor.py`, which says what was planted and what counts as found."
    if any(r["data"].endswith(", healthy") for r in rows):
        head += (
            " After the first count the share of codes outside the prior that is an alarm was moved from 0.2 to 0.5; "
            "the columns `healthy` were counted after that, on seeds and on a data set that were not looked at for it. "
            "The others have the verdicts of the first count."
        )
    parts = (head, "\n".join(about), table(rows), "## What it said", verdicts(rows))
    return "\n\n".join(p.rstrip("\n") for p in parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*", default=["digits"], choices=list(DATA))
    parser.add_argument(
        "--seeds", type=int, help="how many; by default 20 on digits, 5 on sprites and fashion-mnist, 1 on mnist"
    )
    parser.add_argument("--healthy", action="store_true", help="the healthy runs alone")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--out", type=Path, help="folder for a JSON file of each data set, and a README.md of all that are there"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    logging.captureWarnings(True)
    commit, said = code_commit(), []
    for name in asked.data:
        seeds, started = range(asked.first, asked.first + (asked.seeds or NAMES[name])), time.perf_counter()
        rows = count(name, seeds, asked.healthy, lambda text: print(text, file=sys.stderr, flush=True))
        took = round(time.perf_counter() - started)
        about = {"data": rows[0]["data"], "commit": commit, "seeds": [*seeds], "seconds": took}
        said.append({"format": 1, **about, "rows": rows})
    print(table([r for s in said for r in s["rows"]]))
    if asked.out is not None:
        write(asked.out, said)


def write(out: Path, said: list[dict[str, Any]]) -> None:
    """A file of each data set, and the page of all that lie there."""
    out.mkdir(parents=True, exist_ok=True)
    for one in said:
        file = out / f"{one['data'].replace(', ', '-').replace(' ', '-')}.json"
        file.write_text(json.dumps(rounded(one)) + "\n", encoding="utf-8")
    known = [json.loads(p.read_text(encoding="utf-8")) for p in out.glob("*.json")]
    known.sort(key=lambda one: (list(DATA).index(one["data"].split(",")[0]), one["data"]))
    (out / "README.md").write_text(page(known), encoding="utf-8")


def rounded(value: Any) -> Any:
    """Four digits of each number, so that the file stays small."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()

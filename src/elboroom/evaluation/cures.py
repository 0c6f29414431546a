"""What to try against a finding, and the command to type for it."""

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from elboroom.config import Run, load_run
from elboroom.errors import InputError


@dataclass(frozen=True)
class Cure:
    """Something to try: its name, why it may help, and the options that change the run.

    Options may hold numbers that depend on the run, in braces: `numbers` names them. ``command`` is filled in where the
    run is known (`prescribed`).
    """

    name: str
    why: str
    options: tuple[str, ...] = ()
    verb: Literal["train", "resume", "report"] = "train"
    command: str = ""


WARMUP = Cure(
    "warm-up",
    "the code forms before it is priced",
    ("--objective.warmup.kind", "linear", "--objective.warmup.steps", "{half}"),
)
FREE_BITS = Cure(
    "free bits",
    "a quarter of a nat in each dimension costs nothing",
    ("--objective.kind", "free-bits", "--objective.per", "dimension", "--objective.nats", "0.25"),
)
MU = Cure(
    "mu-VAE",
    "its regularizer leaves the spread of the means free",
    ("--objective.kind", "mu", "--model.posterior.clip", "3"),
)
MAE = Cure(
    "mutual divergence (MAE)",
    "posteriors of different images are pushed apart",
    ("--objective.kind", "mutual-divergence"),
)
PLAIN_DECODER = Cure(
    "a decoder of the code alone",
    "what a pixel cannot copy from its neighbours it has to take from the code",
    ("--model.decoder.kind", "mlp"),
)
NARROWER = Cure(
    "a smaller decoder field",
    "what a pixel cannot copy from its neighbours it has to take from the code",
    ("--model.decoder.first", "3", "--model.decoder.kernels", "[3, 3]"),
)
LONGER = Cure("more steps", "codes form in the first hundreds of steps", ("--training.epochs", "{longer}"), "resume")
RESTART = Cure("another start", "if a unit died; a part of your own may cut it off", ("--seed", "{seed}"))
SLOWER = Cure("clipped gradients", "numbers that overflow mostly do so in training", ("--training.clip_norm", "5"))
BOUNDED = Cure(
    "a bounded variance term",
    "every log-variance is drawn to zero by its absolute value",
    ("--objective.kind", "mu", "--objective.variance", "abs"),
)
ELBO = Cure("the ELBO", "its rate holds variances and means", ("--objective.kind", "elbo"))
WIDER = Cure("a wider radius", "fewer codes are clipped", ("--model.posterior.clip", "{clip}"))
PER_DIMENSION = Cure(
    "the mean term by dimension",
    "the means stop by themselves",
    ("--objective.kind", "mu", "--objective.mean", "per-dimension"),
)
FITTED = Cure("samples from a fitted density", "the page draws them beside those of the prior", verb="report")
MMD = Cure(
    "MMD",
    "the distance of all codes from the prior, which draws them there together and presses none",
    ("--objective.kind", "mmd"),
)


def beta(value: float, why: str) -> Cure:
    """Another weight of the rate."""
    return Cure(f"beta {value:g}", why, ("--objective.beta", f"{value:g}"))


def smaller_beta(before: float | None) -> Cure:
    """1 where it was above, else a quarter of it."""
    now = before if before else 1.0
    return beta(1.0 if now > 1 else now / 4, f"a smaller weight of the rate than {now:g}")


def smaller_latent(size: int) -> Cure:
    """As many dimensions as are used."""
    return Cure("a smaller latent", "as many dimensions as are used", ("--model.posterior.latent", str(max(size, 1))))


# Commands ------------------------------------------------------------------------------------------------------------


def prescribed(cures: Sequence[Cure], config: Run, folder: Path, steps: int, epochs: int) -> tuple[Cure, ...]:
    """The cures that change this run and that its configuration admits, each with its command.

    Args:
        cures: the likeliest first.
        config: of the run.
        folder: of the run.
        steps: taken so far.
        epochs: taken so far.
    """
    values = numbers(config, steps, epochs)
    filled = [dataclasses.replace(c, options=tuple(o.format_map(values) for o in c.options)) for c in cures]
    return tuple(dataclasses.replace(c, command=command(c, folder)) for c in filled if admits(c, config, folder))


def numbers(config: Run, steps: int, epochs: int) -> dict[str, Any]:
    """What stands in braces: half of the steps, five times the epochs, the next seed, twice the radius."""
    clip = config.model.posterior.clip if hasattr(config.model.posterior, "clip") else None
    longer = max(5 * max(epochs, 1), config.training.epochs)
    return {"half": max(steps // 2, 1), "longer": longer, "seed": config.seed + 1, "clip": 2 * (clip or 3)}


def admits(cure: Cure, config: Run, folder: Path) -> bool:
    """Whether the configuration with these options is valid, and another one than it was."""
    if cure.verb != "train":
        return True
    try:
        return load_run(folder / "config.yaml", cure.options) != config
    except InputError:
        return False


def command(cure: Cure, folder: Path) -> str:
    """What to type."""
    if cure.verb != "train":
        return shlex.join(["elboroom", cure.verb, str(folder), *cure.options])
    name = "-".join("".join(c if c.isalnum() else " " for c in cure.name.lower()).split())
    out = folder.with_name(f"{folder.resolve().name}-{name}")
    return shlex.join(["elboroom", "train", str(folder / "config.yaml"), *cure.options, "--out", str(out)])

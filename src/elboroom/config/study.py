"""A study: the same data and protocol, several variants, several seeds, one report."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from elboroom.config import metrics
from elboroom.config.base import Positive, settings
from elboroom.config.run import Name
from elboroom.errors import unknown

SCALED = ("base", "variants", "axes", "metrics", "published", "figures")
"""What a scale may change of a study."""
DIAGRAMS = ("graphical-model", "reparameterization", "spread")
"""Those of `elboroom.report.diagrams`."""
AT_EPOCHS = ("codes", "histograms", "images", "reconstructions", "posterior")
"""Kinds of figures that can show a run as it was at a kept epoch."""


@settings
class Nll:
    """Importance-sampled likelihood."""

    samples: Positive = 1000
    """Posterior samples per image."""
    images: Positive | None = None
    """Score this many test images only: the first ones, or of sorted data a fixed sample."""


@settings
class Metrics:
    """What is measured on each run of a study."""

    nll: Nll | None = dataclasses.field(default_factory=Nll)
    also: Annotated[tuple[metrics.Metric, ...], BeforeValidator(metrics.expanded)] = ()
    """Metrics beyond the bounds: `standard`, `full`, or a list of names and mappings."""
    along: Annotated[tuple[metrics.Metric, ...], BeforeValidator(metrics.expanded)] = ()
    """Metrics of every kept epoch (``training.keep_epochs``) and of the last, for figures over the training."""


@settings
class Figure:
    """A figure that shows several runs side by side, as a paper does; drawn from what evaluations left."""

    name: Name
    """Of the file, and of its place in the page."""
    kind: Literal["curves", "codes", "histograms", "images", "reconstructions", "posterior", "tradeoff", "diagram"]
    """What is drawn: curves (of the training, or of scores along it), codes (a plane of them, by class), histograms (of
    each dimension of the codes), images (such as samples), reconstructions (test images, each above its own), posterior
    (of one image, among all codes), a tradeoff (of scores, one run a point), or a diagram that is of no run."""
    caption: str = ""
    """Stands below it."""
    where: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Which runs, by ``variant`` and axes; a list admits each of its values, in its order. The first seed is shown."""
    columns: Positive = 2
    """Panels side by side."""
    panels: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of curves: quantity in metrics.jsonl, or score measured along the training -> title. Of a tradeoff: score ->
    title. Where several codes were scored: ``fd (prior)``."""
    across: str = "rate"
    """Of a tradeoff: the score on the horizontal axis."""
    pick: str = "codes-test/z"
    """Which array: evaluation file and name. Of a diagram: graphical-model, reparameterization or
    spread."""
    picks: dict[str, str] = dataclasses.field(default_factory=dict)
    """Variant -> its own array."""
    epochs: tuple[Positive, ...] = ()
    """Of codes, histograms and images: a panel of each run for each of these kept epochs, in place of its last."""
    against: Literal["epochs", "samples", "samples-linear"] = "epochs"
    """The axis of curves: epochs, or training examples seen, on a logarithmic or a linear scale."""

    @model_validator(mode="after")
    def _fields(self) -> "Figure":
        if self.kind == "diagram" and self.pick not in DIAGRAMS:
            raise unknown("diagram", self.pick, DIAGRAMS)
        if self.epochs and self.kind not in AT_EPOCHS:
            raise ValueError(f"a figure of the kind '{self.kind}' has no epochs; those of {', '.join(AT_EPOCHS)} have.")
        return self


@settings
class Study:
    """A grid of runs: ``base`` changed by the scale, then by a variant, then by one value of each axis."""

    name: Name
    description: str = ""
    base: dict[str, Any] = dataclasses.field(default_factory=dict)
    """A run's configuration."""
    variants: dict[Name, dict[str, Any]] = dataclasses.field(default_factory=lambda: {"base": {}})
    """Name -> what it changes in the base; under ``axes``, the values it has of its own on some of the study's axes,
    which an option replaces and a scale's ``axes`` do not."""
    axes: dict[str, Annotated[list[Any], Field(min_length=1)]] = dataclasses.field(
        default_factory=lambda: {"seed": [0]}
    )
    """Dotted name of a field -> its values."""
    metrics: Metrics = dataclasses.field(default_factory=Metrics)
    figures: tuple[Figure, ...] = ()
    """Figures of several runs, beside those of each."""
    scales: dict[Name, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Name (of recipes smoke, cpu, paper) -> what it changes; a scale may name base, variants (null leaves one out),
    axes, metrics, published and figures."""
    published: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Published numbers to print beside ours: ``{where: {variant: vae}, accuracy/z: 93.42, source: ...}``."""

    @model_validator(mode="after")
    def _variants(self) -> "Study":
        if not self.variants:
            raise ValueError("a study needs at least one variant.")
        return self

    @model_validator(mode="after")
    def _own_axes(self) -> "Study":
        for name, change in self.variants.items():
            own = change.get("axes") or {}  # null: those of the study, as a scale may ask for
            if not isinstance(own, dict):
                raise ValueError(f"variant '{name}' wants axes with lists of values ({{seed: [0]}}), got {own!r}.")
            for axis in own:
                if axis not in self.axes:
                    raise unknown(f"axis of variant '{name}'", axis, self.axes)
                if not isinstance(own[axis], list) or not own[axis]:
                    raise ValueError(f"variant '{name}' wants a list of values on axis '{axis}', got {own[axis]!r}.")
        return self

    @model_validator(mode="after")
    def _kept_epochs(self) -> "Study":
        for figure in self.figures:
            if figure.epochs and not self.metrics.along:
                raise ValueError(
                    f"figure '{figure.name}' shows kept epochs, and nothing is measured there. Name metrics.along, "
                    "such as [{kind: pictures, sigmas: [1]}], and training.keep_epochs."
                )
        return self

    @model_validator(mode="after")
    def _scales(self) -> "Study":
        for name, change in self.scales.items():
            for key in set(change) - set(SCALED):
                raise unknown(f"key of scale '{name}'", key, SCALED)
            for key in ("base", "variants", "axes", "metrics"):
                if not isinstance(change.get(key, {}), dict):
                    raise ValueError(f"scale '{name}' wants a mapping for {key}, got {change[key]!r}. Or leave it out.")
        return self


def label_of(variant: str, axes: dict[str, Any]) -> str:
    """The name of a row: the variant (where there is one) and the values of its axes other than the seed, each under
    the last word of the axis."""
    shown = {axis: value for axis, value in axes.items() if axis != "seed"}
    words = {axis: _last_words(axis, list(shown)) for axis in shown}
    values = [str(v) if words[axis] == "name" else f"{words[axis]} {v}" for axis, v in shown.items()]
    return " · ".join([variant, *values] if variant else values)


def rows_of(runs: list[tuple[str, dict[str, Any], Any, str]]) -> list[str]:
    """The name of each run's row, of (label, configuration, seed, folder).

    It is the label, which the seeds of one model share; where that stands for several models, or one seed is there
    twice, the folder is added, but to the seeds of the model that has most of them. A run without a configuration,
    which was not begun, is none of another model.
    """
    members: dict[str, list[tuple[str, str]]] = {}
    models = [_model_of(config) for _, config, _, _ in runs]
    for (label, _, seed, _), model in zip(runs, models, strict=True):
        members.setdefault(label, []).append((model, str(seed)))
    bearing = {label: _bearing(found) for label, found in members.items()}
    return [
        label if model in bearing[label] else f"{label} ({folder})"
        for (label, _, _, folder), model in zip(runs, models, strict=True)
    ]


def _bearing(members: list[tuple[str, str]]) -> set[str]:
    """The models whose runs, as (model, seed), bear their label alone: all where they are one row, else the one that
    has more seeds than each other, and those not begun."""
    if _is_one_row(members):
        return {model for model, _ in members}
    (first, most), *rest = Counter(model for model, _ in members if model).most_common()
    own = [member for member in members if member[0] in (first, "")]
    return {first, ""} if most > 1 and _is_one_row(own) and all(count < most for _, count in rest) else set()


def _is_one_row(members: list[tuple[str, str]]) -> bool:
    """Whether runs, as (model, seed), are seeds of one model, each once."""
    seeds = [seed for _, seed in members]
    return len({model for model, _ in members if model}) < 2 and len(set(seeds)) == len(seeds)


def _model_of(config: dict[str, Any]) -> str:
    """What the seeds of a row share: all but the name, the seed, and the seed of the run that each starts from."""
    content = {k: v for k, v in config.items() if k not in ("seed", "name", "format")}
    if content.get("init_from"):
        content["init_from"] = [p for p in Path(content["init_from"]).parts[-2:] if not p.startswith("seed-")]
    return repr(sorted(content.items())) if content else ""


def _last_words(axis: str, axes: list[str]) -> str:
    """As many of the last words of an axis as no other axis ends in."""
    parts = axis.split(".")
    endings = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
    return next((e for e in endings if sum(f".{a}".endswith(f".{e}") for a in axes) == 1), axis)

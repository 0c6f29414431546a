"""The parts and fields of a configuration as Markdown, from their classes: what `make docs` puts into its pages.

``python -m elboroom.config.catalogue parts`` (or ``fields``) prints one."""

import dataclasses
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from elboroom.config import metrics, models, objectives, study, training
from elboroom.config.base import kind_of
from elboroom.config.data import Data
from elboroom.config.files import _classes
from elboroom.config.run import Run

SEAMS: dict[str, Any] = {
    "objective": objectives.Objective,
    "encoder": models.Encoder,
    "posterior": models.Posterior,
    "prior": models.Prior,
    "decoder": models.Decoder,
    "likelihood": models.Likelihood,
    "warmup": objectives.Warmup,
    "companion": training.Companion,
    "optimizer": training.Optimizer,
    "schedule": training.Schedule,
    "metric": metrics.Metric,
}
"""Where a part is chosen by its ``kind``, by the name of the place in a run's configuration."""

PLACES = {
    **{seam: f"model.{seam}" for seam in ("encoder", "posterior", "prior", "decoder", "likelihood")},
    **{seam: f"training.{seam}" for seam in ("optimizer", "schedule")},
    "warmup": "objective.warmup",
    "metric": "study.metrics.also",
}
WORDS = {
    "objective": "What is maximized, or what a loss is made of.",
    "encoder": "The network in front of the posterior; the posterior owns the last layer.",
    "posterior": "q(z|x), and the size of the code.",
    "prior": "p(z).",
    "decoder": "The network in front of the likelihood, which owns the last layer.",
    "likelihood": "p(x|z). Each takes some kinds of values: binary, unit-interval (grey values in [0, 1]), or real.",
    "warmup": "How the weight of an objective moves during training; without one it stays.",
    "companion": "A module that learns beside the model, from detached codes.",
    "optimizer": "How weights follow the gradient.",
    "schedule": "How the learning rate moves after the warm-up.",
    "metric": "What is measured beyond the bounds, of a study's runs or by `elboroom evaluate --metrics`.",
}
LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
FIELDS = {
    "run": Run,
    "data": Data,
    "training": training.Training,
    "training.lr_search": training.LrSearch,
    "study": study.Study,
    "study.metrics": study.Metrics,
    "study.metrics.nll": study.Nll,
    "study.figures": study.Figure,
}
DOES = {
    True: "acts on the batch: its loss depends on the batch's size, and half-batches do not add up",
    False: "the loss of a batch is the mean of its examples' losses",
}


def parts_page() -> str:
    """Every kind of every part: what it is, its fields, what it builds, and what it refuses with the reason."""
    return _page(
        "A model is an encoder, a posterior, a prior, a decoder and a likelihood; a method is that model times an "
        "objective. Each is chosen by its `kind`, in YAML (`objective: {kind: elbo, beta: 4}`) or as an option "
        "(`--objective.kind elbo --objective.beta 4`); without a `kind` it is the first one of its section. "
        "Combinations that make no sense are refused before training begins, with the reasons given here.",
        (line for seam in SEAMS for line in _seam(seam)),
        _ready(),
    )


def fields_page() -> str:
    """The fields of a run and of a study that are no parts."""
    return _page(
        "The rest of a configuration. Every field of a run is also an option of `elboroom train` and `study`: "
        "`--training.epochs 5`; `resume` takes those that may change, the lengths and intervals of training. Fields of "
        "a study are written in its file. Unknown keys are errors.",
        (line for name, cls in FIELDS.items() for line in [f"## {name}", "", _doc(cls), "", *fields_table(cls)]),
    )


def _page(opening: str, *bodies: Iterable[str]) -> str:
    lines = [opening, "", *(line for body in bodies for line in body)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _seam(seam: str) -> Iterator[str]:
    yield from (f"(part-{seam})=", f"## {seam}", "", f"`{PLACES.get(seam, seam)}`. {WORDS[seam]}", "")
    if seam in ("encoder", "decoder"):
        yield from ('Your own: `kind: "your_package.module:YourClass"`, see [Adding a part](adding-a-part.md).', "")
    for cls in _classes(SEAMS[seam]):
        if "kind" in cls.__dataclass_fields__ and get_args(cls.__dataclass_fields__["kind"].type):
            yield from _part(seam, cls)


def _part(seam: str, cls: type) -> Iterator[str]:
    kind = kind_of(cls)
    yield from (f"({seam}-{kind})=", f"### {kind}", "", _doc(cls), "")
    yield from fields_table(cls)
    yield from (f"- {fact}" for fact in [*_facts(cls), *_refusals(seam, cls)])
    yield ""


def _facts(cls: type) -> Iterator[str]:
    """What a class says of itself beside its fields, at its defaults."""
    module, _, name = cls.builds.partition(":")
    ours = module.startswith("elboroom.")
    yield "Builds " + (f"{{py:obj}}`~{module}.{name}`." if ours else f"`{module}.{name}`.")
    if takes := getattr(cls, "takes", None):
        yield f"Takes {' or '.join(takes)} values."
    if hasattr(cls, "acts_on_batch"):
        part = cls()
        bound = {True: "trains a lower bound on log p(x)", False: "trains no bound on log p(x)"}[part.is_bound]
        beta = "has no weight of the rate" if part.effective_beta is None else f"effective β {part.effective_beta:g}"
        yield f"At its defaults: {bound}; {beta}; {DOES[part.acts_on_batch]}."
    if not getattr(cls, "trains_encoder", True):
        yield "Does not train the encoder: codes, bounds and NLL by importance sampling are left out of evaluations."


def _refusals(seam: str, cls: type) -> Iterator[str]:
    for (other, kind), why in getattr(cls, "refuses", {}).items():
        yield f"Refuses {other} [`{kind}`](#{other}-{kind}): {why}"
    for other, choice in SEAMS.items():
        for part in _classes(choice):
            why = getattr(part, "refuses", {}).get((seam, kind_of(cls)))
            if why:
                yield f"Refused by {other} [`{kind_of(part)}`](#{other}-{kind_of(part)}): {why}"


def _ready() -> Iterator[str]:
    yield from (
        "## Models by name",
        "",
        "`model: {kind: mu-vae}` stands for its parts; further fields change them.",
        "",
    )
    yield from ("| kind | stands for |", "| --- | --- |")
    for name, change in models.READY.items():
        yield f"| `{name}` | {', '.join(f'{seam} {_flow(part)}' for seam, part in change.items())} |"


def _flow(value: Any) -> str:
    """A mapping as one line of YAML."""
    return "`{" + ", ".join(f"{k}: {_plain(v)}" for k, v in value.items()) + "}`"


def fields_table(cls: type) -> Iterator[str]:
    """The fields of a configuration class as lines of a Markdown table."""
    rows = [f for f in dataclasses.fields(cls) if f.name != "kind" or len(_literals(f.type)) > 1]
    if rows:
        yield from ("| field | default | what |", "| --- | --- | --- |")
        yield from (_row(cls, field) for field in rows)
        yield ""


def _row(cls: type, field: dataclasses.Field) -> str:
    known = cls.__pydantic_fields__[field.name]
    words = [_described(cls, field.name), *_choices(field.type), *_limits([*known.metadata, field.type])]
    text = " ".join(word for word in words if word).replace("|", "\\|")
    return f"| `{field.name}` | {_default(known)} | {text} |"


def _described(cls: type, name: str) -> str:
    """What stands below the field, in its class or in the one that it is inherited from."""
    known = (getattr(base, "__pydantic_fields__", {}).get(name) for base in cls.__mro__)
    return _sentence(next((field.description for field in known if field and field.description), ""))


def _default(known: Any) -> str:
    if known.is_required():
        return "must be given"
    value = known.get_default(call_default_factory=True)
    if hasattr(value, "kind"):
        return f"`{value.kind}`"
    if dataclasses.is_dataclass(value):
        own = type(value).__pydantic_fields__
        plain = {name: f.get_default(call_default_factory=True) for name, f in own.items()}
        changed = {name: v for name, v in vars(value).items() if name in own and v != plain[name]}
        return f"`{_plain(changed)}`" if changed else "its own defaults"
    return "empty" if value == "" else f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    """A value as YAML writes it in a line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_plain(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_plain, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _choices(annotation: Any) -> Iterator[str]:
    """The values that a field admits, or the section that says them."""
    seam = next((s for s, choice in SEAMS.items() if _same(choice, annotation)), None)
    if seam is not None:
        yield f"See [{seam}](#part-{seam})."
    words = [v for v in _literals(annotation) if v is not None]
    if words:
        yield f"One of {', '.join(f'`{v}`' for v in words)}."


def _same(choice: Any, annotation: Any) -> bool:
    """Whether a field's annotation is a choice, or a choice or nothing."""
    return annotation is choice or choice in get_args(annotation)


def _literals(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _literals(get_args(annotation)[0])
    return tuple(dict.fromkeys(word for part in get_args(annotation) for word in _literals(part)))


def _limits(metadata: Iterable[Any]) -> Iterator[str]:
    """Bounds of a number, from the constraints of its type."""
    constraints = list(_constraints(metadata))
    limits = ((word, getattr(c, key)) for c in constraints for key, word in LIMITS.items() if hasattr(c, key))
    found = ", ".join(dict.fromkeys(f"{word} {_plain(limit)}" for word, limit in limits))
    if found:
        yield found.capitalize() + "."


def _constraints(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if get_origin(value) is Annotated:
            yield from _constraints(get_args(value)[1:])
        elif get_args(value) and get_origin(value) not in (Literal, tuple, dict, list):
            yield from _constraints(get_args(value))
        elif hasattr(value, "metadata"):
            yield from value.metadata
        else:
            yield value


def _doc(cls: type) -> str:
    return _sentence(cls.__doc__ or "")


def _sentence(text: str) -> str:
    """Running text on one line, in Markdown."""
    return re.sub(r"\s+", " ", text).strip().replace("``", "`")


PAGES = {"parts": parts_page, "fields": fields_page}
"""By name, what writes the Markdown below the page's title."""

if __name__ == "__main__":
    print(PAGES[sys.argv[1] if len(sys.argv) > 1 else "parts"](), end="")

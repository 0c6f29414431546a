"""What every configuration class shares: strictness, and the choice among kinds."""

import dataclasses
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Union, get_args

import pydantic
from pydantic.dataclasses import dataclass

from elboroom.config.ready import READY
from elboroom.errors import unknown

settings = partial(
    dataclass,
    frozen=True,
    kw_only=True,
    config=pydantic.ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False),
)

Positive = Annotated[int, pydantic.Field(ge=1)]
NonNegative = Annotated[int, pydantic.Field(ge=0)]
PositiveFloat = Annotated[float, pydantic.Field(gt=0)]
Activation = Literal["tanh", "relu", "leaky-relu", "elu", "softplus", "identity"]


@settings
class Custom:
    """A part of the user's own: ``kind: "my_package.nets:MyDecoder"``, its arguments under ``options``.

    Naming one runs its module's code when it is built, so a run folder that names one opens only with trust.
    """

    kind: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def builds(self) -> str:
        return self.kind


def kind_of(cls: type) -> str:
    """The name by which a configuration class is chosen."""
    return get_args(cls.__dataclass_fields__["kind"].type)[0]


def choice(what: str, *classes: type, custom: bool = False) -> Any:
    """The type of a field whose ``kind`` chooses among ``classes``; without a ``kind`` it is the first.

    With ``custom``, a kind that contains a colon names the user's own part.
    """
    table = {kind_of(c): c for c in classes}

    def tag(value: Any) -> str:
        kind = value.get("kind", next(iter(table))) if isinstance(value, dict) else getattr(value, "kind", None)
        return "custom" if custom and ":" in str(kind) else str(kind)

    def check(value: Any) -> Any:
        if isinstance(value, str):  # `--objective elbo` is short for `{kind: elbo}`
            value = {"kind": value}
        if not isinstance(value, (dict, Custom, *classes)):
            raise ValueError(f"a mapping such as {{kind: {next(iter(table))}}} is wanted, got {value!r}.")
        if isinstance(value, dict) and tag(value) not in table and not (custom and tag(value) == "custom"):
            known = [*table, *(["your_package.module:YourClass"] if custom else [])]
            raise unknown(what, value["kind"], known)
        return value

    members = [Annotated[c, pydantic.Tag(k)] for k, c in table.items()]
    if custom:
        members.append(Annotated[Custom, pydantic.Tag("custom")])
    if len(members) == 1:
        return Annotated[classes[0], pydantic.BeforeValidator(check)]
    return Annotated[Union[tuple(members)], pydantic.Discriminator(tag), pydantic.BeforeValidator(check)]  # noqa: UP007


DEFAULT_KINDS = {
    "objective": "elbo",
    "encoder": "mlp",
    "posterior": "gaussian",
    "prior": "normal",
    "decoder": "mlp",
    "likelihood": "bernoulli",
    "warmup": "linear",
    "companion": "classifier",
    "optimizer": "adam",
    "schedule": "constant",
}
"""What a mapping without a ``kind`` is, by the seam that it stands in: the first class of its `choice`."""


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``change`` laid over it; a mapping that changes ``kind`` replaces the one it overrides."""
    result = dict(base)
    for key, new in change.items():
        old = result.get(key)
        if isinstance(old, str) and isinstance(new, dict):  # `objective: mu` is short for `objective: {kind: mu}`
            old = {"kind": old}
        if isinstance(old, dict) and isinstance(new, str) and key in (*DEFAULT_KINDS, "model"):
            new = {"kind": new}
        if isinstance(old, dict) and isinstance(new, dict):
            other_kind = "kind" in new and new["kind"] != old.get("kind", _unsaid(key, base))
            if key == "data":
                old = _elsewhere(old, new)
            result[key] = new if other_kind else merged(old, new)
        else:
            result[key] = new
    return result


def _unsaid(seam: str, holder: dict[str, Any]) -> str | None:
    """The kind of a part that does not say it, in the mapping that holds it, which may be a model by name."""
    named = READY.get(str(holder.get("kind")), {})
    return named.get(seam, {}).get("kind", DEFAULT_KINDS.get(seam))


def _elsewhere(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Data without what a change undoes: named anew they forget where they came from and what was chosen of them."""
    if not {"name", "path"} & set(new):
        return old
    same = "name" in new and new["name"] == old.get("name")
    return {k: v for k, v in old.items() if k not in ("name", "path") and (same or k != "options")}


Refusals = dict[tuple[str, str], str]
"""(seam, kind) -> why a part cannot stand beside that kind: a line of the table of what makes no sense."""

No = ClassVar[Refusals]

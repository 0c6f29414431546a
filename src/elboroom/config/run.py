"""A run: data, model, objective, training. The configuration from which everything else follows."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import Field, model_validator

from elboroom.config.base import Custom, NonNegative, settings
from elboroom.config.data import Data
from elboroom.config.models import Model, ModelOrName
from elboroom.config.objectives import Elbo, ImportanceWeighted, Objective
from elboroom.config.training import Companion, Training

Name = Annotated[str, Field(pattern=r"^[\w][\w.+=-]*$", max_length=100)]


@settings
class Run:
    """One training run, whole and re-runnable."""

    name: Name = "run"
    """In pages, and of the folder where none is named."""
    data: Data = dataclasses.field(default_factory=lambda: Data(name="digits", binarize="dynamic"))
    model: ModelOrName = dataclasses.field(default_factory=Model)
    objective: Objective = dataclasses.field(default_factory=Elbo)
    companion: Companion | None = None
    training: Training = dataclasses.field(default_factory=Training)
    init_from: str | None = None
    """Start from the weights of another run of the same model: its folder. `training.init` and `mean_image`, which make
    first weights, do nothing then."""
    seed: NonNegative = 0
    """Of all that is random in training: first weights, order, binarization, noise."""

    @model_validator(mode="after")
    def _combination(self) -> "Run":
        for reason in refusals(self):
            raise ValueError(reason)
        why = getattr(self.objective, "uncompiled", None)
        if self.training.compile and why:
            raise ValueError(f"objective '{self.objective.kind}': {why}; set --training.compile false.")
        why = getattr(self.model.likelihood, "unsliced", None)
        if self.training.decoder_slices > 1 and why:
            raise ValueError(f"likelihood '{self.model.likelihood.kind}': {why}; set --training.decoder_slices 1.")
        if self.training.select_by == "elbo" and not self.has_elbo:
            raise ValueError(
                "training.select_by: elbo needs a bound; a point posterior, 'grey-bce' and an encoder that is not "
                "trained have none. "
                "Set --training.select_by loss."
            )
        return self

    @property
    def trains_bound(self) -> bool:
        """Whether what is trained bounds log p(x) from below: not where `legacy_logsigma` has another rate in it."""
        legacy = getattr(self.model.posterior, "legacy_logsigma", False) and self.model.prior.kind == "normal"
        return self.objective.is_bound and (not legacy or isinstance(self.objective, ImportanceWeighted))

    @property
    def has_elbo(self) -> bool:
        """Whether there is a bound on log p(x): not without a rate, nor without a density."""
        dense = self.model.posterior.kind != "point" and self.model.likelihood.kind != "grey-bce"
        return dense and self.trains_encoder

    @property
    def trains_encoder(self) -> bool:
        """Whether q(z|x) is anything: not where the objective leaves the encoder as it was drawn."""
        return getattr(self.objective, "trains_encoder", True)

    @property
    def hash(self) -> str:
        """Ten hexadecimal digits of the resolved configuration, without its name."""
        return _digest({k: v for k, v in to_dict(self).items() if k != "name"})

    @property
    def identity(self) -> str:
        """The hash of what a checkpoint depends on: all but the name and the fields that may be changed later."""
        return identity_of(to_dict(self))

    @property
    def foreign(self) -> list[str]:
        """The user's own parts: importing them is running them."""
        parts = [getattr(self.model, f.name) for f in dataclasses.fields(self.model)]
        return [p.kind for p in parts if isinstance(p, Custom)]


def parts(run: Run) -> dict[str, Any]:
    """The part in each seam."""
    seams = {f.name: getattr(run.model, f.name) for f in dataclasses.fields(run.model)}
    return {**seams, "objective": run.objective, "companion": run.companion}


def refusals(run: Run) -> list[str]:
    """Why the parts of a run cannot stand together: the lines of every part's ``refuses`` that apply."""
    seams = parts(run)
    reasons = []
    for seam, part in seams.items():
        for (other, kind), why in getattr(part, "refuses", {}).items():
            if getattr(seams[other], "kind", None) == kind:
                reasons.append(f"{seam} '{part.kind}' does not go with {other} '{kind}': {why}")
    return reasons


def to_dict(config: Any) -> dict[str, Any]:
    """Plain lists, dictionaries and numbers, as YAML and JSON have them."""
    return pydantic.TypeAdapter(type(config)).dump_python(config, mode="json")


EXTENDABLE = ("epochs", "patience", "log_every", "evaluate_every", "checkpoint_every", "keep_epochs")
"""Fields of training that a run may change when it is resumed: what is done so far stays as it is."""


def identity_of(plain: dict[str, Any], folder: Path = Path()) -> str:
    """`Run.identity` of a configuration as plain values, whatever fields later versions have added; its paths begin in
    ``folder``."""
    content = {k: v for k, v in plain.items() if k not in ("format", "name")}
    if content.get("init_from"):  # which run of which variant, wherever the study lies
        content["init_from"] = "/".join((folder / content["init_from"]).resolve().parts[-2:])
    training = {k: v for k, v in (content.get("training") or {}).items() if k not in EXTENDABLE}
    return _digest(content | {"training": training})


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

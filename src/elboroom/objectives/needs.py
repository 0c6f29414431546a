"""An objective with its settings, and what it asks of a draw."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from elboroom.errors import InputError
from elboroom.records import Asked, Draw, Terms

__all__ = [
    "Objective",
    "ask",
]

NEEDS = ("step", "train_size", "prior_z", "log_qz_detached", "z_detached", "dream", "sampled")


@dataclass(frozen=True)
class Objective:
    """An objective with its settings: called with a `Draw` it gives `Terms`. ``needs`` are fields of a Draw."""

    function: Callable[..., Terms]
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()

    def __call__(self, draw: Draw) -> Terms:
        return self.function(draw, **self.settings)


def ask(
    objective: Callable[[Draw], Terms],
    model: nn.Module,
    generator: torch.Generator,
    noise: Float[Tensor, "k batch width"],
    train_size: int,
    step: int | None = None,
    x: Float[Tensor, "batch *event"] | None = None,
    rows: Integer[Tensor, " batch"] | None = None,
) -> Asked:
    """What the objective's ``needs`` ask of the draw of this noise; a function that names no needs asks for nothing.

    Args:
        objective: with ``needs``, some of `NEEDS`.
        model: whose prior is drawn from, as many samples as there are posterior samples; who dreams, as often as there
            are examples; and whose chains sample p(z|x).
        generator: of all these samples.
        noise: of the posterior samples.
        train_size: examples in the training set.
        step: of the training; None outside of it, where weights that move stand at their last value.
        x: the examples, for those who sample p(z|x).
        rows: their numbers in the training set, where their chains go on; None outside of the training.

    Raises:
        InputError: p(z|x) is to be sampled, and there are no examples or no chains.
    """
    needs = getattr(objective, "needs", ())
    if not needs:
        return Asked()
    device = generator.device
    k, batch = noise.shape[:2]
    if "sampled" in needs and x is None:
        raise InputError("this objective samples p(z|x): give the examples to `ask` as well (x=...).")
    return Asked(
        step=torch.full((), step, device=device) if "step" in needs and step is not None else None,
        train_size=train_size if "train_size" in needs else None,
        prior_z=model.prior_samples(generator, k * batch) if "prior_z" in needs else None,
        log_qz_detached="log_qz_detached" in needs,
        z_detached="z_detached" in needs,
        dream=model.dreams(generator, batch) if "dream" in needs else None,
        sampled=model.posterior_samples(x, generator, k, rows) if "sampled" in needs else None,
    )


def given(draw: Draw, name: str, objective: str) -> Any:
    """A field of the draw that an objective cannot do without.

    Raises:
        InputError: it was not asked for.
    """
    value = getattr(draw, name)
    if value is None:
        raise InputError(
            f"objective '{objective}' needs Draw.{name}, which was not asked for. Call the model as "
            "`model(x, noise, ask(...))`, with `elboroom.objectives.ask` and the objective of `build.objective`."
        )
    return value

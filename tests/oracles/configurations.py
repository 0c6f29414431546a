"""The kinds of every seam, read from the table itself: a new line is tested the moment it is added."""

from typing import Annotated, Any, get_args, get_origin

from elboroom import build
from elboroom.config import Custom, Run, run_from
from elboroom.config.base import kind_of
from elboroom.models import VAE

SMALL: dict[str, dict[str, Any]] = {  # networks by kind, and whatever else has sizes of its own
    "mlp": {"hidden": [16]},
    "conv": {"channels": [4, 4]},
    "resnet": {"channels": [3, 3]},
    "pixelcnn": {"maps": 4, "kernels": [3, 3, 3], "first": 3, "code_maps": 2},
    "mixture": {"components": 4},
    "vamp": {"components": 4},
    "flow": {"steps": 2, "width": 4},
    "iaf": {"steps": 2, "width": 4, "context": 3},
    "monte-carlo-em": {"leapfrog": 3, "burn_in": 2},
}


def classes(choice: Any) -> list[type]:
    """The configuration classes among which a field chooses, the user's own parts left out."""
    if get_origin(choice) is Annotated:
        return classes(get_args(choice)[0])
    return [c for a in get_args(choice) for c in classes(a)] if get_args(choice) else [choice] * (choice is not Custom)


def kinds(choice: Any) -> list[str]:
    """Their names."""
    return [kind_of(c) for c in classes(choice)]


def small_run(
    *,
    encoder: str = "mlp",
    posterior: str = "gaussian",
    decoder: str = "mlp",
    likelihood: str = "bernoulli",
    objective: str = "elbo",
    latent: int = 2,
    seed: int = 0,
) -> Run:
    """A tiny run with one part of each kind; InputError where they do not go together."""
    return run_from(
        {
            "data": {"name": "digits"},
            "model": {
                "encoder": {"kind": encoder, **SMALL.get(encoder, {})},
                "posterior": {"kind": posterior, "latent": latent, **SMALL.get(posterior, {})},
                "decoder": {"kind": decoder, **SMALL.get(decoder, {})},
                "likelihood": {"kind": likelihood},
            },
            "objective": {"kind": objective, **SMALL.get(objective, {})},
            "seed": seed,
        }
    )


def model_of(content: dict[str, Any], shape: tuple[int, ...] = (1, 28, 28), values: str = "binary") -> VAE:
    """The model of a configuration's ``model`` mapping."""
    objective = "reconstruction" if content.get("posterior", {}).get("kind") == "point" else "elbo"
    run = run_from({"data": {"name": "mnist"}, "model": content, "objective": {"kind": objective}})
    return build.model(run, shape, values)


def count(module: Any) -> int:
    """Trainable numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)

"""Configuration -> data, model, objective, optimizer, companion: the one place that knows both sides."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from elboroom import config as configs
from elboroom.data import Data
from elboroom.data import load as load_data
from elboroom.errors import InputError
from elboroom.models import VAE
from elboroom.networks.layers import glorot_, he_normal_, normal_
from elboroom.numerics import seed_for
from elboroom.objectives.needs import Objective


def named(target: str) -> Any:
    """The thing behind ``package.module:name``; InputError where there is none."""
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"'{target}': no module '{error.name}' can be imported. Install it, or start where it can be found "
            "(PYTHONPATH)."
        ) from None
    except (ImportError, SyntaxError, ValueError) as error:
        raise InputError(f"'{target}': the module '{module}' cannot be imported: {error}. Mend it.") from error
    except AttributeError:
        raise InputError(f"'{target}': the module '{module}' has no '{name}'. Correct the name.") from None


def make(part: Any, **given: Any) -> Any:
    """What a configuration names, from its fields and from those of ``given`` that the constructor asks for."""
    target = named(part.builds)
    custom = isinstance(part, configs.Custom)
    fields = part.options if custom else {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    if not custom:
        fields = {k: v for k, v in fields.items() if k not in ("kind", *getattr(part, "not_passed", ()))}
    elif not callable(target):
        raise InputError(f"'{part.kind}' is no class or function that builds a network. Correct the name.")
    wanted = inspect.signature(target)
    offered = {k: v for k, v in given.items() if k in wanted.parameters and k not in fields}
    if custom:
        _check_call(part, wanted, offered)
    return target(**offered, **fields)


def _check_call(part: Any, wanted: inspect.Signature, offered: dict[str, Any]) -> None:
    """InputError where the user's part does not take its options; whatever it raises itself is the user's to see."""
    try:
        wanted.bind(**offered, **part.options)
    except TypeError as error:
        raise InputError(
            f"'{part.kind}' cannot be built with options {sorted(part.options)}: {error}. It takes {wanted}, "
            f"of which {', '.join(offered) or 'nothing'} is given to it; the rest belongs under `options`."
        ) from None


def data(config: configs.Run, folder: Path | None = None) -> Data:
    """The data of a run, checked against what its likelihood takes."""
    loaded = load_data(config.data, folder)
    likelihood = config.model.likelihood
    if loaded.values not in likelihood.takes:
        raise InputError(_support(config, loaded))
    watched = ("train", "test" if loaded.valid is None else "valid")
    bare = [split for split in watched if loaded.splits()[split].labels is None]
    if config.companion is not None and bare:
        where = "" if loaded.classes is None else f" in its split '{bare[0]}'"
        raise InputError(
            f"companion '{config.companion.kind}' needs labels; '{loaded.title}' has none{where}. "
            "Give labels with the data, or leave the companion out (--companion null)."
        )
    waits = ["patience"] if config.training.patience else []
    waits += ["schedule 'plateau'"] if config.training.schedule.kind == "plateau" else []
    if waits and loaded.valid is None:
        raise InputError(
            f"training.{waits[0]} needs validation data, or it would select on test; '{loaded.title}' has none. "
            "Set data.valid (--data.valid 1000)."
        )
    return loaded


def _support(config: configs.Run, loaded: Data) -> str:
    kind, takes = config.model.likelihood.kind, config.model.likelihood.takes
    if "binary" in takes and loaded.values == "unit-interval":
        return (
            f"likelihood '{kind}' needs values in {{0, 1}}; data '{loaded.title}' has {loaded.grey}. "
            "Binarize it (--data.binarize dynamic) or choose 'continuous-bernoulli', 'discretized-logistic', "
            "'gaussian', 'squared-error' or 'grey-bce'."
        )
    if loaded.values == "binary":
        return (
            f"likelihood '{kind}' takes grey values in [0, 1]; data '{loaded.title}' is binary. "
            "Leave it grey (--data.binarize none), or choose 'bernoulli'."
        )
    return (
        f"likelihood '{kind}' takes {' or '.join(takes)} values; data '{loaded.title}' has {loaded.grey}. "
        "Scale it to [0, 1], or choose the likelihood 'gaussian'."
    )


def model(config: configs.Run, shape: tuple[int, ...], values: str = "unit-interval") -> VAE:
    """The model, with freshly drawn weights from the run's seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(config.seed, "weights"))
        built = _model(config.model, shape, values)
        built.chains = _carried(config.objective)
        if config.training.init == "he":
            he_normal_(built)
        elif config.training.init == "glorot":
            glorot_(built)
        elif config.training.init == "normal":
            normal_(built, config.training.init_std)
    return built


def _model(config: configs.Model, shape: tuple[int, ...], values: str) -> VAE:
    about = {"latent": config.posterior.latent, "shape": shape, "values": values}
    support = getattr(config.prior, "half_width", None)  # in which a uniform posterior stays
    encoder = make(config.posterior, network=make(config.encoder, **about), support=support, **about)
    decoder = make(config.likelihood, network=make(config.decoder, **about), **about)
    return VAE(encoder, make(config.prior, **about), decoder)


def _carried(part: Any) -> nn.Module | None:
    """What an objective adds to the model, from those of its fields that its function does not take."""
    if not hasattr(part, "carries"):
        return None
    return named(part.carries)(**{name: getattr(part, name) for name in part.not_passed})


def objective(config: configs.Run) -> Objective:
    """The objective as a function of a draw, with what it needs of one."""
    part = config.objective
    left_out = ("kind", "samples", *getattr(part, "not_passed", ()))
    fields = {f.name: _built(getattr(part, f.name)) for f in dataclasses.fields(part) if f.name not in left_out}
    return Objective(named(part.builds), fields, frozenset(getattr(part, "needs", ())))


def _built(value: Any) -> Any:
    """A field that is itself a part, such as a warm-up, as the function that it names."""
    if not hasattr(value, "builds"):
        return value
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name != "kind"}
    return partial(named(value.builds), **fields)


def optimizer(config: configs.Run, model: nn.Module, examples: int | None = None) -> torch.optim.Optimizer:
    r"""The optimizer over the model's parameters, fused where it can be.

    A prior N(0, v) on the weights is the objective :math:`\sum_i L_i + \log p(\theta)`; per image, of ``examples``, its
    gradient is :math:`\theta / (N v)`, which torch's coupled decay adds.
    """
    part, prior = config.training.optimizer, config.training.weight_prior
    fused = {"fused": True} if part.fused else {}
    if prior is not None:
        if examples is None:
            raise ValueError("a prior on the weights needs the number of training examples")
        fused["weight_decay"] = 1 / (examples * prior)
    fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.name != "kind"}
    return named(part.builds)(model.parameters(), **fields, **fused)


def schedule(config: configs.Run) -> Callable[[int, int], float]:
    """The factor of the learning rate as a function of (step, steps)."""
    part = config.training.schedule
    left_out = ("kind", *getattr(part, "not_passed", ()))
    fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.name not in left_out}
    return partial(named(part.builds), **fields)


def companion(config: configs.Run, classes: int) -> Any:
    """The companion of a run, or None; its weights follow from the run's seed."""
    if config.companion is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(config.seed, "companion"))
        return make(config.companion, latent=config.model.posterior.latent, classes=classes)

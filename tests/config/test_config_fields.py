"""Values and combinations that are refused at the door, and what follows from a configuration."""

import dataclasses
import importlib

import pytest
from oracles.configurations import classes, kinds

from elboroom import build
from elboroom.config import Run, run_from
from elboroom.config.base import kind_of
from elboroom.config.models import Decoder, Encoder, Likelihood, Posterior, Prior
from elboroom.config.objectives import Objective
from elboroom.config.training import Companion, Optimizer, Schedule
from elboroom.errors import InputError

SEAMS = {
    "encoder": Encoder,
    "posterior": Posterior,
    "prior": Prior,
    "decoder": Decoder,
    "likelihood": Likelihood,
    "objective": Objective,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "companion": Companion,
}
EVERY = [pytest.param(c, id=f"{seam}-{kind_of(c)}") for seam, choice in SEAMS.items() for c in classes(choice)]


def place(seam: str, value: object) -> dict:
    """A run's mapping with that value in a seam."""
    if seam in ("objective", "companion"):
        return {seam: value}
    return {"training": {seam: value}} if seam in ("optimizer", "schedule") else {"model": {seam: value}}


@pytest.mark.parametrize("config", EVERY)
def test_what_each_line_of_the_tables_builds_exists(config):
    assert callable(build.named(config.builds))
    assert config.__doc__


@pytest.mark.parametrize("config", [p for p in EVERY if p.values[0].builds.startswith("elboroom.")])
def test_what_is_chosen_by_name_can_be_had_by_hand(config):
    """`from elboroom.models import NormalPrior`: what models and objectives build is exported by their packages."""
    module, _, name = config.builds.partition(":")
    package = module.rpartition(".")[0]
    if package in ("elboroom.models", "elboroom.objectives"):
        assert getattr(importlib.import_module(package), name, None) is build.named(config.builds)


@pytest.mark.parametrize("seam", SEAMS)
def test_an_unknown_kind_gets_the_known_ones(seam):
    with pytest.raises(InputError, match=f"unknown {seam} 'nothing-such'; known: {', '.join(kinds(SEAMS[seam]))}"):
        run_from(place(seam, {"kind": "nothing-such"}))


@pytest.mark.parametrize("seam", SEAMS)
def test_a_misspelled_kind_gets_the_nearest(seam):
    right = kinds(SEAMS[seam])[0]
    with pytest.raises(InputError, match=rf"Did you mean '{right}'\?"):
        run_from(place(seam, {"kind": right[0] + right[2:]}))


@pytest.mark.parametrize("seam", SEAMS)
@pytest.mark.parametrize("value", [5, [1], True])
def test_a_part_is_a_mapping(seam, value):
    with pytest.raises(InputError, match=r"a mapping such as \{kind: .*\} is wanted, got"):
        run_from(place(seam, value))


@pytest.mark.parametrize("seam", SEAMS)
def test_a_name_alone_is_short_for_its_kind(seam):
    chosen = kind_of(classes(SEAMS[seam])[-1])
    content = place(seam, chosen)
    if chosen == "point":
        content["objective"] = "reconstruction"
    assert run_from(content) == run_from({**content, **place(seam, {"kind": chosen})})


KEYS = {
    "trainig": ({"trainig": {}}, "trainig: unknown key 'trainig'; known: name, data, .* Did you mean 'training'"),
    "epoch": ({"training": {"epoch": 3}}, "training.epoch: unknown key 'epoch'; .* Did you mean 'epochs'"),
    "hiden": ({"model": {"encoder": {"hiden": [1]}}}, "model.encoder.hiden: .* Did you mean 'hidden'"),
    "of another kind": ({"model": {"encoder": {"kind": "conv", "hidden": [1]}}}, "known: kind, channels, kernel"),
    "beta of mu": ({"objective": {"kind": "mu", "beta": 1}}, "objective.beta: unknown key 'beta'; known: kind, mean"),
    "learning rate": ({"training": {"optimizer": {"lr_": 1}}}, "training.optimizer.lr_: .* Did you mean 'lr'"),
    "single choice": ({"model": {"prior": {"scale": 1}}}, "model.prior.scale: unknown key 'scale'; known: kind"),
    "own part": ({"model": {"encoder": {"kind": "a:B", "width": 1}}}, "unknown key 'width'; known: kind, options"),
}


@pytest.mark.parametrize(("content", "message"), KEYS.values(), ids=KEYS)
def test_an_unknown_key_is_an_error(content, message):
    with pytest.raises(InputError, match=message):
        run_from(content)


VALUES = {
    "epochs": ({"training": {"epochs": 0}}, "training.epochs: .* greater than or equal to 1, got 0"),
    "half an epoch": ({"training": {"epochs": 5.5}}, "training.epochs: .* valid integer, .* got 5.5"),
    "lr": ({"training": {"optimizer": {"lr": -1}}}, "training.optimizer.lr: .* greater than 0, got -1"),
    "beta": ({"objective": {"beta": -1}}, "objective.beta: .* greater than or equal to 0, got -1"),
    "nan": ({"objective": {"beta": float("nan")}}, "objective.beta: .* finite number, got nan"),
    "inf": ({"training": {"optimizer": {"lr": float("inf")}}}, "finite number, got inf"),
    "precision": ({"training": {"precision": "fp16"}}, "training.precision: .* 'fp32' or 'bf16', got 'fp16'"),
    "kernel": ({"model": {"encoder": {"kind": "conv", "kernel": 5}}}, "model.encoder.kernel: .* 3 or 4, got 5"),
    "channels": (
        {"model": {"decoder": {"kind": "conv", "channels": [4]}}},
        r"at least 2 numbers .*, got \[4\]",
    ),
    "clip": ({"model": {"posterior": {"clip": 0}}}, "model.posterior.clip: .* greater than 0, got 0"),
    "latent": ({"model": {"posterior": {"latent": 0}}}, "model.posterior.latent: .* got 0"),
    "activation": (
        {"model": {"encoder": {"activation": "than"}}},
        "encoder.activation: .* 'tanh', .* got 'than'",
    ),
    "kind": ({"model": {"kind": [1]}}, r"model: unknown model '\[1\]'; known: aevb, "),
    "null": ({"model": None}, "model: Input should be a dictionary .*, got None"),
    "name": ({"name": "../x"}, r"name: .* got '\.\./x'"),
    "seed": ({"seed": -1}, "seed: .* got -1"),
    "both": ({"data": {"name": "mnist", "path": "x"}}, "data: data needs either a name .* or a path, and not both"),
    "neither": ({"data": {"split": "official"}}, "data needs either a name .* or a path"),
    "copies": ({"data": {"name": "mnist", "copies": 5}}, "copies: 5 needs random binarization; set data.binarize"),
    "deviation of no draw": (
        {"training": {"init_std": 0.1}},
        "init_std needs training.init: normal. Set that",
    ),
    "images of no fit": ({"training": {"init": "he", "init_images": 9}}, "init_images needs training.init: data-dep"),
    "form of no average": (
        {"training": {"average_form": "plain"}},
        "average_form needs training.average, such",
    ),
    "average": ({"training": {"evaluate_with": "average"}}, "evaluate_with: average needs training.average, such as"),
}


@pytest.mark.parametrize(("content", "message"), VALUES.values(), ids=VALUES)
def test_a_bad_value_is_told_with_its_place(content, message):
    with pytest.raises(InputError, match=message):
        run_from(content, "here.yaml")


def test_every_line_names_the_source():
    with pytest.raises(InputError) as error:
        run_from({"trainig": {}, "seed": -1, "objective": "elbow"}, "here.yaml")
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("here.yaml: ") for line in lines)


def test_a_refused_combination_says_why():
    with pytest.raises(InputError, match=r"posterior 'point' does not go with objective 'elbo': .* no density"):
        run_from({"model": {"posterior": {"kind": "point"}}})


def test_configurations_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Run().seed = 1


def test_the_hash_follows_the_content_and_not_the_name():
    run = run_from({"objective": {"beta": 4}})
    assert run.hash == run_from({"objective": {"beta": 4.0, "kind": "elbo"}, "name": "other"}).hash
    others = [{"objective": {"beta": 5}}, {"objective": {"beta": 4}, "seed": 1}, {}]
    assert run.hash not in {run_from(content).hash for content in others}
    assert len(run.hash) == 10


def test_parts_of_ones_own_are_named():
    run = run_from({"model": {"decoder": {"kind": "my_package.nets:MyDecoder", "options": {"width": 3}}}})
    assert run.foreign == ["my_package.nets:MyDecoder"]
    assert Run().foreign == []

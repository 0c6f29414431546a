"""A study of four models and two seeds, kept as results."""

import io

import pytest
from PIL import Image

from elboroom.config.files import parse_yaml
from elboroom.config.study import Study
from elboroom.report import report
from elboroom.studies import study as studies
from elboroom.studies.results import collect

FOUR = """
name: four
base:
  data: {name: digits, binarize: dynamic, limit: 64}
  model:
    encoder: {kind: mlp, hidden: [8]}
    decoder: {kind: mlp, hidden: [8]}
    posterior: {kind: gaussian, latent: 2}
  companion: {kind: classifier, hidden: [8]}
  training: {epochs: 1, batch: 32, threads: 1}
variants:
  vae: {}
  mu: {objective: mu}
  grey: {data: {binarize: none}, model: {likelihood: grey-bce}}
  squared: {data: {binarize: none}, model: {likelihood: squared-error}}
axes: {seed: [0, 1]}
metrics: {nll: {samples: 2, images: 40}}
"""
BLANK = io.BytesIO()
Image.new("L", (1, 1)).save(BLANK, "PNG")
BLANK = BLANK.getvalue()


@pytest.fixture
def small_base():
    """The base of a study that trains in a moment, without a companion."""
    return {name: value for name, value in parse_yaml(FOUR, "here")["base"].items() if name != "companion"}


@pytest.fixture(scope="session")
def four(tmp_path_factory):
    """The folder of the study, not to be changed."""
    out = tmp_path_factory.mktemp("four") / "study"
    study = Study(**parse_yaml(FOUR, "here"))
    studies.carry_out(study, out, studies.plan(study, out))
    return out


@pytest.fixture(scope="session")
def four_kept(four):
    """Its results, not to be changed; the page's figures are blank, which saves most of the time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("elboroom.report.figures.png", lambda figure: BLANK)
        page = report([four])
    collect(four, four.parent / "kept", page, "typed")
    return four.parent / "kept"

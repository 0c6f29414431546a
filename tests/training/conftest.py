"""A run so small that training it takes a blink."""

from pathlib import Path

import pytest

from elboroom.config import run_from
from elboroom.studies.execute import execute

TINY = {
    "data": {"name": "digits", "binarize": "dynamic", "limit": 64},
    "model": {
        "encoder": {"kind": "mlp", "hidden": [8]},
        "decoder": {"kind": "mlp", "hidden": [8]},
        "posterior": {"kind": "gaussian", "latent": 2},
    },
    "training": {"epochs": 2, "batch": 32, "threads": 1},
}


@pytest.fixture
def tiny():
    """TINY with fields of its training changed."""

    def configured(**training):
        return run_from({**TINY, "training": {**TINY["training"], **training}})

    return configured


@pytest.fixture
def trained(tmp_path: Path, tiny):
    """A finished run folder."""
    execute(tiny(average=0.9, keep_epochs=[1]), tmp_path / "run")
    return tmp_path / "run"

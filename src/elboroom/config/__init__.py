"""Configuration: one frozen dataclass per kind, which names what it builds. No torch in here."""

from elboroom.config.base import Custom
from elboroom.config.data import Data
from elboroom.config.files import apply_options, load_run, load_study, run_from, to_yaml
from elboroom.config.run import Model, Run
from elboroom.config.study import Study
from elboroom.config.training import Training

__all__ = [
    "Custom",
    "Data",
    "Model",
    "Run",
    "Study",
    "Training",
    "apply_options",
    "load_run",
    "load_study",
    "run_from",
    "to_yaml",
]

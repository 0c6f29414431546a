"""Pure functions of a Draw to Terms; the table of their names is the list of classes in `config.objectives`."""

from elboroom.objectives.bounds import elbo, importance_weighted, reconstruction
from elboroom.objectives.needs import Objective, ask
from elboroom.objectives.pairwise import mutual_statistics
from elboroom.objectives.regularizers import (
    capacity,
    free_bits,
    info_vae,
    log_aggregate,
    mmd,
    mu,
    mutual_divergence,
    squared_mmd,
    total_correlation,
)

__all__ = [
    "Objective",
    "ask",
    "capacity",
    "elbo",
    "free_bits",
    "importance_weighted",
    "info_vae",
    "log_aggregate",
    "mmd",
    "mu",
    "mutual_divergence",
    "mutual_statistics",
    "reconstruction",
    "squared_mmd",
    "total_correlation",
]

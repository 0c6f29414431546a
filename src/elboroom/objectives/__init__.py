"""Pure functions of a Draw to Terms; the table of their names is the list of classes in `config.objectives`."""

from elboroom.objectives.bounds import elbo, reconstruction
from elboroom.objectives.regularizers import mu

__all__ = ["elbo", "mu", "reconstruction"]

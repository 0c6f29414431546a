"""Pure functions of a Draw to Terms; the table of their names is the list of classes in `config.objectives`.

Everything that a module lists in its ``__all__``, so that a new objective is named in its own file alone.
"""

from elboroom.objectives.bounds import *  # noqa: F403
from elboroom.objectives.needs import *  # noqa: F403
from elboroom.objectives.pairwise import *  # noqa: F403
from elboroom.objectives.regularizers import *  # noqa: F403
from elboroom.objectives.sampled import *  # noqa: F403

"""Networks wrapped as distributions: encoder(x) is q(z|x), prior(encoder) is p(z), decoder(z) is p(x|z).

Everything that a module lists in its ``__all__``, so that a new part is named in its own file alone.
"""

from elboroom.models.chains import *  # noqa: F403
from elboroom.models.likelihoods import *  # noqa: F403
from elboroom.models.posteriors import *  # noqa: F403
from elboroom.models.priors import *  # noqa: F403
from elboroom.models.vae import *  # noqa: F403

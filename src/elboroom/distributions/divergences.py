"""The table of closed-form divergences KL(q || p), by latent dimension, in nats.

Our own and not torch's ``kl_divergence``, whose dispatch breaks a full graph when it is compiled cold.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from elboroom.distributions.diagonal import DiagonalNormal, StandardNormal


def normal_standard_normal(q: DiagonalNormal, p: StandardNormal) -> Float[Tensor, "*batch latent"]:
    r""":math:`\tfrac12(\mu^2 + \sigma^2 - \log\sigma^2 - 1)`; Kingma & Welling (2014), arXiv:1312.6114, appendix B."""
    return 0.5 * (q.loc.square() + q.log_var.exp() - q.log_var - 1)


RATES: dict[tuple[type, type], Callable] = {(DiagonalNormal, StandardNormal): normal_standard_normal}


def rate_by_dimension(q: Distribution, p: Distribution) -> Float[Tensor, "*batch latent"] | None:
    """KL(q || p) by dimension where the table has a closed form, else None."""
    closed_form = RATES.get((type(q), type(p)))
    return None if closed_form is None else closed_form(q, p)

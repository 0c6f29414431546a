"""The networks of an autoregressive step, for priors and for posteriors."""

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from elboroom.distributions import AutoregressiveStep
from elboroom.networks.made import Made


class FlowStep(nn.Module):
    """A shift and, unless it is left out, a log-variance: two networks of the same form.

    Args:
        scale: whether there is a log-variance.
        limit: it is held softly within this; None: it is not.
        latent: dimensions of the code.
        reverse: go through them from the last to the first.
        network: further arguments of both networks.
    """

    def __init__(self, scale: bool, limit: float | None, latent: int, reverse: bool, **network: object) -> None:
        super().__init__()
        self.limit = limit
        self.shift = Made(latent, reverse=reverse, **network)
        self.log_scale = Made(latent, reverse=reverse, **network) if scale else None
        self.order = range(latent - 1, -1, -1) if reverse else range(latent)

    def forward(self, context: Float[Tensor, "batch context"] | None = None) -> AutoregressiveStep:
        """The step as it is now, for a context where the networks take one."""
        log_scale = None if self.log_scale is None else partial(self._held, context=context)
        return AutoregressiveStep(self.order, partial(self.shift, context=context), log_scale)

    def _held(self, z: Float[Tensor, "*lead latent"], context: Tensor | None) -> Float[Tensor, "*lead latent"]:
        """Softly within the limit; near zero, where steps begin, as it is."""
        s = self.log_scale(z, context)
        return s if self.limit is None else self.limit * (s / self.limit).tanh()

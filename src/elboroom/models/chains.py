"""Posterior samples for training without an encoder: chains that remember where they were."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from elboroom.models.hmc import JITTER, evaluated, transition

__all__ = [
    "Chains",
]

FIRST_STEP = 0.1
"""Of the leapfrog, before anything is known: a tenth of the prior's deviation."""
GAIN, DECAY = 2.0, 0.6
"""The Robbins-Monro gains are 2 t^-0.6; any power between 1/2 and 1 will do."""
LEAST_GAIN = 0.05
"""The model goes on learning, so the step must go on following it."""


class Chains(nn.Module):
    r"""Markov chains towards p(z|x), by Hamiltonian Monte Carlo, and the one step size that all of them share.

    Each training example keeps its chains: they go on from where the last visit left them, with the weights as they
    are now. Chains without a place begin at the prior. After every transition the step follows

    .. math:: \log\epsilon \leftarrow \log\epsilon + \gamma_t (\bar a - a^*), \qquad \gamma_t = \max(2 t^{-0.6}, 0.05)

    with the batch's mean acceptance :math:`\bar a` (Robbins & Monro 1951): it is tuned while it is used, so chains are
    exact only in the limit of small gains.

    Kingma & Welling (2014), arXiv:1312.6114, appendix E; Neal (2011), arXiv:1206.1901. The paper does not say where its
    chains begin, nor how many transitions a sample takes.

    Args:
        transitions: of each chain at a visit of its example.
        leapfrog: steps of a transition; each takes a gradient of the decoder.
        acceptance: that the step size is tuned to (0-1).
        burn_in: transitions of chains that have no place to go on from and leave none: those of examples that are not
            trained on.

    Raises:
        ValueError: an acceptance outside of (0, 1), or fewer than one transition or leapfrog step.
    """

    def __init__(self, transitions: int = 1, leapfrog: int = 10, acceptance: float = 0.9, burn_in: int = 20) -> None:
        super().__init__()
        if not 0 < acceptance < 1:
            raise ValueError(f"an acceptance lies between 0 and 1, got {acceptance}")
        if min(transitions, leapfrog, burn_in) < 1:
            raise ValueError("chains need at least one transition of at least one leapfrog step")
        self.transitions, self.leapfrog, self.acceptance, self.burn_in = transitions, leapfrog, acceptance, burn_in
        # They follow the module's device, and are no weights: training saves them by themselves (`state`).
        self.register_buffer("log_step", torch.full((), math.log(FIRST_STEP)), persistent=False)
        self.register_buffer("moves", torch.zeros(()), persistent=False)
        self.register_buffer("places", torch.empty(0, 0, 0), persistent=False)

    def remember(self, k: int, examples: int, latent: int) -> None:
        """Make a place for k chains of each training example; nobody has been there yet (NaN)."""
        self.places = torch.full((k, examples, latent), math.nan, device=self.log_step.device)

    def state(self) -> dict[str, Tensor]:
        """What a run needs to go on from: the step size, how often it was moved, and the places."""
        return {"log_step": self.log_step, "moves": self.moves, "places": self.places}

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        for name, value in self.state().items():
            value.copy_(state[name])

    @torch.no_grad()
    def forward(
        self,
        log_density: Callable[[Tensor], Tensor],
        start: Float[Tensor, "k batch latent"],
        generator: torch.Generator,
        rows: Integer[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "k batch latent"], Float[Tensor, " batch"]]:
        """Codes at the end of the transitions, and each example's mean acceptance (0-1).

        Args:
            log_density: log p(x, z) at z [k, batch, latent], nats, up to a constant.
            start: where chains without a place begin.
            generator: of momenta and of acceptance.
            rows: numbers of the training examples, each at most once; None: chains that are not remembered, with the
                step size as it is.
        """
        known = rows is not None and len(self.places) == len(start)
        z = self._from(start, rows) if known else start
        point, total = evaluated(log_density, z), torch.zeros_like(z[0, :, 0])
        count = self.burn_in if rows is None else self.transitions
        for _ in range(count):
            momentum, log_uniform, jitter = _noise(z, generator)
            moved = transition(log_density, point, momentum, log_uniform, self.log_step.exp() * jitter, self.leapfrog)
            point, total = moved.point, total + moved.acceptance.mean(0) / count
            if rows is not None:
                self._follow(moved.acceptance.mean())
        if known:
            self.places[:, rows] = point.z.to(self.places.dtype)
        return point.z, total

    def _from(self, start: Tensor, rows: Tensor) -> Tensor:
        """Where each chain was left, or its start."""
        places = self.places[:, rows].to(start.dtype)
        return torch.where(places.isnan(), start, places)

    def _follow(self, acceptance: Float[Tensor, ""]) -> None:
        """Move the step size towards the acceptance that is wanted."""
        self.moves.add_(1)
        gain = (GAIN * self.moves.pow(-DECAY)).clamp_min(LEAST_GAIN)
        self.log_step.add_(gain * (acceptance - self.acceptance))


def _noise(z: Float[Tensor, "k batch latent"], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """What a transition of all chains takes: momenta, logarithms of uniform numbers, and the jitter of the step."""
    momentum = torch.randn(z.shape, generator=generator, device=generator.device, dtype=z.dtype)
    uniform = torch.rand(z.shape[:-1], generator=generator, device=generator.device, dtype=z.dtype)
    jitter = 1 + JITTER * (2 * torch.rand((), generator=generator, device=generator.device) - 1)
    return momentum.to(z.device), uniform.log().to(z.device), jitter.to(z.device)

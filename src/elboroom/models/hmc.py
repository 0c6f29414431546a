r"""Hamiltonian Monte Carlo as pure functions: points, momenta and uniform numbers in, points and statistics out.

Neal (2011), MCMC using Hamiltonian dynamics, arXiv:1206.1901. Chains are whatever leading shape z has; nothing in here
draws, tunes or remembers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

JITTER = 0.2
"""Share by which those who draw steps make each longer or shorter: trajectories of one length come back to where they
began in a dimension whose period they hit (Neal 2011, section 3.2)."""

LogDensity = Callable[[Tensor], Tensor]
"""``z [*chains, latent] -> log f(z) [*chains]``, up to a constant (nats), with a gradient to z."""


@dataclass(frozen=True)
class Point:
    """Positions of chains, with the log-density there and its gradient."""

    z: Float[Tensor, "*chains latent"]
    log_p: Float[Tensor, "*chains"]
    gradient: Float[Tensor, "*chains latent"]


@dataclass(frozen=True)
class Moved:
    """Where a transition has led: the new points, the probability with which each was accepted, and whether it was."""

    point: Point
    acceptance: Float[Tensor, "*chains"]
    accepted: Bool[Tensor, "*chains"]


def evaluated(log_density: LogDensity, z: Float[Tensor, "*chains latent"]) -> Point:
    """The point at z; chains do not see each other, so the gradient of the sum is that of each."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        log_p = log_density(z)
        flat = not log_p.requires_grad  # a density that is constant on its support does not see z
        (gradient,) = (torch.zeros_like(z),) if flat else torch.autograd.grad(log_p.sum(), z)
    return Point(z.detach(), log_p.detach(), gradient)


def leapfrog(
    log_density: LogDensity,
    point: Point,
    momentum: Float[Tensor, "*chains latent"],
    step: Float[Tensor, "..."] | float,
    steps: int,
) -> tuple[Point, Float[Tensor, "*chains latent"]]:
    r"""So many leapfrog steps of the Hamiltonian :math:`-\log f(z) + \frac12 |m|^2`: a reversible map of volume 1.

    .. math:: m \leftarrow m + \tfrac{\epsilon}{2} \nabla \log f(z), \quad z \leftarrow z + \epsilon m, \quad
        m \leftarrow m + \tfrac{\epsilon}{2} \nabla \log f(z)

    Args:
        log_density: log f.
        point: where to begin.
        momentum: m.
        step: :math:`\epsilon`, of any shape that broadcasts against z; one for each dimension is a diagonal mass.
        steps: how many; each evaluates the gradient once.
    """
    momentum = momentum + 0.5 * step * point.gradient
    for number in range(steps):
        point = evaluated(log_density, point.z + step * momentum)
        momentum = momentum + (0.5 if number == steps - 1 else 1.0) * step * point.gradient
    return point, momentum


def transition(
    log_density: LogDensity,
    point: Point,
    momentum: Float[Tensor, "*chains latent"],
    log_uniform: Float[Tensor, "*chains"],
    step: Float[Tensor, "..."] | float,
    steps: int,
) -> Moved:
    r"""One transition that leaves f invariant: leapfrog from fresh momenta, accepted with probability
    :math:`\min(1, e^{H - H'})`.

    A proposal whose energy is no number (it has left the support, or ran away) is refused.

    Args:
        log_density: log f.
        point: where the chains are.
        momentum: m ~ N(0, I).
        log_uniform: logarithms of numbers u ~ U(0, 1).
        step: of the leapfrog; it may not depend on where these chains have been.
        steps: of the leapfrog.
    """
    proposed, ended = leapfrog(log_density, point, momentum, step, steps)
    change = proposed.log_p - point.log_p + 0.5 * (momentum.square() - ended.square()).sum(-1)
    accepted = log_uniform < change
    there = accepted[..., None]
    chosen = Point(
        torch.where(there, proposed.z, point.z),
        torch.where(accepted, proposed.log_p, point.log_p),
        torch.where(there, proposed.gradient, point.gradient),
    )
    return Moved(chosen, change.clamp_max(0).exp().nan_to_num(nan=0.0), accepted)

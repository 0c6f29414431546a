"""Factors of a term's weight as functions of the training's step.

The step is a 0-d tensor (`Draw.step`, counted from 0), so is the factor, and a compiled step is not compiled anew.
Without a step (in evaluation, or by hand) the factor is the last one, 1: losses of different epochs can be compared.
"""

from jaxtyping import Float, Integer
from torch import Tensor

Step = Integer[Tensor, ""] | None


def constant(step: Step) -> float:
    """1 at every step."""
    return 1.0


def linear(step: Step, *, steps: int, start: float = 0.0) -> Float[Tensor, ""] | float:
    r"""Rises from ``start`` to 1 over the first ``steps`` steps: :math:`s + (1 - s)\,\min(1, t / T)`.

    Bowman et al. (2016), arXiv:1511.06349, section 3.1 (KL annealing); Sønderby et al. (2016), arXiv:1602.02282.
    """
    if step is None:
        return 1.0
    return start + (1 - start) * (step / steps).clamp(max=1.0)


def cyclic(step: Step, *, period: int, rise: float = 0.5) -> Float[Tensor, ""] | float:
    r"""Rises from 0 to 1 over the first part ``rise`` of each period, and stays at 1 for the rest of it:
    :math:`\min(1, (t \bmod P) / (R P))`.

    Fu et al. (2019), arXiv:1903.10145, eq. (6)-(7), with a linear rise and R = 0.5.
    """
    if step is None:
        return 1.0
    return ((step % period) / (rise * period)).clamp(max=1.0)

"""The learning rate's factor as a function of the step."""

import math


def constant(step: int, steps: int) -> float:
    """1 at every step."""
    return 1.0


def exponential(step: int, steps: int, *, decay: float = 0.999998) -> float:
    """``decay ** step``."""
    return decay**step


def cosine(step: int, steps: int, *, floor: float = 0.0) -> float:
    """Half a cosine from 1 at the first step to ``floor`` after the last."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))


def stages(step: int, steps: int, *, first: int = 3000, growth: float = 3.0, fall: float = 10 ** (-1 / 7)) -> float:
    """``fall ** i`` in stage i = 0, 1, ..., which lasts ``first * growth ** i`` steps; where they lie does not depend
    on ``steps``, so that a run can get longer."""
    i = 0
    while step >= first * growth**i:
        step -= round(first * growth**i)
        i += 1
    return fall**i


def warm(step: int, warmup: int) -> float:
    """Linear rise over the first ``warmup`` steps."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0

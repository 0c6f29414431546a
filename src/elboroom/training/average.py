"""An exponential average of the weights."""

import copy

import torch
from torch import nn


class Average:
    """A copy of the model whose weights follow it: a <- d a + (1 - d) w after each step.

    The decay is min(d, (1 + t) / (10 + t)), so that short runs do not keep their initial weights; with ``plain`` it is
    d from the first step on. Buffers are copied.
    """

    def __init__(self, model: nn.Module, decay: float, plain: bool = False) -> None:
        self.decay, self.plain = decay, plain
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after the step with this number (the first is 0)."""
        decay = self.decay if self.plain else min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)

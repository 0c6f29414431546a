"""p(z): modules that return the distribution."""

import torch
from torch import nn

from elboroom.distributions import StandardNormal


class NormalPrior(nn.Module):
    """p(z) = N(0, I). Called with the encoder, which it does not use."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.register_buffer("_where", torch.empty(0), persistent=False)  # follows the module's device

    def forward(self, encoder: nn.Module | None = None) -> StandardNormal:
        return StandardNormal(self.latent, self._where.device)

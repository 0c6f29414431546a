"""Modules that learn beside the model, each with its own optimizer, from the detached draw and the labels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from elboroom.networks import mlp
from elboroom.records import Draw


class Classifier(nn.Module):
    """μ-VAE's classifier: an MLP from the code to the class, trained after each step of the model (Ucar 2019).

    It sees a copy of the code without gradient, so the autoencoder never learns from the labels.
    """

    names = ("companion/loss", "companion/accuracy")

    def __init__(
        self,
        latent: int,
        classes: int,
        hidden: tuple[int, ...] = (1024, 1024, 1024),
        activation: str = "leaky-relu",
        lr: float = 1e-4,
        code: str = "z",
    ) -> None:
        super().__init__()
        self.code = code
        widths = (latent, *hidden)
        self.network = nn.Sequential(*mlp.layers(widths, activation), nn.Linear(widths[-1], classes))
        self.lr = lr

    def optimizer(self) -> torch.optim.Optimizer:
        """Its own Adam; made after the module has reached its device."""
        return torch.optim.Adam(self.parameters(), lr=self.lr, fused=True)

    def forward(self, code: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch classes"]:
        return self.network(code)

    def step(
        self, optimizer: torch.optim.Optimizer, draw: Draw, labels: Integer[Tensor, " batch"]
    ) -> dict[str, Float[Tensor, ""]]:
        """One update; returns its loss (nats) and its accuracy (%) on this batch, before the update."""
        code = (draw.z[0] if self.code == "z" else draw.base.loc).detach()
        logits = self(code)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        accuracy = 100 * (logits.detach().argmax(-1) == labels).float().mean()
        return dict(zip(self.names, (loss.detach(), accuracy), strict=True))

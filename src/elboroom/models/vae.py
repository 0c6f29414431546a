"""Encoder, prior and decoder, and the one pass that training makes through them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.utils.checkpoint import checkpoint

from elboroom.distributions import rate_by_dimension
from elboroom.errors import InputError
from elboroom.records import Asked, Base, Draw

__all__ = [
    "VAE",
]

NOTHING = Asked()


class VAE(nn.Module):
    """A variational autoencoder; with a point posterior, a plain one.

    ``encoder(x)`` is q(z|x), ``prior(encoder)`` is p(z), ``decoder(z)`` is p(x|z). Calling the model draws.
    """

    def __init__(self, encoder: nn.Module, prior: nn.Module, decoder: nn.Module, slices: int = 1) -> None:
        super().__init__()
        self.encoder, self.prior, self.decoder = encoder, prior, decoder
        self.slices = slices  # the decoder takes the batch in so many parts, each recomputed in the backward pass

    def noise(self, generator: torch.Generator, k: int, batch: int) -> Float[Tensor, "k batch width"]:
        """The noise that k posterior samples of each example are made from."""
        return self.encoder.noise(generator, k, batch)

    @torch.no_grad()
    def prior_samples(self, generator: torch.Generator, n: int) -> Float[Tensor, "n latent"]:
        """n codes z ~ p(z), without gradient."""
        return self.prior(self.encoder).draw(n, generator)

    def forward(
        self, x: Float[Tensor, "batch *event"], noise: Float[Tensor, "k batch width"], asked: Asked = NOTHING
    ) -> Draw:
        """k samples per example (k is the noise's), the log-densities that bounds are made of, and what is asked."""
        q, p = self.encoder(x), self.prior(self.encoder)
        z, log_qz = q.rsample_with_log_prob(noise)
        return Draw(
            z=z,
            log_px=self._score(z, x),
            log_pz=None if log_qz is None else p.log_prob(z),
            log_qz=log_qz,
            base=Base(q.family, q.loc, q.log_var, q.norm),
            rate=rate_by_dimension(q, p),
            log_qz_detached=_apart(q).log_prob(z) if asked.log_qz_detached else None,
            prior_z=asked.prior_z,
            step=asked.step,
            train_size=asked.train_size,
        )

    def _score(self, z: Float[Tensor, "k batch latent"], x: Float[Tensor, "batch *event"]) -> Float[Tensor, "k batch"]:
        """log p(x|z). In slices, the activations of one slice exist at a time; encoder, prior and batch terms do not
        notice."""
        if self.slices == 1 or not torch.is_grad_enabled():
            return self._decode(z, x)
        parts = zip(z.chunk(self.slices, dim=1), x.chunk(self.slices), strict=True)
        return torch.cat([checkpoint(self._decode, a, b, use_reentrant=False) for a, b in parts], dim=1)

    def _decode(self, z: Tensor, x: Tensor) -> Tensor:
        return self.decoder(z).log_prob(x)


def _apart(q: Distribution) -> Distribution:
    """The posterior with its parameters detached; InputError where it cannot be had."""
    if not hasattr(q, "detached"):
        raise InputError(
            f"a posterior of the family '{q.family}' has no density under detached parameters. "
            "Choose --objective.gradient standard."
        )
    return q.detached()

"""Encoder, prior and decoder, and the one pass that training makes through them."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.utils.checkpoint import checkpoint

from elboroom.distributions import rate_by_dimension
from elboroom.errors import InputError
from elboroom.models.chains import Chains
from elboroom.records import Asked, Base, Draw, Dream, Sampled

__all__ = [
    "VAE",
]

NOTHING = Asked()


class VAE(nn.Module):
    """A variational autoencoder; with a point posterior, a plain one.

    ``encoder(x)`` is q(z|x), ``prior(encoder)`` is p(z), ``decoder(z)`` is p(x|z). Calling the model draws. ``chains``
    bring codes from p(z|x) where an objective asks for them; None where none does.
    """

    def __init__(self, encoder: nn.Module, prior: nn.Module, decoder: nn.Module, slices: int = 1) -> None:
        super().__init__()
        self.encoder, self.prior, self.decoder = encoder, prior, decoder
        self.chains: Chains | None = None
        self.slices = slices  # the decoder takes the batch in so many parts, each recomputed in the backward pass

    def noise(self, generator: torch.Generator, k: int, batch: int) -> Float[Tensor, "k batch width"]:
        """The noise that k posterior samples of each example are made from."""
        return self.encoder.noise(generator, k, batch)

    @torch.no_grad()
    def prior_samples(self, generator: torch.Generator, n: int) -> Float[Tensor, "n latent"]:
        """n codes z ~ p(z), without gradient, as the decoder takes them."""
        return self.prior(self.encoder).draw(n, generator).to(next(self.decoder.parameters()).dtype)

    @torch.no_grad()
    def dreams(self, generator: torch.Generator, n: int) -> Dream:
        """n pairs z ~ p(z), x ~ p(x|z), without gradient."""
        z = self.prior_samples(generator, n)
        return Dream(z, self.decoder(z).sample(generator=generator))

    @torch.no_grad()
    def posterior_samples(
        self,
        x: Float[Tensor, "batch *event"],
        generator: torch.Generator,
        k: int,
        rows: Integer[Tensor, " batch"] | None = None,
    ) -> Sampled:
        """k codes z ~ p(z|x) for each example, by the model's chains; those of training examples (``rows``) go on.

        Raises:
            InputError: the model has no chains.
        """
        if self.chains is None:
            raise InputError(
                "this model has no chains to sample p(z|x) with. Set `model.chains = Chains()` (elboroom.models), or "
                "build it with the objective 'monte-carlo-em'."
            )
        p, start = self.prior(self.encoder), self.prior_samples(generator, k * len(x)).reshape(k, len(x), -1)
        z, acceptance = self.chains(lambda z: self._decode(z, x) + p.log_prob(z), start, generator, rows)
        return Sampled(z, acceptance)

    def forward(
        self, x: Float[Tensor, "batch *event"], noise: Float[Tensor, "k batch width"], asked: Asked = NOTHING
    ) -> Draw:
        """k samples per example (k is the noise's), the log-densities that bounds are made of, and what is asked."""
        if asked.sampled is not None:
            return self._at(asked.sampled, x, asked)
        q, p = self.encoder(x), self.prior(self.encoder)
        z, log_qz = q.rsample_with_log_prob(noise)
        z = z.detach() if asked.z_detached else z
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
            z_detached=z if asked.z_detached else None,
            dream=None if asked.dream is None else self.encoder(asked.dream.x).log_prob(asked.dream.z),
        )

    def _at(self, sampled: Sampled, x: Float[Tensor, "batch *event"], asked: Asked) -> Draw:
        """The log-densities at codes that chains have brought; the encoder is not asked."""
        return Draw(
            z=sampled.z,
            log_px=self._score(sampled.z, x),
            log_pz=self.prior(self.encoder).log_prob(sampled.z),
            log_qz=None,
            sampled=sampled,
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

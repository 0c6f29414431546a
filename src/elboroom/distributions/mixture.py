"""A mixture of factorized distributions over codes: the learned mixture prior and VampPrior."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from elboroom.distributions.diagonal import Diagonal

AT_ONCE = 1 << 22  # numbers (codes x components x dimensions) that are compared at a time


class DiagonalMixture(Distribution):
    r""":math:`p(z) = \sum_c \pi_c\, p_c(z)`, the components being the batch of a factorized distribution.

    Batch shape (), event shape (latent,). Codes are compared with the components in pieces, because likelihoods are
    estimated from many codes at once; every difference z - μ is taken by itself, for the expanded square cancels in
    float32.
    """

    arg_constraints = {}
    has_rsample = False

    def __init__(self, components: Diagonal, logits: Float[Tensor, " components"]) -> None:
        self.components, self.log_weights = components, logits.log_softmax(0)
        super().__init__(torch.Size(), components.event_shape, validate_args=False)

    @property
    def mean(self) -> Float[Tensor, " latent"]:
        return self.log_weights.exp() @ self.components.mean

    @property
    def variance(self) -> Float[Tensor, " latent"]:
        """Of each dimension: the mean of the variances plus the variance of the means."""
        spread = (self.components.mean - self.mean).square()
        return self.log_weights.exp() @ (self.components.variance + spread)

    def log_prob(self, value: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        flat = value.reshape(-1, value.shape[-1])
        piece = max(1, AT_ONCE // self.components.loc.numel())
        return torch.cat([self._log_prob(part) for part in flat.split(piece)]).reshape(value.shape[:-1])

    def _log_prob(self, value: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        beside = value[:, None].expand(-1, len(self.log_weights), -1)
        return torch.logsumexp(self.components.log_prob(beside) + self.log_weights, -1)

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """n codes from a generator, on the components' device: a component each, then its noise."""
        here, there = generator.device, self.log_weights.device
        weights = self.log_weights.detach().exp().to(here)
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator).to(there)
        noise = self.components.noise((1, n, *self.event_shape), generator, here).to(there)
        return self.components.at(chosen).rsample_with_log_prob(noise)[0][0]

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "..."]:
        count = torch.Size(sample_shape).numel()
        generator = torch.Generator(self.log_weights.device)
        generator.manual_seed(int(torch.randint(1 << 31, ())))
        return self.draw(count, generator).reshape(self._extended_shape(sample_shape))

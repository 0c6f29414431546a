"""Densities over codes that autoregressive steps make of noise, or carry to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from elboroom.distributions.diagonal import DiagonalNormal
from elboroom.numerics import LOG_2PI, full_precision

Network = Callable[[Float[Tensor, "*lead latent"]], Float[Tensor, "*lead latent"]]


@dataclass(frozen=True)
class AutoregressiveStep:
    r"""One invertible map of codes, each dimension moved and scaled by what stands before it.

    .. math:: \epsilon_i = m_i(z_{<i}) + z_i\, e^{s_i(z_{<i}) / 2}, \qquad \log\det = \tfrac12 \sum_i s_i

    This way all dimensions go at once; back, one after the other. A prior takes it from codes to noise, a posterior
    from the noise of its base to codes.
    Kingma et al. (2016), arXiv:1606.04934; as a prior: Chen et al. (2017), arXiv:1611.02731, section 3.2.

    Args:
        order: the dimensions, in the order in which each depends on those before it.
        shift: m.
        log_scale: s, a logarithm of a variance; None: 0.
    """

    order: Sequence[int]
    shift: Network
    log_scale: Network | None = None

    def to_noise(
        self, z: Float[Tensor, "*lead latent"]
    ) -> tuple[Float[Tensor, "*lead latent"], Float[Tensor, "*lead"]]:
        """The step, and the log-determinant of its Jacobian (nats)."""
        if self.log_scale is None:
            return self.shift(z) + z, z.new_zeros(z.shape[:-1])
        s = self.log_scale(z)
        return self.shift(z) + z * (s / 2).exp(), s.sum(-1) / 2

    def from_noise(self, noise: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead latent"]:
        """Its inverse: a pass for each dimension, which begins at 0 and is set once what it depends on is."""
        z = torch.zeros_like(noise)
        for i in self.order:
            now = noise[..., i] - self.shift(z)[..., i]
            if self.log_scale is not None:
                now = now * (-self.log_scale(z)[..., i] / 2).exp()
            z = torch.cat([z[..., :i], now.unsqueeze(-1), z[..., i + 1 :]], dim=-1)
        return z


class AutoregressiveFlow(Distribution):
    r"""p(z) of codes that steps carry to standard normal noise: :math:`\log p(z) = \log N(\epsilon; 0, I) + \log\det`.

    Batch shape (), event shape (latent,). The steps are in the order from code to noise; codes are drawn on the
    networks' ``device`` and in their ``dtype``.
    """

    arg_constraints = {}
    has_rsample = False

    def __init__(
        self,
        steps: Sequence[AutoregressiveStep],
        latent: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.steps, self.device, self.dtype = tuple(steps), torch.device(device), dtype
        super().__init__(torch.Size(), torch.Size((latent,)), validate_args=False)

    def to_noise(
        self, z: Float[Tensor, "*lead latent"]
    ) -> tuple[Float[Tensor, "*lead latent"], Float[Tensor, "*lead"]]:
        """The noise that a code comes from, and the log-determinant of the way there (nats)."""
        total = z.new_zeros(z.shape[:-1])
        for step in self.steps:
            z, log_det = step.to_noise(z)
            total = total + log_det
        return z, total

    def from_noise(self, noise: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead latent"]:
        """The codes of noise: one pass for each dimension of each step."""
        with full_precision(self.device):
            for step in reversed(self.steps):
                noise = step.from_noise(noise)
        return noise

    def log_prob(self, value: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        with full_precision(self.device):  # scales multiply through all steps
            noise, log_det = self.to_noise(value)
        return log_det - 0.5 * (noise.square() + LOG_2PI).sum(-1)

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """n codes from a generator, on the networks' device."""
        noise = torch.randn(n, *self.event_shape, generator=generator, device=generator.device)
        return self.from_noise(noise.to(self.device, self.dtype))

    @torch.no_grad()
    def sample(self, sample_shape: tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.from_noise(torch.randn(shape, device=self.device, dtype=self.dtype))


class InverseAutoregressive(Distribution):
    r"""q(z|x): a diagonal Gaussian's sample, carried on by steps that may depend on x as well.

    .. math:: z = f_T \circ \cdots \circ f_1(z_0), \qquad \log q(z|x) = \log N(z_0; \mu, \sigma^2) - \sum_t
        \log\det f_t'

    Kingma et al. (2016), arXiv:1606.04934, eq. (9)-(11). Samples and their densities come in one pass; the density of
    any other code takes a pass for each dimension of each step. ``loc`` and ``log_var`` are those of the base; the mean
    of z has no closed form, and the code of an example is what its base mean becomes.
    """

    arg_constraints = {}
    has_rsample = False  # by `rsample_with_log_prob`, with noise of the caller's
    family = "iaf"

    def __init__(self, base: DiagonalNormal, steps: Sequence[AutoregressiveStep]) -> None:
        self.base, self.steps = base, tuple(steps)
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def loc(self) -> Float[Tensor, "*batch latent"]:
        return self.base.loc

    @property
    def log_var(self) -> Float[Tensor, "*batch latent"]:
        return self.base.log_var

    @property
    def mean(self) -> Float[Tensor, "*batch latent"]:
        """What the mean of the base becomes."""
        return self._carried(self.base.loc)[0]

    def rsample_with_log_prob(
        self, noise: Float[Tensor, "k *batch latent"]
    ) -> tuple[Float[Tensor, "k *batch latent"], Float[Tensor, "k *batch"]]:
        """Samples from standard normal noise, and their log-densities, in one pass (nats)."""
        z, log_qz = self.base.rsample_with_log_prob(noise)
        z, log_det = self._carried(z)
        return z, log_qz - log_det

    def log_prob(self, value: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        with full_precision(value.device):
            for step in reversed(self.steps):
                value = step.from_noise(value)
        return self.base.log_prob(value) - self._carried(value)[1]

    def _carried(
        self, z: Float[Tensor, "*lead latent"]
    ) -> tuple[Float[Tensor, "*lead latent"], Float[Tensor, "*lead"]]:
        with full_precision(z.device):
            total = z.new_zeros(z.shape[:-1])
            for step in self.steps:
                z, log_det = step.to_noise(z)
                total = total + log_det
        return z, total

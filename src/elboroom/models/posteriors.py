"""q(z|x): an encoder network with the last layer that its distribution needs."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from elboroom.distributions import (
    Diagonal,
    DiagonalLaplace,
    DiagonalNormal,
    DiagonalUniform,
    InverseAutoregressive,
    LegacyNormal,
    Point,
)
from elboroom.errors import one_of
from elboroom.models.heads import head_of
from elboroom.models.steps import FlowStep
from elboroom.numerics import at_least_float32

__all__ = [
    "GaussianPosterior",
    "IafPosterior",
    "LaplacePosterior",
    "PointPosterior",
    "UniformPosterior",
]


def clip_norm(
    loc: Float[Tensor, "batch latent"], radius: float
) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, " batch"]]:
    r"""Latent clipping: :math:`\mu \leftarrow \mu\,\min(1, r/\|\mu\|_2)`, and the norm before it.

    Written as :math:`\mu\,(r / \max(\|\mu\|, r))`, which has a gradient everywhere, at μ = 0 too.
    Ucar (2019), arXiv:1910.13181 (μ-VAE), latent clipping with r = c·sqrt(latent).
    """
    norm = torch.linalg.vector_norm(loc, dim=-1)
    return loc * (radius / norm.clamp_min(radius)).unsqueeze(-1), norm


class _Clipped(nn.Module):
    """What all posteriors share: the latent size, the clipping radius, and the base location.

    Args:
        network: in front of the head.
        outputs: of the head.
        latent: dimensions of the code.
        clip: factor c of latent clipping, which holds the norm of the location within the radius c·sqrt(latent); None:
            no clipping.

    Raises:
        ValueError: fewer than 1 latent, or a clipping factor that is not positive.
    """

    covers = True  # whether q(z|x) > 0 wherever p(z) > 0: else no number of samples brings log p(x)

    def __init__(self, network: nn.Module, outputs: int, latent: int, clip: float | None) -> None:
        super().__init__()
        if latent < 1:
            raise ValueError(f"a code needs at least 1 dimension, got {latent}")
        if clip is not None and clip <= 0:
            raise ValueError(f"the clipping factor must be positive, got {clip}")
        self.network, self.head = network, head_of(network, outputs)
        self.latent = latent
        self.radius = None if clip is None else clip * math.sqrt(latent)

    def features(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch outputs"]:
        return at_least_float32(self.head(self.network(x)))

    def location(self, raw: Float[Tensor, "batch latent"]) -> tuple[Tensor, Tensor | None]:
        return (raw, None) if self.radius is None else clip_norm(raw, self.radius)


class _Factorized(_Clipped):
    """What the factorized families share: a head of two numbers per dimension, a location and a width."""

    family: type[Diagonal]

    def __init__(self, network: nn.Module, latent: int, clip: float | None = None) -> None:
        super().__init__(network, 2 * latent, latent, clip)

    def noise(self, generator: torch.Generator, k: int, batch: int) -> Float[Tensor, "k batch latent"]:
        """The family's own noise for k samples of each example, on the generator's device."""
        return self.family.noise((k, batch, self.latent), generator, generator.device)

    def parameters_of(self, x: Float[Tensor, "batch *event"]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Location (clipped where that is on), raw width, and the norm of the location before clipping."""
        raw, width = self.features(x).chunk(2, dim=-1)
        loc, norm = self.location(raw)
        return loc, width, norm


def _with_norm(q: Diagonal, norm: Float[Tensor, " batch"] | None) -> Diagonal:
    q.norm = norm
    return q


class GaussianPosterior(_Factorized):
    r"""q(z|x) = N(μ(x), diag σ²(x)); one linear head gives μ and log σ² (as many weights as two heads).

    Called with x it returns a `DiagonalNormal` with a ``norm``: that of μ before clipping, or None.

    With ``legacy_logsigma`` the second output is s = log σ, as a program in wide use samples, and in
    training the rate to a standard normal prior is that program's, which takes s for log σ². In evaluation mode the
    rate is that of the Gaussian that is sampled from, so that reported bounds are bounds.

    Args:
        network: in front of the head.
        latent: dimensions of the code, 1 or more.
        clip: factor c of latent clipping, which holds the norm of μ within the radius c·sqrt(latent); None: none.
        legacy_logsigma: as above.

    Raises:
        ValueError: fewer than 1 latent, or a clipping factor that is not positive.
    """

    family = DiagonalNormal

    def __init__(
        self, network: nn.Module, latent: int, clip: float | None = None, legacy_logsigma: bool = False
    ) -> None:
        super().__init__(network, latent, clip)
        self.legacy_logsigma = legacy_logsigma

    def forward(self, x: Float[Tensor, "batch *event"]) -> DiagonalNormal:
        loc, width, norm = self.parameters_of(x)
        if not self.legacy_logsigma:
            return _with_norm(DiagonalNormal(loc, width), norm)
        return _with_norm((LegacyNormal if self.training else DiagonalNormal)(loc, 2 * width), norm)


class LaplacePosterior(_Factorized):
    """q(z|x) = Laplace(m(x), s(x)) in each dimension; one linear head gives m and log s. The variance is 2 s².

    Arguments and errors are those of `GaussianPosterior`; clipping acts on m.
    """

    family = DiagonalLaplace

    def forward(self, x: Float[Tensor, "batch *event"]) -> DiagonalLaplace:
        loc, log_scale, norm = self.parameters_of(x)
        return _with_norm(DiagonalLaplace(loc, log_scale), norm)


class UniformPosterior(_Factorized):
    r"""q(z|x) = U(m(x) - h(x), m(x) + h(x)) in each dimension; one linear head gives what m and h are made of.

    With a ``support`` c, that of a uniform prior, both are squashed so that the interval stays inside (-c, c), and
    the rate finite: :math:`h = c\,\mathrm{sigmoid}(b)`, :math:`m = (c - h) \tanh(a)`. Without one,
    :math:`h = e^b` and m = a. Clipping acts on m, which it only moves towards 0.

    It does not cover the prior: its importance-weighted bound is a bound, but does not reach log p(x).

    Arguments beside the support are those of `GaussianPosterior`.

    Raises:
        ValueError: a support or a clipping factor that is not positive, or fewer than 1 latent.
    """

    family = DiagonalUniform
    covers = False

    def __init__(
        self, network: nn.Module, latent: int, clip: float | None = None, support: float | None = None
    ) -> None:
        super().__init__(network, latent, clip)
        if support is not None and support <= 0:
            raise ValueError(f"the half-width of the support must be positive, got {support}")
        self.support = support

    def forward(self, x: Float[Tensor, "batch *event"]) -> DiagonalUniform:
        raw, width = self.features(x).chunk(2, dim=-1)
        if self.support is None:
            loc, log_half = raw, width
        else:
            loc, log_half = self._inside(raw, width)
        loc, norm = self.location(loc)
        return _with_norm(DiagonalUniform(loc, log_half), norm)

    def _inside(
        self, raw: Tensor, width: Tensor
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        limit = self.support * (1 - 1e-5)  # so that no rounding of a sample steps out of the prior
        log_half = math.log(limit) + F.logsigmoid(width)
        return limit * (-width).sigmoid() * raw.tanh(), log_half


class IafPosterior(_Clipped):
    r"""q(z|x) of an inverse autoregressive flow: a Gaussian's sample, carried on by steps that know the image.

    One linear head gives μ, log σ² and the context of the steps, whose order alternates. Kingma et al. (2016),
    arXiv:1606.04934, algorithm 1, with the plain step z ← m + z exp(s / 2) in place of the gated one.

    Args:
        network: in front of the head.
        latent: dimensions of the code.
        clip: factor c of latent clipping, of the base's mean: its norm is held within the radius c·sqrt(latent).
        steps: autoregressive steps.
        width: hidden units for each dimension of the code.
        layers: hidden layers of each network.
        context: numbers of the head that every hidden unit of the first layers sees.
        limit: log-variances of the steps are held softly within it; None: they are not.
    """

    def __init__(
        self,
        network: nn.Module,
        latent: int,
        clip: float | None = None,
        steps: int = 2,
        width: int = 10,
        layers: int = 1,
        context: int = 64,
        limit: float | None = 3.0,
    ) -> None:
        super().__init__(network, 2 * latent + context, latent, clip)
        self.sizes = (latent, latent, context)
        made = {"width": width * latent, "layers": layers, "activation": "elu", "context": context}
        self.steps = nn.ModuleList(FlowStep(True, limit, latent, reverse=i % 2 == 1, **made) for i in range(steps))

    def noise(self, generator: torch.Generator, k: int, batch: int) -> Float[Tensor, "k batch latent"]:
        """N(0, 1) for k samples of each example, on the generator's device."""
        return DiagonalNormal.noise((k, batch, self.latent), generator, generator.device)

    def forward(self, x: Float[Tensor, "batch *event"]) -> InverseAutoregressive:
        raw, width, context = self.features(x).split(self.sizes, dim=-1)
        loc, norm = self.location(raw)
        q = InverseAutoregressive(DiagonalNormal(loc, width), [step(context) for step in self.steps])
        q.norm = norm
        return q


class PointPosterior(_Clipped):
    """The plain autoencoder: z = μ(x), optionally squashed into (-1, 1).

    Args:
        network: in front of the head.
        latent: dimensions of the code, 1 or more.
        clip: factor c of latent clipping, which holds the norm of the code within the radius c·sqrt(latent).
        squash: ``none`` or ``tanh``.

    Raises:
        ValueError: fewer than 1 latent, or a clipping factor that is not positive.
        InputError: an unknown ``squash``.
    """

    def __init__(self, network: nn.Module, latent: int, clip: float | None = None, squash: str = "none") -> None:
        super().__init__(network, latent, latent, clip)
        self.squash = one_of("squash", squash, ("none", "tanh")) == "tanh"

    def noise(self, generator: torch.Generator, k: int, batch: int) -> Float[Tensor, "k batch zero"]:
        """No noise: k times the batch, of width zero."""
        return torch.empty(k, batch, 0, device=generator.device)

    def forward(self, x: Float[Tensor, "batch *event"]) -> Point:
        raw = self.features(x)
        loc, norm = self.location(raw.tanh() if self.squash else raw)
        q = Point(loc)
        q.norm = norm
        return q

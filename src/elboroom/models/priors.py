"""p(z): modules that return the distribution.

Called with the encoder, which only VampPrior uses. What they return can be scored, ``log_prob(z)``, and drawn from,
``draw(n, generator)``.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from elboroom.distributions import (
    AutoregressiveFlow,
    CentredUniform,
    DiagonalMixture,
    DiagonalNormal,
    Standard,
    StandardLaplace,
    StandardNormal,
)
from elboroom.models.steps import FlowStep

__all__ = [
    "FlowPrior",
    "LaplacePrior",
    "MixturePrior",
    "NormalPrior",
    "StudentPrior",
    "StudentT",
    "UniformPrior",
    "VampPrior",
]


class _Fixed(nn.Module):
    """What the priors without parameters share; ``law`` is what their family takes beside the size of the code."""

    family: type[Standard]

    def __init__(self, latent: int, **law: float) -> None:
        super().__init__()
        self.latent, self.law = latent, law
        self.register_buffer("_where", torch.empty(0), persistent=False)  # follows the module's device

    def forward(self, encoder: nn.Module | None = None) -> Standard:
        return self.family(self.latent, **self.law, device=self._where.device)


class NormalPrior(_Fixed):
    """p(z) = N(0, I)."""

    family = StandardNormal


class LaplacePrior(_Fixed):
    """p(z) = Laplace(0, 1) in each dimension, of variance 2."""

    family = StandardLaplace


class UniformPrior(_Fixed):
    """p(z) = U(-c, c) in each dimension, c the ``half_width``; for a posterior that stays inside.

    Raises:
        ValueError: a half-width that is not positive.
    """

    family = CentredUniform

    def __init__(self, latent: int, half_width: float = 1.0) -> None:
        if half_width <= 0:
            raise ValueError(f"the half-width of a uniform prior must be positive, got {half_width}")
        super().__init__(latent, half_width=half_width)


class StudentT(Standard):
    r"""Student's t with ν degrees of freedom and scale s in each dimension, :math:`p(z) = \prod_j t_\nu(z_j / s) / s`.

    .. math:: \log t_\nu(t) = \log \frac{\Gamma(\frac{\nu + 1}2)}{\Gamma(\frac\nu2) \sqrt{\nu\pi}}
              - \frac{\nu + 1}2 \log\Big(1 + \frac{t^2}\nu\Big)

    Student (1908), The probable error of a mean. Its variance is infinite for :math:`1 < \nu \le 2`; for
    :math:`\nu \le 1` mean and variance are undefined, NaN. Draws that would leave the range in which float32 has
    a square, as those of the smallest ν do, are held at its edge, :math:`10^{18} s`.
    """

    def __init__(
        self, latent: int, degrees: float = 5.0, scale: float = 1.0, device: torch.device | str = "cpu"
    ) -> None:
        self.degrees, self.scale = degrees, scale
        super().__init__(latent, device)

    def noise(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        r"""t of scale 1: :math:`N(0, 1) / \sqrt{g / \nu}`, g from :math:`\chi^2_\nu`, twice a Gamma(ν/2)."""
        half = torch.full(shape, self.degrees / 2, device=device)
        precision = torch._standard_gamma(half, generator=generator).div_(self.degrees / 2)
        normal = torch.randn(shape, generator=generator, device=device)
        return normal.div_(precision.clamp_min_(torch.finfo(half.dtype).tiny).sqrt_()).clamp_(-1e18, 1e18)

    @property
    def mean(self) -> Float[Tensor, " latent"]:
        return super().mean + (0 if self.degrees > 1 else math.nan)

    @property
    def variance(self) -> Float[Tensor, " latent"]:
        finite, infinite = self.degrees > 2, self.degrees > 1
        of_one = self.degrees / (self.degrees - 2) if finite else math.inf if infinite else math.nan
        return torch.full(self.event_shape, self.scale**2 * of_one, device=self.device)

    def log_prob(self, value: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        half = (self.degrees + 1) / 2
        top = math.lgamma(half) - math.lgamma(self.degrees / 2) - math.log(math.pi * self.degrees) / 2
        square = (value / self.scale).square() / self.degrees
        return (top - math.log(self.scale) - half * square.log1p()).sum(-1)

    def icdf(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Quantiles of one dimension."""
        from scipy import special  # there with scikit-learn, and slow to import

        quantiles = special.stdtrit(self.degrees, value.double().cpu().numpy())
        return self.scale * torch.as_tensor(quantiles, dtype=value.dtype, device=value.device)


class StudentPrior(_Fixed):
    """p(z) = Student's t in each dimension: codes far from 0 cost less than under a normal prior.

    No closed-form rate: the sample estimate serves.

    Args:
        latent: dimensions of the code.
        degrees: of freedom; 1 is Cauchy's distribution, and many are a normal one.
        scale: s, in units of the code.

    Raises:
        ValueError: degrees or a scale that are not positive.
    """

    family = StudentT

    def __init__(self, latent: int, degrees: float = 5.0, scale: float = 1.0) -> None:
        if degrees <= 0 or scale <= 0:
            raise ValueError(f"a Student prior needs positive degrees and a positive scale, got {degrees} and {scale}")
        super().__init__(latent, degrees=degrees, scale=scale)


def _at_least_two(components: int) -> None:
    if components < 2:
        raise ValueError(f"a mixture prior needs at least 2 components, got {components}")


class MixturePrior(nn.Module):
    r"""Learned mixture of C diagonal Gaussians, :math:`p(z) = \sum_c \pi_c\, N(z; \mu_c, \mathrm{diag}\,\sigma_c^2)`.

    No closed-form rate: the sample estimate serves.

    Raises:
        ValueError: fewer than 2 components.
    """

    def __init__(self, latent: int, components: int = 16) -> None:
        super().__init__()
        _at_least_two(components)
        self.latent = latent
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, latent))  # apart, or they never separate
        self.log_var = nn.Parameter(torch.zeros(components, latent))

    def forward(self, encoder: nn.Module | None = None) -> DiagonalMixture:
        return DiagonalMixture(DiagonalNormal(self.loc, self.log_var), self.logits)


class VampPrior(nn.Module):
    r"""Mixture of the posteriors of C learned pseudo-inputs, :math:`p(z) = \frac1C \sum_c q(z|u_c)`.

    Tomczak & Welling (2018), arXiv:1705.07120, eq. (8). The encoder is the model's own, handed over at each call, so
    it learns through the prior as well. Pseudo-inputs of data in [0, 1] pass through a sigmoid (the paper's hardtanh
    has no gradient where a pixel has left the range); they begin as grey noise, apart from each other.

    Args:
        latent: dimensions of the code.
        shape: of one example.
        components: C, the number of pseudo-inputs.
        values: of the data: ``real`` ones are not squashed.

    Raises:
        ValueError: fewer than 2 components.
    """

    def __init__(
        self, latent: int, shape: tuple[int, ...], components: int = 100, values: str = "unit-interval"
    ) -> None:
        super().__init__()
        _at_least_two(components)
        self.latent, self.squash = latent, values != "real"
        self.pseudo = nn.Parameter(torch.randn(components, *shape))

    @property
    def inputs(self) -> Float[Tensor, "components *event"]:
        """The pseudo-inputs, as the encoder sees them."""
        return self.pseudo.sigmoid() if self.squash else self.pseudo

    def forward(self, encoder: nn.Module) -> DiagonalMixture:
        return DiagonalMixture(encoder(self.inputs), self.pseudo.new_zeros(len(self.pseudo)))


class FlowPrior(nn.Module):
    r"""p(z) of codes that autoregressive steps carry to standard normal noise, each with two MADEs.

    On the way to noise the steps go through the dimensions from the last to the first and from the first to the last
    by turns. The density takes one pass, a draw one pass for each dimension of each step: autoregressive for
    generation, inverse autoregressive for the density. Chen et al. (2017), arXiv:1611.02731, section 3.2; with a scale
    and eight steps as in MAE (Ma et al. 2019, arXiv:1901.01498). No closed-form rate: the sample estimate serves.

    Args:
        latent: dimensions of the code.
        steps: autoregressive steps.
        width: hidden units for each dimension of the code.
        layers: hidden layers of each network.
        scale: steps that scale as well as shift; Chen et al. only shift.
        limit: log-variances are held softly within it; None: they are not, as in MAE, and a code far out can then have
            a density of 0 in float32, for the scales of all steps multiply.
        activation: by name.
    """

    def __init__(
        self,
        latent: int,
        steps: int = 8,
        width: int = 10,
        layers: int = 1,
        scale: bool = True,
        limit: float | None = None,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.latent = latent
        network = {"width": width * latent, "layers": layers, "activation": activation}
        self.steps = nn.ModuleList(FlowStep(scale, limit, latent, reverse=i % 2 == 0, **network) for i in range(steps))

    def forward(self, encoder: nn.Module | None = None) -> AutoregressiveFlow:
        like = self.steps[0].shift.direct.bias
        return AutoregressiveFlow([step() for step in self.steps], self.latent, like.device, like.dtype)

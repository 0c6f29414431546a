"""What is maximized: a line per objective."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from elboroom.config.base import Positive, choice, settings


@settings
class Elbo:
    """Evidence lower bound, the rate weighted by β (β-VAE)."""

    kind: Literal["elbo"] = "elbo"
    beta: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the rate; a lower bound on log p(x) only from 1 upwards."""
    samples: Positive = 1
    """Posterior samples per example and step (L of AEVB)."""

    builds: ClassVar[str] = "elboroom.objectives.bounds:elbo"

    @property
    def is_bound(self) -> bool:
        """Whether the objective bounds log p(x) from below."""
        return self.beta >= 1

    @property
    def effective_beta(self) -> float | None:
        """Weight of the rate; None where the objective has no such weight."""
        return self.beta


@settings
class Reconstruction:
    """The distortion alone: the plain autoencoder, and β = 0."""

    kind: Literal["reconstruction"] = "reconstruction"
    samples: Positive = 1
    """Posterior samples per example and step."""

    builds: ClassVar[str] = "elboroom.objectives.bounds:reconstruction"
    is_bound: ClassVar[bool] = False
    effective_beta: ClassVar[float | None] = 0.0


@settings
class Mu:
    """μ-VAE, reading A6: the grand mean of the codes towards zero, every log-variance towards zero."""

    kind: Literal["mu"] = "mu"
    samples: Positive = 1
    """Posterior samples per example and step."""

    builds: ClassVar[str] = "elboroom.objectives.regularizers:mu"
    is_bound: ClassVar[bool] = False
    effective_beta: ClassVar[float | None] = None


Objective = choice("objective", Elbo, Reconstruction, Mu)

"""What is maximized: a line per objective.

Beside its fields a class says: ``is_bound``, whether what is trained bounds log p(x) from below; ``effective_beta``,
the weight of the rate (None where it has none); ``acts_on_batch``, whether the loss of a batch is more than the mean of
its examples' (then it depends on the batch's size, and half-batches do not add up); ``needs``, the fields of a Draw
that it asks for; ``trains_encoder``, False where the encoder stays as it was; ``carries``, what it adds to the model,
made of its fields that are ``not_passed``.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import ArgsKwargs

from elboroom.config.base import No, Positive, PositiveFloat, choice, settings

NonNegativeFloat = Annotated[float, Field(ge=0)]
Kernel = Literal["imq", "rbf"]
NO_DENSITY = "a point posterior has no density, hence no rate; choose the objective 'reconstruction'."
NO_VARIANCE = "a point posterior has no variance for it to act on; choose 'reconstruction'."


@settings
class Linear:
    """The weight rises linearly to its full value, then stays."""

    kind: Literal["linear"] = "linear"
    steps: Positive = 10000
    """Steps of the rise."""
    start: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Part of the weight at the first step."""

    builds: ClassVar[str] = "elboroom.objectives.schedules:linear"


@settings
class Cyclic:
    """The weight rises linearly from 0 in the first part of every period, and stays full for the rest of it."""

    kind: Literal["cyclic"] = "cyclic"
    period: Positive = 10000
    """Steps of a period."""
    rise: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Part of the period in which the weight rises."""

    builds: ClassVar[str] = "elboroom.objectives.schedules:cyclic"


Warmup = choice("warm-up", Linear, Cyclic)


class _Warmed:
    """What the objectives share whose weight may move: they need the step as soon as it does."""

    acts_on_batch: ClassVar[bool] = True

    @property
    def needs(self) -> tuple[str, ...]:
        return () if self.warmup is None else ("step",)


@settings
class Elbo(_Warmed):
    """Evidence lower bound, the rate weighted by β (β-VAE)."""

    kind: Literal["elbo"] = "elbo"
    beta: NonNegativeFloat = 1.0
    """Weight of the rate; a lower bound on log p(x) only from 1 upwards."""
    reconstruction_weight: PositiveFloat = 1.0
    """Weight of the distortion. Programs that sum it over a batch of 16 while they average the rate have 16 here; what
    is found depends on beta / reconstruction_weight, and only 1 is a bound."""
    warmup: Warmup | None = None
    """How the weight moves at the start; validation always sees its full value."""
    samples: Positive = 1
    """Posterior samples per example and step (L of AEVB)."""

    builds: ClassVar[str] = "elboroom.objectives.bounds:elbo"
    acts_on_batch: ClassVar[bool] = False

    @property
    def is_bound(self) -> bool:
        """Whether the objective bounds log p(x) from below."""
        return self.beta >= 1 and self.reconstruction_weight == 1

    @property
    def effective_beta(self) -> float | None:
        """Weight of the rate for a distortion of weight 1; None where the objective has no such weight."""
        return self.beta / self.reconstruction_weight


@settings
class ImportanceWeighted:
    """The importance-weighted bound (IWAE): tighter with every sample; with one, the ELBO by samples."""

    kind: Literal["importance-weighted"] = "importance-weighted"
    samples: Positive = 5
    """Posterior samples per example and step."""
    gradient: Literal["standard", "doubly-reparameterized"] = "standard"
    """Of the encoder: the bound's own, or one whose noise does not grow with the samples (DReG; not with compile)."""

    builds: ClassVar[str] = "elboroom.objectives.bounds:importance_weighted"
    is_bound: ClassVar[bool] = True
    effective_beta: ClassVar[float | None] = 1.0
    acts_on_batch: ClassVar[bool] = False
    refuses: No = {("posterior", "point"): NO_DENSITY}

    @property
    def needs(self) -> tuple[str, ...]:
        return ("log_qz_detached",) if self.gradient == "doubly-reparameterized" else ()

    @property
    def uncompiled(self) -> str | None:
        """Why it cannot be compiled, where it cannot."""
        if self.gradient == "standard":
            return None
        return "gradient 'doubly-reparameterized' takes a backward pass inside the step, which cannot be compiled"


@settings
class Reconstruction:
    """The distortion alone: the plain autoencoder, and β = 0."""

    kind: Literal["reconstruction"] = "reconstruction"
    samples: Positive = 1
    """Posterior samples per example and step."""

    builds: ClassVar[str] = "elboroom.objectives.bounds:reconstruction"
    is_bound: ClassVar[bool] = False
    effective_beta: ClassVar[float | None] = 0.0
    acts_on_batch: ClassVar[bool] = False


READINGS = {  # of μ-VAE's printed formulas: mean term, variance term
    "A1": ("total", "signed"),
    "A2": ("per-dimension", "signed"),
    "A3": ("total", "abs-total"),
    "A4": ("per-dimension", "abs-per-dimension"),
    "A5": ("per-sample", "signed"),
    "A6": ("total", "abs"),
    "A7": ("per-dimension", "abs"),
    "A8": ("total", "exp-minus-one"),
    "A9": ("per-dimension", "full"),
    "A10": ("total", "full"),
    "A11": ("per-sample", "abs"),
    "A12": ("elementwise", "abs"),
}


@settings
class Mu:
    """μ-VAE: the mean of the codes towards zero, every log-variance towards zero, in place of the rate.

    The default is reading A6 of the printed formulas: the grand mean, and each log-variance by its absolute value.
    """

    kind: Literal["mu"] = "mu"
    mean: Literal["total", "per-sample", "per-dimension", "elementwise"] = "total"
    """Over what the means are added up inside the bars."""
    variance: Literal["abs", "abs-per-dimension", "abs-total", "signed", "exp-minus-one", "full"] = "abs"
    """What is taken of the log-variances; signed is the printed term, unbounded below."""
    allow_unbounded: bool = False
    """Train with 'signed' all the same; the run ends as diverged when the mean log-variance falls below -20."""
    reading: Literal["A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10", "A11", "A12"] | None = None
    """Short for a pair of mean and variance, by its number; saved as that pair."""
    samples: Positive = 1
    """Posterior samples per example and step."""

    builds: ClassVar[str] = "elboroom.objectives.regularizers:mu"
    not_passed: ClassVar[tuple[str, ...]] = ("reading",)
    is_bound: ClassVar[bool] = False
    effective_beta: ClassVar[float | None] = None
    acts_on_batch: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any) -> Any:
        content = values.kwargs if isinstance(values, ArgsKwargs) else values
        if not isinstance(content, dict) or content.get("reading") not in READINGS:
            return values
        content = dict(content)
        reading = content.pop("reading")
        pair = dict(zip(("mean", "variance"), READINGS[reading], strict=True))
        for name, value in pair.items():
            if content.setdefault(name, value) != value:
                raise ValueError(
                    f"reading {reading} is {name}: {value}, and {name}: {content[name]} is asked for beside it. "
                    "Leave out one of the two."
                )
        return content

    @model_validator(mode="after")
    def _bounded(self) -> "Mu":
        if self.variance == "signed" and not self.allow_unbounded:
            raise ValueError(
                "variance 'signed' is unbounded below: variances vanish and the loss runs to minus infinity. "
                "Take 'abs' (reading A6), or watch it happen with allow_unbounded: true."
            )
        return self


@settings
class MutualDivergence:
    """MAE: the ELBO, with the posteriors of a batch pushed apart from each other, all pairs by about as much."""

    kind: Literal["mutual-divergence"] = "mutual-divergence"
    eta: NonNegativeFloat = 1.0
    """Weight of the divergence."""
    gamma: NonNegativeFloat = 0.5
    """Weight of the spread over pairs."""
    pair_softplus: Literal["before-mean", "after-mean", "after-mean-sept"] = "before-mean"
    """Softplus of each pair (the paper), of the mean over pairs (its program), or of that mean divided by eta."""
    free_bits: PositiveFloat | None = None
    """Nats below which the batch mean of the rate is not pressed."""
    samples: Positive = 1
    """Posterior samples per example and step."""

    builds: ClassVar[str] = "elboroom.objectives.regularizers:mutual_divergence"
    is_bound: ClassVar[bool] = True
    effective_beta: ClassVar[float | None] = 1.0
    acts_on_batch: ClassVar[bool] = True
    refuses: No = {
        ("posterior", "point"): NO_DENSITY,
        ("posterior", "uniform"): "the divergence of uniforms that do not cover each other is infinite.",
        ("posterior", "laplace"): "its pairwise divergences are those of Gaussians; choose the posterior 'gaussian'.",
    }

    @model_validator(mode="after")
    def _divisor(self) -> "MutualDivergence":
        if self.pair_softplus == "after-mean-sept" and self.eta == 0:
            raise ValueError("pair_softplus 'after-mean-sept' divides by eta, which is 0. Choose 'after-mean'.")
        return self


@settings
class FreeBits(_Warmed):
    """The ELBO whose rate is pressed only where its batch mean exceeds a limit, in total or by group of latents."""

    kind: Literal["free-bits"] = "free-bits"
    nats: PositiveFloat = 1.0
    """The limit, of each group."""
    per: Literal["total", "dimension", "group"] = "total"
    """What is limited: the whole rate, each latent's, or that of each `size` latents in a row."""
    size: Positive = 1
    """Latents of a group."""
    beta: NonNegativeFloat = 1.0
    """Weight of what is above the limit."""
    warmup: Warmup | None = None
    """How the weight moves at the start."""
    samples: Positive = 1
    """Posterior samples per example and step."""

    builds: ClassVar[str] = "elboroom.objectives.regularizers:free_bits"
    refuses: No = {("posterior", "point"): NO_DENSITY}

    @property
    def is_bound(self) -> bool:
        return self.beta >= 1

    @property
    def effective_beta(self) -> float | None:
        return self.beta


@settings
class Capacity:
    """The rate held at a capacity that grows linearly from 0: |rate - C|, in batch mean."""

    kind: Literal["capacity"] = "capacity"
    nats: NonNegativeFloat = 25.0
    """The last capacity."""
    steps: Positive = 10000
    """Steps of its growth."""
    weight: NonNegativeFloat = 10.0
    """Weight of the distance from it (γ)."""
    samples: Positive = 1
    """Posterior samples per example and step."""

    builds: ClassVar[str] = "elboroom.objectives.regularizers:capacity"
    is_bound: ClassVar[bool] = False
    effective_beta: ClassVar[float | None] = None
    acts_on_batch: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("step",)
    refuses: No = {("posterior", "point"): NO_DENSITY}


@settings
class Mmd(_Warmed):
    """The distance (MMD) of all codes together from the prior, in place of the rate: MMD-VAE; with a point posterior,
    the Wasserstein autoencoder."""

    kind: Literal["mmd"] = "mmd"
    weight: NonNegativeFloat = 10.0
    """Weight of the MMD (λ)."""
    kernel: Kernel = "imq"
    """imq: c / (c + d²); rbf: exp(-d² / c); c = 2 · scale · latent."""
    scales: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1.0,)
    """Scales of the kernels that are added up."""
    warmup: Warmup | None = None
    """How the weight moves at the start."""
    samples: Positive = 1
    """Posterior samples per example and step."""

    builds: ClassVar[str] = "elboroom.objectives.regularizers:mmd"
    is_bound: ClassVar[bool] = False
    effective_beta: ClassVar[float | None] = 0.0

    @property
    def needs(self) -> tuple[str, ...]:
        return ("prior_z", *super().needs)


@settings
class InfoVae(_Warmed):
    """InfoVAE: the rate with weight 1 - α, and the distance (MMD) of all codes together from the prior."""

    kind: Literal["info-vae"] = "info-vae"
    alpha: float = 0.0
    """Weight of the mutual information; with 1 only the MMD is left (MMD-VAE), as in the objective 'mmd'."""
    lambd: NonNegativeFloat = 10.0
    """λ: the MMD has the weight α + λ - 1."""
    kernel: Kernel = "imq"
    """imq: c / (c + d²); rbf: exp(-d² / c); c = 2 · scale · latent."""
    scales: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1.0,)
    """Scales of the kernels that are added up."""
    warmup: Warmup | None = None
    """How both weights move at the start."""
    samples: Positive = 1
    """Posterior samples per example and step."""

    builds: ClassVar[str] = "elboroom.objectives.regularizers:info_vae"
    refuses: No = {("posterior", "point"): "a point posterior has no rate; choose 'mmd', which has none either."}

    @model_validator(mode="after")
    def _attracts(self) -> "InfoVae":
        if self.alpha + self.lambd < 1:
            raise ValueError("alpha + lambd below 1 pushes the codes away from the prior. Raise lambd.")
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        return ("prior_z", *super().needs)

    @property
    def is_bound(self) -> bool:
        return self.alpha <= 0

    @property
    def effective_beta(self) -> float | None:
        return 1 - self.alpha


@settings
class TotalCorrelation(_Warmed):
    """β-TC-VAE: the rate in three parts (mutual information, total correlation, rate by dimension), each weighted."""

    kind: Literal["total-correlation"] = "total-correlation"
    alpha: NonNegativeFloat = 1.0
    """Weight of the mutual information."""
    beta: NonNegativeFloat = 6.0
    """Weight of the total correlation."""
    gamma: NonNegativeFloat = 1.0
    """Weight of the rate by dimension."""
    sampling: Literal["weighted", "stratified"] = "weighted"
    """How the aggregate posterior is estimated from a batch."""
    warmup: Warmup | None = None
    """How β moves at the start."""
    samples: Positive = 1
    """Posterior samples per example and step."""

    builds: ClassVar[str] = "elboroom.objectives.regularizers:total_correlation"
    refuses: No = {
        ("posterior", "point"): NO_DENSITY,
        ("posterior", "uniform"): "the aggregate posterior is estimated from Gaussian densities.",
        ("posterior", "laplace"): "the aggregate posterior is estimated from Gaussian densities.",
    }

    @property
    def needs(self) -> tuple[str, ...]:
        return ("train_size", *super().needs)

    @property
    def is_bound(self) -> bool:
        """Only as the ELBO itself: the parts are estimates, and each may be negative."""
        return self.alpha == self.beta == self.gamma == 1

    @property
    def effective_beta(self) -> float | None:
        return self.alpha if self.alpha == self.beta == self.gamma else None


@settings
class Dip:
    """DIP-VAE-I: the ELBO, with the covariance of the posterior means pressed towards the identity."""

    kind: Literal["dip"] = "dip"
    off_diagonal: NonNegativeFloat = 10.0
    """Weight of the squared covariances of different latents."""
    diagonal: NonNegativeFloat = 5.0
    """Weight of the squared distances of their variances from 1."""
    samples: Positive = 1
    """Posterior samples per example and step."""

    builds: ClassVar[str] = "elboroom.objectives.regularizers:dip"
    is_bound: ClassVar[bool] = True
    effective_beta: ClassVar[float | None] = 1.0
    acts_on_batch: ClassVar[bool] = True
    refuses: No = {("posterior", "point"): NO_DENSITY}


OWN_PARAMETERS = (
    "its density is made of the encoder, so that encoder and prior have no parameters of their own; choose the prior "
    "'mixture'."
)


@settings
class WakeSleep:
    """Wake-sleep: decoder and prior learn from data at codes of the encoder, the encoder from what the model dreams.

    The sum of its losses says little of the model; `training.select_by: elbo` chooses the best checkpoint by the bound.
    """

    kind: Literal["wake-sleep"] = "wake-sleep"
    samples: Positive = 1
    """Posterior samples per example and step; there are as many dreams as examples."""

    builds: ClassVar[str] = "elboroom.objectives.sampled:wake_sleep"
    is_bound: ClassVar[bool] = False
    effective_beta: ClassVar[float | None] = None
    acts_on_batch: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("z_detached", "dream")
    refuses: No = {
        ("posterior", "point"): "a point posterior gives no density to the codes of dreams; choose 'gaussian'.",
        ("posterior", "uniform"): "codes of dreams lie outside of the intervals, where it has no density; choose "
        "'gaussian'.",
        ("prior", "vamp"): OWN_PARAMETERS,
        ("likelihood", "grey-bce"): "it is no distribution that examples could be drawn from; choose "
        "'continuous-bernoulli', or 'bernoulli' with binary data.",
        ("likelihood", "gaussian-optimal"): "in training its variance is that of the batch it scores, so no dream can "
        "be drawn from it; choose 'gaussian-learned'.",
    }


@settings
class MonteCarloEm:
    """Monte Carlo EM: codes come from p(z|x) itself, by Hamiltonian Monte Carlo, and the encoder is not trained.

    AEVB takes five updates with each sample: `training.updates: 5`.
    """

    kind: Literal["monte-carlo-em"] = "monte-carlo-em"
    samples: Positive = 1
    """Chains of each example."""
    transitions: Positive = 1
    """Of each chain at a visit of its example; it goes on where the last visit left it."""
    leapfrog: Positive = 10
    """Leapfrog steps of a transition; each takes a gradient of the decoder."""
    acceptance: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """That the step size, one for all chains, is tuned to."""
    burn_in: Positive = 20
    """Transitions from the prior on, for examples that are not trained on (validation)."""

    builds: ClassVar[str] = "elboroom.objectives.sampled:monte_carlo_em"
    carries: ClassVar[str] = "elboroom.models.chains:Chains"
    not_passed: ClassVar[tuple[str, ...]] = ("transitions", "leapfrog", "acceptance", "burn_in")
    is_bound: ClassVar[bool] = False
    effective_beta: ClassVar[float | None] = None
    acts_on_batch: ClassVar[bool] = False
    trains_encoder: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("sampled",)
    refuses: No = {
        ("posterior", "point"): "a plain autoencoder is its encoder, which is not trained; choose 'gaussian'.",
        ("prior", "vamp"): OWN_PARAMETERS,
        ("likelihood", "grey-bce"): "it is no density, so there is no p(z|x) to draw codes from; choose "
        "'continuous-bernoulli', or 'bernoulli' with binary data.",
        ("likelihood", "gaussian-optimal"): "in training its variance is that of the batch, so that chains would see "
        "one another; choose 'gaussian-learned'.",
        ("companion", "classifier"): "it learns from codes of the encoder, which is not trained; leave it out.",
    }


Objective = choice(
    "objective",
    Elbo,
    ImportanceWeighted,
    Reconstruction,
    Mu,
    MutualDivergence,
    FreeBits,
    Capacity,
    Mmd,
    InfoVae,
    TotalCorrelation,
    Dip,
    WakeSleep,
    MonteCarloEm,
)

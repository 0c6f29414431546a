"""The parts of a model: networks, posteriors, priors, likelihoods."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from elboroom.config.base import Activation, No, NonNegative, Positive, PositiveFloat, choice, merged, settings
from elboroom.config.ready import READY
from elboroom.errors import unknown

AtLeastTwo = Annotated[int, Field(ge=2)]
OddKernel = Literal[3, 5, 7, 9, 11]

NO_DENSITY = "a point posterior has no density, hence no rate and no likelihood; choose the objective 'reconstruction'."


@settings
class MlpEncoder:
    """Fully connected layers on the flattened image."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[Positive, ...] = (500,)
    """Widths of the hidden layers."""
    activation: Activation = "tanh"

    builds: ClassVar[str] = "elboroom.networks.mlp:Encoder"


@settings
class MlpDecoder(MlpEncoder):
    """Fully connected layers from the code to the image."""

    dead_heads: bool = False
    """Two heads that lead nowhere, as the AEVB reproduction study prints them; they are never trained."""

    builds: ClassVar[str] = "elboroom.networks.mlp:Decoder"


@settings
class ConvEncoder:
    """The convolutional encoder of μ-VAE (Ucar 2019, table 4) for any image: the first layer keeps its size, each
    further one halves it."""

    kind: Literal["conv"] = "conv"
    channels: tuple[Positive, ...] = (64, 64, 64)
    """Maps of each layer."""
    kernel: Literal[3, 4] = 3
    activation: Activation = "leaky-relu"

    builds: ClassVar[str] = "elboroom.networks.conv:Encoder"


@settings
class ConvDecoder:
    """Its mirror: a linear layer to the smallest maps, a layer that keeps their size, then doublings to the image."""

    kind: Literal["conv"] = "conv"
    channels: tuple[Positive, ...] = (64, 64, 32)
    """Maps after the linear layer and after each further layer but the last, which the likelihood owns."""
    kernel: Literal[3, 4] = 3
    activation: Activation = "leaky-relu"

    builds: ClassVar[str] = "elboroom.networks.conv:Decoder"

    @model_validator(mode="after")
    def _two(self) -> "ConvDecoder":
        if len(self.channels) < 2:
            raise ValueError(f"a conv decoder needs at least 2 numbers of channels, got {list(self.channels)}.")
        return self


@settings
class ResnetEncoder:
    """Residual blocks with normalized weights, each of which halves the image (MAE; with extra blocks IAF and VLAE)."""

    kind: Literal["resnet"] = "resnet"
    channels: Annotated[tuple[Positive, ...], Field(min_length=1)] = (32, 64, 64)
    """Maps of each block that halves."""
    extra: NonNegative = 0
    """Blocks after each of these that keep the size."""
    hidden: Positive = 512
    """Features at the end, from a convolution over all that is left of the image."""
    activation: Activation = "elu"

    builds: ClassVar[str] = "elboroom.networks.resnet:Encoder"


@settings
class ResnetDecoder:
    """Transposed residual blocks with normalized weights, each of which doubles the image."""

    kind: Literal["resnet"] = "resnet"
    channels: Annotated[tuple[Positive, ...], Field(min_length=1)] = (64, 64, 32)
    """Maps of the smallest size and after each doubling but the last, which the likelihood owns."""
    extra: NonNegative = 0
    """Blocks before each doubling that keep the size."""
    activation: Activation = "elu"

    builds: ClassVar[str] = "elboroom.networks.resnet:Decoder"


NOT_IN_ORDER = "this decoder gives each pixel the pixels before it, which must be binary; choose 'bernoulli'."
GREY = (
    "grey-bce",
    "gaussian",
    "squared-error",
    "gaussian-learned",
    "gaussian-pixel",
    "gaussian-optimal",
    "continuous-bernoulli",
    "discretized-logistic",
)


@settings
class PixelcnnDecoder:
    """PixelCNN: each pixel given the code and the pixels before it, by masked convolutions (VLAE, MAE)."""

    kind: Literal["pixelcnn"] = "pixelcnn"
    maps: AtLeastTwo = 64
    """Maps of the running value; the blocks' masked convolutions have half as many."""
    kernels: Annotated[tuple[Literal[1] | OddKernel, ...], Field(min_length=1)] = (7, 7, 5, 5, 3, 3)
    """Kernel of each block; together they say how far back a pixel sees."""
    first: OddKernel = 7
    """Kernel of the first convolution."""
    skips: bool = True
    """Long skips over three blocks, each through a block of its own; VLAE's decoder has none."""
    tied: bool = False
    """Blocks of the same kernel, one after the other, are one block applied again (VLAE)."""
    code_maps: Positive = 4
    """Maps that the code becomes."""
    code_channels: tuple[Positive, ...] = ()
    """The code becomes maps through transposed residual blocks of these channels (VLAE); without them, by one linear
    layer."""
    code_extra: NonNegative = 0
    """Blocks before each doubling of these that keep the size."""
    activation: Activation = "elu"

    builds: ClassVar[str] = "elboroom.networks.pixelcnn:Decoder"
    refuses: No = {("likelihood", kind): NOT_IN_ORDER for kind in GREY}

    @model_validator(mode="after")
    def _extra_needs_channels(self) -> "PixelcnnDecoder":
        if self.code_extra and not self.code_channels:
            raise ValueError("code_extra is of the network that code_channels describe; give both, or neither.")
        return self


@settings
class GaussianPosterior:
    """q(z|x) = N(μ(x), diag σ²(x)); the network's last layer gives μ and log σ²."""

    kind: Literal["gaussian"] = "gaussian"
    latent: Positive = 20
    """Dimensions of the code."""
    clip: PositiveFloat | None = None
    """Factor c of latent clipping: the mean's norm is held within c·sqrt(latent)."""
    legacy_logsigma: bool = False
    """Sample with the second head as log σ while the trained rate to a normal prior takes it for log σ² (Dobilas)."""

    builds: ClassVar[str] = "elboroom.models.posteriors:GaussianPosterior"


@settings
class LaplacePosterior:
    """q(z|x) = Laplace(m(x), s(x)) in each dimension; the network's last layer gives m and log s."""

    kind: Literal["laplace"] = "laplace"
    latent: Positive = 20
    """Dimensions of the code."""
    clip: PositiveFloat | None = None
    """Factor c of latent clipping: the location's norm is held within c·sqrt(latent)."""

    builds: ClassVar[str] = "elboroom.models.posteriors:LaplacePosterior"


@settings
class UniformPosterior:
    """q(z|x) = U(m(x) - h(x), m(x) + h(x)) in each dimension, kept inside the support of a uniform prior."""

    kind: Literal["uniform"] = "uniform"
    latent: Positive = 20
    """Dimensions of the code."""
    clip: PositiveFloat | None = None
    """Factor c of latent clipping: the centre's norm is held within c·sqrt(latent)."""

    builds: ClassVar[str] = "elboroom.models.posteriors:UniformPosterior"


NOT_FACTORIZED = "it reads means and variances of factorized posteriors, and this one's are those of its base alone."


@settings
class IafPosterior:
    """Inverse autoregressive flow: a Gaussian's sample, carried on by steps that know the image (IAF)."""

    kind: Literal["iaf"] = "iaf"
    latent: Positive = 20
    """Dimensions of the code."""
    clip: PositiveFloat | None = None
    """Factor c of latent clipping: the base mean's norm is held within c·sqrt(latent)."""
    steps: Positive = 2
    """Autoregressive steps, whose order alternates."""
    width: Positive = 10
    """Hidden units for each dimension of the code."""
    layers: Positive = 1
    """Hidden layers of each network."""
    context: Positive = 64
    """Numbers that the steps are told of the image."""
    limit: PositiveFloat | None = 3.0
    """Hold the log-variances of the steps softly within this."""

    builds: ClassVar[str] = "elboroom.models.posteriors:IafPosterior"
    refuses: No = {
        ("objective", kind): NOT_FACTORIZED for kind in ("mu", "mutual-divergence", "total-correlation", "dip")
    } | {("prior", "vamp"): "a mixture of these posteriors has no density in one pass; choose 'mixture' or 'flow'."}


@settings
class PointPosterior:
    """The plain autoencoder: z = μ(x), no noise, no rate."""

    kind: Literal["point"] = "point"
    latent: Positive = 20
    """Dimensions of the code."""
    clip: PositiveFloat | None = None
    """Factor c of latent clipping: the code's norm is held within c·sqrt(latent)."""
    squash: Literal["none", "tanh"] = "none"
    """tanh holds the code in (-1, 1), as the autoencoder of the AEVB reproduction study does."""

    builds: ClassVar[str] = "elboroom.models.posteriors:PointPosterior"
    refuses: No = {
        ("objective", "elbo"): NO_DENSITY,
        ("objective", "mu"): "a point posterior has no variance for μ-VAE's regularizer; choose 'reconstruction'.",
    }


@settings
class NormalPrior:
    """p(z) = N(0, I)."""

    kind: Literal["normal"] = "normal"

    builds: ClassVar[str] = "elboroom.models.priors:NormalPrior"


NOT_INSIDE = "it reaches beyond the prior's support, so its rate is infinite; choose the posterior 'uniform'."
NO_RATE = ("reconstruction", "mu", "mmd")
UNTRAINED = (
    "it has no rate, and nothing else would train this prior; choose the prior 'normal', or the objective 'elbo'."
)


@settings
class LaplacePrior:
    """p(z) = Laplace(0, 1) in each dimension."""

    kind: Literal["laplace"] = "laplace"

    builds: ClassVar[str] = "elboroom.models.priors:LaplacePrior"


@settings
class UniformPrior:
    """p(z) = U(-c, c) in each dimension; for the uniform posterior, which stays inside."""

    kind: Literal["uniform"] = "uniform"
    half_width: PositiveFloat = 1.0
    """c."""

    builds: ClassVar[str] = "elboroom.models.priors:UniformPrior"
    refuses: No = {
        ("posterior", "gaussian"): NOT_INSIDE,
        ("posterior", "laplace"): NOT_INSIDE,
        ("posterior", "iaf"): NOT_INSIDE,
    }


@settings
class StudentPrior:
    """p(z) = Student's t in each dimension: heavy tails, in which codes far from 0 cost little."""

    kind: Literal["student"] = "student"
    degrees: PositiveFloat = 5.0
    """Degrees of freedom; 1 is Cauchy's distribution, and many are a normal one."""
    scale: PositiveFloat = 1.0
    """By which codes are divided before they are scored."""

    builds: ClassVar[str] = "elboroom.models.priors:StudentPrior"


@settings
class MixturePrior:
    """Learned mixture of diagonal Gaussians."""

    kind: Literal["mixture"] = "mixture"
    components: AtLeastTwo = 16

    builds: ClassVar[str] = "elboroom.models.priors:MixturePrior"
    refuses: No = {("objective", kind): UNTRAINED for kind in NO_RATE}


@settings
class VampPrior:
    """Mixture of the posteriors of learned pseudo-inputs (Tomczak & Welling 2018)."""

    kind: Literal["vamp"] = "vamp"
    components: AtLeastTwo = 100
    """Pseudo-inputs; the encoder runs on all of them at every step."""

    builds: ClassVar[str] = "elboroom.models.priors:VampPrior"
    refuses: No = {
        ("posterior", "point"): "a point posterior has no density to mix; choose the prior 'normal'.",
        ("posterior", "uniform"): "a mixture of intervals does not cover the posterior of an image, so the rate is "
        "infinite; choose the prior 'uniform' or 'mixture'.",
        **{("objective", kind): UNTRAINED for kind in NO_RATE},
    }


@settings
class FlowPrior:
    """Autoregressive flow: steps that carry codes to standard normal noise, each dimension given those before it."""

    kind: Literal["flow"] = "flow"
    steps: Positive = 8
    """Autoregressive steps, whose order alternates."""
    width: Positive = 10
    """Hidden units for each dimension of the code."""
    layers: Positive = 1
    """Hidden layers of each network."""
    scale: bool = True
    """Scale as well as shift; VLAE's flow only shifts."""
    limit: PositiveFloat | None = None
    """Hold the log-variances of the steps softly within this; without it, as in MAE, a code far out can have no density
    that float32 can tell from 0."""
    activation: Activation = "relu"

    builds: ClassVar[str] = "elboroom.models.priors:FlowPrior"
    refuses: No = {("objective", kind): UNTRAINED for kind in NO_RATE}


@settings
class Bernoulli:
    """Binary pixels, each with a probability of its own."""

    kind: Literal["bernoulli"] = "bernoulli"

    builds: ClassVar[str] = "elboroom.models.likelihoods:BernoulliLikelihood"
    takes: ClassVar[tuple[str, ...]] = ("binary",)


@settings
class GreyBce:
    """Binary cross-entropy of grey pixels in [0, 1]: a loss in common use that is no density of grey data."""

    kind: Literal["grey-bce"] = "grey-bce"

    builds: ClassVar[str] = "elboroom.models.likelihoods:GreyBce"
    takes: ClassVar[tuple[str, ...]] = ("unit-interval", "binary")


@settings
class Gaussian:
    """N(x; m(z), variance) with a fixed variance."""

    kind: Literal["gaussian"] = "gaussian"
    variance: PositiveFloat = 1.0
    mean: Literal["auto", "sigmoid", "identity"] = "auto"
    """What the mean passes through; auto: a sigmoid for values in [0, 1], nothing for others."""

    builds: ClassVar[str] = "elboroom.models.likelihoods:GaussianLikelihood"
    takes: ClassVar[tuple[str, ...]] = ("unit-interval", "binary", "real")


@settings
class SquaredError:
    """Sum of squares: a Gaussian of variance 1/2 whose constant, (dimensions / 2) ln π nats, is dropped in training."""

    kind: Literal["squared-error"] = "squared-error"
    constant: bool = False
    """Keep the constant in the distortion (likelihoods that are reported have it in any case)."""
    mean: Literal["auto", "sigmoid", "identity"] = "auto"
    """What the mean passes through; auto: a sigmoid for values in [0, 1], nothing for others."""

    builds: ClassVar[str] = "elboroom.models.likelihoods:SquaredErrorLikelihood"
    takes: ClassVar[tuple[str, ...]] = ("unit-interval", "binary", "real")


@settings
class LearnedGaussian:
    """N(x; m(z), variance) with one learned variance: a density of continuous data."""

    kind: Literal["gaussian-learned"] = "gaussian-learned"
    floor: PositiveFloat = 1e-5
    """Smallest variance, approached softly."""
    mean: Literal["auto", "sigmoid", "identity"] = "auto"
    """What the mean passes through; auto: a sigmoid for values in [0, 1], nothing for others."""

    builds: ClassVar[str] = "elboroom.models.likelihoods:LearnedGaussianLikelihood"
    takes: ClassVar[tuple[str, ...]] = ("unit-interval", "binary", "real")


@settings
class PixelGaussian:
    """N(x; m(z), diag variance(z)), a variance for each pixel, as in AEVB: a density of continuous data."""

    kind: Literal["gaussian-pixel"] = "gaussian-pixel"
    floor: PositiveFloat = 1e-5
    """Smallest variance, approached softly; without one, pixels that never change have no upper limit."""
    mean: Literal["auto", "sigmoid", "identity"] = "auto"
    """What the mean passes through; auto: a sigmoid for values in [0, 1], nothing for others."""

    builds: ClassVar[str] = "elboroom.models.likelihoods:PixelGaussianLikelihood"
    takes: ClassVar[tuple[str, ...]] = ("unit-interval", "binary", "real")


@settings
class OptimalGaussian:
    """N(x; m(z), variance): the batch's mean squared error in training, fixed in evaluation (σ-VAE)."""

    kind: Literal["gaussian-optimal"] = "gaussian-optimal"
    floor: PositiveFloat = 1e-5
    """Smallest variance."""
    mean: Literal["auto", "sigmoid", "identity"] = "auto"
    """What the mean passes through; auto: a sigmoid for values in [0, 1], nothing for others."""

    builds: ClassVar[str] = "elboroom.models.likelihoods:OptimalGaussianLikelihood"
    takes: ClassVar[tuple[str, ...]] = ("unit-interval", "binary", "real")
    unsliced: ClassVar[str] = "its variance is that of the whole batch, which no slice has"
    refuses: No = {
        ("objective", "importance-weighted"): "its variance is the one that is best for the ELBO; choose "
        "'gaussian-learned'.",
    }


@settings
class ContinuousBernoulli:
    """Grey values in [0, 1] under the Bernoulli's formula with its normalizer: a density of continuous data."""

    kind: Literal["continuous-bernoulli"] = "continuous-bernoulli"

    builds: ClassVar[str] = "elboroom.models.likelihoods:ContinuousBernoulliLikelihood"
    takes: ClassVar[tuple[str, ...]] = ("unit-interval",)


@settings
class DiscretizedLogistic:
    """Grey levels under a logistic, each with the mass of its bin: a probability of 8-bit data, no density."""

    kind: Literal["discretized-logistic"] = "discretized-logistic"
    levels: AtLeastTwo = 256
    """Grey levels; values between two of them count as the nearer."""

    builds: ClassVar[str] = "elboroom.models.likelihoods:DiscretizedLogisticLikelihood"
    takes: ClassVar[tuple[str, ...]] = ("unit-interval",)


Encoder = choice("encoder", MlpEncoder, ConvEncoder, ResnetEncoder, custom=True)
Decoder = choice("decoder", MlpDecoder, ConvDecoder, ResnetDecoder, PixelcnnDecoder, custom=True)
Posterior = choice("posterior", GaussianPosterior, PointPosterior, LaplacePosterior, UniformPosterior, IafPosterior)
Prior = choice("prior", NormalPrior, LaplacePrior, UniformPrior, StudentPrior, MixturePrior, VampPrior, FlowPrior)
Likelihood = choice(
    "likelihood",
    Bernoulli,
    GreyBce,
    Gaussian,
    SquaredError,
    LearnedGaussian,
    PixelGaussian,
    OptimalGaussian,
    ContinuousBernoulli,
    DiscretizedLogistic,
)


@settings
class Model:
    """A variational autoencoder: encoder network, posterior, prior, decoder network, likelihood."""

    encoder: Encoder = dataclasses.field(default_factory=MlpEncoder)
    posterior: Posterior = dataclasses.field(default_factory=GaussianPosterior)
    prior: Prior = dataclasses.field(default_factory=NormalPrior)
    decoder: Decoder = dataclasses.field(default_factory=MlpDecoder)
    likelihood: Likelihood = dataclasses.field(default_factory=Bernoulli)


def ready(value: Any) -> Any:
    """A model's mapping with ``kind: kth``, or the name alone, as the parts that it stands for, changed by the rest."""
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, dict) or "kind" not in value:
        return value
    if str(value["kind"]) not in READY:
        raise unknown("model", str(value["kind"]), READY)
    return merged(READY[value["kind"]], {k: v for k, v in value.items() if k != "kind"})


ModelOrName = Annotated[Model, BeforeValidator(ready)]
"""A model by its parts, by a paper's name, or by a name and changes."""

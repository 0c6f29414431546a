"""The parts of a model: networks, posteriors, priors, likelihoods."""

import dataclasses
from typing import ClassVar, Literal

from pydantic import model_validator

from elboroom.config.base import Activation, No, Positive, PositiveFloat, choice, settings

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

    builds: ClassVar[str] = "elboroom.networks.mlp:Decoder"


@settings
class ConvEncoder:
    """The convolutional encoder of μ-VAE (SPEC 5.2), scaled to the image: the first layer keeps its size, each further
    one halves it."""

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
class GaussianPosterior:
    """q(z|x) = N(μ(x), diag σ²(x)); the network's last layer gives μ and log σ²."""

    kind: Literal["gaussian"] = "gaussian"
    latent: Positive = 20
    """Dimensions of the code."""
    clip: PositiveFloat | None = None
    """Factor c of latent clipping: the mean's norm is held within c·sqrt(latent)."""

    builds: ClassVar[str] = "elboroom.models.posteriors:GaussianPosterior"


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


Encoder = choice("encoder", MlpEncoder, ConvEncoder, custom=True)
Decoder = choice("decoder", MlpDecoder, ConvDecoder, custom=True)
Posterior = choice("posterior", GaussianPosterior, PointPosterior)
Prior = choice("prior", NormalPrior)
Likelihood = choice("likelihood", Bernoulli, GreyBce, Gaussian, SquaredError)


@settings
class Model:
    """A variational autoencoder: encoder network, posterior, prior, decoder network, likelihood."""

    encoder: Encoder = dataclasses.field(default_factory=MlpEncoder)
    posterior: Posterior = dataclasses.field(default_factory=GaussianPosterior)
    prior: Prior = dataclasses.field(default_factory=NormalPrior)
    decoder: Decoder = dataclasses.field(default_factory=MlpDecoder)
    likelihood: Likelihood = dataclasses.field(default_factory=Bernoulli)

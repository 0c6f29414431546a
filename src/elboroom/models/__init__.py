"""Networks wrapped as distributions: encoder(x) is q(z|x), prior(encoder) is p(z), decoder(z) is p(x|z)."""

from elboroom.models.likelihoods import (
    BernoulliLikelihood,
    ContinuousBernoulliLikelihood,
    DiscretizedLogisticLikelihood,
    GaussianLikelihood,
    GreyBce,
    LearnedGaussianLikelihood,
    OptimalGaussianLikelihood,
    PixelGaussianLikelihood,
    SquaredErrorLikelihood,
)
from elboroom.models.posteriors import (
    GaussianPosterior,
    IafPosterior,
    LaplacePosterior,
    PointPosterior,
    UniformPosterior,
)
from elboroom.models.priors import FlowPrior, LaplacePrior, MixturePrior, NormalPrior, UniformPrior, VampPrior
from elboroom.models.vae import VAE

__all__ = [
    "VAE",
    "BernoulliLikelihood",
    "ContinuousBernoulliLikelihood",
    "DiscretizedLogisticLikelihood",
    "FlowPrior",
    "GaussianLikelihood",
    "GaussianPosterior",
    "GreyBce",
    "IafPosterior",
    "LaplacePosterior",
    "LaplacePrior",
    "LearnedGaussianLikelihood",
    "MixturePrior",
    "NormalPrior",
    "OptimalGaussianLikelihood",
    "PixelGaussianLikelihood",
    "PointPosterior",
    "SquaredErrorLikelihood",
    "UniformPosterior",
    "UniformPrior",
    "VampPrior",
]

"""Networks wrapped as distributions: encoder(x) is q(z|x), prior(encoder) is p(z), decoder(z) is p(x|z)."""

from elboroom.models.likelihoods import BernoulliLikelihood, GaussianLikelihood, GreyBce, SquaredErrorLikelihood
from elboroom.models.posteriors import GaussianPosterior, PointPosterior
from elboroom.models.priors import NormalPrior
from elboroom.models.vae import VAE

__all__ = [
    "VAE",
    "BernoulliLikelihood",
    "GaussianLikelihood",
    "GaussianPosterior",
    "GreyBce",
    "NormalPrior",
    "PointPosterior",
    "SquaredErrorLikelihood",
]

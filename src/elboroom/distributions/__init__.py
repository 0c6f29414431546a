"""Distributions that torch lacks or that are faster here, and the tables of closed-form divergences."""

from elboroom.distributions.autoregressive import AutoregressiveBernoulli
from elboroom.distributions.continuous_bernoulli import ContinuousBernoulliPixels
from elboroom.distributions.diagonal import (
    Diagonal,
    DiagonalNormal,
    LegacyNormal,
    Point,
    Standard,
    StandardNormal,
)
from elboroom.distributions.discretized_logistic import DiscretizedLogisticPixels
from elboroom.distributions.divergences import pairwise_kl, rate_by_dimension
from elboroom.distributions.flow import AutoregressiveFlow, AutoregressiveStep, InverseAutoregressive
from elboroom.distributions.gaussians import BatchNormalPixels, ScaledNormalPixels
from elboroom.distributions.laplace import DiagonalLaplace, StandardLaplace
from elboroom.distributions.mixture import DiagonalMixture
from elboroom.distributions.pixels import BernoulliPixels, GreyPixels, NormalPixels, PixelDistribution
from elboroom.distributions.uniform import CentredUniform, DiagonalUniform

__all__ = [
    "AutoregressiveBernoulli",
    "AutoregressiveFlow",
    "AutoregressiveStep",
    "BatchNormalPixels",
    "BernoulliPixels",
    "CentredUniform",
    "ContinuousBernoulliPixels",
    "Diagonal",
    "DiagonalLaplace",
    "DiagonalMixture",
    "DiagonalNormal",
    "DiagonalUniform",
    "DiscretizedLogisticPixels",
    "GreyPixels",
    "InverseAutoregressive",
    "LegacyNormal",
    "NormalPixels",
    "PixelDistribution",
    "Point",
    "ScaledNormalPixels",
    "Standard",
    "StandardLaplace",
    "StandardNormal",
    "pairwise_kl",
    "rate_by_dimension",
]

"""Distributions that torch lacks or that are faster here, and the table of closed-form divergences."""

from elboroom.distributions.diagonal import DiagonalNormal, Point, StandardNormal
from elboroom.distributions.divergences import rate_by_dimension
from elboroom.distributions.pixels import BernoulliPixels, GreyPixels, NormalPixels, PixelDistribution

__all__ = [
    "BernoulliPixels",
    "DiagonalNormal",
    "GreyPixels",
    "NormalPixels",
    "PixelDistribution",
    "Point",
    "StandardNormal",
    "rate_by_dimension",
]

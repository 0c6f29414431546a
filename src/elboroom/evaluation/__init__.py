"""Scores of a trained model, each under a protocol; codes and pictures for the report."""

from elboroom.evaluation.along import along
from elboroom.evaluation.evaluate import evaluate, has_likelihood
from elboroom.evaluation.likelihood import ESTIMATES, IMPORTANCE
from elboroom.evaluation.monitors import monitor

__all__ = ["ESTIMATES", "IMPORTANCE", "along", "evaluate", "has_likelihood", "monitor"]

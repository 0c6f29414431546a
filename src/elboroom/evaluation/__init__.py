"""Scores of a trained model, each under a protocol; codes and pictures for the report."""

from elboroom.evaluation.evaluate import evaluate, has_likelihood
from elboroom.evaluation.likelihood import IMPORTANCE
from elboroom.evaluation.monitors import monitor

__all__ = ["IMPORTANCE", "evaluate", "has_likelihood", "monitor"]

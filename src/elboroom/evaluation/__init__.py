"""Scores of a trained model, each under a protocol; codes and pictures for the report."""

from elboroom.evaluation.evaluate import evaluate
from elboroom.evaluation.monitors import monitor

__all__ = ["evaluate", "monitor"]

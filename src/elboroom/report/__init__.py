"""Run folders as one page: tables that rank only what is comparable, curves, codes and pictures. Never a model."""

from elboroom.report import figures, tables
from elboroom.report.page import report

__all__ = ["figures", "report", "tables"]

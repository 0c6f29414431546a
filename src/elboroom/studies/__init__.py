"""Runs and grids of runs: carried out, resumed, evaluated."""

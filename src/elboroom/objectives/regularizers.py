"""Objectives that put something else, or something more, in the place of the rate."""

from elboroom.objectives.bounds import rate
from elboroom.records import Draw, Terms


def mu(draw: Draw) -> Terms:
    r"""μ-VAE: the grand mean of the codes towards zero and every log-variance towards zero, in place of the rate.

    .. math:: \frac1B \Big[ \sum_i D_i + \Big| \sum_i \sum_d \mu_{id} \Big| + \sum_i \sum_d |\log \sigma^2_{id}| \Big]

    Ucar (2019), arXiv:1910.13181, final objective, in the reading A6 of SPEC 5.5: the printed one, without the bars
    around the log-variances, is unbounded below. Both terms act on the batch, so their value depends on its size.
    No bound on log p(x); the rate is reported, with weight 0.

    Raises:
        ValueError: the posterior has no variance.
    """
    base = draw.base
    if base is None or base.log_var is None:
        raise ValueError("μ-VAE's regularizer needs a posterior with a variance, such as 'gaussian'")
    batch = base.loc.shape[0]
    return Terms(
        {"distortion": -draw.log_px.mean(0), "rate": rate(draw).detach()},
        batch={"mean-bar": base.loc.sum().abs() / batch, "variance-bar": base.log_var.abs().sum() / batch},
        weights={"rate": 0.0},
    )

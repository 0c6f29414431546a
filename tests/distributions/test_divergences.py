"""The table of closed-form divergences: every line against Monte Carlo and against torch."""

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from elboroom.distributions import DiagonalNormal, Point, StandardNormal, rate_by_dimension
from elboroom.distributions.divergences import RATES

LOC = torch.tensor([[0.0, 2.0, -1.0], [0.5, 0.0, 3.0]], dtype=torch.float64)
LOG_VAR = torch.tensor([[0.0, -3.0, 1.0], [0.2, -6.0, 0.0]], dtype=torch.float64)
MADE = {  # how each type of the table is made here, and what torch calls it
    DiagonalNormal: (DiagonalNormal(LOC, LOG_VAR), Normal(LOC, (LOG_VAR / 2).exp())),
    StandardNormal: (StandardNormal(3), Normal(torch.zeros(3).double(), torch.ones(3).double())),
}
PAIRS = [pytest.param(*pair, id="-".join(t.__name__ for t in pair)) for pair in RATES]


@pytest.mark.parametrize(("q_type", "p_type"), PAIRS)
def test_closed_form_equals_torch(q_type, p_type):
    (q, torch_q), (p, torch_p) = MADE[q_type], MADE[p_type]
    torch.testing.assert_close(rate_by_dimension(q, p), kl_divergence(torch_q, torch_p))


@pytest.mark.parametrize(("q_type", "p_type"), PAIRS)
def test_closed_form_equals_monte_carlo(q_type, p_type):
    """50,000 samples, within 5 of their own standard errors."""
    q, p = MADE[q_type][0], MADE[p_type][0]
    z = q.rsample(torch.Size((50_000,)))
    ratio = q.log_prob(z) - p.log_prob(z)
    assert ((ratio.mean(0) - rate_by_dimension(q, p).sum(-1)).abs() < 5 * ratio.std(0) / 50_000**0.5).all()


@pytest.mark.parametrize(("q_type", "p_type"), PAIRS)
def test_never_negative(q_type, p_type):
    assert (rate_by_dimension(MADE[q_type][0], MADE[p_type][0]) >= 0).all()


def test_zero_at_the_prior_and_a_half_at_one_standard_deviation():
    """KL(N(1, 1) || N(0, 1)) = 1/2."""
    q = DiagonalNormal(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2))
    torch.testing.assert_close(rate_by_dimension(q, StandardNormal(2)), torch.tensor([[0.0, 0.5]]))


def test_no_line_no_closed_form():
    assert rate_by_dimension(Point(LOC), StandardNormal(3)) is None
    assert rate_by_dimension(Independent(Normal(LOC, 1.0), 1), StandardNormal(3)) is None

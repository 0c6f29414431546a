"""The tables of closed-form divergences: every line against Monte Carlo, against torch, and at known values."""

import math

import pytest
import torch
from torch.distributions import Independent, Laplace, Normal, Uniform, kl_divergence

from elboroom.distributions import (
    CentredUniform,
    DiagonalLaplace,
    DiagonalNormal,
    DiagonalUniform,
    LegacyNormal,
    Point,
    StandardLaplace,
    StandardNormal,
    pairwise_kl,
    rate_by_dimension,
)
from elboroom.distributions.divergences import LEGACY, PAIRS, RATES
from elboroom.records import Base

LOC = torch.tensor([[0.0, 2.0, -1.0], [0.5, 0.0, 3.0]], dtype=torch.float64)
WIDTH = torch.tensor([[0.0, -3.0, 1.0], [0.2, -6.0, 0.0]], dtype=torch.float64)
OTHER_LOC, OTHER_WIDTH = LOC.flip(0) + 0.1, WIDTH.flip(1) / 2
Q = {
    DiagonalNormal: DiagonalNormal(LOC, WIDTH),
    DiagonalLaplace: DiagonalLaplace(LOC, WIDTH),
    DiagonalUniform: DiagonalUniform(LOC, WIDTH),
}
P = {
    StandardNormal: StandardNormal(3),
    StandardLaplace: StandardLaplace(3),
    CentredUniform: CentredUniform(3, half_width=5.0),
    DiagonalNormal: DiagonalNormal(OTHER_LOC, OTHER_WIDTH),
    DiagonalLaplace: DiagonalLaplace(OTHER_LOC, OTHER_WIDTH),
}
ZERO, ONE = torch.zeros(3).double(), torch.ones(3).double()
TORCH_Q = {
    DiagonalNormal: Normal(LOC, (WIDTH / 2).exp()),
    DiagonalLaplace: Laplace(LOC, WIDTH.exp()),
    DiagonalUniform: Uniform(LOC - WIDTH.exp(), LOC + WIDTH.exp()),
}
TORCH_P = {
    StandardNormal: Normal(ZERO, ONE),
    StandardLaplace: Laplace(ZERO, ONE),
    CentredUniform: Uniform(-5 * ONE, 5 * ONE),
    DiagonalNormal: Normal(OTHER_LOC, (OTHER_WIDTH / 2).exp()),
    DiagonalLaplace: Laplace(OTHER_LOC, OTHER_WIDTH.exp()),
}
LINES = [pytest.param(*pair, id="-".join(t.__name__ for t in pair)) for pair in RATES]


@pytest.mark.parametrize(("q_type", "p_type"), LINES)
def test_closed_form_equals_torch(q_type, p_type):
    """Where torch has one; it has none from a Gaussian or a uniform to a Laplace distribution."""
    try:
        expected = kl_divergence(TORCH_Q[q_type], TORCH_P[p_type])
    except NotImplementedError:
        pytest.skip("torch has no closed form")
    torch.testing.assert_close(rate_by_dimension(Q[q_type], P[p_type]), expected)


@pytest.mark.parametrize(("q_type", "p_type"), LINES)
def test_closed_form_equals_monte_carlo(q_type, p_type):
    """50,000 samples, within 5 of their own standard errors (and rounding, where the ratio is constant)."""
    q, p = Q[q_type], P[p_type]
    z = q.rsample(torch.Size((50_000,)))
    ratio = q.log_prob(z) - p.log_prob(z)
    error = ratio.std(0) / 50_000**0.5
    assert ((ratio.mean(0) - rate_by_dimension(q, p).sum(-1)).abs() < 5 * error + 1e-9).all()


@pytest.mark.parametrize(("q_type", "p_type"), LINES)
def test_never_negative(q_type, p_type):
    assert (rate_by_dimension(Q[q_type], P[p_type]) >= 0).all()


@pytest.mark.parametrize(("q_type", "p_type"), LINES)
def test_gradients_equal_finite_differences(q_type, p_type):
    loc, width = (LOC + 0.05).requires_grad_(), WIDTH.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: rate_by_dimension(q_type(a, b), P[p_type]), (loc, width))


def test_zero_at_the_prior_and_a_half_at_one_standard_deviation():
    """KL(N(1, 1) || N(0, 1)) = 1/2."""
    q = DiagonalNormal(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2))
    torch.testing.assert_close(rate_by_dimension(q, StandardNormal(2)), torch.tensor([[0.0, 0.5]]))


def test_laplace_at_the_prior_has_no_rate_and_no_gradient():
    loc, log_scale = torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    found = rate_by_dimension(DiagonalLaplace(loc, log_scale), StandardLaplace(2))
    found.sum().backward()
    for value in (found, loc.grad, log_scale.grad):
        torch.testing.assert_close(value, torch.zeros(1, 2))


def test_laplace_moved_by_one():
    """-log 1 + 1 + exp(-1) - 1 = 1/e (SPEC 3.2)."""
    q = DiagonalLaplace(torch.ones(1, 1), torch.zeros(1, 1))
    torch.testing.assert_close(rate_by_dimension(q, StandardLaplace(1)), torch.full((1, 1), math.exp(-1)))


def test_uniform_of_no_width_has_a_gradient():
    """Its square is 0 in float32, in the branch that is not taken."""
    loc, log_half = torch.ones(1, 1, requires_grad=True), torch.full((1, 1), -60.0, requires_grad=True)
    rate_by_dimension(DiagonalUniform(loc, log_half), StandardLaplace(1)).sum().backward()
    torch.testing.assert_close((loc.grad, log_half.grad), (torch.ones(1, 1), -torch.ones(1, 1)))


def test_uniform_half_as_wide_as_its_prior_costs_log_2_and_one_outside_costs_everything():
    """log 2c - log(b - a) inside [-c, c] (SPEC 3.2)."""
    q = DiagonalUniform(torch.tensor([[1.0, 1.01]]), torch.zeros(1, 2))
    expected = torch.tensor([[math.log(2), math.inf]])
    torch.testing.assert_close(rate_by_dimension(q, CentredUniform(2, half_width=2.0)), expected)


def test_the_legacy_rate_is_a_program_s_and_never_more_than_the_divergence():
    """SPEC 3.1: s = log sigma is taken for log sigma^2."""
    log_sigma = torch.linspace(-4, 2, 20).double()[None]
    q = LegacyNormal(torch.full_like(log_sigma, 0.7), 2 * log_sigma)
    expected = -0.5 * (1 + log_sigma - 0.7**2 - log_sigma.exp())
    assert set(LEGACY) == {(LegacyNormal, StandardNormal)}
    torch.testing.assert_close(rate_by_dimension(q, StandardNormal(20)), expected)
    true = rate_by_dimension(DiagonalNormal(q.loc, q.log_var), StandardNormal(20))
    assert (true >= expected - 1e-12).all()


def test_no_line_no_closed_form():
    assert rate_by_dimension(Point(LOC), StandardNormal(3)) is None
    assert rate_by_dimension(Independent(Normal(LOC, 1.0), 1), StandardNormal(3)) is None
    assert rate_by_dimension(Q[DiagonalNormal], CentredUniform(3)) is None


# Between the posteriors of a batch


def base_of(family: str, batch: int = 5, latent: int = 3) -> tuple[Base, torch.distributions.Distribution]:
    """Random posteriors, and the same as torch's own."""
    loc, width = torch.randn(batch, latent).double(), torch.randn(batch, latent).double()
    if family == "laplace":
        q = DiagonalLaplace(loc, width)
        return Base(family, q.loc, q.log_var), Laplace(loc, width.exp())
    return Base(family, loc, width), Normal(loc, (width / 2).exp())


@pytest.mark.parametrize("family", PAIRS)
def test_trap_11_pairs_are_ordered(family):
    """Entry [i, j] is KL(q_i || q_j): single entries, since totals do not see a transposed matrix (SPEC 9.11)."""
    base, q = base_of(family)
    found = pairwise_kl(base)
    assert found.shape == (5, 5, 3)
    for i in range(5):
        for j in range(5):
            here, there = (type(q)(q.loc[k], q.scale[k]) for k in (i, j))
            torch.testing.assert_close(found[i, j], kl_divergence(here, there))
    assert not torch.allclose(found, found.transpose(0, 1))


@pytest.mark.parametrize("family", PAIRS)
def test_pairs_in_pieces_and_zero_with_oneself(family):
    base, _ = base_of(family)
    whole = pairwise_kl(base)
    torch.testing.assert_close(torch.cat([pairwise_kl(base, slice(0, 2)), pairwise_kl(base, slice(2, 5))]), whole)
    torch.testing.assert_close(whole.diagonal(), torch.zeros(3, 5).double())


@pytest.mark.parametrize("family", PAIRS)
def test_gradients_of_pairs_equal_finite_differences(family):
    base, _ = base_of(family, batch=3, latent=2)

    def total(loc: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
        off = ~torch.eye(3, dtype=torch.bool)  # with oneself a Laplace's |m_i - m_j| has a kink
        return pairwise_kl(Base(family, loc, log_var))[off]

    assert torch.autograd.gradcheck(total, (base.loc.requires_grad_(), base.log_var.requires_grad_()))


def test_pairs_keep_their_digits_in_float32():
    """Two Gaussians whose means differ by 1e-3 at 1,000: the KL is 5e-7 (the float32 spacing there is 6e-5)."""
    near = torch.tensor([[0.0], [2.0**-10]])
    base = Base("gaussian", 1000 + near, torch.zeros(2, 1))
    torch.testing.assert_close(pairwise_kl(base)[0, 1], torch.tensor([2.0**-21]))


@pytest.mark.parametrize(("family", "why"), [("uniform", "infinite"), ("point", "no density"), ("flow", "no closed")])
def test_families_without_pairs_say_why(family, why):
    with pytest.raises(ValueError, match=f"no divergence between '{family}' posteriors: .*{why}.*gaussian or laplace"):
        pairwise_kl(Base(family, LOC, WIDTH))

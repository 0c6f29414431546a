"""Hamiltonian Monte Carlo: reversible, of volume one, and leaving its density where it is."""

import math

import pytest
import torch
from torch import Tensor

from elboroom.models.hmc import Point, evaluated, leapfrog, transition

SD = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)


def gaussian(z: Tensor) -> Tensor:
    """N(0, diag SD^2), up to its constant."""
    return -0.5 * (z / SD).square().sum(-1)


def bent(z: Tensor) -> Tensor:
    """A banana, whose gradient is not linear."""
    return -0.5 * z[..., 0].square() - 2 * (z[..., 1] - z[..., 0].square()).square()


def slope(z: Tensor) -> Tensor:
    """The gradient of `bent`, by hand."""
    off = z[..., 1] - z[..., 0].square()
    return torch.stack([8 * z[..., 0] * off - z[..., 0], -4 * off], dim=-1)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_point_holds_the_gradient_of_each_chain():
    point = evaluated(gaussian, draws(5, 4, 3))
    torch.testing.assert_close(point.gradient, -point.z / SD.square())
    torch.testing.assert_close(point.log_p, gaussian(point.z))
    assert not point.z.requires_grad


def test_one_leapfrog_step_by_hand():
    """log f = -z^2/2, z = 1, m = 0.5, step 0.1: m' = 0.45, z = 1.045, m = 0.45 - 0.05 * 1.045."""
    point = evaluated(lambda z: -0.5 * z.square().sum(-1), torch.tensor([[1.0]]).double())
    ended, momentum = leapfrog(lambda z: -0.5 * z.square().sum(-1), point, torch.tensor([[0.5]]).double(), 0.1, 1)
    assert ended.z.item() == pytest.approx(1.045)
    assert momentum.item() == pytest.approx(0.39775)


@pytest.mark.parametrize("step", [0.1, torch.tensor([0.05, 0.2])])
def test_leapfrog_is_reversible(step):
    point, momentum = evaluated(bent, draws(7, 2)), draws(7, 2, seed=1)
    there, turned = leapfrog(bent, point, momentum, step, 9)
    back, again = leapfrog(bent, there, -turned, step, 9)
    assert (there.z - point.z).abs().max() > 0.1
    torch.testing.assert_close(back.z, point.z, rtol=0, atol=1e-11)
    torch.testing.assert_close(again, -momentum, rtol=0, atol=1e-11)


def test_leapfrog_keeps_volumes():
    """The determinant of its Jacobian in (z, m) is 1."""

    def flow(state: Tensor) -> Tensor:
        z, m = state[:2], state[2:]
        for _ in range(5):
            m = m + 0.1 * slope(z)
            z = z + 0.2 * m
            m = m + 0.1 * slope(z)
        return torch.cat([z, m])

    start = draws(4)
    ended, momentum = leapfrog(bent, evaluated(bent, start[:2]), start[2:], 0.2, 5)
    torch.testing.assert_close(torch.cat([ended.z, momentum]), flow(start))
    jacobian = torch.autograd.functional.jacobian(flow, start)
    assert torch.linalg.det(jacobian).item() == pytest.approx(1, abs=1e-9)


def test_transitions_leave_a_gaussian_as_it_is():
    """20,000 exact draws, 5 transitions with a step so wide that many are refused: means 0, variances SD^2 within 5
    standard errors. Accepting every proposal would widen them."""
    n = 20_000
    point = evaluated(gaussian, SD * draws(n, 3))
    rates = []
    for number in range(5):
        log_u = torch.rand(n, generator=torch.Generator().manual_seed(number), dtype=torch.float64).log()
        moved = transition(gaussian, point, draws(n, 3, seed=10 + number), log_u, 0.85, 3)
        point = moved.point
        rates.append((moved.acceptance.mean().item(), moved.accepted.double().mean().item()))
    z = point.z / SD
    assert (z.mean(0).abs() < 5 / math.sqrt(n)).all()
    assert ((z.square().mean(0) - 1).abs() < 5 * math.sqrt(2 / n)).all()
    assert 0.2 < rates[-1][0] < 0.95
    assert all(abs(expected - found) < 5 * 0.5 / math.sqrt(n) for expected, found in rates)
    torch.testing.assert_close(point.log_p, gaussian(point.z))
    torch.testing.assert_close(point.gradient, -point.z / SD.square())


def test_chains_from_afar_find_the_density():
    """2,000 chains from z = 5, 60 transitions of 5 steps in units of SD."""
    n = 2000
    point = evaluated(gaussian, torch.full((n, 3), 5.0, dtype=torch.float64))
    for number in range(60):
        log_u = torch.rand(n, generator=torch.Generator().manual_seed(number), dtype=torch.float64).log()
        point = transition(gaussian, point, draws(n, 3, seed=100 + number), log_u, 0.3 * SD, 5).point
    z = point.z / SD
    assert (z.mean(0).abs() < 5 / math.sqrt(n)).all()
    assert ((z.square().mean(0) - 1).abs() < 5 * math.sqrt(2 / n)).all()


def test_what_leaves_the_support_is_refused():
    """A half-line; proposals beyond it have no energy, and neither has one that ran away to NaN."""

    def half(z: Tensor) -> Tensor:
        return torch.where(z[..., 0] > 0, -z[..., 0], -math.inf)

    point = evaluated(half, torch.tensor([[0.1], [5.0]]))
    moved = transition(half, point, torch.tensor([[-1.0], [-1.0]]), torch.zeros(2) - 9, 0.5, 1)
    assert moved.accepted.tolist() == [False, True]
    assert moved.acceptance[0] == 0
    assert moved.point.z[0].item() == pytest.approx(0.1)
    nowhere = Point(point.z, point.log_p, torch.full_like(point.gradient, math.nan))
    assert not transition(half, nowhere, torch.ones(2, 1), torch.zeros(2) - 9, 0.5, 1).accepted.any()

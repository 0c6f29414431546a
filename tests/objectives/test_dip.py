"""DIP-VAE-I against loops and in closed form."""

import torch

from elboroom.objectives.bounds import elbo
from elboroom.objectives.regularizers import dip
from elboroom.records import Base, Draw


def draw_with(loc: torch.Tensor) -> Draw:
    batch = len(loc)
    some = torch.linspace(-3, -1, batch, dtype=loc.dtype)[None]
    base = Base("gaussian", loc, torch.zeros_like(loc))
    return Draw(loc[None], some, some - 1, some - 2, base, 0.5 * loc.square())


def test_the_penalties_against_loops():
    loc = torch.randn(7, 3, dtype=torch.float64)
    terms = dip(draw_with(loc), off_diagonal=2.0, diagonal=3.0)
    off = on = 0.0
    for i in range(3):
        for j in range(3):
            c = sum((loc[n, i] - loc[:, i].mean()) * (loc[n, j] - loc[:, j].mean()) for n in range(7)) / 7
            off, on = (off, on + (c - 1) ** 2) if i == j else (off + c**2, on)
    torch.testing.assert_close(terms.batch["covariances"], off)
    torch.testing.assert_close(terms.batch["variances"], on)
    torch.testing.assert_close(terms.loss, elbo(draw_with(loc)).loss + 2 * off + 3 * on)


def test_white_means_cost_nothing():
    """The corners of a square have mean 0 and covariance I."""
    loc = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    terms = dip(draw_with(loc))
    assert terms.batch["covariances"] == terms.batch["variances"] == 0


def test_duplicated_latents_are_charged():
    """Two equal latents of variance 1: C is all ones, so two off-diagonal entries of 1."""
    loc = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    assert dip(draw_with(loc)).batch["covariances"] == 2

"""The two estimates of the encoder's gradient, against their variances in closed form."""

import pytest
import torch
from torch import nn

from elboroom.distributions import DiagonalNormal
from elboroom.evaluation.gradients import moments


class Shifted(nn.Module):
    """q(z|x) = N(w, 1) for every x."""

    def __init__(self, w: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[w]], dtype=torch.float64))

    def forward(self, x):
        loc = self.w.expand(len(x), 1)
        return DiagonalNormal(loc, torch.zeros_like(loc))


class Shift(nn.Module):
    """The posterior N(w, 1), and log p(x|z) = -z²/2."""

    def __init__(self, w: float) -> None:
        super().__init__()
        self.encoder = Shifted(w)

    def decoder(self, z):
        return Parabola(z)

    def noise(self, generator, k, batch):
        return torch.randn(k, batch, 1, generator=generator, dtype=torch.float64)


class Parabola:
    """log p(x|z) = -z²/2."""

    def __init__(self, z):
        self.z = z

    def log_prob(self, x):
        return -self.z.square().sum(-1) / 2


@pytest.mark.parametrize("w", [0.0, 1.5])
def test_means_and_variances_in_closed_form(w):
    """With z = w + ε: -z has mean -w and variance 1; -(z²/2) ε has the same mean and, by the moments of ε, the variance
    (w⁴ + 18 w² + 15)/4 - w². Four standard errors; that of a variance is at most sqrt(E g⁴ / n)."""
    draws = 2000
    found = moments(Shift(w), torch.zeros(1, 1, dtype=torch.float64), draws)
    expected = {"reparameterized": 1.0, "score-function": (w**4 + 18 * w**2 + 15) / 4 - w**2}
    for name, variance in expected.items():
        assert found[name].mean.item() == pytest.approx(-w, abs=4 * (variance / draws) ** 0.5)
        assert found[name].variance.item() == pytest.approx(variance, rel=0.4 if name == "score-function" else 0.1)


def test_a_batch_divides_the_variance():
    one, ten = (moments(Shift(1.0), torch.zeros(n, 1, dtype=torch.float64), 800)["reparameterized"] for n in (1, 10))
    assert (one.variance / ten.variance).item() == pytest.approx(10, rel=0.25)

"""Where codes come from: the prior, and densities fitted to training codes."""

import pytest
import torch
from oracles.copying import blobs, copying, subject_of

from elboroom.errors import InputError
from elboroom.evaluation.density import Gaussian, Mixture, finite, source
from elboroom.numerics import Randomness

X, LABELS = blobs()


def generator():
    return Randomness(0)("test")


def two_clusters(n: int = 3000) -> torch.Tensor:
    """A third around (4, 0) with variances 1 and 1/4, the rest around (-4, 0) with variances 1/4 and 1."""
    z, first = torch.randn(n, 2), torch.arange(n) % 3 == 0
    wide, narrow = torch.tensor([1.0, 0.5]), torch.tensor([0.5, 1.0])
    return torch.where(first[:, None], z * wide + torch.tensor([4.0, 0]), z * narrow - torch.tensor([4.0, 0]))


def test_a_mixture_has_the_moments_of_the_mixture():
    """Mean 4/3 - 8/3 and, across, variance 1/3 + 1/6 + (16 - 16/9); upwards 1/12 + 2/3."""
    drawn = Mixture(two_clusters(), components=2).draw(50_000, generator()).double()
    torch.testing.assert_close(drawn.mean(0), torch.tensor([-4 / 3, 0.0]).double(), atol=0.1, rtol=0)
    expected = torch.tensor([0.5 + 16 - 16 / 9, 0.75]).double()
    torch.testing.assert_close(drawn.var(0), expected, rtol=0.05, atol=0)
    first = drawn[:, 0] > 0
    assert first.double().mean() == pytest.approx(1 / 3, abs=0.01)
    torch.testing.assert_close(drawn[first].var(0), torch.tensor([1, 0.25]).double(), rtol=0.1, atol=0)


def test_one_component_is_the_gaussian():
    z = two_clusters()
    one, other = Mixture(z, components=1), Gaussian(z)
    torch.testing.assert_close(one.means[0], other.mean)
    covariance = torch.cov(z.double().T, correction=0) + 1e-6 * torch.eye(2)
    torch.testing.assert_close(one.roots[0] @ one.roots[0].T, covariance)


def test_a_gaussian_lies_between_clusters_where_a_mixture_does_not():
    z = two_clusters()
    middle = [(s.draw(5000, generator())[:, 0].abs() < 1).double().mean() for s in (Gaussian(z), Mixture(z))]
    assert middle[0] > 0.15
    assert middle[1] < 0.01


@pytest.mark.parametrize("kind", [Gaussian, Mixture])
def test_draws_are_a_function_of_the_codes_and_the_generator(kind):
    z = two_clusters()
    assert torch.equal(kind(z).draw(7, generator()), kind(z).draw(7, generator()))
    assert not torch.equal(kind(z).draw(7, generator()), kind(z).draw(7, Randomness(1)("test")))


@pytest.mark.parametrize("kind", [Gaussian, Mixture])
def test_duplicated_dead_and_constant_codes(kind):
    """Two latents that are copies stay copies; a dead one stays dead; of one point, many draws of it."""
    z = torch.randn(300, 1).repeat(1, 3) * torch.tensor([1.0, 1.0, 0.0])
    drawn = kind(z).draw(500, generator())
    torch.testing.assert_close(drawn[:, 0], drawn[:, 1], atol=0.02, rtol=0)
    assert drawn[:, 2].abs().max() < 0.02
    assert kind(torch.full((4, 2), 3.0)).draw(5, generator()).sub(3).abs().max() < 0.02


def test_fitted_to_training_codes_and_the_prior_is_the_models_own(tmp_path):
    found = subject_of(tmp_path, copying(6), X, LABELS)
    assert source(found, "gaussian").mean.tolist() == pytest.approx(X.double().mean(0).tolist(), abs=1e-6)
    assert source(found, "prior").draw(100_000, generator()).std().item() == pytest.approx(1, abs=0.01)
    assert source(found, "mixture").draw(20_000, generator()).mean(0).tolist() == pytest.approx(
        X.mean(0).tolist(), abs=0.05
    )


def test_a_mixture_that_has_not_converged_says_so(monkeypatch):
    z = torch.randn(200, 3)
    assert Mixture(torch.cat([z, z + 20]), components=2).doubt is None
    monkeypatch.setattr("elboroom.evaluation.density.STEPS", 1)
    assert "had not converged after 1 steps of EM" in Mixture(z).doubt


def test_nothing_is_fitted_to_what_is_not_finite():
    with pytest.raises(InputError, match=r"1 of 2 codes are not finite\. Train anew"):
        finite(torch.tensor([[0.0, 1.0], [float("nan"), 1.0]]))

"""Families of codes: every posterior family and every distribution that a prior returns, by the same laws."""

import math

import pytest
import torch
from torch.distributions import (
    Categorical,
    Independent,
    Laplace,
    MixtureSameFamily,
    Normal,
    Uniform,
)

from elboroom.distributions import (
    CentredUniform,
    Diagonal,
    DiagonalLaplace,
    DiagonalMixture,
    DiagonalNormal,
    DiagonalUniform,
    LegacyNormal,
    StandardLaplace,
    StandardNormal,
)
from elboroom.distributions import mixture as mixture_module

FAMILIES = {
    DiagonalNormal: lambda a, b: Normal(a, (b / 2).exp()),
    DiagonalLaplace: lambda a, b: Laplace(a, b.exp()),
    DiagonalUniform: lambda a, b: Uniform(a - b.exp(), a + b.exp(), validate_args=False),
}
TABLE = [pytest.param(f, id=f.family) for f in FAMILIES]


def parts(family: type[Diagonal], *shape: int) -> tuple[Diagonal, torch.distributions.Distribution]:
    loc, width = torch.randn(*shape).double(), torch.randn(*shape).double() / 2
    return family(loc, width), FAMILIES[family](loc, width)


def mixture(family: type[Diagonal] = DiagonalNormal, components: int = 4, latent: int = 3) -> DiagonalMixture:
    return DiagonalMixture(parts(family, components, latent)[0], torch.randn(components).double())


def test_the_families_are_all_here():
    assert {f for f in Diagonal.__subclasses__() if f is not LegacyNormal} == set(FAMILIES)


@pytest.mark.parametrize("family", TABLE)
def test_density_equals_torch_and_is_summed_over_the_code(family):
    q, theirs = parts(family, 4, 3)
    z = theirs.sample((5,))
    assert q.log_prob(z).shape == (5, 4)
    torch.testing.assert_close(q.log_prob(z), theirs.log_prob(z).sum(-1))


@pytest.mark.parametrize("family", TABLE)
def test_density_integrates_to_one(family):
    """Rectangles of 1e-3 over 30 units: 2e-3 for the steps of a uniform, exact to 1e-6 for the others."""
    q = family(torch.tensor([[0.3]]).double(), torch.tensor([[-0.4]]).double())
    axis = torch.arange(-15, 15, 1e-3, dtype=torch.float64)
    total = q.log_prob(axis[:, None, None]).exp().sum() * 1e-3
    assert total.item() == pytest.approx(1, abs=2e-3 if family is DiagonalUniform else 1e-6)


@pytest.mark.parametrize("family", TABLE)
def test_samples_from_noise_have_the_density_that_came_with_them(family):
    q, _ = parts(family, 4, 3)
    z, log_qz = q.rsample_with_log_prob(family.noise((200, 4, 3), torch.Generator().manual_seed(1)))
    assert z.dtype == torch.float64
    torch.testing.assert_close(q.log_prob(z), log_qz)


@pytest.mark.parametrize("family", TABLE)
@pytest.mark.parametrize("width", [-12.0, 0.0, 3.0])
def test_in_float32_no_sample_falls_out_of_its_own_density(family, width):
    """A location of 50 and a width down to 6e-6, where a sample rounds to a part in ten of the width."""
    q = family(torch.tensor([[50.0, -0.1]]), torch.full((1, 2), width))
    z, log_qz = q.rsample_with_log_prob(family.noise((10_000, 1, 2), torch.Generator().manual_seed(0)))
    assert z.isfinite().all()
    assert log_qz.isfinite().all()
    assert q.log_prob(z).isfinite().all()


@pytest.mark.parametrize("family", TABLE)
def test_moments_and_the_log_of_the_variance_it_has(family):
    """40,000 draws: the mean within 5 standard errors; the variance within 5 % (4 errors of a Laplace's)."""
    q, theirs = parts(family, 2, 3)
    z = q.rsample(torch.Size((40_000,)))
    assert ((z.mean(0) - q.mean).abs() < 5 * (q.variance / 40_000).sqrt()).all()
    torch.testing.assert_close(z.var(0) / q.variance, torch.ones(2, 3).double(), rtol=0, atol=0.05)
    torch.testing.assert_close(q.log_var, theirs.variance.log())


@pytest.mark.parametrize("family", TABLE)
def test_gradients_equal_finite_differences(family):
    loc, width = torch.randn(2, 3).double().requires_grad_(), torch.randn(2, 3).double().requires_grad_()
    noise = family.noise((2, 2, 3), torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: family(a, b).rsample_with_log_prob(noise), (loc, width))
    z = family(loc, width).rsample_with_log_prob(0.5 * noise)[0].detach()
    assert torch.autograd.gradcheck(lambda a, b: family(a, b).log_prob(z), (loc, width))


@pytest.mark.parametrize("family", TABLE)
def test_members_of_the_batch_by_number(family):
    q, _ = parts(family, 4, 3)
    chosen, z = q.at(torch.tensor([2, 0])), torch.zeros(2, 3).double()
    assert type(chosen) is family
    torch.testing.assert_close(chosen.log_prob(z), q.log_prob(torch.zeros(4, 3).double())[[2, 0]])


@pytest.mark.parametrize("family", [DiagonalNormal, DiagonalLaplace])
def test_detached_parameters_get_no_gradient(family):
    q, z = family(torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)), torch.randn(2, 3)
    assert not q.detached().log_prob(z).requires_grad
    torch.testing.assert_close(q.detached().log_prob(z), q.log_prob(z).detach())
    assert not hasattr(DiagonalUniform, "detached")


# Priors

PRIORS = {
    "normal": (StandardNormal(3), Normal(torch.zeros(3), 1.0)),
    "laplace": (StandardLaplace(3), Laplace(torch.zeros(3), 1.0)),
    "uniform": (CentredUniform(3, half_width=1.7), Uniform(torch.full((3,), -1.7), 1.7)),
}


@pytest.mark.parametrize(("p", "theirs"), PRIORS.values(), ids=PRIORS)
def test_fixed_priors_equal_torch(p, theirs):
    z = theirs.sample((5, 4))
    assert (p.batch_shape, p.event_shape) == ((), (3,))
    torch.testing.assert_close(p.log_prob(z), theirs.log_prob(z).sum(-1))
    torch.testing.assert_close(p.mean, theirs.mean)
    torch.testing.assert_close(p.variance, theirs.variance)
    probabilities = torch.linspace(0.01, 0.99, 21)
    torch.testing.assert_close(p.icdf(probabilities), theirs.icdf(probabilities[:, None])[:, 0])


def test_a_uniform_prior_is_nothing_outside():
    p = CentredUniform(2, half_width=1.0)
    torch.testing.assert_close(
        p.log_prob(torch.tensor([[0.5, 1.01], [-1.0, 1.0]])), torch.tensor([-math.inf, -2 * math.log(2)])
    )


DRAWN = {**{k: v[0] for k, v in PRIORS.items()}, **{f"mixture of {f.family}": mixture(f) for f in FAMILIES}}


@pytest.mark.parametrize("p", DRAWN.values(), ids=DRAWN)
def test_drawing_codes_is_a_function_of_the_generator(p):
    """40,000 draws: the mean within 5 standard errors, the variance within 6 %."""
    z = p.draw(40_000, torch.Generator().manual_seed(3))
    torch.testing.assert_close(z, p.draw(40_000, torch.Generator().manual_seed(3)), rtol=0, atol=0)
    assert not torch.equal(z, p.draw(40_000, torch.Generator().manual_seed(4)))
    assert z.shape == (40_000, 3)
    assert ((z.mean(0) - p.mean).abs() < 5 * (p.variance / 40_000).sqrt()).all()
    torch.testing.assert_close(z.var(0) / p.variance, torch.ones_like(p.variance), rtol=0, atol=0.06)
    assert p.log_prob(z).isfinite().all()
    assert p.sample(torch.Size((2, 5))).shape == (2, 5, 3)


@pytest.mark.parametrize("family", TABLE)
def test_mixture_equals_torch(family):
    q, theirs = parts(family, 4, 3)
    logits = torch.randn(4).double()
    expected = MixtureSameFamily(
        Categorical(logits=logits), Independent(theirs, 1, validate_args=False), validate_args=False
    )
    z, p = q.rsample(torch.Size((6,))), DiagonalMixture(q, logits)
    assert p.log_prob(z).shape == (6, 4)
    torch.testing.assert_close(p.log_prob(z), expected.log_prob(z))
    torch.testing.assert_close(p.mean, expected.mean)
    torch.testing.assert_close(p.variance, expected.variance)


def test_a_mixture_is_compared_in_pieces_of_bounded_memory(monkeypatch):
    p, z = mixture(), torch.randn(50, 3).double()
    whole = p.log_prob(z)
    monkeypatch.setattr(mixture_module, "AT_ONCE", 12 * 7)
    torch.testing.assert_close(p.log_prob(z), whole)


def test_gradients_of_a_mixture_equal_finite_differences():
    z, loc, log_var, logits = (torch.randn(*s).double().requires_grad_() for s in ((2, 3), (4, 3), (4, 3), (4,)))
    made = lambda z, loc, log_var, logits: DiagonalMixture(DiagonalNormal(loc, log_var), logits).log_prob(z)  # noqa: E731
    assert torch.autograd.gradcheck(made, (z, loc, log_var, logits))

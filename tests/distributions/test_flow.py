"""The autoregressive flow: its Jacobian, its way back, and its integral."""

import itertools
import math

import pytest
import torch
from torch import nn

from elboroom.distributions import StandardNormal
from elboroom.models import FlowPrior
from elboroom.networks.initialize import data_dependent_
from elboroom.networks.made import Made, degrees


def prior(latent: int, spread: float = 0.3, **more: object) -> FlowPrior:
    """A flow in float64, away from its start."""
    torch.manual_seed(0)
    made = FlowPrior(latent, **more).double()
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=spread)
    return made


FLOWS = [{}, {"limit": 0.5}, {"steps": 1}, {"steps": 3, "layers": 2}, {"scale": False, "steps": 4, "layers": 3}]


@pytest.mark.parametrize("more", FLOWS)
def test_the_log_determinant_is_that_of_the_jacobian(more):
    flow, z = prior(4, **more)(), torch.randn(4, dtype=torch.float64)
    exact = torch.autograd.functional.jacobian(lambda v: flow.to_noise(v)[0], z).slogdet().logabsdet
    torch.testing.assert_close(flow.to_noise(z)[1], exact)
    expected = StandardNormal(4).log_prob(flow.to_noise(z)[0]) + exact
    torch.testing.assert_close(flow.log_prob(z), expected)


@pytest.mark.parametrize("more", FLOWS)
@pytest.mark.parametrize("latent", [1, 2, 32])
def test_trap_16_noise_to_code_and_back(more, latent):
    """In float32, as it starts (deviation 0.1 of the networks' outputs): within 1e-5."""
    flow = FlowPrior(latent, **more)()
    noise = torch.randn(50, latent)
    with torch.no_grad():
        back, _ = flow.to_noise(flow.from_noise(noise))
    torch.testing.assert_close(back, noise, atol=1e-5, rtol=0)


@pytest.mark.parametrize("more", FLOWS)
def test_trap_16_the_density_integrates_to_one(more):
    """Rectangles of 0.1 on [-10, 10]^2; the mean of log p over its own draws is the entropy by the grid."""
    flow, step = prior(2, **more)(), 0.1
    axis = torch.arange(-10, 10, step, dtype=torch.float64)
    with torch.no_grad():
        density = flow.log_prob(torch.cartesian_prod(axis, axis)).exp() * step**2
        assert density.sum().item() == pytest.approx(1.0, abs=1e-3)
        drawn = flow.log_prob(flow.from_noise(torch.randn(20_000, 2, dtype=torch.float64)))
    entropy = (density * (density / step**2).clamp_min(1e-300).log()).sum()
    assert abs(drawn.mean() - entropy) < 5 * drawn.std() / math.sqrt(20_000)


def test_a_limit_holds_the_log_variances():
    """8 steps of at most 0.5: a factor of exp(2) in each dimension, however far out; and near zero nothing changes."""
    flow, free = prior(3, limit=0.5)(), prior(3)()
    z = 1e6 * torch.randn(20, 3, dtype=torch.float64)
    assert (flow.to_noise(z)[1].abs() <= 8 * 0.5 / 2 * 3 + 1e-9).all()
    step, other = flow.steps[0], free.steps[0]
    torch.testing.assert_close(step.log_scale(z[:1] * 0), 0.5 * (other.log_scale(z[:1] * 0) / 0.5).tanh())


def test_the_steps_alternate_and_the_first_from_the_code_goes_backwards():
    made = prior(5, steps=2)
    z = torch.randn(5, dtype=torch.float64)
    for step, triangle in zip(made.steps, (torch.triu, torch.tril), strict=True):
        by_z = torch.autograd.functional.jacobian(step.shift, z)
        assert torch.equal(by_z, triangle(by_z, 1 if triangle is torch.triu else -1))
    assert [list(step.order) for step in made.steps] == [[4, 3, 2, 1, 0], [0, 1, 2, 3, 4]]


MADES = list(itertools.product((1, 2, 6), (4, 20), (1, 3), (False, True)))


@pytest.mark.parametrize(("latent", "width", "layers", "reverse"), MADES)
def test_an_output_of_a_made_sees_what_stands_before_it_and_all_of_it(latent, width, layers, reverse):
    network = Made(latent, width, layers, reverse, activation="elu").double()
    by_z = torch.autograd.functional.jacobian(network, torch.randn(latent, dtype=torch.float64))
    seen = torch.ones(latent, latent).triu(1) if reverse else torch.ones(latent, latent).tril(-1)
    assert torch.equal((by_z != 0).float(), seen)


def test_degrees_of_the_paper():
    """ceil((i + 1) 31 / 320): from 1 to 31, each some ten times."""
    found = degrees(32, 320).bincount()
    assert (found[0], len(found), found[1:].min(), found[1:].max()) == (0, 32, 10, 11)


def test_a_context_reaches_every_output():
    network = Made(4, 12, context=3, activation="elu").double()
    z, context = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    by_context = torch.autograd.functional.jacobian(lambda c: network(z, c), context)[0, :, 0]
    assert (by_context[1:] != 0).all()
    assert (by_context[0] == 0).all()  # the first output has no hidden units: a bias of its own


def test_data_dependent_initialization_starts_the_networks_at_a_tenth():
    """Output layer and direct link 0.1 each, but for the first output, which sees nothing: 0.14 together."""
    made, z = FlowPrior(8, steps=2), torch.randn(2000, 8) * 2 + 1
    data_dependent_(made, lambda: made().log_prob(z))
    for network in (made.steps[0].shift, made.steps[0].log_scale):
        last = {}
        network.last.register_forward_hook(lambda m, i, out, seen=last: seen.update(out=out))
        network(z)
        torch.testing.assert_close(last["out"].std(0)[:-1], torch.full((7,), 0.1), atol=1e-3, rtol=0)
        assert last["out"].std(0)[-1] == 0
        assert 0.07 < network(z).std(0)[:-1].mean() < 0.2


def test_draws_of_a_generator_repeat():
    flow = prior(3).float()()
    first, again = (flow.draw(5, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again)
    assert flow.sample((2, 4)).shape == (2, 4, 3)


def test_draws_are_of_the_networks_type_and_not_of_the_autocast_around_them():
    assert prior(3)().draw(5, torch.Generator().manual_seed(0)).dtype == torch.float64
    flow = prior(3).float()()
    first = flow.draw(5, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(flow.draw(5, torch.Generator().manual_seed(0)), first, rtol=0, atol=0)
        assert flow.sample((5,)).dtype == torch.float32

"""q(z|x): noise, clipping, the point posterior, and what is float32 whatever the networks compute in."""

import math

import pytest
import torch
from torch import nn

from elboroom.errors import InputError
from elboroom.models import GaussianPosterior, NormalPrior, PointPosterior
from elboroom.models.posteriors import clip_norm
from elboroom.networks import mlp
from elboroom.numerics import Randomness

BOTH = [GaussianPosterior, PointPosterior]


def clipped_by_hand(mu: list[float], radius: float) -> list[float]:
    """mu * min(1, r / ||mu||), in plain Python."""
    norm = math.sqrt(sum(m * m for m in mu))
    return [m * min(1.0, radius / norm) if norm else m for m in mu]


def test_clipping_against_plain_python():
    rows = [[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [-30.0, 40.0], [0.0, 2.0]]
    clipped, norm = clip_norm(torch.tensor(rows), 2.0)
    torch.testing.assert_close(clipped, torch.tensor([clipped_by_hand(r, 2.0) for r in rows]))
    torch.testing.assert_close(norm, torch.tensor([5.0, 0.5, 0.0, 50.0, 2.0]))


def test_clipping_has_a_gradient_everywhere():
    """At mu = 0 it is the identity's; outside, the radial part is gone (SPEC 5.4)."""
    mu = torch.tensor([[0.0, 0.0], [0.1, 0.2], [3.0, 4.0]], requires_grad=True)
    clipped, _ = clip_norm(mu, 2.0)
    (gradient,) = torch.autograd.grad(clipped.sum(), mu, retain_graph=True)
    torch.testing.assert_close(gradient[:2], torch.ones(2, 2))
    (radial,) = torch.autograd.grad((clipped[2] * torch.tensor([0.6, 0.8])).sum(), mu)
    torch.testing.assert_close(radial[2], torch.zeros(2), atol=1e-6, rtol=0)


def test_clipping_against_finite_differences():
    mu = torch.tensor([[0.1, -0.3], [3.0, 4.0], [-5.0, 1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: clip_norm(m, 2.0)[0], mu)


@pytest.mark.parametrize("posterior", BOTH)
@pytest.mark.parametrize(("factor", "latent"), [(3.0, 10), (6.0, 10), (3.0, 2)])
def test_the_radius_is_the_factor_times_the_root_of_the_latents(posterior, factor, latent):
    """SPEC 5.3 and 5.4: 9.487, 18.974, and 4.243 in two dimensions."""
    q = posterior(mlp.Encoder((4,), (8,)), latent, clip=factor)
    known = {(3.0, 10): 9.487, (6.0, 10): 18.974, (3.0, 2): 4.243}
    assert q.radius == pytest.approx(known[factor, latent], abs=5e-4)


@pytest.mark.parametrize("posterior", BOTH)
def test_no_code_lies_beyond_the_radius_and_the_raw_norm_is_kept(posterior):
    encoder = posterior(mlp.Encoder((4,), (8,)), 3, clip=0.1)
    x = 5 * torch.randn(50, 4)
    q = encoder(x)
    assert (q.loc.norm(dim=-1) <= encoder.radius * (1 + 1e-6)).all()
    raw = encoder.features(x)[:, :3]
    torch.testing.assert_close(q.norm, raw.norm(dim=-1))
    assert (q.norm > encoder.radius).any()


@pytest.mark.parametrize("posterior", BOTH)
def test_without_clipping_there_is_no_norm(posterior):
    assert posterior(mlp.Encoder((4,), (8,)), 3)(torch.randn(2, 4)).norm is None


def test_the_gaussian_posterior_splits_its_head_into_mean_and_log_variance():
    encoder = GaussianPosterior(mlp.Encoder((4,), hidden=()), 2)
    with torch.no_grad():
        encoder.head.weight.zero_()
        encoder.head.bias.copy_(torch.tensor([1.0, 2.0, 0.0, math.log(4.0)]))
    q = encoder(torch.randn(3, 4))
    torch.testing.assert_close(q.mean, torch.tensor([[1.0, 2.0]]).expand(3, 2))
    torch.testing.assert_close(q.variance, torch.tensor([[1.0, 4.0]]).expand(3, 2))


def test_noise_has_the_posteriors_width():
    gaussian, point = (kind(mlp.Encoder((4,), (8,)), 3) for kind in BOTH)
    assert gaussian.noise(Randomness(0)("noise"), 5, 7).shape == (5, 7, 3)
    assert point.noise(Randomness(0)("noise"), 5, 7).shape == (5, 7, 0)


def test_the_code_of_a_plain_autoencoder_is_squashed_where_asked_for():
    """SPEC 2.4: into (-1, 1) by tanh."""
    network = mlp.Encoder((4,), (8,))
    x = 100 * torch.randn(20, 4)
    plain, squashed = PointPosterior(network, 3), PointPosterior(network, 3, squash="tanh")
    squashed.load_state_dict(plain.state_dict())
    torch.testing.assert_close(squashed(x).loc, plain(x).loc.tanh())


@pytest.mark.parametrize("posterior", BOTH)
def test_densities_are_float32_under_autocast(posterior):
    encoder = posterior(mlp.Encoder((4,), (8,)), 3, clip=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = encoder(torch.randn(2, 4))
        assert encoder.head(encoder.network(torch.randn(2, 4))).dtype == torch.bfloat16
    assert {q.loc.dtype, q.norm.dtype} == {torch.float32}


@pytest.mark.parametrize("posterior", BOTH)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent": 0}, "a code needs at least 1 dimension, got 0"),
        ({"latent": 2, "clip": 0.0}, "the clipping factor must be positive, got 0.0"),
    ],
)
def test_bad_arguments(posterior, arguments, message):
    with pytest.raises(ValueError, match=message):
        posterior(mlp.Encoder((4,), (8,)), **arguments)


class Bare(nn.Module):
    """A network of the user's own that offers its width and no head."""

    def __init__(self, **attributes: object) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return x.flatten(1)


def test_a_network_with_features_gets_a_linear_head():
    q = GaussianPosterior(Bare(features=4), 3)(torch.randn(2, 2, 2))
    assert q.loc.shape == (2, 3)


def test_a_network_without_either_is_refused():
    with pytest.raises(InputError, match=r"the network Bare offers no last layer: give it an attribute `features`"):
        GaussianPosterior(Bare(), 3)


def test_the_prior_follows_the_module():
    prior = NormalPrior(3)
    assert prior(None).event_shape == (3,)
    assert not prior.state_dict()
    assert prior.to("meta")().device.type == "meta"

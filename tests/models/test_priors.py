"""p(z): VampPrior is the mixture that it stands for, learned priors learn, every prior of the table is drawn from."""

import math

import pytest
import torch
from oracles.configurations import classes, kinds, model_of
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from elboroom.config.models import Prior
from elboroom.distributions import Standard
from elboroom.models import MixturePrior, UniformPrior, VampPrior

SHAPE = (1, 8, 8)


def model_with(
    prior: str, posterior: str = "gaussian", values: str = "binary", latent: int = 3, **more: object
) -> torch.nn.Module:
    posterior = "uniform" if prior == "uniform" else posterior
    content = {"posterior": {"kind": posterior, "latent": latent}, "prior": {"kind": prior, **more}}
    return model_of(content, SHAPE, values)


@pytest.mark.parametrize("prior", kinds(Prior))
def test_every_prior_is_scored_and_drawn_from_in_one_way(prior):
    model = model_with(prior)
    p = model.prior(model.encoder)
    z = p.draw(50, torch.Generator().manual_seed(0))
    assert z.shape == (50, 3)
    assert p.log_prob(z).isfinite().all()
    torch.testing.assert_close(z, p.draw(50, torch.Generator().manual_seed(0)), rtol=0, atol=0)


@pytest.mark.parametrize("prior", kinds(Prior))
def test_every_prior_integrates_to_one(prior):
    """One dimension, in double, z = tan(u) so that tails of any weight are whole; 0.3 % for the uniform's edges."""
    model = model_with(prior, latent=1).double()
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000 * math.pi - math.pi / 2
    density = model.prior(model.encoder).log_prob(u.tan()[:, None]).exp()
    total = (density * (1 + u.tan().square())).sum() * math.pi / 20_000
    assert total.item() == pytest.approx(1, abs=3e-3 if prior == "uniform" else 1e-5)


def fixed_priors() -> dict[str, Standard]:
    """The distributions of the table's priors that have nothing to learn."""
    models = {kind: model_with(kind) for kind in kinds(Prior)}
    found = {kind: model.prior(model.encoder) for kind, model in models.items()}
    return {kind: p for kind, p in found.items() if isinstance(p, Standard)}


@pytest.mark.parametrize(("kind", "p"), fixed_priors().items(), ids=fixed_priors())
def test_draws_of_fixed_priors_follow_their_quantiles_and_their_variance(kind, p):
    """Each of 60,000 numbers lies below the quantile of q with probability q: within 5 errors sqrt(q (1 - q) / n).
    The variance within 5 standard errors of the sample's own fourth moment."""
    z = p.draw(20_000, torch.Generator().manual_seed(3)).double()
    q = torch.tensor([0.001, 0.1, 0.5, 0.9, 0.999], dtype=torch.float64)
    share = (z.flatten() < p.icdf(q)[:, None]).double().mean(1)
    assert ((share - q).abs() < 5 * (q * (1 - q) / z.numel()).sqrt()).all()
    error = (z.pow(4).mean() / z.numel()).sqrt()
    assert (z.square().mean() - p.variance[0]).abs() < 5 * error
    assert (z.mean() - p.mean[0]).abs() < 5 * (p.variance[0] / z.numel()).sqrt()


def test_vamp_equals_the_explicit_mixture_of_its_posteriors():
    """p(z) = mean_c q(z|u_c), against torch's mixture; also through the model's own pass."""
    model = model_with("vamp", components=5)
    q = model.encoder(model.prior.inputs)
    explicit = MixtureSameFamily(
        Categorical(torch.ones(5)), Independent(Normal(q.loc, (q.log_var / 2).exp()), 1, validate_args=False)
    )
    x, noise = torch.rand(4, *SHAPE), torch.randn(2, 4, 3)
    draw = model(x, noise)
    torch.testing.assert_close(draw.log_pz, explicit.log_prob(draw.z))
    assert draw.rate is None  # no closed form: the sample estimate serves


def test_vamp_of_a_laplace_posterior():
    model = model_with("vamp", posterior="laplace", components=5)
    q, z = model.encoder(model.prior.inputs), torch.randn(6, 3)
    one_by_one = torch.stack([q.at(torch.tensor([c])).log_prob(z[:, None])[:, 0] for c in range(5)])
    expected = one_by_one.logsumexp(0) - math.log(5)
    torch.testing.assert_close(model.prior(model.encoder).log_prob(z), expected)


@pytest.mark.parametrize(("values", "inside"), [("binary", True), ("unit-interval", True), ("real", False)])
def test_pseudo_inputs_look_like_data(values, inside):
    inputs = model_with("vamp", values=values).prior.inputs
    assert inputs.shape == (100, *SHAPE)
    assert bool(((inputs >= 0) & (inputs <= 1)).all()) == inside


def test_vamp_shares_the_encoder_and_owns_its_pseudo_inputs_alone():
    model = model_with("vamp", components=5)
    assert [name for name, _ in model.prior.named_parameters()] == ["pseudo"]
    model.prior(model.encoder).log_prob(torch.zeros(1, 3)).sum().backward()
    for parameter in (*model.prior.parameters(), *model.encoder.parameters()):
        assert parameter.grad.abs().sum() > 0


def test_a_mixture_of_equal_standard_normals_is_the_standard_normal():
    prior = MixturePrior(3, components=4)
    with torch.no_grad():
        prior.loc.zero_()
    z = torch.randn(7, 3)
    torch.testing.assert_close(prior().log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(-1))


def test_components_begin_apart():
    loc = MixturePrior(3, components=4).loc
    assert torch.pdist(loc).min() > 0.1


def test_a_mixture_fits_two_clusters():
    """Codes at -3 and 3 of spread 0.5, evenly: entropy log 2 + log(0.5 sqrt(2 pi e)) = 1.419 nats."""
    prior = MixturePrior(1, components=2)
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        sign = torch.randint(0, 2, (200, 1), generator=generator) * 2 - 1
        loss = -prior().log_prob(3 * sign + 0.5 * torch.randn(200, 1, generator=generator)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(1.419, abs=0.15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixturePrior(3, components=1), "at least 2 components, got 1"),
        (lambda: VampPrior(3, (4,), components=1), "at least 2 components, got 1"),
        (lambda: UniformPrior(3, half_width=0.0), "must be positive, got 0.0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_learned_priors_refuse_objectives_without_a_rate_and_fixed_ones_do_not():
    """A line of the table whose prior has parameters has something to learn."""
    for config in classes(Prior):
        name = config.__dataclass_fields__["kind"].default
        model = model_with(name)
        learned = any(True for _ in model.prior.parameters())
        refused = {kind for seam, kind in getattr(config, "refuses", {}) if seam == "objective"}
        assert ({"reconstruction", "mu"} <= refused) == learned

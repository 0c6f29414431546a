"""Wake-sleep and Monte Carlo EM: whose gradient is whose, what it is, and where it vanishes."""

import math

import pytest
import torch
from oracles.configurations import classes, small_run
from oracles.linear_gaussian import LinearGaussian, examples, linear_gaussian
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal

from elboroom import build
from elboroom.config import run_from
from elboroom.config.base import kind_of
from elboroom.config.models import Likelihood
from elboroom.config.objectives import MonteCarloEm, WakeSleep
from elboroom.errors import InputError
from elboroom.models import VAE, Chains
from elboroom.objectives import Objective, ask, monte_carlo_em, wake_sleep
from elboroom.records import Terms

SHAPE = (1, 8, 8)
SLEEPING = Objective(wake_sleep, needs=frozenset(WakeSleep.needs))
SAMPLING = Objective(monte_carlo_em, needs=frozenset(MonteCarloEm.needs))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bits(n: int) -> Tensor:
    return (torch.rand(n, *SHAPE, generator=seeded(9)) < 0.5).float()


def scored(model: VAE, x: Tensor, k: int = 1, seed: int = 0, objective: Objective = SLEEPING) -> Terms:
    noise = model.noise(seeded(seed), k, len(x))
    return objective(model(x, noise, ask(objective, model, seeded(seed + 1000), noise, len(x), x=x)))


def gradients(loss: Tensor, module: torch.nn.Module) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True))


@pytest.mark.parametrize("prior", ["normal", "mixture", "flow"])
def test_wake_and_sleep_have_parameters_of_their_own(prior):
    content = {"posterior": {"latent": 2}, "prior": {"kind": prior}, "decoder": {"hidden": [4]}}
    run = run_from({"data": {"name": "digits"}, "model": content, "objective": "wake-sleep"})
    model = build.model(run, SHAPE, "binary")
    terms = scored(model, bits(5), k=2)
    wake, sleep = terms.example["wake"].mean(), terms.example["sleep"].mean()
    assert gradients(wake, model.encoder) == [None] * len(list(model.encoder.parameters()))
    for learned in (model.decoder, model.prior) if prior != "normal" else (model.decoder,):
        assert gradients(sleep, learned) == [None] * len(list(learned.parameters()))
        assert any(g.abs().sum() > 0 for g in gradients(wake, learned))  # some of a flow's begin at a dead end
    assert all(g.abs().sum() > 0 for g in gradients(sleep, model.encoder))
    torch.testing.assert_close(terms.loss, wake + sleep)


def test_both_gradients_against_densities_of_torch():
    """Of the same codes and dreams: Bernoulli and Normal of torch.distributions, written again."""
    model, x = build.model(small_run(objective="wake-sleep"), SHAPE, "binary"), bits(5)
    terms = scored(model, x, k=3, seed=7)
    dream = model.dreams(seeded(1007), 5)
    assert set(dream.x.unique().tolist()) == {0.0, 1.0}
    mean, log_var = model.encoder.features(x).detach().chunk(2, dim=-1)
    z = mean + (log_var / 2).exp() * model.noise(seeded(7), 3, 5)
    (logits,) = model.decoder.outputs(z)
    joint = Bernoulli(logits=logits).log_prob(x).sum((-3, -2, -1)) + Normal(0, 1).log_prob(z).sum(-1)
    mean, log_var = model.encoder.features(dream.x).chunk(2, dim=-1)
    density = Normal(mean, (log_var / 2).exp()).log_prob(dream.z).sum(-1)
    for name, loss, module in (("wake", -joint.mean(), model.decoder), ("sleep", -density.mean(), model.encoder)):
        torch.testing.assert_close(terms.example[name].mean(), loss)
        for found, expected in zip(gradients(terms.example[name].mean(), module), gradients(loss, module), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def mean_gradients(oracle: LinearGaussian, name: str, module: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Over 40 batches of 500 examples x ~ p(x): the mean of each number of the gradient, and its standard error."""
    x = examples(oracle, 20_000)
    found = []
    for number, part in enumerate(x.split(500)):
        terms = scored(oracle.model, part, seed=number)
        found.append(torch.cat([g.flatten() for g in gradients(terms.example[name].mean(), module)]))
    each = torch.stack(found)
    return each.mean(0), each.std(0) / math.sqrt(len(each))


@pytest.mark.parametrize("name", ["wake", "sleep"])
def test_expected_gradients_vanish_at_the_optimum(name):
    """Where p is the density of the data and q(z|x) = p(z|x), both are expectations of a score: 0, within 5 errors."""
    oracle = linear_gaussian()
    module = {"wake": oracle.model.decoder, "sleep": oracle.model.encoder}[name]
    mean, error = mean_gradients(oracle, name, module)
    assert (mean.abs() < 5 * error).all()


@pytest.mark.parametrize("name", ["wake", "sleep"])
def test_and_nowhere_else(name):
    """Codes off by half a unit: the encoder is to move back, and the decoder would follow it."""
    oracle = linear_gaussian(shift=0.5)
    module = {"wake": oracle.model.decoder, "sleep": oracle.model.encoder}[name]
    mean, error = mean_gradients(oracle, name, module)
    assert (mean.abs() > 10 * error).any()


def test_wake_sleep_learns_an_encoder_and_a_decoder():
    """8 distinct images of 64 random bits (44.4 nats): 600 steps; the bound stays above log 8 = 2.08 nats."""
    model, x = build.model(small_run(objective="wake-sleep", latent=4, seed=1), SHAPE, "binary"), bits(8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(600):
        scored(model, x, k=4, seed=step).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        bound = scored(model, x, k=50).bound.mean()
    assert math.log(8) < -bound < 20


@pytest.mark.parametrize(
    ("likelihood", "values"), [(kind_of(c), c.takes[0]) for c in classes(Likelihood) if kind_of(c) != "grey-bce"]
)
def test_dreams_follow_from_their_generator_alone(likelihood, values):
    model = build.model(small_run(likelihood=likelihood), SHAPE, values).eval()
    state = torch.get_rng_state()
    one, again, other = (model.dreams(seeded(s), 4) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.x, again.x)
    assert not torch.equal(one.x, other.x)
    assert one.x.shape == (4, *SHAPE)
    if values == "binary":
        assert set(one.x.unique().tolist()) == {0.0, 1.0}
    with torch.no_grad():
        assert model.decoder(one.z).log_prob(one.x).isfinite().all()


def test_without_what_it_asks_for_it_says_how():
    model = build.model(small_run(), SHAPE, "binary")
    draw = model(bits(2), model.noise(seeded(), 1, 2))
    for objective, name in ((wake_sleep, "z_detached"), (monte_carlo_em, "sampled")):
        with pytest.raises(InputError, match=f"needs Draw.{name}, which was not asked for"):
            objective(draw)
    noise = model.noise(seeded(), 1, 2)
    with pytest.raises(InputError, match="give the examples"):
        ask(SAMPLING, model, seeded(), noise, 2)
    with pytest.raises(InputError, match="has no chains"):
        ask(SAMPLING, model, seeded(), noise, 2, x=bits(2))


# Monte Carlo EM


def with_chains(oracle: LinearGaussian, **settings: object) -> VAE:
    oracle.model.chains = Chains(**settings)
    return oracle.model


def test_the_gradient_is_that_of_the_evidence():
    """Fisher's identity: at 4,000 codes of each of 5 examples, against the gradient of log N(x; b, W W^T + s I) by W
    and b, within 5 standard errors over 40 groups of chains."""
    oracle = linear_gaussian()
    x, model = examples(oracle, 5), with_chains(oracle, leapfrog=5, burn_in=40)
    model.chains.log_step.fill_(math.log(0.25))
    noise = model.noise(seeded(), 4000, 5)
    draw = model(x, noise, ask(SAMPLING, model, seeded(3), noise, 5, x=x))
    assert 0.8 < draw.sampled.acceptance.mean() < 0.999
    losses = -(draw.log_px + draw.log_pz).mean(1)
    torch.testing.assert_close(monte_carlo_em(draw).loss, losses.mean())
    head = list(model.decoder.head.parameters())
    groups = [torch.cat([g.flatten() for g in torch.autograd.grad(part.mean(), head, retain_graph=True)]) for part in
              losses.split(100)]  # fmt: skip
    each = torch.stack(groups)
    weight, bias = oracle.weight.clone().requires_grad_(), oracle.bias.clone().requires_grad_()
    covariance = weight @ weight.T + oracle.variance * torch.eye(len(bias), dtype=torch.float64)
    evidence = MultivariateNormal(bias, covariance).log_prob(x.double()).mean()
    expected = torch.cat([-g.flatten() for g in torch.autograd.grad(evidence, [weight, bias])])
    error = each.std(0) / math.sqrt(len(each))
    assert ((each.mean(0) - expected).abs() < 5 * error).all()


def test_chains_come_to_the_posterior_and_their_step_to_the_acceptance():
    """30 examples of 100 chains that are visited 100 times: means and variances within 5 standard errors of p(z|x)."""
    oracle = linear_gaussian()
    x, model = examples(oracle, 30), with_chains(oracle, leapfrog=5, acceptance=0.8)
    model.chains.remember(100, 30, 3)
    rates = [model.posterior_samples(x, seeded(n), 100, torch.arange(30)).acceptance.mean() for n in range(100)]
    assert torch.stack(rates[50:]).mean() == pytest.approx(0.8, abs=0.03)
    z = model.chains.places.double()
    with torch.no_grad():
        exact = model.encoder(x)
    scaled = (z - exact.loc) / (exact.log_var / 2).exp()
    assert scaled.mean((0, 1)).abs().max() < 5 / math.sqrt(3000)
    assert (scaled.square().mean((0, 1)) - 1).abs().max() < 5 * math.sqrt(2 / 3000)


def test_chains_stay_where_they_are_but_those_of_the_batch():
    oracle = linear_gaussian()
    x, model = examples(oracle, 4), with_chains(oracle)
    model.chains.remember(2, 10, 3)
    rows = torch.tensor([7, 0, 3, 4])
    first = model.posterior_samples(x, seeded(), 2, rows)
    seen = ~model.chains.places.isnan().any(0).any(-1)
    assert seen.nonzero().flatten().tolist() == [0, 3, 4, 7]
    assert torch.equal(model.chains.places[:, rows], first.z)
    before = {name: value.clone() for name, value in model.chains.state().items()}
    fresh = model.posterior_samples(x, seeded(1), 2)  # of examples that are not trained on
    assert not torch.equal(fresh.z, first.z)
    for name, value in model.chains.state().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    model.chains.log_step.fill_(-20)  # chains that hardly move go on from where they were
    again = model.posterior_samples(x, seeded(2), 2, rows)
    torch.testing.assert_close(again.z, first.z, rtol=0, atol=1e-5)


def test_monte_carlo_em_learns_without_an_encoder():
    """8 images of 64 random bits (44.4 nats), 300 steps of one transition: the encoder stays, the decoder learns."""
    model, x = build.model(small_run(latent=4, seed=1), SHAPE, "binary"), bits(8)
    model.chains = Chains(leapfrog=5)
    model.chains.remember(4, 8, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    noise, before = model.noise(seeded(), 4, 8), [p.clone() for p in model.encoder.parameters()]
    for step in range(300):
        asked = ask(SAMPLING, model, seeded(step), noise, 8, x=x, rows=torch.arange(8))
        terms = SAMPLING(model(x, noise, asked))
        terms.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert terms.example["distortion"].mean() < 5
    assert all(map(torch.equal, before, model.encoder.parameters()))


@pytest.mark.parametrize("settings", [{"acceptance": 1.0}, {"acceptance": 0.0}, {"leapfrog": 0}, {"burn_in": 0}])
def test_chains_refuse_what_cannot_be(settings):
    with pytest.raises(ValueError, match=r"acceptance lies between|at least one"):
        Chains(**settings)

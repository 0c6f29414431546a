"""Objectives against explicit loops, finite differences and the laws that every one of them obeys."""

import dataclasses
import math

import pytest
import torch
from oracles.configurations import classes, kinds, small_run
from torch import Tensor
from torch.func import functional_call

from elboroom import build
from elboroom.config import run_from
from elboroom.config.base import kind_of
from elboroom.config.files import to_dict
from elboroom.config.models import Likelihood, Posterior
from elboroom.config.objectives import Capacity, Elbo, Objective
from elboroom.config.run import Run, refusals
from elboroom.distributions import DiagonalNormal, StandardNormal, rate_by_dimension
from elboroom.errors import InputError
from elboroom.objectives import (
    ask,
    dip,
    elbo,
    free_bits,
    importance_weighted,
    mmd,
    mu,
    mutual_divergence,
    reconstruction,
    total_correlation,
)
from elboroom.records import Base, Draw, Sampled

OBJECTIVES = classes(Objective)
SHAPE = (1, 8, 8)


def draw_of(loc: Tensor, log_var: Tensor, noise: Tensor, log_px: Tensor) -> Draw:
    """A draw from a diagonal Gaussian posterior, with the log p(x|z) given."""
    q, p = DiagonalNormal(loc, log_var), StandardNormal(loc.shape[-1])
    z, log_qz = q.rsample_with_log_prob(noise)
    return Draw(
        z,
        log_px,
        p.log_prob(z),
        log_qz,
        Base("gaussian", loc, log_var),
        rate_by_dimension(q, p),
        log_qz_detached=q.detached().log_prob(z),
        prior_z=torch.linspace(-1, 1, z.numel(), dtype=z.dtype).reshape(-1, z.shape[-1]),
        train_size=100,
        z_detached=z.detach(),
        dream=loc.sum(1) - log_var.square().sum(1),
        sampled=Sampled(z.detach(), torch.full_like(loc[:, 0], 0.9).detach()),
    )


def part(draw: Draw, index: list[int]) -> Draw:
    """Some of the examples of a draw."""
    return Draw(
        *(t[:, index] for t in (draw.z, draw.log_px, draw.log_pz, draw.log_qz)),
        Base("gaussian", draw.base.loc[index], draw.base.log_var[index]),
        draw.rate[index],
        draw.log_qz_detached[:, index],
        draw.prior_z,
        draw.step,
        draw.train_size,
        draw.z_detached[:, index],
        draw.dream[index],
        Sampled(draw.sampled.z[:, index], draw.sampled.acceptance[index]),
    )


@pytest.fixture
def draw() -> Draw:
    """Four examples of three latents, five samples of each, float64, gradients to all."""
    loc, log_var = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    noise = torch.randn(5, 4, 3, dtype=torch.float64)
    return draw_of(loc, log_var, noise, -torch.rand(5, 4, dtype=torch.float64, requires_grad=True) * 100)


def rate_by_loop(loc: list, log_var: list) -> list[float]:
    """0.5 sum_k (mu^2 + sigma^2 - log sigma^2 - 1) of each example, in plain Python (SPEC 1.3)."""
    return [
        0.5 * sum(m * m + math.exp(v) - v - 1 for m, v in zip(ms, vs, strict=True))
        for ms, vs in zip(loc, log_var, strict=True)
    ]


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_elbo_against_a_loop(draw, beta):
    distortions = [-sum(column) / 5 for column in zip(*draw.log_px.tolist(), strict=True)]
    rates = rate_by_loop(draw.base.loc.tolist(), draw.base.log_var.tolist())
    terms = elbo(draw, beta=beta)
    loss = sum(d + beta * r for d, r in zip(distortions, rates, strict=True)) / 4
    assert terms.loss.item() == pytest.approx(loss, rel=1e-12)
    assert terms.bound.tolist() == pytest.approx([-d - r for d, r in zip(distortions, rates, strict=True)], rel=1e-12)


def test_beta_weighs_the_rate_and_nothing_else(draw):
    weighed = {beta: elbo(draw, beta=beta) for beta in (0.0, 1.0, 4.0)}
    step = weighed[1.0].loss - weighed[0.0].loss
    torch.testing.assert_close(step, weighed[1.0].example["rate"].mean())
    torch.testing.assert_close(weighed[4.0].loss - weighed[0.0].loss, 4 * step)
    for name in ("distortion", "rate"):
        torch.testing.assert_close(weighed[4.0].example[name], weighed[1.0].example[name])


def test_without_a_closed_form_the_rate_is_the_sample_estimate(draw):
    sampled = Draw(draw.z, draw.log_px, draw.log_pz, draw.log_qz, draw.base)
    torch.testing.assert_close(elbo(sampled).example["rate"], (draw.log_qz - draw.log_pz).mean(0))
    torch.testing.assert_close(elbo(sampled).bound, (draw.log_px + draw.log_pz - draw.log_qz).mean(0))


def test_mu_against_a_loop(draw):
    r"""1/B [sum_i D_i + |sum_i sum_d mu_id| + sum_i sum_d |log sigma^2_id|], reading A6 of SPEC 5.5."""
    total, grand, bars = 0.0, 0.0, 0.0
    loc, log_var, log_px = (t.tolist() for t in (draw.base.loc, draw.base.log_var, draw.log_px))
    for i in range(4):
        total += -sum(log_px[k][i] for k in range(5)) / 5
        for d in range(3):
            grand += loc[i][d]
            bars += abs(log_var[i][d])
    terms = mu(draw)
    assert terms.loss.item() == pytest.approx((total + abs(grand) + bars) / 4, rel=1e-12)
    assert terms.batch["mean-bar"].item() == pytest.approx(abs(grand) / 4, rel=1e-12)
    assert terms.batch["variance-bar"].item() == pytest.approx(bars / 4, rel=1e-12)
    assert terms.example["rate"].tolist() == pytest.approx(rate_by_loop(loc, log_var), rel=1e-12)  # the ordinary KL


def test_mu_lets_means_of_opposite_sign_cancel():
    """The bars stand around the whole sum, not around each mean (A12 kills the information)."""
    loc = torch.tensor([[5.0, -2.0], [-4.0, 1.0]])
    terms = mu(draw_of(loc, torch.zeros(2, 2), torch.zeros(1, 2, 2), torch.zeros(1, 2)))
    assert (terms.batch["mean-bar"], terms.batch["variance-bar"]) == (0.0, 0.0)


def test_reconstruction_reports_the_rate_without_its_gradient(draw):
    terms = reconstruction(draw)
    torch.testing.assert_close(terms.example["rate"], elbo(draw).example["rate"])
    torch.testing.assert_close(terms.loss, -draw.log_px.mean())
    assert not terms.example["rate"].requires_grad
    gradients = torch.autograd.grad(terms.loss, [draw.base.loc, draw.base.log_var], allow_unused=True)
    assert gradients == (None, None)


def test_the_rate_of_mu_has_no_gradient(draw):
    """Its gradient is that of the two bars alone: sign / B."""
    loc, log_var = draw.base.loc, draw.base.log_var
    of_loc, of_log_var = torch.autograd.grad(mu(draw).loss, [loc, log_var])
    torch.testing.assert_close(of_loc, (loc.sum().sign() / 4).expand(4, 3))
    torch.testing.assert_close(of_log_var, log_var.sign() / 4)


def point_draw() -> Draw:
    loc = torch.randn(4, 3)
    return Draw(loc[None], -torch.rand(1, 4), None, None, Base("point", loc, None))


def test_a_point_posterior_has_a_distortion_only():
    draw = point_draw()
    terms = reconstruction(draw)
    assert list(terms.example) == ["distortion"]
    torch.testing.assert_close(terms.loss, -draw.log_px.mean())


@pytest.mark.parametrize(
    ("objective", "message"),
    [(elbo, "a point posterior has no rate; use the objective 'reconstruction'"), (mu, "needs a posterior with a var")],
)
def test_a_point_posterior_is_refused_by_hand_too(objective, message):
    with pytest.raises(ValueError, match=message):
        objective(point_draw())


MISSPELT = {
    "mu, mean": lambda draw: mu(draw, mean="totl"),
    "mu, variance": lambda draw: mu(draw, variance="absolute"),
    "mutual-divergence": lambda draw: mutual_divergence(draw, pair_softplus="before_mean"),
    "free-bits": lambda draw: free_bits(draw, per="Total"),
    "mmd": lambda draw: mmd(draw, kernel="IMQ"),
    "total-correlation": lambda draw: total_correlation(draw, sampling="Weighted"),
    "importance-weighted": lambda draw: importance_weighted(draw, gradient="doubly_reparameterized"),
}


@pytest.mark.parametrize("call", MISSPELT.values(), ids=MISSPELT)
def test_a_misspelt_choice_is_refused_by_hand_too(call, draw):
    """It would else be another objective, without a word."""
    with pytest.raises(InputError, match=r"^unknown \w+ '\w+'; known: "):
        call(draw)


@pytest.mark.parametrize("objective", [elbo, dip])
def test_codes_of_chains_have_no_rate_by_hand_either(objective):
    z = torch.zeros(1, 4, 3)
    draw = Draw(z, -torch.rand(1, 4), torch.zeros(1, 4), None, sampled=Sampled(z, torch.ones(4)))
    with pytest.raises(ValueError, match="codes that chains have brought have no rate"):
        objective(draw)


# Laws over the table


@pytest.mark.parametrize("config", [c for c in OBJECTIVES if getattr(c, "trains_encoder", True)], ids=kind_of)
def test_every_objective_names_distortion_rate_and_bound(config, draw):
    terms = build.named(config.builds)(draw)
    assert terms.example["distortion"].shape == terms.example["rate"].shape == terms.bound.shape == (4,)
    if terms.own_bound is None:
        torch.testing.assert_close(terms.bound, -(terms.example["distortion"] + terms.example["rate"]))
    torch.testing.assert_close(terms.example["distortion"], -draw.log_px.mean(0))


@pytest.mark.parametrize("config", [c for c in OBJECTIVES if c().is_bound], ids=kind_of)
def test_the_loss_of_every_bound_is_never_below_minus_its_bound(config, draw):
    """Where it does not act on the batch, it is just that."""
    terms = build.objective(small_run(objective=kind_of(config)))(draw)
    assert terms.loss >= -terms.bound.mean() - 1e-9
    if not config.acts_on_batch:
        torch.testing.assert_close(terms.loss, -terms.bound.mean())


@pytest.mark.parametrize("config", OBJECTIVES, ids=kind_of)
def test_who_acts_on_the_batch_says_so(config, draw):
    """Batch terms, or none: then the loss of a batch is the mean of the losses of its halves."""
    objective = build.named(config.builds)
    assert bool(objective(draw).batch) == config.acts_on_batch
    halves = [objective(part(draw, index)).loss for index in ([0, 1], [2, 3])]
    if not config.acts_on_batch:
        torch.testing.assert_close(sum(halves) / 2, objective(draw).loss)


@pytest.mark.parametrize("config", OBJECTIVES, ids=kind_of)
def test_no_objective_depends_on_the_order_of_the_batch(config, draw):
    order = [2, 0, 3, 1]
    objective = build.named(config.builds)
    permuted = part(draw, order)
    torch.testing.assert_close(objective(permuted).loss, objective(draw).loss)
    if getattr(config, "trains_encoder", True):
        torch.testing.assert_close(objective(permuted).bound, objective(draw).bound[order])


@pytest.mark.parametrize("config", OBJECTIVES, ids=kind_of)
def test_gradients_of_every_objective_against_finite_differences(config):
    """In float64, with respect to mean, log-variance and log p(x|z)."""
    loc, log_var = (torch.randn(3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    log_px = -torch.rand(2, 3, dtype=torch.float64).requires_grad_()
    noise = torch.randn(2, 3, 2, dtype=torch.float64)
    objective = build.named(config.builds)
    assert torch.autograd.gradcheck(
        lambda *given: objective(draw_of(*given[:2], noise, given[2])).loss, (loc, log_var, log_px)
    )


def allowed(objective: str, posterior: str, likelihood: str = "bernoulli") -> bool:
    try:
        small_run(objective=objective, posterior=posterior, likelihood=likelihood)
    except InputError:
        return False
    return True


PAIRS = [(o, p) for o in kinds(Objective) for p in kinds(Posterior) if allowed(o, p)]
TRIPLES = [
    (o, p, like)
    for o, p in PAIRS
    for like in kinds(Likelihood)
    if allowed(o, p, like) and (p != "iaf" or like == "bernoulli")  # its many weights take seconds for each likelihood
]


HELD = ("wake-sleep",)  # z is held fixed and moves with the encoder all the same: see test_sampled.py


@pytest.mark.parametrize(("objective", "posterior", "likelihood"), [t for t in TRIPLES if t[0] not in HELD])
def test_gradients_of_the_whole_pass_against_finite_differences(objective, posterior, likelihood):
    """From the weights of a small model through posterior, likelihood and objective to the loss, in float64.

    Weight by weight for every objective with every posterior, and for every likelihood; their other combinations,
    and the many weights of `iaf`, along random directions.
    """
    by_weight = (objective, posterior) == ("elbo", "gaussian") or (likelihood == "bernoulli" and posterior != "iaf")
    run = small_run(objective=objective, posterior=posterior, likelihood=likelihood)
    model = build.model(run, (2,), "binary").double()
    x, noise = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).double(), model.noise(torch.Generator().manual_seed(0), 2, 2)
    objective = build.objective(run)
    asked = ask(objective, model, torch.Generator(), noise, 100, x=x)
    if asked.prior_z is not None:
        asked = dataclasses.replace(asked, prior_z=asked.prior_z.double())
    names = [name for name, _ in model.named_parameters() if "head" in name and _learns(run, name)]
    values = tuple(dict(model.named_parameters())[name].detach().requires_grad_() for name in names)

    def loss(*given: Tensor) -> Tensor:
        out = functional_call(model, dict(zip(names, given, strict=True)), (x, noise, asked))
        return objective(out).loss

    assert torch.autograd.gradcheck(loss, values, fast_mode=not by_weight)


def _learns(run: Run, name: str) -> bool:
    return run.trains_encoder or not name.startswith("encoder.")


APART = ("wake-sleep", "monte-carlo-em")  # sums of other things, in test_sampled.py
QUICK = [(o, p) for o, p in PAIRS if p != "iaf" or o in ("elbo", "importance-weighted", "free-bits")]
FITTED = [(o, p) for o, p in QUICK if o not in APART]


@pytest.mark.parametrize(("objective", "posterior"), FITTED)
def test_one_batch_can_be_overfitted(objective, posterior):
    """8 distinct images of 64 random bits (44.4 nats at first).

    No density gives 8 images more than all its mass, so the mean of -log p(x) is log 8 = 2.08 nats or more, and a bound
    stays above it (by 2.9 nats here, since Gaussians cannot share out the prior); what is no bound comes near 0.
    With the variances that μ-VAE wants, two images can stay in one place where the density is not smooth: intervals
    push one another only where they overlap.
    """
    run = small_run(objective=objective, posterior=posterior, latent=4, seed=1)
    if objective == "capacity":  # 25 nats, the default, are more than 8 images have
        run = dataclasses.replace(run, objective=Capacity(nats=10.0, weight=1.0))
    model, score = build.model(run, SHAPE, "binary"), build.objective(run)
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(8, *SHAPE, generator=generator) < 0.5).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(400):
        noise = model.noise(generator, 4, 8)
        terms = score(model(x, noise, ask(score, model, generator, noise, 8)))
        terms.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        noise = model.noise(generator, 50, 8)
        terms = score(model(x, noise, ask(score, model, generator, noise, 8)))
    stuck = objective == "mu" and posterior in ("laplace", "uniform")
    if terms.own_bound is None:  # importance weighting lets a posterior be broad, and codes far out decode badly
        assert terms.example["distortion"].mean() < (6.0 if stuck else 4.0 if terms.batch else 1.5)  # of 44.4
    if run.objective.is_bound:
        assert -terms.bound.mean() < (8.0 if terms.batch else 7.0)
    if not terms.batch:
        assert 0 <= terms.loss < (7.0 if run.objective.is_bound else 1.5)
    if "rate" in terms.example:
        assert -terms.bound.mean() > math.log(8)  # whatever was trained, its bound is one


def test_which_weights_of_the_rate_are_bounds():
    assert [Elbo(beta=b).is_bound for b in (0.5, 1.0, 4.0)] == [False, True, True]
    assert {kind_of(c): c().is_bound for c in OBJECTIVES}.items() >= {("mu", False), ("reconstruction", False)}


@pytest.mark.parametrize(
    ("objective", "prior", "bounds"),
    [("elbo", "normal", False), ("elbo", "mixture", True), ("importance-weighted", "normal", True)],
)
def test_a_rate_that_is_no_divergence_trains_no_bound(objective, prior, bounds):
    """`legacy_logsigma` has a closed form with a normal prior only, and importance weights are densities."""
    content = to_dict(small_run(objective=objective))
    content["model"]["posterior"]["legacy_logsigma"] = True
    content["model"]["prior"] = {"kind": prior}
    assert run_from(content).trains_bound is bounds


def test_the_table_of_refusals_is_empty_for_what_goes_together():
    for objective, posterior in PAIRS:
        assert refusals(small_run(objective=objective, posterior=posterior)) == []


def test_the_weight_of_the_distortion(draw):
    """w D + beta R is w times D + (beta / w) R, whose weight of the rate is what the page says; the bound stays."""
    weighed, plain = elbo(draw, beta=5.0, reconstruction_weight=16.0), elbo(draw, beta=5.0 / 16)
    torch.testing.assert_close(weighed.loss, 16 * plain.loss)
    torch.testing.assert_close(weighed.bound, plain.bound)
    part = Elbo(beta=5.0, reconstruction_weight=16.0)
    assert part.effective_beta == 5 / 16
    assert not part.is_bound
    assert not Elbo(beta=16.0, reconstruction_weight=2.0).is_bound

"""Every posterior beside every prior and likelihood: it trains three steps, or it is refused with its reason."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from oracles.configurations import SMALL, classes, kinds

from elboroom import build
from elboroom.config import Run, run_from
from elboroom.config.base import kind_of
from elboroom.config.models import Likelihood, Posterior, Prior
from elboroom.errors import InputError

SHAPE = (1, 8, 8)
OUTSIDE = "it reaches beyond the prior's support, so its rate is infinite"
REFUSED = {  # (posterior, prior), as the table has it, written again
    ("gaussian", "uniform"): OUTSIDE,
    ("laplace", "uniform"): OUTSIDE,
    ("iaf", "uniform"): OUTSIDE,
    ("iaf", "vamp"): "a mixture of these posteriors has no density in one pass",
    ("point", "vamp"): "a point posterior has no density to mix",
    ("uniform", "vamp"): "a mixture of intervals does not cover the posterior of an image",
    ("point", "mixture"): "prior 'mixture' does not go with objective 'reconstruction': it has no rate",
    ("point", "flow"): "prior 'flow' does not go with objective 'reconstruction': it has no rate",
}
PAIRS = list(itertools.product(kinds(Posterior), kinds(Prior)))


def values_of(likelihood: str) -> str:
    """The first kind of values that a likelihood takes."""
    return next(c.takes[0] for c in classes(Likelihood) if kind_of(c) == likelihood)


def run_of(
    posterior: str, prior: str, likelihood: str = "bernoulli", encoder: str = "mlp", decoder: str = "mlp"
) -> Run:
    model = {
        "encoder": {"kind": encoder, **SMALL[encoder]},
        "posterior": {"kind": posterior, "latent": 3, **SMALL.get(posterior, {})},
        "prior": {"kind": prior, **SMALL.get(prior, {})},
        "decoder": {"kind": decoder, **SMALL[decoder]},
        "likelihood": likelihood,
    }
    objective = "reconstruction" if posterior == "point" else "elbo"
    return run_from({"data": {"name": "digits"}, "model": model, "objective": objective})


def grey(values: str) -> torch.Tensor:
    x = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    return {"binary": x.round(), "unit-interval": (255 * x).round() / 255, "real": 4 * x - 2}[values]


def three_steps(run: Run, values: str) -> torch.nn.Module:
    model, objective, generator = (
        build.model(run, SHAPE, values),
        build.objective(run),
        torch.Generator().manual_seed(0),
    )
    optimizer, x = build.optimizer(run, model), grey(values)
    for _ in range(3):
        loss = objective(model(x, model.noise(generator, 2, 6))).loss
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return model


@pytest.mark.parametrize(("posterior", "prior"), PAIRS)
@pytest.mark.parametrize("likelihood", kinds(Likelihood))
def test_trains_or_is_refused(posterior, prior, likelihood):
    if (posterior, prior) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[posterior, prior]):
            run_of(posterior, prior, likelihood)
        return
    values = values_of(likelihood)
    model = three_steps(run_of(posterior, prior, likelihood), values).eval()
    with torch.no_grad():
        draw = model(grey(values), model.noise(torch.Generator().manual_seed(1), 2, 6))
    assert draw.log_px.isfinite().all()
    if posterior != "point":
        assert draw.log_pz.isfinite().all()
        assert draw.log_qz.isfinite().all()


@pytest.mark.parametrize(
    ("encoder", "decoder"), [("conv", "mlp"), ("mlp", "conv"), ("conv", "conv"), ("resnet", "resnet")]
)
@pytest.mark.parametrize("prior", ["vamp", "mixture", "flow"])
@pytest.mark.parametrize("likelihood", ["gaussian-pixel", "discretized-logistic", "gaussian-optimal"])
def test_with_convolutional_networks(encoder, decoder, prior, likelihood):
    three_steps(run_of("gaussian", prior, likelihood, encoder, decoder), "unit-interval")


@pytest.mark.parametrize("posterior", kinds(Posterior))
@pytest.mark.parametrize("prior", ["normal", "vamp", "flow"])
def test_pixels_in_order(posterior, prior):
    if (posterior, prior) not in REFUSED:
        three_steps(run_of(posterior, prior, "bernoulli", "resnet", "pixelcnn"), "binary")


@pytest.mark.parametrize("likelihood", [kind for kind in kinds(Likelihood) if kind != "bernoulli"])
def test_pixels_in_order_are_refused_where_they_are_not_binary(likelihood):
    with pytest.raises(InputError, match=f"decoder 'pixelcnn' does not go with likelihood '{likelihood}': .*binary"):
        run_of("gaussian", "normal", likelihood, decoder="pixelcnn")


def test_every_refusal_between_posterior_and_prior_is_tested():
    found = {
        (kind, kind_of(part))
        for part in classes(Prior)
        for seam, kind in getattr(part, "refuses", {})
        if seam == "posterior"
    } | {
        (kind_of(part), kind)
        for part in classes(Posterior)
        for seam, kind in getattr(part, "refuses", {})
        if seam == "prior"
    }
    assert found == {pair for pair in REFUSED if pair not in [("point", "mixture"), ("point", "flow")]}


@pytest.mark.parametrize("prior", ["mixture", "vamp", "flow"])
@pytest.mark.parametrize("objective", ["reconstruction", "mu"])
def test_learned_priors_are_refused_where_nothing_trains_them(prior, objective):
    with pytest.raises(InputError, match=f"prior '{prior}' does not go with objective '{objective}': it has no rate"):
        run_from({"data": {"name": "digits"}, "model": {"prior": prior}, "objective": objective})


@pytest.mark.parametrize("likelihood", kinds(Likelihood))
def test_every_density_of_the_table_can_overfit_one_batch(likelihood):
    """6 images, 300 steps on the distortion alone: it falls by a nat a pixel, or to a fifth."""
    run = dataclasses.replace(run_of("gaussian", "normal", likelihood), objective={"kind": "reconstruction"})
    values = values_of(likelihood)
    model, objective, generator = (
        build.model(run, SHAPE, values),
        build.objective(run),
        torch.Generator().manual_seed(0),
    )
    optimizer, x = torch.optim.Adam(model.parameters(), lr=0.01), grey(values)
    losses = []
    for _ in range(300):
        terms = objective(model(x, model.noise(generator, 2, 6)))
        terms.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(terms.example["distortion"].mean().item())
    floor = {"grey-bce": 32.0, "gaussian": 0.5 * 64 * 1.8379}.get(likelihood, 0.0)  # what no fit can take away
    assert losses[-1] - floor < max((losses[0] - floor) / 5, losses[0] - floor - 64) + 0.5


@pytest.mark.parametrize(
    ("likelihood", "values"), [("continuous-bernoulli", "binary"), ("discretized-logistic", "real")]
)
def test_likelihoods_of_grey_values_refuse_others(likelihood, values, tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 8)) if values == "real" else np.eye(20)[:, :8]
    np.save(tmp_path / "x.npy", x.astype("float32"))
    run = run_from({"data": {"path": str(tmp_path / "x.npy")}, "model": {"likelihood": likelihood}})
    with pytest.raises(InputError, match=f"likelihood '{likelihood}' takes .*(bernoulli|gaussian)"):
        build.data(run)

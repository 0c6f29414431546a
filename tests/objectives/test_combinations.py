"""Every part beside every other: it trains three steps, or it is refused with its reason."""

import itertools

import pytest
import torch
from oracles.configurations import classes, kinds, small_run

from elboroom import build
from elboroom.config.base import kind_of
from elboroom.config.models import Decoder, Encoder, Likelihood, Posterior
from elboroom.config.objectives import Objective
from elboroom.config.run import Run
from elboroom.errors import InputError
from elboroom.objectives import ask

SHAPE = (1, 8, 8)
PARTS = (Encoder, Posterior, Decoder, Likelihood, Objective)
DENSE = itertools.product(["mlp"], kinds(Posterior), ["mlp"], kinds(Likelihood), kinds(Objective))
OTHERS = itertools.product(kinds(Encoder), kinds(Posterior), kinds(Decoder), ["bernoulli"], ["elbo", "reconstruction"])
EVERY = sorted({*DENSE, *OTHERS})  # every pair of parts, and every triple of those that share no network
REFUSED = {  # what the table of refusals says, written again
    ("point", "elbo"): "posterior 'point' does not go with objective 'elbo': .* no density, .* 'reconstruction'",
    ("point", "mu"): "posterior 'point' does not go with objective 'mu': .* no variance .* 'reconstruction'",
    ("gaussian-optimal", "importance-weighted"): "'gaussian-optimal' does not go with .* best for the ELBO",
    ("importance-weighted", "point"): "'importance-weighted' does not go with posterior 'point': .* no density",
    ("mutual-divergence", "point"): "'mutual-divergence' does not go with posterior 'point': .* no density",
    ("free-bits", "point"): "'free-bits' does not go with posterior 'point': .* no density",
    ("capacity", "point"): "'capacity' does not go with posterior 'point': .* no density",
    ("info-vae", "point"): "'info-vae' does not go with posterior 'point': .* choose 'mmd'",
    ("total-correlation", "point"): "'total-correlation' does not go with posterior 'point': .* no density",
    ("mutual-divergence", "uniform"): "'mutual-divergence' does not go with posterior 'uniform': .* infinite",
    ("mutual-divergence", "laplace"): "'mutual-divergence' does not go with posterior 'laplace': .* Gaussians",
    ("total-correlation", "uniform"): "'total-correlation' does not go with posterior 'uniform': .* Gaussian",
    ("total-correlation", "laplace"): "'total-correlation' does not go with posterior 'laplace': .* Gaussian",
}


def three_steps(run: Run) -> tuple[torch.nn.Module, list[float]]:
    model, objective = build.model(run, SHAPE, "binary"), build.objective(run)
    optimizer = build.optimizer(run, model)
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(6, *SHAPE, generator=generator) < 0.5).float()
    losses = []
    for _ in range(3):
        noise = model.noise(generator, run.objective.samples, 6)
        loss = objective(model(x, noise, ask(objective, model, generator, noise, 6, step=5000))).loss
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize(("encoder", "posterior", "decoder", "likelihood", "objective"), EVERY)
def test_trains_or_is_refused(encoder, posterior, decoder, likelihood, objective):
    chosen = {"encoder": encoder, "posterior": posterior, "decoder": decoder, "likelihood": likelihood}
    pairs = ((posterior, objective), (likelihood, objective), (objective, posterior))  # in the order of the seams
    refused = next((REFUSED[pair] for pair in pairs if pair in REFUSED), None)
    if refused is not None:
        with pytest.raises(InputError, match=refused):
            small_run(**chosen, objective=objective)
        return
    run = small_run(**chosen, objective=objective)
    model, losses = three_steps(run)
    assert torch.tensor(losses).isfinite().all()
    fresh = build.model(run, SHAPE, "binary").state_dict()
    assert all(not torch.equal(v, fresh[k]) for k, v in model.state_dict().items())  # every weight has moved


def test_every_refusal_of_the_table_is_tested():
    found = {
        (kind_of(part), kind)
        for seam in (Encoder, Posterior, Decoder, Likelihood, Objective)
        for part in classes(seam)
        for _, kind in getattr(part, "refuses", {})
    }
    assert found == set(REFUSED)


@pytest.mark.parametrize("likelihood", kinds(Likelihood))
def test_vectors_train_too(likelihood):
    run = small_run(likelihood=likelihood)
    model = build.model(run, (5,), "binary")
    draw = model(torch.ones(3, 5), model.noise(torch.Generator(), 2, 3))
    assert draw.log_px.shape == (2, 3)
    assert build.objective(run)(draw).loss.isfinite()

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
from elboroom.networks.normalized import Normalized
from elboroom.objectives import ask

SHAPE = (1, 8, 8)
PARTS = (Encoder, Posterior, Decoder, Likelihood, Objective)
DENSE = itertools.product(["mlp"], kinds(Posterior), ["mlp"], kinds(Likelihood), kinds(Objective))
OTHERS = itertools.product(kinds(Encoder), kinds(Posterior), kinds(Decoder), ["bernoulli"], ["elbo", "reconstruction"])
EVERY = sorted({*DENSE, *OTHERS})  # every pair of parts, and every triple of those that share no network
REFUSED = {  # (kind, refused kind) -> the reason: the table of refusals, from every part's own lines
    (kind_of(part), kind): why
    for seam in PARTS
    for part in classes(seam)
    for (_, kind), why in getattr(part, "refuses", {}).items()
}


def three_steps(run: Run) -> tuple[torch.nn.Module, list[float]]:
    model, objective = build.model(run, SHAPE, "binary"), build.objective(run)
    optimizer = build.optimizer(run, model)
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(6, *SHAPE, generator=generator) < 0.5).float()
    losses = []
    for _ in range(3):
        noise = model.noise(generator, run.objective.samples, 6)
        loss = objective(model(x, noise, ask(objective, model, generator, noise, 6, 5000, x, torch.arange(6)))).loss
        loss.backward()
        assert all(p.grad.isfinite().all() for p in learning(run, model))
        assert run.trains_encoder or all(p.grad is None for p in model.encoder.parameters())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return model, losses


def learning(run: Run, model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The parameters that the objective trains."""
    return [p for name, p in model.named_parameters() if run.trains_encoder or not name.startswith("encoder.")]


def signs(model: torch.nn.Module) -> set[str]:
    """Directions of normalized weights that are one number for each unit: nothing but its sign matters."""
    layers = ((name, m) for name, m in model.named_modules() if isinstance(m, Normalized))
    seen = {f"{name}.direction": (m.weight.transpose(0, m.unit).flatten(1) != 0).sum(1).max() for name, m in layers}
    return {name for name, most in seen.items() if most <= 1}


@pytest.mark.parametrize(("encoder", "posterior", "decoder", "likelihood", "objective"), EVERY)
def test_trains_or_is_refused(encoder, posterior, decoder, likelihood, objective):
    chosen = {"encoder": encoder, "posterior": posterior, "decoder": decoder, "likelihood": likelihood}
    by_parts = ((posterior, objective), (likelihood, objective))  # in the order of the seams
    pairs = (*by_parts, (objective, posterior), (objective, likelihood))
    refused = next((pair for pair in pairs if pair in REFUSED), None)
    if refused is not None:
        words = f"'{refused[0]}' does not go with {{seam}} '{refused[1]}': {REFUSED[refused]}"
        with pytest.raises(InputError) as error:
            small_run(**chosen, objective=objective)
        assert any(words.format(seam=seam) in str(error.value) for seam in ("objective", "posterior", "likelihood"))
        return
    run = small_run(**chosen, objective=objective)
    model, losses = three_steps(run)
    assert torch.tensor(losses).isfinite().all()
    fresh = build.model(run, SHAPE, "binary").state_dict()
    stayed = {k for k, v in model.state_dict().items() if torch.equal(v, fresh[k])}
    untrained = set() if run.trains_encoder else {k for k in fresh if k.startswith("encoder.")}
    assert stayed <= signs(model) | untrained  # every weight that is trained has moved
    assert untrained <= stayed


def test_the_plain_autoencoder_is_refused_where_there_is_no_rate():
    assert {kind for part, kind in REFUSED if part == "point"} >= {"elbo", "mu"}
    assert all(len(why.split()) >= 4 for why in REFUSED.values())  # a reason in words

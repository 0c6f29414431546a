"""A whole training against a loop written here: the order, the draws, the clipped gradient, the rate, the average."""

import copy
import math

import pytest
import torch

from elboroom import build
from elboroom.config import run_from
from elboroom.config.run import to_dict
from elboroom.numerics import Randomness
from elboroom.records import Asked
from elboroom.studies import execute as execution
from elboroom.training.runtime import Runtime

EPOCHS, BATCH, RATE, CLIP, WARMUP, DECAY = 3, 24, 0.05, 4.0, 3, 0.9


def plan(tiny, **more):
    """64 examples in batches of 24, of which the last has 16."""
    optimizer = {"kind": "sgd", "lr": RATE}
    schedule = {"kind": "cosine", "floor": 0.1}
    kept = {"average": DECAY, "clip_norm": CLIP, "warmup": WARMUP, "epochs": EPOCHS, "batch": BATCH}
    return tiny(optimizer=optimizer, schedule=schedule, **kept, **more)


def by_hand(model, train, drop_last, loss_of):
    """Weights, their average, and how often the gradient was clipped."""
    random, average = Randomness(0), copy.deepcopy(list(model.parameters()))
    per_epoch = len(train) // BATCH if drop_last else math.ceil(len(train) / BATCH)
    step, clipped = 0, 0
    for epoch in range(EPOCHS):
        order = torch.randperm(len(train), generator=random("order", epoch))
        for rows in order.split(BATCH)[:per_epoch]:
            x = train.batch(rows, random("binarize", step)).x
            noise = torch.randn(1, len(rows), 2, generator=random("noise", step))
            loss = loss_of(model, x, noise, random("prior", step))
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
            clipped += norm > CLIP
            rise = min(1, (step + 1) / WARMUP)
            fall = 0.1 + 0.9 * (1 + math.cos(math.pi * step / (EPOCHS * per_epoch))) / 2
            decay = min(DECAY, (1 + step) / (10 + step))
            with torch.no_grad():
                for w, a, g in zip(model.parameters(), average, gradients, strict=True):
                    w -= RATE * rise * fall * min(1, CLIP / norm) * g
                    a.copy_(decay * a + (1 - decay) * w)
            step += 1
    return list(model.parameters()), average, clipped, step


def elbo(model, x, noise, generator):
    """Distortion of one sample, and the rate in closed form."""
    q = model.encoder(x)
    z = q.loc + (q.log_var / 2).exp() * noise[0]
    rate = (q.loc.square() + q.log_var.exp() - 1 - q.log_var).sum(1) / 2
    return (rate - model.decoder(z).log_prob(x)).mean()


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_training_is_the_loop_by_hand(tmp_path, tiny, drop_last):
    config = plan(tiny, drop_last=drop_last)
    trainer = trainer_of(config, tmp_path)
    mine = copy.deepcopy(trainer.model)
    trainer.run()
    weights, average, clipped, steps = by_hand(mine, trainer.data.train, drop_last, elbo)
    assert steps == trainer.progress.step == (6 if drop_last else 9)
    assert 0 < clipped < steps  # so that both sides of the limit are met
    assert_same(trainer.model, weights)
    assert_same(trainer.average.model, average)


def test_draws_from_the_prior_are_new_at_every_step(tmp_path, tiny):
    config = run_from({**to_dict(plan(tiny)), "objective": {"kind": "mmd"}})
    trainer = trainer_of(config, tmp_path)
    mine, objective = copy.deepcopy(trainer.model), trainer.objective
    trainer.run()

    def loss(model, x, noise, generator):
        prior_z = torch.randn(len(x), 2, generator=generator)
        return objective(model(x, noise, Asked(prior_z=prior_z))).loss

    weights, _, _, _ = by_hand(mine, trainer.data.train, False, loss)
    assert_same(trainer.model, weights)


def trainer_of(config, folder):
    return execution.make_trainer(config, build.data(config), Runtime(torch.device("cpu"), 1, "fp32"), folder, "x")


def assert_same(model, weights):
    for mine, theirs in zip(model.parameters(), weights, strict=True):
        torch.testing.assert_close(mine.detach(), theirs.detach(), rtol=1e-4, atol=1e-6)

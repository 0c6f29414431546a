"""The ring of Gaussians: its density against torch's and the plane, and a trained model's likelihood against it."""

import hashlib
import json
import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from elboroom import cli
from elboroom.config.data import Data as Config
from elboroom.data import load, ring

OPTIONS = [ring.Ring(), ring.Ring(modes=1, noise=1.0), ring.Ring(modes=5, noise=0.05), ring.Ring(modes=30, noise=0.6)]
EACH = pytest.mark.parametrize("options", OPTIONS, ids=lambda o: f"{o.modes} of {o.noise}")


def loaded(**options):
    return load(Config(name="gaussian-ring", options=options))


def points(examples):
    return examples.batch(torch.arange(len(examples))).x.double().numpy()


@EACH
def test_the_density_is_torch_s_mixture(options):
    around = Independent(Normal(torch.from_numpy(ring.centres(options.modes)), options.noise), 1)
    theirs = MixtureSameFamily(Categorical(torch.ones(options.modes).double()), around)
    x = 3 * torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(ring.log_density(x.numpy(), options=options), theirs.log_prob(x).numpy(), rtol=1e-10)


@EACH
def test_the_density_integrates_to_one(options):
    """A grid of quarters of the noise (at most 0.05) over 10 standard deviations beyond the circle."""
    reach, step = ring.RADIUS + 10 * options.noise, min(options.noise / 4, 0.05)
    axis = np.arange(-reach, reach, step)
    total = sum(
        np.exp(ring.log_density(np.stack([axis, np.full_like(axis, y)], 1), options=options)).sum() for y in axis
    )
    assert total * step**2 == pytest.approx(1, abs=1e-6)


@EACH
def test_the_points_are_drawn_from_it(options):
    """Within 5 standard errors: the mean, E|x|^2 = r^2 + 2 s^2, the shares of the labels, and E|x - c|^2 = 2 s^2."""
    data = loaded(modes=options.modes, noise=options.noise)
    x, label = points(data.train), data.train.labels.numpy()
    square, away = (x**2).sum(1), ((x - ring.centres(options.modes)[label]) ** 2).sum(1)
    for values, expected in ((x, float(options.modes == 1) * np.array([2, 0])), (square, 4 + 2 * options.noise**2)):
        assert (np.abs(values.mean(0) - expected) < 5 * values.std(0) / 100).all()
    assert abs(away.mean() - 2 * options.noise**2) < 5 * away.std() / 100
    share = np.bincount(label, minlength=options.modes) / len(x)
    assert (np.abs(share - 1 / options.modes) < 5 * np.sqrt(share / len(x))).all()


def test_entropy_of_gaussians_that_lie_apart():
    """log M + 1 + log(2 pi s^2), 5 standard errors of 5,000 points."""
    data = loaded(modes=6, noise=0.1)
    found = -data.log_density(points(data.test))
    assert abs(found.mean() - (math.log(6) + 1 + math.log(2 * math.pi * 0.01))) < 5 * found.std() / math.sqrt(5_000)


def test_the_points_stand_for_good():
    data = loaded()
    assert (data.shape, data.values, len(data.classes)) == ((2,), "real", 8)
    assert [len(s) for s in data.splits().values()] == [10_000, 1_000, 5_000]
    assert hashlib.sha256(data.test.labels.numpy().tobytes()).hexdigest()[:16] == "311f96857af3113a"
    np.testing.assert_allclose(points(data.test)[[0, -1]], [[1.322734, 1.351269], [-0.283503, 1.971826]], atol=1e-6)


def test_other_noise_moves_the_same_points():
    one, other = (loaded(noise=noise) for noise in (0.1, 0.3))
    assert torch.equal(one.train.labels, other.train.labels)
    c = ring.centres(8)[one.train.labels.numpy()]
    np.testing.assert_allclose(points(other.train) - c, 3 * (points(one.train) - c), atol=2e-6)


def test_a_trained_model_comes_near_the_true_density_and_not_below_it(tmp_path):
    """N(c, I) in the plane is a linear model's own density: the NLL of 300 test points is at most 0.1 nats above the
    truth of the same points, and at most 0.02 below it."""
    out = tmp_path / "run"
    options = "--data.name gaussian-ring --data.options.modes 1 --data.options.noise 1 --model.posterior.latent 1"
    network = "--model.encoder.hidden [16] --model.decoder.hidden [16] --training.epochs 3"
    likelihood = "--model.likelihood.kind gaussian-learned --training.optimizer.lr 0.005"
    assert cli.run(["train", *options.split(), *network.split(), *likelihood.split(), "--out", str(out)]) == cli.DONE
    assert cli.run(["evaluate", str(out), "--samples", "100", "--images", "300"]) == cli.DONE
    scores = {s["name"]: s for s in json.loads((out / "scores.json").read_text())["scores"]}
    data = loaded(modes=1, noise=1.0)
    truth = -data.log_density(points(data.test)[:300]).mean()
    assert scores["nll"]["examples"] == 300
    assert -0.02 < scores["nll"]["value"] - truth < 0.1

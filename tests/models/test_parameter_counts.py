"""Parameter counts that the papers print or that follow from their tables (SPEC 2.4, 3.1, 5.2, 8), by configuration."""

import pytest
from oracles.configurations import count, model_of

from elboroom import build
from elboroom.config import run_from


def aevb(latent: int, hidden: tuple[int, ...] = (500,), activation: str = "tanh", **posterior: object) -> dict:
    """One MLP and its mirror."""
    return {
        "encoder": {"kind": "mlp", "hidden": list(hidden), "activation": activation},
        "posterior": {"latent": latent, **posterior},
        "decoder": {"kind": "mlp", "hidden": list(reversed(hidden)), "activation": activation},
    }


def mu_vae(kernel: int) -> dict:
    """Table 4 of the μ-VAE paper; its widths are the defaults of the convolutional networks."""
    return {
        "encoder": {"kind": "conv", "kernel": kernel},
        "posterior": {"latent": 10, "clip": 3},
        "decoder": {"kind": "conv", "kernel": kernel},
        "likelihood": {"kind": "squared-error"},
    }


AEVB = {2: 788_788, 3: 790_290, 5: 793_294, 10: 800_804, 20: 815_824, 200: 1_086_184}  # SPEC 2.4, derived
AE = {2: 787_786, 3: 788_787, 5: 790_789, 10: 795_794, 20: 805_804, 200: 985_984}  # the first is printed


@pytest.mark.parametrize(("latent", "expected"), AEVB.items())
@pytest.mark.parametrize("likelihood", ["bernoulli", "grey-bce", "squared-error", "gaussian"])
def test_aevb(latent, expected, likelihood):
    assert count(model_of({**aevb(latent), "likelihood": {"kind": likelihood}})) == expected


@pytest.mark.parametrize(("latent", "expected"), AE.items())
def test_plain_autoencoder(latent, expected):
    assert count(model_of(aevb(latent, kind="point", squash="tanh"))) == expected


OTHERS = {
    "mu-vae, 3x3 (SPEC 5.2)": (mu_vae(3), 227_413),
    "mu-vae, 4x4 (SPEC 5.2)": (mu_vae(4), 328_437),
    "toy model of mu-vae (SPEC 5.2)": (aevb(2, (512, 512, 512), "leaky-relu"), 1_858_324),
    "Dobilas (SPEC 3.1)": (aevb(2, (64, 16, 8), "relu"), 103_668),
    "IWAE, one stochastic layer (785 x 200 + 201 x 200 + 201 x 100 + 51 x 200 + 201 x 200 + 201 x 784)": (
        aevb(50, (200, 200)),
        425_284,
    ),
}


@pytest.mark.parametrize(("model", "expected"), OTHERS.values(), ids=OTHERS)
def test_other_papers(model, expected):
    assert count(model_of(model)) == expected


@pytest.mark.parametrize("kernel", [3, 4])
def test_parts_of_mu_vae(kernel):
    """Encoder and decoder by themselves, as the rows of SPEC 5.2 sum up."""
    rows = {3: (640 + 2 * 36_928 + 2 * 31_370, 34_496 + 36_928 + 18_464 + 289)}
    rows[4] = (1_088 + 2 * 65_600 + 2 * 31_370, 34_496 + 65_600 + 32_800 + 513)
    model = model_of(mu_vae(kernel))
    assert (count(model.encoder), count(model.decoder)) == rows[kernel]


def test_the_classifier_beside_mu_vae():
    """SPEC 5.2: 10-1024-1024-1024-10."""
    run = run_from({"data": {"name": "mnist"}, "model": mu_vae(3), "companion": {"kind": "classifier"}})
    assert count(build.companion(run, 10)) == 2_120_714


def test_every_parameter_is_trained():
    """No dead heads in the spine (SPEC 2.4 prints a model with two)."""
    model = model_of(mu_vae(3))
    assert all(p.requires_grad for p in model.parameters())
    assert count(model) == sum(v.numel() for v in model.state_dict().values())

"""The papers' models by name: parameter counts that are printed or follow from the tables (SPEC 2.4, 3.1, 5.2)."""

import pytest
import torch
from oracles.configurations import count

from elboroom import build
from elboroom.config import Run, apply_options, run_from
from elboroom.config.models import READY
from elboroom.errors import InputError
from elboroom.models import VAE


def run_of(model: object, *options: str) -> Run:
    name = model if isinstance(model, str) else model.get("kind")
    content = {"data": {"name": "mnist"}, "model": model, "objective": objective_for(name)}
    return run_from(apply_options(content, options))


def objective_for(name: str | None) -> str:
    """One that goes with the model: learned priors need a rate, and plain autoencoders have none."""
    return "reconstruction" if name == "kth-autoencoder" else "elbo"


def built(model: object, shape: tuple[int, ...] = (1, 28, 28), *options: str) -> VAE:
    return build.model(run_of(model, *options), shape, "unit-interval")


KTH = {2: 790_792, 3: 793_296, 5: 798_304, 10: 810_824, 20: 835_864, 200: 1_286_584}  # SPEC 2.4; the first printed
AEVB = {2: 788_788, 3: 790_290, 5: 793_294, 10: 800_804, 20: 815_824, 200: 1_086_184}
AE = {2: 787_786, 3: 788_787, 5: 790_789, 10: 795_794, 20: 805_804, 200: 985_984}
AEVB_GAUSSIAN = {2: 1_181_572, 3: 1_183_074, 5: 1_186_078, 10: 1_193_588, 20: 1_208_608, 200: 1_478_968}
FREY = {2: 338_724, 5: 340_530, 10: 343_540, 20: 349_560}


@pytest.mark.parametrize(
    ("name", "table", "shape"),
    [
        ("kth", KTH, (1, 28, 28)),
        ("aevb", AEVB, (1, 28, 28)),
        ("kth-autoencoder", AE, (1, 28, 28)),
        ("aevb-frey", FREY, (1, 28, 20)),
    ],
    ids=["kth", "aevb", "kth-autoencoder", "aevb-frey"],
)
def test_counts_of_all_latent_sizes(name, table, shape):
    for latent, expected in table.items():
        assert count(built({"kind": name, "posterior": {"latent": latent}}, shape)) == expected


def test_aevb_with_a_gaussian_decoder():
    for latent, expected in AEVB_GAUSSIAN.items():
        model = {"kind": "aevb", "posterior": {"latent": latent}, "likelihood": "gaussian-pixel"}
        assert count(built(model)) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("kth", 790_792), ("dobilas", 103_668), ("toy", 1_858_324), ("mu-vae", 227_413)]
)
def test_printed_counts_by_the_name_alone(name, expected):
    assert count(built(name)) == expected


LENGTHS = {"vlae": 1_056 + 6_144 + 4_673, "resnet-vae-af": 1_056 + 6_144 + 355}  # of normalized weights


def without_lengths(part: torch.nn.Module) -> int:
    """As the tables count: directions and biases, masked-out weights among them."""
    return sum(p.numel() for name, p in part.named_parameters() if not name.endswith("log_gain"))


@pytest.mark.parametrize(("name", "decoder"), [("vlae", 500_673), ("resnet-vae-af", 140_972)])
def test_counts_of_mae(name, decoder):
    """From the papers' tables: 28x28, 32 latents; 1,553,697 with the PixelCNN."""
    model = built(name)
    assert (without_lengths(model.encoder), without_lengths(model.prior)) == (702_816, 350_208)
    assert without_lengths(model.decoder) == decoder
    assert count(model) == 702_816 + 350_208 + decoder + LENGTHS[name]


@pytest.mark.parametrize("name", ["vlae", "resnet-vae-af"])
def test_six_steps_of_the_flow_have_six_eighths(name):
    assert without_lengths(built({"kind": name, "prior": {"steps": 6}}).prior) == 350_208 * 6 // 8


def test_the_small_decoder_of_the_lossy_autoencoder():
    """First convolution of 1 + 4 maps to 24, one block of kernel 3 and one of 1 with 12 inside, the mixing and the
    output layer; by hand, beside the network that makes the code's maps."""
    decoder = built("vlae-chen").decoder
    block = (24 * 12 + 12) + (12 * 12 * 9 + 12) + (12 * 24 + 24)
    mixing = (24 * 12 + 12) + (12 * 12 + 12) + (12 * 24 + 24)
    expected = (5 * 9 * 24 + 24) + block + mixing + (24 * 24 + 24) + 25
    assert without_lengths(decoder) - without_lengths(decoder.network.code) == expected == 4_417


def test_the_flow_of_the_lossy_autoencoder_shifts_only():
    """4 steps of one MADE with three hidden layers of 640, for 64 latents: weights, biases, the direct link."""
    made = built({"kind": "vlae", "posterior": {"latent": 64}, "prior": {"steps": 4, "layers": 3, "scale": False}})
    each = 65 * 640 + 2 * 641 * 640 + 641 * 64 + 65 * 64
    assert without_lengths(made.prior) == 4 * each


def test_dobilas_with_its_legacy_reading_has_the_same_weights():
    model = built("dobilas", (1, 28, 28), "--model.posterior.legacy_logsigma", "true")
    assert count(model) == 103_668
    assert model.encoder.legacy_logsigma


def test_the_dead_heads_of_kth_get_no_gradient_and_all_else_does():
    """SPEC 11.1: two linear layers of 500 x 2 + 2 in the decoder."""
    model = build.model(run_from({"data": {"name": "mnist"}, "model": "kth"}), (1, 28, 28))
    draw = model(torch.rand(2, 1, 28, 28), torch.randn(1, 2, 2))
    (draw.rate.sum() - draw.log_px.sum()).backward()
    dead = {name for name, p in model.named_parameters() if p.grad is None}
    assert dead == {f"decoder.network.dead.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")}
    assert sum(p.numel() for name, p in model.named_parameters() if name in dead) == 2 * 1_002


def test_a_name_is_its_parts():
    """So that config.yaml is complete without the name, and the same model has the same hash."""
    by_name = run_of("dobilas")
    mlp = {"kind": "mlp", "activation": "relu"}
    parts = {
        "encoder": {**mlp, "hidden": [64, 16, 8]},
        "posterior": {"latent": 2},
        "decoder": {**mlp, "hidden": [8, 16, 64]},
        "likelihood": "squared-error",
    }
    assert by_name == run_of(parts)
    assert by_name.hash == run_of(parts).hash


@pytest.mark.parametrize("name", READY)
def test_every_name_from_an_option_and_changed_by_others(name):
    content = {"data": {"name": "mnist"}, "objective": objective_for(name)}
    run = run_from(apply_options(content, ["--model", name, "--model.posterior.latent", "7"]))
    assert run.model.posterior.latent == 7
    assert run == run_of({"kind": name, "posterior": {"latent": 7}})
    assert run == run_of(name, "--model.posterior.latent", "7")


@pytest.mark.parametrize("model", ["kht", {"kind": "kht"}])
def test_an_unknown_name(model):
    with pytest.raises(InputError, match=r"model: unknown model 'kht'; known: aevb, .* Did you mean 'kth'\?"):
        run_of(model)

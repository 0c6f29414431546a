"""The models of the papers by name, as changes of the default model."""

from typing import Any


def _mlps(*hidden: int, activation: str) -> dict[str, Any]:
    """An MLP and its mirror."""
    encoder = {"kind": "mlp", "hidden": list(hidden), "activation": activation}
    return {"encoder": encoder, "decoder": {**encoder, "hidden": list(reversed(hidden))}}


READY: dict[str, dict[str, Any]] = {
    # Kingma & Welling (2014), section 5, on MNIST
    "aevb": {**_mlps(500, activation="tanh"), "posterior": {"latent": 20}, "likelihood": {"kind": "bernoulli"}},
    # the same on Frey faces: 200 hidden units, a Gaussian decoder with a variance per pixel
    "aevb-frey": {
        **_mlps(200, activation="tanh"),
        "posterior": {"latent": 10},
        "likelihood": {"kind": "gaussian-pixel"},
    },
    # Burda et al. (2016), one stochastic layer
    "iwae": {
        **_mlps(200, 200, activation="tanh"),
        "posterior": {"latent": 50},
        "likelihood": {"kind": "bernoulli"},
    },
    # the AEVB reproduction study as printed, with two heads that lead nowhere
    "kth": {
        "encoder": {"kind": "mlp", "hidden": [500], "activation": "tanh"},
        "decoder": {"kind": "mlp", "hidden": [500], "activation": "tanh", "dead_heads": True},
        "posterior": {"latent": 2},
        "likelihood": {"kind": "grey-bce"},
    },
    # its plain autoencoder
    "kth-autoencoder": {
        **_mlps(500, activation="tanh"),
        "posterior": {"kind": "point", "latent": 2, "squash": "tanh"},
        "likelihood": {"kind": "grey-bce"},
    },
    # the base program of the beta-VAE study
    "dobilas": {
        **_mlps(64, 16, 8, activation="relu"),
        "posterior": {"latent": 2},
        "likelihood": {"kind": "squared-error"},
    },
    # mu-VAE's toy model, table 2
    "toy": {
        **_mlps(512, 512, 512, activation="leaky-relu"),
        "posterior": {"latent": 2},
        "likelihood": {"kind": "squared-error"},
    },
    # mu-VAE's convolutional model, table 4
    "mu-vae": {
        "encoder": {"kind": "conv"},
        "posterior": {"latent": 10},
        "decoder": {"kind": "conv"},
        "likelihood": {"kind": "squared-error"},
    },
    # the variational lossy autoencoder as MAE has it on binary images: a PixelCNN decoder, a flow as prior
    "vlae": {
        "encoder": {"kind": "resnet"},
        "posterior": {"latent": 32},
        "prior": {"kind": "flow"},
        "decoder": {"kind": "pixelcnn"},
        "likelihood": {"kind": "bernoulli"},
    },
    # the same with independent pixels
    "resnet-vae-af": {
        "encoder": {"kind": "resnet"},
        "posterior": {"latent": 32},
        "prior": {"kind": "flow"},
        "decoder": {"kind": "resnet"},
        "likelihood": {"kind": "bernoulli"},
    },
    # Chen et al. (2017), its own smaller decoder and flow. Not stated there, and assumed: its six masked layers are
    # those of the blocks, behind a first one that sees the image, and their 12 filters stand between 24 maps
    "vlae-chen": {
        "encoder": {"kind": "resnet", "channels": [16, 32, 32], "extra": 1, "hidden": 450},
        "posterior": {"latent": 64},
        "prior": {"kind": "flow", "steps": 4, "layers": 3, "scale": False},
        "decoder": {
            "kind": "pixelcnn",
            "maps": 24,
            "kernels": [3, 3, 3, 3, 3, 3, 1, 1, 1, 1],
            "first": 3,
            "skips": False,
            "tied": True,
            "code_channels": [32, 32, 16],
            "code_extra": 1,
        },
        "likelihood": {"kind": "bernoulli"},
    },
    # the networks of IAF and VLAE (Kingma et al. 2016, appendix C.1) and its posterior
    "iaf": {
        "encoder": {"kind": "resnet", "channels": [16, 32, 32], "extra": 1, "hidden": 450},
        "posterior": {"kind": "iaf", "latent": 32},
        "decoder": {"kind": "resnet", "channels": [32, 32, 16], "extra": 1},
        "likelihood": {"kind": "bernoulli"},
    },
}

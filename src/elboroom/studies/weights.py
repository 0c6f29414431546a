"""What a training starts from: another run's weights, or weights fitted to the first images."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from elboroom import runs
from elboroom.config import Run as RunConfig
from elboroom.config import load_run
from elboroom.data import Data
from elboroom.errors import InputError
from elboroom.models import VAE
from elboroom.networks.initialize import data_dependent_
from elboroom.numerics import Randomness


def first_weights(config: RunConfig, model: VAE, data: Data) -> None:
    """Weights from another run, or fitted to the first images, where the configuration says so."""
    if config.init_from is not None:
        take_weights(model, Path(config.init_from), config.foreign)
    elif config.training.init == "data-dependent":
        fit_to_images(model, data, config.training.init_images, config.seed)
    if config.training.mean_image and config.init_from is None:
        start_at_mean_image(model, data)


@torch.no_grad()
def start_at_mean_image(model: VAE, data: Data) -> None:
    """Set the last bias of the decoder to the logit of the mean training image (before any binarization), clipped to
    [0.001, 0.999]; InputError where the decoder has no such bias of one logit a pixel."""
    total = sum(pixels.double().sum(0) for pixels in _grey(data))
    mean = (total / len(data.train)).clamp(0.001, 0.999).flatten()
    layers = [m for m in model.decoder.head.modules() if isinstance(m, nn.Linear)]
    bias = layers[0].bias if len(layers) == 1 else None
    if bias is None or bias.shape != mean.shape or model.decoder.name not in ("bernoulli", "grey-bce"):
        raise InputError(
            "training.mean_image starts a Bernoulli decoder's last bias at the mean image; this model has no bias with "
            "one logit per pixel. Leave it out, or choose an MLP decoder and the likelihood bernoulli."
        )
    bias.copy_(mean.logit())


def _grey(data: Data) -> Iterator[Tensor]:
    """The training images before any binarization, a thousand at a time."""
    for index in torch.arange(len(data.train), device=data.train.device).split(1000):
        yield data.train.unbinarized(index)


def take_weights(model: VAE, folder: Path, trusted: list[str]) -> None:
    """The weights that another run would be evaluated with; InputError where its model is another one.

    Of the user's own parts only those of this run, ``trusted``, are imported: opening a folder is no leave to run code.
    """
    other = runs.load(folder, trust=_names_only(folder, trusted))
    try:
        model.load_state_dict(other.model.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(
            f"{folder}: its model is not this run's ({reason}). Set the same model, or leave init_from out."
        ) from None


def _names_only(folder: Path, trusted: list[str]) -> bool:
    path = folder / "config.yaml"
    return path.exists() and set(load_run(path).foreign) <= set(trusted)


def fit_to_images(model: VAE, data: Data, images: int, seed: int) -> None:
    """Data-dependent initialization on the first images of the first epoch.

    Encoder, decoder and prior in this order, each in one pass: a decoder may need the images as well as the codes. It
    gets the posterior means; the prior gets one sample each, for samples are what it scores in training. The encoder
    draws them, so that layers of a flow behind it are passed, too.
    """
    random = Randomness(seed, data.train.device)
    index = data.train.order(random, 0)[:images]
    x = data.train.batch(index, random("init")).x
    model.eval()
    with torch.no_grad():
        noise = model.noise(random("init-noise"), 1, len(x))
        data_dependent_(model.encoder, lambda: model.encoder(x).rsample_with_log_prob(noise))
        q = model.encoder(x)
        z, _ = q.rsample_with_log_prob(noise)
        data_dependent_(model.decoder, lambda: model.decoder(q.mean).log_prob(x))
        data_dependent_(model.prior, lambda: model.prior(model.encoder).log_prob(z[0]))
    model.train()

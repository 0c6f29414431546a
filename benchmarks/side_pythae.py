"""pythae's side of the benchmarks (written for 0.1.2), run by an interpreter that has it installed."""

import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.base_trainer import base_trainer
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

from ticker import Ticker

BATCH, LATENT, HIDDEN, PIXELS = 100, 20, 500, 784


class Encoder(BaseEncoder):
    """784-500-(20, 20), tanh; one last layer for both parameters, as in elboroom."""

    def __init__(self, compiled: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2 * LATENT))
        self.run = torch.compile(self.body) if compiled else self.body

    def forward(self, x: Tensor) -> ModelOutput:
        loc, log_var = self.run(x).chunk(2, -1)
        return ModelOutput(embedding=loc, log_covariance=log_var)


class Decoder(BaseDecoder):
    """20-500-784, tanh; pythae wants probabilities."""

    def __init__(self, compiled: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, PIXELS), nn.Sigmoid())
        self.run = torch.compile(self.body) if compiled else self.body

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.run(z).reshape(-1, 1, 28, 28))


class Silent(TrainingCallback):
    """In the place of the progress bar."""


class Ticks(TrainingCallback):
    """Images as units."""

    def __init__(self, tick: Ticker) -> None:
        self.tick = tick

    def on_train_step_end(self, training_config: BaseTrainerConfig, **more: object) -> None:
        self.tick(BATCH)


def model(compiled: bool) -> VAE:
    """The network of the benchmark as pythae's VAE."""
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    return VAE(config, Encoder(compiled), Decoder(compiled))


def train(options: argparse.Namespace) -> None:
    """BaseTrainer as it is; its images were binarized beforehand, a step less than the others have."""
    tick = Ticker()
    base_trainer.ProgressBarCallback = Silent
    images = torch.from_numpy(np.load(options.folder / "train.npy")).reshape(-1, 1, 28, 28)
    data = BaseDataset((images > 127).float(), torch.zeros(len(images)))
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=1_000_000,
            per_device_train_batch_size=BATCH,
            train_dataloader_num_workers=options.workers,
            optimizer_cls="Adam",
            optimizer_params={"fused": True},
            learning_rate=1e-3,
            no_cuda=True,
        )
        BaseTrainer(model(options.compile), data, training_config=config, callbacks=[Ticks(tick)]).train()


def nll(options: argparse.Namespace) -> None:
    """VAE.get_nll without gradients, images x samples as units, the mean NLL of each pass as values."""
    tick = Ticker()
    made = model(options.compile).eval()
    with np.load(options.folder / "weights.npz") as stored:
        weights = {name: torch.from_numpy(stored[name]) for name in stored.files}
    copy_into(made, weights)
    x = torch.from_numpy(np.load(options.folder / "test.npy")[: options.images]).float()
    while True:
        with torch.no_grad():
            value = made.get_nll(x, n_samples=options.samples, batch_size=options.batch)
        tick(len(x) * options.samples, -float(value))


def copy_into(made: VAE, weights: dict[str, Tensor]) -> None:
    """elboroom's weights, layer by layer, in the order of the data."""
    layers = [m for part in (made.encoder, made.decoder) for m in part.body if isinstance(m, nn.Linear)]
    pairs = [(weights[name], weights[name.replace("weight", "bias")]) for name in weights if name.endswith("weight")]
    for layer, (weight, bias) in zip(layers, pairs, strict=True):
        layer.load_state_dict({"weight": weight, "bias": bias})


def main() -> None:
    """One command of this module, by its name."""
    commands = {"train": train, "nll": nll}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=commands)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable(logging.INFO)
    commands[options.command](options)


if __name__ == "__main__":
    main()

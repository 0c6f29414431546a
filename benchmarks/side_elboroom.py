"""elboroom's side of the benchmarks: each command is one child process (see `ticker`)."""

import argparse
import json
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydantic
import torch
from ticker import Ticker

from elboroom import build
from elboroom import config as configs
from elboroom.models import VAE
from elboroom.models.evidence import log_evidence
from elboroom.studies.execute import make_trainer
from elboroom.training import Trainer
from elboroom.training.runtime import start

NEVER = 1_000_000_000
MLP = {"data": {"name": "mnist", "binarize": "dynamic"}}
CONV = {
    "data": {"name": "mnist"},
    "model": {
        "encoder": {"kind": "conv"},
        "decoder": {"kind": "conv"},
        "posterior": {"latent": 10},
        "likelihood": {"kind": "squared-error"},
    },
    "objective": {"kind": "mu"},
    "training": {"batch": 64},
}
NETWORKS = {"mlp": MLP, "conv": CONV}


def run_config(network: str, **training: object) -> configs.Run:
    """The configuration of a run that neither evaluates nor saves, and logs every 100 steps."""
    base = NETWORKS[network]
    quiet = {"epochs": 1_000_000, "log_every": 100, "evaluate_every": NEVER, "checkpoint_every": NEVER}
    return pydantic.TypeAdapter(configs.Run).validate_python(
        base | {"training": quiet | base.get("training", {}) | training}
    )


def trainer(config: configs.Run, folder: Path, stop: Callable[[], str | None] = lambda: None) -> Trainer:
    """The trainer that `elboroom train` would make."""
    chosen = config.training
    runtime = start("cpu", chosen.threads, chosen.precision)
    data = build.data(config).to(runtime.device)
    return make_trainer(config, data, runtime, folder, config.hash, stop=stop)


def train(options: argparse.Namespace) -> None:
    """The training loop, images as units; the tick takes the place of the question whether to stop."""
    config = run_config(options.network, threads=options.threads, compile=options.compile, precision=options.precision)
    tick = Ticker()

    def stop() -> None:
        tick(config.training.batch)

    with tempfile.TemporaryDirectory() as folder:
        made = trainer(config, Path(folder), stop)
        if options.contiguous:
            made.model.to(memory_format=torch.contiguous_format)
        made.run()


def batches(options: argparse.Namespace) -> None:
    """Making batches alone, images as units."""
    tick = Ticker()
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(run_config("mlp", threads=options.threads), Path(folder))
        for step in range(NEVER):
            rows = made._rows(step)
            made.data.train.batch(rows, made.random("binarize", step))
            tick(len(rows))


def export(options: argparse.Namespace) -> None:
    """Train a little; write weights, training and test images for the other sides."""
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(run_config("mlp", threads=options.threads, epochs=options.epochs), Path(folder))
        made.run()
    np.savez(options.folder / "weights.npz", **{k: v.numpy() for k, v in made.model.state_dict().items()})
    np.save(options.folder / "train.npy", made.data.train._pixels.numpy())
    images = made.data.test.fixed(torch.arange(len(made.data.test))).x
    np.save(options.folder / "test.npy", images.numpy().astype(np.uint8))


def model_and_images(options: argparse.Namespace) -> tuple[VAE, torch.Tensor]:
    """The exported model, and the first test images."""
    start("cpu", options.threads)
    model = build.model(run_config("mlp"), (1, 28, 28), "binary").eval()
    with np.load(options.folder / "weights.npz") as weights:
        model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    return model, torch.from_numpy(np.load(options.folder / "test.npy")[: options.images]).float()


def nll(options: argparse.Namespace) -> None:
    """Importance-sampled likelihoods, images x samples as units, the mean NLL of each pass as values."""
    tick = Ticker()
    model, x = model_and_images(options)
    for seed in range(NEVER):
        found = log_evidence(model, x, torch.arange(len(x)), options.samples, seed=seed)
        tick(len(x) * options.samples, -found.bound.mean().item())


def memory(options: argparse.Namespace) -> None:
    """Print by how many bytes the peak of the resident memory grows while likelihoods are estimated."""
    model, x = model_and_images(options)
    log_evidence(model, x[:1], torch.arange(1), 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    log_evidence(model, x, torch.arange(len(x)), options.samples)
    print(json.dumps({"bytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024}))


def main() -> None:
    """One command of this module, by its name."""
    commands = {f.__name__: f for f in (train, batches, export, nll, memory)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=commands)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--network", choices=NETWORKS, default="mlp")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--contiguous", action="store_true")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--samples", type=int, default=1000)
    options = parser.parse_args()
    commands[options.command](options)


if __name__ == "__main__":
    main()

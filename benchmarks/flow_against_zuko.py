"""Our autoregressive flow beside zuko's, with the same weights, in a separate process.

    python benchmarks/flow_against_zuko.py --zuko /path/of/an/interpreter/with/zuko

MAE's prior (32 dimensions, 8 steps, 350,208 parameters) with random weights, in float64: its masked and normalized
weights are handed over as plain matrices, so that nothing is shared but numbers. Compared are the log-densities of
codes and the codes that noise becomes. Exit code 1 where they differ by more than 1e-9.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from elboroom.models import FlowPrior
from elboroom.networks.made import Made

COUNT, LATENT, TOLERANCE = 500, 32, 1e-9


def handed_over(prior: FlowPrior) -> dict[str, np.ndarray]:
    """The weights in use of every network, by step and place."""
    found: dict[str, np.ndarray] = {"steps": np.array(len(prior.steps))}
    for i, step in enumerate(prior.steps):
        for kind, made in (("shift", step.shift), ("log_scale", step.log_scale)):
            found |= {f"{i}/{kind}/{name}": value for name, value in _layers(made).items()}
    return found


def _layers(made: Made) -> dict[str, np.ndarray]:
    layers = {f"body{j}": layer for j, layer in enumerate(made.body)} | {"last": made.last, "direct": made.direct}
    return {
        f"{name}/{part}": getattr(layer, part).detach().numpy()
        for name, layer in layers.items()
        for part in ("weight", "bias")
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zuko", required=True, help="an interpreter that has zuko")
    asked = parser.parse_args()
    torch.manual_seed(0)
    prior = FlowPrior(LATENT).double()
    for parameter in prior.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    flow, codes = prior(), torch.randn(COUNT, LATENT, dtype=torch.float64)
    noise = torch.randn(COUNT, LATENT, dtype=torch.float64)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        ours, made = flow.log_prob(codes), flow.from_noise(noise)
        given, answers = Path(folder) / "weights.npz", Path(folder) / "answers.npz"
        np.savez(given, codes=codes.numpy(), noise=noise.numpy(), **handed_over(prior))
        side = Path(__file__).with_name("side_zuko.py")
        told = subprocess.run(
            [asked.zuko, str(side), str(given), str(answers)], check=True, capture_output=True, text=True
        )
        theirs = np.load(answers)
        gaps = [float(np.abs(a.numpy() - theirs[n]).max()) for a, n in ((ours, "log_prob"), (made, "made"))]
    print(f"{told.stdout.strip()}; log-densities from {ours.min():.1f} to {ours.max():.1f} nats")
    print(f"largest difference: log-density {gaps[0]:.2g} nats, codes {gaps[1]:.2g}")
    return int(max(gaps) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())

"""The other side of flow_against_zuko.py, run by an interpreter that has zuko and not this package.

    python benchmarks/side_zuko.py weights.npz answers.npz

Reads the networks' weights as plain matrices, codes and noise; writes zuko's log-densities of the codes and the codes
that it makes of the noise.
"""

import sys

import numpy as np
import torch
import zuko
from torch.distributions import AffineTransform


def network(given: dict[str, torch.Tensor], name: str):
    """A function of codes: hidden layers of ReLU, a last layer, and a direct link from the input."""

    def run(z: torch.Tensor) -> torch.Tensor:
        h, i = z, 0
        while f"{name}/body{i}/weight" in given:
            h = torch.relu(h @ given[f"{name}/body{i}/weight"].T + given[f"{name}/body{i}/bias"])
            i += 1
        ends = ((h, "last"), (z, "direct"))
        return sum(x @ given[f"{name}/{end}/weight"].T + given[f"{name}/{end}/bias"] for x, end in ends)

    return run


def step(given: dict[str, torch.Tensor], i: int, latent: int) -> zuko.transforms.AutoregressiveTransform:
    shift, log_scale = network(given, f"{i}/shift"), network(given, f"{i}/log_scale")

    def affine(z: torch.Tensor) -> zuko.transforms.Transform:
        by_dimension = AffineTransform(shift(z), (log_scale(z) / 2).exp())
        return zuko.transforms.DependentTransform(by_dimension, 1)

    return zuko.transforms.AutoregressiveTransform(affine, passes=latent)


def main() -> None:
    given = {k: torch.from_numpy(v) for k, v in np.load(sys.argv[1]).items()}
    codes, noise = given["codes"], given["noise"]
    latent = codes.shape[1]
    way = zuko.transforms.ComposedTransform(*(step(given, i, latent) for i in range(int(given["steps"]))))
    base = zuko.distributions.DiagNormal(torch.zeros(latent).double(), torch.ones(latent).double())
    flow = zuko.distributions.NormalizingFlow(way, base)
    np.savez(sys.argv[2], log_prob=flow.log_prob(codes).numpy(), made=way.inv(noise).numpy())
    print(f"zuko {zuko.__version__}, torch {torch.__version__}")


if __name__ == "__main__":
    main()

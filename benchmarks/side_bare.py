"""What the same work costs without any toolkit: a loop written by hand, and its matrix products alone."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ticker import Ticker

BATCH, LATENT, HIDDEN, PIXELS = 100, 20, 500, 784
LAYERS = ((PIXELS, HIDDEN), (HIDDEN, 2 * LATENT), (LATENT, HIDDEN), (HIDDEN, PIXELS))
# Multiplications and additions of a step per image: forward and weight gradients everywhere, input gradients in all
# layers but the first.
FLOPS = sum(2 * a * b * (2 if a == PIXELS else 3) for a, b in LAYERS)


def networks() -> tuple[nn.Module, nn.Module]:
    """784-500-20 and back, tanh."""
    first, second, third, fourth = (nn.Linear(a, b) for a, b in LAYERS)
    return nn.Sequential(first, nn.Tanh(), second), nn.Sequential(third, nn.Tanh(), fourth)


def loss_of(encoder: nn.Module, decoder: nn.Module, x: Tensor, noise: Tensor) -> Tensor:
    """Negative ELBO: cross-entropy with logits, closed-form rate, batch mean."""
    loc, log_var = encoder(x).chunk(2, -1)
    logits = decoder(loc + (log_var / 2).exp() * noise)
    distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    return (distortion + 0.5 * (loc.square() + log_var.exp() - log_var - 1).sum()) / len(x)


def train(options: argparse.Namespace) -> None:
    """Dynamic binarization, forward, backward, fused Adam; images as units. It logs nothing and checks nothing."""
    tick = Ticker()
    images = torch.from_numpy(np.load(options.folder / "train.npy")).reshape(-1, PIXELS).float().div_(255)
    encoder, decoder = networks()
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)
    loss: Callable[..., Tensor] = torch.compile(loss_of) if options.compile else loss_of
    while True:
        for rows in torch.randperm(len(images)).split(BATCH):
            p = images.index_select(0, rows)
            x = torch.rand(p.shape).lt_(p)
            value = loss(encoder, decoder, x, torch.randn(len(x), LATENT))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            tick(len(rows))


def products(options: argparse.Namespace) -> None:
    """The matrix products of a step and nothing else, images as units."""
    tick = Ticker()
    shapes = [(torch.randn(BATCH, a), torch.randn(b, a), torch.randn(BATCH, b)) for a, b in LAYERS]
    while True:
        for x, weight, gradient in shapes:
            x @ weight.t()
            gradient.t() @ x
            if x.shape[1] != PIXELS:
                gradient @ weight
        tick(BATCH)


def square(options: argparse.Namespace) -> None:
    """A large matrix product, floating-point operations as units: what the machine can do."""
    tick = Ticker()
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    while True:
        a @ b
        tick(2 * 2048**3)


def main() -> None:
    """One command of this module, by its name."""
    commands = {f.__name__: f for f in (train, products, square)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=commands)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    commands[options.command](options)


if __name__ == "__main__":
    main()

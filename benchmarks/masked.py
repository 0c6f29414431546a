"""Masked convolutions that leave out the rows their mask kills, against whole ones with zeros there.

    python benchmarks/masked.py --threads 1 --batch 32 --side 28

Forward and backward of each kernel of MAE's decoder (32 maps inside a block), and of as many of these as the decoder
has, in turn, each side in the faster of two layouts; the ratio of whole over cropped is formed within a round, and the
table gives the median, the smallest and the largest.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import machine
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elboroom.networks import pixelcnn
from elboroom.networks.normalized import Causal

LAYOUTS = (torch.contiguous_format, torch.channels_last)
KERNELS = (7, 5, 3)


class Whole(nn.Module):
    """A masked convolution whose masked rows are computed, from the same parameters."""

    def __init__(self, layer: Causal) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        weight = F.pad(layer.weight, (0, 0, 0, layer.kernel - layer.rows))
        return F.conv2d(x, weight, layer.bias, padding=layer.kernel // 2)


def whole(network: nn.Module) -> nn.Module:
    """The same network with its cropped convolutions made whole."""
    if isinstance(network, Causal):
        return Whole(network) if network.rows < network.kernel else network
    for name, child in network.named_children():
        setattr(network, name, whole(child))
    return network


def seconds(network: nn.Module, of: Callable[[nn.Module], Tensor]) -> float:
    """One pass forward and backward."""
    network.zero_grad(set_to_none=True)
    start = time.perf_counter()
    of(network).sum().backward()
    return time.perf_counter() - start


def ratios(make: Callable[[], nn.Module], of: Callable[[nn.Module], Tensor], rounds: int) -> list[float]:
    """Whole over cropped, round by round, after one that does not count; their outputs are the same."""
    sides = {False: [], True: []}
    for layout in LAYOUTS:
        cropped = make().to(memory_format=layout)
        full = make()
        full.load_state_dict(cropped.state_dict())
        full = whole(full.to(memory_format=layout))
        torch.testing.assert_close(of(full), of(cropped), atol=1e-4, rtol=1e-4)
        sides[False].append(cropped)
        sides[True].append(full)
    found = []
    for _ in range(rounds + 1):
        cropped, full = (min(seconds(network, of) for network in sides[side]) for side in (False, True))
        found.append(full / cropped)
    return found[1:]


def report(what: str, found: list[float]) -> None:
    print(f"{what}: whole / cropped {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    for name, value in machine.facts(asked.threads).items():
        print(f"{name}: {value}")
    inside = torch.randn(asked.batch, 32, asked.side, asked.side)
    for kernel in KERNELS:
        report(f"{kernel}x{kernel}", ratios(lambda k=kernel: Causal(32, 32, k), lambda m: m(inside), asked.rounds))
    shape = (1, asked.side, asked.side)
    x, z = (torch.rand(asked.batch, *shape) < 0.5).float(), torch.randn(asked.batch, 32)
    report("the whole decoder", ratios(lambda: pixelcnn.Decoder(32, shape), lambda m: m.given(x, m(z)), asked.rounds))


if __name__ == "__main__":
    main()

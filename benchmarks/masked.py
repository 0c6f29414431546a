"""Masked convolutions that leave out the rows their mask kills, against whole ones with zeros there.

    python benchmarks/masked.py --threads 1 --batch 32 --side 28

Forward and backward of each kernel of MAE's decoder (32 maps inside a block) and of the whole decoder (64 maps), in
turn, as the ratio of whole over cropped within a round; the table gives the median, the smallest and the largest.
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


class Whole(Causal):
    """The same numbers, with the masked rows computed."""

    def forward(self, x: Tensor) -> Tensor:
        weight = F.pad(self.weight, (0, 0, 0, self.kernel - self.rows))
        return F.conv2d(x, weight, self.bias, padding=self.kernel // 2)


def whole(network: nn.Module) -> nn.Module:
    """Its masked convolutions made whole, in place."""
    for layer in network.modules():
        if isinstance(layer, Causal):
            layer.__class__ = Whole
    return network


def step(network: nn.Module, of: Callable[[], Tensor]) -> float:
    """Seconds of one pass forward and backward."""
    network.zero_grad(set_to_none=True)
    start = time.perf_counter()
    of().sum().backward()
    return time.perf_counter() - start


def ratios(make: Callable[[], nn.Module], of: Callable[[nn.Module], Tensor], rounds: int) -> list[float]:
    """Whole over cropped, round by round, after a round that does not count; their outputs are the same."""
    cropped, full = make(), make()
    full.load_state_dict(cropped.state_dict())
    whole(full)
    torch.testing.assert_close(of(full), of(cropped), atol=1e-4, rtol=1e-4)
    found = [step(full, lambda: of(full)) / step(cropped, lambda: of(cropped)) for _ in range(rounds + 1)]
    return found[1:]


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
    for kernel in (7, 5, 3):
        report(f"{kernel}x{kernel}", ratios(lambda k=kernel: Causal(32, 32, k), lambda m: m(inside), asked.rounds))
    shape = (1, asked.side, asked.side)
    x, z = (torch.rand(asked.batch, *shape) < 0.5).float(), torch.randn(asked.batch, 32)
    made = ratios(lambda: pixelcnn.Decoder(32, shape), lambda m: m.given(x, m(z)), asked.rounds)
    report("the whole decoder", made)


def report(what: str, found: list[float]) -> None:
    print(f"{what}: whole / cropped {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})")


if __name__ == "__main__":
    main()

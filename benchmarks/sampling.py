"""Pixel by pixel with what is kept, against one full pass for each pixel, on the PixelCNN decoder of MAE.

    python benchmarks/sampling.py --threads 1 --batch 64 --side 28

A full pass is timed (the median of some, in inference mode, in the faster of two layouts), and as many as there are
pixels are counted: nobody waits for all of them. In float32 the logits along the walk are compared with those of one
pass over the finished images.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import machine
import torch

from elboroom.models import BernoulliLikelihood
from elboroom.networks import pixelcnn

LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
TARGET = 50.0  # times as fast as full passes


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The median of some rounds, after one that does not count."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@torch.inference_mode()
def measure(batch: int, side: int, maps: int, rounds: int) -> dict[str, float | str]:
    """Seconds of one full pass in its faster layout and of sampling a batch, their ratio, and the largest difference of
    logits."""
    torch.manual_seed(0)
    shape = (1, side, side)
    decoder = BernoulliLikelihood(pixelcnn.Decoder(32, shape, maps=maps), shape).eval()
    z = torch.randn(batch, 32)
    p = decoder(z)
    x, logits = p.from_uniform(torch.rand(batch, *shape))
    walk = seconds(lambda: p.sample(), rounds)
    apart = (decoder.head(decoder.network.given(x, decoder.network(z))) - logits).abs().max().item()
    passes = {name: full_pass(decoder, x, z, layout, rounds) for name, layout in LAYOUTS.items()}
    layout = min(passes, key=passes.get)
    full = passes[layout]
    return {"pass": full, "layout": layout, "walk": walk, "ratio": full * side * side / walk, "apart": apart}


def full_pass(
    decoder: BernoulliLikelihood, x: torch.Tensor, z: torch.Tensor, layout: torch.memory_format, rounds: int
) -> float:
    """Seconds from codes and images to logits, with weights and maps in that layout."""
    decoder = decoder.to(memory_format=layout)
    x = x.to(memory_format=layout)

    def once() -> torch.Tensor:
        return decoder.head(decoder.network.given(x, decoder.network(z).to(memory_format=layout)))

    return seconds(once, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--maps", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name, value in machine.facts(asked.threads).items():
        print(f"{name}: {value}")
    found = measure(asked.batch, asked.side, asked.maps, asked.rounds)
    print(f"{asked.batch} images of {asked.side}x{asked.side}, {asked.maps} maps")
    print(f"one full pass {found['pass']:.3f} s ({found['layout']}), times {asked.side**2} pixels")
    print(f"pixel by pixel {found['walk']:.3f} s")
    print(f"ratio {found['ratio']:.0f} (target {TARGET:.0f}); largest difference of logits {found['apart']:.1e}")


if __name__ == "__main__":
    main()

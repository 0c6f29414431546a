"""PixelCNN decoder: each pixel given the code and the pixels before it, in raster order.

The decoder of MAE (Ma et al. 2019, arXiv:1901.01498), after van den Oord et al. (2016), arXiv:1601.06759, and the
smaller one of VLAE (Chen et al. 2017, arXiv:1611.02731). The code enters as further maps beside the image, which every
position sees in full.

Such a network is no function of z alone, so it offers a likelihood three things: ``network(z)``, the maps that the code
becomes; ``given(x, maps)``, features of all positions at once; and ``walk``, which goes through the positions one
after the other, keeping what later ones need.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from elboroom.errors import InputError
from elboroom.networks import resnet
from elboroom.networks.conv import SMALLEST, check_image
from elboroom.networks.layers import activation as activation_named
from elboroom.networks.normalized import Causal, Conv, Linear
from elboroom.numerics import full_precision

BACK = 3  # a long skip leaps over so many blocks

Choose = Callable[[int, int, Float[Tensor, "n outputs"]], Float[Tensor, "n channels"]]
"""(row, column, outputs of the head there) -> the pixels there, all channels."""


class Bottleneck(nn.Module):
    """1x1 convolution to half the maps, activation, causal k x k, activation, 1x1 back, plus the input, activation."""

    def __init__(self, maps: int, narrow: int, kernel: int, activation: str) -> None:
        super().__init__()
        self.activation = activation_named(activation)
        self.first, self.middle, self.last = (
            Conv(maps, narrow, 1),
            Causal(narrow, narrow, kernel),
            Conv(narrow, maps, 1),
        )

    def forward(self, x: Float[Tensor, "batch maps height width"]) -> Float[Tensor, "batch maps height width"]:
        h = self.activation(self.middle(self.activation(self.first(x))))
        return self.activation(x + self.last(h))


class Decoder(nn.Module):
    """A causal convolution of image and code maps, residual bottlenecks with long skips, and a 1x1 convolution.

    Before block i = 3, 4, ... the running value gets a further bottleneck of block i - 3's output (block 0 is the first
    convolution), after the last block one more: n - 1 of them for n blocks, each with the kernel of block i - 2.

    VLAE has no long skips (``skips=False``), one block applied again and again (``tied=True``), and a residual network
    through which the code comes to it (``code_channels``).

    Args:
        latent: dimensions of the code.
        shape: of one image. The channels of a pixel are independent of each other, given the pixels before.
        maps: of the running value; bottlenecks have half as many.
        kernels: of the blocks; one of kernel 1 mixes the maps of a position.
        first: kernel of the first convolution, which alone does not see its own position.
        code_maps: maps that the code becomes.
        code_channels: they come through a `resnet.Decoder` of these channels; without them, by a linear layer.
        code_extra: its blocks of stride 1 before each doubling.
        skips: whether there are long skips.
        tied: blocks of the same kernel, one after the other, are one block applied again.
        activation: by name.
    """

    def __init__(
        self,
        latent: int,
        shape: tuple[int, ...],
        maps: int = 64,
        kernels: tuple[int, ...] = (7, 7, 5, 5, 3, 3),
        first: int = 7,
        code_maps: int = 4,
        code_channels: tuple[int, ...] = (),
        code_extra: int = 0,
        skips: bool = True,
        tied: bool = False,
        activation: str = "elu",
    ) -> None:
        super().__init__()
        check_kernels(first, kernels)
        check_image("pixelcnn", shape, smallest=SMALLEST if code_channels else 1)
        self.shape, self.maps = tuple(shape), maps
        self.activation = activation_named(activation)
        self.code = nn.Sequential(
            *code_network(latent, (code_maps, *shape[1:]), code_channels, code_extra, activation), self.activation
        )
        self.first = Causal(shape[0], maps, first, centre=False, free=code_maps)
        runs = [(k, len(list(same))) for k, same in itertools.groupby(kernels)] if tied else [(k, 1) for k in kernels]
        self.blocks = nn.ModuleList(Bottleneck(maps, maps // 2, k, activation) for k, _ in runs)
        self.repeats = [times for _, times in runs]
        self.skips = nn.ModuleList(Bottleneck(maps, maps // 2, k, activation) for k in kernels[:-1] if skips)
        self.mix = Conv(maps, maps, 1)

    @property
    def applied(self) -> list[Bottleneck]:
        """The blocks in the order in which they are applied, a tied one as often as it is."""
        return [block for block, times in zip(self.blocks, self.repeats, strict=True) for _ in range(times)]

    def head(self, outputs: int) -> nn.Module:
        """A 1x1 convolution to that many outputs per channel, [batch, outputs x channels, height, width]."""
        return Conv(self.maps, outputs * self.shape[0], 1)

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch code_maps height width"]:
        """The maps that codes become."""
        return self.code(z)

    def given(
        self, x: Float[Tensor, "batch channels height width"], maps: Float[Tensor, "batch code_maps height width"]
    ) -> Float[Tensor, "batch maps height width"]:
        """Features of every position, each from the pixels before it and from the code's maps."""
        h = self.activation(self.first(torch.cat([x.to(maps.dtype), maps], dim=1)))
        return self.activation(self.mix(through(h, self.applied, self.skips)))

    def walk(
        self, maps: Float[Tensor, "n code_maps height width"], head: nn.Module, choose: Choose
    ) -> tuple[Float[Tensor, "n channels height width"], Float[Tensor, "n outputs height width"]]:
        """Position after position: the pixels that ``choose`` gave, and the outputs of ``head`` that it gave them for.

        Exact: what a position needs of those before it is kept, not approximated. Without gradient, and in the
        precision of the weights.
        """
        with torch.no_grad(), full_precision(maps.device):
            return _Walk(self, head, maps.to(self.first.bias.dtype))(choose)


def check_kernels(first: int, kernels: tuple[int, ...]) -> None:
    """InputError for kernels without a centre, a first one that sees nothing, and a network without blocks."""
    if not kernels or first < 3 or any(k % 2 == 0 or k < 1 for k in (first, *kernels)):
        raise InputError(
            "the 'pixelcnn' decoder needs a block or more, with odd kernels, and a first one from 3 up, got "
            f"{list(kernels)} and {first}."
        )


def code_network(
    latent: int, shape: tuple[int, ...], channels: tuple[int, ...], extra: int, activation: str
) -> list[nn.Module]:
    """Layers from a code to maps of that shape."""
    if not channels:
        return [Linear(latent, math.prod(shape)), nn.Unflatten(1, shape)]
    network = resnet.Decoder(latent, shape, channels, extra, activation)
    return [network, network.head(1), nn.Flatten(1, 2)]


def through(h: Tensor, blocks: list[Any], skips: nn.ModuleList | list[Any]) -> Tensor:
    """The running value after all blocks; each skip joins it `BACK` blocks after where it came from."""
    outputs = [h]
    for block in blocks:
        outputs.append(block(joined(h, outputs, skips)))
        h = outputs[-1]
    return joined(h, outputs, skips)


def joined(h: Tensor, outputs: list[Tensor], skips: nn.ModuleList | list[Any]) -> Tensor:
    """The running value with the skip that is due before the next block, if any."""
    origin = len(outputs) - BACK
    return h + skips[origin](outputs[origin]) if 0 <= origin < len(skips) else h


# position after position


class _Memory:
    """The last rows of what a causal convolution reads, and what the rows above add to the current one.

    Channels stand last, so that the stretch of a row to the left of a position is one run of numbers. The rows above
    are complete when a row begins, so their part is one convolution for the whole row; a position then adds the few
    entries of its own row.
    """

    def __init__(self, weight: Tensor, centre: bool, n: int, width: int) -> None:
        outputs, channels, _, kernel = weight.shape
        self.reach, self.width, self.left = kernel // 2, width, kernel // 2 + centre
        self.above = weight[:, :, : self.reach].contiguous()
        row = weight[:, :, self.reach, : self.left]
        self.row = row.permute(2, 1, 0).reshape(self.left * channels, outputs).contiguous()
        self.rows = weight.new_zeros(n, self.reach + 1, width + 2 * self.reach, channels)

    def next_row(self) -> Float[Tensor, "n outputs width"]:
        """Begin a row: what the rows above it add at every position."""
        self.rows = torch.roll(self.rows, -1, dims=1)
        self.rows[:, -1] = 0
        if not self.reach:
            return self.rows.new_zeros(len(self.rows), self.row.shape[1], self.width)
        return F.conv2d(self.rows[:, :-1].permute(0, 3, 1, 2), self.above).squeeze(2)

    def store(self, column: int, value: Float[Tensor, "n channels"]) -> None:
        self.rows[:, -1, self.reach + column] = value

    def beside(self, column: int) -> Float[Tensor, "n run"]:
        """What this row holds to the left of a position, and at it where the convolution sees that."""
        return self.rows[:, -1, column : column + self.left].flatten(1)


class _Dense:
    """A 1x1 convolution at one position."""

    def __init__(self, layer: Conv) -> None:
        self.weight, self.bias = layer.weight.flatten(1).t().contiguous(), layer.bias

    def __call__(self, h: Float[Tensor, "n inputs"]) -> Float[Tensor, "n outputs"]:
        return torch.addmm(self.bias, h, self.weight)


class _Step:
    """A `Bottleneck` at one position after the other."""

    def __init__(self, block: Bottleneck, n: int, width: int) -> None:
        self.activation, self.first, self.last = block.activation, _Dense(block.first), _Dense(block.last)
        self.memory, self.bias = _Memory(block.middle.weight, True, n, width), block.middle.bias
        self.column, self.base = 0, None

    def next_row(self) -> None:
        above = self.memory.next_row() + self.bias[:, None]
        self.column, self.base = 0, above.permute(2, 0, 1).contiguous()

    def __call__(self, h: Float[Tensor, "n maps"]) -> Float[Tensor, "n maps"]:
        self.memory.store(self.column, self.activation(self.first(h)))
        middle = torch.addmm(self.base[self.column], self.memory.beside(self.column), self.memory.row)
        self.column += 1
        return self.activation(h + self.last(self.activation(middle)))


class _Walk:
    """A `Decoder` at one position after the other, for n codes side by side."""

    def __init__(self, network: Decoder, head: nn.Module, maps: Float[Tensor, "n code_maps height width"]) -> None:
        n, (channels, self.height, self.width) = len(maps), network.shape
        self.activation, self.mix, self.head = network.activation, _Dense(network.mix), _Dense(head)
        self.blocks = [_Step(block, n, self.width) for block in network.applied]
        self.skips = [_Step(block, n, self.width) for block in network.skips]
        weight = network.first.weight
        self.image = _Memory(weight[:, :channels], False, n, self.width)
        code = F.conv2d(maps, weight[:, channels:], network.first.bias, padding=network.first.kernel // 2)
        self.code = code.permute(2, 3, 0, 1).contiguous()  # [height, width, n, maps]

    def __call__(self, choose: Choose) -> tuple[Tensor, Tensor]:
        rows = [self._row(i, choose) for i in range(self.height)]
        pixels, outputs = (torch.stack(part, dim=2) for part in zip(*rows, strict=True))
        return pixels, outputs

    def _row(
        self, i: int, choose: Choose
    ) -> tuple[Float[Tensor, "n channels width"], Float[Tensor, "n outputs width"]]:
        for step in (*self.blocks, *self.skips):
            step.next_row()
        base = self.code[i] + self.image.next_row().permute(2, 0, 1)
        pixels, outputs = [], []
        for j in range(self.width):
            outputs.append(self._position(base[j], j))
            pixels.append(choose(i, j, outputs[-1]))
            self.image.store(j, pixels[-1])
        return torch.stack(pixels, dim=-1), torch.stack(outputs, dim=-1)

    def _position(self, base: Float[Tensor, "n maps"], j: int) -> Float[Tensor, "n outputs"]:
        h = self.activation(torch.addmm(base, self.image.beside(j), self.image.row))
        return self.head(self.activation(self.mix(through(h, self.blocks, self.skips))))

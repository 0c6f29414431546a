r"""Layers whose weight is a direction and a length for each output: :math:`w = e^s\, v / \|v\|`.

Salimans & Kingma (2016), arXiv:1602.07868, eq. (2), with the length stored as its logarithm s. A mask is applied to v
*before* the norm is taken, so that a masked unit's length is that of what it sees. Masked-out numbers are parameters
that never get a gradient: the counts of the papers include them.
"""

import abc
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FIRST = 0.05  # deviation of the first directions; their length does not matter
TINY = 1e-12  # a unit whose weights are all masked has norm 0, and stays 0


class Normalized(nn.Module, abc.ABC):
    """What the layers share: direction, log of the length, bias, and perhaps a mask.

    Lengths begin at ``spread``: 1 keeps the variance of inputs that are independent and of variance 1.
    ``init: data-dependent`` fits length and bias to the images instead.

    Args:
        shape: of the weight.
        unit: the dimension of the weight along which the outputs stand.
        mask: 1 where a weight is seen, of a shape that broadcasts to ``shape``; None: everywhere.
        spread: first length, and the standard deviation that data-dependent initialization gives the outputs.
    """

    channel = 1  # the dimension of the output along which the units stand

    def __init__(
        self, shape: tuple[int, ...], unit: int = 0, mask: Float[Tensor, "..."] | None = None, spread: float = 1.0
    ) -> None:
        super().__init__()
        self.unit, self.spread = unit, spread
        self.direction = nn.Parameter(FIRST * torch.randn(shape))
        self.log_gain = nn.Parameter(torch.full((shape[unit],), math.log(spread)))
        self.bias = nn.Parameter(torch.zeros(shape[unit]))
        self.register_buffer("mask", mask, persistent=False)

    @property
    def weight(self) -> Float[Tensor, "..."]:
        """The weight in use: zero where it is masked, and of length exp(s) for each output."""
        v = self.seen(self.direction)
        if self.mask is not None:
            v = v * self.seen(self.mask)
        others = [d for d in range(v.dim()) if d != self.unit]
        norm = torch.linalg.vector_norm(v, dim=others, keepdim=True).clamp_min(TINY)
        return v * (self.log_gain.exp().reshape([-1 if d == self.unit else 1 for d in range(v.dim())]) / norm)

    def seen(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The part of a weight in which anything is unmasked."""
        return weight

    @torch.no_grad()
    def rescale_(self, mean: Float[Tensor, " units"], factor: Float[Tensor, " units"]) -> None:
        """Change length and bias so that the outputs y become (y - mean) factor."""
        self.bias.copy_((self.bias - mean) * factor)
        self.log_gain.add_(factor.log())

    @torch.no_grad()
    def he_(self) -> None:
        """Lengths of sqrt(2) times the layer's ``spread``: N(0, 2 / inputs) in direction and in mean length; biases
        zero."""
        nn.init.normal_(self.direction, std=FIRST)
        self.log_gain.fill_(math.log(self.spread) + 0.5 * math.log(2))
        self.bias.zero_()


class Linear(Normalized):
    """A linear layer; ``mask`` is [outputs, inputs]."""

    channel = -1

    def __init__(self, inputs: int, outputs: int, mask: Tensor | None = None, spread: float = 1.0) -> None:
        super().__init__((outputs, inputs), mask=mask, spread=spread)

    def forward(self, x: Float[Tensor, "*lead inputs"]) -> Float[Tensor, "*lead outputs"]:
        return F.linear(x, self.weight, self.bias)


class Conv(Normalized):
    """A convolution.

    One of kernel 1 takes what its stride leaves of the input first, see `Transposed`.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padding: int = 0
    ) -> None:
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        super().__init__((outputs, inputs, height, width))
        self.stride, self.padding = stride, padding
        self.thins = (height, width, padding) == (1, 1, 0) and stride > 1

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch outputs h w"]:
        if self.thins:
            return F.conv2d(x[:, :, :: self.stride, :: self.stride], self.weight, self.bias)
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class Transposed(Normalized):
    """A transposed convolution, whose outputs stand second in the weight.

    One of kernel 1 and stride s is a product at each position, set s apart. It is computed as that: less work, and
    oneDNN (in torch 2.13; its issue 6035) writes beyond its memory in the gradient of such a layer, channels last,
    where the fine side has fewer than eight channels (sixteen with AVX-512).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        output_padding: tuple[int, int] = (0, 0),
    ) -> None:
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        super().__init__((inputs, outputs, height, width), unit=1)
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.spreads = (height, width, padding) == (1, 1, 0) and stride > 1

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch outputs h w"]:
        if self.spreads:
            return self._spread(F.conv2d(x, self.weight.transpose(0, 1)))
        return F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding)

    def _spread(self, coarse: Float[Tensor, "batch outputs height width"]) -> Float[Tensor, "batch outputs h w"]:
        """The bias, with these numbers added ``stride`` apart."""
        last = coarse.is_contiguous(memory_format=torch.channels_last)
        sides = [(n - 1) * self.stride + 1 + p for n, p in zip(coarse.shape[2:], self.output_padding, strict=True)]
        bias = self.bias.to(coarse.dtype).reshape(-1, 1, 1).expand(*coarse.shape[:2], *sides)
        out = bias.clone(memory_format=torch.channels_last if last else torch.contiguous_format)
        out[:, :, :: self.stride, :: self.stride] += coarse
        return out


def raster_mask(kernel: int, centre: bool) -> Float[Tensor, "1 1 kernel kernel"]:
    """1 at the positions of a window that come before its centre in raster order, and at the centre if wanted."""
    mask = torch.zeros(kernel * kernel)
    mask[: kernel * kernel // 2 + centre] = 1
    return mask.reshape(1, 1, kernel, kernel)


class Causal(Normalized):
    """A convolution that sees what comes before a position in raster order, and with ``centre`` the position itself.

    The rows below the centre are masked for every unit, so they are cropped and never computed. ``free`` further
    inputs, which stand after the others, are seen through the whole window; then nothing is cropped.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, centre: bool = True, free: int = 0) -> None:
        mask = raster_mask(kernel, centre).expand(1, inputs, -1, -1)
        if free:
            mask = torch.cat([mask, torch.ones(1, free, kernel, kernel)], dim=1)
        self.kernel, self.rows = kernel, kernel if free else kernel // 2 + 1
        super().__init__((outputs, inputs + free, kernel, kernel), mask=mask.contiguous())

    def seen(self, weight: Float[Tensor, "out channels kernel kernel"]) -> Float[Tensor, "out channels rows kernel"]:
        return weight[:, :, : self.rows]

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch outputs height width"]:
        reach = self.kernel // 2
        if self.rows == self.kernel:
            return F.conv2d(x, self.weight, self.bias, padding=reach)
        return F.conv2d(F.pad(x, (0, 0, reach, 0)), self.weight, self.bias, padding=(0, reach))

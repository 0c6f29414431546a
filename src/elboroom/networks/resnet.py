"""Residual networks with normalized weights: the encoder of MAE, and the decoder of its "ResNet VAE".

Ma et al. (2019), arXiv:1901.01498, after Chen et al. (2017), arXiv:1611.02731, and Kingma et al. (2016),
arXiv:1606.04934, whose networks (a block of stride 1 between those that halve) are `extra` blocks here.
"""

import itertools

from jaxtyping import Float
from torch import Tensor, nn

from elboroom.networks.conv import check_image, sizes
from elboroom.networks.layers import activation as activation_named
from elboroom.networks.normalized import Conv, Linear, Transposed


def halved(size: tuple[int, ...], times: int) -> list[tuple[int, int]]:
    """Height and width before and after each halving, rounded up: 28 -> 14 -> 7 -> 4."""
    return list(zip(*(sizes(side, times, kernel=3) for side in size[:2]), strict=True))


class Block(nn.Module):
    """3x3 convolution (stride s), activation, 3x3 convolution, plus the shortcut, activation.

    The shortcut is the input itself, or where size or width change a 1x1 convolution of stride s.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str) -> None:
        super().__init__()
        self.activation = activation_named(activation)
        self.first, self.second = Conv(inputs, outputs, 3, stride, padding=1), Conv(outputs, outputs, 3, padding=1)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else Conv(inputs, outputs, 1, stride)

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs h w"]:
        return self.activation(self.second(self.activation(self.first(x))) + self.shortcut(x))


class Encoder(nn.Module):
    """Blocks that halve the image, each followed by ``extra`` that do not; then a convolution over all that is left.

    Args:
        shape: of one image.
        channels: maps of each block that halves.
        extra: blocks of stride 1 after each of these.
        hidden: features at the end, which the posterior's last layer reads.
        activation: by name.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: tuple[int, ...] = (32, 64, 64),
        extra: int = 0,
        hidden: int = 512,
        activation: str = "elu",
    ) -> None:
        super().__init__()
        check_image("resnet", shape)
        body: list[nn.Module] = []
        for before, after in itertools.pairwise((shape[0], *channels)):
            body.append(Block(before, after, 2, activation))
            body += [Block(after, after, 1, activation) for _ in range(extra)]
        left = halved(shape[1:], len(channels))[-1]
        body += [Conv(channels[-1], hidden, left), activation_named(activation), nn.Flatten()]
        self.body, self.features = nn.Sequential(*body), hidden

    def head(self, outputs: int) -> nn.Module:
        """A linear layer with normalized weights."""
        return Linear(self.features, outputs)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features"]:
        return self.body(x)


class TransposedBlock(nn.Module):
    """Activation, transposed 3x3 (stride s), activation, transposed 3x3, plus a transposed 1x1 of the same activated
    input where size or width change; nothing after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int, left_over: tuple[int, int], activation: str) -> None:
        super().__init__()
        self.activation = activation_named(activation)
        self.first = Transposed(inputs, outputs, 3, stride, 1, left_over)
        self.second = Transposed(outputs, outputs, 3, 1, 1)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else Transposed(inputs, outputs, 1, stride, 0, left_over)

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs h w"]:
        x = self.activation(x)
        return self.second(self.activation(self.first(x))) + self.shortcut(x)


def doubling(
    inputs: int, outputs: int, small: tuple[int, int], large: tuple[int, int], activation: str
) -> TransposedBlock:
    """A block from one size to the next: 2n - 1, and one more where the larger size is even."""
    left_over = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)
    return TransposedBlock(inputs, outputs, 2, left_over, activation)


class Decoder(nn.Module):
    """A transposed convolution from one point to the smallest maps, then blocks that double them.

    The last doubling is the head, which the likelihood owns.

    Args:
        latent: dimensions of the code.
        shape: of one image.
        channels: maps of the smallest size and after each doubling but the last.
        extra: blocks of stride 1 before each doubling.
        activation: by name.
    """

    def __init__(
        self,
        latent: int,
        shape: tuple[int, ...],
        channels: tuple[int, ...] = (64, 64, 32),
        extra: int = 0,
        activation: str = "elu",
    ) -> None:
        super().__init__()
        check_image("resnet", shape)
        self.shape, self.activation, self.width = tuple(shape), activation, channels[-1]
        self.sizes = halved(shape[1:], len(channels))[::-1]
        body: list[nn.Module] = [nn.Unflatten(1, (latent, 1, 1)), Transposed(latent, channels[0], self.sizes[0])]
        body.append(activation_named(activation))
        for i, width in enumerate(channels):
            body += [TransposedBlock(width, width, 1, (0, 0), activation) for _ in range(extra)]
            if i + 1 < len(channels):
                body.append(doubling(width, channels[i + 1], self.sizes[i], self.sizes[i + 1], activation))
        self.body = nn.Sequential(*body)

    def head(self, outputs: int) -> nn.Module:
        """The last doubling, to the image's size, with that many outputs per channel: [batch, outputs, *shape]."""
        last = doubling(self.width, outputs * self.shape[0], self.sizes[-2], self.sizes[-1], self.activation)
        return nn.Sequential(last, nn.Unflatten(1, (outputs, self.shape[0])))

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch channels height width"]:
        return self.body(z)

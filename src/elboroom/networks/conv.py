"""The convolutional networks of μ-VAE (Ucar 2019, arXiv:1910.13181, table 4), and their like for other image sizes."""

import itertools

from jaxtyping import Float
from torch import Tensor, nn

from elboroom.errors import InputError
from elboroom.networks.layers import activation as activation_named

SMALLEST, LARGEST = 8, 64


def sizes(side: int, halvings: int, kernel: int) -> list[int]:
    """The side of the maps before and after each layer that halves: 28 -> [28, 14, 7] for two halvings."""
    result = [side]
    for _ in range(halvings):
        result.append((result[-1] + 1) // 2 if kernel == 3 else result[-1] // 2)
    if result[-1] == 0:
        raise InputError(
            f"nothing is left of a side of {side} after {halvings} halvings with a kernel of {kernel}. "
            "Give the 'conv' network fewer channels, or a kernel of 3."
        )
    return result


def check_image(kind: str, shape: tuple[int, ...], smallest: int = SMALLEST) -> None:
    """Images of up to 64x64 with any number of channels; InputError for anything else."""
    if len(shape) != 3 or not all(smallest <= side <= LARGEST for side in shape[1:]):
        raise InputError(
            f"the '{kind}' networks take images of {smallest}x{smallest} to {LARGEST}x{LARGEST}; the data has shape "
            f"{tuple(shape)}. Choose the 'mlp' networks, or resize the images (--data.size 28)."
        )


def same_size(kernel: int, inputs: int, outputs: int) -> list[nn.Module]:
    """A convolution that keeps the size; the even kernel is padded by 1 before and 2 after."""
    if kernel == 3:
        return [nn.Conv2d(inputs, outputs, 3, padding=1)]
    return [nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(inputs, outputs, 4)]


class _Crop(nn.Module):
    """Drops the last row and column, by which an even transposed kernel at stride 1 is too large."""

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels h w"]:
        return x[..., :-1, :-1]


def transposed_same(kernel: int, inputs: int, outputs: int) -> list[nn.Module]:
    """A transposed convolution that keeps the size."""
    layer = nn.ConvTranspose2d(inputs, outputs, kernel, padding=1)
    return [layer] if kernel == 3 else [layer, _Crop()]


def doubling(kernel: int, inputs: int, outputs: int, small: tuple[int, int], large: tuple[int, int]) -> nn.Module:
    """A transposed convolution of stride 2 between two given sizes (odd sizes need another output padding)."""
    padding = tuple(b - (2 * a - 2 + kernel - 2) for a, b in zip(small, large, strict=True))
    return nn.ConvTranspose2d(inputs, outputs, kernel, stride=2, padding=1, output_padding=padding)


class Encoder(nn.Module):
    """One convolution that keeps the size, then one of stride 2 for each further number of channels."""

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: tuple[int, ...] = (64, 64, 64),
        kernel: int = 3,
        activation: str = "leaky-relu",
    ) -> None:
        super().__init__()
        check_image("conv", shape)
        halvings = len(channels) - 1
        height, width = (sizes(side, halvings, kernel)[-1] for side in shape[1:])
        body: list[nn.Module] = [*same_size(kernel, shape[0], channels[0]), activation_named(activation)]
        for before, after in itertools.pairwise(channels):
            body += [nn.Conv2d(before, after, kernel, stride=2, padding=1), activation_named(activation)]
        self.body = nn.Sequential(*body, nn.Flatten())
        self.features = channels[-1] * height * width

    def head(self, outputs: int) -> nn.Module:
        """A linear layer on the flattened last maps."""
        return nn.Linear(self.features, outputs)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features"]:
        return self.body(x)


class Decoder(nn.Module):
    """A linear layer to the smallest maps, a transposed convolution that keeps them, then doublings."""

    def __init__(
        self,
        latent: int,
        shape: tuple[int, ...],
        channels: tuple[int, ...] = (64, 64, 32),
        kernel: int = 3,
        activation: str = "leaky-relu",
    ) -> None:
        super().__init__()
        check_image("conv", shape)
        self.kernel, self.shape, self.channels = kernel, tuple(shape), tuple(channels)
        self.grid = list(zip(*(sizes(side, len(channels) - 1, kernel)[::-1] for side in shape[1:]), strict=True))
        small = (channels[0], *self.grid[0])
        body: list[nn.Module] = [nn.Linear(latent, channels[0] * small[1] * small[2]), activation_named(activation)]
        body += [nn.Unflatten(1, small), *transposed_same(kernel, channels[0], channels[1])]
        body.append(activation_named(activation))
        for i, (before, after) in enumerate(itertools.pairwise(channels[1:])):
            body += [doubling(kernel, before, after, self.grid[i], self.grid[i + 1]), activation_named(activation)]
        self.body = nn.Sequential(*body)

    def head(self, outputs: int) -> nn.Module:
        """The last doubling, to the image's size, with that many outputs per channel: [batch, outputs, *shape]."""
        last = doubling(self.kernel, self.channels[-1], outputs * self.shape[0], self.grid[-2], self.grid[-1])
        return nn.Sequential(last, nn.Unflatten(1, (outputs, self.shape[0])))

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch channels height width"]:
        return self.body(z)

"""p(x|z) of binary pixels, each given those before it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor
from torch.distributions import Distribution

from elboroom.numerics import event_sum

TOGETHER = 256  # codes that are walked side by side: more cost memory and gain no speed

Logits = Callable[[Float[Tensor, "n *event"], Integer[Tensor, " n"] | None], Float[Tensor, "n *event"]]
Walk = Callable[[slice, Callable], tuple[Tensor, Tensor]]


class AutoregressiveBernoulli(Distribution):
    r"""Binary pixels in raster order: :math:`\log p(x|z) = \sum_i \log p(x_i \mid x_{<i}, z)`.

    ``log_prob`` takes one pass of the network for all pixels; ``sample`` takes as many short steps as there are
    positions.

    Args:
        batch: the batch shape, that of the codes.
        event: the shape of one image, [channels, height, width].
        logits: (images, index of each one's code) -> the logits of their pixels, each from the pixels before it.
        walk: (codes as a slice, choose) -> pixels and their logits, position after position;
            ``choose(row, column, logits)`` gives the pixels there.
        like: a tensor of the networks' device and type.
    """

    arg_constraints = {}

    def __init__(
        self, batch: tuple[int, ...], event: tuple[int, ...], logits: Logits, walk: Walk, like: Tensor
    ) -> None:
        self._logits, self._walk, self._like = logits, walk, like
        super().__init__(torch.Size(batch), torch.Size(event), validate_args=False)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Of images whose leading shape broadcasts with that of the codes (nats)."""
        lead = torch.broadcast_shapes(value.shape[: -len(self.event_shape)], self.batch_shape)
        x = value.expand(*lead, *self.event_shape).reshape(-1, *self.event_shape).to(self._like.dtype)
        logits = self._logits(x, self._codes_of(lead))
        by_pixel = x * logits - F.softplus(logits)
        return event_sum(by_pixel, len(self.event_shape)).reshape(lead)

    def _codes_of(self, lead: tuple[int, ...]) -> Tensor | None:
        """The number of the code of each image; None where they stand in the same order."""
        if tuple(lead) == tuple(self.batch_shape):
            return None
        index = torch.arange(self.batch_shape.numel(), device=self._like.device).reshape(self.batch_shape)
        return index.expand(lead).reshape(-1)

    def sample(
        self, sample_shape: tuple[int, ...] = (), generator: torch.Generator | None = None
    ) -> Float[Tensor, "..."]:
        """Images pixel by pixel, from the generator where one is given."""
        shape = self._extended_shape(torch.Size(sample_shape))
        device = self._like.device if generator is None else generator.device
        uniform = torch.rand(shape, generator=generator, device=device, dtype=self._like.dtype)
        return self.from_uniform(uniform.to(self._like.device))[0]

    @property
    def mean(self) -> Float[Tensor, "..."]:
        r"""An estimate of E[x|z]: the probabilities :math:`p(x_i = 1 \mid x_{<i}, z)` along one sampled image.

        E[x|z] itself would take all images. This is unbiased over the noise of the path, which is fixed, and the same
        for every code: what is decoded is a function of z alone, and pictures of neighbouring codes can be compared.
        """
        generator = torch.Generator().manual_seed(0)
        uniform = torch.rand(self.event_shape, generator=generator, dtype=torch.float64)
        shape = self._extended_shape()
        return torch.sigmoid(self.from_uniform(uniform.to(self._like).expand(shape))[1])

    @torch.no_grad()
    def from_uniform(self, uniform: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """Images that follow from uniform noise (a pixel is 1 where its noise is below its probability), and their
        logits."""
        lead = uniform.shape[: -len(self.event_shape)]
        flat = uniform.reshape(-1, self.batch_shape.numel(), *self.event_shape)
        pairs = [self._walked(part) for part in flat]
        return tuple(torch.stack(part).reshape(*lead, *self.event_shape) for part in zip(*pairs, strict=True))

    def _walked(self, uniform: Float[Tensor, "n *event"]) -> tuple[Tensor, Tensor]:
        pairs = []
        for start in range(0, len(uniform), TOGETHER):
            part = slice(start, min(start + TOGETHER, len(uniform)))
            noise = uniform[part]
            pairs.append(self._walk(part, lambda i, j, logits, u=noise: (u[..., i, j] < logits.sigmoid()).to(u.dtype)))
        return tuple(torch.cat(part) for part in zip(*pairs, strict=True))

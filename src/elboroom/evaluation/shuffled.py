"""The shuffled-code test: does the decoder listen to the code?"""

import torch
from jaxtyping import Float
from torch import Tensor

from elboroom.errors import InputError
from elboroom.evaluation.subject import Found, Subject
from elboroom.evaluation.views import mean_score
from elboroom.models import VAE


def shuffled_codes(subject: Subject, *, images: int = 2000) -> Found:
    r"""Nats by which the reconstruction gets worse when every image is decoded from the code of another one.

    .. math:: \Delta_i = \log p(x_i | z_i) - \log p(x_i | z_{\pi(i)}), \qquad z_i \sim q(z | x_i)

    0 where the decoder ignores z, whatever the rate is. Codes move along one cycle through a fixed permutation of the
    images, so none stays at home.

    Raises:
        InputError: fewer than two images.
    """
    count = min(images, subject.seen.count)
    if count < 2:
        raise InputError("one image has no other's code. Evaluate 2 images at the least, or leave the metric out.")
    chosen = subject.permutation(subject.seen.count, "shuffled codes")[:count]
    device = subject.seen.examples.rows.device
    z = subject.code("z")[chosen].to(device)
    x = subject.seen.examples.fixed(chosen.to(device)).x
    worse = log_px(subject.model, x, z) - log_px(subject.model, x, z.roll(1, 0))
    held = subject.code_protocol(estimator=f"codes of {count} images rolled by one", code="z", samples=1)
    return Found([mean_score("shuffled-codes", worse, "nats", "higher", held)])


@torch.no_grad()
def log_px(
    model: VAE, x: Float[Tensor, "n *event"], z: Float[Tensor, "n latent"], size: int = 500
) -> Float[Tensor, " n"]:
    """log p(x|z) of each pair (nats, float64)."""
    pairs = zip(x.split(size), z.split(size), strict=True)
    return torch.cat([model.decoder(b).log_prob(a).double() for a, b in pairs])

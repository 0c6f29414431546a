"""A model with two latents trained on digits, and its evidence by the integral over z on a grid."""

import math
from functools import cache

import torch
from oracles.configurations import small_run
from sklearn.datasets import load_digits
from torch import Tensor

from elboroom import build
from elboroom.models import VAE
from elboroom.numerics import Randomness
from elboroom.objectives import elbo


@cache
def black_and_white() -> Tensor:
    """1,797 real digits of 8x8, black and white."""
    return torch.from_numpy(load_digits().images > 8).float().unsqueeze(1)


@cache
def trained_model() -> VAE:
    """400 steps of Adam on the first 1,500, about two seconds."""
    digits, run = black_and_white(), small_run(latent=2)
    model, random = build.model(run, (1, 8, 8), "binary"), Randomness(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(400):
        x = digits[torch.randint(1500, (100,), generator=random("order", step))]
        elbo(model(x, model.noise(random("noise", step), 1, 100))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def integrated(model: VAE, x: Tensor, step: float, reach: float = 7.0) -> Tensor:
    r"""log of the sum of p(x|z) p(z) step^2 over a grid on [-reach, reach]^2 (the rest of the prior weighs 1e-11)."""
    axis = torch.arange(-reach, reach + step / 2, step)
    total = torch.full((len(x),), -math.inf, dtype=torch.float64)
    for z in torch.cartesian_prod(axis, axis).split(20_000):
        log_px = model.decoder(z[:, None].expand(-1, 1, -1)).log_prob(x[:, None, None]).squeeze(-1).double()
        joint = log_px + model.prior(model.encoder).log_prob(z).double()
        total = torch.logaddexp(total, joint.logsumexp(1))
    return total + 2 * math.log(step)

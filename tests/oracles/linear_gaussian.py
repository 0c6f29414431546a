"""The VAE whose likelihood is known: p(z) = N(0, I), p(x|z) = N(W z + b, variance I), with linear networks.

p(x) = N(b, W W^T + variance I) and p(z|x) = N(S W^T (x - b) / variance, S), S = (I + W^T W / variance)^-1 (any text on
factor analysis or probabilistic PCA). The columns of W are orthogonal, so S is diagonal and a diagonal posterior is
exact.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from elboroom.models import VAE, GaussianLikelihood, GaussianPosterior, NormalPrior
from elboroom.networks import mlp
from elboroom.records import Base, Draw


def scalar_draw(x: Tensor, k: int, shift: float = 0.0) -> Draw:
    """p(z) = N(0, 1), p(x|z) = N(z, 0.5^2): p(x) = N(0, 1.25) and p(z|x) = N(0.8 x, 0.2), here moved by ``shift``."""
    loc = 0.8 * x + shift
    q = Normal(loc, math.sqrt(0.2))
    z = q.sample((k,))
    base = Base("gaussian", loc[:, None], torch.full_like(loc, math.log(0.2))[:, None])
    return Draw(z[..., None], Normal(z, 0.5).log_prob(x), Normal(0.0, 1.0).log_prob(z), q.log_prob(z), base)


def scalar_evidence(x: Tensor) -> Tensor:
    """log N(x; 0, 1.25)."""
    return Normal(0.0, math.sqrt(1.25)).log_prob(x)


@dataclass
class LinearGaussian:
    """A VAE built from the toolkit's own modules, with its exact answers in float64."""

    model: VAE
    weight: Tensor  # W, [d, latent]
    bias: Tensor  # b, [d]
    variance: float
    posterior_variance: Tensor  # diagonal of S, [latent]

    def evidence(self, x: Tensor) -> Tensor:
        """log p(x), nats."""
        covariance = self.weight @ self.weight.T + self.variance * torch.eye(len(self.bias), dtype=torch.float64)
        return MultivariateNormal(self.bias, covariance).log_prob(x.double())

    def gap(self, shift: float) -> float:
        """KL from the posterior moved by ``shift`` in each latent to the exact one: sum_k shift^2 / (2 S_kk)."""
        return float((shift**2 / (2 * self.posterior_variance)).sum())


def linear_gaussian(
    dims: int = 6, latent: int = 3, variance: float = 0.25, shift: float = 0.0, dtype: torch.dtype = torch.float32
) -> LinearGaussian:
    """Its encoder gives the exact posterior, moved by ``shift`` in every latent."""
    generator = torch.Generator().manual_seed(3)
    columns, _ = torch.linalg.qr(torch.randn(dims, latent, generator=generator, dtype=torch.float64))
    weight = columns * torch.linspace(0.5, 1.5, latent, dtype=torch.float64)
    bias = torch.randn(dims, generator=generator, dtype=torch.float64)
    posterior_variance = 1 / (1 + weight.square().sum(0) / variance)
    to_mean = posterior_variance[:, None] * weight.T / variance
    encoder = GaussianPosterior(mlp.Encoder((dims,), hidden=()), latent)
    decoder = GaussianLikelihood(mlp.Decoder(latent, (dims,), hidden=()), (dims,), variance=variance, mean="identity")
    model = VAE(encoder, NormalPrior(latent), decoder).to(dtype).eval()
    with torch.no_grad():
        encoder.head.weight.copy_(torch.cat([to_mean, torch.zeros_like(to_mean)]))
        encoder.head.bias.copy_(torch.cat([shift - to_mean @ bias, posterior_variance.log()]))
        decoder.head[0].weight.copy_(weight)
        decoder.head[0].bias.copy_(bias)
    return LinearGaussian(model, weight, bias, variance, posterior_variance)


def examples(oracle: LinearGaussian, n: int) -> Tensor:
    """n rows x ~ p(x), float32."""
    generator = torch.Generator().manual_seed(5)
    latent, dims = oracle.weight.shape[1], oracle.weight.shape[0]
    z = torch.randn(n, latent, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, dims, generator=generator, dtype=torch.float64)
    return (z @ oracle.weight.T + oracle.bias + math.sqrt(oracle.variance) * noise).float()

"""Where codes to be decoded come from: the prior, or a density fitted to training codes after the training.

Codes of a plain autoencoder, and clipped ones, do not follow the prior, so that draws from it say little of what the
decoder can do. A density fitted to the codes ex post is the fair way to sample every model alike.
Ghosh et al. (2020), "From variational to deterministic autoencoders", arXiv:1903.12436: a full-covariance Gaussian, or
a mixture of 10.
"""

import warnings
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from elboroom.errors import InputError
from elboroom.evaluation.subject import Subject

COMPONENTS = 10
STEPS = 100
"""Of the EM of a mixture at most."""


@runtime_checkable
class Source(Protocol):
    """What codes can be drawn from."""

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]: ...


class Gaussian:
    """N(m, S) with the mean and the covariance of codes, whatever the rank of that covariance; of one code a point."""

    def __init__(self, z: Float[Tensor, "n latent"]) -> None:
        z = z.double()
        self.mean = z.mean(0)
        covariance = torch.cov(z.T, correction=min(1, len(z) - 1)).reshape(z.shape[1], z.shape[1])
        values, vectors = torch.linalg.eigh(covariance)
        self.root = vectors * values.clamp_min(0).sqrt()

    def from_noise(self, noise: Float[Tensor, "m latent"]) -> Float[Tensor, "m latent"]:
        """Draws made of standard normal noise."""
        return (self.mean + noise.double() @ self.root.T).float()

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """n codes."""
        noise = torch.randn(n, len(self.mean), generator=generator, device=generator.device)
        return self.from_noise(noise.to(self.mean.device))


class Mixture:
    """Gaussians of full covariance, fitted to codes by scikit-learn's EM from a fixed seed.

    Covariances get 1e-6 on the diagonal, so that codes on a plane (duplicated or dead dimensions) can be fitted too.
    """

    def __init__(self, z: Float[Tensor, "n latent"], components: int = COMPONENTS, seed: int = 0) -> None:
        from sklearn.mixture import GaussianMixture  # here, since it is slow to import

        k = min(components, len(z))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # codes of fewer distinct values than components; for EM, see `doubt`
            model = GaussianMixture(k, covariance_type="full", reg_covar=1e-6, max_iter=STEPS, random_state=seed)
            fitted = model.fit(z.double().cpu().numpy())
        self.converged = bool(fitted.converged_)
        self.weights = torch.as_tensor(fitted.weights_)
        self.means = torch.as_tensor(fitted.means_)
        self.roots = torch.linalg.cholesky(torch.as_tensor(fitted.covariances_))

    @property
    def doubt(self) -> str | None:
        """A sentence where EM stopped before it had converged (the likelihood still rose by more than 1e-3 nats a
        code); None where it had."""
        if self.converged:
            return None
        return f"the mixture fitted to the codes had not converged after {STEPS} steps of EM; a better fit may exist."

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """n codes, on the CPU."""
        picked = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        for k, (mean, root) in enumerate(zip(self.means, self.roots, strict=True)):  # not [n, latent, latent] at once
            z[picked == k] = mean + z[picked == k] @ root.T
        return z.float()


def source(subject: Subject, kind: str) -> Source:
    """``prior``, or a ``gaussian`` or ``mixture`` fitted to one sampled z of each training example.

    Raises:
        InputError: training codes that are not finite.
    """
    if kind == "prior":
        return subject.model.prior(subject.model.encoder)
    return {"gaussian": Gaussian, "mixture": Mixture}[kind](finite(subject.code("z", "train")))


def finite(z: Float[Tensor, "n latent"]) -> Float[Tensor, "n latent"]:
    """Codes as they are; InputError where some are not finite, since nothing can be fitted to them."""
    bad = int((~z.isfinite()).any(1).sum())
    if bad:
        raise InputError(f"{bad:,} of {len(z):,} codes are not finite. Train anew, or evaluate an earlier checkpoint.")
    return z

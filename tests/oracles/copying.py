"""Models whose code is the image itself, so that what they make is known."""

from pathlib import Path

import torch
from oracles.configurations import small_run
from oracles.small_data import data_of, run_of
from torch import Tensor

from elboroom.evaluation.subject import Subject
from elboroom.models import VAE, GaussianLikelihood, NormalPrior, PointPosterior
from elboroom.networks import mlp


def copying(dims: int, *, copies: int = 1, constant: Tensor | None = None) -> VAE:
    """z = (x, ... x), so many copies; the mean of p(x|z) is the first of them, or the same image whatever z is."""
    latent = dims * copies
    decoder = GaussianLikelihood(mlp.Decoder(latent, (dims,), hidden=()), (dims,), mean="identity")
    encoder = PointPosterior(mlp.Encoder((dims,), hidden=()), latent)
    with torch.no_grad():
        encoder.head.weight.copy_(torch.eye(dims).repeat(copies, 1))
        encoder.head.bias.zero_()
        decoder.head[0].weight.zero_()
        decoder.head[0].bias.copy_(torch.zeros(dims) if constant is None else constant)
        if constant is None:
            decoder.head[0].weight[:, :dims] = torch.eye(dims)
    return VAE(encoder, NormalPrior(latent), decoder).eval()


def subject_of(folder: Path, model: VAE, x: Tensor, labels: Tensor | None, **more: object) -> Subject:
    """A model under evaluation on data made by hand."""
    run = run_of(small_run(), model, tuple(x.shape[1:]))
    run.__dict__.update(folder=folder, data=data_of(x, labels))
    return Subject(run, **more)


def blobs(n: int = 200, dims: int = 6, classes: int = 2, apart: float = 4) -> tuple[Tensor, Tensor]:
    """Normal vectors around a centre for each class, so many standard deviations apart, and their classes."""
    generator = torch.Generator().manual_seed(4)
    labels = torch.arange(n) % classes
    centres = apart / 2**0.5 * torch.eye(classes, dims)
    return centres[labels] + torch.randn(n, dims, generator=generator), labels

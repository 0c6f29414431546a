"""Distortion, rate, ELBO and importance-sampled NLL of each example."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from elboroom.evaluation.views import View, mean_score, protocol
from elboroom.models import VAE
from elboroom.models.evidence import Evidence, log_evidence
from elboroom.numerics import Randomness
from elboroom.objectives.bounds import rate as rate_of
from elboroom.runs import Run
from elboroom.scores import Score

ELBO_SAMPLES = 10
IMPORTANCE = "importance sampling"
"""Estimator of the scores by importance weights, as protocols say it."""


@dataclass(frozen=True)
class Bound:
    """Values per example, averaged over copies (nats, float64); no rate for a point posterior."""

    distortion: Float[Tensor, " n"]
    rate: Float[Tensor, " n"] | None
    rate_by_dimension: Float[Tensor, " latent"] | None


@torch.no_grad()
def bound(model: VAE, seen: View, samples: int = ELBO_SAMPLES, seed: int = 0) -> Bound:
    """Distortion (with ``samples`` draws of z) and rate (in closed form where there is one) of each example."""
    device = seen.examples.rows.device
    distortion = torch.zeros(seen.count, dtype=torch.float64, device=device)
    rate = torch.zeros_like(distortion)
    by_dimension, random = [], Randomness(seed, device)
    for copy in range(seen.copies):
        for index, batch in seen.batches(copy=copy):
            draw = model(batch.x, model.noise(random("elbo", int(index[0]), copy), samples, len(index)))
            distortion[index] -= draw.log_px.double().mean(0) / seen.copies
            if draw.log_qz is not None:
                rate[index] += rate_of(draw).double() / seen.copies
            if draw.rate is not None:
                by_dimension.append(draw.rate.double().sum(0))
    if model.encoder.noise(random("elbo"), 1, 1).shape[-1] == 0:
        return Bound(distortion, None, None)
    total = sum(by_dimension) / (seen.count * seen.copies) if by_dimension else None
    return Bound(distortion, rate, total)


def bound_scores(run: Run, seen: View, found: Bound, samples: int = ELBO_SAMPLES) -> list[Score]:
    """distortion, rate and elbo; under grey-bce the sum is named what it is, since it bounds no log p(x)."""
    held = protocol(run, seen, estimator="posterior samples", samples=samples)
    scores = [mean_score("distortion", found.distortion, "nats", "lower", held)]
    if found.rate is None:
        return scores
    closed = held if found.rate_by_dimension is None else protocol(run, seen, estimator="closed form")
    scores.append(mean_score("rate", found.rate, "nats", "", closed))
    offset = run.model.decoder.offset(run.shape)
    total = -(found.distortion + found.rate)
    if offset is None:
        return [*scores, mean_score("bound/grey-bce", total, "nats", "higher", held)]
    return [*scores, mean_score("elbo", total + offset, "nats", "higher", held)]


@torch.no_grad()
def evidence(
    model: VAE, seen: View, samples: int, *, seed: int = 0, progress: Callable[[int, int], None] = lambda a, b: None
) -> Evidence:
    """The importance-weighted bound of each example, averaged over copies, in memory that does not grow with K."""
    device = seen.examples.rows.device
    bounds = torch.zeros(seen.count, dtype=torch.float64, device=device)
    effective = torch.zeros_like(bounds)
    done, total = 0, seen.count * seen.copies
    for copy in range(seen.copies):
        for index, batch in seen.batches(copy=copy):
            found = log_evidence(model, batch.x, index, samples, seed=seed, copy=copy)
            bounds[index] += found.bound / seen.copies
            effective[index] += found.effective_samples / seen.copies
            done += len(index)
            progress(done, total)
    return Evidence(bounds, effective)


def nll_scores(run: Run, seen: View, found: Evidence, samples: int) -> list[Score]:
    """nll = -(importance-weighted bound), with the mean effective sample size beside it.

    Of a posterior that does not cover the prior the bound is named what it is: no number of samples brings log p(x).
    """
    held = protocol(run, seen, estimator=IMPORTANCE, samples=samples)
    values, effective = found.bound + run.density_offset(), found.effective_samples
    if not run.model.encoder.covers:
        return [mean_score("bound/importance", values, "nats", "higher", held)]
    return [
        mean_score("nll", -values, "nats", "lower", held),
        mean_score("nll/effective-samples", effective, "samples", "higher", held),
    ]

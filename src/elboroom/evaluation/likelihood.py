"""Distortion, rate, ELBO and importance-sampled NLL of each example, and whether the NLL can be trusted."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from elboroom.evaluation.partial import Partial, mean_of_copies
from elboroom.evaluation.views import View, mean_score, protocol
from elboroom.models import VAE
from elboroom.models.evidence import Evidence, evidence_by_block, row_bytes
from elboroom.numerics import Randomness
from elboroom.objectives.bounds import rate as rate_of
from elboroom.runs import Run
from elboroom.scores import Score

ELBO_SAMPLES = 10
BYTES = 2 << 30
"""Memory that decoding for the ELBO may take, by the upper limit of `row_bytes`; a network frees most on the way."""
IMPORTANCE = "importance sampling"
"""Estimator of the scores by importance weights, as protocols say it."""
ESTIMATES = ("nll", "bound/importance")
"""Names of the scores at all K samples: what it is called depends on whether the posterior covers the prior."""
FEW = 10
"""Effective samples under which an image's bound is called loose: the bias of the logarithm is about 1 / (2 ESS), so
0.05 nats here, and it grows fast below, where the effective sample size itself is overestimated."""
LOW_SHARE = 5.0
"""Share of such images (%) from which on the mean is called not converged: one image in twenty."""
FALL = 0.1
"""Nats by which the mean may fall from K/10 to K samples before it is called not converged. Where weights have a
variance the gap falls as 1/K, so a ninth of that, about 0.01 nats, is left at K: the last digit that papers print.
Where they have none, about as much is left as fell last, and models that differ by 0.1 nats are called different."""


@dataclass(frozen=True)
class Bound:
    """Values per example, averaged over copies (nats, float64); no rate for a point posterior."""

    distortion: Float[Tensor, " n"]
    rate: Float[Tensor, " n"] | None
    rate_by_dimension: Float[Tensor, " latent"] | None


@torch.no_grad()
def bound(model: VAE, seen: View, samples: int = ELBO_SAMPLES, seed: int = 0) -> Bound:
    """Distortion (with ``samples`` draws of z) and rate (in closed form where there is one) of each example.

    As many samples are decoded at a time as some `BYTES` hold, one at least.
    """
    device = seen.examples.rows.device
    distortion = torch.zeros(seen.count, dtype=torch.float64, device=device)
    rate = torch.zeros_like(distortion)
    by_dimension, random = [], Randomness(seed, device)
    together = _at_once(model, seen)
    for copy, index, batch in seen.all_copies():
        noise = model.noise(random("elbo", int(index[0]), copy), samples, len(index))
        for part in noise.split(together):
            draw, share = model(batch.x, part), len(part) / samples / seen.copies
            distortion[index] -= draw.log_px.double().mean(0) * share
            if draw.log_qz is not None:
                rate[index] += rate_of(draw).double() * share
        if draw.rate is not None:
            by_dimension.append(draw.rate.double().sum(0))
    if model.encoder.noise(random("elbo"), 1, 1).shape[-1] == 0:
        return Bound(distortion, None, None)
    total = sum(by_dimension) / (seen.count * seen.copies) if by_dimension else None
    return Bound(distortion, rate, total)


def _at_once(model: VAE, seen: View) -> int:
    """Samples of a batch that are decoded together."""
    index, batch = next(seen.batches())
    each = row_bytes(model.decoder, batch.x.new_zeros(1, model.encoder.latent), batch.x[:1])
    return max(1, BYTES // (len(index) * each))


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


def marks(samples: int) -> tuple[int, ...]:
    """Where the bound is read on the way to K samples: powers of ten up to K, and K/10."""
    powers = {10**i for i in range(len(str(samples))) if 10**i <= samples}
    return tuple(sorted(powers | {samples // 10} - {0}))


def columns(samples: int) -> tuple[str, ...]:
    """What `evidence` keeps of each example while it is under way."""
    return ("bound", "effective", *(f"along/{mark}" for mark in marks(samples)))


def evidence(
    model: VAE,
    seen: View,
    samples: int,
    *,
    seed: int = 0,
    partial: Partial | None = None,
    progress: Callable[[int, int], None] = lambda a, b: None,
) -> Evidence:
    """The importance-weighted bound of each example, averaged over copies, in memory that does not grow with K.

    Args:
        model: with a posterior that has a density.
        seen: the examples.
        samples: K.
        seed: of the noise.
        partial: where numbers are kept on the way (of `columns`). What it holds already is not computed again,
            and the result is bit for bit that of an evaluation that was not interrupted.
        progress: told (done, total) after each block, whose numbers are kept by then; it may raise.
    """
    held = partial or Partial(None, "nll", "", columns(samples), seen.count * seen.copies)
    with held:
        for copy, index, batch in seen.all_copies():
            begin = held.done - copy * seen.count - int(index[0])
            more = {"seed": seed, "copy": copy, "marks": marks(samples), "begin": begin}
            for found in evidence_by_block(model, batch.x, index, samples, **more):
                along = {f"along/{mark}": values for mark, values in found.along.items()}
                held.add(bound=found.bound, effective=found.effective_samples, **along)
                progress(held.done, held.total)
    mean = {k: mean_of_copies(v, seen.copies).to(seen.examples.rows.device) for k, v in held.columns.items()}
    return Evidence(mean["bound"], mean["effective"], {mark: mean[f"along/{mark}"] for mark in marks(samples)})


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


def way_scores(run: Run, seen: View, found: Evidence, samples: int) -> list[Score]:
    """The bound at k = 1, 10, 100, ... up to K samples, and the share of images that rest on a few of them.

    ``nll/bound/k`` is the mean over images of minus the log of the mean of the first k weights; ``nll/bound/1`` takes
    the mean log-weight of all K, which is the ELBO by the same samples. ``nll`` itself is at K.
    """
    covers, offset = run.model.encoder.covers, run.density_offset()
    name, sign, better = ("nll/bound", -1, "lower") if covers else ("bound/importance", 1, "higher")
    scores = []
    for mark in (m for m in found.along if f"{m}".strip("0") == "1"):
        first = {"estimator": "mean log-weight", "samples": samples}
        held = protocol(run, seen, **(first if mark == 1 else {"estimator": IMPORTANCE, "samples": mark}))
        scores.append(mean_score(f"{name}/{mark}", sign * (found.along[mark] + offset), "nats", better, held))
    if not covers:
        return scores
    held = protocol(run, seen, estimator=f"{IMPORTANCE}, fewer than {FEW} effective samples", samples=samples)
    return [*scores, mean_score("nll/low-share", low_share(found.effective_samples), "%", "lower", held)]


def low_share(effective: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """100 for each image with fewer than ten effective samples (or with a number that is none), else 0."""
    return 100 * (~(effective >= FEW)).double()


def doubt(found: Evidence, samples: int, covers: bool = True) -> str | None:
    """Why the estimate at K samples is not the limit yet, in a sentence with the cure; None where it seems to be.

    A rule of thumb (`FALL`, `LOW_SHARE`), and one-sided: heavy tails that no sample has met yet are not seen.
    """
    share = low_share(found.effective_samples).mean().item()
    before = found.along.get(samples // 10)
    fall = 0.0 if before is None else (found.bound - before).mean().item()
    if abs(fall) <= FALL and share <= LOW_SHARE:  # a NaN is not
        return None
    moves, would = ("falls", "lower the NLL") if covers else ("rises", "raise the bound")
    still = f"it still {moves if fall >= 0 else 'moves'} by {abs(fall):.2g} nats"
    moving = f"{still} from {samples // 10:,} to {samples:,} samples; "
    return (
        f"not converged: {moving if before is not None else ''}{share:.3g} % of images have fewer than {FEW} effective "
        f"samples. More samples (`--samples {10 * samples}`) would {would}, or use `--metrics ais`."
    )

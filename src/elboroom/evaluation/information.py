r"""What the posteriors tell about the examples, and where all codes together lie (nats, float64).

Over the scored split the aggregate posterior is the mixture :math:`q(z) = \frac1N \sum_n q(z | x_n)`, so all that is
said of it here is a mean of log-densities. `pairs`, `information` and `dimensions` look at a run; the rest takes
posteriors and codes made by hand.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor
from torch.distributions import Distribution

from elboroom.distributions import (
    Diagonal,
    DiagonalLaplace,
    DiagonalNormal,
    Standard,
    pairwise_kl,
    rate_by_dimension,
)
from elboroom.errors import InputError
from elboroom.evaluation.subject import Found, Subject
from elboroom.evaluation.views import mean_score
from elboroom.records import Base
from elboroom.scores import Score

PIECE_BYTES = 8 << 20  # of one float64 tensor of log-densities or divergences [rows, n, latent]
BINS = 50

# The posteriors of a split ------------------------------------------------------------------------------------------

REBUILT = {
    DiagonalNormal: lambda mean, log_var: DiagonalNormal(mean, log_var),
    DiagonalLaplace: lambda mean, log_var: DiagonalLaplace(mean, (log_var - math.log(2)) / 2),
}
"""Type of q(z|x) -> the same from its mean and the log of its variance, which are what codes keep."""

NO_DENSITY = {
    "point": "a point posterior has no density, and a code without noise tells all",
    "uniform": "the density of a uniform is 0 at nearly all codes of other examples, where its logarithm is infinite",
}


def posteriors(subject: Subject) -> Diagonal:
    """q(z|x) of every example of the scored split (its first binarization), in float64.

    Raises:
        InputError: a posterior that is neither a diagonal Gaussian nor a diagonal Laplace.
    """
    found, device = subject.codes(), subject.seen.examples.rows.device  # kept codes are read onto the CPU
    first = subject.seen.examples.fixed(torch.zeros(1, dtype=torch.int64, device=device))
    with torch.no_grad():
        q = subject.model.encoder(first.x)
    if type(q) not in REBUILT:
        why = NO_DENSITY.get(q.family, "its density is not that of a diagonal distribution")
        raise InputError(
            f"the posterior '{q.family}' has no divergences or mixtures to measure: {why}. "
            "Train with the posterior gaussian or laplace, or leave the metric out."
        )
    return REBUILT[type(q)](found.mean.to(device).double(), found.log_var.to(device).double())


def by_dimension(q: Diagonal) -> Diagonal:
    """The same posteriors with the dimensions in the batch, so that a log-density is one of a dimension."""
    return type(q)(*(p.unsqueeze(-1) for p in q.parameters))


def pieces(count: int, others: int, latent: int) -> Iterator[slice]:
    """Rows, a few at a time, of a [count, others, latent] that would be too large."""
    size = max(1, PIECE_BYTES // (8 * others * latent))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


# Pairs of posteriors ------------------------------------------------------------------------------------------------


def pair_statistics(q: Diagonal) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    r"""Mean and unbiased standard deviation of :math:`\sum_k \mathrm{KL}_{ijk}` over the B(B-1) ordered pairs i ≠ j.

    MPD and STD of Ma, Zhou & Hovy (2019), arXiv:1901.01498, table 4. The mean over all B² pairs, which their theorem 1
    speaks of, is smaller by the factor (B-1)/B. NaN for a batch of one, which has no pairs.
    """
    base, batch = Base(q.family, q.loc, q.log_var), len(q.loc)
    rows = pieces(batch, batch, q.loc.shape[1])
    sums = torch.cat([pairwise_kl(base, part).sum(-1) for part in rows])
    values = sums[~torch.eye(batch, dtype=torch.bool, device=sums.device)]
    return values.mean(), values.std()


def weighted(values: Float[Tensor, " n"], weights: Float[Tensor, " n"]) -> tuple[float, float | None]:
    """The weighted mean and its standard error, that of the plain mean where all weights are equal."""
    mean = (weights * values).sum() / weights.sum()
    if len(values) < 2:
        return mean.item(), None
    spread = (weights * (values - mean)).square().sum() * len(values) / (len(values) - 1)
    return mean.item(), (spread.sqrt() / weights.sum()).item()


def pairs(subject: Subject, *, batch: int = 100, weighting: str = "batches") -> Found:
    """Mean and spread of the divergence between posteriors within batches of the scored split.

    The examples go through a fixed permutation, since neighbours in a sorted split are no fair pairs. Both numbers are
    means over batches, with the standard error of that mean; a last batch of one has no pairs and is left out.

    Args:
        subject: what is looked at.
        batch: examples of a batch; the mean does not depend on it, but for chance.
        weighting: ``batches``: a smaller last batch counts as much as the others (as in the paper's program);
            ``pairs``: by its number of pairs.

    Raises:
        InputError: a posterior without such a divergence, or fewer than two examples.
    """
    q = posteriors(subject)
    order = subject.permutation(len(q.loc), "pairs").to(q.loc.device)
    parts = [part for part in order.split(batch) if len(part) > 1]
    if not parts:
        raise InputError("one example has no pairs. Evaluate 2 at the least, or leave the metric out.")
    found = torch.tensor([pair_statistics(q.at(part)) for part in parts], dtype=torch.float64)
    counts = torch.tensor([float(len(p) * (len(p) - 1)) for p in parts], dtype=torch.float64)
    weights = counts if weighting == "pairs" else torch.ones_like(counts)
    held = subject.code_protocol(estimator=f"closed form, ordered pairs in batches of {batch}, mean over {weighting}")
    scores = []
    for name, values in zip(("mpd", "mpd-std"), found.T, strict=True):
        mean, error = weighted(values, weights)
        seen = sum(len(part) for part in parts)
        scores.append(Score(name=name, value=mean, unit="nats", better="", stderr=error, examples=seen, protocol=held))
    return Found(scores)


# Information and the aggregate posterior ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Mixture:
    """log q(z) of the aggregate posterior and the sum of log q(z_j) of its dimensions, at each code (nats)."""

    together: Float[Tensor, "k m"]
    apart: Float[Tensor, "k m"]


@dataclass(frozen=True)
class Information:
    """The parts of log q(z|x) - log p(z) at each code; their means are the estimates (nats, float64).

    ``aggregate_kl`` and ``dimension_kl`` are None where there is no prior, the latter also where its dimensions are not
    independent.
    """

    mutual_information: Float[Tensor, "k m"]
    total_correlation: Float[Tensor, "k m"]
    aggregate_kl: Float[Tensor, "k m"] | None
    dimension_kl: Float[Tensor, "k m"] | None

    def named(self) -> dict[str, Float[Tensor, "k m"]]:
        """By the name of its score, without what there is not."""
        return {name.replace("_", "-"): value for name, value in vars(self).items() if value is not None}


def mixtures(q: Diagonal, z: Float[Tensor, "k m latent"]) -> tuple[Mixture, Mixture]:
    """The aggregate posterior of all N posteriors, and of the other N - 1, at codes of the first m of them.

    Args:
        q: N posteriors, two at the least.
        z: k codes of each of the first m.
    """
    k, m, latent = z.shape
    each, own = by_dimension(q), torch.arange(m, device=z.device).repeat(k)
    parts = [_mixture_logs(each, z.flatten(0, 1)[rows], own[rows]) for rows in pieces(k * m, len(q.loc), latent)]
    logs = [torch.cat(part).reshape(k, m) for part in zip(*parts, strict=True)]
    return Mixture(*logs[:2]), Mixture(*logs[2:])


def _mixture_logs(
    each: Diagonal, z: Float[Tensor, "rows latent"], own: Integer[Tensor, " rows"]
) -> tuple[Float[Tensor, " rows"], ...]:
    """log q(z) and the sum of log q(z_j), with the code's own posterior and then without."""
    everywhere = z[:, None, :, None].expand(-1, len(each.loc), -1, -1)
    log_q = each.log_prob(everywhere)  # [rows, N, latent]
    rows, n = torch.arange(len(z), device=z.device), log_q.shape[1]
    home, log_joint = log_q[rows, own], log_q.sum(-1)
    log_q[rows, own], log_joint[rows, own] = -math.inf, -math.inf
    others, others_apart = torch.logsumexp(log_joint, 1), torch.logsumexp(log_q, 1)
    together = torch.logaddexp(others, home.sum(-1)) - math.log(n)
    apart = (torch.logaddexp(others_apart, home) - math.log(n)).sum(-1)
    return together, apart, others - math.log(n - 1), (others_apart - math.log(n - 1)).sum(-1)


def prior_by_dimension(p: Distribution | None, z: Float[Tensor, "k m latent"]) -> Float[Tensor, "k m latent"] | None:
    """log p(z_j) of each dimension under a fixed prior, whose dimensions are independent; else None."""
    return p.log_prob(z.unsqueeze(-1)) if isinstance(p, Standard) else None


def _log_prior(p: Distribution | None, z: Float[Tensor, "k m latent"]) -> Float[Tensor, "k m"] | None:
    """log p(z) of a learned prior, which may be a network in float32."""
    return None if p is None else p.log_prob(z.float()).double()


def split_rate(
    q: Diagonal, z: Float[Tensor, "k m latent"], p: Distribution | None = None
) -> tuple[Information, Information]:
    r"""The rate in its parts at codes z, with and without the code's own posterior in the mixture q(z).

    .. math:: \log\frac{q(z|x)}{p(z)} = \underbrace{\log\frac{q(z|x)}{q(z)}}_{I(x;z)}
       + \underbrace{\log\frac{q(z)}{\prod_j q(z_j)}}_{\text{total correlation}}
       + \underbrace{\sum_j \log\frac{q(z_j)}{p(z_j)}}_{\text{dimension-wise KL}}

    of which the last two are :math:`\mathrm{KL}(q(z) \| p(z))`: Hoffman & Johnson (2016), "ELBO surgery", and Chen et
    al. (2018), arXiv:1802.04942, eq. (2). The sum is exact at every code.

    With its own posterior in it (the first result) q(z) is the aggregate of these N examples, of which every estimate
    is unbiased; the information is at most log N. For the population that the examples come from, the information is
    too small in expectation, and too large without its own posterior: Poole et al. (2019), arXiv:1905.06922 (InfoNCE
    and leave-one-out, with a known conditional density). The KL to the prior errs the other way round. The two differ
    by far where N posteriors do not overlap: then N examples do not tell the information of the population.

    Args:
        q: posteriors of N examples, two at the least, in float64.
        z: k codes of each of the first m, drawn from their posteriors.
        p: the prior, if its parts are wanted.
    """
    own = q.at(torch.arange(z.shape[1], device=z.device)).log_prob(z)
    marginals = prior_by_dimension(p, z)
    log_p = _log_prior(p, z) if marginals is None else marginals.sum(-1)
    found = []
    for mixture in mixtures(q, z):
        found.append(
            Information(
                mutual_information=own - mixture.together,
                total_correlation=mixture.together - mixture.apart,
                aggregate_kl=None if log_p is None else mixture.together - log_p,
                dimension_kl=None if marginals is None else mixture.apart - marginals.sum(-1),
            )
        )
    return found[0], found[1]


def information(subject: Subject, *, samples: int = 2000, components: int = 10_000) -> Found:
    """Mutual information of example and code, and what the codes of all examples look like beside the prior.

    Scores by the mixture of all posteriors, and under ``/leave-one-out`` by that of all but the code's own; what each
    is an estimate of is said in `split_rate`. The rate, too, is above the information. The standard error is over
    images; the share of the mixture in it is of second order, since the mean of q(z|x) / q(z) over q(z) is 1.

    Args:
        subject: what is looked at.
        samples: codes at which the mixture is taken: of so many examples, or several of each where there are fewer.
        components: posteriors in the mixture at most, the first of a fixed permutation.

    Raises:
        InputError: a posterior without a density, or fewer than two examples.
    """
    q = posteriors(subject)
    if len(q.loc) < 2:
        raise InputError("one example makes no aggregate posterior. Evaluate 2 at the least, or leave the metric out.")
    q = q.at(subject.permutation(len(q.loc), "information")[:components].to(q.loc.device))
    total, latent = q.loc.shape
    m = min(samples, total)
    k = max(1, samples // m)
    noise = q.noise((k, m, latent), subject.random("information"), q.loc.device)
    with torch.no_grad():
        z, _ = q.at(torch.arange(m, device=q.loc.device)).rsample_with_log_prob(noise)
        inside, outside = split_rate(q, z, subject.model.prior(subject.model.encoder))
    return Found(_parts_scores(subject, inside, total, k, "") + _parts_scores(subject, outside, total, k, LEFT_OUT))


LEFT_OUT = "/leave-one-out"
BIAS = {
    ("mutual-information", ""): "below",
    ("mutual-information", LEFT_OUT): "above",
    ("aggregate-kl", ""): "above",
    ("aggregate-kl", LEFT_OUT): "below",
}
"""On which side of a population's value an estimate lies in expectation, where that is known."""


def _parts_scores(subject: Subject, parts: Information, total: int, samples: int, ending: str) -> list[Score]:
    """The parts under their names with an ending, each with its mixture and its bias in the protocol."""
    mixture = f"mixture of the other {total - 1:,} posteriors" if ending else f"mixture of {total:,} posteriors"
    scores = []
    for name, values in parts.named().items():
        at = f"{mixture}, at codes of {values.shape[1]:,} images"
        side = BIAS.get((name, ending), "on either side")
        most = f", at most log {total:,}" if (name, ending) == ("mutual-information", "") else ""
        how = f"{at}{most}; of a population's value: {side}"
        held = subject.code_protocol(estimator=how, code="z", samples=samples)
        scores.append(mean_score(name + ending, values.mean(0), "nats", "", held))
    return scores


# Each dimension of the codes ----------------------------------------------------------------------------------------


def ks_distance(z: Float[Tensor, "n latent"]) -> Float[Tensor, " latent"]:
    """Kolmogorov-Smirnov distance of each column's distribution from N(0, 1): the largest gap between the two
    distribution functions, between 0 and 1."""
    n = len(z)
    below = torch.special.ndtr(z.sort(0).values)
    steps = torch.arange(n + 1, dtype=z.dtype, device=z.device)[:, None] / n
    return torch.maximum(steps[1:] - below, below - steps[:-1]).amax(0)


def dimension_statistics(z: Float[Tensor, "n latent"]) -> dict[str, Float[Tensor, " latent"]]:
    """Moments of each dimension, and how far it is from N(0, 1) and from a Gaussian of its own mean and spread.

    Skewness and excess kurtosis are the plain moment ratios, 0 for a Gaussian. A dimension that does not vary has no
    shape: NaN.
    """
    z = z.double()
    mean, std = z.mean(0), z.std(0)
    centred = z - mean
    variance = centred.square().mean(0)
    return {
        "mean": mean,
        "std": std,
        "skewness": centred.pow(3).mean(0) / variance.pow(1.5),
        "excess-kurtosis": centred.pow(4).mean(0) / variance.square() - 3,
        "ks": ks_distance(z),
        "ks-own-gaussian": torch.where(std > 0, ks_distance(centred / std.where(std > 0, 1.0)), math.nan),
    }


def histograms(
    z: Float[Tensor, "n latent"], bins: int = BINS
) -> tuple[Int64[Tensor, "latent bins"], Float[Tensor, "latent edges"]]:
    """Counts and edges of equal bins from the least to the largest value of each dimension."""
    low, high = z.amin(0), z.amax(0)
    width = (high - low).where(high > low, 1.0)
    index = ((z - low) / width * bins).long().clamp(0, bins - 1)
    counts = torch.zeros(z.shape[1], bins, dtype=torch.int64, device=z.device)
    counts.scatter_add_(1, index.T, torch.ones_like(index.T))
    return counts, low[:, None] + width[:, None] * torch.linspace(0, 1, bins + 1, dtype=z.dtype, device=z.device)


def dimensions(subject: Subject, *, bins: int = BINS) -> Found:
    """How the sampled codes are distributed in each dimension, beside a standard normal.

    Three scores, each a mean over dimensions: of the absolute mean, of the standard deviation, and of the
    Kolmogorov-Smirnov distance from N(0, 1). A mean over dimensions hides which of them are far: all statistics and a
    histogram of every
    dimension are in the file ``dimensions``, with the rate (where it has a closed form) and the variance of the
    posterior mean.
    """
    found = subject.codes()
    arrays = dimension_statistics(found.z)
    arrays["mean-variance"] = found.mean.double().var(0)
    rate = _rate_of_dimensions(subject)
    if rate is not None:
        arrays["rate"] = rate
    arrays["counts"], arrays["edges"] = histograms(found.z.double(), bins)
    values = {"codes/mean-abs": arrays["mean"].abs(), "codes/std-mean": arrays["std"], "codes/ks": arrays["ks"]}
    said = {"codes/ks": "Kolmogorov-Smirnov distance from N(0, 1), mean over dimensions"}
    scores = []
    for name, by_dim in values.items():
        held = subject.code_protocol(estimator=said.get(name, "mean over dimensions"), code="z", samples=1)
        value = by_dim.mean().item()
        scores.append(Score(name=name, value=value, unit="", better="", examples=len(found.z), protocol=held))
    return Found(scores, arrays={"dimensions": {k: v.cpu().contiguous() for k, v in arrays.items()}})


def _rate_of_dimensions(subject: Subject) -> Float[Tensor, " latent"] | None:
    """The mean rate of each dimension where posterior and prior have it in closed form."""
    try:
        q = posteriors(subject)
    except InputError:
        return None
    with torch.no_grad():
        rate = rate_by_dimension(q, subject.model.prior(subject.model.encoder))
    return None if rate is None else rate.mean(0)

r"""log p(x) of models with few latents from both sides, by samples from the posterior itself.

A density fitted to samples of p(z|x) serves twice: averaged over further samples of p(z|x) it gives an estimate that is
too high on average, and as a proposal of importance sampling one that is too low. No encoder is needed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from elboroom.errors import InputError, unknown
from elboroom.evaluation.ais import Noise, Way, blocks
from elboroom.evaluation.partial import Partial, mean_of_copies
from elboroom.evaluation.subject import Found, Progress, Subject
from elboroom.evaluation.views import View, mean_score, protocol, view
from elboroom.models import VAE
from elboroom.models.hmc import JITTER, Point, evaluated, transition
from elboroom.numerics import LOG_2PI, Randomness, StreamingLogMeanExp

FEW_LATENTS = 4
"""Up to which the estimate is given without a doubt: AEVB, appendix D, has it reliable below five."""
STARTS = 20
"""Draws for each chain, of which one is where it begins, chosen by importance weights: a chain that begins in a lesser
mode of the posterior would stay there."""
APART = 10
"""Transitions between the samples that the density is fitted to and those that it is averaged over."""
RATE = 0.2
"""How fast the logarithm of the step moves while it is tuned."""
RIDGE = 1e-6
"""Added to a fitted covariance, as a share of its mean variance: it has an inverse where a dimension hardly moves."""

CROSSED = 0.05
"""Nats by which the mean from below may exceed that from above before a note says so."""


@dataclass(frozen=True)
class Brackets:
    """Of each example: estimates of log p(x) from above and from below (nats, float64), the effective numbers of
    samples behind them, and the mean acceptance of its chains (0-1)."""

    upper: Float[Tensor, " n"]
    lower: Float[Tensor, " n"]
    upper_effective: Float[Tensor, " n"]
    lower_effective: Float[Tensor, " n"]
    acceptance: Float[Tensor, " n"]


COLUMNS = tuple(Brackets.__dataclass_fields__)


class Fitted:
    r"""A density of each example's codes: Gaussians of one covariance around one centre or more.

    ``gaussian`` is :math:`N(m, S)` with mean and covariance of the samples. ``kernels`` is a kernel density: as many
    Gaussians as samples, of covariance :math:`h^2 S`, :math:`h = (4 / ((d + 2) L))^{1/(d + 4)}` (Silverman 1986,
    section 4.3).

    Raises:
        InputError: fewer samples than dimensions + 2; fewer than dimensions + 1 have a covariance without an inverse.
    """

    def __init__(self, z: Float[Tensor, "l n latent"], kind: str = "gaussian") -> None:
        count, _, latent = z.shape
        if count <= latent + 1:
            raise InputError(
                f"a density of {latent} latents cannot be fitted to {count} samples. Take more (samples: {4 * latent})."
            )
        z = z.double()
        apart = z - z.mean(0)
        covariance = torch.einsum("lni,lnj->nij", apart, apart) / (count - 1)
        ridge = RIDGE * covariance.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(torch.float64).tiny)
        root, _ = torch.linalg.cholesky_ex(covariance + ridge[:, None, None] * torch.eye(latent).to(z))
        width = 1.0 if kind == "gaussian" else (4 / ((latent + 2) * count)) ** (1 / (latent + 4))
        self.centres, self.root = z.mean(0, keepdim=True) if kind == "gaussian" else z, width * root

    def log_prob(self, z: Float[Tensor, "m n latent"]) -> Float[Tensor, "m n"]:
        """Nats, float64."""
        apart = (z.double()[:, None] - self.centres).movedim(2, 0)  # [n, m, centres, latent]
        white = torch.linalg.solve_triangular(self.root, apart.flatten(1, 2).mT, upper=False)
        quadratic = white.square().sum(1).reshape(apart.shape[:3])
        volume = self.root.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * z.shape[-1] * LOG_2PI
        each = -0.5 * quadratic - volume[:, None, None]
        return (each.logsumexp(2) - math.log(len(self.centres))).mT

    def draw(self, noise: Float[Tensor, "m n latent"], uniform: Float[Tensor, "m n 1"]) -> Float[Tensor, "m n latent"]:
        """Codes from standard normal noise, each around a centre that uniform noise picks."""
        index = (uniform.double() * len(self.centres)).long().clamp_max(len(self.centres) - 1)
        centres = self.centres.gather(0, index.expand(noise.shape))
        return centres + torch.einsum("nij,mnj->mni", self.root, noise.double())


def brackets_by_block(
    model: VAE,
    x: Float[Tensor, "n *event"],
    rows: Integer[Tensor, " n"],
    *,
    samples: int = 50,
    leapfrog: int = 4,
    burn_in: int = 40,
    acceptance: float = 0.9,
    density: str = "gaussian",
    start: str = "prior",
    seed: int = 0,
    copy: int = 0,
    budget: int = 64 << 20,
    begin: int = 0,
) -> Iterator[Brackets]:
    r"""Estimates of log p(x) from above and from below, a few examples at a time.

    .. math:: \overline{\log p}(x) = -\log \frac1L \sum_l \frac{\hat q(z_l)}{p(z_l)\, p(x|z_l)}, \quad z_l \sim p(z|x),
        \qquad
        \underline{\log p}(x) = \log \frac1L \sum_l \frac{p(z_l)\, p(x|z_l)}{\hat q(z_l)}, \quad z_l \sim \hat q

    with :math:`\hat q` fitted to other samples of p(z|x), earlier ones of the same chains.

    The first is Kingma & Welling (2014), arXiv:1312.6114, appendix D: unbiased for 1/p(x), so by Jensen too high on
    average as an estimate of log p(x); the second, importance sampling, is too low on average. Both are near log p(x)
    where :math:`\hat q` is near p(z|x), which takes few latents.

    As many chains as samples begin at draws of ``start``, chosen by importance weights. In the first half of the
    burn-in they learn a unit of length for each dimension (the spread over the chains) and in the second the step; then
    the density is fitted to where they are, and ten transitions later it is averaged over where they have come to.

    Args:
        model: any that has a likelihood; of its encoder only ``start`` makes use.
        x: examples as the model takes them.
        rows: their row numbers, from which (with ``seed`` and ``copy``) their noise follows.
        samples: L.
        leapfrog: steps of each transition.
        burn_in: transitions before the density is fitted.
        acceptance: that each example's step is tuned to (0-1).
        density: ``gaussian`` or ``kernels``, see `Fitted`.
        start: ``prior`` is p(z), ``posterior`` is q(z|x).
        seed: of the noise.
        copy: which binarization of the images this is.
        budget: bytes that activations and their gradients may take at a time (at least one example is computed).
        begin: the end of a block, from which on the rest is wanted.

    Raises:
        InputError: fewer samples than latents + 2, or a start whose density is not known everywhere.
        ValueError: the posterior is a point.
    """
    for way, noise, _ in blocks(model, x, rows, samples, start, Randomness(seed, x.device), copy, budget, begin):
        yield _block(way, noise, samples, leapfrog, burn_in, acceptance, density)


@torch.no_grad()
def _block(
    way: Way, noise: Noise, samples: int, leapfrog: int, burn_in: int, acceptance: float, density: str
) -> Brackets:
    """All chains of a few examples."""
    chains = _Chains(way, noise, samples, leapfrog, burn_in + APART)
    half = burn_in // 2
    chains.go(half, tuned_to=acceptance)
    chains.measure()
    chains.go(burn_in - half, tuned_to=acceptance)
    fitted = Fitted(chains.point.z, density)
    accepted = chains.go(APART)
    over = StreamingLogMeanExp()
    over.add(fitted.log_prob(chains.point.z) - chains.point.log_p.double())
    z = fitted.draw(
        noise.each("marginal proposal", 0, lambda g: torch.randn(samples, noise.latent, generator=g, device=g.device)),
        noise.each("marginal centres", 0, lambda g: torch.rand(samples, 1, generator=g, device=g.device)),
    ).to(chains.point.z)
    under = StreamingLogMeanExp()
    under.add(way.joint(z).double() - fitted.log_prob(z))
    return Brackets(-over.log_mean, under.log_mean, over.effective_samples, under.effective_samples, accepted)


class _Chains:
    """Chains towards p(z|x) of a few examples, each example with units and a step of its own."""

    def __init__(self, way: Way, noise: Noise, count: int, leapfrog: int, transitions: int) -> None:
        self.way, self.leapfrog, self.unit = way, leapfrog, way.unit
        self.point: Point = evaluated(way.joint, _begun(way, noise, count))
        self._moves = noise.moves("marginal moves", transitions, count)
        drawn = noise.each(
            "marginal jitter", 0, lambda g: torch.rand(transitions, 1, generator=g, device=g.device)
        )  # [transitions, n, 1]
        self._jitter = iter(1 + JITTER * (2 * drawn - 1))
        self._forget_step()

    def _forget_step(self) -> None:
        self.log_step = torch.full_like(self.unit[:, :1], -0.25 * math.log(self.unit.shape[1]))

    def measure(self) -> None:
        """The spread over the chains as units of length, and a step that is tuned anew."""
        self.unit = self.point.z.std(0).clamp_min(1e-3 * self.way.unit)
        self._forget_step()

    def go(self, transitions: int, tuned_to: float | None = None) -> Float[Tensor, " n"]:
        """So many transitions of all chains; their mean acceptance (0-1), to which steps are tuned where it says so."""
        total = torch.zeros_like(self.unit[:, 0], dtype=torch.float64)
        for _ in range(transitions):
            momentum, log_uniform = next(self._moves)
            step = self.log_step.exp() * next(self._jitter) * self.unit
            moved = transition(self.way.joint, self.point, momentum, log_uniform[..., 0], step, self.leapfrog)
            self.point, accepted = moved.point, moved.acceptance.mean(0)
            total += accepted.double() / transitions
            if tuned_to is not None:
                self.log_step = self.log_step + RATE * (accepted[:, None] - tuned_to)
        return total


def _begun(way: Way, noise: Noise, count: int) -> Float[Tensor, "count n latent"]:
    """Where chains begin: some of many draws from the start, by importance weights."""
    z = way.draw("marginal start", STARTS * count)
    log_w = torch.cat([(way.joint(part) - way.start(part)).double() for part in z.split(count)])
    chance = torch.softmax(log_w.nan_to_num(nan=-math.inf), 0).cumsum(0)
    uniform = noise.each("marginal choice", 0, lambda g: torch.rand(count, 1, generator=g, device=g.device))[..., 0]
    index = torch.searchsorted(chance.mT.contiguous(), uniform.double().mT.contiguous()).mT
    return z.gather(0, index.clamp_max(len(z) - 1)[..., None].expand(-1, -1, z.shape[-1]))


def brackets(model: VAE, seen: View, *, partial: Partial, progress: Progress, **settings: object) -> Brackets:
    """`brackets_by_block` of a view, averaged over copies; goes on where ``partial`` ends."""
    with partial:
        for copy, index, batch in seen.all_copies():
            begin = partial.done - copy * seen.count - int(index[0])
            for found in brackets_by_block(model, batch.x, index, copy=copy, begin=begin, **settings):
                partial.add(**vars(found))
                progress("brackets", partial.done, partial.total)
    return Brackets(*(mean_of_copies(partial.columns[name], seen.copies) for name in COLUMNS))


def marginal(
    subject: Subject,
    *,
    images: int = 1000,
    split: str = "test",
    samples: int = 50,
    leapfrog: int = 4,
    burn_in: int = 40,
    acceptance: float = 0.9,
    density: str = "gaussian",
    start: str = "prior",
) -> Found:
    """NLL from both sides by samples of p(z|x) (`brackets_by_block`), of some images of a split: the first ones, or of
    sorted data a fixed sample.

    ``nll/bracket/low`` is AEVB's estimate of its figure 3, on average below -log p(x) by an unknown amount, so a lower
    one is not a better one; ``nll/bracket/high`` is above it on average. Beside them the acceptance of the chains (%)
    and the effective samples of either. Errors are over images; values per example bear the names of the scores, with
    ``/train`` where the split is train.

    Raises:
        InputError: no likelihood, no such split, or fewer samples than latents + 2.
    """
    offset, splits = subject.run.density_offset(), subject.data.splits()
    if split not in splits:
        raise unknown("split", split, splits)
    seen = view(subject.data, split, images)
    settings = {"samples": samples, "leapfrog": leapfrog, "burn_in": burn_in, "acceptance": acceptance}
    settings |= {"density": density, "start": start, "seed": 0}
    partial = subject.partial("marginal", settings, COLUMNS, seen)
    found = brackets(subject.model, seen, partial=partial, progress=subject.progress, **settings)
    how = f"HMC from the {start}, {burn_in} transitions of {leapfrog} leapfrogs, acceptance {acceptance:g}"
    how += f", fitted {density}"
    values = {"nll/bracket/low": -found.upper - offset, "nll/bracket/high": -found.lower - offset}
    held = {
        "nll/bracket/low": protocol(subject.run, seen, estimator=f"posterior samples: {how}", samples=samples),
        "nll/bracket/high": protocol(subject.run, seen, estimator=f"importance sampling: {how}", samples=samples),
    }
    better = {"nll/bracket/low": "", "nll/bracket/high": "lower"}
    scores = [mean_score(name, values[name], "nats", better[name], held[name]) for name in values]
    effective = {"nll/bracket/low": found.upper_effective, "nll/bracket/high": found.lower_effective}
    for name, count in effective.items():
        scores.append(mean_score(f"{name}-effective-samples", count, "samples", "higher", held[name]))
    both = held["nll/bracket/low"]
    scores.append(mean_score("nll/bracket-acceptance", 100 * found.acceptance, "%", "", both))
    ending = "" if split == "test" else f"/{split}"
    note = doubt(found, subject.model.encoder.latent)
    return Found(
        scores,
        {f"{name}{ending}": each for name, each in values.items()},
        notes={f"nll/bracket/low{ending}": note},
    )


def doubt(found: Brackets, latent: int) -> str | None:
    """Why the brackets should not be trusted, in a sentence; None where nothing speaks against them."""
    if latent > FEW_LATENTS:
        return (
            f"{latent} latents: in more than {FEW_LATENTS} dimensions a density fitted to few samples is far from "
            "p(z|x), and so may be what is estimated with it. Trust `nll` or `--metrics ais` instead."
        )
    crossed = (found.lower - found.upper).mean().item()
    if not crossed <= CROSSED:
        return (
            f"the brackets have crossed by {crossed:.2g} nats: the chains have not come to p(z|x). A longer burn-in "
            "(`--metrics '[{kind: marginal, burn_in: 200}]'`) would bring them nearer."
        )
    return None

r"""log p(x) by annealed importance sampling, for models whose posterior is too far off for plain importance sampling.

Chains begin at the approximate posterior (or at the prior) and are led to p(x, z) through tempered densities, so that
what the weights must bridge between two of them is little.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.distributions import Distribution

from elboroom.errors import InputError
from elboroom.evaluation.partial import Partial, mean_of_copies
from elboroom.evaluation.subject import Found, Progress, Subject
from elboroom.evaluation.views import View, mean_score, protocol, view
from elboroom.models import VAE
from elboroom.models.evidence import row_bytes
from elboroom.models.hmc import LogDensity, Moved, Point, evaluated, transition
from elboroom.numerics import Randomness, StreamingLogMeanExp

SHARPNESS = 4.0
"""δ of the sigmoidal schedule, as Wu et al. have it."""
TARGET = 0.65
"""Acceptance that steps are tuned to: Beskos et al. (2013) and Neal (2011), section 4.4."""
PILOTS = 4
"""Chains of the pilot pass."""
WARM = 10
"""Transitions at the first temperature from which the pilot pass learns a first step."""
RATE = 0.2
"""How fast the pilot pass moves the logarithm of the step."""
AT_ONCE = 32
"""Transitions whose noise is drawn at once: fixed, so that the value does not depend on the memory."""
WEAK = 2.0
"""Effective chains under which one chain alone decides an image's estimate."""
WEAK_SHARE = 5.0
"""Share of such images (%) from which on a note says so: one in twenty."""


@dataclass(frozen=True)
class Annealed:
    """Of each example: the lower bound (nats, float64), effective sample size of its chains, mean acceptance (0-1)."""

    bound: Float[Tensor, " n"]
    effective_chains: Float[Tensor, " n"]
    acceptance: Float[Tensor, " n"]


def temperatures(steps: int) -> Float[Tensor, " betas"]:
    r"""0, so many inverse temperatures between, and 1: close together at both ends, where the densities change most.

    .. math:: \beta_t = \frac{\sigma(\delta(2t/T - 1)) - \sigma(-\delta)}{\sigma(\delta) - \sigma(-\delta)}

    Wu et al. (2017), arXiv:1611.04273, section 2.3 of its supplement, with δ = 4.
    """
    s = torch.sigmoid(SHARPNESS * torch.linspace(-1, 1, steps + 2, dtype=torch.float64))
    return (s - s[0]) / (s[-1] - s[0])


@dataclass(frozen=True)
class Way:
    """From the normalized density s(z), which chains are drawn from, to p(x, z), for a few examples."""

    start: LogDensity
    joint: LogDensity
    unit: Float[Tensor, "n latent"]  # the length by which steps are measured in each dimension
    draw: Callable[[str, int], Tensor]  # (purpose, count) -> codes from s(z) [count, n, latent]

    def at(self, beta: float) -> LogDensity:
        """log f of the geometric mean, (1 - β) log s + β log p(x, z)."""
        return lambda z: (1 - beta) * self.start(z) + beta * self.joint(z)

    def ends(self, z: Float[Tensor, "*chains latent"]) -> tuple[Point, Point]:
        """Both ends at z: all tempered densities follow from them."""
        return evaluated(self.start, z), evaluated(self.joint, z)


def mixed(ends: tuple[Point, Point], beta: float) -> Point:
    """The tempered density at a point where both ends are known."""
    s, p = ends
    return Point(s.z, (1 - beta) * s.log_p + beta * p.log_p, (1 - beta) * s.gradient + beta * p.gradient)


@dataclass(frozen=True)
class Noise:
    """All that is drawn for a few examples: each has its own, a function of (seed, purpose, row, copy, number)."""

    random: Randomness
    rows: list[int]
    copy: int
    latent: int

    def each(self, purpose: str, piece: int, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        """What each example draws, side by side in the second dimension from the right."""
        return torch.stack([draw(self.random(purpose, row, self.copy, piece)) for row in self.rows], dim=-2)

    def moves(self, purpose: str, steps: int, chains: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each transition, the momenta [chains, n, latent] and the logarithms of uniform numbers [chains, n]."""
        width = self.latent + 1

        def draw(generator: torch.Generator) -> Tensor:
            shape = (AT_ONCE, chains, self.latent)
            momenta = torch.randn(shape, generator=generator, device=generator.device)
            uniform = torch.rand((*shape[:2], 1), generator=generator, device=generator.device)
            return torch.cat([momenta, uniform.log()], dim=-1)

        for step in range(steps):
            if step % AT_ONCE == 0:
                drawn = self.each(purpose, step // AT_ONCE, draw)
            yield drawn[step % AT_ONCE].split([width - 1, 1], dim=-1)


@torch.no_grad()
def way_of(model: VAE, x: Float[Tensor, "n *event"], start: str, noise: Noise) -> Way:
    """The two ends for these examples."""
    q, p = model.encoder(x), model.prior(model.encoder)
    if q.log_var is None:
        raise ValueError("a point posterior has no density, so there is no likelihood to estimate")

    def joint(z: Tensor) -> Tensor:
        return model.decoder(z).log_prob(x) + p.log_prob(z)

    def from_prior(purpose: str, count: int) -> Tensor:
        return noise.each(purpose, 0, lambda generator: p.draw(count, generator))

    def from_posterior(purpose: str, count: int) -> Tensor:
        drawn = noise.each(purpose, 0, lambda generator: model.noise(generator, count, 1)[:, 0])
        return q.rsample_with_log_prob(drawn)[0]

    if start == "prior":
        return Way(p.log_prob, joint, torch.ones_like(q.loc), from_prior)
    _known_density(q)
    return Way(q.log_prob, joint, (q.log_var / 2).exp(), from_posterior)


def _known_density(q: Distribution) -> None:
    """InputError where only the density of q's own samples is known."""
    try:
        q.log_prob(q.loc)
    except NotImplementedError:
        raise InputError(
            f"the density of a posterior of the family '{q.family}' is not known at every code, so no chain can be "
            "annealed from it. Begin at the prior (start: prior)."
        ) from None


def annealed_by_block(
    model: VAE,
    x: Float[Tensor, "n *event"],
    rows: Integer[Tensor, " n"],
    *,
    chains: int = 16,
    steps: int = 200,
    leapfrog: int = 5,
    start: str = "posterior",
    seed: int = 0,
    copy: int = 0,
    budget: int = 64 << 20,
    begin: int = 0,
) -> Iterator[Annealed]:
    r"""Annealed importance sampling of log p(x), a few examples at a time.

    .. math:: \log w = \sum_{t=1}^{T} (\beta_t - \beta_{t-1}) [\log p(x, z_{t-1}) - \log s(z_{t-1})],
        \qquad z_0 \sim s, \; z_t \sim \mathrm{HMC}_{\beta_t}(z_{t-1})

    E[w] = p(x), so the log of the mean weight of the chains is, by Jensen, a lower bound on log p(x) in expectation:
    the NLL it gives is an upper one. Neal (2001), Statistics and Computing 11; Wu et al. (2017), arXiv:1611.04273.
    With 0 steps it is importance sampling, of the same noise as `elboroom.models.evidence.log_evidence`.

    Step sizes are tuned by image and temperature in a pilot pass with chains and noise of its own, and are fixed in
    the pass that counts: a step that depended on a chain's own past would leave E[w] = p(x) unproven.

    Args:
        model: with a posterior that has a density.
        x: examples as the model takes them.
        rows: their row numbers, from which (with ``seed`` and ``copy``) their noise follows.
        chains: for each example.
        steps: temperatures between s and p(x, z), with one transition each.
        leapfrog: steps of each transition.
        start: s(z): ``posterior`` is q(z|x), ``prior`` is p(z).
        seed: of the noise.
        copy: which binarization of the images this is.
        budget: bytes that activations and their gradients may take at a time (at least one chain is computed).
        begin: the end of a block, from which on the rest is wanted.

    Raises:
        InputError: a posterior whose density is not known everywhere.
        ValueError: the posterior is a point.
    """
    for way, noise, most in blocks(model, x, rows, chains, start, Randomness(seed, x.device), copy, budget, begin):
        yield _block(way, noise, chains, steps, leapfrog, max(1, most // len(noise.rows)))


def blocks(
    model: VAE,
    x: Float[Tensor, "n *event"],
    rows: Integer[Tensor, " n"],
    chains: int,
    start: str,
    random: Randomness,
    copy: int,
    budget: int,
    begin: int,
) -> Iterator[tuple[Way, Noise, int]]:
    """The examples from ``begin`` on, as many at a time as their chains fit into the budget (bytes of activations and
    their gradients; at least one): their ends, their noise, and how many codes fit."""
    most = max(1, budget // (2 * row_bytes(model.decoder, x.new_zeros(1, model.encoder.latent), x[:1])))
    block = max(1, min(len(x), most // chains))
    for first in range(begin, len(x), block):
        noise = Noise(random, rows[first : first + block].tolist(), copy, model.encoder.latent)
        yield way_of(model, x[first : first + block], start, noise), noise, most


@torch.no_grad()
def _block(way: Way, noise: Noise, chains: int, steps: int, leapfrog: int, at_once: int) -> Annealed:
    """All chains of a few examples, so many of them at once."""
    step = _tuned(way, noise, steps, leapfrog, min(PILOTS, chains))
    sums, accepted = StreamingLogMeanExp(), torch.zeros_like(way.unit[:, 0], dtype=torch.float64)
    for some in torch.arange(chains, device=way.unit.device).split(at_once):
        log_w, total = _pass(way, noise, step, leapfrog, chains, some)
        sums.add(log_w)
        accepted += total
    return Annealed(sums.log_mean, sums.effective_samples, accepted / (chains * steps))


def _tuned(way: Way, noise: Noise, steps: int, leapfrog: int, chains: int) -> Float[Tensor, "steps n 1"]:
    """A step size for each temperature and example, moved towards the target acceptance by chains that count for
    nothing."""
    schedule, ends = temperatures(steps).tolist(), way.ends(way.draw("ais pilot", chains))
    log_step = torch.full_like(way.unit[:, :1], -0.25 * math.log(way.unit.shape[1]))
    found = []
    moves = noise.moves("ais pilot moves", steps + WARM, chains)
    for number, (momentum, log_uniform) in enumerate(moves):
        beta = schedule[max(1, number - WARM + 1)]
        found.append(log_step.exp())
        moved = _move(way, ends, beta, momentum, log_uniform, found[-1], leapfrog)
        log_step = log_step + RATE * (moved.acceptance.mean(0)[:, None] - TARGET)
        ends = way.ends(moved.point.z)
    return torch.stack(found[WARM:]) if steps else way.unit.new_empty(0, len(way.unit), 1)


def _move(
    way: Way,
    ends: tuple[Point, Point],
    beta: float,
    momentum: Tensor,
    log_uniform: Tensor,
    step: Float[Tensor, "n 1"],
    leapfrog: int,
) -> Moved:
    """One transition at one temperature."""
    return transition(way.at(beta), mixed(ends, beta), momentum, log_uniform[..., 0], step * way.unit, leapfrog)


def _pass(
    way: Way,
    noise: Noise,
    step: Float[Tensor, "steps n 1"],
    leapfrog: int,
    chains: int,
    some: Integer[Tensor, " part"],
) -> tuple[Float[Tensor, "part n"], Float[Tensor, " n"]]:
    """Log-weights of some of the chains, and the sum of their acceptances over chains and steps."""
    schedule, ends = temperatures(len(step)).tolist(), way.ends(way.draw("evidence", chains)[some])
    log_w = torch.zeros(ends[0].log_p.shape, dtype=torch.float64, device=some.device)
    accepted = torch.zeros(log_w.shape[1], dtype=torch.float64, device=some.device)
    moves = noise.moves("ais moves", len(step), chains)
    for number, (momentum, log_uniform) in enumerate(moves):
        log_w += (schedule[number + 1] - schedule[number]) * (ends[1].log_p - ends[0].log_p).double()
        moved = _move(way, ends, schedule[number + 1], momentum[some], log_uniform[some], step[number], leapfrog)
        ends = way.ends(moved.point.z)
        accepted += moved.acceptance.double().sum(0)
    return log_w + (schedule[-1] - schedule[-2]) * (ends[1].log_p - ends[0].log_p).double(), accepted


COLUMNS = ("bound", "effective", "acceptance")


def annealed(model: VAE, seen: View, *, partial: Partial, progress: Progress, **settings: Any) -> Annealed:
    """`annealed_by_block` of a view, averaged over copies; goes on where ``partial`` ends."""
    with partial:
        for copy, index, batch in seen.all_copies():
            begin = partial.done - copy * seen.count - int(index[0])
            for found in annealed_by_block(model, batch.x, index, copy=copy, begin=begin, **settings):
                values = (found.bound, found.effective_chains, found.acceptance)
                partial.add(**dict(zip(COLUMNS, values, strict=True)))
                progress("AIS", partial.done, partial.total)
    return Annealed(*(mean_of_copies(partial.columns[name], seen.copies) for name in COLUMNS))


def ais(
    subject: Subject,
    *,
    images: int = 100,
    chains: int = 16,
    steps: int = 200,
    leapfrog: int = 5,
    start: str = "posterior",
) -> Found:
    r"""NLL by annealed importance sampling (`annealed_by_block`), of some test images (`view`).

    ``nll/ais`` is on average an upper bound on -log p(x), as ``nll`` is, and a tighter one where the posterior is far
    from q(z|x). From the posterior of a family that does not cover the prior it is ``bound/ais``: chains never leave
    where q(z|x) > 0.
    """
    offset = subject.run.density_offset()
    seen = view(subject.data, subject.split, images)
    settings = {"chains": chains, "steps": steps, "leapfrog": leapfrog, "start": start, "seed": 0}
    partial = subject.partial("ais", settings, COLUMNS, seen)
    found = annealed(subject.model, seen, partial=partial, progress=subject.progress, **settings)
    name = "nll/ais" if start == "prior" or subject.model.encoder.covers else "bound/ais"
    how = f"annealed importance sampling from the {start}, {steps} steps of {leapfrog} leapfrogs"
    held = protocol(subject.run, seen, estimator=how, samples=chains)
    values = found.bound + offset
    values, better = (-values, "lower") if name == "nll/ais" else (values, "higher")
    scores = [
        mean_score(name, values, "nats", better, held),
        mean_score(f"{name}-acceptance", 100 * found.acceptance, "%", "", held),
        mean_score(f"{name}-effective-samples", found.effective_chains, "samples", "higher", held),
    ]
    note = doubt(found, chains)
    return Found(scores, {name: values}, notes={name: note})


def doubt(found: Annealed, chains: int) -> str | None:
    """A sentence where single chains carry the weight of images; None where they do not.

    Of two chains one carries it where fewer than 1.5 are effective.
    """
    share = 100 * (~(found.effective_chains >= min(WEAK, (1 + chains) / 2))).double().mean().item()
    if share <= WEAK_SHARE:
        return None
    return (
        f"not converged: one of {chains} chains carries most of the weight of {share:.3g} % of images. More steps "
        "(`--metrics '[{kind: ais, steps: 1000}]'`) would bring it nearer."
    )

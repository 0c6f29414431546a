"""A verdict in words on a trained run, from its `Signals`: what is wrong, the figures behind it, and what to try.

Nothing here computes on data: `diagnose` is a pure function of the numbers. The thresholds stand together below, each
with its reason; `docs/doctor.md` repeats them, and says on which runs they were set and on which they were counted.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from elboroom.evaluation import cures
from elboroom.evaluation.cures import Cure
from elboroom.evaluation.signals import Signals

Severity = Literal["healthy", "remark", "alarm"]

# Thresholds ----------------------------------------------------------------------------------------------------------

COLLAPSED_NATS = 0.1
"""Nats of rate, or of what another image's code costs, below which the code as a whole carries nothing: it could name
one image in e^0.1 = 1.1. Used codes had twenty times as much."""
INACTIVE_SHARE = 0.01
"""Share of a dimension's variance that comes from the image. For codes of unit variance it is the limit of active units
(Burda et al. 2016, arXiv:1509.00519); as a share it holds for codes of any scale."""
CONSTANT_SHARE = 1e-10
"""Share at which the encoder's output is one number for all images, to rounding. A dimension that training has pruned
keeps weights of about the size of the last steps: the least share seen in one was 4 · 10⁻⁷."""
DEAF_NATS = 1e-4
"""Mean absolute change of log p(x|z) at which the decoder does not read a dimension, to rounding (float32 sums of
hundreds of nats). Dimensions that training had pruned moved it by 3 · 10⁻² and more."""
SCARCE_NATS = 1.0
"""Nats of rate below which a code that is used is next to nothing (one of e = 2.7 images): with β > 1 it is β that
presses it."""
OUTSIDE_SHARE = 0.2
"""Share of the codes outside the prior's typical set, which holds 98 % of its draws: ten times what it should be, and
worth a remark."""
OUTSIDE_MOST = 0.5
"""The same, where draws from the prior are no samples of the data any more. It was 0.2 until two healthy runs of sixty
had 0.22 and 0.23 of their codes outside after a short training (`results/doctor`); it was counted anew after that."""
FAR = 3.0
"""Distance of a dimension's centre from the prior's, in standard deviations of the prior, and the ratio of its width to
the prior's: draws from the prior then hardly meet the codes."""
LOWEST_LOG_VAR = -20.0
"""Mean log-variance, of all dimensions or of one: a deviation of 5 · 10⁻⁵ is no noise, and a floor at which a training
with unbounded log-variances counts as diverged. The same upwards: e^20 is no variance either."""
RUNAWAY_NORM = 100.0
"""Norm of the codes before clipping over its radius. Clipping leaves a gradient of radius / norm: at a hundredth the
encoder hardly learns any more."""
FEW_STEPS = 500
"""Training steps below which the first thing to try against a collapse is to train longer."""

# What is found -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """One verdict: its name, what it means here, the figures behind it, and cures, the likeliest first."""

    name: str
    severity: Severity
    says: str
    figures: dict[str, float] = field(default_factory=dict)
    dimensions: tuple[int, ...] = ()
    """Dimensions of the code that are meant, counted from 0; empty where all are."""
    remedies: tuple[Cure, ...] = ()

    @property
    def title(self) -> str:
        """The name, with the dimensions that are meant."""
        return f"{self.name}: {named(self.dimensions)}" if self.dimensions else self.name


def diagnose(signals: Signals) -> list[Finding]:
    """All that is found, alarms first; a single finding `healthy` where there is nothing to say."""
    found = [finding for check in CHECKS for finding in check(signals)]
    found.sort(key=lambda finding: finding.severity != "alarm")  # stable: the order of the checks otherwise
    return found or [_healthy(signals)]


def severity(findings: Sequence[Finding]) -> Severity:
    """The worst of them."""
    return max((f.severity for f in findings), key=("healthy", "remark", "alarm").index)


def verdict(findings: Sequence[Finding]) -> str:
    """In one line: the alarms, or `healthy` with the remarks."""
    titles = [f.title for f in findings if f.severity == severity(findings)]
    return {"alarm": "", "remark": "healthy, with remarks: ", "healthy": ""}[severity(findings)] + "; ".join(titles)


def named(dimensions: Sequence[int]) -> str:
    """``dimension 3``, ``dimensions 3, 7-9``."""
    ends: list[list[int]] = []
    for d in sorted(dimensions):
        if ends and d == ends[-1][1] + 1:
            ends[-1][1] = d
        else:
            ends.append([d, d])
    parts = [str(a) if a == b else f"{a}-{b}" for a, b in ends]
    return f"dimension{'s' * (len(dimensions) > 1)} {', '.join(parts)}"


# By dimension --------------------------------------------------------------------------------------------------------


def constant(signals: Signals) -> tuple[int, ...]:
    """Dimensions whose posterior mean is the same for all images, to rounding."""
    return tuple(j for j, share in enumerate(signals.told) if share <= CONSTANT_SHARE)


def deaf(signals: Signals) -> tuple[int, ...]:
    """Dimensions that the decoder does not read, to rounding."""
    return tuple(j for j, nats in enumerate(signals.moved) if nats <= DEAF_NATS)


def inactive(signals: Signals) -> tuple[int, ...]:
    """Dimensions that tell nothing of the image."""
    return tuple(j for j, share in enumerate(signals.told) if share < INACTIVE_SHARE)


def dead(signals: Signals) -> tuple[int, ...]:
    """Dimensions that one side has cut off, which pruning by the rate never does to rounding."""
    return tuple(sorted({*constant(signals), *deaf(signals)}))


# The checks ----------------------------------------------------------------------------------------------------------


def no_numbers(signals: Signals) -> Iterator[Finding]:
    """The training diverged, or something that was measured is not a finite number."""
    if signals.diverged and "runaway" not in signals.diverged:
        says = f"the training diverged ({signals.diverged}); this is the last checkpoint before."
        yield Finding("diverged", "alarm", says, remedies=(cures.SLOWER,))
    wrong = [name for name, value in dataclasses.asdict(signals).items() if not _finite(value)]
    if wrong:
        says = f"{', '.join(wrong)}: not finite, so no other verdict can be trusted."
        yield Finding("not finite", "alarm", says, remedies=(cures.SLOWER,))


def _finite(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def runaway(signals: Signals) -> Iterator[Finding]:
    """Variances that vanish or explode, and codes that clipping can no longer lead."""
    if signals.diverged and "runaway" in signals.diverged:
        says = f"the training diverged: {signals.diverged}. Its variance term is unbounded below."
        figures = {"mean log-variance": signals.log_var_mean} if signals.log_var_mean is not None else {}
        yield Finding("variance runaway", "alarm", says, figures, remedies=(cures.BOUNDED, cures.ELBO))
        return
    by_dimension = signals.log_var_by_dimension or ()
    wild = tuple(j for j, value in enumerate(by_dimension) if abs(value) > -LOWEST_LOG_VAR)
    if wild:
        says = (
            "their mean log-variance is beyond ±20: no noise, or nothing but noise. The objective does not hold it: "
            "the variance term is unbounded, or nothing presses the rate."
        )
        figures = {"mean log-variance": signals.log_var_mean, "lowest": min(by_dimension), "highest": max(by_dimension)}
        yield Finding("variance runaway", "alarm", says, figures, _some(wild, signals), (cures.BOUNDED, cures.ELBO))
    if signals.raw_norm is not None and signals.raw_norm > RUNAWAY_NORM:
        says = "the codes before clipping run away, and their gradient is all but gone."
        figures = {"norm before clipping / radius": signals.raw_norm, "clipped share": signals.clipped}
        yield Finding("variance runaway", "alarm", says, figures, remedies=(cures.WIDER, cures.PER_DIMENSION))


def collapsed(signals: Signals) -> Iterator[Finding]:
    """The decoder ignores the whole code, or the encoder puts nothing into it."""
    silent = signals.rate is not None and signals.rate < COLLAPSED_NATS
    unheard = signals.shuffled < COLLAPSED_NATS
    if not (silent or unheard or len(inactive(signals)) == signals.latent):
        return
    if len(deaf(signals)) == signals.latent:
        says = "the decoder does not read the code: any code gives the same image."
    elif unheard and not silent:
        says = "the decoder hardly listens: another image's code is as good as its own."
    else:
        says = "the code tells nothing of the image: every posterior is about the same."
    yield Finding("collapsed", "alarm", says, _use(signals), remedies=_against_collapse(signals))


def over_regularized(signals: Signals) -> Iterator[Finding]:
    """The code is next to nothing because the rate is pressed: an alarm where β > 1 does it."""
    if signals.rate is None or signals.rate >= SCARCE_NATS or len(deaf(signals)) == signals.latent:
        return
    figures = {**_use(signals), "β": signals.beta} if signals.beta else _use(signals)
    if signals.beta is not None and signals.beta > 1:
        says = f"the rate is weighted by β = {signals.beta:g}, and next to nothing is left of the code."
        yield Finding("over-regularized", "alarm", says, figures, remedies=(cures.smaller_beta(signals.beta), cures.MU))
    elif signals.rate >= COLLAPSED_NATS:  # else it is collapsed, and nothing says that the weight is the reason
        says = "the code is used, and carries less than one nat: reconstructions are close to one image for all."
        yield Finding(
            "over-regularized",
            "remark",
            says,
            figures,
            remedies=(cures.WARMUP, cures.FREE_BITS, cures.smaller_beta(signals.beta)),
        )


def partially_collapsed(signals: Signals) -> Iterator[Finding]:
    """Some dimensions are cut off on one side, while others carry the code."""
    gone = dead(signals)
    if not gone or len(inactive(signals)) == signals.latent or len(deaf(signals)) == signals.latent:
        return
    by_encoder, by_decoder = constant(signals), deaf(signals)
    parts = [f"the encoder gives {named(by_encoder)} the same mean for every image"] if by_encoder else []
    parts += [f"the decoder does not read {named(by_decoder)}"] if by_decoder else []
    says = f"{', and '.join(parts)}, to rounding. Pruning by the rate leaves a trace; this is a part that was cut off."
    figures = {"dead": float(len(gone)), "of": float(signals.latent), **_of(gone, signals)}
    remedies = (cures.RESTART, cures.smaller_latent(signals.latent - len(gone)), cures.FREE_BITS)
    yield Finding("partially collapsed", "alarm", says, figures, gone, remedies)


def outside_prior(signals: Signals) -> Iterator[Finding]:
    """All codes together do not lie where the prior puts its draws."""
    far = [
        j
        for j, (centre, width) in enumerate(zip(signals.centre, signals.width, strict=True))
        if abs(centre) > FAR or width > FAR
    ]
    if signals.outside <= OUTSIDE_SHARE and not far:
        return
    most, meant = signals.outside > OUTSIDE_MOST or bool(far), meant_to_match(signals)
    says = (
        "draws from the prior do not meet the codes, so decoded draws are no fair samples."
        if most
        else "a part of the codes lies where the prior seldom draws, so decoded draws miss some of the data."
    )
    if not meant:
        says += f" The objective '{signals.objective}' does not ask for it: draw from a density fitted to the codes."
    figures = {"share outside the typical set": signals.outside, "expected": 0.02}
    figures |= {"largest shift": max(map(abs, signals.centre)), "largest width": max(signals.width)}
    figures |= {} if signals.clipped is None else {"clipped share": signals.clipped}
    remedies = (
        cures.FITTED,
        *((cures.beta(1, "the rate draws codes to the prior"),) if meant and (signals.beta or 1) < 1 else (cures.MMD,)),
    )
    yield Finding("codes outside the prior", "alarm" if meant and most else "remark", says, figures, remedies=remedies)


def unused_capacity(signals: Signals) -> Iterator[Finding]:
    """Dimensions that training has pruned, while others carry the code: so an ELBO chooses the size of its code."""
    idle = tuple(sorted({*inactive(signals)} - {*dead(signals)}))
    if not idle or next(collapsed(signals), None):
        return
    says = "pruned by the rate: the data needs no more under this objective. Nothing is wrong with it."
    figures = {"inactive": float(len(idle)), "of": float(signals.latent), **_of(idle, signals)}
    remedies = (cures.smaller_latent(signals.latent - len(idle)), cures.FREE_BITS)
    yield Finding("unused capacity", "remark", says, figures, _some(idle, signals), remedies)


CHECKS: tuple[Callable[[Signals], Iterator[Finding]], ...] = (
    no_numbers,
    collapsed,
    over_regularized,
    partially_collapsed,
    outside_prior,
    runaway,
    unused_capacity,
)

PLAIN = ("mlp", "conv", "resnet")  # decoders whose pixels do not see each other
UNMATCHED = ("reconstruction", "mu", "capacity")


def meant_to_match(signals: Signals) -> bool:
    """Whether the objective draws the codes towards the prior, all together or each posterior."""
    return signals.objective not in UNMATCHED and not (signals.objective == "elbo" and signals.beta == 0)


def _healthy(signals: Signals) -> Finding:
    says = "the code is used by encoder and decoder, in every dimension, and lies where the prior is."
    return Finding("healthy", "healthy", says, _use(signals))


def _use(signals: Signals) -> dict[str, float]:
    """How much the code carries, and what it is worth (nats)."""
    rate = {} if signals.rate is None else {"rate": signals.rate}
    worth = {"another image's code costs": signals.shuffled, "the mean code costs": signals.silent - signals.distortion}
    return {**rate, **worth, "active units": float(signals.active_units)}


def _of(dimensions: Sequence[int], signals: Signals) -> dict[str, float]:
    """What these dimensions carry at the most."""
    figures = {"largest share told": max(signals.told[j] for j in dimensions)}
    figures["largest change heard"] = max(signals.moved[j] for j in dimensions)
    if signals.rate_by_dimension is not None:
        figures["largest rate"] = max(signals.rate_by_dimension[j] for j in dimensions)
    return figures


def _some(dimensions: tuple[int, ...], signals: Signals) -> tuple[int, ...]:
    """Named only where they are not all."""
    return () if len(dimensions) == signals.latent else dimensions


# Cures ---------------------------------------------------------------------------------------------------------------


def _against_collapse(signals: Signals) -> tuple[Cure, ...]:
    """By the likeliest cause: too few steps, the weight of the rate, a decoder that needs no code."""
    early = (cures.LONGER,) if signals.steps < FEW_STEPS else ()
    if signals.beta == 0:  # nothing presses on the rate: another start, or a decoder that needs the code
        return (*early, *_less_decoder(signals), cures.RESTART)
    if signals.beta is not None and signals.beta > 1:
        return (*early, cures.smaller_beta(signals.beta), cures.MU, cures.MAE)
    others = (cures.WARMUP, cures.FREE_BITS, cures.MAE, cures.MU, cures.smaller_beta(signals.beta))
    return (*early, *_less_decoder(signals), *others)


def _less_decoder(signals: Signals) -> tuple[Cure, ...]:
    """A decoder that can do less without the code; nothing where pixels do not see each other."""
    if signals.decoder in PLAIN:
        return ()
    return (cures.NARROWER if signals.decoder == "pixelcnn" else cures.PLAIN_DECODER,)

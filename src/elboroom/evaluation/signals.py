"""The numbers by which a trained run is judged: is the code used, by both sides, and does it lie where the prior is?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from elboroom.evaluation.codes import Codes, active_units
from elboroom.evaluation.likelihood import bound
from elboroom.evaluation.shuffled import log_px, shuffled_codes
from elboroom.evaluation.subject import Subject
from elboroom.runs import needs_encoder, read_state

PAIRS = 20_000  # decoded images for the dimensions, all together
FEWEST, MOST = 64, 500  # images on which a single dimension is tried
PRIOR_DRAWS = 10_000
TAIL = 0.01  # of the prior's mass beyond either end of its typical set


@dataclass(frozen=True, kw_only=True)
class Signals:
    """What is measured of a run. By dimension: tuples of length ``latent``. None: the run has no such number."""

    latent: int
    """Dimensions of the code."""
    examples: int
    """Test images behind the means."""
    steps: int
    """Training steps taken."""
    objective: str
    """Kind of the objective."""
    beta: float | None
    """Weight of the rate in training; None where the objective has no such weight."""
    posterior: str
    """Kind of the posterior."""
    decoder: str
    """Kind of the decoder."""
    diverged: str | None
    """In what the training diverged, where it did."""
    rate: float | None
    """KL(q(z|x) || p(z)), nats per image; None for a point posterior."""
    rate_by_dimension: tuple[float, ...] | None
    """The same by dimension, where there is a closed form."""
    mean_variance: tuple[float, ...]
    """Var_x(E_q[z_j])."""
    told: tuple[float, ...]
    """Share of the variance of z_j that comes from the image and not from noise: Var_x(E_q[z_j]) / Var(z_j), in 0..1;
    for a point posterior, which has no noise, the variance relative to that of the widest dimension."""
    active_units: int | float
    """Dimensions with Var_x(E_q[z_j]) > 0.01."""
    log_var_mean: float | None
    """Mean of log σ² over images and dimensions."""
    log_var_by_dimension: tuple[float, ...] | None
    """Mean of log σ_j² over images."""
    shuffled: float
    """Nats by which decoding from another image's code is worse (`shuffled_codes`)."""
    shuffled_stderr: float | None
    """Its standard error over images."""
    heard: tuple[float, ...]
    """Nats by which it is worse when dimension j alone comes from another image."""
    moved: tuple[float, ...]
    """Mean absolute change of log p(x|z) then: 0 where the decoder does not read z_j, also where z_j is noise."""
    distortion: float
    """-E_q[log p(x|z)], nats per image."""
    silent: float
    """The same of the same images when each is decoded from the mean of all codes."""
    centre: tuple[float, ...]
    """Mean of z_j over the data, from the prior's mean and in standard deviations of the prior."""
    width: tuple[float, ...]
    """Standard deviation of z_j over the data, in standard deviations of the prior."""
    outside: float
    """Share of the codes outside the prior's typical set: log p(z) beyond the outer percent of prior draws on either
    side, so 0.02 where codes follow the prior. For a normal prior this is the squared norm against χ²."""
    clipped: float | None
    """Share of the images whose code is clipped; None without clipping."""
    raw_norm: float | None
    """Mean norm of the codes before clipping, over the radius."""


def signals(subject: Subject) -> Signals:
    """Measure a run on the scored split, in one pass of the encoder and few of the decoder."""
    needs_encoder(subject.run)
    seen = bound(subject.model, subject.seen, samples=1)
    found, objective = subject.codes(), subject.run.config.objective
    shuffled = shuffled_codes(subject).scores[0]
    heard, moved = by_dimension(subject)
    centre, width, outside = against_prior(subject)
    clipped, raw_norm = clipping(subject)
    return Signals(
        latent=found.mean.shape[1],
        examples=subject.seen.count,
        steps=subject.run.step,
        objective=objective.kind,
        beta=objective.effective_beta,
        posterior=subject.run.config.model.posterior.kind,
        decoder=subject.run.config.model.decoder.kind,
        diverged=diverged(subject),
        rate=None if seen.rate is None else seen.rate.mean().item(),
        rate_by_dimension=_numbers(seen.rate_by_dimension),
        mean_variance=_numbers(found.mean.double().var(0, correction=0)),
        told=_numbers(told(found)),
        active_units=active_units(found.mean),
        log_var_mean=None if found.log_var is None else found.log_var.double().mean().item(),
        log_var_by_dimension=None if found.log_var is None else _numbers(found.log_var.double().mean(0)),
        shuffled=shuffled.value,
        shuffled_stderr=shuffled.stderr,
        heard=_numbers(heard),
        moved=_numbers(moved),
        distortion=seen.distortion.mean().item(),
        silent=silent(subject),
        centre=_numbers(centre),
        width=_numbers(width),
        outside=outside,
        clipped=clipped,
        raw_norm=raw_norm,
    )


def diverged(subject: Subject) -> str | None:
    """``log-variance runaway (its mean fell below -20) at step 120``, or None."""
    state = read_state(subject.run.folder)
    return None if state["status"] != "diverged" else f"{state['term']} {state['why']} at step {state['at']:,}"


def _numbers(values: Tensor | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values.tolist())


def told(found: Codes) -> Float[Tensor, " latent"]:
    r""":math:`\mathrm{Var}_x(\mu_j) / (\mathrm{Var}_x(\mu_j) + \mathbb E_x \sigma_j^2)`, 0 where nothing varies.

    The scale of the code cancels. Without noise the widest dimension stands for the whole.
    """
    spread = found.mean.double().var(0, correction=0)
    whole = spread.max() if found.log_var is None else spread + found.log_var.double().exp().mean(0)
    return torch.where(whole > 0, spread / whole, 0.0)


def by_dimension(subject: Subject) -> tuple[Float[Tensor, " latent"], Float[Tensor, " latent"]]:
    """Mean and mean absolute change of log p(x|z) when one dimension comes from another image, the others stay."""
    z, x = _chosen(subject)
    own = log_px(subject.model, x, z)
    heard, moved = [], []
    for j in range(z.shape[1]):
        other = z.clone()
        other[:, j] = z[:, j].roll(1)
        worse = own - log_px(subject.model, x, other)
        heard.append(worse.mean())
        moved.append(worse.abs().mean())
        subject.progress("dimensions", j + 1, z.shape[1])
    return torch.stack(heard), torch.stack(moved)


def silent(subject: Subject) -> float:
    """-log p(x|z) when every image is decoded from the mean of all codes (nats).

    Over all images and all their binarizations, as the distortion that it is set against.
    """
    seen, found = subject.seen, subject.codes()
    still, total = found.mean.double().mean(0).to(found.z.dtype), 0.0
    for _, index, batch in seen.all_copies():
        total -= log_px(subject.model, batch.x, still.expand(len(index), -1)).sum().item()
    return total / (seen.count * seen.copies)


def _chosen(subject: Subject) -> tuple[Float[Tensor, "n latent"], Float[Tensor, "n *event"]]:
    """Codes and images of a few examples: the first of a fixed permutation, fewer the more dimensions there are."""
    z = subject.codes().z
    wanted = min(MOST, max(FEWEST, PAIRS // z.shape[1]))
    index = subject.permutation(subject.seen.count, "shuffled codes")[:wanted].to(z.device)
    return z[index], subject.seen.examples.fixed(index).x


@torch.no_grad()
def against_prior(subject: Subject) -> tuple[Float[Tensor, " latent"], Float[Tensor, " latent"], float]:
    """Centre and width of the codes in units of the prior, and the share outside its typical set."""
    prior, z = subject.model.prior(subject.model.encoder), subject.codes().z
    draws = prior.draw(PRIOR_DRAWS, subject.random("typical set"))
    mean, scale = draws.double().mean(0), draws.double().std(0)
    low, high = prior.log_prob(draws).double().quantile(torch.tensor([TAIL, 1 - TAIL]).double().to(draws.device))
    density = prior.log_prob(z).double()
    inside = (density >= low) & (density <= high)  # a NaN is not inside
    centre, width = (z.double().mean(0) - mean) / scale, z.double().std(0, correction=0) / scale
    return centre, width, 1 - inside.double().mean().item()


@torch.no_grad()
def clipping(subject: Subject) -> tuple[float | None, float | None]:
    """Share of the images whose code is clipped, and their mean norm before it over the radius; None without."""
    radius = subject.model.encoder.radius
    if radius is None:
        return None, None
    norms = [subject.model.encoder(batch.x).norm for _, batch in subject.seen.batches()]
    relative = torch.cat(norms).double() / radius
    return (relative > 1).double().mean().item(), relative.mean().item()

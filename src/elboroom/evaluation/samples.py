"""Pictures for the report: reconstructions, samples, traversals, the manifold, interpolations. All as uint8."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from elboroom.distributions import AutoregressiveBernoulli, Standard, StandardNormal
from elboroom.errors import InputError
from elboroom.evaluation.codes import Codes
from elboroom.evaluation.density import Gaussian
from elboroom.evaluation.subject import Found, Subject
from elboroom.evaluation.views import View
from elboroom.models import VAE
from elboroom.numerics import Randomness

SHOWN, DRAWN, STEPS, GRID, LINES = 32, 64, 11, 20, 4


def to_bytes(images: Float[Tensor, "..."]) -> UInt8[Tensor, "..."]:
    """Values in [0, 1] as 0..255."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


@torch.no_grad()
def pictures(model: VAE, seen: View, found: Codes, clipped: bool) -> dict[str, Tensor]:
    """Everything that the report draws, so that it needs no model. Images only."""
    index = torch.arange(min(SHOWN, seen.count), device=found.mean.device)
    originals = seen.examples.fixed(index).x
    result = {"originals": originals, "reconstructions": model.decoder(found.mean[: len(index)]).mean}
    result |= drawn(model, found, clipped)
    values = traversal_values(found)
    result["traversals"] = traversals(model, found.mean.shape[1], values)
    if found.mean.shape[1] == 2:
        known = isinstance(model.prior(model.encoder), Standard)
        follow = clipped or found.log_var is None or not known
        result["manifold"] = manifold(model, found, follow_codes=follow)
    result["interpolations"] = interpolations(model, found)
    return {k: to_bytes(v) for k, v in result.items()} | {"traversal-values": values.cpu()}


def drawn(model: VAE, found: Codes, clipped: bool) -> dict[str, Tensor]:
    """Samples from the prior (its codes times 3 too, as μ-VAE's paper does for clipped codes) and a fitted Gaussian,
    where the codes are finite."""
    z = model.prior(model.encoder).draw(DRAWN, Randomness(0)("pictures"))
    noise = torch.randn(z.shape, generator=Randomness(0)("pictures")).to(found.mean.device)
    sigmas = (1, 3) if clipped else (1,)
    result = {f"samples-{s}": decoded(model, s * z) for s in sigmas}
    if found.z.isfinite().all():
        result["samples-fitted"] = decoded(model, Gaussian(found.z).from_noise(noise))
    return result


def decoded(model: VAE, z: Float[Tensor, "n latent"]) -> Float[Tensor, "n *event"]:
    """A draw's picture: the mean of p(x|z), or of a decoder that goes pixel by pixel an image with noise of its own.

    (Such a decoder's `mean` has one noise for all codes: for neighbouring codes that is wanted, as draws they would
    look more alike than the model's are.)
    """
    p = model.decoder(z)
    return p.sample(generator=Randomness(0)("pixels")) if isinstance(p, AutoregressiveBernoulli) else p.mean


@torch.no_grad()
def made_up(model: VAE) -> dict[str, Tensor]:
    """What the decoder alone can show: samples, and the manifold of two latents under a prior with known quantiles."""
    p = model.prior(model.encoder)
    result = {"samples-1": decoded(model, p.draw(DRAWN, Randomness(0)("pictures")))}
    if isinstance(p, Standard) and model.encoder.latent == 2:
        result["manifold"] = of_quantiles(model, p, torch.zeros(2), torch.ones(2))
    return {k: to_bytes(v) for k, v in result.items()}


def traversal_values(found: Codes) -> Float[Tensor, " steps"]:
    """From -r to r, where r covers 99 % of the codes of every dimension, and is 2 at the least."""
    reach = max(2.0, found.z.abs().quantile(0.99, dim=0).max().item())
    return torch.linspace(-reach, reach, STEPS, device=found.z.device)


def traversals(model: VAE, latent: int, values: Tensor) -> Float[Tensor, "latent steps *event"]:
    """One dimension moved at a time, the others at zero."""
    z = torch.zeros(latent, len(values), latent, device=values.device)
    for d in range(latent):
        z[d, :, d] = values
    return model.decoder(z).mean


def manifold(model: VAE, found: Codes, follow_codes: bool) -> Float[Tensor, "grid grid *event"]:
    """A grid of equally spaced quantiles of the prior, the first dimension rightwards and the second upwards.

    AEVB, figure 4. Codes that do not follow the prior (clipped, plain autoencoder) and those of a learned prior get
    quantiles of a Gaussian with their own mean and spread.
    """
    p = StandardNormal(2) if follow_codes else model.prior(model.encoder)
    loc = found.mean.mean(0) if follow_codes else torch.zeros_like(found.mean[0])
    scale = found.mean.std(0) if follow_codes else torch.ones_like(loc)
    return of_quantiles(model, p, loc, scale)


def of_quantiles(
    model: VAE, p: Standard, loc: Float[Tensor, "2"], scale: Float[Tensor, "2"]
) -> Float[Tensor, "grid grid *event"]:
    """Means of p(x|z) at a grid of equally spaced quantiles, moved and scaled."""
    quantiles = p.icdf((torch.arange(GRID, device=p.device) + 0.5) / GRID)
    loc, scale = loc.to(p.device), scale.to(p.device)
    across = (loc[0] + scale[0] * quantiles).expand(GRID, GRID)
    up = (loc[1] + scale[1] * quantiles.flip(0))[:, None].expand(GRID, GRID)
    return model.decoder(torch.stack([across, up], dim=-1)).mean


def interpolations(model: VAE, found: Codes, steps: int = 10) -> Float[Tensor, "lines steps *event"]:
    """Straight lines between the codes of pairs of examples."""
    lines = min(LINES, len(found.mean) // 2)
    first, second = found.mean[:lines, None], found.mean[lines : 2 * lines, None]
    weight = torch.linspace(0, 1, steps, device=first.device)[None, :, None]
    return model.decoder(first * (1 - weight) + second * weight).mean


@torch.no_grad()
def more_pictures(
    subject: Subject,
    *,
    reaches: tuple[float, ...] = (),
    steps: int = 40,
    sigmas: tuple[float, ...] = (),
    count: int = 100,
    centre: float = 0.0,
    repeats: int = 0,
) -> Found:
    """Traversals over [-r, r] and decoded draws from N(centre, σ²I), as uint8 in the file ``more-pictures``.

    The draws are those of the named Gaussian whatever the prior is; of the prior itself every evaluation keeps
    ``samples-1`` in ``pictures``. Names: ``traversals-<r>`` [latent, steps, C, H, W] and ``samples-<σ>``
    [count, C, H, W]; with a centre, ``samples-<centre>-<σ>``. The draws share their noise, so that spreads can be
    compared image by image. ``repeats`` [1 + repeats, C, H, W] is the first test image and decodings of as many
    samples of its posterior.

    Raises:
        InputError: the data are no images.
    """
    if len(subject.run.shape) != 3:
        raise InputError(f"data '{subject.data.title}' are no images. Leave the pictures out.")
    model, latent = subject.model, subject.run.config.model.posterior.latent
    made = {}
    for reach in reaches:
        values = torch.linspace(-reach, reach, steps, device=subject.run.device)
        made[f"traversals-{reach:g}"] = to_bytes(traversals(model, latent, values))
    noise = torch.randn(count, latent, generator=Randomness(0)("more pictures")).to(subject.run.device)
    for sigma in sigmas:
        name = f"samples-{sigma:g}" if centre == 0 else f"samples-{centre:g}-{sigma:g}"
        made[name] = to_bytes(decoded(model, centre + sigma * noise))
    if repeats:
        made["repeats"] = to_bytes(repeated(model, subject.seen, repeats))
    return Found(arrays={"more-pictures": made})


def repeated(model: VAE, seen: View, repeats: int) -> Float[Tensor, "n *event"]:
    """The first example, then means of p(x|z) for as many z ~ q(z|x)."""
    x = seen.examples.fixed(torch.zeros(1, dtype=torch.long, device=seen.examples.rows.device)).x
    noise = model.noise(Randomness(0, x.device)("repeats"), repeats, 1)
    z, _ = model.encoder(x).rsample_with_log_prob(noise)
    return torch.cat([x, model.decoder(z[:, 0]).mean])

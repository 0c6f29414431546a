"""The codes of a split, and what can be read off them directly: active units, accuracy of the companion."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from elboroom.evaluation.views import View, code_protocol, mean_score
from elboroom.models import VAE
from elboroom.numerics import Randomness
from elboroom.runs import Run
from elboroom.scores import Score


@dataclass(frozen=True)
class Codes:
    """Posterior means, one sample each, log-variances (None for a point posterior), labels and row numbers."""

    mean: Float[Tensor, "n latent"]
    z: Float[Tensor, "n latent"]
    log_var: Float[Tensor, "n latent"] | None
    labels: Integer[Tensor, " n"] | None
    rows: Integer[Tensor, " n"]

    def to(self, device: torch.device | str) -> "Codes":
        """The same on a device."""
        return Codes(**{name: None if value is None else value.to(device) for name, value in vars(self).items()})

    def tensors(self) -> dict[str, Tensor]:
        """By name, without what there is not."""
        return {k: v for k, v in vars(self).items() if v is not None}


@torch.no_grad()
def codes(model: VAE, seen: View, seed: int = 0) -> Codes:
    """Encode a split (its first binarization) once."""
    random = Randomness(seed, seen.examples.rows.device)
    means, samples, log_vars = [], [], []
    for index, batch in seen.batches():
        q = model.encoder(batch.x)
        z, _ = q.rsample_with_log_prob(model.noise(random("codes", int(index[0])), 1, len(index)))
        means.append(q.mean)
        samples.append(z[0])
        log_vars.append(q.log_var)
    labels = seen.examples.labels
    return Codes(
        mean=torch.cat(means),
        z=torch.cat(samples),
        log_var=None if log_vars[0] is None else torch.cat(log_vars),
        labels=None if labels is None else labels[: seen.count],
        rows=seen.examples.rows[: seen.count],
    )


def active_units(means: Float[Tensor, "n latent"], threshold: float = 1e-2) -> int | float:
    """Number of latents that the encoder uses: Var_x(E_q[z_j]) > threshold; NaN where a variance is none.

    Burda et al. (2016), arXiv:1509.00519. It measures use, not independence: duplicated latents count twice. A single
    code has no variance, and codes that are not finite have none either.
    """
    variances = means.double().var(dim=0) if len(means) > 1 else means.double() * math.nan
    return int((variances > threshold).sum()) if variances.isfinite().all() else math.nan


def code_scores(run: Run, seen: View, found: Codes, companion: bool = True) -> list[Score]:
    """active-units, and the companion's accuracy on sampled codes and on means (%)."""
    held = code_protocol(run, seen, estimator="variance of the posterior mean > 0.01")
    units = active_units(found.mean)
    scores = [
        Score(name="active-units", value=float(units), unit="units", better="", examples=seen.count, protocol=held),
    ]
    if not companion:
        return scores
    for name, right in answers(run, found).items():
        code = name.removeprefix("accuracy/")
        held = code_protocol(run, seen, estimator="companion classifier", code=code, labels="all")
        scores.append(mean_score(name, right, "%", "higher", held))
    return scores


def answers(run: Run, found: Codes) -> dict[str, Float[Tensor, " n"]]:
    """100 where the companion is right and else 0, by the name of the score; none without companion or labels."""
    if run.companion is None or found.labels is None:
        return {}
    pairs = {"z": found.z, "mean": found.mean}
    return {f"accuracy/{name}": 100 * accuracy(run.companion, code, found.labels) for name, code in pairs.items()}


@torch.no_grad()
def accuracy(
    classifier: torch.nn.Module, code: Float[Tensor, "n latent"], labels: Integer[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """1 where the classifier is right, else 0."""
    return (classifier(code).argmax(-1) == labels).double()

"""What travels between the stages of training: Batch, Base, Dream, Sampled, Asked, Draw, Terms."""

from dataclasses import dataclass, field

from jaxtyping import Float, Integer
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Examples as the model sees them: scaled, and binarized where that was asked for."""

    x: Float[Tensor, "batch *event"]
    labels: Integer[Tensor, " batch"] | None = None


@dataclass(frozen=True)
class Base:
    """The factorized base posterior, before any flow; for a point posterior there is no variance."""

    family: str
    loc: Float[Tensor, "batch latent"]
    log_var: Float[Tensor, "batch latent"] | None
    norm: Float[Tensor, " batch"] | None = None  # of loc before clipping, where clipping is on


@dataclass(frozen=True)
class Dream:
    """What the model makes up: z ~ p(z) and x ~ p(x|z), without gradient."""

    z: Float[Tensor, "n latent"]
    x: Float[Tensor, "n *event"]


@dataclass(frozen=True)
class Sampled:
    """Codes z ~ p(z|x) by Markov chains, without gradient, and the acceptance of each example's chains (0-1)."""

    z: Float[Tensor, "k batch latent"]
    acceptance: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Asked:
    """What an objective asks of a draw beyond the examples and their noise; empty where it asks for nothing.

    Filled by `elboroom.objectives.needs.ask`, read by `VAE.forward`, which hands it on in the `Draw`. The step is a
    tensor, so that a compiled step is not compiled anew at each.
    """

    step: Integer[Tensor, ""] | None = None
    train_size: int | None = None
    prior_z: Float[Tensor, "n latent"] | None = None
    log_qz_detached: bool = False
    z_detached: bool = False
    dream: Dream | None = None
    sampled: Sampled | None = None


@dataclass(frozen=True)
class Draw:
    """k posterior samples z ~ q(z|x) per example, with the log-densities that bounds are made of (nats).

    ``log_qz`` is None for a point posterior, which has no density, and for codes that chains have brought
    (``sampled``), where there is no ``base`` either, for the encoder is not asked. ``rate`` is KL(q || p) by latent
    dimension where the table of divergences has a closed form, else None, and the sample estimate log q - log p serves.
    """

    z: Float[Tensor, "k batch latent"]
    log_px: Float[Tensor, "k batch"]  # log p(x|z), summed over data dimensions
    log_pz: Float[Tensor, "k batch"] | None  # log p(z)
    log_qz: Float[Tensor, "k batch"] | None  # log q(z|x)
    base: Base | None = None
    rate: Float[Tensor, "batch latent"] | None = None
    # None unless an objective asks for them by name (its ``needs``):
    log_qz_detached: Float[Tensor, "k batch"] | None = None  # log q(z|x), without gradient to q's parameters
    prior_z: Float[Tensor, "n latent"] | None = None  # z ~ p(z), without gradient, as many as posterior samples
    step: Integer[Tensor, ""] | None = None  # of the training, from 0; None outside of it
    train_size: int | None = None  # examples in the training set
    z_detached: Float[Tensor, "k batch latent"] | None = None  # z without gradient; log_px and log_pz are taken there
    dream: Float[Tensor, " batch"] | None = None  # log q(z|x) of codes and examples that the model has made up
    sampled: Sampled | None = None  # where z is from, in place of q(z|x)


@dataclass(frozen=True)
class Terms:
    """What an objective is made of: named per-example terms, named batch terms, and the weight of each (default 1).

    Every objective names a ``distortion`` = -E_q[log p(x|z)]; all but those without a density q(z|x) name a ``rate``.
    A term is per example where it would be the same in any other batch; what acts on the batch (its mean, its pairs)
    is a batch term, so the loss of two half-batches is not the mean of theirs.
    A weight of 0 keeps a term out of the loss, for the eye alone; in training, one that stops being finite ends the run
    all the same. ``floors`` are numbers that are no part of the loss, each with a limit: below it training has
    diverged, though no number has stopped being finite.
    """

    example: dict[str, Float[Tensor, " batch"]]
    batch: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    weights: dict[str, Float[Tensor, ""] | float] = field(default_factory=dict)
    own_bound: Float[Tensor, " batch"] | None = None  # where the bound is not -(distortion + rate)
    floors: dict[str, tuple[Float[Tensor, ""], float]] = field(default_factory=dict)

    @property
    def loss(self) -> Float[Tensor, ""]:
        """What is minimized: the batch mean of the weighted per-example terms plus the weighted batch terms (nats)."""
        example, batch = self._weighted(self.example), self._weighted(self.batch)
        of_examples = sum(example).mean() if example else next(iter(self.example.values())).new_zeros(())
        return sum(batch, of_examples)

    def _weighted(self, terms: dict[str, Tensor]) -> list[Tensor]:
        """Each times its weight; without those of weight 0, whose infinity would be a loss of NaN."""
        weights = {name: self.weights.get(name, 1.0) for name in terms}
        return [w * terms[name] for name, w in weights.items() if isinstance(w, Tensor) or w != 0]

    @property
    def bound(self) -> Float[Tensor, " batch"]:
        """The evidence lower bound of each example, whatever the weights of the training objective (nats)."""
        if self.own_bound is not None:
            return self.own_bound
        return -(self.example["distortion"] + self.example["rate"])

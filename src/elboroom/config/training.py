"""How a model is trained."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from elboroom.config.base import Activation, NonNegative, Positive, PositiveFloat, choice, settings

Decay = Annotated[float, Field(ge=0, lt=1)]


@settings
class Adam:
    """Kingma & Ba (2015), in torch's fused form."""

    kind: Literal["adam"] = "adam"
    lr: PositiveFloat = 1e-3
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8

    builds: ClassVar[str] = "torch.optim:Adam"
    fused: ClassVar[bool] = True


@settings
class Constant:
    """The learning rate stays."""

    kind: Literal["constant"] = "constant"

    builds: ClassVar[str] = "elboroom.training.schedule:constant"


@settings
class Exponential:
    """The learning rate is multiplied by ``decay`` at every step."""

    kind: Literal["exponential"] = "exponential"
    decay: Annotated[float, Field(gt=0, le=1)] = 0.999998

    builds: ClassVar[str] = "elboroom.training.schedule:exponential"


@settings
class Cosine:
    """The learning rate falls along half a cosine to ``floor`` times its start at the last step."""

    kind: Literal["cosine"] = "cosine"
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0

    builds: ClassVar[str] = "elboroom.training.schedule:cosine"


@settings
class Classifier:
    """A companion: an MLP that learns the labels from the detached codes, with its own Adam (μ-VAE's classifier)."""

    kind: Literal["classifier"] = "classifier"
    hidden: tuple[Positive, ...] = (1024, 1024, 1024)
    activation: Activation = "leaky-relu"
    lr: PositiveFloat = 1e-4
    code: Literal["z", "mean"] = "z"
    """What it learns from: the sampled code or the posterior mean. Accuracy on both is reported."""

    builds: ClassVar[str] = "elboroom.training.companions:Classifier"


Optimizer = choice("optimizer", Adam)
Schedule = choice("schedule", Constant, Exponential, Cosine)
Companion = choice("companion", Classifier)


@settings
class Training:
    """Length, batches, optimizer, and what is kept on the way."""

    epochs: Positive = 30
    batch: Positive = 100
    optimizer: Optimizer = dataclasses.field(default_factory=Adam)
    schedule: Schedule = dataclasses.field(default_factory=Constant)
    """How the learning rate moves after the warm-up."""
    warmup: NonNegative = 0
    """Steps over which the learning rate rises linearly from zero."""
    clip_norm: PositiveFloat | None = None
    """Largest norm of the gradient of all weights together."""
    average: Decay | None = None
    """Decay of an average of the weights; min(d, (1 + t) / (10 + t)), so that short runs forget their first weights."""
    evaluate_with: Literal["auto", "raw", "average"] = "auto"
    """Which weights are evaluated; auto: the average where there is one."""
    init: Literal["default", "he"] = "default"
    """default: torch's own; he: N(0, 2 / inputs), zero biases (μ-VAE)."""
    device: str = "auto"
    """auto: a CUDA device where there is one, else the CPU."""
    threads: Positive | None = None
    """Threads of the CPU; float sums depend on their number, so resuming keeps it."""
    deterministic: bool = False
    """On CUDA: only kernels whose results repeat bit for bit."""
    compile: bool = False
    """Compile the step (needs a C++ compiler)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 for networks only; densities and losses stay in float32."""
    drop_last: bool = False
    """Leave out the last, smaller batch of an epoch."""
    log_every: Positive | None = None
    """Steps between log lines; by default one line an epoch."""
    evaluate_every: Positive = 1
    """Epochs between evaluations on validation data (on test data, for curves only, where there is none)."""
    checkpoint_every: Positive | None = None
    """Steps between checkpoints; by default one an epoch."""
    keep_epochs: tuple[Positive, ...] = ()
    """Epochs whose checkpoint is kept beside `last` and `best`."""
    patience: Positive | None = None
    """Stop after this many evaluations without a better validation loss."""

    @model_validator(mode="after")
    def _consistent(self) -> "Training":
        if self.evaluate_with == "average" and self.average is None:
            raise ValueError("training.evaluate_with: average needs training.average, such as 0.999.")
        return self

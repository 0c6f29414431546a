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
    coupled: ClassVar[bool] = True


@settings
class AdamW:
    """Loshchilov & Hutter (2019): decay beside the gradient, which is no prior on the weights (`weight_prior` is)."""

    kind: Literal["adamw"] = "adamw"
    lr: PositiveFloat = 1e-3
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2

    builds: ClassVar[str] = "torch.optim:AdamW"
    fused: ClassVar[bool] = True
    coupled: ClassVar[bool] = False


@settings
class Adagrad:
    """Duchi et al. (2011), AEVB's optimizer. torch's accumulator starts at 0: every weight's first step is lr."""

    kind: Literal["adagrad"] = "adagrad"
    lr: PositiveFloat = 1e-2
    eps: PositiveFloat = 1e-10
    initial_accumulator_value: Annotated[float, Field(ge=0)] = 0.0
    """Other frameworks start at 0.1."""

    builds: ClassVar[str] = "torch.optim:Adagrad"
    fused: ClassVar[bool] = True
    coupled: ClassVar[bool] = True


@settings
class Sgd:
    """Stochastic gradient descent, with momentum if wanted."""

    kind: Literal["sgd"] = "sgd"
    lr: PositiveFloat = 1e-2
    momentum: Decay = 0.0
    nesterov: bool = False

    builds: ClassVar[str] = "torch.optim:SGD"
    fused: ClassVar[bool] = True
    coupled: ClassVar[bool] = True

    @model_validator(mode="after")
    def _momentum(self) -> "Sgd":
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum, such as 0.9.")
        return self


@settings
class Adamax:
    """Kingma & Ba (2015), with the infinity norm: VLAE's optimizer."""

    kind: Literal["adamax"] = "adamax"
    lr: PositiveFloat = 2e-3
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8

    builds: ClassVar[str] = "torch.optim:Adamax"
    fused: ClassVar[bool] = False
    coupled: ClassVar[bool] = True


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
class Stages:
    """Stages of growing length, each with a smaller learning rate: of 1, 3, 9, ... epochs at 1, 10^(-1/7), 10^(-2/7),
    ... times the rate, as in the training of IWAE (Burda et al. 2016, section 5)."""

    kind: Literal["stages"] = "stages"
    first: Positive = 3000
    """Steps of the first stage; the default is an epoch of 60,000 images in batches of 20."""
    growth: Annotated[float, Field(ge=1)] = 3.0
    """Each stage is so many times as long as the one before."""
    fall: Annotated[float, Field(gt=0, le=1)] = 0.7196856730011519
    """And its learning rate is multiplied by this: 10^(-1/7)."""

    builds: ClassVar[str] = "elboroom.training.schedule:stages"


@settings
class Plateau:
    """The learning rate is multiplied by ``factor`` whenever the validation loss has not improved for more than
    ``patience`` evaluations, as in MAE's training (Ma et al. 2019)."""

    kind: Literal["plateau"] = "plateau"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: Positive = 20
    restart: bool = True
    """Forget the optimizer's moments at each drop."""
    drops: Positive = 3
    """Training ends at the drop after so many."""
    least: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Training ends when the rate falls below this share of its start."""
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """And the rate is multiplied by this at every step."""

    builds: ClassVar[str] = "elboroom.training.schedule:exponential"
    not_passed: ClassVar[tuple[str, ...]] = ("factor", "patience", "restart", "drops", "least")


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


Optimizer = choice("optimizer", Adam, AdamW, Adagrad, Sgd, Adamax)
Schedule = choice("schedule", Constant, Exponential, Cosine, Stages, Plateau)
Companion = choice("companion", Classifier)


@settings
class LrSearch:
    """Trains each rate from the same start on the same batches; the lowest loss of the second half wins."""

    rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=2)] = (0.01, 0.02, 0.1)
    steps: Positive = 600
    """Length of each trial."""


@settings
class Training:
    """Length, batches, optimizer, and what is kept on the way."""

    epochs: Positive = 30
    batch: Positive = 100
    updates: Positive = 1
    """Updates of the weights with each batch, its noise and whatever else was drawn held fixed."""
    optimizer: Optimizer = dataclasses.field(default_factory=Adam)
    schedule: Schedule = dataclasses.field(default_factory=Constant)
    """How the learning rate moves after the warm-up."""
    warmup: NonNegative = 0
    """Steps over which the learning rate rises linearly from zero."""
    clip_norm: PositiveFloat | None = None
    """Largest norm of the gradient of all weights together."""
    weight_prior: PositiveFloat | None = None
    """Variance v of a prior N(0, v) on every weight: the gradient of the loss per image gets weight / (N v)."""
    average: Decay | None = None
    """Decay of an average of the weights; min(d, (1 + t) / (10 + t)), so that short runs forget their first weights."""
    average_form: Literal["warm", "plain"] = "warm"
    """warm: as said above; plain: the same decay from the first step on, as in MAE's training."""
    evaluate_with: Literal["auto", "raw", "average"] = "auto"
    """Which weights are evaluated; auto: the average where there is one."""
    init: Literal["default", "he", "glorot", "data-dependent", "normal"] = "default"
    """default: torch's own; he: N(0, 2 / inputs), zero biases (μ-VAE); glorot: uniform with variance
    2 / (inputs + outputs), zero biases (IWAE); data-dependent: outputs of every layer start with mean 0 and deviation 1
    on the first images; normal: every parameter ~ N(0, init_std²) (AEVB)."""
    init_std: PositiveFloat = 0.01
    """For init: normal."""
    init_images: Positive = 500
    """For init: data-dependent."""
    mean_image: bool = False
    """The bias of a Bernoulli decoder's last layer starts at the logit of the mean training image, clipped to
    [0.001, 0.999], as in IWAE's program."""
    lr_search: LrSearch | None = None
    """Choose the learning rate by the loss of the first steps, as AEVB prescribes."""
    decoder_slices: Positive = 1
    """Decode a batch in so many slices, one at a time: less memory, the same gradient, batch terms untouched."""
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
    evaluate_samples: Positive | None = None
    """Posterior samples of these evaluations; by default as many as in training."""
    select_by: Literal["loss", "elbo"] = "loss"
    """What the best checkpoint, patience and the plateau go by: the objective's loss, or the ELBO alone."""
    checkpoint_every: Positive | None = None
    """Steps between checkpoints; by default one an epoch."""
    keep_epochs: tuple[Positive, ...] = ()
    """Epochs whose checkpoint is kept beside `last` and `best`; those beyond `epochs` when the run is lengthened."""
    patience: Positive | None = None
    """Stop after this many evaluations without a better validation loss."""

    @model_validator(mode="after")
    def _in_use(self) -> "Training":
        """Refuses what would be passed over; defaults stand in every configuration that is written out."""
        idle = {
            "init_std": (self.init != "normal", 0.01, "training.init: normal"),
            "init_images": (self.init != "data-dependent", 500, "training.init: data-dependent"),
            "average_form": (self.average is None, "warm", "training.average, such as 0.999"),
        }
        for name, (unused, default, needed) in idle.items():
            if unused and getattr(self, name) != default:
                raise ValueError(f"training.{name} needs {needed}. Set that too, or give it its default, {default}.")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "Training":
        if self.evaluate_with == "average" and self.average is None:
            raise ValueError("training.evaluate_with: average needs training.average, such as 0.999.")
        if self.weight_prior is not None and not self.optimizer.coupled:
            raise ValueError(
                f"optimizer '{self.optimizer.kind}' decays weights beside the gradient, which is no Gaussian prior; "
                "with training.weight_prior choose adam, adagrad, adamax or sgd."
            )
        return self

"""How noisy the encoder's gradient is: the reparameterized estimate beside the score-function one."""

import copy
import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from elboroom.errors import InputError
from elboroom.evaluation.subject import Found, Subject
from elboroom.numerics import Randomness
from elboroom.scores import Protocol, Score

ESTIMATORS = ("reparameterized", "score-function")
RESOLVED = 0.01
"""Nats by which log q(z|x) at a sample may differ from what its noise says."""


@dataclass
class Moments:
    """Sums over draws of a gradient and of its squares, in float64."""

    total: Float[Tensor, " weights"]
    squares: Float[Tensor, " weights"]
    draws: int = 0

    def add(self, gradient: Float[Tensor, " weights"]) -> None:
        self.total += gradient
        self.squares += gradient.square()
        self.draws += 1

    @property
    def mean(self) -> Float[Tensor, " weights"]:
        return self.total / self.draws

    @property
    def variance(self) -> Float[Tensor, " weights"]:
        """Unbiased, of one draw."""
        return (self.squares - self.draws * self.mean.square()) / (self.draws - 1)


def gradient_variance(subject: Subject, *, images: int = 100, draws: int = 200) -> Found:
    r"""Variance of two unbiased estimates of the encoder's gradient on one batch, from one sample z of each image.

    .. math:: \nabla_\phi\, \mathbb E_q[\log p(x|z)]
              = \mathbb E_\epsilon[\nabla_\phi \log p(x|z(\epsilon, \phi))]
              = \mathbb E_q[\log p(x|z)\, \nabla_\phi \log q_\phi(z|x)]

    The first is the reparameterized one, the second the score function's (Kingma & Welling 2014, section 2.2), without
    a baseline. ``gradient-variance`` is the trace of the covariance over ``draws`` draws of the mean gradient of the
    batch, in nats² per squared unit of a weight: only ratios of one model mean anything, and
    ``gradient-variance/ratio`` is the second over the first. ``gradient-variance/agreement`` is the squared distance of
    the two means over what their variances let expect: about 1 where both estimate the same.

    All in float64. Where the posterior is nearly a point even that cannot tell z from its mean, and with it go the
    noise and the score function; and where the support of the posterior moves with its parameters (uniform), the score
    function's is no estimate of the gradient. Only the reparameterized one is scored then, and a note says why.

    Raises:
        InputError: a point posterior, which has no noise and no density.
    """
    if subject.point:
        raise InputError("a point posterior has no noise, hence no estimates to compare. Leave gradient-variance out.")
    chosen = subject.permutation(subject.seen.count, "gradient variance")[:images].to(subject.run.device)
    model, x = copy.deepcopy(subject.model).double(), subject.seen.examples.fixed(chosen).x.double()
    found = moments(model, x, draws)
    values = {name: m.variance.sum().item() for name, m in found.items()}
    values |= _compared(*(found[name] for name in ESTIMATORS), draws)
    reason = _unscored(subject, model, x, values[ESTIMATORS[0]])
    if reason is not None:
        values = {ESTIMATORS[0]: values[ESTIMATORS[0]]}
    note = None if reason is None else f"the score function's is left out: {reason}"
    held = subject.code_protocol(estimator=f"{draws} draws on {len(chosen)} images", code="z", samples=1)
    held = dataclasses.replace(held, dtype="float64")
    scores = [_score(name, value, len(chosen), held) for name, value in values.items()]
    return Found(scores, notes={"gradient-variance": note})


def _unscored(subject: Subject, model: nn.Module, x: Float[Tensor, "batch *event"], variance: float) -> str | None:
    """Why there is no score-function estimate; None where there is one."""
    if subject.run.config.model.posterior.kind == "uniform":
        return "the support of a uniform posterior moves with its parameters, which the score function does not see"
    if variance == 0:
        return "the reparameterized gradient has no variance: the decoder does not hear the code"
    if not resolves(model, x):
        return "the posterior of some image is so narrow that its samples equal its mean"
    return None


def resolves(model: nn.Module, x: Float[Tensor, "batch *event"]) -> bool:
    """Whether the log-density of a sample of every posterior is what its noise says: a posterior that is too narrow
    beside its mean loses the noise in rounding z."""
    noise = model.noise(Randomness(0, x.device)("gradient variance", 0), 1, len(x))
    with torch.no_grad():
        q = model.encoder(x)
        z, log_qz = q.rsample_with_log_prob(noise)
        return bool(((q.log_prob(z) - log_qz).abs() < RESOLVED).all())  # a NaN is no agreement


def _compared(first: Moments, second: Moments, draws: int) -> dict[str, float]:
    """How much noisier the second is, and whether both estimate the same."""
    expected = (first.variance + second.variance).sum() / draws
    agreement = (first.mean - second.mean).square().sum() / expected
    return {"ratio": (second.variance.sum() / first.variance.sum()).item(), "agreement": agreement.item()}


def moments(model: nn.Module, x: Float[Tensor, "batch *event"], draws: int) -> dict[str, Moments]:
    """Moments of both estimates of the gradient of the batch mean of E_q[log p(x|z)], by the encoder's parameters that
    it reaches."""
    random, parameters = Randomness(0, x.device), [p for p in model.encoder.parameters() if p.requires_grad]
    size = sum(p.numel() for p in parameters)
    found = {name: Moments(*x.new_zeros(2, size, dtype=torch.float64)) for name in ESTIMATORS}
    for draw in range(draws):
        noise = model.noise(random("gradient variance", draw), 1, len(x))
        for name, surrogate in _surrogates(model, x, noise).items():
            gradients = torch.autograd.grad(surrogate, parameters, retain_graph=True, materialize_grads=True)
            found[name].add(torch.cat([g.flatten() for g in gradients]).double())
    return found


def _surrogates(model: nn.Module, x: Tensor, noise: Tensor) -> dict[str, Float[Tensor, ""]]:
    """What has each estimate as its gradient."""
    with torch.enable_grad():
        q = model.encoder(x)
        z, _ = q.rsample_with_log_prob(noise)
        value = model.decoder(z).log_prob(x)
        weighed = value.detach() * q.log_prob(z.detach())
        return {"reparameterized": value.mean(), "score-function": weighed.mean()}


def _score(name: str, value: float, examples: int, held: Protocol) -> Score:
    """No better nor worse: each model has units of its own."""
    return Score(name=f"gradient-variance/{name}", value=value, unit="", better="", examples=examples, protocol=held)

"""The importance-weighted bound: against the exact evidence, and its two gradients."""

import dataclasses
import itertools

import pytest
import torch
from oracles.linear_gaussian import examples, linear_gaussian, scalar_draw, scalar_evidence

from elboroom.config import run_from
from elboroom.errors import InputError
from elboroom.objectives import elbo, importance_weighted
from elboroom.records import Asked, Base, Draw

X = torch.tensor([-2.0, 0.0, 3.0])
BOUNDS = {"elbo": elbo, "importance-weighted": importance_weighted}


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("k", [1, 7])
def test_bounds_equal_the_evidence_at_the_exact_posterior(name, k):
    torch.testing.assert_close(BOUNDS[name](scalar_draw(X, k)).bound, scalar_evidence(X))


def expected(k: int, shift: float = 0.5, repeats: int = 4000) -> torch.Tensor:
    """E[L_k] of each example, to about 0.01 nats."""
    x = X.repeat(repeats)
    return importance_weighted(scalar_draw(x, k, shift)).bound.reshape(repeats, -1).double().mean(0)


def test_below_the_evidence_and_tighter_with_every_sample():
    """With one sample it is the ELBO, whose gap is the KL: shift² / (2 · 0.2)."""
    found = [expected(k) for k in (1, 3, 10, 50)]
    torch.testing.assert_close(found[0], scalar_evidence(X).double() - 0.5**2 / 0.4, atol=0.06, rtol=0)
    for looser, tighter in itertools.pairwise(found):
        assert (tighter > looser).all()
    assert (found[-1] < scalar_evidence(X)).all()


def test_against_a_loop():
    log_w = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.0]], dtype=torch.float64)
    zero = torch.zeros_like(log_w)
    draw = Draw(zero[..., None], log_w, zero, zero, Base("gaussian", zero[0, :, None], zero[0, :, None]))
    terms = importance_weighted(draw)
    by_hand = torch.stack([(sum(log_w[i, n].exp() for i in range(3)) / 3).log() for n in range(2)])
    torch.testing.assert_close(terms.bound, by_hand)
    torch.testing.assert_close(terms.loss, -by_hand.mean())
    torch.testing.assert_close(terms.example["distortion"], -log_w.mean(0))


def gradients(gradient: str, k: int, repeats: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Mean and variance of each parameter's gradient over fresh noise, at a posterior that is not exact."""
    oracle = linear_gaussian(shift=0.3)
    model, x = oracle.model, examples(oracle, 4)
    generator, found = torch.Generator().manual_seed(1), []
    names = [name for name, _ in model.named_parameters()]
    for _ in range(repeats):
        draw = model(x, model.noise(generator, k, 4), Asked(log_qz_detached=gradient != "standard"))
        loss = importance_weighted(draw, gradient=gradient).loss
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).double())
    sizes = [p.numel() for p in model.parameters()]
    means, variances = torch.stack(found).mean(0).split(sizes), torch.stack(found).var(0).split(sizes)
    return dict(zip(names, means, strict=True)), dict(zip(names, variances, strict=True))


def test_both_gradients_have_the_same_mean_and_the_second_varies_less():
    """Means of 400 draws agree within 5 standard errors in every weight; the variance of the encoder's falls."""
    repeats = 400
    plain, plain_var = gradients("standard", 5, repeats)
    doubly, doubly_var = gradients("doubly-reparameterized", 5, repeats)
    for name in plain:
        error = ((plain_var[name] + doubly_var[name]) / repeats).sqrt() + 1e-9
        assert ((plain[name] - doubly[name]).abs() / error).max() < 5, name
    encoder = [name for name in plain if name.startswith("encoder")]
    assert encoder
    for name in encoder:
        assert doubly_var[name].mean() < 0.5 * plain_var[name].mean(), name


def test_the_value_is_the_same_and_so_is_the_decoders_gradient():
    oracle = linear_gaussian(shift=0.3, dtype=torch.float64)
    model, x = oracle.model, examples(oracle, 4).double()
    noise = model.noise(torch.Generator().manual_seed(0), 5, 4).double()
    draws = [model(x, noise, Asked(log_qz_detached=True)) for _ in range(2)]
    losses = [importance_weighted(d, gradient=g).loss for d, g in zip(draws, ("standard", GRADIENT), strict=True)]
    torch.testing.assert_close(*losses)
    grads = [torch.autograd.grad(loss, list(model.decoder.parameters())) for loss in losses]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


GRADIENT = "doubly-reparameterized"


def test_the_encoders_gradient_is_the_formula():
    """sum_i w̃_i² d log w_i / dz_i dz_i/dφ, by explicit vector-Jacobian products."""
    oracle = linear_gaussian(shift=0.3, dtype=torch.float64)
    model, x = oracle.model, examples(oracle, 2).double()
    noise = model.noise(torch.Generator().manual_seed(0), 3, 2).double()
    draw = model(x, noise, Asked(log_qz_detached=True))
    weights = list(model.encoder.parameters())
    found = torch.autograd.grad(importance_weighted(draw, gradient=GRADIENT).loss, weights, retain_graph=True)
    z = draw.z.detach().requires_grad_()
    q, p = model.encoder(x).detached(), model.prior(model.encoder)
    log_w = model.decoder(z).log_prob(x) + p.log_prob(z) - q.log_prob(z)
    (slope,) = torch.autograd.grad(log_w.sum(), z)
    wanted = torch.autograd.grad(draw.z, weights, -(log_w.softmax(0).square()[..., None] * slope).detach() / 2)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_the_exact_posterior_has_no_gradient_noise():
    """At q(z|x) = p(z|x) the log-weight does not depend on z, so this gradient is 0, and not in mean only."""
    oracle = linear_gaussian(dtype=torch.float64)
    x = examples(oracle, 3).double()
    draw = oracle.model(x, oracle.model.noise(torch.Generator(), 5, 3).double(), Asked(log_qz_detached=True))
    loss = importance_weighted(draw, gradient=GRADIENT).loss
    for gradient in torch.autograd.grad(loss, list(oracle.model.encoder.parameters())):
        assert gradient.abs().max() < 1e-6


def test_a_decoder_learns_at_codes_that_have_no_gradient():
    """With the encoder held, the second gradient is the first: the sum of the weights times that of log w."""
    held = scalar_draw(X, 5)
    held = dataclasses.replace(held, log_qz_detached=held.log_qz)
    found = []
    for gradient in ("standard", "doubly-reparameterized"):
        weight = torch.tensor(0.3, requires_grad=True)
        draw = dataclasses.replace(held, log_px=held.log_px - weight * held.z[..., 0].square())
        found += torch.autograd.grad(importance_weighted(draw, gradient=gradient).loss, weight)
    torch.testing.assert_close(found[0], found[1])


def test_what_was_not_asked_for_is_missed_by_name():
    with pytest.raises(InputError, match=r"needs Draw\.log_qz_detached, which was not asked for"):
        importance_weighted(scalar_draw(X, 2), gradient=GRADIENT)


def test_it_is_refused_under_compilation():
    wanted = {"objective": {"kind": "importance-weighted", "gradient": GRADIENT}, "training": {"compile": True}}
    with pytest.raises(InputError, match=r"cannot be compiled; set --training\.compile false"):
        run_from(wanted)

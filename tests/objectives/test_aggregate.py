"""What compares all codes together with the prior: MMD, and the three parts of the rate."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from elboroom.distributions import DiagonalNormal, StandardNormal, rate_by_dimension
from elboroom.errors import InputError
from elboroom.objectives import info_vae, log_aggregate, mmd, squared_mmd, total_correlation
from elboroom.records import Base, Draw


def draw_of(loc: Tensor, log_var: Tensor, k: int = 1, **more: object) -> Draw:
    q, p = DiagonalNormal(loc, log_var), StandardNormal(loc.shape[-1])
    z, log_qz = q.rsample_with_log_prob(torch.randn(k, *loc.shape, dtype=loc.dtype))
    base, zero = Base("gaussian", loc, log_var), torch.zeros(k, len(loc), dtype=loc.dtype)
    return Draw(z, zero, p.log_prob(z), log_qz, base, rate_by_dimension(q, p), **more)


def some(n: int, latent: int) -> Tensor:
    return torch.randn(n, latent, dtype=torch.float64)


# MMD ---------------------------------------------------------------------------------------------------------------


def kernel(kind: str, a: list[float], b: list[float], scales: tuple[float, ...]) -> float:
    square = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    cs = [2 * s * len(a) for s in scales]
    return sum(c / (c + square) if kind == "imq" else math.exp(-square / c) for c in cs)


@pytest.mark.parametrize("kind", ["imq", "rbf"])
@pytest.mark.parametrize("scales", [(1.0,), (0.1, 2.0)])
def test_mmd_against_loops(kind, scales):
    x, y = some(4, 3), some(5, 3) + 1

    def mean(a: Tensor, b: Tensor) -> float:
        values = [kernel(kind, p, q, scales) for p in a.tolist() for q in b.tolist()]
        return sum(values) / len(values)

    wanted = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    assert squared_mmd(x, y, kernel=kind, scales=scales).item() == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("kind", ["imq", "rbf"])
def test_mmd_is_zero_for_equal_samples_and_positive_otherwise(kind):
    x = some(20, 3)
    assert squared_mmd(x, x[torch.randperm(20)], kernel=kind).abs() < 1e-12
    for seed in range(10):
        torch.manual_seed(seed)
        assert squared_mmd(some(20, 3), some(20, 3), kernel=kind) > 0
    near, far = (squared_mmd(x, x + shift, kernel=kind) for shift in (0.1, 1.0))
    assert near < far


def test_mmd_far_from_the_origin_in_float32():
    x = some(50, 4)
    found = squared_mmd(x.float() + 100, x.float() + 101)
    torch.testing.assert_close(found.double(), squared_mmd(x, x + 1), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["imq", "rbf"])
def test_gradients_of_mmd(kind):
    x, y = some(4, 2).requires_grad_(), some(3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: squared_mmd(a, b, kernel=kind), (x, y))


def test_info_vae_weighs_rate_and_mmd():
    draw = draw_of(some(6, 2), some(6, 2), k=2, prior_z=some(12, 2))
    distance, rate = squared_mmd(draw.z.flatten(0, 1), draw.prior_z), draw.rate.sum(-1).mean()
    torch.testing.assert_close(info_vae(draw, alpha=0.3, lambd=5.0).loss, 0.7 * rate + 4.3 * distance)
    torch.testing.assert_close(info_vae(draw, alpha=1.0, lambd=5.0).loss, mmd(draw, weight=5.0).loss)
    torch.testing.assert_close(info_vae(draw, alpha=0.0, lambd=1.0).loss, rate)  # the ELBO


def test_a_point_posterior_has_an_mmd():
    loc = some(6, 2).requires_grad_()
    draw = Draw(loc[None], torch.zeros(1, 6).double(), None, None, Base("point", loc, None), prior_z=some(6, 2))
    terms = mmd(draw)
    assert list(terms.example) == ["distortion"]
    assert torch.autograd.grad(terms.loss, loc)[0].abs().sum() > 0


def test_what_was_not_asked_for_is_missed_by_name():
    for objective in (mmd, info_vae):
        with pytest.raises(InputError, match=r"needs Draw\.prior_z, which was not asked for"):
            objective(draw_of(some(3, 2), some(3, 2)))
    with pytest.raises(InputError, match=r"needs Draw\.train_size"):
        total_correlation(draw_of(some(3, 2), some(3, 2)))


# Total correlation -------------------------------------------------------------------------------------------------


def weights_by_hand(sampling: str, batch: int, size: int) -> list[list[float]]:
    if sampling == "weighted":
        return [[1 / (size * batch)] * batch for _ in range(batch)]
    m = batch - 1
    rows = [[1 / m] * batch for _ in range(batch)]
    for i in range(batch):
        rows[i][i], rows[i][(i + 1) % batch] = 1 / size, (size - m) / (size * m)
    return rows


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_the_aggregate_posterior_against_loops(sampling):
    loc, log_var, z = some(4, 3), some(4, 3), some(4, 3)[None]
    together, apart = log_aggregate(z, loc, log_var, 50, sampling)
    density = [
        [Normal(loc[j], (log_var[j] / 2).exp()).log_prob(z[0, i]).exp().tolist() for j in range(4)] for i in range(4)
    ]
    w = weights_by_hand(sampling, 4, 50)
    for i in range(4):
        whole = sum(w[i][j] * math.prod(density[i][j]) for j in range(4))
        single = [sum(w[i][j] * density[i][j][d] for j in range(4)) for d in range(3)]
        assert together[0, i].item() == pytest.approx(math.log(whole))
        assert apart[0, i].item() == pytest.approx(sum(map(math.log, single)))


def test_stratified_weights_add_up_to_one():
    for row in weights_by_hand("stratified", 5, 50):
        assert sum(row) == pytest.approx(1.0)


def test_the_parts_add_up_to_the_rate_whatever_the_estimate():
    draw = draw_of(some(6, 3), some(6, 3), k=2, train_size=1000)
    for sampling in ("weighted", "stratified"):
        terms = total_correlation(draw, alpha=1.0, beta=1.0, gamma=1.0, sampling=sampling)
        torch.testing.assert_close(terms.loss, (draw.log_qz - draw.log_pz).mean())
    terms = total_correlation(draw, alpha=2.0, beta=3.0, gamma=5.0)
    parts = [terms.batch[n] for n in ("mutual-information", "total-correlation", "dimension-rate")]
    torch.testing.assert_close(terms.loss, 2 * parts[0] + 3 * parts[1] + 5 * parts[2])


def test_the_total_correlation_of_a_correlated_gaussian():
    """Means ~ N(0, [[1, r], [r, 1]]), variance s²: q(z) is Gaussian of correlation r / (1 + s²), with a total
    correlation of -0.5 log(1 - r² / (1 + s²)²); here 0.3263 nats.

    Stratified weights with the whole training set as the batch."""
    r, s2, n = 0.9, 0.3, 4000
    a = torch.randn(n, 2)
    loc = torch.stack([a[:, 0], r * a[:, 0] + math.sqrt(1 - r * r) * a[:, 1]], 1)
    log_var = torch.full_like(loc, math.log(s2))
    wanted = -0.5 * math.log(1 - (r / (1 + s2)) ** 2)
    index = torch.arange(0, n, 8)
    draw = draw_of(loc, log_var)
    q_z = Normal(loc, math.sqrt(s2))
    log_q = q_z.log_prob(draw.z[0, index, None])  # the estimator's own sums, for an eighth of the rows
    together = torch.logsumexp(log_q.sum(-1), 1) - math.log(n)
    apart = (torch.logsumexp(log_q, 1) - math.log(n)).sum(-1)
    assert (together - apart).mean().item() == pytest.approx(wanted, abs=0.05)
    part = draw_of(loc[:800], log_var[:800], train_size=800)
    stratified = total_correlation(part, sampling="stratified").batch["total-correlation"]
    assert stratified.item() == pytest.approx(wanted, abs=0.12)
    independent = total_correlation(draw_of(a[:800], log_var[:800], train_size=800), sampling="stratified")
    assert independent.batch["total-correlation"].item() == pytest.approx(0.0, abs=0.08)


def test_weighted_sampling_never_exceeds_in_mean():
    """All posteriors alike: q(z) is each of them, and the estimate is log N below it."""
    loc = torch.zeros(8, 2).double()
    draw = draw_of(loc, loc, train_size=100)
    together, apart = log_aggregate(draw.z, loc, loc, 100)
    torch.testing.assert_close(together, draw.log_qz - math.log(100))
    torch.testing.assert_close(apart, draw.log_qz - 2 * math.log(100))


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_gradients_of_total_correlation(sampling):
    noise = some(3, 2)[None]

    def loss(loc: Tensor, log_var: Tensor) -> Tensor:
        z, log_qz = DiagonalNormal(loc, log_var).rsample_with_log_prob(noise)
        p, zero = StandardNormal(2), torch.zeros(1, 3).double()
        base, rate = Base("gaussian", loc, log_var), torch.zeros(3, 2).double()
        draw = Draw(z, zero, p.log_prob(z), log_qz, base, rate, train_size=30)
        return total_correlation(draw, sampling=sampling).loss

    assert torch.autograd.gradcheck(loss, (some(3, 2).requires_grad_(), some(3, 2).requires_grad_()))


def test_a_batch_of_one_has_a_total_correlation():
    draw = draw_of(some(1, 2), some(1, 2), train_size=30)
    for sampling in ("weighted", "stratified"):
        assert total_correlation(draw, sampling=sampling).loss.isfinite()

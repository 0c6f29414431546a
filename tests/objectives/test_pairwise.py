"""Pairs of posteriors: KL, MPD, STD and the mutual divergence, against loops in float64 and against theory."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from elboroom import build
from elboroom.config import run_from
from elboroom.distributions import pairwise_kl
from elboroom.errors import InputError
from elboroom.objectives import mutual_divergence, mutual_statistics, pairwise
from elboroom.records import Base, Draw

LN2 = math.log(2)


def kl(m1: float, v1: float, m2: float, v2: float) -> float:
    """KL from N(m1, e^v1) to N(m2, e^v2), SPEC 1.3."""
    return 0.5 * (math.exp(v1 - v2) + (m1 - m2) ** 2 * math.exp(-v2) - (v1 - v2) - 1)


def some(batch: int, latent: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, latent, generator=generator, dtype=dtype) for _ in range(2))


def loops(loc: Tensor, log_var: Tensor) -> list[list[float]]:
    """The KL by dimension of every ordered pair i != j."""
    m, v = loc.tolist(), log_var.tolist()
    pairs = [(i, j) for i in range(len(m)) for j in range(len(m)) if i != j]
    return [[kl(m[i][k], v[i][k], m[j][k], v[j][k]) for k in range(len(m[0]))] for i, j in pairs]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def draw_of(loc: Tensor, log_var: Tensor, family: str = "gaussian") -> Draw:
    zero = torch.zeros(1, len(loc), dtype=loc.dtype)
    rate = 0.5 * (loc.square() + log_var.exp() - log_var - 1)
    return Draw(loc[None], zero, zero, zero, Base(family, loc, log_var), rate)


def test_single_entries_and_their_direction():
    """From N(0, 1) to N(1, e²) and back: 0.5 (e^-2 + e^-2 + 2 - 1) = 0.6353, 0.5 (e² + 1 - 2 - 1) = 2.6945."""
    found = pairwise_kl(Base("gaussian", torch.tensor([[0.0], [1.0]]).double(), torch.tensor([[0.0], [2.0]]).double()))
    torch.testing.assert_close(found[0, 1, 0].item(), 0.5 * (2 * math.exp(-2) + 1))
    torch.testing.assert_close(found[1, 0, 0].item(), 0.5 * (math.exp(2) - 2))
    assert found[0, 0, 0] == found[1, 1, 0] == 0


def test_every_entry_against_a_loop_and_torchs_own():
    loc, log_var = some(4, 3)
    found, normals = pairwise_kl(Base("gaussian", loc, log_var)), Normal(loc, (log_var / 2).exp())
    for i in range(4):
        for j in range(4):
            p, q = Normal(loc[i], normals.stddev[i]), Normal(loc[j], normals.stddev[j])
            torch.testing.assert_close(found[i, j], torch.distributions.kl_divergence(p, q))


@pytest.mark.parametrize(("batch", "latent"), [(2, 1), (5, 3), (7, 33)])
def test_trap_8_9_the_statistics_of_pairs_against_loops(batch, latent):
    loc, log_var = some(batch, latent)
    pairs = loops(loc, log_var)
    sums = [sum(row) for row in pairs]
    mean = sum(sums) / len(sums)
    by_dim, soft, std = mutual_statistics(loc, log_var, softplus=True)
    assert by_dim.tolist() == pytest.approx([sum(column) / len(pairs) for column in zip(*pairs, strict=True)])
    assert soft.item() == pytest.approx(sum(softplus(-x) for row in pairs for x in row) / len(pairs))
    unbiased = math.sqrt(sum((s - mean) ** 2 for s in sums) / (len(sums) - 1))
    assert std.item() == pytest.approx(unbiased, abs=1e-6)


@pytest.mark.parametrize("bytes_", [1, 300, 1 << 20])
@pytest.mark.parametrize("of_pairs", [True, False])
def test_gradients_whatever_the_pieces(monkeypatch, bytes_, of_pairs):
    monkeypatch.setitem(pairwise.PIECE_BYTES, "cpu", bytes_)
    loc, log_var = (t.requires_grad_() for t in some(4, 7))

    def both(loc: Tensor, log_var: Tensor) -> tuple[Tensor, ...]:
        return tuple(t for t in mutual_statistics(loc, log_var, softplus=of_pairs) if t.requires_grad)

    assert len(both(loc, log_var)) == 2
    assert torch.autograd.gradcheck(both, (loc, log_var))


FORMS = {
    "before-mean": lambda pairs, eta: sum(softplus(-x) for row in pairs for x in row) / len(pairs),
    "after-mean": lambda pairs, eta: sum(softplus(-sum(c) / len(pairs)) for c in zip(*pairs, strict=True)),
    "after-mean-sept": lambda pairs, eta: sum(softplus(-sum(c) / len(pairs) / eta) for c in zip(*pairs, strict=True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_objective_against_loops(form):
    loc, log_var = some(5, 3)
    terms = mutual_divergence(draw_of(loc, log_var), eta=2.0, gamma=0.5, pair_softplus=form)
    pairs = loops(loc, log_var)
    wanted = FORMS[form](pairs, 2.0)
    std = torch.tensor([sum(row) for row in pairs]).double().std().item()
    assert terms.batch["mutual-divergence"].item() == pytest.approx(wanted)
    rate = draw_of(loc, log_var).rate.sum(-1).mean().item()
    assert terms.loss.item() == pytest.approx(rate + 2 * wanted + 0.5 * std, abs=1e-6)
    assert terms.batch["mpd"].item() == pytest.approx(sum(map(sum, pairs)) / len(pairs))


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_every_form(form):
    loc, log_var = (t.requires_grad_() for t in some(4, 2))
    noise_free = lambda *given: mutual_divergence(draw_of(*given), pair_softplus=form).loss  # noqa: E731
    assert torch.autograd.gradcheck(noise_free, (loc, log_var))


def test_the_mean_before_the_softplus_is_the_smaller_one():
    """softplus(-x) is convex (Jensen), for any batch; on the toy batch with K = 3 the two differ by far."""
    for seed in range(20):
        draw = draw_of(*some(6, 4, seed))
        program, paper = (mutual_divergence(draw, pair_softplus=f).batch["mutual-divergence"] for f in TWO)
        assert program <= paper + 1e-12
    toy = draw_of(torch.tensor([[0.0, 0, 0], [0, 0, 0], [3, 3, 3], [3, 3, 3]]).double(), torch.zeros(4, 3).double())
    program, paper = (mutual_divergence(toy, pair_softplus=f).batch["mutual-divergence"].item() for f in TWO)
    assert paper == pytest.approx(3 * (4 * LN2 + 8 * softplus(-4.5)) / 12)  # 4 of 12 pairs coincide, 8 have KL 9/2
    assert program == pytest.approx(3 * softplus(-3.0))


TWO = ("after-mean", "before-mean")


def test_the_divergence_lies_between_0_and_k_ln_2():
    for seed in range(20):
        loc, log_var = some(6, 32, seed)
        assert 0 <= mutual_statistics(3 * loc, log_var, softplus=True)[1] <= 32 * LN2
    same = torch.ones(6, 32).double()
    torch.testing.assert_close(mutual_statistics(same, same, softplus=True)[1].item(), 32 * LN2)
    _, _, std = mutual_statistics(same, same, softplus=True)
    assert std < 1e-5


def test_trap_7_equal_pairs_have_a_finite_gradient():
    """A collapsed encoder: every pair is equally far, where a bare square root has the slope 1/0 (trap 7)."""
    loc, log_var = (torch.zeros(4, 2, requires_grad=True) for _ in range(2))
    mutual_divergence(draw_of(loc, log_var)).loss.backward()
    assert loc.grad.isfinite().all()
    assert log_var.grad.isfinite().all()


def test_trap_24_two_examples_and_one():
    """B = 2 has two pairs; B = 1 has none, and adds nothing."""
    loc, log_var = some(2, 3)
    pairs = [sum(row) for row in loops(loc, log_var)]
    std = mutual_statistics(loc, log_var, softplus=True)[2].item()
    assert std == pytest.approx(abs(pairs[0] - pairs[1]) / math.sqrt(2))
    one = mutual_statistics(loc[:1], log_var[:1].requires_grad_(), softplus=True)
    assert [t.sum().item() for t in one] == [0.0, 0.0, 0.0]
    one[2].backward()


@pytest.mark.parametrize("form", ["before-mean", "after-mean", "after-mean-sept"])
def test_trap_24_an_objective_on_one_example_is_the_elbo(form):
    """With no pairs nothing is added, in any of the forms, and gradients are those of the ELBO."""
    parts = {"kind": "mutual-divergence", "eta": 2.0, "gamma": 0.5, "pair_softplus": form}
    losses, gradients = [], []
    for objective in (parts, "elbo"):
        run = run_from({"data": {"name": "digits", "binarize": "dynamic"}, "objective": objective})
        torch.manual_seed(0)
        model = build.model(run, (1, 8, 8), "binary")
        loss = build.objective(run)(model(torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 20))).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_half_of_theorem_1_that_is_the_mutual_information():
    """E_x KL(q(z|x) || q(z)) = I(x; z), InfoVAE's term (SPEC 6.11): by quadrature, and by H(q(z)) - E H(q(z|x))."""
    loc, log_var = some(5, 1)
    z = torch.linspace(-30, 30, 200_001, dtype=torch.float64)[:, None]
    each = Normal(loc[:, 0], (log_var[:, 0] / 2).exp()).log_prob(z)
    mixture = torch.logsumexp(each, 1, keepdim=True) - math.log(5)
    forward = torch.trapezoid(each.exp() * (each - mixture), z, dim=0).mean()
    backward = torch.trapezoid(mixture.exp() * (mixture - each), z, dim=0).mean()
    entropy = -torch.trapezoid(mixture.exp() * mixture, z, dim=0).squeeze()
    inside = (0.5 * (math.log(2 * math.pi) + 1 + log_var[:, 0])).mean()
    torch.testing.assert_close(forward, entropy - inside, rtol=1e-6, atol=0)
    mpd = mutual_statistics(loc, log_var, softplus=True)[0].sum() * 4 / 5
    torch.testing.assert_close(mpd, forward + backward, rtol=1e-6, atol=0)


def test_theorem_1_by_quadrature():
    """MPD (B-1)/B = E_x[KL(q(z|x) || q(z)) + KL(q(z) || q(z|x))], q(z) the mixture over the batch (SPEC 6.11)."""
    loc, log_var = some(5, 1)
    z = torch.linspace(-30, 30, 200_001, dtype=torch.float64)[:, None]
    each = Normal(loc[:, 0], (log_var[:, 0] / 2).exp()).log_prob(z)
    mixture = torch.logsumexp(each, 1, keepdim=True) - math.log(5)
    both = (each.exp() - mixture.exp()) * (each - mixture)  # the sum of the two integrands
    wanted = torch.trapezoid(both, z, dim=0).mean()
    mpd = mutual_statistics(loc, log_var, softplus=True)[0].sum()
    torch.testing.assert_close(mpd * 4 / 5, wanted, rtol=1e-6, atol=0)


def test_trap_11_8_float32_far_from_the_origin():
    """Means at 1,000 with spreads of 0.1, where matrix products lose every digit (trap 11.8)."""
    loc, log_var = some(20, 4)
    loc = 0.1 * loc.float() + 1000
    log_var = (log_var * 0.1 - 4.6).float()
    found = mutual_statistics(loc, log_var, softplus=True)
    for a, b in zip(found, mutual_statistics(loc.double(), log_var.double(), softplus=True), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


def test_trap_12_log_variances_far_from_zero():
    """exp(v_i - v_j) is moderate where exp(v_i) alone would overflow."""
    loc, log_var = some(6, 3, dtype=torch.float32)
    near = mutual_statistics(loc, log_var, softplus=True)
    for shift in (-150.0, 150.0):
        scale = math.exp(shift / 2) if abs(shift) < 170 else 1.0
        for a, b in zip(mutual_statistics(loc * scale, log_var + shift, softplus=True), near, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_free_bits_hold_the_rate_and_report_the_true_one():
    loc, log_var = (0.1 * t for t in some(4, 2))
    loc.requires_grad_()
    draw = draw_of(loc, log_var)
    terms = mutual_divergence(draw, eta=0.0, gamma=0.0, free_bits=7.84)
    torch.testing.assert_close(terms.loss.item(), 7.84)
    torch.testing.assert_close(terms.example["rate"], draw.rate.sum(-1))
    assert torch.autograd.grad(terms.loss, loc)[0].abs().max() == 0


def test_other_bases_are_refused():
    with pytest.raises(InputError, match="needs a Gaussian base posterior; this one is of the family 'uniform'"):
        mutual_divergence(draw_of(*some(3, 2), family="uniform"))
    with pytest.raises(InputError, match="divides by eta, which is 0"):
        mutual_divergence(draw_of(*some(3, 2)), eta=0.0, pair_softplus="after-mean-sept")


MEMORY = """
import re, torch
from pathlib import Path
def peak():  # of this process alone: a child's ru_maxrss begins with its parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
torch.set_num_threads(1)
from elboroom.objectives import mutual_statistics
loc, log_var = (torch.randn(256, 1024, requires_grad=True) for _ in range(2))
sum(mutual_statistics(loc[:8], log_var[:8], softplus=True)[1:]).backward()
before = peak()
sum(mutual_statistics(loc, log_var, softplus=True)[1:]).backward()
print((peak() - before) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read where Linux tells it")
def test_memory_is_that_of_a_few_rows():
    """At 256 x 256 x 1,024 one tensor of all pairs is 256 MiB; the whole pass takes less than 64."""
    out = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=120)
    assert 1 < float(out.stdout) < 64


def test_slopes_are_exact_far_from_the_origin_too():
    """The gradient of trap 11.8's batch in float32 against float64, by its largest entry."""
    loc, log_var = some(20, 4)
    loc, log_var = 0.1 * loc.float() + 1000, (log_var * 0.1 - 4.6).float()
    for of_pairs in (True, False):
        found, exact = (slopes(loc.to(dtype), log_var.to(dtype), of_pairs) for dtype in (torch.float32, torch.float64))
        for a, b in zip(found, exact, strict=True):
            assert (a.double() - b).abs().max() < 1e-4 * b.abs().max()


def slopes(loc: Tensor, log_var: Tensor, of_pairs: bool) -> tuple[Tensor, ...]:
    loc, log_var = loc.clone().requires_grad_(), log_var.clone().requires_grad_()
    by_dim, soft, std = mutual_statistics(loc, log_var, softplus=of_pairs)
    return torch.autograd.grad((soft if of_pairs else by_dim.sum()) + std, (loc, log_var))


def test_half_precision_around_it_changes_nothing():
    loc, log_var = some(6, 3, dtype=torch.float32)
    plain = slopes(loc, log_var, True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for a, b in zip(slopes(loc, log_var, True), plain, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.compiled
@pytest.mark.parametrize("form", FORMS)
def test_it_traces_as_one_graph(form):
    loc, log_var = (t.requires_grad_() for t in some(6, 3))
    whole = torch.compile(
        lambda *given: mutual_divergence(draw_of(*given), pair_softplus=form).loss, backend="aot_eager", fullgraph=True
    )
    eager = torch.autograd.grad(mutual_divergence(draw_of(loc, log_var), pair_softplus=form).loss, (loc, log_var))
    for a, b in zip(torch.autograd.grad(whole(loc, log_var), (loc, log_var)), eager, strict=True):
        torch.testing.assert_close(a, b)


def test_trap_10_softplus_keeps_its_small_values():
    """At KL = 40 a softplus is 4e-18, which log(1 + exp(-40)) would round to 0 (trap 10)."""
    loc = torch.tensor([[0.0], [math.sqrt(80)]])
    found = mutual_statistics(loc, torch.zeros(2, 1), softplus=True)[1]
    torch.testing.assert_close(found, F.softplus(torch.tensor(-40.0)), rtol=1e-4, atol=0)

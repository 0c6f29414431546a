"""The traps of SPEC sections 9 and 11, each by its number; a name 11_x is a line of section 11.

Here: 1, 2, 3, 4, 5, 12, 18, 19, 20, 22, 25, 26, 27, 28, 11.1, 11.3, 11.4, 11.5, 11.10, 11.11.
Beside their parts, under the same names: 7, 8, 9, 10, 12, 24, 11.8 (objectives/test_pairwise.py), 11 with pairs
(distributions/test_divergences.py), 21 (objectives/test_limits.py), 15, 23, 33, 34, 11.7 (training/test_beginnings.py),
11.6 (studies/test_study.py), 11.9 (training/test_runtime.py), 11.13 (distributions/test_grey_levels.py).
Beside their parts under names of their own: 6 (evaluation/test_subject.py), 13 (networks/test_pixelcnn.py), 14
(networks/test_normalized.py), 16 (distributions/test_flow.py), 17 (models/test_pixels_in_order.py, by quadrature), 29
and 30 (evaluation/test_probes.py), 31 (evaluation/test_clustering.py), 32 (evaluation/test_generation.py), 35
(evaluation/test_marginal.py), 11.12 (models/test_iaf.py). Not applicable yet, since the part does not exist: 36 and 37
(PixelCNN++), and of 15, 23 and 11.11 what concerns several processes.
"""

import math
import shutil

import numpy as np
import pytest
import torch
from oracles.configurations import count, kinds, model_of, small_run
from oracles.small_data import data_of, run_of
from torch import nn

from elboroom import build
from elboroom.config import run_from
from elboroom.config.models import Posterior
from elboroom.distributions import BernoulliPixels, DiagonalNormal, StandardNormal, rate_by_dimension
from elboroom.errors import InputError
from elboroom.evaluation.likelihood import bound, bound_scores, evidence, nll_scores
from elboroom.evaluation.views import view
from elboroom.models.evidence import log_evidence
from elboroom.models.posteriors import clip_norm
from elboroom.numerics import Randomness, StreamingLogMeanExp
from elboroom.objectives import elbo, mu, reconstruction
from elboroom.records import Base, Draw
from elboroom.training.average import Average
from elboroom.training.checkpoint import pack, unpack
from elboroom.training.companions import Classifier

SHAPE = (1, 8, 8)
MNIST_CONSTANT = 448.7  # nats, (784 / 2) ln pi: SPEC 11, trap 10


def bits(n: int = 6, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return (torch.rand(n, *shape) < 0.5).float()


def normal_draw(loc: torch.Tensor, log_var: torch.Tensor) -> Draw:
    """One sample at the mean, and a distortion of zero."""
    q, p = DiagonalNormal(loc, log_var), StandardNormal(loc.shape[1])
    z, log_qz = q.rsample_with_log_prob(torch.zeros(1, *loc.shape))
    zero = torch.zeros(1, len(loc))
    return Draw(z, zero, p.log_prob(z), log_qz, Base("gaussian", loc, log_var), rate_by_dimension(q, p))


# SPEC section 9


def test_trap_1_sums_not_means():
    """784 fair coins weigh 784 log 2 = 543.43 nats; 20 latents at one standard deviation have a rate of 20 / 2."""
    coins = BernoulliPixels(torch.zeros(2, 1, 28, 28), 3).log_prob(bits(2, (1, 28, 28)))
    torch.testing.assert_close(coins, torch.full((2,), -543.4274))
    terms = elbo(normal_draw(torch.ones(5, 20), torch.zeros(5, 20)))
    torch.testing.assert_close(terms.example["rate"], torch.full((5,), 10.0))
    torch.testing.assert_close(terms.loss, torch.tensor(10.0))  # and the mean over the batch, once


def test_trap_1_the_gradient_does_not_shrink_with_the_image():
    """The pixels of four equal images side by side pull four times as much."""
    one = torch.zeros(1, 16, requires_grad=True)
    (single,) = torch.autograd.grad(BernoulliPixels(one, 1).log_prob(torch.ones(1, 16)).mean(), one)
    four = torch.zeros(1, 64, requires_grad=True)
    (repeated,) = torch.autograd.grad(BernoulliPixels(four, 1).log_prob(torch.ones(1, 64)).mean(), four)
    torch.testing.assert_close(repeated[:, :16], single)


def test_trap_2_log_variance_in_sampling_density_and_rate_alike():
    """sigma^2 = 9 and noise 1: z = 3; rate = (9 - log 9 - 1) / 2 = 2.901388. As log sigma it gives 9 and 36.8."""
    q = DiagonalNormal(torch.zeros(1, 1), torch.full((1, 1), math.log(9.0)))
    z, log_qz = q.rsample_with_log_prob(torch.ones(1, 1, 1))
    torch.testing.assert_close(z, torch.full((1, 1, 1), 3.0))
    torch.testing.assert_close(log_qz, torch.distributions.Normal(0.0, 3.0).log_prob(torch.tensor([[3.0]])))
    torch.testing.assert_close(rate_by_dimension(q, StandardNormal(1)), torch.tensor([[2.901388]]))


def test_trap_3_grey_pixels_have_no_nll():
    """Their score is named otherwise, and asking for a likelihood is refused with the cure."""
    config = small_run(likelihood="grey-bce")
    model = build.model(config, SHAPE, "unit-interval").eval()
    run, seen = run_of(config, model, SHAPE), view(data_of(torch.rand(5, *SHAPE)))
    names = {s.name for s in bound_scores(run, seen, bound(model, seen))}
    assert names == {"distortion", "rate", "bound/grey-bce"}
    with pytest.raises(InputError, match=r"'grey-bce' is no density of grey pixels, .* dynamic binarization"):
        run.density_offset()


def test_trap_3_a_perfect_reconstruction_of_grey_pixels_costs_their_entropy():
    """-sum x log x + (1 - x) log(1 - x), and nothing can cost less."""
    x = torch.rand(4, *SHAPE)
    entropy = torch.distributions.Bernoulli(x).entropy().sum((1, 2, 3))
    torch.testing.assert_close(-BernoulliPixels(x.logit(), 3).log_prob(x), entropy)
    assert (-BernoulliPixels(x.logit() + 0.1, 3).log_prob(x) > entropy).all()


def test_trap_4_squared_error_states_its_variance_and_constant():
    config = small_run(likelihood="squared-error")
    model = build.model(config, (1, 28, 28), "unit-interval").eval()
    run, seen = run_of(config, model, (1, 28, 28)), view(data_of(torch.rand(3, 1, 28, 28)))
    found = evidence(model, seen, 5)
    nll, _ = nll_scores(run, seen, found, 5)
    assert "variance 0.5" in nll.protocol.likelihood
    assert nll.value + found.bound.mean().item() == pytest.approx(MNIST_CONSTANT, abs=0.05)


def test_trap_5_evaluation_sees_one_binarization():
    """The same for the ELBO, for the NLL and for each of its samples; another copy is another draw."""
    seen = view(data_of(torch.rand(20, *SHAPE), binarize="dynamic", copies=2))
    first, again, other = (next(iter(seen.batches(copy=c)))[1].x for c in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert set(first.unique().tolist()) == {0.0, 1.0}


def test_trap_12_a_variance_that_underflows_is_finite_in_the_rate():
    """log sigma^2 = -200: exp gives 0 in float32, and the rate is (200 - 1) / 2."""
    q = DiagonalNormal(torch.zeros(1, 1), torch.full((1, 1), -200.0))
    torch.testing.assert_close(rate_by_dimension(q, StandardNormal(1)), torch.tensor([[99.5]]))


def test_trap_18_log_of_the_mean_without_overflow_or_loss():
    """4,096 log-weights of -30,000 +- 20, whose exp is 0 even in float64."""
    log_w = -30_000 + 20 * torch.randn(4096, 3, dtype=torch.float64)
    sums = StreamingLogMeanExp()
    for piece in log_w.float().split(128):
        sums.add(piece)
    expected = torch.logsumexp(log_w.float().double(), 0) - math.log(4096)
    torch.testing.assert_close(sums.log_mean, expected, rtol=1e-12, atol=0)
    assert sums.log_mean.dtype == torch.float64


def test_trap_18_images_are_averaged_after_the_logarithm():
    config = small_run()
    model, x = build.model(config, SHAPE, "binary").eval(), bits(4)
    seen = view(data_of(x))
    nll, _ = nll_scores(run_of(config, model, SHAPE), seen, evidence(model, seen, 50), 50)
    each = [log_evidence(model, x[i : i + 1], torch.tensor([i]), 50).bound.item() for i in range(4)]
    assert nll.value == pytest.approx(-sum(each) / 4, abs=1e-4)


def test_trap_19_different_numbers_of_samples_are_not_compared():
    config = small_run()
    model, seen = build.model(config, SHAPE, "binary").eval(), view(data_of(bits()))
    run = run_of(config, model, SHAPE)
    few, many = (nll_scores(run, seen, evidence(model, seen, k), k)[0].protocol for k in (10, 20))
    assert few.differences(many) == {"samples": (10, 20)}


def test_trap_20_a_saturated_pixel_costs_what_it_costs():
    """40 nats, not the 27.6 of log(1e-12)."""
    log_px = BernoulliPixels(torch.full((1, 1), 40.0), 1).log_prob(torch.zeros(1, 1))
    torch.testing.assert_close(log_px, torch.tensor([-40.0]))


def test_trap_22_the_average_copies_buffers_and_forgets_its_first_weights():
    """First decay (1 + 0) / (10 + 0) = 0.1, then 2 / 11, until 0.999."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = Average(model, 0.999)
    first = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    model(torch.randn(8, 2) + 3)
    average.update(model, 0)
    torch.testing.assert_close(average.model[0].weight, 0.1 * first + 0.9)
    torch.testing.assert_close(average.model[1].running_mean, model[1].running_mean)
    assert average.model[1].num_batches_tracked == 1
    assert not average.model.training
    average.update(model, 1)
    torch.testing.assert_close(average.model[0].weight, 2 / 11 * (0.1 * first + 0.9) + 9 / 11)
    average.update(model, 100_000)  # min(0.999, ...): the plain decay at last
    with torch.no_grad():
        model[0].weight.fill_(2.0)
    before = average.model[0].weight.clone()
    average.update(model, 100_001)
    torch.testing.assert_close(average.model[0].weight, before + 0.001 * (2 - before))


def test_trap_25_the_objective_of_mu_is_bounded_below():
    """Log-variances running to minus infinity cost more and more; signed, they would pay."""
    losses = [mu(normal_draw(torch.zeros(2, 3), torch.full((2, 3), v))).loss.item() for v in (0.0, -10.0, -1e6)]
    assert losses == pytest.approx([0.0, 30.0, 3e6])


def test_trap_26_clipping_at_zero_has_a_gradient():
    loc = torch.zeros(2, 3, requires_grad=True)
    clipped, norm = clip_norm(loc, 3.0)
    (clipped.sum() + norm.clamp_min(1).sum()).backward()
    torch.testing.assert_close(loc.grad, torch.ones(2, 3))


def clipped_model(c: float = 0.5, latent: int = 4) -> nn.Module:
    """A Gaussian posterior whose raw means all lie far outside of the ball."""
    run = run_from({"data": {"name": "digits"}, "model": {"posterior": {"latent": latent, "clip": c}}})
    model = build.model(run, SHAPE, "binary")
    with torch.no_grad():
        model.encoder.head.bias[:latent] += torch.tensor([30.0, -20.0, 10.0, 0.0])
        model.encoder.head.bias[latent:] = 2.0
    return model


def test_trap_27_the_mean_is_clipped_by_its_norm_and_the_sample_is_not():
    """Radius 0.5 sqrt(4) = 1; sigma = e."""
    model = clipped_model()
    draw = model(bits(50), torch.randn(20, 50, 4))
    norms = draw.base.loc.norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones(50))
    assert draw.z.norm(dim=-1).mean() > 2
    assert draw.base.loc.abs().max() > 0.5  # by the norm, not dimension by dimension
    assert (draw.base.norm > 20).all()


def test_trap_27_the_rate_is_that_of_the_clipped_mean():
    """0.5 (1 + 4 e^2 - 4 x 2 - 4): the raw mean would add hundreds of nats. The head's weights move lv a little."""
    model = clipped_model()
    draw = model(bits(50), torch.zeros(1, 50, 4))
    lv = draw.base.log_var
    expected = 0.5 * (draw.base.loc.square() + lv.exp() - lv - 1).sum(-1)
    torch.testing.assert_close(elbo(draw).example["rate"], expected)
    assert elbo(draw).example["rate"].max() < 40
    torch.testing.assert_close(mu(draw).batch["mean-bar"], draw.base.loc.sum().abs() / 50)


def test_trap_28_the_classifier_does_not_touch_the_encoder():
    """The gradients of the model are the same with and without it, bit for bit, and it does learn."""
    run = small_run(latent=2)
    labels, x, gradients = torch.arange(6) % 3, bits(), []
    for beside in (False, True):
        model = build.model(run, SHAPE, "binary")
        draw = model(x, model.noise(Randomness(0)("noise", 0), 1, 6))
        loss = elbo(draw).loss
        if beside:
            companion = Classifier(2, 3, hidden=(8,))
            before = [p.detach().clone() for p in companion.parameters()]
            companion.step(companion.optimizer(), draw, labels)
            assert all(not torch.equal(a, b) for a, b in zip(before, companion.parameters(), strict=True))
            assert all(p.grad is None for p in model.parameters())
        loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("code", ["z", "mean"])
def test_trap_28_the_classifier_reads_the_code_that_it_says(code):
    companion = Classifier(2, 2, hidden=(), code=code)
    seen = []
    companion.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    model = build.model(small_run(latent=2), SHAPE, "binary")
    draw = model(bits(), torch.randn(1, 6, 2))
    companion.step(companion.optimizer(), draw, torch.zeros(6, dtype=torch.int64))
    assert torch.equal(seen[0], draw.z[0] if code == "z" else draw.base.loc)
    assert not seen[0].requires_grad


# SPEC section 11


@pytest.mark.parametrize("objective", [elbo, mu, reconstruction])
def test_trap_11_1_every_parameter_gets_a_gradient(objective):
    """One without would stop data-parallel training, and get no weight decay."""
    model = build.model(small_run(), SHAPE, "binary")
    objective(model(bits(), torch.randn(1, 6, 2))).loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_trap_11_3_only_posteriors_that_cover_the_prior_have_an_nll():
    """A uniform posterior leaves codes out, so its importance bound stops short of log p(x) and is named a bound."""
    for posterior in set(kinds(Posterior)) - {"point"}:
        config = small_run(posterior=posterior)
        model = build.model(config, SHAPE, "binary").eval()
        seen = view(data_of(torch.rand(3, *SHAPE)))
        names = [s.name for s in nll_scores(run_of(config, model, SHAPE), seen, evidence(model, seen, 5), 5)]
        assert names == (["bound/importance"] if posterior == "uniform" else ["nll", "nll/effective-samples"])


def test_trap_11_4_standard_errors_are_over_images():
    """Five copies of 8 images are 8 examples."""
    config = small_run()
    model = build.model(config, SHAPE, "binary").eval()
    seen = view(data_of(torch.rand(8, *SHAPE), binarize="dynamic", copies=5))
    found = evidence(model, seen, 10)
    nll, _ = nll_scores(run_of(config, model, SHAPE), seen, found, 10)
    assert (nll.examples, nll.protocol.copies) == (8, 5)
    assert nll.stderr == pytest.approx(found.bound.std().item() / math.sqrt(8))


def test_trap_11_5_selecting_on_test_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((60, 4)))
    content = {"data": {"path": str(tmp_path / "x.npy"), "binarize": "dynamic"}, "training": {"patience": 5}}
    with pytest.raises(InputError, match=r"patience needs validation data, or it would select on test;.*data.valid"):
        build.data(run_from(content))
    content["data"]["valid"] = 5
    assert len(build.data(run_from(content)).valid) == 5
    assert build.data(run_from({"training": {"patience": 5}})).valid is not None  # digits have validation data


def test_trap_11_10_the_hidden_constant_of_the_squared_error():
    decoder = model_of({"likelihood": {"kind": "squared-error"}}).decoder
    assert -decoder.offset((1, 28, 28)) == pytest.approx(MNIST_CONSTANT, abs=0.05)
    z, x = torch.randn(3, 20), torch.rand(3, 1, 28, 28)
    exact = torch.distributions.Normal(decoder(z).mean, math.sqrt(0.5)).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(decoder(z).log_prob(x) + decoder.offset((1, 28, 28)), exact)


def test_trap_11_11_noise_comes_from_outside():
    """The pass itself draws nothing: not a single number of the global generator."""
    for posterior, objective in (("gaussian", "elbo"), ("point", "reconstruction")):
        model = build.model(small_run(posterior=posterior, objective=objective), SHAPE, "binary")
        noise = model.noise(Randomness(0)("noise", 0), 2, 6)
        x = bits()
        state = torch.get_rng_state()
        one, two = model(x, noise), model(x, noise)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(one.z, two.z)


def test_trap_11_11_channels_last_and_shared_tensors_are_saved():
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    tied = torch.randn(5, 2)
    tensors = {"conv": weight, "a": tied, "b": tied, "transposed": tied.T, "empty": torch.empty(0), "one": tied[0]}
    tensors["half"] = torch.ones(2, dtype=torch.bfloat16)
    content = pack(tensors)
    back = unpack(content)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor), name
        assert back[name].dtype == tensor.dtype
        assert back[name].is_contiguous()
    assert back["a"].data_ptr() == back["b"].data_ptr()  # tied once
    assert len(pack({"a": tied, "b": tied})) < len(pack({"a": tied, "b": tied.clone()}))


def test_trap_11_11_weights_survive_the_way_through_a_file():
    model = model_of({"encoder": {"kind": "conv"}, "decoder": {"kind": "conv"}}).to(memory_format=torch.channels_last)
    fresh = model_of({"encoder": {"kind": "conv"}, "decoder": {"kind": "conv"}})
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    fresh.load_state_dict(unpack(pack(model.state_dict())))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), fresh.parameters(), strict=True))
    assert count(fresh) == count(model)


needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="torch.compile needs a C++ compiler"
)


def compared(parts: dict[str, str], backend: str) -> None:
    """Loss and gradients of a compiled step against those of the same step run eagerly."""
    torch.compiler.reset()  # or all of these count against the limit of recompilations of one function
    run = small_run(**parts)
    x, objective = bits(), build.objective(run)
    found = []
    for compiled in (False, True):
        model = build.model(run, SHAPE, "binary")
        noise = model.noise(Randomness(0)("noise", 0), 2, 6)

        def step(x: torch.Tensor, noise: torch.Tensor, model: nn.Module = model) -> torch.Tensor:
            return objective(model(x, noise)).loss

        chosen = torch.compile(step, fullgraph=True, backend=backend) if compiled else step
        loss = chosen(x, noise)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters())])
    for eager, optimized in zip(*found, strict=True):
        torch.testing.assert_close(optimized, eager, rtol=1e-4, atol=1e-5)


@pytest.mark.compiled
@needs_compiler
def test_trap_11_11_a_compiled_step_equals_the_eager_one():
    compared({}, "inductor")


METHODS = (("gaussian", "elbo"), ("gaussian", "mu"), ("point", "reconstruction"))


@pytest.mark.compiled
@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("method", METHODS, ids="-".join)
@pytest.mark.parametrize("likelihood", ["bernoulli", "squared-error"])
def test_trap_11_11_every_step_is_one_graph(network, method, likelihood):
    """Traced whole, with its backward pass; the slow part, generating code, is left out."""
    posterior, objective = method
    parts = {"encoder": network, "decoder": network, "posterior": posterior, "objective": objective}
    compared({**parts, "likelihood": likelihood}, "aot_eager")

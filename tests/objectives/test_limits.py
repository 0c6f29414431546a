"""Free bits, capacity and warm-up: values by hand, and where the gradient of the rate stops."""

import pytest
import torch
from torch import Tensor

from elboroom.config import run_from
from elboroom.config.objectives import Cyclic, Elbo, FreeBits, Linear
from elboroom.errors import InputError
from elboroom.objectives import capacity, elbo, free_bits, total_correlation
from elboroom.objectives.schedules import constant, cyclic, linear
from elboroom.records import Base, Draw

RATE = [[0.5, 2.0, 0.0, 1.5], [1.5, 6.0, 0.0, 0.5]]  # batch means 1, 4, 0, 1; in total 6


def draw_of(rate: Tensor, step: int | None = None) -> Draw:
    """Two examples of distortion 10 whose rate by dimension is given."""
    zero = torch.zeros_like(rate)
    ten = torch.full((1, 2), -10.0, dtype=rate.dtype)
    moment = None if step is None else torch.tensor(step)
    return Draw(zero[None], ten, ten * 0, ten * 0, Base("gaussian", zero, zero), rate, step=moment)


@pytest.fixture
def rate() -> Tensor:
    return torch.tensor(RATE, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("options", "limited", "pressed"),
    [
        ({"nats": 5.0}, 6.0, [1, 1, 1, 1]),
        ({"nats": 7.0}, 7.0, [0, 0, 0, 0]),
        ({"nats": 1.5, "per": "dimension"}, 1.5 + 4 + 1.5 + 1.5, [0, 1, 0, 0]),
        ({"nats": 2.0, "per": "group", "size": 2}, 5.0 + 2.0, [1, 1, 0, 0]),
        ({"nats": 0.5, "per": "group", "size": 2}, 5.0 + 1.0, [1, 1, 1, 1]),
        ({"nats": 1.5, "per": "dimension", "beta": 3.0}, 8.5, [0, 3, 0, 0]),
    ],
)
def test_trap_21_free_bits_by_hand(rate, options, limited, pressed):
    terms = free_bits(draw_of(rate), **options)
    assert terms.batch["free-rate"].item() == pytest.approx(limited)
    assert terms.loss.item() == pytest.approx(10 + options.get("beta", 1.0) * limited)
    gradient = torch.autograd.grad(terms.loss, rate)[0]
    torch.testing.assert_close(gradient, torch.tensor([pressed] * 2).double() / 2)  # 0 below the limit
    torch.testing.assert_close(terms.example["rate"], rate.sum(-1))  # the true one is reported (trap 21)
    torch.testing.assert_close(terms.bound, -10 - rate.sum(-1))


def test_trap_21_the_limit_is_on_the_mean_of_the_batch_not_on_each_example(rate):
    """Rates 4 and 8 under a limit of 5: the mean, 6, is above it, so the example below it is pressed too."""
    assert free_bits(draw_of(rate), nats=5.0).batch["free-rate"] == 6.0


def test_groups_have_to_divide_the_latents(rate):
    with pytest.raises(InputError, match="groups of 3 do not divide 4 latents"):
        free_bits(draw_of(rate), per="group", size=3)


def test_by_dimension_needs_a_closed_form(rate):
    draw = draw_of(rate)
    sampled = Draw(draw.z, draw.log_px, draw.log_pz, draw.log_qz, draw.base)
    with pytest.raises(InputError, match="per dimension need a rate by dimension"):
        free_bits(sampled, per="dimension")
    assert free_bits(sampled, nats=1.0).batch["free-rate"] == 1.0  # the total takes the sample estimate


@pytest.mark.parametrize(("step", "target"), [(0, 0.0), (50, 5.0), (100, 10.0), (1000, 10.0), (None, 10.0)])
def test_capacity_by_hand(rate, step, target):
    """|6 - C| times 3, where C grows to 10 in 100 steps; below C the rate is rewarded."""
    terms = capacity(draw_of(rate, step), nats=10.0, steps=100, weight=3.0)
    assert terms.batch["rate-from-capacity"].item() == pytest.approx(abs(6 - target))
    assert terms.loss.item() == pytest.approx(10 + 3 * abs(6 - target))
    sign = 1.0 if target < 6 else -1.0
    gradient = torch.autograd.grad(terms.loss, rate)[0]
    torch.testing.assert_close(gradient, torch.full((2, 4), 3 * sign / 2).double())


def at(schedule: object, moments: list[int], **options: float) -> list[float]:
    return [float(schedule(torch.tensor(step), **options)) for step in moments]


def test_schedules_by_hand():
    assert at(linear, [0, 5, 10, 11], steps=10) == pytest.approx([0.0, 0.5, 1.0, 1.0])
    assert at(linear, [0, 5, 10], steps=10, start=0.2) == pytest.approx([0.2, 0.6, 1.0])
    assert at(cyclic, [0, 25, 50, 99, 100, 125], period=100) == pytest.approx([0, 0.5, 1, 1, 0, 0.5])
    assert at(cyclic, [0, 50, 99], period=100, rise=1.0) == pytest.approx([0, 0.5, 0.99])
    assert [constant(None), linear(None, steps=10), cyclic(None, period=10)] == [1.0, 1.0, 1.0]


def test_a_late_step_is_still_exact():
    """Steps are counted in integers: 20 million and one is no float32."""
    assert at(cyclic, [20_000_001], period=20_000_000, rise=1.0)[0] == pytest.approx(5e-8)


@pytest.mark.parametrize("objective", [elbo, free_bits])
def test_the_warm_up_weighs_the_rate(rate, objective):
    def warmup(step: Tensor | None) -> Tensor | float:
        return linear(step, steps=10)

    losses = [objective(draw_of(rate, step), beta=2.0, warmup=warmup).loss.item() for step in (0, 5, 20, None)]
    assert losses == pytest.approx([10.0, 16.0, 22.0, 22.0])  # without a step the weight is the last one


def test_a_step_is_asked_for_when_the_weight_moves():
    assert (Elbo().needs, Elbo(warmup=Linear()).needs) == ((), ("step",))
    assert FreeBits(warmup=Cyclic(period=3)).needs == ("step",)
    run = run_from({"objective": {"kind": "elbo", "warmup": {"kind": "cyclic", "period": 7}}})
    assert run.objective.warmup == Cyclic(period=7)


def test_the_weight_of_total_correlation_warms_up(rate):
    draw = draw_of(rate, 5)
    draw = Draw(**{**vars(draw), "train_size": 10})
    weights = total_correlation(draw, beta=4.0, warmup=lambda step: linear(step, steps=10)).weights
    assert float(weights["total-correlation"]) == 2.0
    assert weights["mutual-information"] == 1.0

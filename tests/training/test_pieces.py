"""Schedules, the average of weights, the meter, the journal: against their formulas."""

import json
import math

import pytest
import torch
from torch import nn

from elboroom.errors import Diverged
from elboroom.training import schedule
from elboroom.training.average import Average
from elboroom.training.journal import Journal
from elboroom.training.meters import Meter


def test_schedules_follow_their_formulas():
    assert schedule.constant(7, 10) == 1.0
    assert schedule.exponential(3, 10, decay=0.5) == 0.125
    assert schedule.cosine(0, 10) == 1.0
    assert schedule.cosine(5, 10, floor=0.2) == pytest.approx(0.6)
    assert schedule.cosine(10, 10, floor=0.2) == schedule.cosine(99, 10, floor=0.2) == pytest.approx(0.2)


def test_stages_grow_as_their_rate_falls():
    """IWAE: stage i has 3^i epochs at 10^(-i/7) times the rate; here an epoch has 10 steps."""
    fall = 10 ** (-1 / 7)
    rates = [schedule.stages(step, 400, first=10) for step in (0, 9, 10, 39, 40, 129, 130)]
    assert rates == pytest.approx([1, 1, fall, fall, fall**2, fall**2, fall**3])
    assert schedule.stages(35, 40, first=10) == schedule.stages(
        35, 4000, first=10
    )  # a longer run has the same beginning


def test_warm_up_rises_to_one_and_stays():
    assert [schedule.warm(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert schedule.warm(0, 0) == 1.0


def test_average_forgets_its_first_weights_in_short_runs():
    model = nn.BatchNorm1d(1)
    average = Average(model, 0.99)
    expected = 1.0
    for step in range(5):
        nn.init.constant_(model.weight, float(step))
        model.running_mean.fill_(step)
        average.update(model, step)
        decay = min(0.99, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.model.weight.item() == pytest.approx(expected)
    assert average.model.running_mean.item() == 4  # a buffer is copied, not averaged
    assert not any(p.requires_grad for p in average.model.parameters())


def test_average_decays_by_its_constant_in_the_long_run():
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, 0.5)
    nn.init.zeros_(model.weight)
    before = average.model.weight.item()
    average.update(model, 1_000)
    assert average.model.weight.item() == pytest.approx(before / 2)


def meter():
    return Meter(["loss", "distortion", "rate"], torch.device("cpu"))


def test_meter_weighs_batches_by_their_examples():
    counted = meter()
    counted.add(torch.tensor([1.0, 2.0, 3.0]), 30, 1)
    counted.add(torch.tensor([5.0, 6.0, 7.0]), 10, 2)
    assert counted.read() == ({"loss": 2.0, "distortion": 3.0, "rate": 4.0}, 40)
    assert counted.read() == ({"loss": 0.0, "distortion": 0.0, "rate": 0.0}, 0)  # it began anew


def test_meter_names_the_first_bad_step_and_the_term_behind_the_loss():
    counted = meter()
    counted.add(torch.tensor([1.0, 1.0, 1.0]), 1, 1)
    counted.check()
    counted.add(torch.tensor([math.nan, 1.0, math.inf]), 1, 2)
    counted.add(torch.tensor([math.nan, math.nan, math.nan]), 1, 3)
    with pytest.raises(Diverged, match="step 2: rate is not finite") as caught:
        counted.check()
    assert (caught.value.step, caught.value.term) == (2, "rate")


def test_meter_goes_on_from_its_state():
    counted, other = meter(), meter()
    counted.add(torch.tensor([1.0, 2.0, 3.0]), 30, 1)
    other.restore(counted.state())
    assert other.read() == counted.read()


@pytest.mark.parametrize("saved", [1, 40, 64, 100, 150])
def test_meter_that_was_saved_anywhere_gives_the_sums_of_one_left_alone(saved):
    """Bit for bit, whatever waits to be added up; 64 steps are added up at once."""
    values = torch.randn(150, 3, generator=torch.Generator().manual_seed(0))
    alone, first, resumed = meter(), meter(), meter()
    for step, row in enumerate(values, 1):
        alone.add(row, 10 + step % 7, step)
    for step, row in enumerate(values[:saved], 1):
        first.add(row, 10 + step % 7, step)
    resumed.restore({name: tensor.clone() for name, tensor in first.state().items()})
    for step, row in enumerate(values[saved:], saved + 1):
        resumed.add(row, 10 + step % 7, step)
    assert resumed.read() == alone.read()
    mean = sum((10 + s % 7) * row.double() for s, row in enumerate(values, 1)) / sum(10 + s % 7 for s in range(1, 151))
    for step, row in enumerate(values, 1):
        alone.add(row, 10 + step % 7, step)
    assert list(alone.read()[0].values()) == pytest.approx(mean.tolist(), rel=1e-12)


def test_meter_finds_a_bad_step_that_was_added_up_long_ago():
    counted = meter()
    for step in range(1, 200):
        counted.add(torch.tensor([1.0, math.nan if step in (70, 190) else 1.0, 1.0]), 1, step)
    with pytest.raises(Diverged, match="step 70: distortion is not finite"):
        counted.check()


def test_journal_is_cut_back_to_a_step_and_loses_torn_lines(tmp_path):
    journal = Journal(tmp_path)
    for step in (1, 2, 3):
        journal.write({"step": step, "loss": float(step)})
        journal.write_timing({"step": step, "seconds": 0.1})
    with journal.metrics.open("a") as file:
        file.write('{"step": 2, "lo')
    journal.cut_back(2)
    assert [json.loads(line)["step"] for line in journal.metrics.read_text().splitlines()] == [1, 2]
    assert len(journal.timing.read_text().splitlines()) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.jsonl", "timing.jsonl"]


@pytest.mark.parametrize("junk", [b"\xff\xfe\n", b"{}\n", b"[1]\n", b"5\n", b'{"step": 9}', b'"step"\n', b"\n"])
def test_journal_drops_what_is_no_line_of_its_own(tmp_path, junk):
    journal = Journal(tmp_path)
    journal.metrics.write_bytes(b'{"step": 1}\n' + junk)
    journal.cut_back(9)
    assert journal.metrics.read_bytes() == b'{"step": 1}\n'


def test_the_plain_average_keeps_the_first_weights_for_long():
    """After t steps of weight 1 from a start at 0: 1 - 0.9^t; the warm one has forgotten the start by then."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    plain, warm = Average(model, 0.9, plain=True), Average(model, 0.9)
    torch.nn.init.ones_(model.weight)
    for step in range(5):
        plain.update(model, step)
        warm.update(model, step)
    assert plain.model.weight.item() == pytest.approx(1 - 0.9**5)
    assert warm.model.weight.item() > 0.99

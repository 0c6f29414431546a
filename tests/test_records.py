"""What travels between stages, and that its shapes are checked while the tests run."""

import jaxtyping
import pytest
import torch

from elboroom.records import Batch, Draw, Terms


def test_loss_is_the_mean_of_weighted_examples_plus_the_weighted_batch_terms():
    """mean(1 + 4 x 10, 3 + 4 x 20) + 0.5 x 6 = mean(41, 83) + 3 = 65."""
    terms = Terms(
        {"distortion": torch.tensor([1.0, 3.0]), "rate": torch.tensor([10.0, 20.0])},
        batch={"bar": torch.tensor(6.0)},
        weights={"rate": 4.0, "bar": 0.5},
    )
    torch.testing.assert_close(terms.loss, torch.tensor(65.0))


def test_the_bound_ignores_the_weights_and_the_batch_terms():
    distortion, rate = torch.tensor([1.0, 3.0]), torch.tensor([10.0, 20.0])
    terms = Terms({"distortion": distortion, "rate": rate}, {"bar": torch.tensor(9.0)}, {"rate": 4.0})
    torch.testing.assert_close(terms.bound, torch.tensor([-11.0, -23.0]))


def test_an_objective_may_bring_its_own_bound():
    own = torch.tensor([-7.0])
    assert Terms({"distortion": torch.ones(1)}, own_bound=own).bound is own


def test_weights_may_be_tensors_of_the_step():
    terms = Terms({"distortion": torch.ones(3), "rate": torch.ones(3)}, weights={"rate": torch.tensor(0.25)})
    torch.testing.assert_close(terms.loss, torch.tensor(1.25))


def test_what_has_no_weight_is_not_in_the_loss_whatever_it_is():
    """0 times infinity is no number."""
    infinite = torch.tensor([torch.inf, 1.0])
    terms = Terms(
        {"distortion": torch.ones(2), "rate": infinite}, {"mpd": torch.tensor(torch.nan)}, {"rate": 0.0, "mpd": 0.0}
    )
    torch.testing.assert_close(terms.loss, torch.tensor(1.0))
    torch.testing.assert_close(Terms({"rate": infinite}, weights={"rate": 0.0}).loss, torch.tensor(0.0))


WRONG = {
    "batch of x and labels": lambda: Batch(torch.zeros(3, 2), torch.zeros(4, dtype=torch.int64)),
    "samples of z and log p(x|z)": lambda: Draw(torch.zeros(2, 3, 1), torch.zeros(5, 3), None, None),
    "labels that are floats": lambda: Batch(torch.zeros(3, 2), torch.zeros(3)),
    "a loss by pixel": lambda: Terms({"distortion": torch.zeros(3, 784)}),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_the_hook_refuses_wrong_shapes(make, request):
    if not request.config.getoption("--jaxtyping-packages"):
        pytest.skip("the shape-checking hook is off: --jaxtyping-packages=elboroom,shape_checks.checked")
    with pytest.raises(jaxtyping.TypeCheckError):
        make()

"""Optimizers, priors on weights, first weights, the searched learning rate, plateaus, longer runs, decoder slices."""

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from elboroom import InputError, build, runs
from elboroom.config import load_run, run_from, to_yaml
from elboroom.config.files import parse_yaml
from elboroom.networks.initialize import data_dependent_
from elboroom.objectives import elbo, mu
from elboroom.studies import execute as execution
from elboroom.studies.assemble import make_trainer
from elboroom.studies.execute import check_resumable, execute, extend
from elboroom.training.runtime import start

SMALL = {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}, "posterior": {"latent": 2}}


def config(**training):
    """A small run on digits; other top-level fields may be given as ``run=``."""
    run = training.pop("run", {})
    return run_from({"model": SMALL, "training": {"epochs": 2, **training}, **run})


def trainer(run, tmp_path: Path):
    return make_trainer(run, build.data(run), start("cpu", 1), tmp_path / "unused", "")


def weights(folder: Path) -> str:
    last = (folder / "checkpoints" / "last").read_text().strip()
    return hashlib.sha256((folder / "checkpoints" / last / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["adam", "adamw", "adagrad", "sgd", "adamax"])
def test_every_optimizer_lowers_the_loss(kind, tmp_path):
    made = trainer(config(optimizer={"kind": kind, "lr": 0.01}), tmp_path)
    first = made.trial(2)
    assert made.trial(26) < first


def test_trap_34_a_prior_on_the_weights_adds_its_gradient_per_image(tmp_path):
    """SPEC 2.1: the loss per image of sum_i ELBO_i + log N(theta; 0, v) has the extra gradient theta / (N v)."""
    run = config(optimizer={"kind": "sgd", "lr": 1.0}, weight_prior=0.5)
    model = nn.Linear(3, 1, bias=False)
    before = model.weight.detach().clone()
    optimizer = build.optimizer(run, model, 1000)
    (0.0 * model.weight).sum().backward()
    optimizer.step()
    torch.testing.assert_close(before - model.weight, before / (1000 * 0.5))


def test_trap_11_7_decoupled_decay_is_no_prior():
    with pytest.raises(InputError, match="no Gaussian prior"):
        config(optimizer="adamw", weight_prior=1.0)


def test_trap_33_the_first_step_of_adagrad_is_the_learning_rate():
    model = nn.Linear(4, 1, bias=False)
    before = model.weight.detach().clone()
    optimizer = build.optimizer(config(optimizer={"kind": "adagrad", "lr": 0.02}), model, 10)
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    torch.testing.assert_close((model.weight - before).abs(), torch.full_like(before, 0.02))


def test_normal_initialization_has_its_deviation():
    run = run_from(
        {"training": {"init": "normal", "init_std": 0.01}, "data": {"name": "digits", "binarize": "dynamic"}}
    )
    flat = torch.cat([p.flatten() for p in build.model(run, (1, 28, 28), "binary").parameters()])
    assert flat.std().item() == pytest.approx(0.01, rel=0.01)  # 815,824 draws: standard error 0.08 %


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_data_dependent_initialization_standardizes_every_layer(kind):
    run = run_from({"model": {"encoder": kind, "decoder": kind, "posterior": {"latent": 3}}})
    model, x = build.model(run, (1, 8, 8), "binary").eval(), (torch.rand(400, 1, 8, 8) < 0.5).float()
    data_dependent_(model, lambda: model.decoder(model.encoder(x).mean))
    seen = []
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    for layer in layers:
        layer.register_forward_hook(lambda m, i, out: seen.append(out.transpose(0, 1).flatten(1)))
    model.decoder(model.encoder(x).mean)
    assert len(seen) == len(layers)
    for out in seen:
        torch.testing.assert_close(out.mean(1), torch.zeros(len(out)), atol=1e-4, rtol=0)
        torch.testing.assert_close(out.std(1), torch.ones(len(out)), atol=1e-3, rtol=0)


def test_trap_15_the_average_starts_from_the_fitted_weights(tmp_path):
    """Fitted to the images before the averaged copy and the optimizer are made, in evaluation mode, once."""
    drawn = build.model(config(), (1, 8, 8), "binary")
    made = trainer(config(init="data-dependent", average=0.9), tmp_path)
    for first, mine, average in zip(
        drawn.parameters(), made.model.parameters(), made.average.model.parameters(), strict=True
    ):
        assert torch.equal(mine, average)
        assert not torch.equal(mine, first)
    owned = {id(p) for group in made.optimizer.param_groups for p in group["params"]}
    assert owned == {id(p) for p in made.model.parameters()}


def test_optimal_variance_is_that_of_a_whole_batch():
    with pytest.raises(InputError, match=r"whole batch, which no slice has; set --training.decoder_slices 1"):
        run_from(
            {
                "data": {"name": "digits"},
                "model": {"likelihood": "gaussian-optimal"},
                "training": {"decoder_slices": 2},
            }
        )


def test_a_unit_that_does_not_vary_is_left_alone():
    layer = nn.Linear(2, 1)
    nn.init.zeros_(layer.weight)
    bias = layer.bias.item()
    data_dependent_(layer, lambda: layer(torch.randn(10, 2)))
    assert (layer.weight == 0).all()
    assert layer.bias.item() == bias


def test_one_example_says_nothing_of_deviations():
    layer = nn.Linear(4, 3)
    before = [p.clone() for p in layer.parameters()]
    data_dependent_(layer, lambda: layer(torch.randn(1, 4)))
    assert all(torch.equal(p, b) for p, b in zip(layer.parameters(), before, strict=True))


def test_a_layer_that_is_passed_twice_is_fitted_the_first_time():
    """As tied layers are: its first outputs get mean 0 and deviation 1, and it stays as they left it."""
    layer, x, seen = nn.Linear(3, 3), torch.randn(500, 3) * 4 + 2, []

    def run():
        seen.append(layer(x))
        seen.append(layer(seen[0]))

    data_dependent_(layer, run)
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0].std(0), torch.ones(3), atol=1e-5, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), seen[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("slices", [2, 3, 7])
@pytest.mark.parametrize("objective", [elbo, mu])
def test_trap_23_decoder_slices_change_no_number(objective, slices):
    """Nor where a term acts on the whole batch."""
    run = config()
    model = build.model(run, (1, 8, 8), "binary").double()
    x, noise = (torch.rand(10, 1, 8, 8) < 0.5).double(), torch.randn(4, 10, 2, dtype=torch.float64)
    losses, gradients = [], []
    for model.slices in (1, slices):
        model.zero_grad()
        loss = objective(model(x, noise)).loss
        loss.backward()
        losses.append(loss)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_search_takes_the_rate_with_the_lowest_loss(tmp_path):
    run = config(lr_search={"rates": [1e-5, 0.01, 1e4], "steps": 13})
    execute(run, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "lr-search.json").read_text())
    finite = {float(k): v for k, v in found["losses"].items() if v is not None}
    assert found["chosen"] == min(finite, key=finite.get) == 0.01
    alone = config(optimizer={"lr": 0.01})
    execute(alone, tmp_path / "alone")
    assert weights(tmp_path / "run") == weights(tmp_path / "alone")


def test_init_from_starts_where_the_other_run_ended(tmp_path):
    execute(config(), tmp_path / "first")
    run = config(run={"init_from": str(tmp_path / "first")})
    made = trainer(run, tmp_path)
    from elboroom import load

    other = load(tmp_path / "first").model.state_dict()
    assert all(torch.equal(v, other[k]) for k, v in made.model.state_dict().items())


def test_a_run_that_began_at_its_neighbour_is_opened_and_goes_on(tmp_path):
    """Siblings are what `elboroom train` makes: the path from one to the other has one name only."""
    execute(config(), tmp_path / "runs" / "first")
    begun = config(run={"init_from": str(tmp_path / "runs" / "first")})
    folder = tmp_path / "runs" / "second"
    execute(begun, folder)
    assert runs.load(folder).model is not None
    longer = extend(folder, load_run(folder / "config.yaml"), ["--training.epochs", "3"])
    execute(longer, folder, resume=True)
    assert runs.read_state(folder)["epoch"] == 3


def test_init_from_runs_no_code_that_the_run_itself_does_not_name(tmp_path):
    execute(config(), tmp_path / "first")
    path = tmp_path / "first" / "config.yaml"
    content = parse_yaml(path.read_text(), "here")
    content["model"]["decoder"] = {"kind": "no_such_module:Net"}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="opening it runs that code"):
        trainer(config(run={"init_from": str(tmp_path / "first")}), tmp_path)


def test_init_from_another_model_is_refused(tmp_path):
    execute(config(), tmp_path / "first")
    model = {**SMALL, "posterior": {"latent": 3}}
    run = run_from({"model": model, "init_from": str(tmp_path / "first")})
    with pytest.raises(InputError, match="first: its model is not this run's"):
        trainer(run, tmp_path)


def test_a_lengthened_run_equals_the_longer_run(tmp_path, monkeypatch):
    run = config(average=0.9)
    execute(run, tmp_path / "short")
    with pytest.raises(InputError, match="already done"):
        check_resumable(tmp_path / "short")
    check_resumable(tmp_path / "short", longer=True)
    longer = extend(tmp_path / "short", run, ["--training.epochs", "4"])
    assert runs.read_state(tmp_path / "short")["status"] == "done"  # nothing is written before the checkpoint is seen
    with monkeypatch.context() as patched:
        patched.setattr(execution, "_train", lambda *_: None)
        execute(longer, tmp_path / "short", resume=True)
    assert check_resumable(tmp_path / "short")["status"] == "stopped"  # were it killed here, it would not pass as done
    execute(longer, tmp_path / "short", resume=True)
    execute(config(average=0.9, epochs=4), tmp_path / "long")
    assert weights(tmp_path / "short") == weights(tmp_path / "long")
    assert (tmp_path / "short/metrics.jsonl").read_bytes() == (tmp_path / "long/metrics.jsonl").read_bytes()


def test_what_was_trained_cannot_be_changed_afterwards(tmp_path):
    run = config()
    execute(run, tmp_path / "run")
    before = (tmp_path / "run/config.yaml").read_text()
    with pytest.raises(InputError, match="depends on these options"):
        extend(tmp_path / "run", run, ["--training.batch", "5"])
    assert (tmp_path / "run/config.yaml").read_text() == before == to_yaml(run)


def test_the_least_rate_of_a_plateau_is_that_of_drops_and_decay_together(tmp_path):
    """0.9^7 is the first power of 0.9 under a half."""
    run = config(epochs=50, schedule={"kind": "plateau", "patience": 99, "decay": 0.9, "least": 0.5})
    (tmp_path / "unused").mkdir()
    made = trainer(run, tmp_path)
    assert made.run().step == 7


def test_a_plateau_drops_the_rate_and_ends_the_training(tmp_path):
    """A rate of 1e-12 improves nothing that float32 shows, so every second evaluation after the first drops it."""
    plateau = {"kind": "plateau", "patience": 1, "drops": 2, "factor": 0.5, "least": 0.0}
    run = config(epochs=50, optimizer={"kind": "sgd", "lr": 1e-30}, schedule=plateau)
    (tmp_path / "unused").mkdir()
    made = trainer(run, tmp_path)
    progress = made.run()
    assert (progress.drops, progress.rate_factor) == (3, 0.125)
    assert progress.step == made.steps_per_epoch * (1 + 3 * 2)
    assert math.isfinite(progress.best_loss)


def test_a_drop_forgets_the_moments(tmp_path):
    plateau = {"kind": "plateau", "patience": 1, "drops": 1}
    made = trainer(config(schedule=plateau), tmp_path)
    made.trial(2)
    assert len(made.optimizer.state) > 0
    made._drop_rate(made.plan.plateau)
    assert len(made.optimizer.state) == 0


@pytest.mark.parametrize("by", ["loss", "elbo"])
def test_the_best_checkpoint_goes_by_what_was_asked_for(by, tmp_path):
    """Under beta = 30 loss and ELBO are far apart; MAE's training goes by the ELBO alone, by five samples."""
    objective = {"kind": "elbo", "beta": 30.0}
    run = config(epochs=3, select_by=by, evaluate_samples=5, run={"objective": objective})
    execute(run, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    valid = [line for line in lines if line["split"] == "valid"]
    best = min(line["loss"] if by == "loss" else -line["elbo"] for line in valid)
    made = trainer(run, tmp_path)
    state = made.store.__class__(tmp_path / "run/checkpoints").load(int(valid[-1]["step"]), only=()).values
    assert state["progress"]["best_loss"] == pytest.approx(best)
    assert abs(valid[-1]["loss"] + valid[-1]["elbo"]) > 0.1


def test_there_is_no_elbo_to_go_by_without_a_density():
    with pytest.raises(InputError, match="select_by: elbo needs a bound"):
        config(select_by="elbo", run={"model": {**SMALL, "likelihood": "grey-bce"}})


def test_more_samples_in_the_evaluation_change_no_training(tmp_path):
    for name, samples in (("one", None), ("five", 5)):
        execute(config(epochs=1, evaluate_samples=samples), tmp_path / name)
    assert weights(tmp_path / "one") == weights(tmp_path / "five")


def test_glorot_initialization_has_its_variance():
    """Glorot & Bengio (2010): 2 / (inputs + outputs), and zero biases."""
    model = build.model(config(init="glorot", run={"model": "iwae"}), (1, 28, 28), "binary")
    first = model.encoder.network.body[1]
    assert first.weight.var().item() == pytest.approx(2 / (784 + 200), rel=0.02)
    assert first.weight.abs().max() <= (6 / 984) ** 0.5
    assert not first.bias.any()


def test_a_decoder_may_start_at_the_mean_image(tmp_path):
    """Its last bias is the logit of the mean image before binarization, clipped: blank corners start at 0.001."""
    made = trainer(config(mean_image=True, run={"data": {"name": "digits", "binarize": "dynamic"}}), tmp_path)
    bias = made.model.decoder.head[0].bias.detach()
    pixels = made.data.train.unbinarized(torch.arange(len(made.data.train)))
    expected = pixels.mean(0).flatten().clamp(0.001, 0.999)
    torch.testing.assert_close(bias.sigmoid(), expected)
    assert bias.min().item() == pytest.approx(math.log(0.001 / 0.999), rel=1e-5)


def test_no_mean_image_without_logits(tmp_path):
    run = config(
        mean_image=True, run={"data": {"name": "digits"}, "model": {**SMALL, "likelihood": {"kind": "gaussian"}}}
    )
    with pytest.raises(InputError, match="Bernoulli decoder"):
        trainer(run, tmp_path)

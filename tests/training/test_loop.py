"""What a training keeps, when it stops, and what it says of itself."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from elboroom import build, runs
from elboroom.config import load_run, run_from
from elboroom.config.run import to_dict
from elboroom.errors import Diverged, InputError, Stopped
from elboroom.evaluation import evaluate
from elboroom.studies import assemble
from elboroom.studies import execute as execution
from elboroom.studies.execute import check_resumable, execute
from elboroom.training.checkpoint import Store
from elboroom.training.runtime import Runtime


def lines(folder, split=None):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if split in (None, line["split"])]


def store(folder):
    return Store(folder / "checkpoints")


def test_last_best_and_kept_epochs(tmp_path, tiny):
    execute(tiny(epochs=5, keep_epochs=[1, 3], optimizer={"kind": "adam", "lr": 0.05}), tmp_path / "run")
    valid = lines(tmp_path / "run", "valid")
    best = min(valid, key=lambda line: line["loss"])["step"]
    found = store(tmp_path / "run")
    assert (found.pointer("last"), found.pointer("best")) == (10, best)
    assert set(found.steps()) == {2, 6, 10, best}
    assert runs.load(tmp_path / "run").step == best
    assert runs.load(tmp_path / "run", checkpoint="last").step == 10
    assert runs.load(tmp_path / "run", checkpoint="step-6").step == 6
    with pytest.raises(InputError, match="step-99"):
        _ = runs.load(tmp_path / "run", checkpoint="step-99").model


def test_best_is_never_chosen_on_test(tmp_path, tiny, monkeypatch):
    from dataclasses import replace

    load = build.data
    monkeypatch.setattr(build, "data", lambda config: replace(load(config), valid=None))
    execute(tiny(), tmp_path / "run")
    assert store(tmp_path / "run").pointer("best") is None
    assert {line["split"] for line in lines(tmp_path / "run")} == {"train", "test"}
    assert runs.load(tmp_path / "run").step == 4


def test_patience_stops_after_evaluations_without_a_better_one(tmp_path, tiny):
    config = tiny(epochs=50)
    trainer = execution.make_trainer(config, build.data(config), Runtime(torch.device("cpu"), 1, "fp32"), tmp_path, "x")
    losses = iter([5.0, 4.0, 4.5, 4.2, 1.0])
    trainer.plan = type(trainer.plan)(epochs=50, batch=32, patience=2)
    trainer.monitor = lambda model, companion: {"split": "valid", "loss": next(losses)}
    progress = trainer.run()
    assert (progress.step, progress.best_step, progress.best_loss) == (8, 4, 4.0)
    assert store(tmp_path).pointer("best") == 4


@pytest.mark.parametrize("weights", ["raw", "average"])
def test_evaluated_weights_are_the_ones_asked_for(tmp_path, tiny, weights):
    execute(tiny(average=0.9, evaluate_with=weights), tmp_path / "run")
    run = runs.load(tmp_path / "run")
    group = {"raw": "model", "average": "average"}[weights]
    expected = run.store.load(run.step).groups
    assert run.weights == weights
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, expected[group][name])
    assert not torch.equal(*(g["encoder.head.weight"] for g in (expected["model"], expected["average"])))


def stop_after(steps):
    """A question that is answered with a reason after so many steps."""
    asked = [0]

    def stop():
        asked[0] += 1
        return "enough" if asked[0] == steps else None

    return stop


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_stopped_and_resumed_is_the_run_left_alone(tmp_path, tiny, steps):
    """Also where a checkpoint was due at the very step of the stop (2)."""
    execute(tiny(), tmp_path / "alone")
    with pytest.raises(Stopped, match="enough"):
        execute(tiny(), tmp_path / "run", stop=stop_after(steps))
    state = runs.read_state(tmp_path / "run")
    assert (state["status"], state["step"], state["reason"]) == ("stopped", steps, "enough")
    execute(tiny(), tmp_path / "run", resume=True)
    assert runs.load(tmp_path / "run").checkpoint_hash == runs.load(tmp_path / "alone").checkpoint_hash
    assert lines(tmp_path / "run") == lines(tmp_path / "alone")


def of_chains(tiny):
    """A run by Monte Carlo EM: three updates with each sample, averaged weights."""
    objective = {"kind": "monte-carlo-em", "leapfrog": 2, "burn_in": 2}
    return run_from(to_dict(tiny(updates=3, average=0.9)) | {"objective": objective})


@pytest.mark.parametrize("steps", [1, 3])
def test_chains_go_on_where_they_were(tmp_path, tiny, steps):
    """Every file of the last checkpoint, the places of the chains and their step size among them."""
    execute(of_chains(tiny), tmp_path / "alone")
    with pytest.raises(Stopped, match="enough"):
        execute(of_chains(tiny), tmp_path / "run", stop=stop_after(steps))
    execute(of_chains(tiny), tmp_path / "run", resume=True)
    one, other = (store(tmp_path / name).path(4) for name in ("alone", "run"))
    files = {path.name for path in one.iterdir()}
    assert files == {f"{n}.safetensors" for n in ("model", "optimizer", "meter", "average", "chains")} | {"state.json"}
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)
    assert lines(tmp_path / "run") == lines(tmp_path / "alone")
    chains = store(tmp_path / "run").load(4).groups["chains"]
    assert not chains["places"].isnan().any()
    assert chains["moves"] == 4
    assert {"joint", "distortion", "acceptance"} < set(lines(tmp_path / "run", "train")[-1])
    assert not {"elbo", "rate", "active-units"} & set(lines(tmp_path / "run", "valid")[-1])


def test_several_updates_with_one_batch(tmp_path, tiny):
    """Two of one step are two steps by hand with the same batch, noise and rate."""
    config = tiny(updates=2)
    place = Runtime(torch.device("cpu"), 1, "fp32")
    by_hand, trainer = (execution.make_trainer(config, build.data(config), place, tmp_path, "x") for _ in range(2))
    rows = trainer._rows(0)
    trainer._step(rows, 0)
    x = by_hand.data.train.batch(rows, by_hand.random("binarize", 0)).x
    for _ in range(2):
        noise = by_hand.model.noise(by_hand.random("noise", 0), 1, len(rows))
        by_hand.objective(by_hand.model(x, noise)).loss.backward()
        by_hand.optimizer.step()
        by_hand.optimizer.zero_grad()
    for one, other in zip(trainer.model.parameters(), by_hand.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_killed_after_its_last_checkpoint_a_run_is_done_at_once(tmp_path, trained):
    before = runs.load(trained).checkpoint_hash
    runs.write_state(trained, "running", step=4)
    execute(runs.load(trained).config, trained, resume=True)
    assert runs.read_state(trained)["status"] == "done"
    assert runs.load(trained).checkpoint_hash == before


def test_a_lost_pointer_loses_no_training(tmp_path, trained):
    """Killed between a checkpoint and its pointer, or without the file `last`, a run goes on from the newest."""
    before = runs.load(trained).checkpoint_hash
    (trained / "checkpoints" / "last").unlink()
    runs.write_state(trained, "running", step=4)
    log = (trained / "timing.jsonl").read_text()
    execute(runs.load(trained, checkpoint="step-4").config, trained, resume=True)
    assert runs.load(trained, checkpoint="last").checkpoint_hash == before
    assert (trained / "timing.jsonl").read_text() == log  # not a step was trained again


def test_resume_of_a_done_run_is_refused(trained):
    with pytest.raises(InputError, match="already done"):
        check_resumable(trained)


@pytest.mark.parametrize("gone", ["checkpoints", "checkpoints/step-4"])
def test_a_done_run_without_checkpoints_is_trained_anew(trained, gone):
    """Evaluating it said `resume`, and resuming it said `evaluate`."""
    before, said = runs.load(trained, checkpoint="last").checkpoint_hash, []
    shutil.rmtree(trained / gone)
    for other in (trained / "checkpoints").glob("step-*"):
        shutil.rmtree(other)
    config = load_run(trained / "config.yaml")
    check_resumable(trained)
    execute(config, trained, resume=True, say=said.append)
    assert f"{trained}: no checkpoint is there; training it from the beginning, with a new log" in said
    assert runs.load(trained, checkpoint="last").checkpoint_hash == before
    with pytest.raises(InputError, match="already done"):
        check_resumable(trained)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"status": 3}', "\x00"])
def test_torn_state_of_a_run_is_found_out_by_resuming(trained, text):
    (trained / "state.json").write_text(text)
    check_resumable(trained)
    execute(runs.load(trained).config, trained, resume=True)
    assert runs.read_state(trained)["status"] == "done"


def test_a_run_in_training_is_refused_to_a_second_process(trained):
    runs.write_state(trained, "running")
    code = f"from elboroom.cli import main; import sys; sys.argv[1:] = ['resume', {str(trained)!r}]; main()"
    with runs.locked(trained):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 2
    assert "another process" in done.stderr


def test_locking_leaves_no_file_and_ends_with_its_block(tmp_path):
    for _ in range(2):
        with runs.locked(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_diverged_run_says_when_and_in_what_and_keeps_its_checkpoint(tmp_path, tiny, monkeypatch):
    """The third step's loss becomes infinite."""
    objective = build.objective
    calls = [0]

    def exploding(config):
        inner = objective(config)

        def scored(draw):
            terms = inner(draw)
            calls[0] += torch.is_grad_enabled()
            if calls[0] == 3 and torch.is_grad_enabled():
                terms.example["rate"].data.fill_(float("inf"))
            return terms

        return scored

    monkeypatch.setattr(build, "objective", exploding)
    with pytest.raises(Diverged, match="step 3: rate"):
        execute(tiny(), tmp_path / "run")
    state = runs.read_state(tmp_path / "run")
    assert (state["status"], state["at"], state["term"], state["kept"]) == ("diverged", 3, "rate", 2)
    assert runs.load(tmp_path / "run").step == 2
    assert runs.load(tmp_path / "run").sample(2).shape == (2, 1, 8, 8)


def test_an_error_in_the_monitor_is_shown_and_the_run_can_go_on(tmp_path, tiny, monkeypatch):
    def broken(*args, **options):
        def watch(model, companion):
            raise ZeroDivisionError("of ours")

        return watch

    with monkeypatch.context() as patched:
        patched.setattr(assemble, "monitor", broken)
        with pytest.raises(ZeroDivisionError):
            execute(tiny(), tmp_path / "run")
    execute(tiny(), tmp_path / "run", resume=True)
    assert runs.read_state(tmp_path / "run")["status"] == "done"


def test_scores_of_other_weights_do_not_stand_beside_the_new(trained):
    run = runs.load(trained)
    evaluate(run, samples=2, images=5)
    path = run.evaluation / "scores.json"
    path.write_text(path.read_text().replace(run.checkpoint_hash, "0123456789ab"))
    scores = evaluate(run, samples=None)
    kept = json.loads((trained / "scores.json").read_text())["scores"]
    assert len(kept) == len(scores)
    assert {s["protocol"]["checkpoint"] for s in kept} == {run.checkpoint_hash}
    path.write_text("torn")
    evaluate(run, samples=None)

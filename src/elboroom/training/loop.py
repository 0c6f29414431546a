"""The training loop, to be read from top to bottom.

All randomness is a function of (seed, purpose, step), so a run that was killed and resumed is the run left alone.
"""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from elboroom.data import Data
from elboroom.errors import Diverged, InputError, Stopped
from elboroom.numerics import Randomness, full_precision
from elboroom.objectives.needs import ask
from elboroom.records import Asked, Draw, Terms
from elboroom.training.average import Average
from elboroom.training.checkpoint import Checkpoint, Store, Tensors, optimizer_tensors, restore_optimizer
from elboroom.training.journal import Journal
from elboroom.training.meters import Meter, term_floors, term_names, term_values
from elboroom.training.schedule import constant, warm


@dataclass(frozen=True)
class Plan:
    """How long, in what batches, and what is kept on the way; the fields of `elboroom.config.Training` that the loop
    itself reads, with the same meaning."""

    epochs: int
    batch: int = 100
    samples: int = 1
    updates: int = 1
    warmup: int = 0
    clip_norm: float | None = None
    average: float | None = None
    average_form: str = "warm"
    evaluate_with: str = "auto"
    compile: bool = False
    drop_last: bool = False
    log_every: int | None = None
    evaluate_every: int = 1
    select_by: str = "loss"
    checkpoint_every: int | None = None
    keep_epochs: tuple[int, ...] = ()
    patience: int | None = None
    plateau: "Plateau | None" = None


@dataclass(frozen=True)
class Plateau:
    """When the learning rate drops for want of progress, and when training ends for it."""

    factor: float = 0.5
    patience: int = 20
    restart: bool = True
    drops: int = 3
    least: float = 0.05


@dataclass
class Progress:
    """Where a training stands; every field is in the checkpoint."""

    step: int = 0
    best_step: int | None = None
    best_loss: float = math.inf  # or the negative ELBO, where the plan selects by it
    bad_evaluations: int = 0  # since the best
    stale_evaluations: int = 0  # since the best, or the last drop of the learning rate
    drops: int = 0
    rate_factor: float = 1.0
    done: bool = False


class Companion(Protocol):
    """What the loop wants of a module that learns beside the model; ``names`` are the keys of what `step` returns."""

    names: tuple[str, ...]

    def optimizer(self) -> torch.optim.Optimizer: ...
    def step(self, optimizer: torch.optim.Optimizer, draw: Draw, labels: Tensor) -> dict[str, Tensor]: ...


Monitor = Callable[[nn.Module, nn.Module | None], dict[str, Any]]
"""(model, companion) -> a log line's fields, among them ``split`` and ``loss``."""


class Trainer:
    """Trains a model on data, into a run folder.

    Args:
        model: called as ``model(x, noise)``, gives a `Draw`; already on its device.
        objective: a `Draw` to `Terms`; what else it ``needs`` of a draw is asked of the model.
        data: its ``train`` split is trained on; ``valid``, where there is one, selects ``best``.
        optimizer: over the model's parameters.
        folder: the run folder.
        plan: length, batches, what is kept.
        seed: of everything random.
        schedule: factor of the learning rate from (step, steps).
        companion: a module that learns beside the model.
        monitor: evaluates the model after an epoch.
        autocast: makes the context in which the networks compute.
        stop: asked after every step; a reason in words ends the training with a checkpoint.
        report: told every log line, for the eyes of the user.
        identity: hash of the configuration; a checkpoint of another one is refused.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Callable[[Draw], Terms],
        data: Data,
        optimizer: torch.optim.Optimizer,
        folder: Path,
        plan: Plan,
        *,
        seed: int = 0,
        schedule: Callable[[int, int], float] = constant,
        companion: nn.Module | None = None,
        monitor: Monitor | None = None,
        autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
        stop: Callable[[], str | None] = lambda: None,
        report: Callable[[dict[str, Any]], None] = lambda line: None,
        identity: str = "",
    ) -> None:
        self.model, self.objective, self.data, self.optimizer = model, objective, data, optimizer
        self.plan, self.seed, self.schedule, self.companion = plan, seed, schedule, companion
        self.monitor, self.autocast, self.stop, self.report, self.identity = monitor, autocast, stop, report, identity
        self.device = next(model.parameters()).device
        self.chains = getattr(model, "chains", None)
        if self.chains is not None:  # before the averaged copy, which copies their places
            self.chains.remember(plan.samples, len(data.train), model.encoder.latent)
        self.store, self.journal = Store(folder / "checkpoints"), Journal(folder)
        self.average = None if plan.average is None else Average(model, plan.average, plan.average_form == "plain")
        self.companion_optimizer = None if companion is None else companion.optimizer()
        self.progress = Progress()
        self.random = Randomness(seed, self.device)
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self._order, self._order_epoch = None, -1
        # One graph per batch size, whichever comes first: a resumed run may begin with an epoch's smaller last batch.
        score = self._draw_and_score
        if plan.compile:
            torch.compiler.reset()  # or the runs of a study share one limit of recompilations, and fall back unnoticed
        self._forward = torch.compile(score, dynamic=False) if plan.compile else score
        self.meter = self._open_meter()

    @property
    def steps_per_epoch(self) -> int:
        count, batch = len(self.data.train), self.plan.batch
        return max(1, count // batch if self.plan.drop_last else math.ceil(count / batch))

    @property
    def steps(self) -> int:
        return self.plan.epochs * self.steps_per_epoch

    @property
    def evaluated(self) -> nn.Module:
        """The weights that are evaluated: the average where there is one, unless the plan says raw."""
        return self.model if self.average is None or self.plan.evaluate_with == "raw" else self.average.model

    # The loop ----------------------------------------------------------------------------------------------------

    def run(self) -> Progress:
        """Train to the end of the plan. Raises Stopped (after a checkpoint), or Diverged (the last one is kept)."""
        self.model.train()
        started, start_step = time.perf_counter(), self.progress.step
        while not self.progress.done:
            rows = self._rows(self.progress.step)
            self._step(rows, self.progress.step)
            self.progress.step += 1
            self._after_step(started, start_step)
        return self.progress

    def trial(self, steps: int) -> float:
        """Mean training loss of the second half of the first ``steps`` steps; infinite where it diverged.

        For the search of a learning rate: nothing is written, and the trainer is spent.
        """
        self.model.train()
        for step in range(steps):
            if step == steps // 2:
                self.meter.read()
            self._step(self._rows(step), step)
        loss = self.meter.read()[0]["loss"]
        return loss if math.isfinite(loss) else math.inf

    def _step(self, rows: Tensor, step: int) -> None:
        """The updates of the model with one batch, then of its average and its companion."""
        batch = self.data.train.batch(rows, self.random("binarize", step))
        noise = self.model.noise(self.random("noise", step), self.plan.samples, len(rows))
        self._set_rate(step)
        with self.autocast():
            asked = self._asked(step, noise, batch.x, rows)
        values, draw = self._update(batch.x, noise, asked)
        for _ in range(self.plan.updates - 1):
            _, draw = self._update(batch.x, noise, asked)  # what is logged is from before all of them
        if self.average is not None:
            self.average.update(self.model, step)
        if self.companion is not None:
            beside = self.companion.step(self.companion_optimizer, draw, batch.labels)
            values = torch.cat([values, torch.stack([beside[name] for name in self.companion.names])])
        self.meter.add(values, len(rows), step + 1)  # steps are counted from 1, as in the log

    def _update(self, x: Tensor, noise: Tensor, asked: Asked) -> tuple[Tensor, Draw | None]:
        """One update; the numbers of the log, and the draw where a companion wants it."""
        with self.autocast():
            loss, values, draw = self._forward(x, noise, asked)
        loss.backward()
        if self.plan.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return values, draw

    def _asked(self, step: int, noise: Tensor, x: Tensor, rows: Tensor | None = None) -> Asked:
        """What the objective asks of the draw at this step."""
        return ask(self.objective, self.model, self.random("prior", step), noise, len(self.data.train), step, x, rows)

    def _draw_and_score(self, x: Tensor, noise: Tensor, asked: Asked) -> tuple[Tensor, Tensor, Draw | None]:
        """The model's one pass and the objective on it: what is compiled where compilation is on.

        The draw leaves only where a companion wants it: as outputs of a compiled graph its tensors cost a tenth of a
        small step.
        """
        draw = self.model(x, noise, asked)
        with full_precision(self.device):
            terms = self.objective(draw)
            loss = terms.loss
        return loss, term_values(terms, draw, loss), None if self.companion is None else draw

    def _open_meter(self) -> Meter:
        """One eager pass over the first batch, which shows that the parts fit and what the log will name."""
        rows = self._rows(0)
        batch = self.data.train.batch(rows, self.random("binarize", 0))
        with torch.no_grad(), self.autocast():
            noise = self.model.noise(self.random("noise", 0), self.plan.samples, len(rows))
            draw = self.model(batch.x, noise, self._asked(0, noise, batch.x))
        with torch.no_grad():
            terms = self.objective(draw)
        beside = self.companion.names if self.companion is not None else ()
        return Meter([*term_names(terms, draw), *beside], self.device, term_floors(terms))

    def _rows(self, step: int) -> Tensor:
        """The training examples of a step; the order of an epoch comes from (seed, epoch)."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._order_epoch != epoch:
            self._order, self._order_epoch = self.data.train.order(self.random, epoch), epoch
        return self._order[index * self.plan.batch : (index + 1) * self.plan.batch]

    def _set_rate(self, step: int) -> None:
        factor = self.progress.rate_factor * self.schedule(step, self.steps) * warm(step, self.plan.warmup)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor

    # After a step ------------------------------------------------------------------------------------------------

    def _after_step(self, started: float, start_step: int) -> None:
        step, plan = self.progress.step, self.plan
        epoch, inside = divmod(step, self.steps_per_epoch)
        ended = inside == 0
        if ended or (plan.log_every and step % plan.log_every == 0):
            self._log(epoch, started, start_step)
        improved = ended and epoch % plan.evaluate_every == 0 and self._evaluate(epoch)
        self.progress.done = step >= self.steps or self._out_of_patience()
        reason = None if self.progress.done else self.stop()
        due = step % plan.checkpoint_every == 0 if plan.checkpoint_every else ended
        kept = ended and epoch in plan.keep_epochs
        if due or kept or improved or reason or self.progress.done:
            self.save()
        if reason:
            raise Stopped(reason)

    def _log(self, epoch: int, started: float, start_step: int) -> None:
        self.meter.check()
        means, examples = self.meter.read()
        step, seconds = self.progress.step, time.perf_counter() - started
        line = {"split": "train", "step": step, "epoch": epoch, "examples": examples, **means}
        taken = step - start_step
        speed = taken * min(self.plan.batch, len(self.data.train)) / max(seconds, 1e-9)
        timing = {"step": step, "epoch": epoch, "seconds": round(seconds, 3), "images_per_s": round(speed, 1)}
        self.journal.write(line)
        self.journal.write_timing(timing)
        left = (self.steps - step) * seconds / taken
        self.report({**line, "images_per_s": speed, "seconds_left": left, "steps": self.steps})

    def _evaluate(self, epoch: int) -> bool:
        """Ask the monitor; True where the validation loss is the best so far."""
        if self.monitor is None:
            return False
        self.evaluated.eval()
        with torch.no_grad(), self.autocast():
            line = self.monitor(self.evaluated, self.companion)
        self.model.train()
        self.journal.write({"split": line.pop("split"), "step": self.progress.step, "epoch": epoch, **line})
        self.report({"split": "valid" if self.data.valid else "test", "epoch": epoch, **line})
        if self.data.valid is None:
            return False
        value = -line["elbo"] if self.plan.select_by == "elbo" else line["loss"]
        if value < self.progress.best_loss:
            self.progress.best_loss, self.progress.best_step = value, self.progress.step
            self.progress.bad_evaluations = self.progress.stale_evaluations = 0
            return True
        self.progress.bad_evaluations += 1
        self.progress.stale_evaluations += 1
        if self.plan.plateau is not None and self.progress.stale_evaluations > self.plan.plateau.patience:
            self._drop_rate(self.plan.plateau)
        return False

    def _drop_rate(self, plateau: Plateau) -> None:
        """A smaller learning rate, and moments that start anew."""
        self.progress.stale_evaluations = 0
        self.progress.drops += 1
        self.progress.rate_factor *= plateau.factor
        if plateau.restart:
            self.optimizer.state.clear()

    def _out_of_patience(self) -> bool:
        plateau, progress = self.plan.plateau, self.progress
        if plateau is not None:
            rate = progress.rate_factor * self.schedule(progress.step, self.steps)
            if progress.drops > plateau.drops or rate < plateau.least:
                return True
        return self.plan.patience is not None and progress.bad_evaluations >= self.plan.patience

    # Checkpoints -------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint of this step, unless a number has stopped being finite (then Diverged is raised)."""
        self.meter.check()
        self._check_weights()
        self.journal.sync()
        self.store.save(self.checkpoint())
        self.store.point("last", self.progress.step)
        self._tidy()

    def _tidy(self) -> None:
        """``best`` as the progress says, and nothing kept that nobody asked for."""
        best = self.progress.best_step
        if best is not None and self.store.path(best).exists():  # not after going on from one that is older
            self.store.point("best", best)
        else:
            self.store.forget("best")
        self.store.prune({epoch * self.steps_per_epoch for epoch in self.plan.keep_epochs})

    def _check_weights(self) -> None:
        finite = torch.stack([p.detach().isfinite().all() for p in self.model.parameters()]).all()
        if not finite:
            raise Diverged(self.progress.step, "weights")

    def checkpoint(self) -> Checkpoint:
        """All that is needed to go on from this step."""
        tensors, groups = optimizer_tensors(self.optimizer)
        contents: dict[str, Tensors] = {"model": self.model.state_dict(), "optimizer": tensors}
        contents["meter"] = self.meter.state()
        values = {"progress": asdict(self.progress), "optimizer": groups, "names": self.meter.names}
        values |= {"identity": self.identity, "threads": torch.get_num_threads(), "data": self._data_hashes()}
        values |= {"shape": list(self.data.shape), "data_values": self.data.values}
        values |= {"classes": len(self.data.classes or ())}
        if self.average is not None:
            contents["average"] = self.average.model.state_dict()
        if self.chains is not None:
            contents["chains"] = self.chains.state()
        if self.companion is not None:
            contents["companion"] = self.companion.state_dict()
            contents["companion-optimizer"], values["companion-optimizer"] = optimizer_tensors(self.companion_optimizer)
        return Checkpoint(self.progress.step, contents, values)

    def _data_hashes(self) -> dict[str, str]:
        """Which examples are trained on, and which are watched; whatever files they come in."""
        watched = self.data.splits()
        return {name: watched[name].rows_hash for name in ("train", "valid") if name in watched}

    def resume(self) -> None:
        """Take up the last checkpoint; InputError where it belongs to another configuration or to other data."""
        step = self.store.latest()
        if step is None:  # killed before the first checkpoint: start anew
            self.journal.cut_back(0)
            return
        checkpoint = self.store.load(step)
        if checkpoint.values["identity"] != self.identity:
            raise InputError(
                f"{self.store.path(step)}: it belongs to another configuration than config.yaml says. "
                "Undo the edit of config.yaml, or train into another folder."
            )
        now = self._data_hashes()
        if checkpoint.values.get("data", now) != now:
            raise InputError(
                f"{self.store.path(step)}: it was trained on other examples than '{self.data.title}' holds now. "
                "Put the data back, or train into another folder."
            )
        self._restore(checkpoint)
        for orphan in [s for s in self.store.steps() if s > step]:
            self.store.remove(orphan)
        self.store.point("last", step)
        self.journal.cut_back(step)
        self._tidy()

    def _restore(self, checkpoint: Checkpoint) -> None:
        groups, values = checkpoint.groups, checkpoint.values
        self.model.load_state_dict(groups["model"])
        restore_optimizer(self.optimizer, groups["optimizer"], values["optimizer"])
        if self.average is not None:
            self.average.model.load_state_dict(groups["average"])
        if self.chains is not None:
            self.chains.restore(groups["chains"])
        if self.companion is not None:
            self.companion.load_state_dict(groups["companion"])
            restore_optimizer(self.companion_optimizer, groups["companion-optimizer"], values["companion-optimizer"])
        self.progress = Progress(**values["progress"])
        self.progress.done = self.progress.step >= self.steps or self._out_of_patience()  # the plan may be longer now
        self.meter.restore(groups["meter"])

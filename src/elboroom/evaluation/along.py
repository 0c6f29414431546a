"""Metrics along the training: of every checkpoint that is kept, for curves."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from elboroom.config.run import to_dict
from elboroom.evaluation.evaluate import measure
from elboroom.evaluation.subject import Progress, Subject
from elboroom.runs import Run
from elboroom.scores import Score
from elboroom.training.checkpoint import replace_text, room

FILE = "along.jsonl"


def along(
    run: Run,
    metrics: Sequence[Any],
    *,
    cache: Path | None = None,
    progress: Progress = lambda what, done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Measure each checkpoint that the run keeps (`training.keep_epochs`, best and last), and write ``along.jsonl``.

    A line for each checkpoint and split, like those of metrics.jsonl: split, step, epoch, examples, and the value of
    each score by its name (of equal names the last); ``stderr`` holds their standard errors. What was measured already
    with these metrics on these weights is not measured again; lines of other metrics are replaced.

    Args:
        run: an opened run folder.
        metrics: as `elboroom.config.metrics` lists them.
        cache: where what depends on the data alone is kept.
        progress: told (what, done, total). It may raise: lines so far are kept, and the next call goes on.
        say: told which step is measured, and why a metric is skipped.

    Returns:
        All lines, in the order of steps.
    """
    asked = _digest([to_dict(metric) for metric in metrics])
    lines = _read(run.folder / FILE)
    for step in run.store.steps():
        part = run.at(step)
        mine = {"asked": asked, "checkpoint": part.checkpoint_hash, "step": step}
        if any(mine.items() <= line.items() for line in lines):
            continue
        say(f"step {step}: measuring")
        subject = Subject(part, cache=cache, progress=progress)
        found, _ = measure(subject, metrics, lambda text, step=step: say(f"step {step}: {text}"))
        kept = [line for line in lines if line["step"] != step]
        lines = sorted([*kept, *_lines(found.scores, mine, part)], key=lambda line: (line["step"], line["split"]))
        with room(run.folder, "evaluate again"):
            replace_text(run.folder / FILE, "".join(f"{json.dumps(line)}\n" for line in lines))
        subject.forget_partials()
    return lines


def _lines(scores: list[Score], mine: dict[str, Any], run: Run) -> list[dict[str, Any]]:
    """A line for each split that was measured; an empty one where no metric could be, so that it is not tried again."""
    epoch = run.step // run.epoch_steps
    found = []
    for split in dict.fromkeys([s.protocol.split for s in scores] or ["test"]):
        here = [s for s in scores if s.protocol.split == split]
        line = {
            "split": split,
            "step": run.step,
            "epoch": epoch,
            "examples": max((s.examples for s in here), default=0),
        }
        line |= {s.name: s.value for s in here}
        found.append(line | {"stderr": {s.name: s.stderr for s in here if s.stderr is not None}} | mine)
    return found


def _read(path: Path) -> list[dict[str, Any]]:
    """The lines of an earlier call; none where there is no such file. A line that is none is left out."""
    try:
        text = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    lines = []
    for line in text:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict) and {"step", "split", "asked", "checkpoint"} <= content.keys():
            lines.append(content)
    return lines


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

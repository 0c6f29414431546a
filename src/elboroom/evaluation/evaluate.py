"""Score a checkpoint and write down whatever the report will need."""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from elboroom import build
from elboroom import scores as score_files
from elboroom.config import Data as DataConfig
from elboroom.config.run import to_dict
from elboroom.data import load as load_data
from elboroom.errors import InputError
from elboroom.evaluation.codes import answers, code_scores
from elboroom.evaluation.likelihood import (
    ESTIMATES,
    bound,
    bound_scores,
    columns,
    doubt,
    evidence,
    nll_scores,
    way_scores,
)
from elboroom.evaluation.outliers import write_names
from elboroom.evaluation.samples import made_up, pictures
from elboroom.evaluation.subject import Found, Subject
from elboroom.evaluation.views import View, view
from elboroom.runs import Run, needs_encoder, no_encoder
from elboroom.scores import Score
from elboroom.training.checkpoint import pack, replace_bytes, replace_text, room, unpack


def evaluate(
    run: Run,
    *,
    samples: int | None = 1000,
    images: int | None = None,
    metrics: Sequence[Any] = (),
    other: DataConfig | None = None,
    headline: bool = True,
    cache: Path | None = None,
    classifiers: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Score]:
    """Score a run's checkpoint on its test split; write scores, codes, values per example and pictures.

    Args:
        run: an opened run folder.
        samples: importance samples of the NLL; None leaves it out.
        images: NLL of so many test images only: the first, of sorted data a fixed sample (`elboroom.evaluation.views`).
        metrics: further metrics, as `elboroom.config.metrics` lists them. One that this run cannot have (no labels, no
            density) is skipped with its reason, and the others go on.
        other: evaluate on other data than it was trained on (said in the protocol; no companion, no pictures kept).
        headline: whether these scores are those of the run; a checkpoint on the way has its own folder only.
        cache: a folder in which what depends on the data alone is kept (controls, classifiers).
        classifiers: the folder of a study's own classifiers, which come before those of the cache, and are kept there.
        progress: told (what, done, total). It may raise (`elboroom.errors.Stopped`): the next call goes on from there,
            and repeats no metric that was done.
        say: told why a metric is skipped, and what is to be doubted of a number.

    Returns:
        The new scores, which were also merged into the run's scores.json, if they are its headline.
    """
    data = run.data if other is None else _compatible(run, other)
    seen = view(data)
    subject = Subject(run, None if other is None else data, cache=cache, classifiers=classifiers, progress=progress)
    encoded, first, notes = None, Found(), {}
    if run.config.trains_encoder:
        encoded, first = subject.codes(), by_encoder(subject)
        notes |= dict.fromkeys(ESTIMATES) if samples and has_likelihood(run) else {}
        first = joined(first, likelihood(subject, samples, images)) if notes else first
    else:
        say(f"bounds, codes and NLL by importance sampling: left out: {no_encoder(run)}")
    found, skipped = measure(subject, metrics, say, resumable=True)
    everything = joined(first, found)
    notes |= everything.notes
    for line in score_files.briefly({name: note for name, note in notes.items() if note is not None}):
        say(line)
    scores = everything.scores
    with room(run.evaluation, "evaluate again"):
        known = _write(run, seen, scores, everything.examples, encoded, keep=other is None)
        if headline:
            replace_text(run.folder / "scores.json", score_files.dump(known))
        if other is None:
            _write_arrays(run.evaluation, found)
            _write_skipped(run.evaluation, dict.fromkeys(map(label, metrics)) | skipped)
            _write_notes(run, notes)
    subject.forget_partials()
    return scores


def by_encoder(subject: Subject) -> Found:
    """What q(z|x) tells of the scored split: bounds, use of the code, and the companion's accuracy on its own data."""
    run, seen, encoded = subject.run, subject.seen, subject.codes()
    found, own = bound(run.model, seen), subject.data is run.data  # other data has other classes
    values = {"rate": found.rate, "rate-by-dimension": found.rate_by_dimension}
    examples = {"distortion": found.distortion} | {k: v for k, v in values.items() if v is not None}
    scores = bound_scores(run, seen, found) + code_scores(run, seen, encoded, companion=own)
    return Found(scores, examples | (answers(run, encoded) if own else {}))


def joined(*parts: Found) -> Found:
    """Several findings as one; of equal names the last, but of labels and rows of points in the plane the longer: they
    are the first of one permutation, whichever metric took more of it."""
    whole = Found()
    for part in parts:
        whole.scores.extend(part.scores)
        whole.examples.update(part.examples)
        for file, arrays in part.arrays.items():  # two metrics may write into one file
            known = whole.arrays.get(file, {})
            longer = {k: known[k] for k in ("labels", "rows") if k in known and len(known[k]) > len(arrays.get(k, ()))}
            whole.arrays[file] = known | arrays | longer
        whole.notes.update(part.notes)
    return whole


def likelihood(subject: Subject, samples: int, images: int | None = None) -> Found:
    """The importance-sampled NLL (or bound) of a run, the way to it, and what is to be doubted; resumable."""
    run, seen = subject.run, view(subject.data, subject.split, images)
    kept = subject.partial("nll", {"samples": samples, "seed": 0}, columns(samples), seen)
    weighed = evidence(run.model, seen, samples, partial=kept, progress=functools.partial(subject.progress, "NLL"))
    scores = nll_scores(run, seen, weighed, samples)
    name, covers = scores[0].name, run.model.encoder.covers
    values = weighed.bound + run.density_offset()
    examples = {name: -values if covers else values, f"{name}/samples": torch.tensor([samples])}
    if seen.drawn is not None:
        examples[f"{name}/positions"] = seen.drawn
    note = doubt(weighed, samples, covers)
    return Found(
        scores + way_scores(run, seen, weighed, samples),
        examples | {"effective-samples": weighed.effective_samples},
        notes={} if note is None else {name: note},
    )


def measure(
    subject: Subject,
    metrics: Sequence[Any],
    say: Callable[[str], None] = lambda text: None,
    resumable: bool = False,
) -> tuple[Found, dict[str, str]]:
    """What the metrics find, together, and the reasons of those that this run cannot have, by `label`.

    ``resumable``: what each finds is kept in the run's folder until `Subject.forget_partials`, and not computed again.
    """
    made, skipped = [], {}
    for metric in metrics:
        try:
            if getattr(metric, "reads_encoder", True):
                needs_encoder(subject.run)
            find = functools.partial(build.make, metric, subject=subject)
            made.append(subject.finished(to_dict(metric), find) if resumable else find())
        except InputError as reason:
            skipped[label(metric)] = str(reason)
            say(f"{label(metric)}: skipped: {reason}")
    return joined(*made), skipped


def label(metric: Any) -> str:
    """The kind of a metric, with what is not as it is by default: two entries of one kind have two labels."""
    fields = [f for f in dataclasses.fields(metric) if f.name != "kind"]
    changed = {f.name: value for f in fields if (value := getattr(metric, f.name)) != f.default}
    return ", ".join([metric.kind, *(f"{name} {_plain(value)}" for name, value in changed.items())])


def _plain(value: Any) -> str:
    """A setting in words: null where there is none, several of them apart."""
    if isinstance(value, list | tuple):
        return " ".join(map(_plain, value)) or "none"
    return "null" if value is None else str(value)


def has_likelihood(run: Run) -> bool:
    """Whether log p(x) can be estimated by q(z|x): one that has a density and was trained, and a likelihood that is
    one."""
    dense = run.config.model.posterior.kind != "point" and run.model.decoder.offset(run.shape) is not None
    return dense and run.config.trains_encoder


def _compatible(run: Run, other: DataConfig) -> object:
    data = load_data(other).to(run.device)
    if tuple(data.shape) != run.shape:
        raise InputError(
            f"data '{data.title}' has shape {tuple(data.shape)}, the model of {run.folder} takes {run.shape}. "
            "Choose data of that shape (--data.size for a folder of images)."
        )
    wanted = run.values
    if data.values != wanted:
        raise InputError(
            f"data '{data.title}' holds {data.values} values, the model of {run.folder} takes {wanted}. "
            "Set --data.binarize as in the run's config.yaml."
        )
    return data


def _write(
    run: Run, seen: View, scores: list[Score], examples: dict[str, Tensor], encoded: Any, keep: bool
) -> list[Score]:
    """Values per example, pictures, scores into the folder of the checkpoint; all scores of its weights."""
    folder = run.evaluation
    folder.mkdir(parents=True, exist_ok=True)
    if keep:
        known = _known_examples(folder, run.checkpoint_hash)
        replace_bytes(folder / "examples.safetensors", pack(known | examples))
        if seen.examples.names is not None:
            write_names(folder, seen.examples.names)
    if keep and len(run.shape) == 3:
        clipped = run.model.encoder.radius is not None
        made = made_up(run.model) if encoded is None else pictures(run.model, seen, encoded, clipped)
        replace_bytes(folder / "pictures.safetensors", pack(made))
    return _merge_into(folder / "scores.json", scores, run.checkpoint_hash)  # last: they say that all is there


def _write_arrays(folder: Path, found: Found) -> None:
    """What the report draws beside the pictures."""
    for name, tensors in found.arrays.items():
        replace_bytes(folder / f"{name}.safetensors", pack(tensors))


def _write_skipped(folder: Path, reasons: dict[str, str | None]) -> None:
    """Why metrics are missing, beside older reasons of metrics that were not asked for now; None: it is not missing."""
    path = folder / "skipped.json"
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8"))["skipped"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        known = {}
    kept = {name: why for name, why in (known | reasons).items() if why is not None}
    replace_text(path, json.dumps({"format": 1, "skipped": kept}, indent=1) + "\n")


def _write_notes(run: Run, notes: dict[str, str | None]) -> None:
    """What is to be doubted, beside older notes on numbers of the same weights that were not computed anew."""
    path = run.evaluation / "notes.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = content["notes"] if content["checkpoint"] == run.checkpoint_hash else {}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        known = {}
    kept = {name: note for name, note in (known | notes).items() if note is not None}
    content = {"format": 1, "checkpoint": run.checkpoint_hash, "notes": kept}
    replace_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _merge_into(path: Path, scores: list[Score], checkpoint: str) -> list[Score]:
    """The new scores beside the old ones of the same weights; a file that is none is replaced."""
    everything = score_files.merge(_known_scores(path, checkpoint), scores)
    replace_text(path, score_files.dump(everything))
    return everything


def _known_scores(path: Path, checkpoint: str) -> list[Score]:
    """The scores of these weights in a file; none where it is absent or no such file."""
    try:
        return [s for s in score_files.load(path) if s.protocol.checkpoint == checkpoint]
    except (FileNotFoundError, InputError):
        return []


def _known_examples(folder: Path, checkpoint: str) -> dict[str, Tensor]:
    """The values per example behind the known scores of these weights: an evaluation without NLL keeps an older one."""
    if not _known_scores(folder / "scores.json", checkpoint):
        return {}
    try:
        return unpack((folder / "examples.safetensors").read_bytes())
    except (FileNotFoundError, SafetensorError):
        return {}

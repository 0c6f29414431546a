"""What metrics look at (a Subject), and what they find."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Integer
from safetensors import SafetensorError
from torch import Tensor

from elboroom.data import Data
from elboroom.errors import InputError
from elboroom.evaluation.codes import Codes, codes
from elboroom.evaluation.partial import Partial
from elboroom.evaluation.views import View, code_protocol, protocol, view
from elboroom.numerics import Randomness
from elboroom.runs import Run, code_commit, needs_encoder
from elboroom.scores import Protocol, Score
from elboroom.training.checkpoint import pack, replace_bytes, replace_text, unpack

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Found:
    """What a metric found.

    ``examples`` are values per test example, which are kept beside the mean (outliers, paired tests) and named as the
    score they belong to; ``arrays`` is what the report draws: file name without suffix -> tensors by name; ``notes``
    say of single scores why they are missing, or what must be known before they are trusted, by the name of the score;
    None takes back what an earlier evaluation said.
    """

    scores: list[Score] = field(default_factory=list)
    examples: dict[str, Tensor] = field(default_factory=dict)
    arrays: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    notes: dict[str, str | None] = field(default_factory=dict)


def packed(found: Found, key: str) -> bytes:
    """A file of what a metric found, under a key; read by `unpacked`."""
    tensors: dict[str, Tensor] = {}

    def numbered(tensor: Tensor) -> str:
        tensors[f"{len(tensors)}"] = tensor
        return f"{len(tensors) - 1}"

    text = {
        "key": key,
        "scores": [asdict(score) for score in found.scores],
        "examples": {name: numbered(t) for name, t in found.examples.items()},
        "arrays": {file: {name: numbered(t) for name, t in held.items()} for file, held in found.arrays.items()},
        "notes": found.notes,
    }
    return pack(tensors | {"text": _as_tensor(json.dumps(text))})


def unpacked(path: Path, key: str) -> Found | None:
    """What a metric found, where the file was written under this key; None where there is none, or a torn one."""
    try:
        tensors = unpack(path.read_bytes())
        text = json.loads(bytes(tensors["text"].tolist()))
        found = Found(
            [Score(**score | {"protocol": Protocol(**score["protocol"])}) for score in text["scores"]],
            {name: tensors[i] for name, i in text["examples"].items()},
            {file: {name: tensors[i] for name, i in held.items()} for file, held in text["arrays"].items()},
            text["notes"],
        )
    except (FileNotFoundError, SafetensorError, KeyError, ValueError, TypeError):
        return None
    return found if text["key"] == key else None


class Subject:
    """A run under evaluation. Codes are computed once per checkpoint and kept in its folder.

    Args:
        run: an opened run folder.
        data: what it is evaluated on; its own data by default.
        split: the split that is scored; probes learn from ``train``.
        cache: where what belongs to the data set alone is kept (controls, classifiers); None keeps nothing.
        classifiers: the folder of a study's own classifiers, which come before those of the cache.
        progress: told (what, done, total).
        keep: whether codes are kept in the run's folder.
    """

    def __init__(
        self,
        run: Run,
        data: Data | None = None,
        *,
        split: str = "test",
        cache: Path | None = None,
        classifiers: Path | None = None,
        progress: Progress = lambda what, done, total: None,
        keep: bool = True,
    ) -> None:
        self.run, self.data, self.split = run, data or run.data, split
        self.cache, self.classifiers = cache, classifiers
        self.progress, self.keep = progress, keep and data is None
        self.random = Randomness(0, run.device)
        self._codes: dict[str, Codes] = {}
        self._partials: list[Partial] = []
        self._resumes = keep

    @property
    def model(self) -> Any:
        """The trained model, in evaluation mode."""
        return self.run.model

    @property
    def classifier_folders(self) -> list[Path]:
        """Where classifiers are looked for, and kept: with the study that the run is of, then in the cache."""
        return [folder for folder in (self.classifiers, self.cache) if folder is not None]

    @cached_property
    def seen(self) -> View:
        """The scored split."""
        return view(self.data, self.split)

    @cached_property
    def thresholded(self) -> "Subject":
        """The same run on the same images, their pixels 1 above 0.5; InputError where none are binarized."""
        data = self.data.thresholded()
        same = {"cache": self.cache, "classifiers": self.classifiers, "progress": self.progress}
        return Subject(self.run, data, split=self.split, **same, keep=False)

    @property
    def point(self) -> bool:
        """Whether the posterior is a point: no noise, no density, no rate."""
        return self.run.config.model.posterior.kind == "point"

    def labels(self, split: str | None = None) -> Integer[Tensor, " n"]:
        """The labels of a split (the scored one by default), on the CPU; InputError where there are none."""
        found = self.data.splits()[split or self.split].labels
        if found is None:
            raise InputError(
                f"data '{self.data.title}' has no labels, which this metric needs. "
                "Give labels with the data, or leave the metric out."
            )
        return found.cpu()

    def codes(self, split: str | None = None) -> Codes:
        """The codes of a split, from memory, from the run's folder, or encoded now; InputError without a trained
        encoder."""
        needs_encoder(self.run)
        split = split or self.split
        if split not in self._codes:
            self._codes[split] = self._kept_codes(split)
        return self._codes[split]

    def code(self, kind: str = "mean", split: str | None = None) -> Float[Tensor, "n latent"]:
        """The posterior means, one sample each (``z``), or the mean of 50 samples (``mean-of-50``), on the CPU."""
        found = self.codes(split)
        if kind == "mean-of-50":
            return self._mean_of(50, found, split or self.split).cpu()
        return {"mean": found.mean, "z": found.z}[kind].cpu()

    def permutation(self, n: int, purpose: str) -> Integer[Tensor, " n"]:
        """A fixed permutation of n, on the CPU: the first rows of sorted data are no fair sample."""
        return torch.randperm(n, generator=Randomness(0)(purpose))

    def protocol(self, **more: object) -> Protocol:
        """The conditions of a score on the scored split."""
        return protocol(self.run, self.seen, **more)

    def code_protocol(self, **more: object) -> Protocol:
        """The same of a score that reads codes: one binarization of each image, and the samples of the code."""
        return code_protocol(self.run, self.seen, **more)

    def partial(self, name: str, settings: Any, columns: tuple[str, ...], seen: View) -> Partial:
        """Where an estimate over a view keeps its numbers while it is under way, so that it can be resumed.

        They stay until `forget_partials`: what was finished is not lost while the rest of an evaluation goes on.
        """
        folder = self._under_way if self._resumes else None
        self._partials.append(Partial(folder, name, self._key(settings, seen), columns, seen.count * seen.copies))
        return self._partials[-1]

    def finished(self, settings: Any, make: Callable[[], Found]) -> Found:
        """What a metric finds, kept until `forget_partials`: an evaluation that is stopped in a later metric does not
        repeat it. ``settings`` (plain values as JSON has them) tell one metric from another.

        It is taken of the same rows and labels and from the same code alone, as far as version and commit tell. Where
        the disk is full nothing is kept.
        """
        if not self._resumes:
            return make()
        key = self._key(
            [settings, version("elboroom"), code_commit(), self.data.title, *self._learned_from()], self.seen
        )
        path = self._under_way / f"metric-{hashlib.sha256(key.encode()).hexdigest()[:12]}.safetensors"
        known = unpacked(path, key)
        if known is not None:
            return known
        found = make()
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_bytes(path, packed(found, key))
        return found

    def _learned_from(self) -> list[str]:
        """Hashes of rows and labels of all splits."""
        parts = self.data.splits().values()
        labels = [part.labels.cpu().numpy().tobytes() for part in parts if part.labels is not None]
        return [part.rows_hash for part in parts] + [hashlib.sha256(b"".join(labels)).hexdigest()]

    def forget_partials(self) -> None:
        """All that was estimated and found is written elsewhere."""
        for path in self._under_way.glob("*metric-*"):  # of other settings, and torn ones, too
            path.unlink(missing_ok=True)
        for partial in self._partials:
            partial.remove()
        if self._under_way.is_dir() and not any(self._under_way.iterdir()):
            self._under_way.rmdir()

    @property
    def _under_way(self) -> Path:
        """The folder of what is under way."""
        return self.run.evaluation / "partial"

    def _key(self, settings: Any, seen: View) -> str:
        """The weights, the images of a view, the settings, and the device, whose noise is its own."""
        of = [self.run.checkpoint_hash, self.run.weights, seen.split, seen.rows, seen.data.binarization]
        of.append(self.run.device.type)
        return json.dumps([*of, seen.count, seen.copies, settings], sort_keys=True)

    def remembered(self, name: str, settings: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` returns (plain values as JSON has them), computed once per data set and settings.

        For what depends on the data alone: the controls of probes, for instance.
        """
        rows = [self.data.splits()[split].rows_hash for split in ("train", self.split)]
        key = json.dumps([name, settings, rows, self.data.binarization, version("elboroom")], sort_keys=True)
        if self.cache is None:
            return make()
        path = self.cache / f"{name.replace('/', '-')}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
        try:
            kept = json.loads(path.read_text())
            if kept["key"] == key:
                return kept["value"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass  # none, or a torn one
        value = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps({"format": 1, "key": key, "value": value}) + "\n")
        return value

    def _mean_of(self, samples: int, found: Codes, split: str) -> Float[Tensor, "n latent"]:
        """The mean of so many posterior samples: noisier than the mean where noise is wide, as the codes in use are."""
        if self.point:
            return found.mean
        total, start = torch.zeros_like(found.mean), 0
        with torch.no_grad():
            for index, batch in view(self.data, split).batches(200):
                q = self.model.encoder(batch.x)
                noise = self.model.noise(self.random("mean of codes", int(index[0])), samples, len(index))
                total[start : start + len(index)] = q.rsample_with_log_prob(noise)[0].mean(0)
                start += len(index)
        return total

    def _kept_codes(self, split: str) -> Codes:
        seen = view(self.data, split)
        path = self.run.evaluation / f"codes-{split}.safetensors"
        if self.keep and (found := _read_codes(path, self._codes_key(seen))) is not None:
            labels = seen.examples.labels  # codes stay those of the images when these are labelled anew
            labels = None if labels is None else labels[: seen.count]
            return replace(found.to(seen.examples.rows.device), labels=labels)  # where fresh ones would lie
        found = codes(self.model, seen)
        if self.keep:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_bytes(path, pack(found.tensors() | {"key": _as_tensor(self._codes_key(seen))}))
        return found

    def _codes_key(self, seen: View) -> str:
        """Codes of other weights, or of other examples, are not these."""
        return f"{self.run.checkpoint_hash} {seen.examples.rows_hash} {seen.data.binarization}"


def _as_tensor(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def _read_codes(path: Path, key: str) -> Codes | None:
    """Codes that were kept under this key; None where there are none."""
    try:
        tensors = unpack(path.read_bytes())
    except (FileNotFoundError, SafetensorError):
        return None
    if bytes(tensors.pop("key", torch.empty(0, dtype=torch.uint8)).tolist()).decode(errors="replace") != key:
        return None
    return Codes(
        mean=tensors["mean"],
        z=tensors["z"],
        log_var=tensors.get("log_var"),
        labels=tensors.get("labels"),
        rows=tensors["rows"],
    )

"""Runs on disk as comparing and verifying read them: run folders, studies and kept results. No model is built."""

import contextlib
import dataclasses
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from elboroom import scores as score_files
from elboroom.config.files import parse_yaml
from elboroom.config.study import label_of
from elboroom.data import CATALOG
from elboroom.errors import InputError
from elboroom.scores import Score

Array = np.ndarray
CURE = "Give a folder that `elboroom train`, `elboroom study` or `elboroom results` wrote."
CLASSIFIERS = "classifiers"
"""The folder of a study, or of its results, with the classifiers that its runs are scored with."""
OTHERWISE_NAMED = {"nll/effective-samples": "effective-samples"}
"""Scores whose values per example have another name."""
FLOAT32 = 2.0**-24
"""Relative rounding of a number that is kept in float32."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One run on disk."""

    path: Path
    variant: str
    axes: dict[str, Any] = field(default_factory=dict)
    status: str = "done"
    source: str = ""
    """Name of the study or folder that it came with."""

    @property
    def seed(self) -> Any:
        return self.axes.get("seed", self.config.get("seed", 0))

    @property
    def label(self) -> str:
        """The variant and the values of its axes other than the seed."""
        return label_of(self.variant, self.axes)

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml as plain values, whichever version wrote it; empty where there is none."""
        path = self.path / "config.yaml"
        content = parse_yaml(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else {}
        return content if isinstance(content, dict) else {}

    @cached_property
    def scores(self) -> list[Score]:
        """Its scores; none where it was not evaluated."""
        path = self.path / "scores.json"
        return score_files.load(path) if path.is_file() else []

    @cached_property
    def dimensions(self) -> int | None:
        """Numbers in an example, as the record of a checkpoint says, or the data's name; None where neither does."""
        folder = self.path.parents[1] if self.path.parent.name == "evaluation" else self.path
        for record in (folder / "checkpoint.json", *sorted((folder / "checkpoints").glob("step-*/state.json"))):
            with contextlib.suppress(InputError, KeyError, TypeError):
                return math.prod(read_json(record)["values"]["shape"])
        return _dimensions(dataclasses.replace(self, path=folder).config.get("data"))

    @property
    def evaluation(self) -> Path | None:
        """Where the evaluation of the scored weights lies, in a run folder."""
        for path in sorted((self.path / "evaluation").glob("step-*/scores.json")):
            with contextlib.suppress(InputError):
                hashes = {s.protocol.checkpoint for s in score_files.load(path)}
                if hashes & {s.protocol.checkpoint for s in self.scores}:
                    return path.parent
        return None

    @property
    def examples_file(self) -> Path | None:
        """The file of values per example, of kept results or of a run folder; None where there is none."""
        places = [self.path, *([self.evaluation] if self.evaluation else [])]
        return next((f for p in places if (f := p / "examples.safetensors").is_file()), None)

    @cached_property
    def examples(self) -> dict[str, Array]:
        """Values per example by name; InputError where their file is torn."""
        if self.examples_file is None:
            return {}
        try:
            return load_file(self.examples_file)
        except (SafetensorError, ValueError) as error:
            raise InputError(
                f"{self.examples_file}: no safetensors file ({error}). Write it anew with `elboroom evaluate`."
            ) from None


def _dimensions(data: Any) -> int | None:
    """Numbers in an example of a data set by name; None of another."""
    if not isinstance(data, dict) or data.get("name") not in CATALOG:
        return None
    shape, size = CATALOG[data["name"]].shape, data.get("size")
    return math.prod((shape[0], size, size) if size else shape)


def study_of(run: Path) -> Path | None:
    """The folder of the study, or of the results, that lists a run folder; None for a run on its own."""
    run = run.resolve()
    for place in run.parents:
        with contextlib.suppress(InputError, TypeError, KeyError):  # an unrelated file of that name
            rows = read_json(place / "study.json").get("runs", ())
            if run in {place / part / row["folder"] for row in rows for part in ("", "runs")}:
                return place
    return None


def read(folder: Path) -> list[Kept]:
    """The runs of a run folder, a study or kept results; InputError where it is none of them."""
    if (folder / "ledger.json").is_file():
        return _listed(folder, folder / "ledger.json")
    if (folder / "study.json").is_file():
        return _listed(folder, folder / "study.json")
    if (folder / "config.yaml").is_file():
        name = str(_named(folder) or "run")
        variant = folder.resolve().name if name == "run" else name
        return [Kept(path=folder, variant=variant, status=_status(folder))]
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. {CURE}")
    raise InputError(
        f"{folder}: neither a run, a study nor kept results (no config.yaml, study.json or ledger.json). {CURE}"
    )


def _status(folder: Path) -> str:
    """What a run's own state says of it; done where there is none, as of a copy of its scores."""
    with contextlib.suppress(InputError):
        return str(read_json(folder / "state.json").get("status", "done"))
    return "done"


def _named(folder: Path) -> Any:
    return Kept(path=folder, variant="").config.get("name")


def _listed(folder: Path, listing: Path) -> list[Kept]:
    content = read_json(listing)
    name = str(content.get("name") or content.get("study") or folder.resolve().name)
    try:
        return [
            Kept(
                path=_inside(folder, row["folder"], listing),
                variant=str(row["variant"]),
                axes=dict(row.get("axes") or {}),
                status=str(row.get("status", "missing")),
                source=name,
            )
            for row in content["runs"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{listing}: it does not list runs as it should ({error!r}). {CURE}") from None


def _inside(folder: Path, part: str, listing: Path) -> Path:
    path = folder / part
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{listing}: the run {part} lies outside of {folder}. {CURE}")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of format 1; InputError where the file is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. {CURE}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}). {CURE}") from None
    if not isinstance(content, dict) or content.get("format", 1) != 1:
        raise InputError(
            f"{path}: no JSON object of format 1, which this version reads. Update elboroom, or undo the edit."
        )
    return content


# Values per example --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Values:
    """The values per example behind a score (float64), and how large the kept numbers are that they come from."""

    values: Array
    size: Array
    rounding: float
    """Relative rounding of each kept number."""
    binomial: bool = False
    """Whether the error is sqrt(p (1 - p) / n), as probes have it, not that of the mean with n - 1."""

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def stderr(self) -> float:
        ddof = 0 if self.binomial else 1
        return float(self.values.std(ddof=ddof)) / len(self.values) ** 0.5 if len(self.values) > 1 else 0.0

    @property
    def tolerance(self) -> float:
        """How far a mean of what was rounded may lie from the mean: by the mean of the rounding errors."""
        return self.rounding * float(self.size.mean())

    @property
    def stderr_tolerance(self) -> float:
        """The same for the standard error: a deviation moves by no more than the root mean square of the errors."""
        return self.rounding * float((self.size**2).mean()) ** 0.5 / len(self.values) ** 0.5


def values_of(score: Score, run: Kept) -> Array | None:
    """The values per example that a score is the mean of; None where they are not kept, or are those of another
    evaluation (of the NLL with 500 samples and with 1,000 the later one is kept)."""
    found = kept_values(score, run)
    return None if found is None or wrong(score, found) else found.values


def kept_values(score: Score, run: Kept) -> Values | None:
    """What is kept under a score's name, from whichever evaluation.

    The bounds are -(distortion + rate), with the constant that the distortion of a squared error leaves out; None where
    no file says what that is.
    """
    if score.name.startswith("probe/"):
        return _of_probe(score, run)
    ending = "" if score.protocol.split in ("", "test") else f"/{score.protocol.split}"
    kept = run.examples.get(OTHERWISE_NAMED.get(score.name, score.name) + ending)
    if kept is not None and kept.ndim == 1:
        return _values(kept)
    parts = [run.examples.get(k) for k in ("distortion", "rate")]
    if score.name not in ("elbo", "bound/grey-bce") or any(p is None for p in parts) or len(parts[0]) != len(parts[1]):
        return None
    found = [_values(p) for p in parts]
    constant = dropped_constant(score, run) if score.name == "elbo" else 0.0
    if constant is None:
        return None
    total = constant - (found[0].values + found[1].values)
    return Values(values=total, size=found[0].size + found[1].size, rounding=max(f.rounding for f in found))


def _of_probe(score: Score, run: Kept) -> Values | None:
    """100 where the probe is right and else 0. Older files have 1, under a name that does not say which learner: what
    has another mean is that of another one."""
    kept = run.examples.get(score.examples_name)
    if kept is not None:
        return dataclasses.replace(_values(kept), binomial=True)
    p = score.protocol
    older = run.examples.get("/".join([score.name, p.code, p.labels, p.scaling]))
    found = None if older is None else dataclasses.replace(_values(100 * older), binomial=True)
    return found if found and near(score.value, found.mean, found.tolerance) else None


def _values(kept: Array) -> Values:
    values = kept.astype(np.float64)
    return Values(values=values, size=np.abs(values), rounding=1.01 * FLOAT32 if kept.dtype == np.float32 else 1e-12)


def dropped_constant(score: Score, run: Kept) -> float | None:
    """-(D / 2) ln π of a squared error in D dimensions, else 0; None where D is not known."""
    if not score.protocol.likelihood.startswith("squared error"):
        return 0.0
    return None if run.dimensions is None else -0.5 * run.dimensions * math.log(math.pi)


def wrong(score: Score, found: Values) -> dict[str, tuple[float, float]]:
    """Where a score is not what its values say: field -> (what it is, what it should be)."""
    should = {
        "value": (score.value, found.mean, found.tolerance),
        "examples": (score.examples, len(found.values), 0),
    }
    if score.stderr is not None:
        should["stderr"] = (score.stderr, found.stderr, found.stderr_tolerance)
    return {k: (a, b) for k, (a, b, tolerance) in should.items() if not near(a, b, tolerance)}


def near(a: float, b: float, tolerance: float) -> bool:
    """Equal to a tolerance; a NaN equals a NaN, and an infinity itself."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return a == b or (math.isnan(a) and math.isnan(b))
    return abs(a - b) <= tolerance

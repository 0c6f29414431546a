"""What a number is, and the conditions under which it holds. No torch in here."""

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from elboroom.errors import InputError

FORMAT = 1
DRAWN = {"z": 1, "mean-of-50": 50, "reconstructions": 1}
"""Posterior samples of each image behind a code, or behind what is decoded from one; a mean takes none."""
OF_CODES = ("active-units", "mpd", "mpd-std", "probe/rarest-class")
"""Scores of codes whose protocol names none."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The conditions of a score. Two scores are ranked together only when these agree (see `comparable`)."""

    data: str
    """Name of the data set, or the file name of one's own data."""
    split: str
    """train, valid or test."""
    rows: str
    """Hash of which examples were scored, in which order."""
    binarization: str
    """none, threshold, static or dynamic, with the seed of the draw where there is one."""
    copies: int = 1
    """Binarizations of each image; standard errors are over images, not over copies. Codes are of the first alone."""
    likelihood: str
    """Name and constants of p(x|z)."""
    weights: Literal["raw", "average"] = "raw"
    """Which weights were scored."""
    checkpoint: str = ""
    """Hash of those weights."""
    estimator: str = ""
    """How an expectation over z was taken."""
    samples: int = 0
    """Posterior samples of each image behind the estimate or the code that it reads (0: none drawn)."""
    beta: float | None = None
    """Weight of the rate in training, where the objective was no bound on log p(x)."""
    trained: str = ""
    """What was trained: ``bound``, or ``no bound (mu)`` with the objective's name; empty in older files."""
    dtype: str = "float32"
    code: str = ""
    """Which code was read (sampled z, mean), or where decoded codes came from (prior, a fitted density)."""
    labels: str = ""
    """For probes: how many labels they saw."""
    scaling: str = ""
    """For probes: raw or standardized codes."""
    classifier: str = ""
    """Hash of the classifier that a metric leans on."""

    def comparable(self) -> "Protocol":
        """The protocol without what says whose score it is: weights, checkpoint, effective beta, objective."""
        return dataclasses.replace(self, weights="raw", checkpoint="", beta=None, trained="")

    def differences(self, other: "Protocol") -> dict[str, tuple[Any, Any]]:
        """The fields in which two protocols cannot be compared, with both values."""
        mine, theirs = dataclasses.asdict(self.comparable()), dataclasses.asdict(other.comparable())
        return {k: (v, theirs[k]) for k, v in mine.items() if theirs[k] != v}


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number: its name and protocol together are its key."""

    name: str
    value: float
    unit: str
    better: Literal["lower", "higher", ""]
    stderr: float | None = None
    examples: int
    protocol: Protocol

    @property
    def key(self) -> tuple[str, Protocol]:
        """Name and protocol; what was trained follows from the checkpoint, and older files do not say it."""
        return self.name, dataclasses.replace(self.restated, trained="")

    @property
    def restated(self) -> Protocol:
        """The protocol without what older files do not say of the same number: the size of noise."""
        return dataclasses.replace(self.protocol, code=re.sub(r"^(control: noise)-\d+$", r"\1", self.protocol.code))

    @property
    def examples_name(self) -> str:
        """Under which name its values per example are kept: its own, but probes have many scores of one name."""
        p = self.protocol
        learner = p.estimator.partition(";")[0]
        return (
            f"{self.name}/{p.code}/{p.labels}/{p.scaling}, {learner}" if self.name.startswith("probe/") else self.name
        )

    @property
    def spread(self) -> str:
        """What ``stderr`` is, in words; empty where there is none."""
        if self.stderr is None:
            return ""
        told = self.protocol.estimator.partition("; ± ")[2]
        if told.startswith("deviation over repetitions"):
            one = "the binomial standard error over test images (with all labels: one fit)"
            fits_once = self.protocol.labels == "all" or self.protocol.labels.endswith(", 1 repetition")
            return one if fits_once else "the deviation over repetitions"
        if states := re.match(r"deviation over seeds (\d+ to \d+)", told):
            return f"the deviation over the random states {states[1]} of K-means"
        return f"the standard error over {'batches' if self.name.startswith('mpd') else 'images'}"

    def __str__(self) -> str:
        error = "" if self.stderr is None else f" ± {self.stderr:.2g}"
        p = self.protocol
        split = "" if p.split == "test" else p.split
        read = ", ".join(word for word in (split, p.code, p.labels and f"labels {p.labels}", p.scaling) if word)
        value = f"{self.value:.4g}{error} {self.unit}".rstrip()
        return f"{self.name} = {value}" + (f"  ({read})" if read else "")


def briefly(notes: Mapping[str, str]) -> list[str]:
    """Notes a line each, by the name of the score (behind a comma: of which row); what is said of many is said once."""
    alike: dict[tuple[str, str], list[str]] = {}
    for where, text in notes.items():
        alike.setdefault((where.split(", ")[0], text), []).append(where)
    return [
        f"{rows[0] if len(rows) == 1 else f'{name} ({len(rows)} rows)'}: {text}" for (name, text), rows in alike.items()
    ]


def lines(scores: list[Score]) -> list[str]:
    """A line each, equal scores once; where names and codes are equal, with the words of their estimators."""
    shown = merge([], scores)
    heads = Counter(_head(s) for s in shown)
    return [f"{s}  [{s.protocol.estimator.partition(';')[0]}]" if heads[_head(s)] > 1 else str(s) for s in shown]


def _head(score: Score) -> tuple[str, ...]:
    """By what a printed line is recognized."""
    p = score.protocol
    return score.name, p.split, p.code, p.labels, p.scaling


def merge(old: list[Score], new: list[Score]) -> list[Score]:
    """The same key overwrites, another stands beside it."""
    table = {s.key: s for s in old}
    table.update({s.key: s for s in new})
    return list(table.values())


def dump(scores: list[Score]) -> str:
    """JSON text of a list of scores, with the version of the format. NaN and infinity are written as such."""
    return json.dumps({"format": FORMAT, "scores": [dataclasses.asdict(s) for s in scores]}, indent=1) + "\n"


def load(path: Path) -> list[Score]:
    """The scores of a file that `dump` wrote; raises InputError where it is none."""
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise InputError(f"{path}: format {content['format']} is not known here; this version reads {FORMAT}.")
        return [_corrected(Score(**{**s, "protocol": Protocol(**s["protocol"])})) for s in content["scores"]]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a scores file ({error}). Write it anew with `elboroom evaluate`.") from error


UNCOUNTED = {
    "confidence/": (r"^highest probability of a class(?!, \d)", r"\g<0>, {:,} images"),
    "pca/explained-variance": (r"^first two principal components$", r"\g<0>, fitted to {:,} of these codes"),
    **dict.fromkeys(
        ("mutual-information", "total-correlation", "aggregate-kl"),
        (r"^mixture of (the other )?[\d,]+ posteriors(?!, at codes)", r"\g<0>, at codes of {:,} images"),
    ),
}
"""Scores of part of a split whose older files do not say of how many images in the estimator, and how it is said."""


def _corrected(score: Score) -> Score:
    """A score as it is written today. Older files give scores of codes the copies that the bounds have and no samples
    to sampled codes, do not count the images of some, and call gradients single that were double."""
    held, name = score.protocol, score.name
    if held.code or name in OF_CODES:
        held = dataclasses.replace(held, copies=1, samples=held.samples or DRAWN.get(held.code, 0))
    for start, (old, counted) in UNCOUNTED.items():
        if name.startswith(start):
            held = dataclasses.replace(held, estimator=re.sub(old, counted.format(score.examples), held.estimator))
    if name.startswith("gradient-variance"):
        held = dataclasses.replace(held, dtype="float64")
    return dataclasses.replace(score, protocol=held)


def is_kept(folder: Path) -> bool:
    """Whether a folder is that of kept results, or of a run in them: its files stay as the ledger lists them."""
    return any((folder / name).is_file() for name in ("ledger.json", "checkpoint.json"))

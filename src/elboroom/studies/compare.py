"""Runs and studies side by side: ranked where protocols agree, apart with the reason where they do not."""

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from elboroom.config import Run as RunConfig
from elboroom.config import run_from
from elboroom.config.run import to_dict
from elboroom.config.study import rows_of
from elboroom.errors import InputError, unknown
from elboroom.evaluation.comparison import Difference, paired_bootstrap
from elboroom.evaluation.likelihood import FEW
from elboroom.scores import Protocol, Score
from elboroom.studies.kept import CURE, Kept, read, values_of

FIRST = ("elbo", "nll", "bound/grey-bce", "bound/importance", "rate", "distortion")
"""Scores that come first; the others in order of appearance."""
INSTEAD = {"elbo": "bound/grey-bce", "nll": "bound/importance"}
"""What a run without a score has in its place."""
RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model in a group: its runs are seeds."""

    label: str
    seeds: list[str]
    scores: list[Score]
    values: np.ndarray | None = None
    """Values per example [seeds, n], where all runs keep them."""
    lost: str = ""
    """What became of its seeds that have no scores; empty where all have some."""
    doubt: str = ""
    """Why its value is not what its name says."""
    trained: str = ""
    """What was trained, where it was something else than a bound; empty for a bound."""
    rank: int | None = None
    """From 1; None where nothing is ranked."""

    @property
    def value(self) -> float:
        """The mean over seeds; NaN where one of them is no finite number."""
        values = [s.value for s in self.scores]
        return fmean(values) if len(values) == 1 or all(map(math.isfinite, values)) else math.nan

    @property
    def stderr(self) -> float | None:
        """Over seeds; of a single one, over examples."""
        if len(self.scores) == 1:
            return self.scores[0].stderr
        return stdev(s.value for s in self.scores) / len(self.scores) ** 0.5 if math.isfinite(self.value) else None

    @property
    def remarks(self) -> str:
        """Seeds that are missing; what was trained, where it was something else than a bound with the whole rate; and
        what to doubt."""
        held = self.scores[0].protocol
        beta = "" if held.beta is None else f"effective β {held.beta:g}"
        return ", ".join(filter(None, [self.lost, self.trained, beta, self.doubt]))


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows whose protocols agree, the best first."""

    protocol: Protocol
    examples: int
    rows: list[Row]
    pairs: list[Difference] = field(default_factory=list)
    how: str = ""
    """Where the intervals come from, or why there are none."""
    apart: str = ""
    """In which fields the protocol differs from that of the first group, which is why they are not ranked together."""

    def against_best(self, row: Row) -> Difference | None:
        """The row minus the first one."""
        best = self.rows[0].label
        for d in self.pairs:
            if (d.first, d.second) == (row.label, best):
                return d
            if (d.first, d.second) == (best, row.label):
                return turned(d)
        return None


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One score over all runs."""

    name: str
    unit: str
    better: str
    groups: list[Group]
    absent: list[str]
    """Rows without it, each with what it has instead; in one line those that have nothing."""


def turned(d: Difference) -> Difference:
    """Second minus first."""
    return dataclasses.replace(d, first=d.second, second=d.first, value=-d.value, low=-d.high, high=-d.low)


def compare(
    folders: Iterable[Path],
    names: Iterable[str] = (),
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Compared]:
    """Every score (or those named) of the runs of all folders, in groups of one protocol.

    Raises:
        InputError: a folder that holds no runs, fewer than two models with scores, a score that none has.
    """
    rows = labelled([read(f) for f in {Path(f).resolve(): Path(f) for f in folders}.values()])  # each folder once
    scored = sum(any(r.scores for r in runs) for runs in rows.values())
    if scored < 2:
        another = "Name another folder beside it."
        cure = another if scored == len(rows) else f"{CURE} `elboroom evaluate RUN` scores a run."
        raise InputError(f"nothing to compare: {scored} of {len(rows)} models have scores. {cure}")
    known = list(dict.fromkeys(s.name for runs in rows.values() for r in runs for s in r.scores))
    wanted = list(names) or sorted(known, key=lambda n: FIRST.index(n) if n in FIRST else len(FIRST))
    for name in wanted:
        if name not in known:
            raise unknown("score", name, known)
    found = []
    for done, name in enumerate(wanted):
        progress("comparing", done, len(wanted))
        found.append(_compared(name, rows, resamples, seed))
    return found


def labelled(sources: list[list[Kept]]) -> dict[str, list[Kept]]:
    """Label -> its runs, which are seeds of one model; different models, and the same seed twice, get other labels."""
    runs = [run for source in sources for run in source]
    several = len({r.source for r in runs}) > 1
    labels = [f"{run.source} / {run.label}" if several and run.source else run.label for run in runs]
    told = zip(labels, map(_resolved, runs), (r.seed for r in runs), (str(r.path) for r in runs), strict=True)
    result: dict[str, list[Kept]] = {}
    for label, run in zip(rows_of(list(told)), runs, strict=True):
        result.setdefault(label, []).append(run)
    return result


def _resolved(run: Kept) -> dict[str, Any]:
    """A run's configuration with the fields that versions since then have added, where it can be used."""
    with contextlib.suppress(InputError, TypeError):
        return to_dict(_config(run)) if run.config else {}
    return run.config


def _config(run: Kept) -> RunConfig:
    return run_from({k: v for k, v in run.config.items() if k != "format"})


def _compared(name: str, models: dict[str, list[Kept]], resamples: int, seed: int) -> Compared:
    groups: dict[Protocol, dict[str, list[tuple[Kept, Score]]]] = {}
    for label, runs in models.items():
        for run in runs:
            for score in {s.protocol.comparable(): s for s in run.scores if s.name == name}.values():
                groups.setdefault(score.protocol.comparable(), {}).setdefault(label, []).append((run, score))
    ordered = sorted(groups.items(), key=lambda g: -len(g[1]))
    one = next(s for members in ordered[0][1].values() for _, s in members)
    first = ordered[0][0]
    lost = {label: _lost(runs) for label, runs in models.items()}
    made = [
        _group(p, m, lost, one.better, resamples, seed, "" if p == first else difference(p, first)) for p, m in ordered
    ]
    absent = _absent(name, {label: runs for label, runs in models.items() if _lacks(name, runs)}, first)
    return Compared(name=name, unit=one.unit, better=one.better, groups=made, absent=absent)


def _lost(runs: list[Kept]) -> str:
    """What became of the seeds of a model that have no scores: ``2 of 3 seeds: 1 diverged``."""
    without = Counter("without scores" if r.status == "done" else r.status for r in runs if not r.scores)
    told = ", ".join(f"{count} {what}" for what, count in without.items())
    return f"{len(runs) - without.total()} of {len(runs)} seeds: {told}" if told else ""


def _lacks(name: str, runs: list[Kept]) -> bool:
    return not any(s.name == name for r in runs for s in r.scores)


def _absent(name: str, lacking: dict[str, list[Kept]], first: Protocol) -> list[str]:
    """Rows without the score: each with what it has in its place, and why that is another quantity; those that diverged
    as one, and the rest."""
    lines: list[str] = []
    nothing: dict[str, list[str]] = {}
    for label, runs in lacking.items():
        other = next((s for r in runs for s in r.scores if s.name == INSTEAD.get(name)), None)
        if other is None:
            why = "diverged" if all(r.status == "diverged" for r in runs) else "not measured"
            nothing.setdefault(why, []).append(label)
            continue
        why = difference(other.protocol, first)
        lines.append(f"{label}: has {other.name} = {number(other.value, 2)} instead" + (f" ({why})" if why else ""))
    return lines + [f"{'; '.join(labels)}: {why}" for why, labels in nothing.items()]


def difference(one: Protocol, other: Protocol) -> str:
    """``likelihood: grey-bce against bernoulli; binarization: none against dynamic, seed 0``."""
    found = one.differences(other)
    if {"data", "split"} & found.keys():  # other data has other rows; saying so explains nothing
        found.pop("rows", None)
    return "; ".join(f"{k}: {_said(a)} against {_said(b)}" for k, (a, b) in found.items())


def _said(value: object) -> str:
    return "none" if value == "" else f"{value:,}" if isinstance(value, int) else str(value)


def _group(
    protocol: Protocol,
    members: dict[str, list[tuple[Kept, Score]]],
    lost: dict[str, str],
    better: str,
    resamples: int,
    seed: int,
    apart: str,
) -> Group:
    own = "" if protocol.code.startswith("control: ") else better  # of the data, the same for every model
    rows = ranked([_row(label, found, lost[label]) for label, found in members.items()], own)
    with_values = [r for r in rows if r.values is not None]
    pairs: list[Difference] = []
    if len(with_values) > 1:
        pairs = paired_bootstrap({r.label: r.values for r in with_values}, resamples=resamples, seed=seed)
    examples = rows[0].scores[0].examples
    return Group(
        protocol=protocol,
        examples=examples,
        rows=rows,
        pairs=pairs,
        how=_how(rows, with_values, len(pairs), resamples, seed),
        apart=apart,
    )


def _row(label: str, found: list[tuple[Kept, Score]], lost: str) -> Row:
    values = [values_of(score, run) for run, score in found]
    return Row(
        label=label,
        seeds=[str(run.seed) for run, _ in found],
        scores=[score for _, score in found],
        values=None if any(v is None for v in values) else np.stack(values),
        lost=lost,
        doubt=_doubt(found),
        trained=", ".join(dict.fromkeys(filter(None, (_trained(run, score) for run, score in found)))),
    )


def _doubt(found: list[tuple[Kept, Score]]) -> str:
    """Where an importance-sampled likelihood rests on a handful of samples, it is a loose bound."""
    counts = [
        s.value
        for run, score in found
        for s in run.scores
        if score.name == "nll"
        and s.name == "nll/effective-samples"
        and s.protocol.comparable() == score.protocol.comparable()
    ]
    if not counts or fmean(counts) >= FEW:
        return ""
    return f"not converged: {fmean(counts):.1f} effective samples of {found[0][1].protocol.samples:,}, an upper bound"


def _trained(run: Kept, score: Score) -> str:
    """What was trained, from the protocol, or from the configuration where an older file does not say it."""
    told = score.protocol.trained
    if told:
        return "" if told == "bound" else told
    try:
        config = _config(run)
    except (InputError, TypeError):
        return "objective not recorded"
    return "" if config.trains_bound else f"no bound ({config.objective.kind})"


def ranked(rows: list[Row], better: str) -> list[Row]:
    """Best first, with ranks, where there is a better and something to rank; what is no number comes last, unranked."""
    if not better or len(rows) < 2:
        return rows
    sign = -1 if better == "higher" else 1
    order = sorted(rows, key=lambda r: (math.isnan(r.value), sign * r.value if not math.isnan(r.value) else 0.0))
    return [dataclasses.replace(r, rank=None if math.isnan(r.value) else i) for i, r in enumerate(order, 1)]


def _how(rows: list[Row], with_values: list[Row], pairs: int, resamples: int, seed: int) -> str:
    """What ± is, what the intervals are made of, and what they leave out."""
    spread = _spread(rows)
    if len(rows) < 2:
        return spread
    if not pairs:
        return "; ".join(filter(None, [spread, "no intervals: no values per example are kept for these scores"]))
    several = [r for r in with_values if len(r.seeds) > 1]
    lines = [spread] if spread else []
    lines += [
        f"paired bootstrap over the {with_values[0].values.shape[1]:,} examples (at least {resamples:,} resamples, "
        f"seed {seed}), 95 % intervals; real: with Holm's correction over {pairs} pair{'s' * (pairs > 1)}"
    ]
    if several:
        lines.append("seeds are resampled too, in each row apart, and a t-test over them agrees")
    if any(len(r.seeds) == 2 for r in several):
        lines.append("two seeds let few differences pass: three or more tell more")
    single = [r.label for r in with_values if len(r.seeds) == 1]
    if several and single:
        lines.append(f"one seed ({', '.join(single)}): held to vary as the rows of several seeds do")
    elif single:
        lines.append("one seed: says nothing about training noise")
    lines += [f"{r.label}: no values per example, so no interval" for r in rows if r.values is None]
    return "; ".join(lines)


def _spread(rows: list[Row]) -> str:
    """``± is the standard error over images``, or over seeds, or each of its own rows."""
    found: dict[str, list[str]] = {}
    for row in (r for r in rows if r.stderr is not None):
        what = row.scores[0].spread if len(row.scores) == 1 else "the standard error of the mean over seeds"
        found.setdefault(what, []).append(row.label)
    one = len(found) == 1
    return "± is " + ", ".join(w if one else f"{w} ({', '.join(rs)})" for w, rs in found.items()) if found else ""


def number(value: float | None, digits: int) -> str:
    """A number for people; NaN and infinity as such."""
    if value is None:
        return ""
    return f"{value:,.{digits}f}".replace("-", "−") if math.isfinite(value) else str(value).replace("-", "−")

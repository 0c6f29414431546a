"""Tables of scores: ranked where the protocols agree, apart and with a reason where they do not."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from elboroom.scores import Protocol, Score

MISSING = "—"
NO_MODELS_OWN = ("confidence/baseline", "classifier/accuracy", "fd/accuracy", "probe/rarest-class")
"""Scores of the data and of classifiers trained on them, which every run brings."""
FEW = 10
"""Effective importance samples an image under which a likelihood is called loose."""
HEADLINE = ("elbo", "rate", "distortion", "nll", "bound/grey-bce", "active-units", "accuracy/z", "accuracy/mean")
GROUPS = {
    "Likelihood": ("nll", "bound/importance"),
    "Information and geometry": (
        *("mpd", "mpd-std", "mutual-information", "aggregate-kl", "total-correlation", "dimension-kl"),
        "shuffled-codes",
    ),
    "Codes": ("codes", "pca", "probe"),
    "Generation": ("classifier", "confidence", "fd"),
    "Factors": ("disentanglement",),
}
"""Tables of further scores: title -> names, or their first words."""
TITLES = {
    "elbo": "ELBO",
    "nll": "NLL",
    "bound/grey-bce": "grey-BCE bound",
    "active-units": "active units",
    "nll/effective-samples": "effective samples of the NLL",
    "nll/low-share": "images under 10 effective samples",
    "nll/ais": "NLL, annealed",
    "nll/bracket/low": "NLL from below",
    "nll/bracket/high": "NLL from above",
    "nll/bracket-acceptance": "acceptance of the brackets' chains",
    "nll/bracket/low-effective-samples": "effective samples from below",
    "nll/bracket/high-effective-samples": "effective samples from above",
    "nll/ais-acceptance": "acceptance of AIS",
    "nll/ais-effective-samples": "effective chains of AIS",
    "accuracy/z": "accuracy, z",
    "accuracy/mean": "accuracy, mean",
    "probe/knn": "nearest neighbours",
    "probe/logistic": "logistic regression",
    "probe/logistic-sgd": "logistic regression by SGD",
    "probe/svm": "support vectors",
    "probe/mlp": "three-layer classifier",
    "cluster/nearest": "clusters, nearest label",
    "cluster/majority": "clusters, majority label",
    "cluster/nmi": "clusters, NMI",
    "cluster/ari": "clusters, adjusted Rand",
    "fd": "Fréchet distance",
    "mpd": "mean pairwise divergence",
    "mpd-std": "its spread over pairs",
    "mutual-information": "I(x; z)",
    "aggregate-kl": "KL(q(z) ‖ p(z))",
    "total-correlation": "total correlation",
    "shuffled-codes": "shuffled codes",
    "mutual-information/leave-one-out": "I(x; z), leave one out",
    "aggregate-kl/leave-one-out": "KL(q(z) ‖ p(z)), leave one out",
    "total-correlation/leave-one-out": "total correlation, leave one out",
    "dimension-kl": "KL by dimension",
    "dimension-kl/leave-one-out": "KL by dimension, leave one out",
    "confidence/samples": "confidence, samples",
    "confidence/reconstructions": "confidence, reconstructions",
    "confidence/mean-reconstructions": "confidence, reconstructions of the mean",
    "confidence/baseline": "confidence on test images",
    "classifier/accuracy": "accuracy of that classifier",
    "fd/accuracy": "accuracy of the features' classifier",
    "codes/ks": "distance from N(0, 1)",
    "codes/mean-abs": "mean of a dimension, size",
    "codes/std-mean": "deviation of a dimension",
    "pca/explained-variance": "variance in two components",
    "probe/rarest-class": "examples of the rarest class",
}
MEANINGS = {
    "elbo": "lower bound on log p(x): minus distortion, minus rate",
    "rate": "KL(q(z|x) ‖ p(z)): how much information the code carries; near 0 the posterior has collapsed",
    "distortion": "−E[log p(x|z)]: what the reconstruction misses",
    "nll": "−log p(x), estimated by importance sampling; the samples are in the header, more of them lower it",
    "nll/ais": "−log p(x), estimated by annealed importance sampling; the chains are in the header",
    "nll/bracket/low": "−log p(x) by samples of p(z|x), too low on average; the truth lies between it and the next",
    "nll/bracket/high": "−log p(x) by importance sampling from what was fitted to those samples, too high on average",
    "bound/grey-bce": "cross-entropy of grey pixels, with the rate: a loss, no bound on the likelihood of any data",
    "active-units": "latent dimensions whose posterior mean varies over the data",
    "accuracy/z": "a classifier that sees one sampled code: how informative codes are, noise included",
    "accuracy/mean": "the same classifier on the posterior mean",
    "mpd": "KL between the posteriors of two different examples, mean over pairs: how far apart codes lie",
    "mutual-information": "how much a code tells which example it came from; its bias is in the method below",
    "aggregate-kl": "how far all codes together lie from the prior: what samples from the prior suffer from",
    "total-correlation": "how dependent the dimensions of the code are",
    "shuffled-codes": "nats by which the reconstruction worsens with another image's code; 0: the decoder ignores z",
    "fd": "distance of generated from test images in the features of a classifier; lower is nearer",
}
REASONS = {
    "data": "numbers on different data are not on one scale",
    "split": "examples that were trained or selected on are easier than new ones",
    "rows": "other examples were scored",
    "binarization": "the same image has another likelihood once it is binarized otherwise",
    "copies": "several binarizations of an image average out what one does not",
    "likelihood": "log-likelihoods under different densities are not on one scale",
    "estimator": "the expectation over z was taken otherwise",
    "samples": "more samples tighten the estimate",
    "dtype": "rounding differs",
    "code": "the probes read different codes",
    "labels": "the probes saw other numbers of labels",
    "scaling": "the probes saw codes scaled otherwise",
    "classifier": "the metric leans on another classifier",
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run to be compared; runs of the same label are seeds of one row."""

    label: str
    scores: list[Score] = field(default_factory=list)
    seed: Any = 0
    seconds: float | None = None
    about: str = ""
    """What the reader must know of the row: its objective, effective β, whether it is a bound."""
    warnings: tuple[str, ...] = ()
    """State of this run where it is not simply done: diverged, stopped, fewer epochs."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Score name -> why it cannot exist; "" is the reason for all others."""
    data: str = ""
    """What it was trained on, which its columns are measured on; empty: on whatever its scores are."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Dotted names and their values, by which published numbers find their row."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value of the table, ready to print."""

    text: str
    error: str = ""
    best: bool = False
    note: str = ""
    """Letter of the footnote."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a column holds. The samples are part of it for a likelihood: 500 and 5,000 are two columns."""

    name: str
    samples: int = 0
    unit: str = ""
    better: str = ""
    words: str = ""
    """What tells it from other columns of the same name, which the table's caption says."""

    @property
    def title(self) -> str:
        return self.words or TITLES.get(self.name, self.name)

    @property
    def arrow(self) -> str:
        return {"lower": "↓", "higher": "↑"}.get(self.better, "")

    @property
    def meaning(self) -> str:
        return MEANINGS.get(self.name, "")

    @property
    def detail(self) -> str:
        return f"{self.samples:,} samples" if self.samples else ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the printed table."""

    label: str
    cells: list[Cell]
    seeds: str = ""
    about: str = ""
    warnings: list[str] = field(default_factory=list)
    published: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows that may be ranked with each other, and the conditions under which their numbers hold."""

    columns: list[Column]
    lines: list[Line]
    protocol: str
    methods: list[str]
    notes: list[tuple[str, str]]
    """Footnotes: letter and text."""
    refusal: str = ""
    """Why these rows stand apart from the first table."""
    time_unit: str = ""


Scored = dict[tuple[str, int], Score]


def comparison(
    entries: Iterable[Entry], names: Iterable[str] | None = HEADLINE, published: Iterable[dict[str, Any]] = ()
) -> list[Table]:
    """One table for each group of runs whose protocols agree.

    Args:
        entries: the runs; equal labels are seeds of one row.
        names: scores that get a column, in this order; None for all.
        published: ``{where: {variant: vae}, accuracy/z: 93.4, source: ...}``, printed beside and never ranked.

    Returns:
        Tables in the order in which their first rows came; from the second on each says why it stands apart.
    """
    entries = list(entries)
    names = list(dict.fromkeys(s.name for e in entries for s in e.scores)) if names is None else list(names)
    groups = grouped(entries, names)
    return [_table(group, names, list(published), groups[0] if i else None) for i, group in enumerate(groups)]


def said_once(table: Table) -> Table:
    """One line where all models have the same numbers of what is none of theirs."""
    numbers = [[cell.text for cell in line.cells[:-1]] for line in table.lines]  # the last is time
    shared = all(c.name in NO_MODELS_OWN for c in table.columns) and all(n == numbers[0] for n in numbers)
    if not shared or len({line.label for line in table.lines}) < 2:
        return table
    return dataclasses.replace(table, lines=[Line(label="all models", cells=table.lines[0].cells)])


def grouped(entries: list[Entry], names: list[str]) -> list[list[Entry]]:
    """Runs whose scores of the same name hold under the same conditions; every run is in exactly one group."""
    groups: list[list[Entry]] = []
    for entry in (e for e in entries if chosen(e, names)):
        for group in groups:
            if not any(_apart(entry, other, names) for other in group):
                group.append(entry)
                break
        else:
            groups.append([entry])
    for entry in (e for e in entries if not chosen(e, names)):
        _home(entry, groups).append(entry)
    order = {id(e): i for i, e in enumerate(entries)}
    return [sorted(group, key=lambda e: order[id(e)]) for group in groups]


def _home(entry: Entry, groups: list[list[Entry]]) -> list[Entry]:
    """Where a run without scores is printed: with its other seeds, else with runs on its data."""
    if not groups:
        groups.append([])
    for group in groups:
        if any(e.label == entry.label for e in group):
            return group
    for group in groups:
        if any(s.protocol.data == entry.data for e in group for s in e.scores):
            return group
    return groups[0]


def chosen(entry: Entry, names: Iterable[str]) -> Scored:
    """The score for each column, on the run's own data: on test before others, of several that of the most examples,
    and of these the last."""
    table: Scored = {}
    for score in sorted(entry.scores, key=lambda s: (s.protocol.split == "test", s.examples)):
        if score.name in names and entry.data in ("", score.protocol.data):
            table[column_key(score)] = score
    return table


def column_key(score: Score) -> tuple[str, int]:
    """An importance-sampled likelihood is another quantity for each number of samples."""
    return score.name, score.protocol.samples if score.name.startswith("nll") else 0


def _apart(one: Entry, other: Entry, names: list[str]) -> dict[str, tuple[Any, Any]]:
    """The protocol fields that forbid two runs in one table, with both values."""
    mine, theirs = chosen(one, names), chosen(other, names)
    found: dict[str, tuple[Any, Any]] = {}
    for key in mine.keys() & theirs.keys():
        p, q = mine[key].protocol, theirs[key].protocol
        drawing = ("estimator", "samples") if _fixed_against_drawn(p, q) else ()
        found.update({k: v for k, v in p.differences(q).items() if k not in drawing})
    return {k: found[k] for k in sorted(found, key=list(REASONS).index)}


def _fixed_against_drawn(p: Protocol, q: Protocol) -> bool:
    """A plain autoencoder's code needs no expectation: it shares the table, though not the ranking of the column."""
    return (p.samples == 0) != (q.samples == 0)


def refusal(group: list[Entry], first: list[Entry], names: list[str]) -> str:
    """The sentence that says which fields differ and why the numbers are not ranked together."""
    found: dict[str, tuple[Any, Any]] = {}
    for one in group:
        for other in first:
            found = {**_apart(one, other, names), **found}
    if "data" in found:  # other data has other rows; saying so explains nothing
        found = {k: v for k, v in found.items() if k != "rows"}
    if not found:
        return ""
    shown = ", ".join(_difference(k, *values) for k, values in found.items())
    why = "; ".join(REASONS[k] for k in found)
    differ = "differs" if len(found) == 1 else "differ"
    return f"Not ranked with the first table: {shown} {differ}. {why[0].upper()}{why[1:]}."


def _difference(name: str, mine: Any, theirs: Any) -> str:
    return f"{name} ({_quoted(mine)} here, {_quoted(theirs)} there)"


def _quoted(value: Any) -> str:
    return "none" if value == "" else f"“{value}”" if isinstance(value, str) else f"{value:,}"


def _table(group: list[Entry], names: list[str], published: list[dict[str, Any]], first: list[Entry] | None) -> Table:
    columns = _columns(group, names)
    notes = _Notes()
    unit, seconds = time_unit([e.seconds for e in group])
    rows = _rows(group)
    grid = [[_seeds(row, c, names) for c in columns] for row in rows]
    best = [_best([r[j] for r in grid], c) for j, c in enumerate(columns)]
    digits = [decimals([s.value for r in grid for s in r[j]], c.unit) for j, c in enumerate(columns)]
    lines = []
    for i, row in enumerate(rows):
        cells = [_cell(grid[i][j], row, c, digits[j], i in best[j], notes) for j, c in enumerate(columns)]
        _mark_fixed(cells, grid, i, columns, notes)
        _mark_loose(cells, row, columns, notes)
        lines.append(_line(row, [*cells, _time(row, seconds)]))
        lines += [published_line(p, columns) for p in published if matches(p, row[0])]
    refused = refusal(group, first, names) if first else ""
    protocol, methods = _conditions(group, names)
    return Table(
        columns=columns,
        lines=lines,
        protocol=protocol,
        methods=methods + _twice(columns),
        notes=notes.items(),
        refusal=refused,
        time_unit=unit,
    )


def _columns(group: list[Entry], names: list[str]) -> list[Column]:
    found: dict[tuple[str, int], Score] = {}
    for entry in group:
        for key, score in chosen(entry, names).items():
            found.setdefault(key, score)
    keys = sorted(found, key=lambda k: (names.index(k[0]), k[1]))
    return [Column(name=n, samples=k, unit=found[n, k].unit, better=found[n, k].better) for n, k in keys]


def _rows(group: list[Entry]) -> list[list[Entry]]:
    rows: dict[str, list[Entry]] = {}
    for entry in group:
        rows.setdefault(entry.label, []).append(entry)
    return list(rows.values())


def _seeds(row: list[Entry], column: Column, names: list[str]) -> list[Score]:
    key = column.name, column.samples
    return [scored[key] for e in row if key in (scored := chosen(e, names))]


def mean_and_error(scores: list[Score], seeds: int = 1) -> tuple[float, float | None]:
    """The mean over seeds and its standard error; of a single seed, its own error over the examples."""
    values = [s.value for s in scores]
    if len(values) == 1:
        return values[0], scores[0].stderr if seeds == 1 else None
    if not all(map(math.isfinite, values)):
        return math.nan, None
    return fmean(values), stdev(values) / math.sqrt(len(values))


def _best(column: list[list[Score]], about: Column) -> set[int]:
    """The rows with the best mean, among those whose protocols agree and where there is something to rank."""
    if not about.better:
        return set()
    classes: dict[Protocol, dict[int, float]] = {}
    for i, scores in enumerate(column):
        if scores and math.isfinite(value := mean_and_error(scores)[0]):
            classes.setdefault(scores[0].protocol.comparable(), {})[i] = value
    pick = min if about.better == "lower" else max
    ranked = [members for members in classes.values() if len(members) > 1]
    return {i for members in ranked for i, v in members.items() if v == pick(members.values())}


def _cell(scores: list[Score], row: list[Entry], column: Column, digits: int, best: bool, notes: "_Notes") -> Cell:
    if not scores:
        reasons = row[0].absent
        why = (
            reasons.get(column.name)
            or reasons.get(column.name.split("/")[0])
            or next((e.absent[""] for e in row if e.absent.get("")), "not measured")
        )
        return Cell(text=MISSING, note=notes.letter(why))
    value, error = mean_and_error(scores, len(row))
    fine = error is not None and math.isfinite(error)
    return Cell(text=number(value, digits), error=number(error, digits) if fine else "", best=best)


def _mark_fixed(
    cells: list[Cell], grid: list[list[list[Score]]], i: int, columns: list[Column], notes: "_Notes"
) -> None:
    """A footnote on the cells that share a column with scores taken over drawn codes, and are not ranked with them."""
    for j, mine in enumerate(grid[i]):
        others = [r[j][0] for k, r in enumerate(grid) if k != i and r[j]]
        if mine and mine[0].protocol.samples == 0:
            other = next((s for s in others if _fixed_against_drawn(mine[0].protocol, s.protocol)), None)
            if other:
                how = f"nothing drawn{', ' * bool(e := mine[0].protocol.estimator)}{e}"
                text = f"{how}; the others: {_estimator(other.protocol)}. Not ranked with them"
                cells[j] = dataclasses.replace(cells[j], note=notes.letter(text))


def _mark_loose(cells: list[Cell], row: list[Entry], columns: list[Column], notes: "_Notes") -> None:
    """A footnote on likelihoods whose importance weights rest on a handful of samples."""
    for j, column in enumerate(columns):
        about = Column(name="nll/effective-samples", samples=column.samples)
        found = _seeds(row, about, [about.name]) if column.name == "nll" else []
        mean = fmean(s.value for s in found) if found else math.inf
        if mean < FEW:
            counts = f"{mean:.1f} effective samples of {column.samples:,} an image"
            text = f"rests on {counts}: a loose upper bound, not to be trusted"
            cells[j] = dataclasses.replace(cells[j], note=notes.letter(text))


def _estimator(protocol: Protocol) -> str:
    plural = "s" if protocol.samples != 1 else ""
    drawn = f"{protocol.samples:,} sample{plural}" if protocol.samples else ""
    return ", ".join(filter(None, [protocol.estimator, drawn]))


def _line(row: list[Entry], cells: list[Cell]) -> Line:
    scored = sum(bool(e.scores) for e in row)
    seeds = f"{len(row)}" if scored == len(row) else f"{scored} of {len(row)}"
    warnings = [w if len(row) == 1 else f"seed {e.seed}: {w}" for e in row for w in e.warnings]
    return Line(label=row[0].label, cells=cells, seeds=seeds, about=row[0].about, warnings=warnings)


def _time(row: list[Entry], seconds: float) -> Cell:
    spent = [e.seconds for e in row if e.seconds is not None]
    return Cell(text=number(fmean(spent) / seconds, 1) if spent else MISSING)


def time_unit(spent: Iterable[float | None]) -> tuple[str, float]:
    """The unit in which the longest of these times is easy to read, and its seconds."""
    longest = max((s for s in spent if s is not None), default=0.0)
    return ("s", 1.0) if longest < 300 else ("min", 60.0) if longest < 3 * 3600 else ("h", 3600.0)


def matches(published: dict[str, Any], entry: Entry) -> bool:
    """Whether published numbers belong beside this row: every condition in ``where`` holds for it."""
    where = published.get("where") or {}
    return bool(where) and all(str(entry.facts.get(k)) == str(v) for k, v in where.items())


def published_line(published: dict[str, Any], columns: list[Column]) -> Line:
    """Published numbers by the names of columns, or their words where a table has one name; others are told beside."""
    keys = [c.words if c.words in published else c.name for c in columns]
    cells = [Cell(text=_plain(published[k]) if k in published else "") for k in keys]
    shown = {*keys, "where", "source"}
    rest = [f"{k} {v}" for k, v in published.items() if k not in shown]
    about = "; ".join(filter(None, [str(published.get("source", "")), *rest]))
    return Line(label="published", cells=[*cells, Cell(text="")], about=about, published=True)


def _plain(value: Any) -> str:
    return str(value).replace("-", "−", 1) if isinstance(value, int | float) else str(value)


def _conditions(group: list[Entry], names: list[str]) -> tuple[str, list[str]]:
    """One line for what all scores share, and one for each column's own way of measuring."""
    scored = [s for e in group for s in chosen(e, names).values()]
    if not scored:
        return "", []
    often = Counter(s.examples for s in scored)  # decoded draws are no examples of the split, and may be more
    shared = max(scored, key=lambda s: (s.name in ("elbo", "distortion"), often[s.examples], s.examples))
    weights = sorted({s.protocol.weights for s in scored})
    methods: dict[str, None] = {}
    for score in sorted(scored, key=lambda s: names.index(s.name)):
        methods.update(dict.fromkeys([m] if (m := _method(score, shared)) else []))
    return conditions(shared, weights), list(methods)


def conditions(score: Score, weights: Iterable[str] = ()) -> str:
    """The protocol of a score in words."""
    p = score.protocol
    copies = f", {p.copies} copies of each image" if p.copies > 1 else ""
    parts = [
        f"{p.data}, {p.split} split, {score.examples:,} examples",
        f"binarization {p.binarization}{copies}",
        f"likelihood {p.likelihood}",
        f"weights {' and '.join(weights or [p.weights])}",
        p.dtype,
    ]
    return "; ".join(parts)


def _method(score: Score, shared: Score) -> str:
    """How one column was measured, as far as it is not what all share."""
    p = score.protocol
    fewer = f"on {score.examples:,} examples" if score.examples != shared.examples else ""
    if score.name == "nll" and p.samples > 1 and score.examples < shared.examples:  # these may be easier than all
        fewer += " (nll/bound/1 is minus the ELBO of these)"
    probe = [f"{k} {v}" for k in ("code", "labels", "scaling", "classifier") if (v := getattr(p, k))]
    once = "one binarization of each image" if p.copies == 1 < shared.protocol.copies else ""
    words = [w for w in (_estimator(p), *probe, once, fewer) if w]
    return f"{TITLES.get(score.name, score.name)}: {', '.join(words)}" if words else ""


def _twice(columns: list[Column]) -> list[str]:
    """The sentence for likelihoods in several columns."""
    names = [c.name for c in columns]
    twice = [n for n in dict.fromkeys(names) if names.count(n) > 1]
    lines = []
    for name in twice:
        counts = " and ".join(f"{c.samples:,}" for c in columns if c.name == name)
        lines.append(
            f"{TITLES.get(name, name)} has a column for each number of samples ({counts}): samples differs, "
            "more of them tighten the estimate, and so they are not ranked together"
        )
    return lines


class _Notes:
    """Footnotes: the same text has one letter."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def letter(self, text: str) -> str:
        if text not in self._texts:
            self._texts.append(text)
        return _letter(self._texts.index(text))

    def items(self) -> list[tuple[str, str]]:
        return [(_letter(i), t) for i, t in enumerate(self._texts)]


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"n{index}"


def decimals(values: Iterable[float], unit: str = "") -> int:
    """Digits behind the point for a column: enough to tell rows apart, the same in every row."""
    finite = [v for v in values if math.isfinite(v)]
    largest = max(map(abs, finite), default=1.0)
    if unit not in ("nats", "%") and all(float(v).is_integer() for v in finite):
        return 0
    if unit == "ratio":  # around 1, where the second digit tells little
        return 3
    return 1 if largest >= 1000 else 2 if largest > 1 or (unit in ("nats", "%") and largest >= 0.1) else 4


def number(value: float | None, digits: int = 2) -> str:
    """A number for people: a true minus sign, thousands apart; NaN and infinity as such."""
    if value is None:
        return MISSING
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:,.{digits}f}".replace("-", "−")


def everything(scores: Iterable[Score]) -> list[tuple[str, str, str]]:
    """Each score of a run on its own: name, value with its error, all its conditions."""
    rows = []
    for s in scores:
        digits = decimals([s.value], s.unit)
        error = f" ± {number(s.stderr, digits)}" if s.stderr is not None else ""
        beta = f"effective β {s.protocol.beta:g}" if s.protocol.beta is not None else ""
        probe = [f"{k} {v}" for k in ("code", "labels", "scaling", "classifier") if (v := getattr(s.protocol, k))]
        how = "; ".join(filter(None, [conditions(s), _estimator(s.protocol), *probe, beta]))
        rows.append((s.name, f"{number(s.value, digits)}{error} {s.unit}", how))
    return rows

"""Tables of scores that a run has many of: a row for each code that was read, a column for each way of reading it.

With a single way the codes are the columns.

A probe, say, reads the mean and the sampled code, of 100 labels and of all, raw and standardized; and it reads controls
(principal components, pixels, noise), which belong to the data and stand in rows of their own.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from elboroom.report.tables import (
    MISSING,
    NO_MODELS_OWN,
    TITLES,
    Cell,
    Column,
    Entry,
    Line,
    Table,
    conditions,
    decimals,
    matches,
    mean_and_error,
    number,
    published_line,
)
from elboroom.scores import Protocol, Score

CONTROL = "control: "
Way = tuple[str, str, str]


@dataclass
class Row:
    """The scores of one model's code (or of one control) by the way in which they were read, a list over seeds."""

    label: str
    code: str
    cells: dict[Way, list[Score]] = field(default_factory=dict)
    entry: Entry | None = None  # the first of the model's, by which published numbers find it

    @property
    def control(self) -> bool:
        return self.code.startswith(CONTROL)

    @property
    def seeds(self) -> int:
        return max(map(len, self.cells.values()))


def several(entries: Iterable[Entry], names: Iterable[str]) -> list[str]:
    """The names under which some run has several scores of one split that no number of samples tells apart."""
    found = []
    for name in names:
        for entry in entries:
            keys = [(s.protocol.split, s.protocol.data) for s in entry.scores if s.name == name]
            if len(keys) > len(set(keys)) and not name.startswith("nll") and name not in found:
                found.append(name)
    return found


def families(
    entries: Iterable[Entry], names: Iterable[str], published: Iterable[dict[str, Any]] = ()
) -> list[tuple[str, Table]]:
    """A title and a table for each name and each data set, its controls below the models.

    Published numbers of a name are by the words of their columns, all of which a column must have:
    ``{where: {variant: vae}, probe/svm: {"100 labels, raw, linear": 84.9}, source: ...}``.
    """
    entries, published = list(entries), list(published)
    return [(TITLES.get(n, n), _table(n, group, published)) for n in names for group in _by_data(entries, n)]


def _by_data(entries: list[Entry], name: str) -> list[list[tuple[Entry, Score]]]:
    """The scores of a name, apart where they are of other examples."""
    groups: dict[tuple[Any, ...], list[tuple[Entry, Score]]] = {}
    for entry in entries:
        for score in (s for s in entry.scores if s.name == name):
            p = score.protocol
            groups.setdefault((p.data, p.split, p.rows, p.binarization, p.copies), []).append((entry, score))
    return list(groups.values())


def _table(name: str, scored: list[tuple[Entry, Score]], published: list[dict[str, Any]]) -> Table:
    rows, shared = _said_once(name, _beside(_rows(scored))), _shared(s.protocol.estimator for _, s in scored)
    ways = list(dict.fromkeys(way for row in rows for way in row.cells))
    first = scored[0][1]
    columns = [Column(name=name, unit=first.unit, better=first.better, words=_words(way, shared)) for way in ways]
    best = [_best(rows, way, first.better) for way in ways]
    digits = decimals([s.value for _, s in scored], first.unit)
    lines = []
    for i, row in enumerate(rows):
        lines.append(_line(row, ways, [i in column for column in best], digits))
        if row.label not in {other.label for other in rows[:i]}:  # of several codes below the first
            lines += [published_line(told, columns) for told in _published(name, row, columns, published)]
    about = conditions(first).replace(f"; likelihood {first.protocol.likelihood}", "")
    if len({s.examples for _, s in scored}) > 1:
        about = about.replace(f", {first.examples:,} examples", "")
    methods = [f"{name}: {_common(shared)}", *filter(None, [_spread(rows)])]
    return Table(columns=columns, lines=lines, protocol=about, methods=methods, notes=[])


def _spread(rows: list[Row]) -> str:
    """What ± is in a table: over seeds where a cell has several, else whatever the error of its one score is."""
    cells = [cell for row in rows for cell in row.cells.values()]
    over = "of several seeds the standard error of their mean" if any(len(cell) > 1 for cell in cells) else ""
    own = list(dict.fromkeys(s.spread for row in rows if row.seeds == 1 for [s] in row.cells.values() if s.spread))
    if over and own:
        own[0] = f"of one seed, and of controls, {own[0]}"
    parts = [part for part in (over, *own) if part]
    return f"± is {', '.join(parts)}" if parts else ""


def _rows(scored: list[tuple[Entry, Score]]) -> list[Row]:
    """Models first, controls last; of a control every run brings the same numbers, so the first one's stand."""
    rows: dict[tuple[str, str], Row] = {}
    for entry, score in scored:
        code = score.protocol.code
        label = "" if code.startswith(CONTROL) else entry.label
        row = rows.setdefault((label, code), Row(label, code, entry=entry))
        cell = row.cells.setdefault((score.protocol.labels, score.protocol.scaling, score.protocol.estimator), [])
        if not (row.control and cell):
            cell.append(score)
    return sorted(rows.values(), key=lambda row: row.control)


def _beside(rows: list[Row]) -> list[Row]:
    """Codes as columns, where nothing else tells a model's scores apart (what draws are from, say); a control is none
    of these codes, and stands under each."""
    [way, *others] = dict.fromkeys(way for row in rows for way in row.cells)
    codes = list(dict.fromkeys(row.code for row in rows if not row.control))
    if others or way[0] or len(codes) < 2:
        return rows
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        named = row.code if row.control else ""
        held = found.setdefault((row.label, named), Row(row.label, named, entry=row.entry))
        held.cells |= {(code, *way[1:]): row.cells[way] for code in (codes if row.control else [row.code])}
    return list(found.values())


def _said_once(name: str, rows: list[Row]) -> list[Row]:
    """One row where all models have the same numbers of what is none of theirs."""
    numbers = [{way: [s.value for s in scores] for way, scores in row.cells.items()} for row in rows]
    alike = name in NO_MODELS_OWN and len({row.label for row in rows}) > 1 and all(n == numbers[0] for n in numbers)
    return [Row("all models", "", rows[0].cells)] if alike else rows


def _shared(estimators: Iterable[str]) -> dict[str, list[str]]:
    """The parts of each estimator's words, but for what ± is of a single score."""
    return {text: re.split(r"[;,]\s+", text.partition("; ±")[0]) for text in estimators}


def _common(shared: dict[str, list[str]]) -> str:
    """The parts that all have."""
    parts = list(shared.values())
    return ", ".join(p for p in parts[0] if all(p in other for other in parts))


def _words(way: Way, shared: dict[str, list[str]]) -> str:
    """What tells a column from the others: labels, scaling, and the parts of the estimator that not all have."""
    labels, scaling, estimator = way
    own = [p for p in shared[estimator] if not all(p in other for other in shared.values())]
    told = re.sub(r"^(\d+|all)(?=$| and )", r"\1 labels", labels.split(",")[0])
    return ", ".join(word for word in (told, scaling, *own) if word)


def _best(rows: list[Row], way: Way, better: str) -> set[int]:
    """The best models of a column, each code on its own; controls are not ranked."""
    classes: dict[Protocol, dict[int, float]] = {}
    for i, row in enumerate(rows):
        if better and not row.control and way in row.cells:
            held = row.cells[way][0].protocol.comparable()
            value = mean_and_error(row.cells[way])[0]
            if math.isfinite(value):
                classes.setdefault(held, {})[i] = value
    pick = min if better == "lower" else max
    return {i for c in classes.values() if len(c) > 1 for i, v in c.items() if v == pick(c.values())}


def _published(name: str, row: Row, columns: list[Column], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each publication that speaks of this model and name, its numbers by the whole words of the columns."""
    found = []
    for p in published:
        if isinstance(p.get(name), dict) and row.label and row.entry and matches(p, row.entry):
            own = {c.words: v for c in columns for words, v in p[name].items() if _has(c.words, words)}
            found += [{**own, "source": p.get("source", "")}] if own else []
    return found


def _has(column: str, words: str) -> bool:
    """Whether a column's words hold all of these; "100 labels" is also 100 labels and others to stop by."""
    own = column.split(", ")
    return all(any(w == word or w.startswith(f"{word} and ") for w in own) for word in words.split(", "))


def _line(row: Row, ways: list[Way], best: list[bool], digits: int) -> Line:
    cells = []
    for way, bold in zip(ways, best, strict=True):
        scores = row.cells.get(way, [])
        value, error = mean_and_error(scores, row.seeds) if scores else (None, None)
        cells.append(Cell(text=number(value, digits), error="" if error is None else number(error, digits), best=bold))
    label = row.code.removeprefix(CONTROL) if row.control else row.label
    seeds = "" if row.control else str(row.seeds)
    about = "control" if row.control else f"code: {row.code}" if row.code else ""
    return Line(label=label, cells=[*cells, Cell(text=MISSING)], seeds=seeds, about=about)

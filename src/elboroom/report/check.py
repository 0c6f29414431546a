"""Whether a page shows the numbers of its runs."""

import math
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

from elboroom.report.folders import RunFolder, Source, read, together
from elboroom.report.tables import (
    HEADLINE,
    MISSING,
    Entry,
    Table,
    chosen,
    comparison,
    grouped,
    mean_and_error,
    number,
)
from elboroom.scores import Score

Shown = list[tuple[str, str]]


class _Scores(HTMLParser):
    """Reads, in the details of a page, the table of all scores of each run: title -> (name, value) as printed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Shown] = {}
        self._titles: list[str] = []
        self._cells: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "details":
            self._titles.append("")
        elif tag == "tr":
            self._cells = []
        elif tag in ("th", "td"):
            self._cells.append("")
        self._inside = tag if tag in ("summary", "th", "td") else self._inside

    def handle_endtag(self, tag: str) -> None:
        if tag == "details" and self._titles:
            self._titles.pop()
        elif tag == "tr" and len(self._titles) == 2 and self._titles[1].startswith("All scores"):
            self.found.setdefault(self._titles[0], []).append((self._cells[0], self._cells[1]))
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "summary" and self._titles:
            self._titles[-1] += data
        elif self._inside in ("th", "td") and self._cells:
            self._cells[-1] += data


Numbers = list[tuple[str, str]]
"""Cells of a row: what is printed large, and the error below it."""


class _Headline(HTMLParser):
    """Reads the tables under the heading Scores: of each its rows (label, cells), published ones left out."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[tuple[str, Numbers]]] = []
        self._open = self._row = self._ours = False
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        told = dict(attributes)
        if tag in ("h2", "h3"):
            self._open = told.get("id") == "scores"
        if not self._open:
            return
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self._row, self._ours = False, told.get("class") != "published"
        elif tag == "th" and told.get("scope") == "row" and self._ours:
            self._row = True
            self.tables[-1].append(("", []))
        elif tag == "td" and self._row:
            self.tables[-1][-1][1].append(("", ""))
        if tag in ("th", "td", "small", "sup"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            self._inside.remove(tag)

    def handle_data(self, data: str) -> None:
        if not (self._open and self._row and self._inside):
            return
        label, cells = self.tables[-1][-1]
        if self._inside == ["th"]:
            self.tables[-1][-1] = (label + data.strip(), cells)
        elif self._inside[0] == "td" and "sup" not in self._inside:
            text, error = cells[-1]
            below = "small" in self._inside
            cells[-1] = (text, error + data) if below else (text + data, error)


def wrong_headline(folder: Path) -> tuple[list[str], int, str]:
    """Sentences about numbers at the top of a folder's page that are not the means of its runs, how many numbers were
    read there, and why none could be, where that is so."""
    path = folder / "report.html"
    if not path.is_file():
        return [], 0, ""
    reader = _Headline()
    reader.feed(path.read_text(encoding="utf-8"))
    shown = [[row for row in table if row[1]] for table in reader.tables]
    source = read(folder)
    only = _only((label for table in shown for label, _ in table), source)
    runs = together([source])
    entries = [Entry(label=only or r.label, scores=r.scores, seed=r.seed, data=r.data) for r in runs]
    wanted = [_expected(table, group) for table, group in _tables(entries)]
    shape = [[(label, len(cells)) for label, cells in table] for table in wanted]
    if shape != [[(label, len(cells) - 2) for label, cells in table] for table in shown]:  # seeds first, time last
        return [], 0, "the tables at its top have other rows or columns than this version would give them: not read"
    pairs = [
        (label, *both)
        for table, own in zip(shown, wanted, strict=True)
        for (label, cells), (_, values) in zip(table, own, strict=True)
        for both in zip(cells[1:-1], values, strict=True)
    ]
    wrong = [
        f"{label}: its table at the top shows {text}{f' ({error})' if error else ''}, should be {number(value, 6)}"
        + ("" if stderr is None else f" ± {number(stderr, 6)}")
        for label, (text, error), (value, stderr) in pairs
        if not _is(text, value) or not _is(error.removeprefix("± "), stderr)
    ]
    return wrong, sum(value is not None for _, _, (value, _) in pairs), ""


def _tables(entries: list[Entry]) -> list[tuple[Table, list[Entry]]]:
    """The tables at the top of a page, each with its runs."""
    return list(zip(comparison(entries), grouped(entries, list(HEADLINE)), strict=True))


def _expected(table: Table, group: list[Entry]) -> list[tuple[str, list[tuple[float | None, float | None]]]]:
    """Of each row its label, and mean and error of each column in full; None where there is none."""
    found = []
    for line in table.lines:
        row = [e for e in group if e.label == line.label]
        cells = []
        for column in table.columns:
            key = column.name, column.samples
            scores = [s[key] for e in row if key in (s := chosen(e, HEADLINE))]
            value, error = mean_and_error(scores, len(row)) if scores else (None, None)
            cells.append((value, error if error is not None and math.isfinite(error) else None))
        found.append((line.label, cells))
    return found


def _is(text: str, value: float | None) -> bool:
    """Whether a printed number is this one, as far as its digits go; a dash or nothing stands for none."""
    if value is None:
        return text.strip() in ("", MISSING)
    try:
        return _rounds_to(text.strip(), value)
    except ValueError:
        return False


def wrong_numbers(folder: Path) -> tuple[list[str], int]:
    """Sentences about numbers in a folder's page that its runs do not have, and how many numbers were read.

    What is read is the table of all scores of each run; `wrong_headline` reads the tables at the top.
    """
    path = folder / "report.html"
    if not path.is_file():
        return [], 0
    reader = _Scores()
    reader.feed(path.read_text(encoding="utf-8"))
    lines, count, source = [], 0, read(folder)
    for run in together([source]):
        title = _only(reader.found, source) or f"{run.label}, seed {run.seed}"
        shown = reader.found.get(title, [])
        count += len(shown)
        lines += _disagreements(run, shown)
    return lines, count


def _only(names: Iterable[str], source: Source) -> str:
    """What a page calls the one run that it is about, whose folder may have been renamed since; else empty."""
    known = set(names)
    return known.pop() if len(known) == 1 and not source.is_study else ""


def _disagreements(run: RunFolder, shown: Shown) -> list[str]:
    title = f"{run.label}, seed {run.seed}"
    if len(shown) != len(run.scores):
        return [f"{title}: shows {len(shown)} scores, should show {len(run.scores)} as its scores.json has them"]
    pairs = zip(shown, run.scores, strict=True)
    return [
        f"{title}: shows {name} = {text}, should be {score} as its scores.json has it"
        for (name, text), score in pairs
        if name != score.name or not shows(text, score)
    ]


def shows(text: str, score: Score) -> bool:
    """Whether a printed value ("−102.50 ± 0.30 nats") is a score, as far as its digits go."""
    printed = re.findall(r"NaN|−?∞|−?[\d,]+(?:\.\d+)?", text.removesuffix(score.unit))
    wanted = [score.value] + ([score.stderr] if score.stderr is not None else [])
    return len(printed) == len(wanted) and all(map(_rounds_to, printed, wanted))


def _rounds_to(text: str, value: float) -> bool:
    plain = text.replace("−", "-").replace(",", "").replace("∞", "inf")
    digits = len(plain.partition(".")[2])
    number = float(plain)
    return number == value or (number != number and value != value) or abs(number - value) <= 0.501 * 10.0**-digits

"""Whether a page shows the numbers of its runs."""

import re
from html.parser import HTMLParser
from pathlib import Path

from elboroom.report.folders import RunFolder, read
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


def wrong_numbers(folder: Path) -> tuple[list[str], int]:
    """Sentences about numbers in a folder's page that its runs do not have, and how many numbers were read.

    What is read is the table of all scores of each run; the tables at the top of a page are made from the same scores.
    """
    path = folder / "report.html"
    if not path.is_file():
        return [], 0
    reader = _Scores()
    reader.feed(path.read_text(encoding="utf-8"))
    lines, count = [], 0
    for run in read(folder).runs:
        shown = reader.found.get(f"{run.label}, seed {run.seed}", [])
        count += len(shown)
        lines += _disagreements(run, shown)
    return lines, count


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

"""Comparisons written out: for the terminal, and as .csv, .json, .md and .html."""

import csv
import dataclasses
import html
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elboroom.errors import InputError, unknown
from elboroom.evaluation.comparison import Difference
from elboroom.studies.compare import Compared, Group, Row, number
from elboroom.training.checkpoint import replace_text, room

FORMAT = 1
HEADER = ("rank", "model", "seeds", "mean", "±", "difference", "95 % interval", "real", "remarks")
LEFT = {"model", "remarks"}
COLUMNS = (
    *("score", "unit", "better", "group", "rank", "model", "seeds", "mean", "stderr"),
    *("against", "difference", "low", "high", "p", "adjusted", "real", "remarks", "apart", "how"),
)


def write(found: list[Compared], path: Path) -> None:
    """Write a comparison; the suffix says in which form."""
    check(path)
    with room(path.parent, "try again"):
        replace_text(path, WRITERS[path.suffix.lower()](found))


def check(path: Path) -> None:
    """InputError where no comparison can be written; asked before the work is done."""
    if path.suffix.lower() not in WRITERS:
        raise unknown(f"output suffix of {path}", path.suffix, WRITERS)
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path}: no file can be written there. Name a file in a folder that exists (--out).")


def text(found: list[Compared]) -> str:
    """For the terminal."""
    return "\n\n".join(_lines(c, _plain_table) for c in found) + "\n"


def as_markdown(found: list[Compared]) -> str:
    return "\n\n".join(_lines(c, _pipes, heading="## ", gap="\n\n") for c in found) + "\n"


def _lines(found: Compared, table: Any, heading: str = "", gap: str = "\n") -> str:
    parts = [heading + title(found)]
    for group in found.groups:
        parts += [*_before(group), table(_table(group)), *_after(group)]
    parts += [f"Without {found.name}: {line}." for line in found.absent]
    return gap.join(parts)


def title(found: Compared) -> str:
    """``elbo (nats, higher is better)``."""
    better = f"{found.better} is better" if found.better else "not ranked: neither direction is better"
    return f"{found.name} ({', '.join(filter(None, [found.unit, better]))})"


def _before(group: Group) -> list[str]:
    refusal = f"Not ranked with the first rows ({group.apart}):"
    return [refusal, conditions(group)] if group.apart else [conditions(group)]


def _after(group: Group) -> list[str]:
    lines = [f"{group.how}."] if group.how else []
    unsure = [f"{d.first} and {d.second}" for d in group.pairs if not d.real]
    return lines + ([f"No real difference between {'; '.join(unsure)}."] if unsure else [])


def conditions(group: Group) -> str:
    """The protocol in words."""
    p = group.protocol
    parts = [
        f"{p.data}, {p.split} split, {group.examples:,} examples",
        f"binarization {p.binarization}" + (f", {p.copies} copies" if p.copies > 1 else ""),
        f"likelihood {p.likelihood}",
        ", ".join(filter(None, [p.estimator.partition("; ±")[0], f"{p.samples:,} samples" if p.samples else ""])),
        *(f"{name} {value}" for name in ("code", "labels", "scaling", "classifier") if (value := getattr(p, name))),
    ]
    return "; ".join(filter(None, parts))


def _table(group: Group) -> list[tuple[str, ...]]:
    """The rows in words, under HEADER."""
    digits = decimals(group)
    return [HEADER, *(_cells(row, group, digits) for row in group.rows)]


def _cells(row: Row, group: Group, digits: int) -> tuple[str, ...]:
    d = group.against_best(row)
    first = row is group.rows[0] and len(group.rows) > 1
    return (
        "" if row.rank is None else str(row.rank),
        row.label,
        str(len(row.seeds)),
        number(row.value, digits),
        number(row.stderr, digits),
        number(d.value, digits) if d else _first(row, group) if first else "",
        f"[{number(d.low, digits)}, {number(d.high, digits)}]" if d else "",
        ("yes" if d.real else "no") if d else "",
        row.remarks,
    )


def _first(row: Row, group: Group) -> str:
    """What stands for the difference of the first row to itself."""
    return "best" if row.rank else "the others minus it" if group.pairs else ""


def decimals(group: Group) -> int:
    """Digits that show two figures of the smallest standard error, or of the smallest width of an interval."""
    widths = [d.high - d.low for d in group.pairs] + [r.stderr for r in group.rows if r.stderr]
    widths = [w for w in widths if math.isfinite(w) and w > 0]
    if not widths:
        return 0 if all(r.value.is_integer() for r in group.rows) else 4
    return min(6, max(0, 1 - math.floor(math.log10(min(widths)))))


def _plain_table(rows: list[tuple[str, ...]]) -> str:
    columns = [c for c in zip(*rows, strict=True) if any(c[1:])]
    widths = [max(map(len, c)) for c in columns]
    lines = []
    for line in zip(*columns, strict=True):
        cells = zip(line, columns, widths, strict=True)
        lines.append("  " + "  ".join(f"{t:<{w}}" if c[0] in LEFT else f"{t:>{w}}" for t, c, w in cells).rstrip())
    return "\n".join(lines)


def _pipes(rows: list[tuple[str, ...]]) -> str:
    cells = [[c.replace("|", "\\|") for c in row] for row in rows]
    ruler = ["---" if name in LEFT else "---:" for name in rows[0]]
    return "\n".join(f"| {' | '.join(row)} |" for row in [cells[0], ruler, *cells[1:]])


def as_html(found: list[Compared]) -> str:
    """A page that needs nothing else."""
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}th,td{padding:.2rem .7rem;border-bottom:1px solid #ccc;text-align:left}"
    )
    body = "\n".join(_lines(_escaped(c), _html_table, heading="<h2>", gap="\n<p>") for c in found)
    head = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Comparison</title><style>{style}</style>\n'
    return f"{head}<h1>Comparison</h1>\n{body}\n</html>\n"


def _html_table(rows: list[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{c}</th>" for c in rows[0])
    lines = ["<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows[1:]]
    return f"</p><table><tr>{head}</tr>\n" + "\n".join(lines) + "</table>"


def _escaped(value: Any) -> Any:
    """The same records with every text made safe for HTML."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, list):
        return [_escaped(v) for v in value]
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(
            value, **{f.name: _escaped(getattr(value, f.name)) for f in dataclasses.fields(value)}
        )
    return value


def as_csv(found: list[Compared]) -> str:
    """A line a row, against the best of its group; numbers in full."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(line for c in found for line in _records(c))
    return file.getvalue()


def _records(found: Compared) -> Iterator[dict[str, Any]]:
    for i, group in enumerate(found.groups):
        for row in group.rows:
            d = group.against_best(row)
            yield {
                "score": found.name,
                "unit": found.unit,
                "better": found.better,
                "group": i,
                **_row(row),
                "seeds": " ".join(row.seeds),
                "apart": group.apart,
                "how": group.how,
                **({"against": d.second, **_difference(d)} if d else {}),
            }


def _row(row: Row) -> dict[str, Any]:
    return {
        "rank": row.rank,
        "model": row.label,
        "seeds": row.seeds,
        "mean": row.value,
        "stderr": row.stderr,
        "remarks": row.remarks,
    }


def _difference(d: Difference) -> dict[str, Any]:
    return {"difference": d.value, "low": d.low, "high": d.high, "p": d.p, "adjusted": d.adjusted, "real": d.real}


def as_json(found: list[Compared]) -> str:
    """Everything, with each pair; a number that is none is null."""
    content = [
        {
            "score": c.name,
            "unit": c.unit,
            "better": c.better,
            "groups": [
                {
                    "protocol": dataclasses.asdict(g.protocol),
                    "apart": g.apart,
                    "how": g.how,
                    "rows": [_row(r) for r in g.rows],
                    "pairs": [{"first": d.first, "second": d.second, **_difference(d)} for d in g.pairs],
                }
                for g in c.groups
            ],
            "absent": c.absent,
        }
        for c in found
    ]
    return json.dumps(_finite({"format": FORMAT, "scores": content}), indent=1, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


WRITERS = {".csv": as_csv, ".json": as_json, ".md": as_markdown, ".html": as_html}

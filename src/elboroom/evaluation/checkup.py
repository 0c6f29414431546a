"""`elboroom doctor`: a run examined, the verdict in a few lines and as JSON."""

import dataclasses
import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from elboroom.evaluation.cures import prescribed
from elboroom.evaluation.doctor import Finding, Severity, diagnose, severity, verdict
from elboroom.evaluation.signals import Signals, signals
from elboroom.evaluation.subject import Subject
from elboroom.runs import Run
from elboroom.training.checkpoint import replace_text, room

FORMAT = 1
WIDTH = 100
SHOWN = 3  # cures of a finding on the terminal; the file has all


@dataclass(frozen=True)
class Checkup:
    """What was measured of a checkpoint, and what was found."""

    run: str
    checkpoint: str
    signals: Signals
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """In one line."""
        return verdict(self.findings)

    @property
    def severity(self) -> Severity:
        """healthy, remark or alarm: the worst finding."""
        return severity(self.findings)

    def content(self) -> dict[str, Any]:
        """As JSON has it."""
        findings = [dataclasses.asdict(f) | {"title": f.title} for f in self.findings]
        head = {"format": FORMAT, "run": self.run, "checkpoint": self.checkpoint}
        body = {"verdict": self.verdict, "severity": self.severity, "findings": findings}
        return head | body | {"signals": dataclasses.asdict(self.signals)}

    def json(self) -> str:
        """The text of doctor.json. NaN and infinity are written as such."""
        return json.dumps(self.content(), indent=1, ensure_ascii=False) + "\n"

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        yield f"{self.run}, {self.checkpoint}: {self.verdict}"
        for finding in self.findings:
            yield from _lines(finding)


def examine(subject: Subject) -> Checkup:
    """Measure and judge a run, with the commands that fit it."""
    run, seen = subject.run, signals(subject)
    epochs = run.step * run.config.training.batch // max(len(run.data.train), 1)
    given = run.config, run.folder, run.step, epochs
    found = [dataclasses.replace(f, remedies=prescribed(f.remedies, *given)) for f in diagnose(seen)]
    return Checkup(str(run.folder), f"step-{run.step}", seen, tuple(found))


def keep(run: Run, checkup: Checkup) -> None:
    """Write it beside the other evaluations of this checkpoint."""
    with room(run.evaluation, "run the doctor again"):
        run.evaluation.mkdir(parents=True, exist_ok=True)
        replace_text(run.evaluation / "doctor.json", checkup.json())


def _lines(finding: Finding) -> Iterator[str]:
    yield "" if finding.severity == "healthy" else f"\n{finding.severity}: {finding.title}"
    yield textwrap.fill(finding.says, WIDTH, initial_indent="  ", subsequent_indent="  ")
    figures = "; ".join(f"{name} {value:.3g}" for name, value in finding.figures.items())
    yield textwrap.fill(figures, WIDTH, initial_indent="  ", subsequent_indent="  ")
    for cure in finding.remedies[:SHOWN]:
        yield f"  try {cure.name} ({cure.why}):\n    {cure.command}"

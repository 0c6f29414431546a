"""metrics.jsonl and timing.jsonl: a line per log interval, cut back to the checkpoint when a run resumes."""

import json
import os
from pathlib import Path
from typing import Any

from elboroom.training.checkpoint import replace_text


class Journal:
    """Lines of JSON. metrics.jsonl holds only what is a function of the configuration; speed goes to timing.jsonl."""

    def __init__(self, folder: Path) -> None:
        self.metrics, self.timing = folder / "metrics.jsonl", folder / "timing.jsonl"

    def write(self, line: dict[str, Any]) -> None:
        self._append(self.metrics, line)

    def write_timing(self, line: dict[str, Any]) -> None:
        self._append(self.timing, line)

    def _append(self, path: Path, line: dict[str, Any]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def sync(self) -> None:
        """Force both files to the disk; done before a checkpoint, which counts on them."""
        for path in (self.metrics, self.timing):
            if path.exists():
                with path.open("rb") as file:
                    os.fsync(file.fileno())

    def cut_back(self, step: int) -> None:
        """Drop whatever was written after this step, and a torn last line."""
        for path in (self.metrics, self.timing):
            if path.exists():
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
                kept = [line for line in lines if _whole(line) and json.loads(line)["step"] <= step]
                replace_text(path, "".join(kept))


def _whole(line: str) -> bool:
    try:
        return line.endswith("\n") and isinstance(json.loads(line)["step"], int)
    except (json.JSONDecodeError, KeyError, TypeError):
        return False

"""A loop turned inside out, so that another process can time blocks of it. Standard library only: every side uses it."""

import json
import os
import sys
import time
from typing import Any


class Ticker:
    """Called after every step of a loop that goes on for ever, it runs the loop in blocks of the asked-for length.

    The other process writes a number of seconds; the loop goes on for that long, and one line of JSON answers: units
    of work done, seconds, CPU seconds of the process, and whatever values the steps handed over. Between blocks the
    loop stands still inside the call, with all its state. The end of the input ends the process.
    """

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what libraries print must not be taken for an answer
        self._seconds: float | None = None

    def __call__(self, units: int = 1, value: Any = None) -> None:
        """One step is done: so many units of work, and perhaps a value."""
        if self._seconds is None:
            self._wait({"ready": True})
            return
        self._units += units
        if value is not None:
            self._values.append(value)
        now = time.perf_counter()
        if now - self._started >= self._seconds:
            cpu = time.process_time() - self._cpu
            self._wait({"units": self._units, "seconds": now - self._started, "cpu": cpu, "values": self._values})

    def _wait(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=self._out)
        line = sys.stdin.readline()
        if not line.strip():
            os._exit(0)
        self._seconds, self._units, self._values = float(line), 0, []
        self._cpu, self._started = time.process_time(), time.perf_counter()

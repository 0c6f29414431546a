"""Trains one small run, then kills it by SIGKILL at chosen moments, resumes it, and tells what differs.

Run as a program (`python kill_driver.py FOLDER < orders.json`): its parent process only forks, so that torch is
imported once and its children start with no threads. Prints JSON: the number of moments, and a report per order.

An order is {"config": {...}, "kills": [n, ...]}: the run, and then each resumption, is killed at its n-th moment
(n < 1: that share of all moments; "seconds": [s, ...] instead: after that time); at the end it is left to finish.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import torch._dynamo  # the first step of an optimizer would import it, in every child

from elboroom import build, runs
from elboroom.config import run_from
from elboroom.studies.execute import check_resumable, execute
from elboroom.training import checkpoint, journal, loop

DATA: dict[str, object] = {}


class Moments:
    """Counts the moments at which a kill would leave another state behind, and kills at the n-th."""

    def __init__(self, fatal: int | None) -> None:
        self.fatal, self.count = fatal, 0

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, function: Callable) -> Callable:
        def watched(*args: object, **options: object) -> object:
            self()
            return function(*args, **options)

        return watched

    def torn_bytes(self, path: Path, content: bytes) -> None:
        """`write_bytes`, with a moment after half of the content."""
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            self()
            file.write(content[len(content) // 2 :])
            file.flush()
            os.fsync(file.fileno())

    def torn_line(self, log: journal.Journal, path: Path, line: dict) -> None:
        """`Journal._append`, with a moment after half of the line."""
        text = json.dumps(line) + "\n"
        with path.open("a", encoding="utf-8") as file:
            file.write(text[: len(text) // 2])
            file.flush()
            self()
            file.write(text[len(text) // 2 :])

    def watch(self) -> None:
        """From here on every system call that changes the folder, every half of a write and every step is a moment."""
        os.fsync = lambda descriptor: None  # only a power cut needs it, and it takes most of the time
        for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
            setattr(os, name, self.before(getattr(os, name)))
        checkpoint.write_bytes = self.torn_bytes
        journal.Journal._append = lambda log, path, line: self.torn_line(log, path, line)
        loop.Trainer._after_step = self.before(loop.Trainer._after_step)


def train(config: dict, folder: Path, fatal: int | None, tell: int) -> None:
    """In a child: train or resume to the end, unless killed; tells the number of moments and the errors."""
    moments = Moments(fatal)
    moments.watch()
    error = ""
    try:
        resume = (folder / "config.yaml").exists()
        if not resume or check_resumable(folder):
            execute(run_from(config), folder, resume=resume)
    except BaseException:
        error = traceback.format_exc()
    os.write(tell, json.dumps([moments.count, error]).encode())
    os._exit(0)


def child(config: dict, folder: Path, fatal: int | None = None, seconds: float | None = None) -> tuple[int, str, bool]:
    """Fork; (moments, error, whether it was killed)."""
    hear, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(hear)
        train(config, folder, fatal, tell)
    os.close(tell)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(hear) as file:
        said = file.read()
    status = os.waitpid(pid, 0)[1]
    count, error = json.loads(said or '[0, ""]')
    return count, error, os.WIFSIGNALED(status)


def fingerprint(folder: Path) -> dict[str, str]:
    """sha256 of every file that must not depend on kills."""
    files = [p for p in (folder / "checkpoints").rglob("*") if p.is_file()] + [folder / "metrics.jsonl"]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def reference(config: dict, root: Path, known: dict) -> tuple[int, float, dict[str, str]]:
    """Moments, seconds and files of the run left alone."""
    key = json.dumps(config, sort_keys=True)
    if key not in known:
        folder = root / f"alone-{len(known)}"
        started = time.perf_counter()
        count, error, _ = child(config, folder)
        assert not error, error
        known[key] = (count, time.perf_counter() - started, fingerprint(folder))
    return known[key]


def carry_out(order: dict, folder: Path, alone: tuple[int, float, dict[str, str]]) -> dict:
    count, seconds, expected = alone
    done, errors = 0, []
    for n in order.get("kills", ()):
        if runs.read_state(folder)["status"] == "done":
            break
        _, error, killed = child(order["config"], folder, fatal=max(1, int(n * count)) if n < 1 else n)
        done, errors = done + killed, errors + [error] * bool(error)
    for share in order.get("seconds", ()):
        _, error, killed = child(order["config"], folder, seconds=share * seconds)
        done, errors = done + killed, errors + [error] * bool(error)
    if runs.read_state(folder)["status"] != "done":
        _, error, _ = child(order["config"], folder)
        errors += [error] * bool(error)
    found = fingerprint(folder)
    different = sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
    status = runs.read_state(folder)["status"]
    shutil.rmtree(folder)
    return {"order": order.get("kills") or order.get("seconds"), "killed": done, "errors": errors,
            "different": different, "status": status, "files": len(expected)}  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    root, orders, known = Path(sys.argv[1]), json.load(sys.stdin), {}
    load, runs.code_commit = build.data, lambda: None
    build.data = lambda config: DATA.setdefault(repr(config.data), load(config))  # read once, by the parent
    for order in orders:
        build.data(run_from(order["config"]))
    reports = []
    for number, order in enumerate(orders):
        alone = reference(order["config"], root, known)
        reports.append(carry_out(order, root / f"run-{number}", alone))
    print(json.dumps({"moments": [count for count, *_ in known.values()], "reports": reports}))


if __name__ == "__main__":
    main()

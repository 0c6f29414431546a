"""Where and how a run computes: device, threads, precision."""

import contextlib
import ctypes
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from elboroom.errors import InputError

# Every kind of layer that will run in bf16, forward and backward. A child process runs it, because some virtual
# machines announce instructions that then kill the process (SIGILL).
_PROBE = """
import time, torch
import torch.nn.functional as F
def work(dtype):
    x = torch.randn(64, 64, 14, 14, requires_grad=True)
    w = torch.randn(64, 64, 3, 3, requires_grad=True)
    a = torch.randn(256, 512, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = F.conv_transpose2d(F.conv2d(x, w, padding=1), w, padding=1)
        loss = y.float().square().mean() + F.linear(a, a).float().square().mean() + (a @ a.T).float().mean()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(x.grad).all()
def seconds(dtype):
    work(dtype)
    times = []
    for _ in range(5):
        start = time.perf_counter(); work(dtype); times.append(time.perf_counter() - start)
    return min(times)
torch.manual_seed(0)
print(seconds(torch.float32) / seconds(torch.bfloat16))
"""


@dataclass(frozen=True)
class Runtime:
    """The resolved choices of a run; ``notes`` says what was not as asked for, and why."""

    device: torch.device
    threads: int
    precision: str
    notes: tuple[str, ...] = ()

    def autocast(self) -> AbstractContextManager:
        """The context in which networks compute; densities are float32 in any case, as the heads' outputs are."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def start(
    device: str = "auto",
    threads: int | None = None,
    precision: str = "fp32",
    deterministic: bool = False,
    before: str | None = None,
) -> Runtime:
    """Set torch up for this process; InputError where the device does not exist.

    A resumed run keeps the precision that it had ``before``, unless that does not work on this machine.
    """
    chosen = find_device(device)
    keep_heap()
    keep_float32()
    set_threads(threads)
    if deterministic and chosen.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its results only with this
    torch.use_deterministic_algorithms(deterministic and chosen.type == "cuda")
    notes = []
    if precision == "bf16" and chosen.type == "cpu":
        gain, why = bf16_gain()
        if before == "fp32" or gain == 0 or (gain < 1 and before is None):
            precision = "fp32"
            notes.append(f"bf16 was asked for; float32 serves: {why}.")
    return Runtime(chosen, torch.get_num_threads(), precision, tuple(notes))


def set_threads(threads: int | None) -> None:
    """Set torch's threads for this process; None leaves them as they are."""
    if threads is not None:
        torch.set_num_threads(threads)


def keep_heap() -> None:
    """Let glibc keep what a step frees for the next one; elsewhere nothing happens.

    By default it hands the top of its heap back after every large tensor, and each step of a convolutional net pays for
    the same pages anew (measured: 5 to 20 % of the step, a quarter to a half of an NLL by importance sampling).
    """
    trim_threshold, mmap_threshold = -1, -3  # names of malloc.h
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 32 << 20)  # the largest it takes; setting one ends the automatic choice of both
        libc.mallopt(trim_threshold, 1 << 30)


def keep_float32() -> None:
    """Let float32 be float32 on CUDA: its convolutions round their factors to 10 bits by default (TF32).

    A decoder that goes pixel by pixel multiplies matrices instead, and would disagree with its own parallel pass.
    """
    torch.backends.cudnn.allow_tf32 = False


def scoring_device(training: str) -> str:
    """Where a study scores a run: on the device of its training, or on the CPU where that is not here."""
    try:
        return str(find_device(training))
    except InputError:
        return "cpu"


def find_device(name: str) -> torch.device:
    """A device by its name, ``auto`` for the best; InputError where it cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device '{name}' cannot be used here: {reason}. Choose auto, cpu or cuda.") from None
    return device


def _run_probe() -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=120, check=False)


@functools.cache
def bf16_gain(probe: Callable[[], subprocess.CompletedProcess] = _run_probe) -> tuple[float, str]:
    """How many times as fast bf16 is on this CPU (0: it does not work), and the reason in words.

    Matrix product, linear, convolution and its transpose are run forward and backward in a child process.
    """
    try:
        result = probe()
    except subprocess.TimeoutExpired:
        return 0.0, "its trial in a child process did not end within two minutes"
    if result.returncode < 0:
        return 0.0, f"its trial in a child process was killed by signal {-result.returncode}"
    if result.returncode > 0:
        return 0.0, "its trial in a child process failed"
    try:
        gain = float(result.stdout)
    except ValueError:
        gain = 0.0
    if not gain > 0:
        return 0.0, "its trial in a child process gave no time"
    return gain, f"its trial ran at {gain:.2f} times the speed of float32"

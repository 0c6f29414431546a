"""The facts of the machine that a table of timings needs beside it."""

import os
import platform
from pathlib import Path

import torch


def processor() -> str:
    """The processor's own name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def facts(threads: int) -> dict[str, str]:
    """Processor, memory, versions, and how busy the machine is now."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{processor()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "memory": f"{memory:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "torch": f"{torch.__version__}, {threads} threads",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }

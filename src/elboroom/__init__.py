"""Train, evaluate, compare and explore variational autoencoders whose codes carry information."""

import importlib
from typing import TYPE_CHECKING, Any

from elboroom.errors import Diverged, InputError

if TYPE_CHECKING:
    from elboroom.runs import Run, load

__all__ = ["Diverged", "InputError", "Run", "load"]


def __getattr__(name: str) -> Any:
    """`load` and `Run` on first use, so that `elboroom --help` does not wait for torch."""
    if name in ("load", "Run"):
        return getattr(importlib.import_module("elboroom.runs"), name)
    raise AttributeError(f"module 'elboroom' has no attribute '{name}'")

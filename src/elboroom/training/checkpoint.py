"""Checkpoints that are whole or absent: written aside, fsynced, renamed, and verified when they are read."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as bytes_from_tensors
from torch import Tensor

from elboroom.errors import InputError

FORMAT = 1
Tensors = dict[str, Tensor]


@dataclass
class Checkpoint:
    """One moment of a training: named groups of tensors (model, optimizer, ...) and plain values."""

    step: int
    groups: dict[str, Tensors]
    values: dict[str, Any] = field(default_factory=dict)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file and force it to the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force a folder's entries (renames, new files) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part, whoever else writes it."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # two evaluations of a study may share a classifier
    try:
        write_bytes(aside, content)
        aside.replace(path)
    except BaseException:  # an interrupt too: nobody else knows this name, to remove it
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_text(path: Path, text: str) -> None:
    """`replace_bytes` of text."""
    replace_bytes(path, text.encode())


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextlib.contextmanager
def room(folder: Path, cure: str) -> Iterator[None]:
    """InputError, with a cure, where writing into the folder finds the disk full, or a file in it out of reach."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            full = f"{folder}: no room on the disk ({error.strerror}). Free some space, then {cure}."
            raise InputError(full) from error
        if error.errno in FORBIDDEN and _lies_in(error.filename, folder):  # not, say, a file of the data
            raise _no_access(error.filename, error.strerror) from error
        raise


def check_writable(folder: Path) -> None:
    """InputError where a folder, or of one that is to be made the nearest that there is, cannot be written to; asked
    before the work is done."""
    whole = folder.absolute()
    place = next((p for p in (whole, *whole.parents) if os.access(p, os.F_OK)), whole)
    wanted = os.W_OK | os.X_OK | (os.R_OK if place == whole else 0)  # what a folder holds is read, what it lies in not
    if place.is_dir() and not os.access(place, wanted):
        raise _no_access(folder if place == whole else place, "it cannot be written to")


def _lies_in(name: str | bytes | int | None, folder: Path) -> bool:
    return isinstance(name, str) and Path(name).absolute().is_relative_to(folder.absolute())


def _no_access(place: str | Path, why: str) -> InputError:
    return InputError(f"{place}: no access ({why}). Get the right to read and write there, or choose another folder.")


def pack(tensors: Tensors) -> bytes:
    """Safetensors bytes: contiguous, on the CPU; a tensor that two names share is written once."""
    owners: dict[tuple, str] = {}
    kept: Tensors = {}
    aliases: dict[str, str] = {}
    for name, tensor in tensors.items():
        identity = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else (name,)
        owner = owners.setdefault(identity, name)
        if owner == name:
            kept[name] = tensor.detach().cpu().contiguous().clone()
        else:
            aliases[name] = owner
    return _ordered(bytes_from_tensors(kept, metadata={"format": str(FORMAT), "aliases": json.dumps(aliases)}))


def _ordered(content: bytes) -> bytes:
    """The same safetensors with the metadata in order: the library's is random, and equal weights need equal hashes."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def unpack(content: bytes) -> Tensors:
    """What `pack` wrote; raises SafetensorError where it is something else."""
    tensors = tensors_from_bytes(content)
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    aliases = json.loads(metadata.get("aliases", "{}"))
    return {**tensors, **{name: tensors[owner] for name, owner in aliases.items()}}


class Store:
    """The checkpoints of a run: ``step-N`` folders, and the one-line files ``last`` and ``best`` that name one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step}"

    def steps(self) -> list[int]:
        """The steps that have a folder, in order."""
        names = (p.name.removeprefix("step-") for p in self.folder.glob("step-*"))
        return sorted(int(n) for n in names if n.isdecimal())

    def pointer(self, name: str) -> int | None:
        """The step that ``last`` or ``best`` names, or None."""
        try:
            text = (self.folder / name).read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            text = "(a folder)"
        if not re.fullmatch(r"step-[0-9]+", text):
            raise InputError(
                f"{self.folder / name}: it should name a checkpoint such as step-100, and says {text[:40]!r}. "
                f"Write one of: {', '.join(f'step-{s}' for s in self.steps())}."
            )
        return int(text.removeprefix("step-"))

    def latest(self) -> int | None:
        """The step that ``last`` names; where nothing is named (a kill between the first checkpoint and its pointer, a
        lost file), that of the newest checkpoint, which is whole because it was renamed into place; None where there is
        no checkpoint at all."""
        named, steps = self.pointer("last"), self.steps()
        return named if named is not None and steps else max(steps, default=None)

    def point(self, name: str, step: int) -> None:
        """Let ``last`` or ``best`` name a checkpoint."""
        if self.pointer(name) != step:
            replace_text(self.folder / name, f"step-{step}\n")

    def forget(self, name: str) -> None:
        """Let a name stand for no checkpoint."""
        (self.folder / name).unlink(missing_ok=True)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint aside, then rename it into place; a full disk leaves the previous ones as they were."""
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".step-{checkpoint.step}.tmp"
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir()
            self._write(aside, checkpoint)
            self.remove(checkpoint.step)  # an orphan that no pointer names
            aside.rename(self.path(checkpoint.step))
            sync_folder(self.folder)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            raise

    def _write(self, folder: Path, checkpoint: Checkpoint) -> None:
        sums = {}
        for name, tensors in checkpoint.groups.items():
            content = pack(tensors)
            sums[f"{name}.safetensors"] = hashlib.sha256(content).hexdigest()
            write_bytes(folder / f"{name}.safetensors", content)
        state = {"format": FORMAT, "step": checkpoint.step, "sha256": sums, "values": checkpoint.values}
        state["seal"] = _seal(state)
        write_bytes(folder / "state.json", (json.dumps(state, indent=1) + "\n").encode())
        sync_folder(folder)

    def load(self, step: int, only: tuple[str, ...] | None = None) -> Checkpoint:
        """Read a checkpoint (all groups, or those of ``only`` that exist) and verify its sums.

        Raises InputError for one that is missing, torn, edited or of another format.
        """
        folder = self.path(step)
        state = self._state(folder)
        groups = {}
        for file, expected in state["sha256"].items():
            name = file.removesuffix(".safetensors")
            if only is None or name in only:
                groups[name] = self._read(folder / file, expected)
        return Checkpoint(state["step"], groups, state["values"])

    def sums(self, step: int) -> dict[str, str]:
        """The sha256 of each file of a checkpoint, as its record says; InputError as for `load`."""
        return self._state(self.path(step))["sha256"]

    def _state(self, folder: Path) -> dict[str, Any]:
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            if state.get("seal", _seal(state)) != _seal(state):
                raise KeyError("seal")
            if state["format"] != FORMAT:
                raise InputError(f"{folder}: format {state['format']} is not known here. Update elboroom.")
            _ = state["sha256"], state["values"], state["step"]
        except FileNotFoundError:
            raise InputError(f"{folder}: no whole checkpoint there. {self._cure(folder)}") from None
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"{folder / 'state.json'}: torn or edited. {self._cure(folder)}") from None
        return state

    def _read(self, path: Path, expected: str) -> Tensors:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise InputError(f"{path}: this file of the checkpoint is missing. {self._cure(path.parent)}") from None
        if hashlib.sha256(content).hexdigest() != expected:
            raise InputError(
                f"{path}: its sha256 is not the one in state.json: the file is torn, edited or from elsewhere. "
                f"{self._cure(path.parent)}"
            )
        try:
            return unpack(content)
        except (SafetensorError, ValueError) as error:
            raise InputError(f"{path}: no safetensors file ({error}). {self._cure(path.parent)}") from None

    def _cure(self, bad: Path) -> str:
        others = [f"step-{s}" for s in self.steps() if self.path(s) != bad]
        if not others:
            return "No other checkpoint is kept; train anew into another folder."
        return (
            f"Others are kept: {', '.join(others)}. Name one (--checkpoint), or write its name into "
            f"{self.folder / 'last'} to go on from it."
        )

    def remove(self, step: int) -> None:
        """Remove a checkpoint that no pointer names."""
        shutil.rmtree(self.path(step), ignore_errors=True)

    def prune(self, keep: set[int]) -> None:
        """Remove what neither a pointer nor ``keep`` names, and whatever an interrupted save left."""
        keep = keep | {self.pointer("last"), self.pointer("best")}
        for step in self.steps():
            if step not in keep:
                self.remove(step)
        for leftover in self.folder.glob(".*.tmp"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _seal(state: dict[str, Any]) -> str:
    """The sha256 of state.json's own content, so that an edit of it shows as one of a tensor does."""
    content = {key: value for key, value in state.items() if key != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[Tensors, list[dict[str, Any]]]:
    """An optimizer's state as tensors named ``<parameter>.<name>``, and its groups' plain values."""
    state = optimizer.state_dict()
    tensors = {f"{i}.{k}": torch.as_tensor(v) for i, s in state["state"].items() for k, v in s.items()}
    return tensors, state["param_groups"]


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors, groups: list[dict[str, Any]]) -> None:
    """The inverse of `optimizer_tensors`.

    A moment gets the memory layout of its parameter: fused kernels walk both side by side.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter in parameters:
        moments = optimizer.state.get(parameter, {})
        for key, moment in moments.items():
            if torch.is_tensor(moment) and moment.shape == parameter.shape:
                moments[key] = torch.empty_like(parameter).copy_(moment)

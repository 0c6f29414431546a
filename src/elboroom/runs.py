"""A run folder as an object: what users import, and what evaluation reads."""

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from elboroom import build
from elboroom.config import Run as RunConfig
from elboroom.config import load_run, to_yaml
from elboroom.config.files import parse_yaml
from elboroom.config.run import identity_of
from elboroom.data import Data
from elboroom.errors import InputError, unknown
from elboroom.models import VAE
from elboroom.models.evidence import log_evidence
from elboroom.networks.layout import lay_out
from elboroom.numerics import Randomness
from elboroom.scores import is_kept
from elboroom.training.checkpoint import Store, replace_text
from elboroom.training.runtime import Runtime, find_device, keep_float32, keep_heap

FORMAT = 1
Array = np.ndarray


def create(config: RunConfig, folder: Path) -> None:
    """Make a new run folder with its configuration; InputError where the folder already holds something."""
    check_new(folder)
    make_folder(folder)
    if config.init_from is not None:  # from here on, so that a study's folder may be moved
        config = dataclasses.replace(config, init_from=os.path.relpath(config.init_from, folder))
    replace_text(folder / "config.yaml", to_yaml(config))


def check_new(folder: Path) -> None:
    """InputError where a new run cannot have this folder, because something is in it."""
    if not folder.exists() or (folder.is_dir() and all(p.match(".config.yaml.*.tmp") for p in folder.iterdir())):
        return  # a kill in the first instant leaves such a file
    cure = f"`elboroom resume {folder}` goes on with it" if (folder / "config.yaml").exists() else "remove it"
    raise InputError(f"{folder}: already there. Choose another folder (--out), or {cure}.")


def make_folder(folder: Path) -> None:
    """Make a folder with its parents; InputError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}). Choose another folder (--out).") from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; InputError where another one trains in it. A killed process holds nothing."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # file systems without locks do without
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"{folder}: is being trained by another process. Wait for it, stop it, or choose another folder."
                ) from None
        yield
    finally:
        os.close(descriptor)


def identity(folder: Path) -> str:
    """`Run.identity` of the configuration as config.yaml holds it."""
    path = folder / "config.yaml"
    return identity_of(parse_yaml(path.read_text(encoding="utf-8"), str(path)), folder)


def write_state(folder: Path, status: str, **more: Any) -> None:
    """What became of the run so far: running, stopped, done or diverged, at which step."""
    replace_text(folder / "state.json", json.dumps({"format": FORMAT, "status": status, **more}) + "\n")


def read_state(folder: Path) -> dict[str, Any]:
    """The content of state.json; a run that has none is new, and of a torn one resuming finds out the truth."""
    try:
        content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return content if isinstance(content.get("status"), str) else {"format": FORMAT, "status": "unknown"}
    except FileNotFoundError:
        return {"format": FORMAT, "status": "new"}
    except (ValueError, AttributeError):
        return {"format": FORMAT, "status": "unknown"}


def read_environment(folder: Path) -> dict[str, Any]:
    """The content of environment.json; empty where there is none that can be read."""
    try:
        content = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


SESSION = ("commit", "machine", "device", "threads", "precision")
"""What a line of sessions.jsonl takes from the environment."""


def write_environment(folder: Path, runtime: Runtime, data: Data, step: int = 0) -> None:
    """Versions, device, threads, the commit of the code, and the hashes of the data files: of this session.

    A run that is resumed may go on with other code or on another machine, so each session leaves a line in
    sessions.jsonl, with the step from which it went on.
    """
    names = ("torch", "numpy", "scikit-learn", "safetensors", "pydantic")
    versions = {"python": platform.python_version(), "elboroom": importlib.metadata.version("elboroom")}
    versions |= {name: importlib.metadata.version(name) for name in names}
    content = {
        "format": FORMAT,
        "versions": versions,
        "device": str(runtime.device),
        "threads": runtime.threads,
        "precision": runtime.precision,
        "notes": list(runtime.notes),
        "commit": code_commit(),
        "machine": f"{platform.system()} {platform.machine()}, {processor()}",
        "data": data.files,
    }
    replace_text(folder / "environment.json", json.dumps(content, indent=1) + "\n")
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = {"started": started, "step": step, **{name: content[name] for name in SESSION}}
    replace_text(folder / "sessions.jsonl", "".join(f"{json.dumps(s)}\n" for s in [*read_sessions(folder), line]))


def read_sessions(folder: Path) -> list[dict[str, Any]]:
    """The sessions of a run, in order; none where an older version trained it. A line that is none is left out."""
    try:
        lines = (folder / "sessions.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return [s for s in found if isinstance(s, dict)]


def code_commit() -> str | None:
    """The git commit of this code, marked where files differ from it; None outside a checkout of the project."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    describe = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    told = {"capture_output": True, "text": True, "check": True}
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], **told)  # not the user's, around a .venv
        return subprocess.run([*git, *describe], **told).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    """The name of the processor, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"


def load(folder: str | Path, *, checkpoint: str = "auto", device: str = "cpu", trust: bool = False) -> "Run":
    """Open a run folder.

    Args:
        folder: written by `elboroom train` or `elboroom study`.
        checkpoint: ``best``, ``last``, ``step-N``, or ``auto``: best where there is one, else last.
        device: where the model computes. From then on the process keeps its heap, and float32 on CUDA
            (`training.runtime.keep_heap`, `keep_float32`).
        trust: allow a configuration that names the user's own parts; importing them runs their code.

    Raises:
        InputError: no run folder, no such checkpoint, or a part that needs trust. That a checkpoint is torn shows
            where its weights are read.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").exists():
        raise InputError(f"{folder}: no run folder (it has no config.yaml). Give a folder that `elboroom train` wrote.")
    config = load_run(folder / "config.yaml")
    if config.foreign and not trust:
        raise InputError(
            f"{folder}: its configuration names {', '.join(config.foreign)}; opening it runs that code. "
            "If you trust it, say so (--trust, or trust=True)."
        )
    keep_heap()
    keep_float32()
    return Run(folder, config, checkpoint, find_device(device))


def resumable(folder: Path, step: int | None = None) -> bool:
    """Whether a checkpoint (by default the latest) holds what training goes on from; also where there is none yet."""
    store = Store(folder / "checkpoints")
    step = store.latest() if step is None else step
    return step is None or not store.path(step).exists() or (store.path(step) / "optimizer.safetensors").exists()


def no_encoder(run: "Run") -> str:
    """Why there is nothing to encode with, and what there is instead."""
    return (
        f"the objective '{run.config.objective.kind}' does not train the encoder, so q(z|x) says nothing of p(z|x). "
        "`--metrics marginal` estimates log p(x) without it."
    )


def needs_encoder(run: "Run") -> None:
    """InputError where the encoder was not trained."""
    if not run.config.trains_encoder:
        raise InputError(f"{run.folder}: {no_encoder(run)}")


TAKE_OVER = (
    "it is a run of kept results, which `elboroom study NAME --kept RESULTS --out STUDY` takes over into "
    "a study's folder (RESULTS is the folder that has ledger.json), with its weights where they were kept"
)
"""How to open what `elboroom results` wrote."""


class Run:
    """A trained model with its configuration, data and checkpoint. Arrays in, arrays out.

    Images are [n, C, H, W] or [n, H, W] (vectors [n, D]), uint8 in 0..255 or floats as the model was trained on; of
    binary data also uint8 in 0..1.
    """

    def __init__(self, folder: Path, config: RunConfig, checkpoint: str, device: torch.device) -> None:
        self.folder, self.config, self.device = folder, config, device
        self.store = Store(folder / "checkpoints")
        self.step = self._choose(checkpoint)

    def _choose(self, checkpoint: str) -> int:
        if (step := self._named(checkpoint)) is not None:
            return step
        known = [f"step-{s}" for s in self.store.steps()]
        cure = f"known: {', '.join(known)}" if known else f"`elboroom resume {self.folder}` trains it"
        cure = TAKE_OVER if is_kept(self.folder) else cure
        raise InputError(f"{self.folder}: no checkpoint '{checkpoint}'; {cure}.")

    def _named(self, checkpoint: str) -> int | None:
        """The step that a checkpoint's name stands for; None where there is none of that name."""
        for name in ("best", "last") if checkpoint == "auto" else (checkpoint,):
            step = self.store.pointer(name) if name in ("best", "last") else _step_number(name)
            if step is not None:
                return step
        return None

    @property
    def is_headline(self) -> bool:
        """Whether this is the checkpoint that ``auto`` opens, whose scores are those of the run."""
        return self.step == self._named("auto")

    # What is in the folder ---------------------------------------------------------------------------------------

    @cached_property
    def data(self) -> Data:
        """The data the run was trained on, on the run's device."""
        return build.data(self.config).to(self.device)

    @cached_property
    def weights(self) -> str:
        """raw or average: which weights are used."""
        training = self.config.training
        return "raw" if training.average is None or training.evaluate_with == "raw" else "average"

    @property
    def _group(self) -> str:
        """The part of the checkpoint that holds the weights in use."""
        return {"raw": "model", "average": "average"}[self.weights]

    @cached_property
    def weights_file(self) -> Path:
        """The file of the weights in use; absent in a run taken over from results that did not keep them."""
        return self.store.path(self.step) / f"{self._group}.safetensors"

    @property
    def taken_over(self) -> bool:
        """Whether the run came from kept results, which hold nothing to go on training from, and perhaps no weights."""
        return not resumable(self.folder, self.step)

    @property
    def lost(self) -> bool:
        """Whether it was taken over without its weights."""
        return self.taken_over and not self.weights_file.exists()

    @cached_property
    def checkpoint_hash(self) -> str:
        """Twelve hexadecimal digits of the sha256 of the weights in use."""
        if not self.weights_file.exists():
            return self.store.sums(self.step)[self.weights_file.name][:12]
        return hashlib.sha256(self.weights_file.read_bytes()).hexdigest()[:12]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self._facts["shape"])

    @property
    def values(self) -> str:
        """What the model's data are: binary, unit-interval or real."""
        return self._facts["data_values"]

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """What the checkpoint's record says; InputError where it is not that of config.yaml."""
        facts = self.store.load(self.step, only=()).values
        if facts["identity"] != identity(self.folder):
            raise InputError(
                f"{self.store.path(self.step)}: it belongs to another configuration than config.yaml says. "
                "Undo the edit of config.yaml or of the checkpoints, or train anew."
            )
        return facts

    @cached_property
    def model(self) -> VAE:
        """The trained model, in evaluation mode."""
        built = build.model(self.config, self.shape, self.values)
        try:
            built.load_state_dict(self.store.load(self.step, only=(self._group,)).groups[self._group])
        except (RuntimeError, KeyError) as error:
            raise InputError(
                f"{self.store.path(self.step)}: its weights are not those of the model in config.yaml "
                f"({str(error).splitlines()[0]}). Undo the edit of config.yaml, or train anew."
            ) from None
        return lay_out(built.to(self.device)).eval()

    @cached_property
    def companion(self) -> Any:
        """The trained companion; None without one, and in a run taken over from results, which keep none."""
        if self.taken_over:
            return None
        built = build.companion(self.config, self._facts["classes"])
        if built is not None:
            built.load_state_dict(self.store.load(self.step, only=("companion",)).groups["companion"])
            built.to(self.device).eval()
        return built

    @property
    def evaluation(self) -> Path:
        """Where the evaluation of this checkpoint lies."""
        return self.folder / "evaluation" / f"step-{self.step}"

    def images(self, split: str = "test", n: int | None = None) -> Float[Array, "n *event"]:
        """The first n examples of a split (all of them by default), scaled and binarized as evaluation sees them."""
        splits = self.data.splits()
        if split not in splits:
            raise unknown("split", split, splits)
        examples = splits[split]
        index = torch.arange(min(n or len(examples), len(examples)), device=self.device)
        return _gather(examples.fixed(part).x for part in index.split(1000))

    # Arrays in, arrays out ---------------------------------------------------------------------------------------

    def prepare(self, images: Array) -> Tensor:
        """Images as the model takes them: scaled, checked, and for a model of binary data thresholded at 1/2."""
        x = torch.as_tensor(np.asarray(images))
        if x.dim() == len(self.shape):
            x = x.unsqueeze(1) if self.shape[0] == 1 else x.unsqueeze(0)
        if tuple(x.shape[1:]) != self.shape:
            raise InputError(f"the model takes [n, {', '.join(map(str, self.shape))}], got {list(x.shape)}.")
        x = x.float() / (255 if _is_grey(x, self.values) else 1)
        if not x.isfinite().all():
            raise InputError("the images hold NaN or infinite values; fill or remove them first.")
        if self.values != "real" and len(x) and (x.min() < 0 or x.max() > 1):
            raise InputError(f"the model takes values in [0, 1], got {x.min():.3g} to {x.max():.3g}; scale them.")
        return ((x > 0.5).float() if self.values == "binary" else x).to(self.device)

    @torch.no_grad()
    def encode(self, images: Array, batch: int = 1000) -> Float[Array, "n latent"]:
        """The posterior means of images; InputError where the encoder was not trained."""
        needs_encoder(self)
        return _gather(self.model.encoder(part).mean for part in self.prepare(images).split(batch))

    @torch.no_grad()
    def decode(self, z: Array, batch: int = 1000) -> Float[Array, "n *event"]:
        """The means of p(x|z)."""
        codes = torch.as_tensor(np.asarray(z), dtype=torch.float32, device=self.device)
        latent = self.config.model.posterior.latent
        if codes.dim() != 2 or codes.shape[1] != latent:
            raise InputError(f"codes are [n, {latent}] for this model, got {list(codes.shape)}.")
        return _gather(self.model.decoder(part).mean for part in codes.split(batch))

    @torch.no_grad()
    def sample(self, n: int, sigma: float = 1.0, seed: int = 0) -> Float[Array, "n *event"]:
        """Means of p(x|z) for z ~ p(z), the codes multiplied by sigma: z ~ N(0, sigma² I) under a normal prior."""
        z = self.model.prior(self.model.encoder).draw(n, Randomness(seed)("sample"))
        return self.decode((sigma * z).cpu().numpy())

    def reconstruct(self, images: Array) -> Float[Array, "n *event"]:
        """Images through the posterior mean and back."""
        return self.decode(self.encode(images))

    def interpolate(self, first: Array, second: Array, steps: int = 10) -> Float[Array, "n steps *event"]:
        """Decoded straight lines from the codes of the first images to those of the second."""
        a, b = self.encode(first), self.encode(second)
        weight = np.linspace(0, 1, steps, dtype=np.float32)[None, :, None]
        path = a[:, None] * (1 - weight) + b[:, None] * weight
        return self.decode(path.reshape(-1, a.shape[1])).reshape(len(a), steps, *self.shape)

    def log_likelihood(self, images: Array, samples: int = 1000, seed: int = 0) -> Float[Array, " n"]:
        """The importance-weighted bound on log p(x) of each image (nats), with ``samples`` posterior samples.

        More samples bring it nearer; that of a uniform posterior, which leaves codes out, stops short of log p(x).
        """
        needs_encoder(self)
        offset = self.density_offset()
        x = self.prepare(images)
        found = log_evidence(self.model, x, torch.arange(len(x)), samples, seed=seed)
        return (found.bound + offset).cpu().numpy()

    def density_offset(self) -> float:
        """What makes the training's log p(x|z) a density (nats); InputError where the model has no likelihood."""
        kinds = self.config.model
        if kinds.posterior.kind == "point":
            raise InputError(f"{self.folder}: a plain autoencoder has no likelihood; score its reconstructions.")
        offset = self.model.decoder.offset(self.shape)
        if offset is None:
            raise InputError(
                f"{self.folder}: '{kinds.likelihood.kind}' is no density of grey pixels, so there is no likelihood. "
                "Train with dynamic binarization and 'bernoulli', or with 'gaussian'."
            )
        return offset


def _is_grey(x: Tensor, values: str) -> bool:
    """Whether numbers are grey levels of 0 to 255: bytes, but not the zeros and ones of binary data."""
    return x.dtype == torch.uint8 and not (values == "binary" and len(x) and x.max() <= 1)


def _gather(parts: Any) -> Array:
    return torch.cat(list(parts)).cpu().numpy()


def _step_number(name: str) -> int | None:
    digits = name.removeprefix("step-")
    return int(digits) if digits.isdecimal() else None

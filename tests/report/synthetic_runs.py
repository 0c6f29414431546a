"""Run folders as docs/run-folder.md describes them, made of a linear model of scikit-learn's digits; no training."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

from elboroom.config import run_from, to_yaml
from elboroom.scores import Protocol, Score, dump

UNITS = {"active-units": ("dimensions", "higher"), "rate": ("nats", ""), "elbo": ("nats", "higher")}
VALUES = {
    "elbo": -18.2,
    "rate": 6.1,
    "distortion": 12.1,
    "nll": 17.6,
    "active-units": 6,
    "accuracy/z": 91.4,
    "accuracy/mean": 95.2,
}


def protocol(**changes: Any) -> Protocol:
    base = {"data": "digits", "split": "test", "rows": "1f2e", "binarization": "dynamic, seed 0"}
    return Protocol(**{**base, "likelihood": "bernoulli", "checkpoint": "c0ffee", **changes})


def score(name: str, value: int | float, stderr: float | None = 0.21, **changes: Any) -> Score:
    unit, better = UNITS.get(name, ("%", "higher") if name.startswith("accuracy") else ("nats", "lower"))
    how = {"estimator": "one draw of z", "samples": 1}
    how |= {"estimator": "importance sampling", "samples": 1000} if name == "nll" else {}
    how |= {"estimator": "", "samples": 0} if name in ("accuracy/mean", "active-units") else {}
    return Score(
        name=name,
        value=float(value),
        unit=unit,
        better=better,
        stderr=stderr,
        examples=300,
        protocol=protocol(**how | changes),
    )


def scores_like(shift: float = 0.0, only: tuple[str, ...] = tuple(VALUES), **changes: Any) -> list[Score]:
    found = [score(n, VALUES[n] + (round(shift) if n == "active-units" else shift), **changes) for n in only]
    return [s for s in found if s.name in only]


def config(**changes: Any) -> dict[str, Any]:
    base = {"name": "vae", "data": {"name": "digits", "binarize": "dynamic"}, "training": {"epochs": 10}}
    return {**base, "companion": {"kind": "classifier"}, **changes}


AUTOENCODER = {
    "model": {"posterior": {"kind": "point"}, "likelihood": {"kind": "bernoulli"}},
    "objective": {"kind": "reconstruction"},
}


def write_run(
    folder: Path,
    settings: dict[str, Any] | None = None,
    *,
    scores: list[Score] | None = None,
    state: dict[str, Any] | None = None,
    latent: int = 6,
    images: bool = True,
    labels: bool = True,
    evaluated: bool = True,
    noise: float = 0.4,
    seed: int = 0,
) -> Path:
    """A whole run folder; what is switched off is absent, as the contract allows."""
    folder.mkdir(parents=True, exist_ok=True)
    run = run_from({**(settings or config()), "seed": seed})
    point = run.model.posterior.kind == "point"
    full = {"format": 1, "status": "done", "step": 130, "epoch": 10, "steps": 130, "term": None, "config": run.hash}
    (folder / "config.yaml").write_text(to_yaml(run))
    (folder / "state.json").write_text(json.dumps({**full, **(state or {})}))
    (folder / "environment.json").write_text(json.dumps(environment()))
    lines = metrics(seed, point, {**full, **(state or {})}["epoch"], noise)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    timing = [{"step": 13 * e, "epoch": e, "seconds": 1.5 * e, "images_per_s": 860.0} for e in range(1, 11)]
    (folder / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in timing))
    if evaluated:
        write_evaluation(folder, scores, latent, images, labels, point, noise, seed)
    return folder


def environment() -> dict[str, Any]:
    versions = {"python": "3.12.0", "torch": "2.13.0", "elboroom": "0.1.0"}
    rest = {"device": "cpu", "threads": 2, "precision": "fp32", "commit": "0123abc", "machine": "x86_64, 2 cores"}
    return {"format": 1, "versions": versions, **rest, "data": {"digits": "ab" * 32}}


def metrics(seed: int, point: bool, epochs: int, noise: float) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for epoch in range(1, epochs + 1):
        fall = math.exp(-epoch / 3) * 14
        for split, gap in (("train", 0.0), ("test", 0.5)):
            rate = 6 / (0.6 + noise) * (1 - math.exp(-epoch / 2))
            distortion = 11 + fall + gap + 2 * noise + 0.2 * rng.normal()
            row = {"split": split, "step": 13 * epoch, "epoch": epoch, "examples": 1297, "distortion": distortion}
            row |= {"loss": distortion} if point else {"loss": distortion + rate, "rate": rate}
            accuracy = 95 - 6 * fall / 3 - 4 * noise + rng.normal()
            row |= {"companion/accuracy": accuracy} if split == "train" else {"accuracy/z": accuracy}
            row |= {"accuracy/mean": accuracy + 2} if split != "train" else {}
            rows.append(row)
    return rows


def write_evaluation(
    folder: Path,
    scores: list[Score] | None,
    latent: int,
    images: bool,
    labels: bool,
    point: bool,
    noise: float,
    seed: int,
) -> None:
    """The evaluation of step 130, with the same scores beside it and in the run's folder."""
    place = folder / "evaluation" / "step-130"
    place.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last").write_text("step-130\n")
    found = scores_like(0.1 * seed) if scores is None else scores
    for path in (place, folder):
        (path / "scores.json").write_text(dump(found))
    model = Linear(latent, noise, seed)
    codes = {"mean": model.mean[:300], "z": model.z[:300], "rows": np.arange(300)}
    codes |= {"labels": model.labels[:300]} if labels else {}
    save(place / "codes-test.safetensors", codes)
    examples = {"distortion": np.full(300, 12.1)}
    if not point:
        rates = 2.4 * np.exp(-np.arange(latent) / 2.5)[np.random.default_rng(seed).permutation(latent)]
        examples |= {"rate-by-dimension": rates, "effective-samples": np.geomspace(1.2, 800, 300)}
    save(place / "examples.safetensors", examples)
    if images:
        save(place / "pictures.safetensors", model.pictures())


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path, metadata={"format": "1"})


@cache
def components() -> tuple[np.ndarray, ...]:
    """Images, labels, singular values and principal axes of the digits."""
    digits = load_digits()
    x = digits.data / 16
    return x, digits.target, *np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[1:]


class Linear:
    """Principal components of the digits, whitened, as if a model had learned them."""

    def __init__(self, latent: int, noise: float, seed: int) -> None:
        x, self.labels, scale, axes = components()
        self.rng, self.x, self.centre = np.random.default_rng(seed), x, x.mean(axis=0)
        self.weights = axes[:latent] * scale[:latent, None] / math.sqrt(len(x))
        self.mean = ((x - self.centre) @ np.linalg.pinv(self.weights)).astype(np.float32)
        self.z = (self.mean + noise * self.rng.normal(size=self.mean.shape)).astype(np.float32)

    def decode(self, z: np.ndarray) -> np.ndarray:
        x = (z @ self.weights + self.centre).clip(0, 1) * 255
        return x.round().astype(np.uint8).reshape(*z.shape[:-1], 1, 8, 8)

    def pictures(self) -> dict[str, np.ndarray]:
        latent, steps = self.weights.shape[0], np.linspace(-3, 3, 11)
        found = {
            "originals": (self.x[:32] * 255).astype(np.uint8).reshape(-1, 1, 8, 8),
            "reconstructions": self.decode(self.z[:32]),
            "samples-1": self.decode(self.rng.normal(size=(64, latent))),
            "samples-3": self.decode(3 * self.rng.normal(size=(64, latent))),
            "samples-fitted": self.decode(1.1 * self.rng.normal(size=(64, latent))),
            "traversals": self.decode(np.eye(latent)[:, None, :] * steps[:, None]),
            "traversal-values": steps.astype(np.float32),
        }
        t = np.linspace(0, 1, 10)[:, None]
        pairs = [(self.mean[2 * i], self.mean[2 * i + 1]) for i in range(4)]
        found["interpolations"] = self.decode(np.stack([(1 - t) * a + t * b for a, b in pairs]))
        if latent == 2:
            grid = np.linspace(-1.7, 1.7, 20)
            found["manifold"] = self.decode(np.stack(np.meshgrid(grid, grid), axis=-1))
        return found


def write_study(folder: Path, listed: list[tuple[str, dict[str, Any], str]], **fields: Any) -> Path:
    """`study.json` over runs given as (variant, axes, status); folders are `<variant>/seed-N`."""
    entries = [
        {"variant": v, "axes": axes, "folder": f"{v}/seed-{axes['seed']}", "status": status, "error": None}
        for v, axes, status in listed
    ]
    content = {"format": 1, "name": "demo", "description": "", "config": {}, "published": [], "runs": entries, **fields}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(content))
    return folder


def write_demo(folder: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> Path:
    """A study that has one of everything: several seeds, an autoencoder, a diverged run, another protocol."""
    for seed in seeds:
        write_run(folder / f"vae/seed-{seed}", seed=seed)
    mu = config(objective={"kind": "mu"}, model={"posterior": {"clip": 3}})
    write_run(folder / "mu-vae/seed-0", mu, scores=scores_like(1.7), noise=0.1)
    beta = config(objective={"kind": "elbo", "beta": 4})
    stopped = {"status": "stopped", "epoch": 6, "step": 78}
    write_run(folder / "beta-vae/seed-0", beta, scores=scores_like(-1.5), noise=1.4, latent=2, state=stopped)
    fixed = scores_like(-4.0, ("distortion", "accuracy/z", "accuracy/mean"), samples=0, estimator="")
    write_run(folder / "autoencoder/seed-0", config(**AUTOENCODER), scores=fixed, noise=0.0, latent=24)
    gaussian = config(model={"likelihood": {"kind": "gaussian"}}, data={"name": "digits"})
    other = scores_like(50.0, likelihood="gaussian, variance 1", binarization="none")
    write_run(folder / "gaussian/seed-0", gaussian, scores=other, labels=False, latent=2)
    diverged = {"status": "diverged", "term": "rate", "at": 47, "step": 52, "epoch": 3}
    write_run(folder / "hot/seed-0", config(), state=diverged, evaluated=False)
    variants = [("vae", {"seed": s}, "done") for s in seeds]
    rest = [
        ("mu-vae", "done"),
        ("beta-vae", "stopped"),
        ("autoencoder", "done"),
        ("gaussian", "done"),
        ("hot", "diverged"),
    ]
    runs = variants + [(v, {"seed": 0}, status) for v, status in rest] + [("late", {"seed": 0}, "pending")]
    published = [{"where": {"variant": "vae"}, "accuracy/z": 93.42, "source": "Author (2020), table 1"}]
    text = "Which objective keeps codes informative? Six variants on scikit-learn's digits, one protocol, three seeds."
    return write_study(
        folder, runs, description=text, published=published, config={"name": "demo", "axes": {"seed": [0]}}
    )

"""Data made by hand, and an opened run without a folder."""

from pathlib import Path

import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from elboroom.config import Run as RunConfig
from elboroom.data import Data, Examples
from elboroom.models import VAE
from elboroom.runs import Run


def data_of(x: Tensor, labels: Tensor | None = None, *, binarize: str = "none", copies: int = 1) -> Data:
    """The same examples in train and test."""
    values = "real" if binarize == "none" else "binary"
    splits = {
        name: Examples(name, x, labels=labels, binarize=binarize, copies=copies if name == "test" else 1)
        for name in ("train", "test")
    }
    return Data(
        title="by hand",
        shape=tuple(x.shape[1:]),
        values=values,
        grey="real numbers",
        classes=None if labels is None else tuple(str(c) for c in labels.unique().tolist()),
        train=splits["train"],
        valid=None,
        test=splits["test"],
        files={},
        binarization="none" if binarize == "none" else f"{binarize}, seed 0",
    )


def run_of(config: RunConfig, model: VAE, shape: tuple[int, ...], companion: object = None) -> Run:
    """A run as evaluation sees it, its weights given."""
    run = object.__new__(Run)
    run.__dict__.update(folder=Path("RUN"), config=config, device=torch.device("cpu"), step=1)
    run.__dict__.update(model=model, shape=shape, companion=companion, weights="raw", checkpoint_hash="abc")
    return run


def write_images(place: Path, count: int = 60) -> None:
    """Real digits as images of one's own, in folders named after their class: my-images/class-3/17.png."""
    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images[:count], digits.target[:count], strict=True)):
        path = place / "my-images" / f"class-{label}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype("uint8")).save(path)

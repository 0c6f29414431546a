"""All models of a page at one glance: codes, reconstructions, samples, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from elboroom.report.figures import DPI, INK, SOFT, as_rgb, pca

CLASS_COLOURS = "tab10"
SHOWN = 6


@dataclass(frozen=True)
class Glance:
    """What one column shows."""

    title: str
    caption: str
    codes: np.ndarray | None  # [n, latent]
    labels: np.ndarray | None
    originals: np.ndarray | None  # [n, C, H, W] bytes
    reconstructions: np.ndarray | None
    samples: np.ndarray | None


def overview(models: Sequence[Glance]) -> Figure:
    """A column per model; rows: its codes (two principal components), reconstructions, samples."""
    across = len(models)
    figure = Figure(figsize=(2.0 * across + 0.3, 4.9), dpi=DPI, layout="constrained")
    axes = figure.subplots(3, across, squeeze=False, height_ratios=(1.0, 0.38, 1.0))
    for column, model in enumerate(models):
        top, middle, bottom = axes[:, column]
        top.set_title(f"{model.title}\n", fontsize=10, color=INK)
        top.text(0.5, 1.03, model.caption, transform=top.transAxes, ha="center", fontsize=7, color=SOFT)
        _codes(top, model)
        _show(middle, _pairs(model))
        _show(bottom, _square(model.samples))
    for row, name in enumerate(("codes", "reconstructions", "samples")):
        axes[row, 0].set_ylabel(name, fontsize=8, color=INK)
    return figure


def bare(axes: Axes) -> None:
    """A pale frame and no ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#dddddd")


def _codes(axes: Axes, model: Glance) -> None:
    bare(axes)
    if model.codes is None:
        axes.text(0.5, 0.5, "no codes", transform=axes.transAxes, ha="center", color=SOFT, fontsize=8)
        return
    points = model.codes if model.codes.shape[1] == 2 else pca(model.codes)[0]
    chosen = slice(0, 3000)
    colours = {"color": SOFT} if model.labels is None else {"c": model.labels[chosen] % 10, "cmap": CLASS_COLOURS}
    axes.scatter(*points[chosen].T, s=4, linewidths=0, alpha=0.8, **colours)
    axes.set_aspect("equal", adjustable="datalim")


def _pairs(model: Glance) -> np.ndarray | None:
    """Originals above their reconstructions."""
    if model.originals is None or model.reconstructions is None:
        return None
    return tiled(np.concatenate([model.originals[:SHOWN], model.reconstructions[:SHOWN]]), SHOWN)


def _square(images: np.ndarray | None) -> np.ndarray | None:
    return None if images is None else tiled(images[: SHOWN * SHOWN], SHOWN)


def tiled(images: np.ndarray, across: int) -> np.ndarray:
    """Images [n, C, H, W] on one sheet [height, width, 3]."""
    pictures = as_rgb(images)
    n, height, width, channels = pictures.shape
    gap = max(1, width // 14)
    sheet = np.full((-(-n // across) * (height + gap) - gap, across * (width + gap) - gap, channels), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = (i // across) * (height + gap), (i % across) * (width + gap)
        sheet[y : y + height, x : x + width] = picture
    return sheet


def _show(axes: Axes, sheet: np.ndarray | None) -> None:
    bare(axes)
    if sheet is None:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color=SOFT, fontsize=8)
    else:
        axes.imshow(sheet, interpolation="nearest")

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
    """A column per model; rows: its codes (two principal components), reconstructions, samples; those that any has."""
    rows = [
        ("codes", 1.0, _codes, [None if m.codes is None else (m.codes, m.labels) for m in models]),
        ("reconstructions", 0.38, _show, [_pairs(m) for m in models]),
        ("samples", 1.0, _show, [_square(m.samples) for m in models]),
    ]
    rows = [row for row in rows if any(content is not None for content in row[3])] or rows
    heights = [height for _, height, _, _ in rows]
    figure = Figure(figsize=(2.0 * len(models) + 0.3, 0.616 + 1.8 * sum(heights)), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(rows), len(models), squeeze=False, height_ratios=heights)
    for line, (name, _, draw, contents) in zip(axes, rows, strict=True):
        line[0].set_ylabel(name, fontsize=8, color=INK)
        for place, content in zip(line, contents, strict=True):
            bare(place)
            if content is None:
                place.text(0.5, 0.5, "none", transform=place.transAxes, ha="center", color=SOFT, fontsize=8)
            else:
                draw(place, content)
    for top, model in zip(axes[0], models, strict=True):
        top.set_title(f"{model.title}\n", fontsize=10, color=INK)
        above = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center"}
        top.annotate(model.caption, (0.5, 1), xytext=(0, 4), fontsize=7, color=SOFT, **above)
    return figure


def bare(axes: Axes) -> None:
    """A pale frame and no ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#dddddd")


def _codes(axes: Axes, content: tuple[np.ndarray, np.ndarray | None]) -> None:
    codes, labels = content
    points = codes if codes.shape[1] == 2 else pca(codes)[0]
    chosen = slice(0, 3000)
    colours = {"color": SOFT} if labels is None else {"c": labels[chosen] % 10, "cmap": CLASS_COLOURS}
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


def _show(axes: Axes, sheet: np.ndarray) -> None:
    axes.imshow(sheet, interpolation="nearest")

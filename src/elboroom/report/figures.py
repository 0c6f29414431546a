"""Figures from arrays, each a function of plain numbers; no global state, no model.

Every function returns a matplotlib `Figure`; `png` turns one into the bytes of a small file.
"""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from PIL import Image

DPI = 144
INK, SOFT = "#222222", "#8a8a8a"
# Okabe & Ito (2008) without the yellow, which is faint on white, and Tol's muted scheme: safe for colour-blind eyes.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TOL = ("#332288", "#117733", "#882255", "#88CCEE", "#DDCC77", "#CC6677", "#44AA99", "#AA4499", "#999933", "#777777")
COLOURS = OKABE_ITO + TOL
LEGEND = 8
"""Points of the letters of a legend."""
NOTE = 6.5
"""Largest size of the letters of a note under a picture, points."""
MARGIN = 6
"""Pixels left free beside it."""
DENSEST = 400
"""Points of a line that can be told apart."""
NARROWEST = 100
"""Pixels below which a picture gets none."""

History = Sequence[Mapping[str, Any]]
PANELS = {
    "loss": "loss, each its own (nats per example)",
    "distortion": "distortion (nats per example)",
    "rate": "rate (nats per example)",
    "accuracy/z": "accuracy on sampled z",
    "accuracy/mean": "accuracy on the mean code",
    "active-units": "active units (dimensions)",
}
TRAIN_NAMES = {"accuracy/z": "companion/accuracy"}


def png(figure: Figure) -> bytes:
    """The figure as PNG: grey where it is grey, a palette where that is not seen, so that pages stay small."""
    return _encoded(_drawn(figure))


def noted(picture: bytes, note: str) -> bytes:
    """A PNG with a line of small letters under it, for a file that stands without its caption; a picture that is too
    narrow for letters stays as it is."""
    image = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    width = image.shape[1]
    if width < NARROWEST:
        return picture
    space = 0.95 * (width - 2 * MARGIN) * 72 / DPI  # points; glyphs may be a little wider than their outlines
    letters = min(NOTE, LEGEND * space / _width(note))
    strip = Figure(figsize=(width / DPI, 2 * letters / 72), dpi=DPI, facecolor="white")
    strip.text(1 - MARGIN / width, 0.5, _safe(note), fontsize=letters, color=SOFT, ha="right", va="center")
    return _encoded(np.concatenate([image, _drawn(strip)]))


def _drawn(figure: Figure) -> np.ndarray:
    """[height, width, 3], 0-255."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _encoded(rgb: np.ndarray) -> bytes:
    image, pixels = Image.fromarray(rgb), rgb.astype(np.int16)
    if (pixels == pixels[..., :1]).all():
        image = image.convert("L")
    else:
        palette = image.quantize(255, dither=Image.Dither.NONE)
        if np.abs(np.asarray(palette.convert("RGB"), dtype=np.int16) - pixels).mean() < 1.0:
            image = palette
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)  # 9 takes ten times as long to save a tenth
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(figure))
    return path


# ---- charts -------------------------------------------------------------------------------------------------------


def plain(axes: Axes, grid: bool = True) -> None:
    """Two thin spines, small ticks, a pale grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(which="both", labelsize=7.5, color=SOFT, labelcolor=INK, length=3)
    if grid:
        axes.grid(color="#e8e8e8", linewidth=0.6)
        axes.set_axisbelow(True)


def curves(
    histories: Mapping[str, Sequence[History]],
    panels: Mapping[str, str] = PANELS,
    columns: int = 3,
    against: str = "epochs",
) -> Figure:
    """Training curves: a panel for each quantity, a colour for each variant.

    Args:
        histories: variant -> for each seed the rows of its ``metrics.jsonl``.
        panels: name of a quantity -> title; those that no row has are left out.
        columns: panels side by side.
        against: ``epochs``; or examples seen (steps times the batch), on a logarithmic axis (``samples``) or on a
            linear one (``samples-linear``).

    Returns:
        Training thin and dashed, validation (or test) solid; several seeds as faint lines with their mean.
    """
    every = [h for runs in histories.values() for h in runs]
    drawn = {(n, s) for n in panels for s in (False, True) if any(_points(h, n, s, against)[0].size for h in every)}
    names = [n for n in panels if {(n, False), (n, True)} & drawn]
    across = min(columns, max(1, len(names)))
    down = max(1, math.ceil(len(names) / across))
    figure = Figure(figsize=(3.4 * across, 2.45 * down + 0.5), dpi=DPI, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flat
    for axes, name in zip(grid, names, strict=False):
        _panel(axes, name, panels[name], histories, against)
    for axes in list(grid)[len(names) :]:
        axes.set_axis_off()
    for axes in figure.axes[len(names) :]:
        axes.set_axis_off()
    if histories:
        _legend(figure, list(histories), {evaluated for _, evaluated in drawn})
    return figure


def _panel(axes: Axes, name: str, title: str, histories: Mapping[str, Sequence[History]], against: str) -> None:
    plain(axes)
    seen: list[np.ndarray] = []
    for i, runs in enumerate(histories.values()):
        for evaluated in (False, True):
            lines = [p for h in runs if (p := _points(h, name, evaluated, against))[0].size]
            _draw(axes, lines, COLOURS[i % len(COLOURS)], evaluated)
            seen += [y for _, y in lines]
    axes.set_title(title + _share(name, seen), fontsize=8.5, loc="left", color=INK)
    if against != "epochs":
        axes.set_xscale("log" if against == "samples" else "linear")
        axes.xaxis.get_offset_text().set_fontsize(7.5)
        axes.set_xlabel("training examples seen", fontsize=7.5, color=INK)
    else:
        axes.set_xlabel("epoch", fontsize=7.5, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if name == "active-units":
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _limits(axes, seen)


def _share(name: str, seen: list[np.ndarray]) -> str:
    """Accuracies come as fractions or in percent; the title says which."""
    if not name.startswith("accuracy"):
        return ""
    return " (%)" if max((np.nanmax(y) for y in seen if np.isfinite(y).any()), default=0) > 1 else " (fraction)"


def _draw(axes: Axes, lines: list[tuple[np.ndarray, np.ndarray]], colour: str, evaluated: bool) -> None:
    """One variant's lines: seeds faint, their mean strong."""
    width, dash = (1.7, "-") if evaluated else (0.9, (0, (4, 2)))
    marker = {"marker": "o", "markersize": 3} if evaluated and max((len(x) for x, _ in lines), default=0) < 3 else {}
    if len(lines) > 1:
        for x, y in lines:
            axes.plot(x, y, color=colour, alpha=0.45, linewidth=0.6, linestyle=dash)
        lines = [_mean(lines)]
    for x, y in lines:
        axes.plot(*thinned(x, y), color=colour, linewidth=width, linestyle=dash, **marker)
        _broken(axes, x, y, colour)


def thinned(x: np.ndarray, y: np.ndarray, most: int = DENSEST) -> tuple[np.ndarray, np.ndarray]:
    """Means of neighbours where a line has more points than can be told apart, few at its beginning, many at its end,
    as a logarithmic axis has them: the dashes of thousands of points look like a broad solid line."""
    if len(x) <= most:
        return x, y
    starts = np.unique(np.concatenate([[0], np.geomspace(1, len(x) - 1, most - 1).astype(int)]))
    sizes = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / sizes, np.add.reduceat(y, starts) / sizes


def _broken(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str) -> None:
    """A cross where a curve stops being finite: a NaN is shown, not left out."""
    bad = np.flatnonzero(~np.isfinite(y))
    good = np.flatnonzero(np.isfinite(y))
    if bad.size and good.size:
        before = good[good < bad[0]]
        at = before[-1] if before.size else good[0]
        axes.plot(x[at], y[at], marker="X", markersize=7, color=colour, markeredgecolor="white", zorder=5)


def _points(history: History, name: str, evaluated: bool, against: str = "epochs") -> tuple[np.ndarray, np.ndarray]:
    """Epochs (fractions where there are several lines in one) or examples seen, and values, of training or of
    evaluation."""
    key = name if evaluated else TRAIN_NAMES.get(name, name)
    rows = [r for r in history if (r.get("split") != "train") == evaluated and isinstance(r.get(key), int | float)]
    y = np.asarray([r[key] for r in rows], dtype=float)
    if against != "epochs":
        return np.asarray([r.get("samples", np.nan) for r in rows], dtype=float), y
    per_epoch = _steps_per_epoch(history)
    x = [r["step"] / per_epoch if per_epoch and "step" in r else r.get("epoch", i + 1) for i, r in enumerate(rows)]
    return np.asarray(x, dtype=float), y


def _steps_per_epoch(history: History) -> float | None:
    """Known from a line that was written at the end of an epoch."""
    ends = [r["step"] / r["epoch"] for r in history if r.get("split") != "train" and r.get("epoch") and r.get("step")]
    return ends[-1] if ends else None


def _mean(lines: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The mean where all seeds have a point."""
    tables = [dict(zip(np.round(x, 6), y, strict=True)) for x, y in lines]
    shared = sorted(set.intersection(*[set(t) for t in tables]))
    return np.asarray(shared), np.asarray([np.mean([t[x] for t in tables]) for x in shared])


def _limits(axes: Axes, seen: list[np.ndarray]) -> None:
    """An axis that a first epoch or a diverging run does not flatten."""
    values = np.concatenate(seen) if seen else np.empty(0)
    values = values[np.isfinite(values)]
    if values.size < 8:
        return
    low, high = np.percentile(values, [2, 94])
    if high <= low:  # nothing moves, such as a count of units
        return
    low, high = _with_ends(low, high, seen)
    margin = 0.08 * (high - low)
    top, bottom = high + 6 * margin, low - 6 * margin
    axes.set_ylim(
        bottom - margin if values.min() < bottom else values.min() - margin,
        top if values.max() > top else values.max() + margin,
    )


def _with_ends(low: float, high: float, seen: list[np.ndarray]) -> tuple[float, float]:
    """A range that holds where the lines end, which is what a reader looks for, unless that is far outside of it: by
    more than twice its width a run has diverged."""
    reach = 2 * (high - low)
    ends = [y[np.isfinite(y)][-1] for y in seen if np.isfinite(y).any()]
    near = [end for end in ends if low - reach <= end <= high + reach]
    return min([low, *near]), max([high, *near])


def _legend(figure: Figure, variants: list[str], evaluated: Set[bool]) -> None:
    """A colour for each variant; what is dashed (not evaluated) and what is solid, where the figure has it."""
    handles = [Line2D([], [], color=COLOURS[i % len(COLOURS)], linewidth=2) for i in range(len(variants))]
    kinds = {
        False: ("training", Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (4, 2)))),
        True: ("validation or test", Line2D([], [], color=INK, linewidth=1.7)),
    }
    shown = [kinds[kind] for kind in sorted(evaluated)]
    letters = int(12 * figure.get_figwidth())  # of a line that fills the figure
    labels = [_safe(textwrap.fill(v, letters)) for v in [*variants, *(name for name, _ in shown)]]
    handles += [line for _, line in shown]
    style = {"frameon": False, "fontsize": LEGEND}
    figure.legend(handles, labels, loc="outside lower center", ncols=legend_columns(figure, labels), **style)


def legend_columns(figure: Figure, labels: Sequence[str], beside: float = 4.8) -> int:
    """As many columns of a legend as fit beside each other, filled evenly; at least one.

    ``beside``, in font sizes, is what a column holds beside its label: a line (2) and two gaps (0.8, 2).
    """
    widest = max(_width(line) for label in labels for line in label.splitlines())
    each = widest + beside * LEGEND
    fit = max(1, int((72 * figure.get_figwidth() + LEGEND) // each))
    return math.ceil(len(labels) / math.ceil(len(labels) / fit))


def _width(text: str) -> float:
    """Of a label in a legend, in points."""
    return float(TextPath((0, 0), text, size=LEGEND).get_extents().width)


def _safe(text: str) -> str:
    """A name is a name: no mathematics in it."""
    return text.replace("$", r"\$")


def pca(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components of the codes, and the shares of the variance they explain."""
    centred = codes.astype(np.float64) - codes.mean(axis=0, dtype=np.float64)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    total = max(float((spread**2).sum()), np.finfo(float).tiny)
    return centred @ axes[:2].T, spread[:2] ** 2 / total


def scatter(points: np.ndarray, labels: np.ndarray | None = None, names: tuple[str, str] = ("z₁", "z₂")) -> Figure:
    """Codes in the plane, [n, 2], coloured by class, each class named at its median too, for those who see no hue."""
    figure = Figure(figsize=(5.2, 4.3), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    plain(axes)
    axes.set_xlabel(names[0], fontsize=8)
    axes.set_ylabel(names[1], fontsize=8)
    size = float(np.clip(9000 / max(len(points), 1), 2, 14))
    _dots(axes, points, labels, size)
    return figure


def embedding(panels: Mapping[str, np.ndarray], labels: np.ndarray | None = None) -> Figure:
    """Codes in the plane, [n, 2], a panel for each method, coloured by class; no axes, since only nearness counts.

    Labels are of the first points of each panel.
    """
    figure = Figure(figsize=(3.9 * len(panels) + 0.5, 3.9), dpi=DPI, layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels.items(), strict=True):
        axes.set_title(name, fontsize=8.5, loc="left", color=INK)
        axes.set_axis_off()
        axes.set_aspect("equal", adjustable="datalim")  # a circle is one
        own = None if labels is None else labels[: len(points)]
        _dots(axes, points, own, float(np.clip(9000 / max(len(points), 1), 1.5, 14)), key=axes is figure.axes[-1])
    return figure


def _dots(axes: Axes, points: np.ndarray, labels: np.ndarray | None, size: float, key: bool = True) -> None:
    """Points in one colour, by class, or where classes are too many or no whole numbers along a scale."""
    classes = np.unique(labels) if labels is not None else np.empty(0)
    if labels is None:
        axes.scatter(*points.T, s=size, color=COLOURS[0], alpha=0.6, linewidths=0)
    elif len(classes) > len(TOL) * 2 or not np.issubdtype(classes.dtype, np.integer):
        drawn = axes.scatter(*points.T, s=size, c=labels, cmap="viridis", alpha=0.7, linewidths=0)
        if key:
            axes.figure.colorbar(drawn, ax=axes, shrink=0.8).set_label("label", fontsize=8)
    else:
        _classes(axes, points, labels, classes, size, key)


def _classes(axes: Axes, points: np.ndarray, labels: np.ndarray, classes: np.ndarray, size: float, key: bool) -> None:
    colours = TOL if len(classes) <= len(TOL) else TOL + OKABE_ITO
    order = np.random.default_rng(0).permutation(len(points))  # else the last class lies on top of all
    axes.scatter(
        *points[order].T,
        s=size,
        c=[colours[i % len(colours)] for i in np.searchsorted(classes, labels)[order]],
        alpha=0.7,
        linewidths=0,
    )
    halo = [withStroke(linewidth=2.5, foreground="white")]
    for value in classes:
        x, y = np.median(points[labels == value], axis=0)
        axes.text(x, y, str(value), color=INK, fontsize=10, ha="center", va="center", path_effects=halo)
    dots = [Line2D([], [], color=colours[i % len(colours)], marker="o", linestyle="") for i in range(len(classes))]
    if key and len(classes) <= len(colours):
        axes.figure.legend(dots, [str(c) for c in classes], loc="outside right center", frameon=False, fontsize=8)


def histograms(codes: np.ndarray, limit: int = 20, columns: int = 5) -> Figure:
    """The codes of each dimension, [n, latent], in their order, against the density of N(0, 1)."""
    shown = codes[:, :limit]
    across = min(columns, shown.shape[1])
    down = math.ceil(shown.shape[1] / across)
    wide, high = 1.75 * across + 0.2, 1.25 * down + 0.3
    figure = Figure(figsize=(wide, high), dpi=DPI)
    # Fixed margins: a constrained layout of twenty axes takes longer than all other figures of a run.
    inches = {"left": 0.1 / wide, "right": 1 - 0.1 / wide, "bottom": 0.25 / high, "top": 1 - 0.22 / high}
    figure.subplots_adjust(**inches, wspace=0.06, hspace=0.5)
    finite = np.abs(shown[np.isfinite(shown)])
    reach = max(3.5, float(np.percentile(finite, 99.8)) if finite.size else 0.0)
    grid = list(figure.subplots(down, across, squeeze=False, sharex=True).flat)
    for j, axes in enumerate(grid):
        if j >= shown.shape[1]:
            axes.set_axis_off()
            continue
        _histogram(axes, shown[:, j], reach, j)
        axes.tick_params(labelbottom=j + across >= shown.shape[1])  # also above the empty places of the last row
    return figure


def _histogram(axes: Axes, values: np.ndarray, reach: float, index: int) -> None:
    plain(axes, grid=False)
    values = values[np.isfinite(values)]
    edges = np.linspace(-reach, reach, 41)
    density, _ = np.histogram(values, edges, density=False)
    density = density / max(len(values), 1) / (edges[1] - edges[0])
    axes.stairs(density, edges, fill=True, color="#9cc4e4")
    x = np.linspace(-reach, reach, 241)
    axes.plot(x, np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi), color=OKABE_ITO[1], linewidth=1.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    spread = f"σ {values.std():.2f}" if len(values) else "no finite values"
    axes.set_title(f"dim {index}   {spread}", fontsize=7.5, loc="left", color=INK)


def bars(rates: np.ndarray, threshold: float = 0.1) -> Figure:
    """Rate of each latent dimension, [latent], in its order; those below the threshold are pale."""
    figure = Figure(figsize=(float(np.clip(0.26 * len(rates) + 1.6, 4.6, 9.6)), 2.3), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    plain(axes)
    axes.grid(visible=False, axis="x")
    used = np.nan_to_num(rates, nan=0.0, posinf=0.0) > threshold
    axes.bar(np.arange(len(rates)), np.nan_to_num(rates, posinf=0.0), color=np.where(used, OKABE_ITO[0], "#c9c9c9"))
    for j in np.flatnonzero(~np.isfinite(rates)):
        axes.text(j, 0, str(rates[j]), rotation=90, ha="center", va="bottom", fontsize=7, color=OKABE_ITO[1])
    axes.axhline(threshold, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.set_xlabel("latent dimension", fontsize=8)
    axes.set_ylabel("rate (nats)", fontsize=8)
    axes.set_xlim(-0.7, len(rates) - 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=20))
    return figure


# ---- pictures of images -------------------------------------------------------------------------------------------


def grid(images: np.ndarray, columns: int = 8, width: int = 560) -> Figure:
    """Images [n, C, H, W] side by side, row by row."""
    images = np.asarray(images)
    missing = -len(images) % columns
    if missing and len(images) > columns:
        images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
    columns = min(columns, len(images))
    return rows(images.reshape(-1, columns, *images.shape[1:]), width=width)


def pairs(originals: np.ndarray, reconstructions: np.ndarray, columns: int = 16, width: int = 1000) -> Figure:
    """Each original above its reconstruction; [n, C, H, W] both."""
    n = min(len(originals), len(reconstructions))
    columns = min(columns, n)
    n -= n % columns
    blocks = np.stack(
        [np.asarray(a)[:n].reshape(-1, columns, *a.shape[1:]) for a in (originals, reconstructions)], axis=1
    )
    flat = blocks.reshape(-1, *blocks.shape[2:])
    labels = ["original", "reconstruction"] * (len(flat) // 2)
    return rows(flat, labels, width=width, blocks=2)


def rows(
    images: np.ndarray,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    *,
    width: int = 900,
    gap: int = 3,
    blocks: int = 0,
) -> Figure:
    """Images [rows, columns, C, H, W], every pixel enlarged to a square of device pixels, none blurred.

    Args:
        row_labels: texts left of the rows.
        column_labels: texts above the columns.
        width: device pixels that the pictures should fill.
        gap: device pixels between images.
        blocks: a wider gap after so many rows; 0 for none.
    """
    picture, tops, cell = _mosaic(as_rgb(images), width, gap, blocks)
    left = 8 * max(map(len, row_labels)) + 14 if row_labels else 0
    top = 26 if column_labels else 0
    height, wide = picture.shape[0] + top, picture.shape[1] + left
    figure = Figure(figsize=(wide / DPI, height / DPI), dpi=DPI, facecolor="white")
    figure.figimage(picture, xo=left, yo=0, origin="upper")
    style = {"fontsize": 7, "color": INK}
    for label, start in zip(row_labels, tops, strict=True) if row_labels else ():
        y = 1 - (top + start + cell[0] / 2) / height
        figure.text((left - 8) / wide, y, _safe(label), ha="right", va="center", **style)
    for j, label in enumerate(column_labels):
        x = (left + j * (cell[1] + gap) + cell[1] / 2) / wide
        figure.text(x, 1 - (top - 6) / height, _safe(label), ha="center", va="bottom", **style)
    return figure


def _mosaic(images: np.ndarray, width: int, gap: int, blocks: int) -> tuple[np.ndarray, list[int], tuple[int, int]]:
    """One picture of [rows, columns, H, W, 3], where each row starts, and the size of a cell."""
    down, across, h, w, _ = images.shape
    scale = max(1, round((width / across - gap) / w))
    big = images.repeat(scale, axis=2).repeat(scale, axis=3)
    h, w = h * scale, w * scale
    extra = 4 * gap
    tops = [i * (h + gap) + (i // blocks if blocks else 0) * extra for i in range(down)]
    canvas = np.full((tops[-1] + h, across * (w + gap) - gap, 3), 255, np.uint8)
    for i, start in enumerate(tops):
        for j in range(across):
            canvas[start : start + h, j * (w + gap) : j * (w + gap) + w] = big[i, j]
    return canvas, tops, (h, w)


def as_rgb(images: np.ndarray) -> np.ndarray:
    """[..., C, H, W] as uint8 [..., H, W, 3]: one channel as white on black, the first three of several as colours."""
    images = np.asarray(images)
    if images.dtype != np.uint8:
        images = np.round(np.nan_to_num(images).clip(0, 1) * 255).astype(np.uint8)
    channels = images.shape[-3]
    picked = images[..., :3, :, :] if channels >= 3 else images[..., :1, :, :].repeat(3, axis=-3)
    return np.moveaxis(picked, -3, -1)

"""The figures that a study names: several of its runs side by side, as a paper shows them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from elboroom.report import figures
from elboroom.report.figures import COLOURS, DPI, INK, OKABE_ITO, SOFT, TOL
from elboroom.report.folders import RunFolder, by_label
from elboroom.report.overview import bare, tiled

WIDEST = 1500
"""Device pixels that a figure of images fills at most, where one pixel per pixel allows it."""
POINTS = 10_000


def chosen(runs: Sequence[RunFolder], where: dict[str, Any]) -> list[RunFolder]:
    """The runs whose variant and axes are those of ``where``; a list admits each of its values, in its order."""
    picked = list(runs)
    for key, value in where.items():
        wanted = value if isinstance(value, list) else [value]
        found = [r for r in picked if _fact(r, key) in wanted]
        picked = sorted(found, key=lambda r: wanted.index(_fact(r, key)))
    return picked


def _fact(run: RunFolder, key: str) -> Any:
    return run.variant if key == "variant" else run.axes.get(key)


def figure(entry: dict[str, Any], runs: Sequence[RunFolder]) -> Figure | None:
    """A figure of `elboroom.config.study.Figure`'s fields; None where no run has what it shows."""
    picked = chosen(runs, entry.get("where") or {})
    if entry["kind"] == "curves":
        histories = {label: [[*r.metrics, *r.along] for r in group] for label, group in by_label(picked).items()}
        histories = {label: rows for label, rows in histories.items() if any(rows)}
        return figures.curves(histories, entry["panels"] or figures.PANELS, entry["columns"]) if histories else None
    first = [group[0] for group in by_label(picked).values()]
    return KINDS[entry["kind"]](entry, first)


def _array(entry: dict[str, Any], run: RunFolder) -> np.ndarray | None:
    """What the figure shows of a run: ``file/name``, of its variant's own where one is named."""
    file, _, name = entry["picks"].get(run.variant, entry["pick"]).partition("/")
    return run.tensors(file).get(name)


# codes ---------------------------------------------------------------------------------------------------------------


def codes(entry: dict[str, Any], runs: Sequence[RunFolder]) -> Figure | None:
    """A scatter plot of codes in the plane for each run, coloured by class."""
    panels = [(run, points) for run in runs if (points := _array(entry, run)) is not None]
    if not panels:
        return None
    made, axes = _grid(len(panels), entry["columns"], (2.6, 2.5))
    for place, (run, points) in zip(axes, panels, strict=False):
        labels = _labels(entry, run)
        plane = points if points.shape[1] == 2 else figures.pca(points)[0]
        _scatter(place, plane[:POINTS], None if labels is None else labels[:POINTS])
        place.set_title(run.label, fontsize=8, color=INK)
    _classes(made, [_labels(entry, run) for run, _ in panels])
    return made


def _labels(entry: dict[str, Any], run: RunFolder) -> np.ndarray | None:
    file, _, _ = entry["picks"].get(run.variant, entry["pick"]).partition("/")
    return run.tensors(file).get("labels")


def _scatter(axes: Axes, points: np.ndarray, labels: np.ndarray | None) -> None:
    bare(axes)
    colours = COLOURS[0] if labels is None else [TOL[int(v) % len(TOL)] for v in labels]
    order = np.random.default_rng(0).permutation(len(points))  # else the last class lies on top of all
    shade = colours if labels is None else [colours[i] for i in order]
    size = float(np.clip(9000 / max(len(points), 1), 1.4, 12))
    axes.scatter(*points[order].T, s=size, linewidths=0, alpha=0.6, c=shade)


def _classes(made: Figure, labels: Sequence[np.ndarray | None]) -> None:
    """One legend of classes for all panels."""
    known = sorted({int(v) for found in labels if found is not None for v in np.unique(found)})
    if not known or len(known) > len(TOL):
        return
    dots = [figures.Line2D([], [], color=TOL[v % len(TOL)], marker="o", linestyle="") for v in known]
    style = {"frameon": False, "fontsize": 8, "handletextpad": 0.1, "columnspacing": 1.0}
    made.legend(dots, [str(v) for v in known], loc="outside lower center", ncols=len(known), **style)


def histograms(entry: dict[str, Any], runs: Sequence[RunFolder]) -> Figure | None:
    """A row of histograms for each run, one for each latent dimension, over the density of N(0, 1)."""
    panels = [(run, z) for run in runs if (z := _array(entry, run)) is not None]
    if not panels:
        return None
    across = min(entry["columns"], max(z.shape[1] for _, z in panels))
    made = Figure(figsize=(1.15 * across + 0.9, 1.05 * len(panels) + 0.3), dpi=DPI, layout="constrained")
    axes = made.subplots(len(panels), across, squeeze=False)
    for row, (run, z) in zip(axes, panels, strict=True):
        reach = max(3.5, float(np.percentile(np.abs(z), 99.8)))
        for j, place in enumerate(row):
            _histogram(place, z[:, j], reach) if j < z.shape[1] else place.set_axis_off()
        row[0].set_ylabel(run.label.replace(" · ", "\n"), fontsize=7, color=INK)
    for j, place in enumerate(axes[0]):
        place.set_title(f"dim {j}", fontsize=7, color=INK)
    return made


def _histogram(axes: Axes, values: np.ndarray, reach: float) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=6, color=SOFT, length=2)
    density, edges = np.histogram(values, np.linspace(-reach, reach, 51), density=True)
    axes.stairs(density, edges, fill=True, color="#9cc4e4")
    x = np.linspace(-reach, reach, 241)
    axes.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=OKABE_ITO[1], linewidth=0.7)
    axes.set_yticks([])


# images --------------------------------------------------------------------------------------------------------------


def images(entry: dict[str, Any], runs: Sequence[RunFolder]) -> Figure | None:
    """A sheet of images for each run, pixel by pixel."""
    panels = [(run.label, _sheet(entry, found)) for run in runs if (found := _array(entry, run)) is not None]
    return _sheets(panels, entry["columns"]) if panels else None


def reconstructions(entry: dict[str, Any], runs: Sequence[RunFolder]) -> Figure | None:
    """Test images, each above its reconstruction, for each run."""
    panels = []
    for run in runs:
        shown = run.tensors("pictures")
        if "originals" in shown and "reconstructions" in shown:
            pairs = [
                shown[name][:30].reshape(3, 10, *shown[name].shape[1:]) for name in ("originals", "reconstructions")
            ]
            panels.append((run.label, tiled(np.stack(pairs, axis=1).reshape(-1, *pairs[0].shape[2:]), 10)))
    return _sheets(panels, entry["columns"]) if panels else None


def _sheet(entry: dict[str, Any], found: np.ndarray) -> np.ndarray:
    """[rows, columns, C, H, W] as it is; [n, C, H, W] in a square."""
    if found.ndim == 5:
        return tiled(found.reshape(-1, *found.shape[2:]), found.shape[1])
    return tiled(found, round(len(found) ** 0.5))


def _sheets(panels: Sequence[tuple[str, np.ndarray]], columns: int) -> Figure:
    """Sheets [height, width, 3] side by side under their titles."""
    across, gap, top = min(columns, len(panels)), 14, 24
    high, wide = (max(sheet.shape[i] for _, sheet in panels) for i in (0, 1))
    scale = max(1, (WIDEST // across - gap) // wide)
    high, wide = high * scale + top, wide * scale + gap
    down = -(-len(panels) // across)
    size = (across * wide - gap, down * high)
    made = Figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI, facecolor="white")
    for i, (title, sheet) in enumerate(panels):
        x, y = (i % across) * wide, (i // across) * high
        big = sheet.repeat(scale, 0).repeat(scale, 1)
        made.figimage(big, xo=x, yo=size[1] - y - top - big.shape[0], origin="upper")
        made.text((x + 2) / size[0], 1 - (y + top - 7) / size[1], title, fontsize=8, color=INK, va="bottom")
    return made


def _grid(count: int, columns: int, each: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    across = min(columns, count)
    down = -(-count // across)
    made = Figure(figsize=(each[0] * across, each[1] * down + 0.3), dpi=DPI, layout="constrained")
    axes = list(made.subplots(down, across, squeeze=False).flat)
    for place in axes[count:]:
        place.set_axis_off()
    return made, axes


KINDS: dict[str, Callable[[dict[str, Any], Sequence[RunFolder]], Figure | None]] = {
    "codes": codes,
    "histograms": histograms,
    "images": images,
    "reconstructions": reconstructions,
}


def drawn(entries: Sequence[dict[str, Any]], runs: Sequence[RunFolder]) -> Iterator[tuple[dict[str, Any], Figure]]:
    """Every figure of a study that can be drawn from what its runs left."""
    for entry in entries:
        made = figure(entry, runs)
        if made is not None:
            yield entry, made

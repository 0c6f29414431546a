"""The figures that a study names: several of its runs side by side, as a paper shows them."""

import functools
import itertools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from elboroom.report import diagrams, figures
from elboroom.report.figures import COLOURS, DPI, INK, OKABE_ITO, SOFT, TOL
from elboroom.report.folders import RunFolder, an_epoch, by_label, length, told_apart
from elboroom.report.overview import bare, tiled

WIDEST = 1500
"""Device pixels that a figure of images fills at most, where one pixel per pixel allows it."""
POINTS = 10_000
LINEAR = 0.1
"""Nats up to which an axis of rates is linear: what is less is as good as none."""
PANEL = np.array([225.0, 160.0])
"""Points of the inside of a trade-off's panel, nearly: where names are laid out."""
NAMED = 8
"""Runs whose names a trade-off's panel holds; more are numbered."""
UNBROKEN = "\u00a0"
"""A blank at which no line is broken."""
LAID = "embedding/tsne"
"""Codes that were laid into the plane: only nearness counts there, no scale and no origin."""
NEAR = 0.02
"""Share of a panel's sides within which points have one name."""
CONSTANT_LEFT_OUT = ("squared-error", "grey-bce")
"""Likelihoods whose distortion and rate do not add up to a bound on log p(x)."""


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
    if entry["kind"] == "diagram":
        return diagrams.diagram(entry["pick"])
    picked = told_apart(chosen(runs, entry.get("where") or {}))
    if entry["kind"] == "curves":
        return _curves(entry, picked)
    first = [group[0] for group in by_label(picked).values()]
    return KINDS[entry["kind"]](entry, _at_epochs(entry, first))


def _curves(entry: dict[str, Any], runs: Sequence[RunFolder]) -> Figure | None:
    """What was logged, and what was measured on the way."""
    histories = {group[0].title: [_history(r) for r in group] for group in by_label(runs).values()}
    histories = {label: rows for label, rows in histories.items() if any(rows)}
    panels = entry["panels"] or figures.PANELS
    return figures.curves(histories, panels, entry["columns"], entry.get("against") or "epochs") if histories else None


def _history(run: RunFolder) -> list[dict[str, Any]]:
    """Log lines of a run, then what was measured on the way and not logged; all with the examples seen till then."""
    logged = {name for row in run.metrics for name in row} - {"split", "step", "epoch"}
    rows = run.metrics + [{k: v for k, v in row.items() if k not in logged} for row in run.along]
    return [row | _derived(row, run) for row in rows]


def _derived(row: dict[str, Any], run: RunFolder) -> dict[str, Any]:
    """What curves show that lines do not hold: examples seen, the ELBO of training, and the rate's share (%)."""
    found: dict[str, Any] = {}
    if "step" in row and run.config:
        found["samples"] = row["step"] * run.config.training.batch
    if "distortion" in row and "rate" in row:
        if "elbo" not in row and run.config and run.config.model.likelihood.kind not in CONSTANT_LEFT_OUT:
            found["elbo"] = -(row["distortion"] + row["rate"])  # of training, of the batches' own samples
        beta = run.config.objective.effective_beta if run.config else None
        for name, weight in (("rate-share", 1.0), ("weighted-rate-share", beta)):
            whole = row["distortion"] + (weight or 0) * row["rate"]
            if weight is not None and whole > 0:
                found[name] = 100 * weight * row["rate"] / whole
    return found


def _at_epochs(entry: dict[str, Any], runs: Sequence[RunFolder]) -> list[RunFolder]:
    """Each run at each of the epochs that the figure asks for, where there is an evaluation."""
    epochs = entry.get("epochs") or ()
    if not epochs:
        return list(runs)
    return [found for epoch in epochs for run in runs if (found := run.at(epoch)).evaluation is not None]


def _array(entry: dict[str, Any], run: RunFolder) -> np.ndarray | None:
    """What the figure shows of a run: ``file/name``, of its variant's own where one is named."""
    file, _, name = entry["picks"].get(run.variant, entry["pick"]).partition("/")
    return run.tensors(file).get(name)


# codes ---------------------------------------------------------------------------------------------------------------


def codes(entry: dict[str, Any], runs: Sequence[RunFolder]) -> Figure | None:
    """A scatter plot of codes in the plane for each run, coloured by class; alike reaches share their axes."""
    panels = [(run, points) for run in runs if (points := _array(entry, run)) is not None]
    if not panels:
        return None
    made, axes = _grid(len(panels), entry["columns"], (2.6, 2.85))
    laid = [entry["picks"].get(run.variant, entry["pick"]) == LAID for run, _ in panels]
    planes = [(points, "") if free else _plane(points) for (_, points), free in zip(panels, laid, strict=True)]
    boxes = _boxes([plane for plane, _ in planes])
    boxes = [_around(plane) if free else box for (plane, _), box, free in zip(planes, boxes, laid, strict=True)]
    for place, (run, codes), (plane, told), box, free in zip(axes, panels, planes, boxes, laid, strict=False):
        labels = _labels(entry, run)
        _scatter(place, plane[:POINTS], None if labels is None else labels[:POINTS], box)
        _headed(place, run.title, told)
        if codes.shape[1] == 2 and not free:  # principal components have their mean at 0
            _origin(place)
    _classes(made, [_labels(entry, run) for run, _ in panels])
    return made


def _plane(codes: np.ndarray) -> tuple[np.ndarray, str]:
    """Codes in the plane, and what must be known to read them: their spread, or that they are components of more."""
    if codes.shape[1] == 2:
        return codes, _sigma(codes)
    points, shares = figures.pca(codes)
    return points, f"PCA of {codes.shape[1]} dimensions, {shares.sum():.0%} of variance"


def _sigma(codes: np.ndarray) -> str:
    """The standard deviation of each dimension."""
    spread = codes[np.isfinite(codes).all(axis=1)].std(axis=0, dtype=np.float64)
    return "σ " + ", ".join(f"{s:.2f}" if s > 0.1 else f"{s:.2g}" for s in spread)


@dataclass(frozen=True)
class Box:
    """A rectangle of the plane, from ``low`` to ``high``, both [2]."""

    low: np.ndarray
    high: np.ndarray

    @property
    def side(self) -> float:
        return float((self.high - self.low).max())

    def __or__(self, other: "Box") -> "Box":
        return Box(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    def limit(self, axes: Axes) -> None:
        """Axes of equal scale that show the rectangle in the middle of a square."""
        middle, half = (self.low + self.high) / 2, 0.53 * self.side
        axes.set_xlim(middle[0] - half, middle[0] + half)
        axes.set_ylim(middle[1] - half, middle[1] + half)
        axes.set_aspect("equal")


def _around(points: np.ndarray) -> Box:
    """What holds the points, where any is finite."""
    seen = points[np.isfinite(points).all(axis=1)]
    return Box(seen.min(axis=0), seen.max(axis=0)) if len(seen) else Box(np.zeros(2), np.ones(2))


def _box(points: np.ndarray) -> Box:
    """What holds the points and the origin, from which distances are read."""
    return _around(np.vstack([points, np.zeros((1, 2))]))


def _boxes(planes: Sequence[np.ndarray]) -> list[Box]:
    """One box for panels of like reach, the smallest at least half of the largest: their spreads can be compared, and a
    panel of another order does not squash them."""
    own = [_box(plane) for plane in planes]
    shared: dict[int, Box] = {}
    group: list[int] = []
    for i in sorted(range(len(own)), key=lambda i: own[i].side):
        group = [*group, i] if group and own[i].side <= 2 * own[group[0]].side else [i]
        shared |= dict.fromkeys(group, functools.reduce(Box.__or__, [own[j] for j in group]))
    return [shared[i] for i in range(len(own))]


def _labels(entry: dict[str, Any], run: RunFolder) -> np.ndarray | None:
    file, _, _ = entry["picks"].get(run.variant, entry["pick"]).partition("/")
    return run.tensors(file).get("labels")


def _scatter(axes: Axes, points: np.ndarray, labels: np.ndarray | None, box: Box) -> None:
    _framed(axes)
    colours = COLOURS[0] if labels is None else [TOL[int(v) % len(TOL)] for v in labels]
    order = np.random.default_rng(0).permutation(len(points))  # else the last class lies on top of all
    shade = colours if labels is None else [colours[i] for i in order]
    size = float(np.clip(9000 / max(len(points), 1), 1.4, 12))
    axes.scatter(*points[order].T, s=size, linewidths=0, alpha=0.6, c=shade)
    box.limit(axes)


def _origin(axes: Axes) -> None:
    for line in (axes.axhline, axes.axvline):
        line(0, color="#dddddd", linewidth=0.7, zorder=0)


def _framed(axes: Axes) -> None:
    """A pale frame and few ticks."""
    bare(axes)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5))
    axes.tick_params(labelsize=6, color="#dddddd", labelcolor=SOFT, length=2, pad=1.5)


def _headed(axes: Axes, title: str, told: str) -> None:
    """A title, and under it in small letters what helps to read the panel."""
    axes.set_title(title, fontsize=8, color=INK, pad=13)
    axes.annotate(
        told,
        (0.5, 1),
        xytext=(0, 3),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        fontsize=6.5,
        color=SOFT,
    )


def _classes(made: Figure, labels: Sequence[np.ndarray | None]) -> None:
    """One legend of classes for all panels."""
    known = sorted({int(v) for found in labels if found is not None for v in np.unique(found)})
    if not known or len(known) > len(TOL):
        return
    dots = [figures.Line2D([], [], color=TOL[v % len(TOL)], marker="o", linestyle="") for v in known]
    names = [str(v) for v in known]
    style = {"frameon": False, "fontsize": figures.LEGEND, "handletextpad": 0.1, "columnspacing": 1.0}
    columns = figures.legend_columns(made, names, beside=3.1)
    made.set_figheight(made.get_figheight() + 0.17 * (-(-len(names) // columns) - 1))  # panels keep their size
    made.legend(dots, names, loc="outside lower center", ncols=columns, **style)


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
        row[0].set_ylabel(run.title.replace(" · ", "\n"), fontsize=7, color=INK)
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


def posterior(entry: dict[str, Any], runs: Sequence[RunFolder]) -> Figure | None:
    """For each run the codes of all images, and a frame in which, to the right, is the posterior density of the first
    image (the first two dimensions) with the code that was drawn from it."""
    panels = [(run, c) for run in runs if (c := run.tensors("codes-test")) and "log_var" in c and "z" in c]
    if not panels:
        return None
    made, axes = _grid(2 * len(panels), 2, (3.0, 3.25))
    for (run, found), left, right in zip(panels, axes[::2], axes[1::2], strict=True):
        z, loc, scale = found["z"][:, :2], found["mean"][0, :2], np.exp(found["log_var"][0, :2] / 2)
        near = Box(loc - 4 * scale.max(), loc + 4 * scale.max())
        labels = None if "labels" not in found else found["labels"][:POINTS]
        _scatter(left, z[:POINTS], labels, _box(z) | near)
        _origin(left)
        left.add_patch(Rectangle(near.low, near.side, near.side, fill=False, edgecolor=INK, linewidth=0.9))
        _headed(left, run.title, _sigma(z))
        _density(right, near, loc, scale)
        right.plot(*z[0], "o", color="black", markersize=4)
        _headed(right, "q(z|x) of one image", f"σ {scale[0]:.2g}, {scale[1]:.2g}")
    _classes(made, [found.get("labels") for _, found in panels])
    return made


def _density(axes: Axes, box: Box, loc: np.ndarray, scale: np.ndarray) -> None:
    """A Gaussian on a raster of a square, of equal scale in both directions."""
    _framed(axes)
    x, y = (np.linspace(a, b, 241) for a, b in zip(box.low, box.high, strict=True))
    logs = -(((x[None] - loc[0]) / scale[0]) ** 2 + ((y[:, None] - loc[1]) / scale[1]) ** 2) / 2
    extent = (box.low[0], box.high[0], box.low[1], box.high[1])
    axes.imshow(np.exp(logs), origin="lower", extent=extent, aspect="equal", cmap="Blues")


# scores --------------------------------------------------------------------------------------------------------------


def tradeoff(entry: dict[str, Any], runs: Sequence[RunFolder]) -> Figure | None:
    """A panel for each score, against one score on one axis: a named point for each run; runs without are told.

    Many runs are numbered from left to right, under a key: their names would cover each other.
    """
    across, points = entry["across"], [(r.title, r.tested) for r in runs if r.status not in ("missing", "pending")]
    placed = sorted((p for p in points if across in p[1]), key=lambda p: p[1][across])
    numbers = {title: i for i, (title, _) in enumerate(placed, 1)} if len(placed) > NAMED else {}
    panels = [n for n in entry["panels"] if any(n in values and across in values for _, values in points)]
    if not panels:
        return None
    made, axes = _grid(len(panels), entry["columns"], (3.6, 3.0))
    reach = np.array([values[across] for _, values in points if across in values])
    unit = next((s.unit for r in runs for s in r.scores if s.name == across.partition(" (")[0] and s.unit), "")
    label = f"{across} ({unit})" if unit else across
    for place, name in zip(axes, panels, strict=False):
        shown = [(title, v[across], v[name]) for title, v in points if across in v and name in v]
        absent = [title for title, v in points if across not in v or name not in v]
        _across(place, reach)
        _named_points(place, shown, numbers)
        place.set_title(entry["panels"][name], fontsize=8.5, loc="left", color=INK)
        place.set_xlabel(label, fontsize=7.5, color=INK)
        if absent:
            _below(place, f"not measured: {', '.join(absent)}")
    if numbers:
        unbroken = "   ".join(f"{i} {title}".replace(" ", UNBROKEN) for title, i in numbers.items())
        lines = textwrap.fill(unbroken, round(18 * made.get_figwidth()), break_on_hyphens=False)
        made.supxlabel(lines, x=0.02, ha="left", fontsize=6.5, color=SOFT, linespacing=1.5)
    return made


def _across(axes: Axes, values: np.ndarray) -> None:
    """The same horizontal axis for every panel: of rates from none to many logarithmic, and linear around 0."""
    figures.plain(axes)
    low, high = values.min(), values.max()
    if low > -LINEAR and high > 50 * low:
        axes.set_xscale("symlog", linthresh=LINEAR, linscale=0.5)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlim(-LINEAR / 2 if low < LINEAR else low / 1.6, high * 1.6)
    else:
        margin = 0.06 * (high - low or 1)
        axes.set_xlim(low - margin, high + margin)


def _named_points(axes: Axes, points: Sequence[tuple[str, float, float]], numbers: Mapping[str, int]) -> None:
    """Points joined from left to right, those in one place under one name, or under numbers where there are any."""
    x, y = (np.array([p[i] for p in points]) for i in (1, 2))
    order = np.argsort(x, kind="stable")
    axes.plot(x[order], y[order], color="#cccccc", linewidth=0.8, zorder=1)
    axes.scatter(x, y, s=16, color=COLOURS[0], zorder=2)
    axes.margins(y=0.1)
    axes.autoscale_view(scalex=False)  # now: places below depend on it
    places = axes.transAxes.inverted().transform(axes.transData.transform(np.stack([x, y], axis=1)))
    groups: dict[int, list[int]] = {}
    for i in order.tolist():
        first = next((j for j in groups if np.abs(places[i] - places[j]).max() < NEAR), i)
        groups.setdefault(first, []).append(i)
    titles = [[points[j][0] for j in sorted(alike)] for alike in groups.values()]
    names = [_ranges([numbers[t] for t in alike]) if numbers else ", ".join(alike) for alike in titles]
    spots = _spots(places * PANEL, [places[i] * PANEL for i in groups], names)
    for i, name, (right, up) in zip(groups, names, spots, strict=True):
        side = "left" if right > 0 else "right"
        style = {"textcoords": "offset points", "fontsize": 6, "color": SOFT, "ha": side}
        axes.annotate(name, (x[i], y[i]), xytext=(right, up), **style)


def _ranges(numbers: Iterable[int]) -> str:
    """``1-3, 5``: neighbours joined."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def _spots(dots: np.ndarray, named: Sequence[np.ndarray], names: Sequence[str]) -> list[tuple[int, int]]:
    """Where each name stands beside its dot (points): of twelve places the first where it meets the least."""
    taken = [(x - 2, x + 2, y - 2, y + 2) for x, y in dots]
    found = []
    for (x, y), name in zip(named, names, strict=True):
        boxes = {}
        for right, up in itertools.product((3, -3), (5, -9, 13, -17, 21, -25)):
            start = x + right if right > 0 else x + right - 3.3 * len(name)
            boxes[right, up] = (start, start + 3.3 * len(name), y + up - 1, y + up + 7)
        spot = min(boxes, key=lambda at: _met(boxes[at], taken))
        taken.append(boxes[spot])
        found.append(spot)
    return found


def _met(box: tuple[float, ...], taken: Sequence[tuple[float, ...]]) -> int:
    """How many boxes (left, right, bottom, top) a name meets; to leave the panel is worse than any."""
    outside = box[0] < 0 or box[1] > PANEL[0] or box[2] < 0 or box[3] > PANEL[1] + 6
    met = sum(box[0] < b[1] and b[0] < box[1] and box[2] < b[3] and b[2] < box[3] for b in taken)
    return int(met + len(taken) * outside)


def _below(axes: Axes, text: str) -> None:
    """A small line under a panel's axis, in as many lines as it takes."""
    lines = textwrap.fill(text, 62)
    axes.annotate(
        lines,
        (0, 0),
        xytext=(0, -30),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=6,
        color=SOFT,
        va="top",
    )


# images --------------------------------------------------------------------------------------------------------------


def images(entry: dict[str, Any], runs: Sequence[RunFolder]) -> Figure | None:
    """A sheet of images for each run, pixel by pixel."""
    panels = [(run.title, _sheet(entry, found)) for run in runs if (found := _array(entry, run)) is not None]
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
            panels.append((run.title, tiled(np.stack(pairs, axis=1).reshape(-1, *pairs[0].shape[2:]), 10)))
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
    "posterior": posterior,
    "reconstructions": reconstructions,
    "tradeoff": tradeoff,
}


def trained(entry: dict[str, Any], runs: Sequence[RunFolder]) -> str:
    """A sentence on how long what a figure shows was trained; where its panels name their epochs, on what one is."""
    if entry["kind"] == "diagram":
        return ""
    picked = chosen(runs, entry.get("where") or {})
    if entry["kind"] == "curves":
        counts = [run.trained() for run in picked]
    else:
        first = [group[0] for group in by_label(picked).values()]
        counts = [run.shown_after for run in _at_epochs(entry, first) if run.scores]
    known = [c for c in counts if c is not None]
    told = an_epoch(known) if entry.get("epochs") else length(known)
    if not told:
        return ""
    return f"{told[0].upper()}{told[1:]}." if entry.get("epochs") else f"After {told}."


def drawn(entries: Sequence[dict[str, Any]], runs: Sequence[RunFolder]) -> Iterator[tuple[dict[str, Any], Figure]]:
    """Every figure of a study that can be drawn from what its runs left."""
    for entry in entries:
        made = figure(entry, runs)
        if made is not None:
            yield entry, made

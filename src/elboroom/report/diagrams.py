"""Drawings that belong to no run: the graphical model of a VAE, the reparameterization of its sample, and two sets of
points that are equally far apart on average."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from elboroom.report.figures import DPI, INK, OKABE_ITO, SOFT

Place = tuple[float, float]
RADIUS = 0.36
FORWARD, BACKWARD = INK, OKABE_ITO[1]
HEAD = {"arrowstyle": "-|>,head_length=4,head_width=2.2", "shrinkA": 0, "shrinkB": 0}


def diagram(name: str) -> Figure:
    """A drawing by its name, one of `DIAGRAMS`."""
    return DIAGRAMS[name]()


def graphical_model() -> Figure:
    """AEVB, figure 1: solid, the generative model p(z) p(x|z); dashed, the posterior q(z|x); the plate holds N images.

    Parameters stand outside of the plate: they are shared by all images.
    """
    figure, axes = _canvas(3.4, 3.6, (-2.6, 2.6), (-0.9, 4.3))
    places = {"phi": (-1.9, 3.2), "z": (0.0, 3.2), "theta": (1.9, 1.85), "x": (0.0, 0.5)}
    axes.add_patch(_plate((-0.95, -0.45), 1.9, 4.4))
    axes.text(0.78, -0.3, "N", fontsize=10, color=INK, ha="right", va="bottom", style="italic")
    _node(axes, places["z"], "z")
    _node(axes, places["x"], "x", observed=True)
    for name, symbol in (("phi", "φ"), ("theta", "θ")):
        axes.text(*places[name], symbol, fontsize=13, ha="center", va="center", color=INK, style="italic")
    _arrow(axes, places["z"], places["x"], bend=0.0)
    _arrow(axes, places["theta"], places["z"], start=0.22)
    _arrow(axes, places["theta"], places["x"], start=0.22)
    _arrow(axes, places["x"], places["z"], bend=-0.45, dashed=True)
    _arrow(axes, places["phi"], places["z"], start=0.22, dashed=True)
    return figure


def reparameterization() -> Figure:
    """Kingma & Welling (2019), figure 2.3: a random node in the way of the gradient, and beside it."""
    figure, axes = _canvas(6.6, 3.7, (-0.4, 10.2), (-1.2, 4.7))
    _form(axes, 1.7, "original form", {"φ": 0.5, "x": 2.9})
    _form(axes, 6.8, "reparameterized form", {"φ": 5.2, "x": 6.8, "ε ~ p(ε)": 8.7})
    for x, text, colour in ((2.2, "value", FORWARD), (5.5, "gradient of f", BACKWARD)):
        axes.plot([x, x + 0.5], [-0.95, -0.95], color=colour, linewidth=1.4)
        axes.text(x + 0.65, -0.95, text, fontsize=8, va="center", color=INK)
    return figure


def spread() -> Figure:
    """MAE, figure 1: two sets of 30 points in the plane with the same mean distance over all pairs."""
    figure = Figure(figsize=(5.6, 3.0), dpi=DPI, layout="constrained")
    random = np.random.default_rng(3)
    centres = np.repeat([[0.0, 0.0], [1.0, 0.15], [0.45, 0.9]], 10, axis=0)
    clustered = centres + 0.06 * random.normal(size=(30, 2))
    turn, out = np.arange(30) * np.pi * (3 - 5**0.5), np.sqrt((np.arange(30) + 0.5) / 30)
    even = np.stack([out * np.cos(turn), out * np.sin(turn)], 1)  # a sunflower's seeds: about equally far apart
    even *= _distances(clustered).mean() / _distances(even).mean()
    for axes, points, name in zip(figure.subplots(1, 2), (clustered, even), "ab", strict=True):
        points = points - points.mean(0)
        axes.scatter(*points.T, s=14, color=OKABE_ITO[0])
        axes.set(xlim=(-0.95, 0.95), ylim=(-0.95, 0.95), xticks=[], yticks=[], aspect="equal")
        distances = _distances(points)
        axes.set_title(f"({name}) mean {distances.mean():.2f}, deviation {distances.std():.2f}", fontsize=9, color=INK)
    return figure


def _distances(points: np.ndarray) -> np.ndarray:
    """Between all pairs."""
    i, j = np.triu_indices(len(points), 1)
    return np.linalg.norm(points[i] - points[j], axis=1)


def _form(axes: Axes, x: float, title: str, inputs: dict[str, float]) -> None:
    """f above z above its inputs; the gradient passes a z that is a function, and ends at one that is drawn."""
    apart = len(inputs) == 3
    axes.text(x, 4.45, title, ha="center", fontsize=9, color=INK)
    f = _box(axes, (x, 3.6), "f")
    z = _box(axes, (x, 2.0), "z = g(φ, x, ε)" if apart else "z ~ q(z|φ, x)", random=not apart, width=2.2)
    below = {name: _box(axes, (at, 0.2), name, random="~" in name, width=1.3) for name, at in inputs.items()}
    for patch in below.values():
        _between(axes, patch, z)
    _between(axes, z, f)
    _between(axes, f, z, bend=-0.6, colour=BACKWARD)
    if apart:
        _between(axes, z, below["φ"], bend=0.45, colour=BACKWARD)
    else:
        axes.text(x - 1.35, 2.0, "✕", color=BACKWARD, fontsize=12, ha="center", va="center")


def _canvas(wide: float, high: float, across: Place, up: Place) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(wide, high), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(across)
    axes.set_ylim(up)
    return figure, axes


def _node(axes: Axes, at: Place, name: str, observed: bool = False) -> None:
    axes.add_patch(Circle(at, RADIUS, facecolor="#d9d9d9" if observed else "white", edgecolor=INK, linewidth=1.0))
    axes.text(*at, name, fontsize=12, ha="center", va="center", color=INK, style="italic")


def _plate(at: Place, wide: float, high: float) -> FancyBboxPatch:
    style = "round,pad=0,rounding_size=0.15"
    return FancyBboxPatch(at, wide, high, boxstyle=style, facecolor="none", edgecolor=SOFT, linewidth=1.0)


def _box(axes: Axes, at: Place, text: str, random: bool = False, width: float = 0.8) -> FancyBboxPatch:
    """A random node is filled."""
    w = max(width, 0.8) if random or len(text) > 2 else 0.8
    face = "#cfe3f3" if random else "white"
    style = "round,pad=0,rounding_size=0.3" if random else "round,pad=0,rounding_size=0.05"
    corner = (at[0] - w / 2, at[1] - 0.3)
    patch = FancyBboxPatch(corner, w, 0.6, boxstyle=style, facecolor=face, edgecolor=INK, linewidth=0.9)
    axes.add_patch(patch)
    axes.text(*at, text, fontsize=8, ha="center", va="center", color=INK)
    return patch


def _between(
    axes: Axes, first: FancyBboxPatch, second: FancyBboxPatch, bend: float = 0.0, colour: str = FORWARD
) -> None:
    """An arrow from the rim of one box to the rim of another."""
    ends = [_centre(first), _centre(second)]
    axes.add_patch(
        FancyArrowPatch(
            *ends, patchA=first, patchB=second, connectionstyle=f"arc3,rad={bend}", color=colour, linewidth=1.0, **HEAD
        )
    )


def _centre(box: FancyBboxPatch) -> Place:
    return box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2


def _arrow(
    axes: Axes,
    start_at: Place,
    end_at: Place,
    *,
    start: float = RADIUS,
    end: float = RADIUS,
    bend: float = 0.0,
    dashed: bool = False,
) -> None:
    """From the rim of one node to that of another; in a bow where two arrows would lie on each other."""
    (x0, y0), (x1, y1) = start_at, end_at
    long = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
    ux, uy = (x1 - x0) / long, (y1 - y0) / long
    axes.add_patch(
        FancyArrowPatch(
            (x0 + start * ux, y0 + start * uy),
            (x1 - end * ux, y1 - end * uy),
            connectionstyle=f"arc3,rad={bend}",
            linestyle=(0, (4, 2)) if dashed else "-",
            color=INK,
            linewidth=1.0,
            **HEAD,
        )
    )


DIAGRAMS = {"graphical-model": graphical_model, "reparameterization": reparameterization, "spread": spread}

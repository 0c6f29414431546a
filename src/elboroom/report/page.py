"""The page: one HTML file that needs nothing else, made from run folders alone."""

import base64
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from matplotlib.figure import Figure

from elboroom.config.run import to_dict
from elboroom.errors import InputError
from elboroom.report import families, figures, panels, tables
from elboroom.report.folders import RunFolder, Source, by_label, length, read, together, told_apart
from elboroom.report.overview import Glance, overview
from elboroom.report.tables import Entry
from elboroom.scores import is_kept

SHOWN = 20
"""Latent dimensions that pictures show at most."""
DRAWN = 4000
"""Codes that a scatter plot shows at most."""
THRESHOLD = 0.1
"""Nats of rate under which a dimension is drawn as hardly used, and a whole code is called collapsed."""
LARGEST_OVERVIEW = 8
"""Models that are shown side by side at most."""
NO_RATE = "a plain autoencoder's code is a point: no rate, hence no bound and no likelihood"
NO_ENCODER = "the encoder was not trained, so nothing is taken from q(z|x)"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure in the page."""

    name: str
    png: bytes
    alt: str
    caption: str
    note: str = ""
    """Printed under the picture in its file, which has no caption: how long was trained."""

    @property
    def base64(self) -> str:
        return base64.b64encode(self.png).decode()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels, from the header of the PNG."""
        wide, high = struct.unpack(">II", self.png[16:24])
        return round(wide * 96 / figures.DPI), round(high * 96 / figures.DPI)


@dataclass(frozen=True, kw_only=True)
class Section:
    """What the page shows of one variant, from one of its seeds."""

    anchor: str
    title: str
    facts: list[str]
    warnings: list[str]
    pictures: list[Picture]
    missing: list[str]


@dataclass(frozen=True, kw_only=True)
class Details:
    """What it takes to check or repeat a run."""

    title: str
    folder: str
    config: str
    environment: list[tuple[str, str]]
    files: list[str]
    scores: list[tuple[str, str, str]] = field(default_factory=list)


def report(folders: list[Path], out: Path | None = None, *, title: str | None = None) -> Path:
    """Write one self-contained HTML page on runs and studies, and their figures as PNG beside them.

    Args:
        folders: run folders and study folders.
        out: the page; by default ``report.html`` in the folder (of several, in the folder that holds them all).
        title: heading; by default the name of the study or the run.

    Returns:
        The path of the page.
    """
    if not folders:
        raise InputError("no folder to report on. Give a run folder or a study folder.")
    sources = [read(f) for f in {Path(f).resolve(): Path(f) for f in folders}.values()]  # each folder once
    out = Path(out) if out else _default_out([s.path for s in sources])
    html = page(sources, title or " and ".join(dict.fromkeys(s.name for s in sources)))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}). Name another file with --out.") from None
    return out


def _default_out(paths: list[Path]) -> Path:
    kept = next((p for p in paths if is_kept(p)), None)
    if kept is not None:
        raise InputError(
            f"{kept}: kept results, which stay as their ledger lists them. Name a file for the page (--out)."
        )
    if len(paths) == 1:
        return paths[0] / "report.html"
    return Path(os.path.commonpath([p.resolve() for p in paths])) / "report.html"


def page(sources: list[Source], title: str) -> str:
    """The page as text; figures are written into the folders on the way."""
    runs = together(sources)
    groups = by_label(runs)
    curves = _curves(groups, sources)
    sections, unwritten = _sections(groups, curves if len(runs) == 1 else None)
    entries = [entry(r) for r in runs]
    published = [p for s in sources for p in s.published]
    many = families.several(entries, _beyond_headline(entries))
    beside = set(_beyond_headline(entries)) - set(many)
    singles = _singles(published)
    shown = [{k: v for k, v in p.items() if k not in beside} for p in singles]  # the others stand further down
    headline = tables.comparison(entries, tables.HEADLINE, shown)
    told = families.families(entries, many, published)
    content = {
        "title": title,
        "descriptions": [s.description.strip() for s in sources if s.description.strip()],
        "origin": origin(runs),
        "tables": headline,
        "meanings": list({c.title: c for t in headline for c in t.columns if c.meaning}.values()),
        "published_shown": any(line.published for t in headline for line in t.lines),
        "published_below": any(line.published for _, t in told for line in t.lines),
        "further": _further(entries, many, singles),
        "families": told,
        "unmatched": [_flat(p) for p in published if not any(tables.matches(p, e) for e in entries)],
        "overview": _overview(groups, sources),
        "panels": [picture for source in sources for picture in _panels(source)],
        "curves": curves,
        "sections": sections,
        "details": [_details(r) for r in runs],
        "studies": [
            (s.name, yaml.safe_dump(s.config, sort_keys=False, allow_unicode=True)) for s in sources if s.config
        ],
        "unwritten": unwritten,
        "problems": [p for s in sources for p in s.problems],
    }
    return _template().render(content)


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html.j2")


def _further(entries: list[Entry], many: list[str], published: list[dict[str, Any]]) -> list[tuple[str, tables.Table]]:
    """Scores that have no column in the headline table, and no table of their own: by what they are about."""
    names = sorted(n for n in _beyond_headline(entries) if n not in many)
    found = []
    for title, words in [*tables.GROUPS.items(), ("Others", ())]:
        known = [w for group in tables.GROUPS.values() for w in group]
        mine = [n for n in names if n.split("/")[0] in words or (not words and n.split("/")[0] not in known)]
        mine.sort(key=lambda n: (words.index(n.split("/")[0]), n.count("/")) if words else (0, 0))
        theirs = [_of(p, mine) for p in published if set(p) & set(mine)]
        made = tables.comparison(entries, mine, theirs) if mine else []
        found += [(title, tables.said_once(t)) for t in made if t.columns]  # none where all are on other data
    return found


def _singles(published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The published numbers of which a run has one; those of which it has many are told by `families`."""
    rows = [{k: v for k, v in p.items() if k == "where" or not isinstance(v, dict)} for p in published]
    return [row for row in rows if set(row) - {"where", "source"}]


def _flat(published: dict[str, Any]) -> dict[str, Any]:
    """A row of published numbers whose tables of many scores are told number by number."""
    flat = {}
    for name, value in published.items():
        many = isinstance(value, dict) and name != "where"
        flat |= {f"{name} ({words})": v for words, v in value.items()} if many else {name: value}
    return flat


def _of(published: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """A row of published numbers without those that stand in other tables."""
    return {k: v for k, v in published.items() if k in (*names, "where", "source")}


def _beyond_headline(entries: list[Entry]) -> list[str]:
    return [n for n in dict.fromkeys(s.name for e in entries for s in e.scores) if n not in tables.HEADLINE]


# ---- what is known of a run ---------------------------------------------------------------------------------------


def entry(run: RunFolder) -> Entry:
    """A run as the tables want it."""
    return Entry(
        label=run.label,
        scores=run.scores,
        seed=run.seed,
        seconds=run.seconds,
        about=about(run),
        warnings=(*warnings(run), *collapse(run)),
        absent=absent(run),
        data=run.data,
        facts={**_dotted(to_dict(run.config) if run.config else {}), **run.axes, "variant": run.variant},
    )


def about(run: RunFolder) -> str:
    """The objective in words: its name, effective β, and whether it bounds the likelihood."""
    if run.config is None:
        return ""
    objective = run.config.objective
    if run.is_point:
        what = "reconstruction alone" if _has_no_prior(run) else objective.kind
        return f"{what}, point code: no likelihood"
    beta = objective.effective_beta
    weight = "no effective β" if beta is None else f"β = {beta:g}"
    clip = getattr(run.config.model.posterior, "clip", None)
    words = [
        objective.kind,
        weight,
        f"clip {clip:g}" if clip else "",
        "" if run.config.trains_bound else "no bound on log p(x)",
        "" if run.config.trains_encoder else "the encoder is not trained",
    ]
    if run.config.model.likelihood.kind == "grey-bce":
        words.append("grey-BCE: a loss, no likelihood")
    return ", ".join(w for w in words if w)


def warnings(run: RunFolder) -> list[str]:
    """The state of a run that is not simply done, and a training that ended before its time."""
    step, epoch = run.state.get("step"), run.state.get("epoch")
    if run.status == "running" and run.metrics:  # the state is written at the ends of a run, the metrics on the way
        step, epoch = (run.metrics[-1].get(k) for k in ("step", "epoch"))
    epochs = run.config.training.epochs if run.config else None
    at = f" at step {step:,}" if isinstance(step, int) else ""
    died, why = run.state.get("at", step), run.state.get("why") or "is not finite"
    death = f"diverged at step {died:,}" if isinstance(died, int) else "diverged"
    after = f" after epoch {epoch} of {epochs}" if epoch is not None and epochs else at
    told = {
        "diverged": f"{death}: {run.state.get('term') or 'the loss'} {why}",
        "stopped": f"stopped{after}; `elboroom resume` goes on",
        "running": f"still running{after}",
        "failed": f"failed: {run.error or 'no reason is recorded'}",
        "missing": f"no run found{': ' + run.error if run.error else ''}; `elboroom study` runs what is missing",
        "pending": "not run yet; `elboroom study` runs it",
    }
    lines = [told[run.status]] if run.status in told else [] if run.status == "done" else [f"state: {run.status}"]
    if run.status == "done" and epochs and isinstance(epoch, int) and epoch < epochs:
        lines.append(f"{epoch} of {epochs} epochs")
    return lines


def collapse(run: RunFolder) -> list[str]:
    """A sentence where the codes carry next to nothing."""
    rate = own_values(run).get("rate")
    if rate is None or not rate < THRESHOLD:
        return []
    return [f"collapsed: the codes carry {round(max(rate, 0), 4):.2g} nats"]  # rounding makes small ones negative


def own_values(run: RunFolder) -> dict[str, float]:
    """The numbers of a run by which it is known: those of the table at the top."""
    own = Entry(label=run.label, scores=run.scores, data=run.data)
    return {name: score.value for (name, _), score in tables.chosen(own, tables.HEADLINE).items()}


def absent(run: RunFolder) -> dict[str, str]:
    """Why a score is not there, by its name; under "" the reason for all others."""
    reasons = {}
    if run.status in ("diverged", "failed", "missing", "pending") and not run.scores:
        return {"": f"{run.status}: nothing to evaluate"}
    if run.is_point:
        reasons = dict.fromkeys(("elbo", "rate", "nll", "bound/grey-bce"), NO_RATE)
    if run.config and not run.config.trains_encoder:
        reasons = dict.fromkeys(("elbo", "rate", "distortion", "nll", "active-units"), NO_ENCODER)
        if not run.scores and (run.path / "scores.json").is_file():
            return {**reasons, "": "not asked for: `--metrics marginal` estimates log p(x) without the encoder"}
    if not run.scores:
        return {**reasons, "": "not evaluated yet: run `elboroom evaluate` on its folder"}
    if run.config and run.config.companion is None:
        probe = "no classifier was trained beside the model (set `companion`), or the data has no labels"
        reasons |= dict.fromkeys(("accuracy/z", "accuracy/mean"), probe)
    return reasons


def _dotted(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{data: {name: mnist}}`` as ``{"data.name": "mnist"}``."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        inner = isinstance(value, Mapping)
        flat.update(_dotted(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value})
    return flat


def origin(runs: list[RunFolder]) -> list[str]:
    """When, on what machine, by which code."""
    lines = []
    if times := [t for r in runs if (t := _written(r))]:
        first, last = (datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d") for t in (min(times), max(times)))
        lines.append(f"runs last written {first}" + (f" to {last}" if last != first else "") + " (UTC)")
    for name in ("machine", "device", "precision", "commit"):
        values = {str(v)[:60] for r in runs if (v := r.environment.get(name))}
        if values:
            lines.append(f"{name} {' and '.join(sorted(values))}")
    versions = {f"{k} {v}" for r in runs for k, v in _versions(r).items() if k in ("elboroom", "torch")}
    return lines + ([", ".join(sorted(versions))] if versions else [])


def _versions(run: RunFolder) -> Mapping[str, Any]:
    versions = run.environment.get("versions")
    return versions if isinstance(versions, Mapping) else {}


def _written(run: RunFolder) -> float | None:
    files = [run.path / n for n in ("state.json", "metrics.jsonl")]
    return max((f.stat().st_mtime for f in files if f.is_file()), default=None)


# ---- figures ------------------------------------------------------------------------------------------------------


def _overview(groups: dict[str, list[RunFolder]], sources: list[Source]) -> Picture | None:
    """Two to eight models side by side, the first seed of each; also written beside each study."""
    first = told_apart([runs[0] for runs in list(groups.values())[:LARGEST_OVERVIEW]])
    glances = [(run, glance) for run in first if (glance := _glance(run)) is not None]
    shown = [glance for _, glance in glances]
    if len(shown) < 2:
        return None
    caption = (
        "Codes: sampled z of test images by class, two principal components where there are more than two dimensions. "
        "Below: test images above their reconstructions, and samples: from the prior, or from a Gaussian fitted to the "
        "codes where they do not follow the prior (plain autoencoder, clipped codes). Seed of each: the first."
    )
    counts = [count for run, _ in glances if (count := run.shown_after)]
    note = f"After {length(counts)}." if counts else ""
    whole = " ".join(filter(None, (caption, note)))
    picture = _picture("overview", overview(shown), f"{len(shown)} models at a glance", whole, note)
    for source in sources:
        if source.is_study:
            _write(source.path, [picture])
    return picture


def _panels(source: Source) -> list[Picture]:
    """The figures that a study names, also written beside it."""
    made, runs = [], together([source])
    for entry, drawn in panels.drawn(source.figures, runs):
        note = panels.trained(entry, runs)
        caption = " ".join(filter(None, (f"{entry['name']}:", entry["caption"], note)))
        made.append(_picture(entry["name"], drawn, entry["caption"] or entry["name"], caption, note))
    _write(source.path, made)
    return made


def _glance(run: RunFolder) -> Glance | None:
    """A column of the overview, where there are codes or pictures."""
    codes, pictures = run.tensors("codes-test"), run.tensors("pictures")
    if not codes and not pictures:
        return None
    loose = run.is_point or (run.config is not None and run.config.model.posterior.clip is not None)
    values = own_values(run)
    parts = [f"rate {values['rate']:.3g} nats" if "rate" in values else "no rate"]
    parts += [f"accuracy {values['accuracy/z']:.1f} %"] if "accuracy/z" in values else []
    return Glance(
        title=run.title,
        caption=", ".join(parts),
        codes=codes.get("z"),
        labels=codes.get("labels"),
        originals=pictures.get("originals"),
        reconstructions=pictures.get("reconstructions"),
        samples=pictures.get("samples-fitted" if loose else "samples-1"),
    )


def _curves(groups: dict[str, list[RunFolder]], sources: list[Source]) -> Picture | None:
    """The training curves of all runs in one figure, also written beside each study."""
    groups = by_label(told_apart([run for runs in groups.values() for run in runs]))
    histories = {runs[0].title: [history(r) for r in runs] for runs in groups.values()}
    picture = _curve_picture({k: v for k, v in histories.items() if any(v)})
    for source in sources:
        if picture and source.is_study:
            _write(source.path, [picture])
    return picture


def _curve_picture(histories: dict[str, list[list[dict[str, Any]]]]) -> Picture | None:
    if not histories:
        return None
    return Picture(
        name="curves",
        png=figures.png(figures.curves(histories)),
        alt=f"Training curves of {', '.join(histories)}",
        caption="Dashed: training; solid: validation, or test where there is no validation data. Several seeds: "
        "their mean, each seed faint. ✕: no longer finite. Axes may cut early or diverging peaks. Losses of "
        "different objectives do not share a scale.",
    )


def history(run: RunFolder) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`; where a run diverged, a last one that says so."""
    if run.status != "diverged" or not run.metrics:
        return run.metrics
    last = {"split": "train", "step": run.state.get("at", run.state.get("step", 0)), "loss": float("nan")}
    return [*run.metrics, {**last, str(run.state.get("term") or "loss"): float("nan")}]


def _sections(groups: dict[str, list[RunFolder]], curves: Picture | None) -> tuple[list[Section], list[str]]:
    """A section a label, from its first seed with pictures; the figures of every run go into its folder.

    ``curves`` is the figure of the page where it shows a single run, and need not be drawn again.
    """
    sections, unwritten = [], []
    for label, runs in groups.items():
        drawn = [list(pictures(run)) for run in runs]
        for run, made in zip(runs, drawn, strict=True):
            alone = curves or _curve_picture({run.label: [history(run)]} if run.metrics else {})
            if not _write(run.path, made + ([alone] if alone else [])):
                unwritten.append(run.label)
        first = next((i for i, made in enumerate(drawn) if made), 0)
        sections.append(_section(label, runs, runs[first], drawn[first], len(sections)))
    return sections, unwritten


def _section(label: str, runs: list[RunFolder], run: RunFolder, made: list[Picture], index: int) -> Section:
    return Section(
        anchor=f"variant-{index}",
        title=f"{label}, seed {run.seed}" if len(runs) > 1 else label,
        facts=[f for f in (_summary(run), searched(run), sampling_quality(run), *_remarks(run)) if f],
        warnings=[*warnings(run), *collapse(run), *run.doubts],
        pictures=made,
        missing=[*run.problems, *missing(run), *run.skipped],
    )


def _write(folder: Path, made: list[Picture]) -> bool:
    """Figures into the folder; False where it cannot be written to (the page still holds them)."""
    if is_kept(folder):
        return True
    try:
        if made and folder.is_dir():
            (folder / "figures").mkdir(exist_ok=True)
            for picture in made:
                content = figures.noted(picture.png, picture.note) if picture.note else picture.png
                (folder / "figures" / f"{picture.name}.png").write_bytes(content)
    except OSError:
        return False
    return True


def sampling_quality(run: RunFolder) -> str:
    """How far the importance-sampled likelihood can be trusted: the effective number of samples."""
    counts = run.tensors("examples").get("effective-samples")
    if counts is None or not counts.size:
        return ""
    few = float((counts < tables.FEW).mean())
    verdict = "; where they are few the NLL is a loose upper bound" if few else ""
    return (
        f"importance sampling of the likelihood: median of {np.median(counts):,.1f} effective samples an image, "
        f"under {tables.FEW} in {few:.0%} of the images{verdict}"
    )


def _summary(run: RunFolder) -> str:
    """The objective, and how long the shown weights were trained."""
    count = run.shown_after
    return "; ".join(filter(None, (about(run), f"after {length([count])}" if count else "")))


def searched(run: RunFolder) -> str:
    """The learning rate that a search chose, and the loss of each rate that was tried."""
    losses, chosen = run.search.get("losses"), run.search.get("chosen")
    if not isinstance(losses, dict) or not isinstance(chosen, int | float):
        return ""
    tried = [f"{rate}: {'diverged' if loss is None else f'{loss:.5g}'}" for rate, loss in losses.items()]
    wanted = run.config.training.lr_search if run.config else None
    after = f", the mean over the second half of {wanted.steps:,} steps" if wanted else ""
    return f"learning rate {chosen:g}, of the lowest loss among those tried ({', '.join(tried)}{after})"


def _remarks(run: RunFolder) -> list[str]:
    """What training had to say about its machine."""
    notes = run.environment.get("notes")
    return [str(n) for n in notes] if isinstance(notes, list) else []


def missing(run: RunFolder) -> list[str]:
    """What the run folder lacks, and how to get it."""
    encoded = run.config is None or run.config.trains_encoder
    asked = "" if encoded else " --metrics marginal"
    again = f"`elboroom evaluate {run.shown or run.path.resolve().name}{asked}` writes them."
    if run.status in ("missing", "pending", "failed") and run.evaluation is None:
        return []
    if run.evaluation is None:
        return [f"No scores{', codes' if encoded else ''} and pictures yet: {again}"]
    if run.is_kept:  # what results leave out, no evaluation can bring back
        again = "it was not kept."
    lines = [] if run.scores else [f"No scores: {again}"]
    codes, shown = run.tensors("codes-test"), run.tensors("pictures")
    if not codes and encoded:
        lines.append(f"No codes of the test data (codes-test.safetensors): {again}")
    elif codes and "labels" not in codes:
        lines.append("The data has no labels: codes are drawn in one colour.")
    if not shown:
        lines.append(f"No pictures (vectors have none); for image data {again}")
    if not run.tensors("examples"):
        lines.append(f"No scores per example (examples.safetensors): {again}")
    return lines


def pictures(run: RunFolder) -> Iterator[Picture]:
    """Every figure that the run's files allow, in the order of the page."""
    shown, codes, examples = run.tensors("pictures"), run.tensors("codes-test"), run.tensors("examples")
    rates = examples.get("rate-by-dimension")
    yield from _reconstructions(shown)
    yield from _samples(shown, run)
    yield from _manifold(shown, run)
    yield from _latent(codes)
    yield from _embedding(run.tensors("embedding"))
    yield from _rates(rates)
    yield from _histograms(codes, run)
    yield from _traversals(shown, rates)
    yield from _interpolations(shown)


def _picture(name: str, figure: Figure, alt: str, caption: str, note: str = "") -> Picture:
    return Picture(name=name, png=figures.png(figure), alt=alt, caption=caption, note=note)


def _is_images(array: np.ndarray | None, ndim: int) -> bool:
    return array is not None and array.ndim == ndim and array.size > 0


def _reconstructions(shown: dict[str, np.ndarray]) -> Iterator[Picture]:
    originals, again = shown.get("originals"), shown.get("reconstructions")
    if _is_images(originals, 4) and _is_images(again, 4):
        caption = "Reconstructions: test images as the model saw them, each above its reconstruction."
        yield _picture("reconstructions", figures.pairs(originals, again), "Test images and reconstructions", caption)


def _has_no_prior(run: RunFolder) -> bool:
    """A plain autoencoder, whose codes nothing draws to a prior; an MMD would."""
    return run.is_point and run.config.objective.kind == "reconstruction"


def _prior(run: RunFolder) -> str:
    return run.config.model.prior.kind if run.config else "normal"


def _samples(shown: dict[str, np.ndarray], run: RunFolder) -> Iterator[Picture]:
    """σ = 1 first, then the fitted density, then wider draws."""
    names = [n for n in shown if n.startswith("samples-") and _is_images(shown[n], 4)]
    for name in sorted(names, key=lambda n: (n != "samples-1", n != "samples-fitted", len(n), n)):
        caption = f"Samples: {_law(name.removeprefix('samples-'), run)}."
        yield _picture(name, figures.grid(shown[name], width=470), caption.rstrip("."), caption)


def _law(scale: str, run: RunFolder) -> str:
    """Where the codes of samples come from, in words."""
    if scale == "fitted":
        return "z from a Gaussian fitted to the test codes, fair to codes that do not follow the prior"
    factor = f"{scale}²\u00a0" if scale != "1" else ""
    normal = f"z ~ N(0,\u00a0{factor}I)"
    if _prior(run) != "normal":
        return f"decoded draws from the {_prior(run)} prior" + f", times {scale}" * (scale != "1")
    if _has_no_prior(run):
        return f"decoded {normal}, though this model has no prior"
    return f"decoded draws from the prior, {normal}" if scale == "1" else f"decoded {normal}"


def _manifold(shown: dict[str, np.ndarray], run: RunFolder) -> Iterator[Picture]:
    manifold = shown.get("manifold")
    if _is_images(manifold, 5):
        law = "a Gaussian fitted to each dimension of the codes" if _follows_codes(run) else "the prior"
        caption = f"Manifold: decoded grid of equally spaced quantiles of {law} in the two latent dimensions."
        figure = figures.rows(manifold, width=760, gap=0 if manifold.shape[-1] > 12 else 1)
        yield _picture("manifold", figure, "Decoded grid over the two latent dimensions", caption)


def _follows_codes(run: RunFolder) -> bool:
    """Whether the codes lay the manifold's grid: they do not follow the prior, or its quantiles are not known."""
    clipped = run.config is not None and run.config.model.posterior.clip is not None
    return run.is_point or clipped or _prior(run) in ("mixture", "vamp")


def _latent(codes: dict[str, np.ndarray]) -> Iterator[Picture]:
    """The codes in the plane, directly or by principal components."""
    z = codes.get("z")
    if z is None or z.ndim != 2 or z.shape[1] < 2:
        return
    labels = codes.get("labels")
    finite = np.isfinite(z).all(axis=1)
    lost = f" {(~finite).sum():,} codes are not finite and not drawn." if not finite.all() else ""
    if finite.sum() < 3:
        return
    keep = np.flatnonzero(finite)[:DRAWN]
    points, names, what = z[keep], ("z₁", "z₂"), "Codes: z of the test data, as it is (two dimensions)."
    if z.shape[1] > 2:
        points, explained = figures.pca(z[keep])
        names = tuple(f"component {i + 1} ({e:.0%} of variance)" for i, e in enumerate(explained))
        what = (
            f"Codes: first two principal components of z ({z.shape[1]} dimensions), which explain "
            f"{explained.sum():.0%} of the variance; classes that overlap here may be apart in the others."
        )
    coloured = labels is not None and len(labels) == len(z)
    figure = figures.scatter(points, labels[keep] if coloured else None, names)
    caption = f"{what} {len(keep):,} codes{', coloured by class' if coloured else ''}.{lost}"
    yield _picture("latent", figure, "Scatter plot of test codes", caption)


def _embedding(found: dict[str, np.ndarray]) -> Iterator[Picture]:
    """The codes as the metric `embedding` laid them into the plane."""
    panels = {_title(n, found): found[n] for n in ("pca", "tsne") if n in found and found[n].ndim == 2}
    if not panels:
        return
    labels, counts = found.get("labels"), [len(points) for points in panels.values()]
    alone = labels is None or len(labels) < max(counts)  # points are the first of what labels are of
    shown = " and ".join(dict.fromkeys(f"{n:,}" for n in counts))
    what = "by the metric “embedding”" + ("" if alone else ", coloured by class")
    only = " t-SNE keeps neighbours; sizes of clusters and distances between them mean nothing." * ("tsne" in found)
    figure = figures.embedding(panels, None if alone else labels)
    yield _picture("embedding", figure, "Codes in the plane", f"Codes in the plane: {shown} codes {what}.{only}")


def _title(method: str, found: dict[str, np.ndarray]) -> str:
    """The name of a method with what it says of itself."""
    if method == "pca":
        shares = found.get("pca-explained")
        return "PCA" + ("" if shares is None else f", {shares.sum():.0%} of the variance")
    perplexity = found.get("tsne-perplexity")
    return "t-SNE" + ("" if perplexity is None else f", perplexity {float(perplexity):.3g}")


def _histograms(codes: dict[str, np.ndarray], run: RunFolder) -> Iterator[Picture]:
    z = codes.get("z")
    if z is None or z.ndim != 2 or not z.size:
        return
    first = f" (the first {SHOWN} of {z.shape[1]})" if z.shape[1] > SHOWN else ""
    prior = "the prior N(0, 1)" if _prior(run) == "normal" else f"N(0, 1), for scale: the prior is {_prior(run)}"
    if _has_no_prior(run):
        prior = "N(0, 1), for scale: this model has no prior"
    caption = f"Codes by dimension{first}: z over the test data; line: {prior}."
    yield _picture("histograms", figures.histograms(z, SHOWN), "Histograms of the codes by dimension", caption)


def _rates(rates: np.ndarray | None) -> Iterator[Picture]:
    if rates is None or rates.ndim != 1 or not rates.size:
        return
    used = int((rates > THRESHOLD).sum())
    caption = f"Rate by dimension: {used} of {len(rates)} carry more than {THRESHOLD} nats (dashed line)."
    yield _picture("rate", figures.bars(rates, THRESHOLD), "Rate of each latent dimension", caption)


def _traversals(shown: dict[str, np.ndarray], rates: np.ndarray | None) -> Iterator[Picture]:
    moved = shown.get("traversals")
    if not _is_images(moved, 5):
        return
    by_rate = rates is not None and rates.shape == moved.shape[:1]
    order = np.argsort(-np.nan_to_num(rates), kind="stable") if by_rate else np.arange(len(moved))
    order = order[:SHOWN]
    labels = [f"dim {j}" + (f"  {rates[j]:.2f} nats" if by_rate else "") for j in order]
    values = shown.get("traversal-values")
    known = values is not None and len(values) == moved.shape[1]
    columns = [tables.number(v, 1) for v in values.tolist()] if known else []
    shown_of = f"{len(order)} of {len(moved)} dimensions" if len(order) < len(moved) else "each dimension"
    caption = f"Traversals: {shown_of} moved, the others at zero; rows {'by falling rate' if by_rate else 'in order'}."
    width = min(1080, 72 * moved.shape[1])
    yield _picture("traversals", figures.rows(moved[order], labels, columns, width=width), "Latent traversals", caption)


def _interpolations(shown: dict[str, np.ndarray]) -> Iterator[Picture]:
    lines = shown.get("interpolations")
    if _is_images(lines, 5):
        caption = "Interpolations: straight lines between the codes of pairs of test images."
        width = min(1000, 72 * lines.shape[1])
        yield _picture(
            "interpolations", figures.rows(lines, width=width), "Interpolations between test images", caption
        )


# ---- details ------------------------------------------------------------------------------------------------------


def _details(run: RunFolder) -> Details:
    title = f"{run.label}, seed {run.seed}"
    return Details(
        title=title,
        folder=run.shown or run.path.resolve().name,
        config=configuration(run),
        environment=[(k, str(v)) for k, v in _dotted(run.environment).items() if k != "format"],
        files=_files(run.path),
        scores=tables.everything(run.scores),
    )


def configuration(run: RunFolder) -> str:
    """The configuration as YAML, defaults written out; another run is named from the run's folder, as in its file."""
    if run.config is None:
        return ""
    content = to_dict(run.config)
    if content.get("init_from"):
        content["init_from"] = Path(os.path.relpath(content["init_from"], run.path.resolve())).as_posix()
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _files(folder: Path) -> list[str]:
    """The files of a run with their sizes; the page itself and its figures are left out."""
    found = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    kept = [p for p in found if p.relative_to(folder).parts[0] != "figures" and p.name != "report.html"]
    return [f"{p.relative_to(folder).as_posix()}  {_bytes(p.stat().st_size)}" for p in kept]


def _bytes(size: int | float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"

"""Figures of several runs side by side: which runs, in which order, and what is left out."""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from pydantic import TypeAdapter
from safetensors.numpy import save_file
from synthetic_runs import config, save, score, write_run

from elboroom.config.run import to_dict
from elboroom.config.study import Figure as Entry
from elboroom.report import figures, panels
from elboroom.report.folders import RunFolder, by_name, read_run, told_apart


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two variants on two data sets; black and white samples of three by three pixels."""
    found = []
    for variant in ("vae", "mu"):
        for data in ("mnist", "fashion"):
            folder = write_run(tmp_path_factory.mktemp("runs") / variant / data, config())
            shown = {"samples-1": np.full((4, 1, 3, 3), 255 * (variant == "mu"), np.uint8)}
            shown["traversals-2"] = np.zeros((6, 40, 1, 3, 3), np.uint8)
            save(folder / "evaluation/step-130/more-pictures.safetensors", shown)
            found.append(read_run(folder, variant, {"data.name": data, "seed": 0}))
    return found


def entry(**fields):
    return to_dict(TypeAdapter(Entry).validate_python({"name": "figure-1", **fields}))


def labels(found):
    return [run.label for run in found]


def test_runs_are_chosen_by_variant_and_axes_in_the_order_of_the_list(runs):
    assert labels(panels.chosen(runs, {"data.name": "mnist"})) == ["vae · mnist", "mu · mnist"]
    assert labels(panels.chosen(runs, {"variant": ["mu", "vae"], "data.name": "mnist"})) == [
        "mu · mnist",
        "vae · mnist",
    ]
    assert panels.chosen(runs, {"data.name": "digits"}) == []


def run_at(**axes):
    return RunFolder(path=Path("run"), variant=axes.pop("variant", "vae"), axes=axes)


def titles(*runs):
    return [run.title for run in told_apart(list(runs))]


def test_an_axis_is_named_by_its_last_word_and_by_more_where_two_end_alike():
    assert run_at(**{"model.posterior.latent": 3, "data.name": "mnist", "seed": 0}).label == "vae · latent 3 · mnist"
    both = run_at(**{"model.encoder.activation": "relu", "model.decoder.activation": "tanh"})
    assert both.label == "vae · encoder.activation relu · decoder.activation tanh"


def test_a_figure_names_what_tells_its_runs_apart():
    three, five = ({"model.posterior.latent": n, "data.name": "mnist"} for n in (3, 5))
    assert titles(run_at(**three), run_at(**five)) == ["latent 3", "latent 5"]
    assert titles(run_at(**three), run_at(**three, variant="mu")) == ["vae", "mu"]
    assert titles(run_at(**three), run_at(**five, variant="mu")) == ["vae · latent 3", "mu · latent 5"]
    assert titles(run_at(**three, seed=0), run_at(**three, seed=1)) == ["vae · latent 3 · mnist"] * 2


def pixels(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(figures.png(figure))).convert("L"))


def test_images_stand_pixel_by_pixel_under_their_titles(runs):
    """Two sheets of 2 x 2 images: the second, of white images, is the brighter one; each pixel is a square."""
    drawn = panels.figure(entry(kind="images", where={"data.name": "mnist"}, pick="more-pictures/samples-1"), runs)
    seen = pixels(drawn)
    half = seen.shape[1] // 2
    dark, light = seen[:, : half - 20], seen[:, half + 20 :]
    assert (dark[30:] == 0).mean() > 0.6
    assert (light[30:] == 255).all()
    assert [t.get_text() for t in drawn.texts] == ["vae", "mu"]


def test_a_variant_may_show_its_own_array(runs):
    fields = {"pick": "more-pictures/samples-1", "picks": {"mu": "more-pictures/samples-9"}}
    drawn = panels.figure(entry(kind="images", where={"data.name": "mnist"}, **fields), runs)
    assert [t.get_text() for t in drawn.texts] == ["vae"]  # the other has no such array


def test_a_traversal_keeps_its_rows(runs):
    drawn = panels.figure(entry(kind="images", where={"variant": "vae"}, pick="more-pictures/traversals-2"), runs[:1])
    high, wide = pixels(drawn).shape
    assert wide / (high - 24) == pytest.approx((40 * 4 - 1) / (6 * 4 - 1), rel=0.02)


@pytest.mark.parametrize("kind", ["codes", "histograms", "reconstructions", "curves"])
def test_every_kind_is_drawn(runs, kind):
    drawn = panels.figure(entry(kind=kind, where={"data.name": "mnist"}, columns=3), runs)
    assert isinstance(drawn, Figure)
    assert len(figures.png(drawn)) > 2000


def test_codes_have_a_panel_a_run_and_histograms_one_a_dimension(runs):
    assert len([a for a in panels.figure(entry(kind="codes"), runs).axes if a.axison]) == 4
    assert len(panels.figure(entry(kind="histograms", columns=4), runs[:2]).axes) == 8


def test_what_no_run_has_is_left_out(runs):
    nothing = entry(kind="images", pick="more-pictures/absent")
    assert panels.figure(nothing, runs) is None
    assert panels.figure(entry(kind="curves", where={"variant": "none"}), runs) is None
    assert list(panels.drawn([nothing], runs)) == []


def test_a_run_without_labels_is_one_colour(runs, tmp_path):
    folder = write_run(tmp_path / "run", config(companion=None), labels=False)
    bare = dataclasses.replace(read_run(folder), variant="bare")
    assert panels.figure(entry(kind="codes"), [bare]).legends == []


def test_a_figure_shows_runs_at_kept_epochs(runs, tmp_path):
    """Of state.json's 130 steps in 10 epochs: epoch 10 was evaluated, epoch 5 was not."""
    fields = {"pick": "more-pictures/samples-1", "where": {"data.name": "mnist", "variant": "vae"}}
    drawn = panels.figure(entry(kind="images", epochs=[5, 10], **fields), runs)
    assert [t.get_text() for t in drawn.texts] == ["vae · mnist, epoch 10"]


def test_captions_say_how_long_what_is_shown_was_trained(runs, tmp_path):
    """1,297 examples an epoch as metrics.jsonl has them; one run has 10 epochs, another was stopped after 6."""
    early = {"status": "stopped", "epoch": 6, "step": 78}
    stopped = write_run(tmp_path / "run", config(), state=early, evaluated=False)
    both = [runs[0], dataclasses.replace(read_run(stopped), variant="short")]
    assert panels.trained(entry(kind="codes"), runs) == "After 10 epochs, 12,970 training examples seen."
    assert panels.trained(entry(kind="codes"), both) == "After 10 epochs, 12,970 training examples seen."
    told = "After 6 to 10 epochs, 7,782 to 12,970 training examples seen."
    assert panels.trained(entry(kind="curves"), both) == told
    assert panels.trained(entry(kind="codes", epochs=[10]), runs) == "An epoch is 1,297 training examples."
    assert panels.trained(entry(kind="diagram", pick="spread"), runs) == ""
    assert panels.trained(entry(kind="codes", where={"variant": "none"}), runs) == ""


def test_weights_that_were_evaluated_early_are_not_said_to_have_seen_all(runs):
    assert runs[0].trained(step=40) == (3, 3 * 1297)


def test_curves_against_samples_have_a_logarithmic_axis(runs):
    drawn = panels.figure(entry(kind="curves", against="samples", panels={"loss": "loss"}), runs)
    axes = drawn.axes[0]
    assert axes.get_xscale() == "log"
    batch, last = runs[0].config.training.batch, runs[0].metrics[-1]["step"]
    assert max(line.get_xdata().max() for line in axes.lines) == batch * last


POINTS = {"wide": (90, -20, 71), "narrow": (2, -30, 60), "one": (1e-8, -50, None), "two": (-1e-8, -50, None)}


@pytest.fixture(scope="module")
def weighed(tmp_path_factory):
    """Four runs of falling rate, the last two without a rate worth the name and without a probe."""
    found = []
    for name, (rate, elbo, knn) in POINTS.items():
        scores = [score("rate", rate), score("elbo", elbo)] + ([] if knn is None else [score("probe/knn", knn)])
        folder = write_run(tmp_path_factory.mktemp("weighed") / name, config(), scores=scores)
        found.append(dataclasses.replace(read_run(folder), variant=name))
    return found


def test_a_tradeoff_names_its_runs_and_those_that_lack_a_score(weighed):
    shown = {"elbo": "ELBO", "probe/knn": "probe", "nothing": "not measured"}
    drawn = panels.figure(entry(kind="tradeoff", panels=shown), weighed)
    names = [[t.get_text() for t in axes.texts] for axes in drawn.axes]
    assert names == [["one, two", "narrow", "wide"], ["narrow", "wide", "not measured: one, two"]]
    assert [axes.get_xlabel() for axes in drawn.axes] == ["rate (nats)"] * 2


def test_many_runs_of_a_tradeoff_are_numbered_from_left_to_right_under_a_key(weighed, monkeypatch):
    monkeypatch.setattr(panels, "NAMED", 3)
    drawn = panels.figure(entry(kind="tradeoff", panels={"elbo": "ELBO"}), weighed)
    by_rate = sorted(POINTS, key=lambda name: POINTS[name][0])
    assert [t.get_text() for t in drawn.axes[0].texts] == ["1-2", "3", "4"]
    assert re.findall(r"(\d)\s(\w+)", drawn.get_supxlabel()) == [(str(i), name) for i, name in enumerate(by_rate, 1)]


def test_a_long_key_stays_inside_the_figure_and_breaks_no_name(weighed):
    names = [f"beta-{i}00-and-a-half-w784" for i in range(12)]
    many = [dataclasses.replace(weighed[i % 2], variant=name) for i, name in enumerate(names)]
    drawn = panels.figure(entry(kind="tradeoff", panels={"elbo": "ELBO", "rate": "rate"}), many)
    figures.png(drawn)
    key = next(t for t in drawn.texts if "half" in t.get_text())
    assert key.get_window_extent().x1 <= drawn.bbox.x1
    assert set(key.get_text().split()) >= set(names)


def test_numbers_that_follow_each_other_are_a_range():
    assert panels._ranges([7, 3, 1, 2, 9]) == "1-3, 7, 9"


def test_the_panels_of_a_tradeoff_share_an_axis_that_is_linear_around_no_rate(weighed):
    drawn = panels.figure(entry(kind="tradeoff", panels={"elbo": "ELBO", "probe/knn": "probe"}), weighed)
    figures.png(drawn)
    first, second = drawn.axes
    assert first.get_xlim() == second.get_xlim()
    assert {axes.get_xscale() for axes in drawn.axes} == {"symlog"}
    assert [t.get_text() for t in first.get_xticklabels()] == ["0", "0.1", "1", "10", "100"]


def test_names_of_neighbours_do_not_lie_on_each_other():
    """Six dots in a row, nearer to each other than their names are long."""
    dots = np.array([[60.0 + 12 * i, 80.0] for i in range(6)])
    spots = panels._spots(dots, list(dots), ["beta-5-w16"] * 6)
    left = [x + right if right > 0 else x + right - 33 for (x, _), (right, _) in zip(dots, spots, strict=True)]
    boxes = [(a, up) for a, (_, up) in zip(left, spots, strict=True)]
    met = [abs(a - b) < 33 and abs(u - v) < 6 for i, (a, u) in enumerate(boxes) for b, v in boxes[:i]]
    assert not any(met)


def test_a_run_that_was_never_started_is_not_told_in_every_panel(weighed, tmp_path):
    pending = RunFolder(path=tmp_path, variant="late", status="pending")
    drawn = panels.figure(entry(kind="tradeoff", panels={"elbo": "ELBO"}), [*weighed, pending])
    assert "late" not in " ".join(t.get_text() for t in drawn.axes[0].texts)


def test_the_posterior_of_one_image(runs):
    place = runs[0].path / "evaluation/step-130/codes-test.safetensors"
    codes = runs[0].tensors("codes-test")
    save(place, {**codes, "log_var": np.zeros_like(codes["z"])})
    drawn = panels.figure(entry(kind="posterior", where={"variant": "vae", "data.name": "mnist"}), runs)
    left, right = drawn.axes
    loc, z = codes["mean"][0, :2], codes["z"][0, :2]
    assert right.images[0].get_extent() == pytest.approx([loc[0] - 4, loc[0] + 4, loc[1] - 4, loc[1] + 4])
    (point,) = right.lines
    np.testing.assert_allclose(np.ravel(point.get_data()), z)
    assert left.collections
    (frame,) = left.patches
    assert frame.get_bbox().extents == pytest.approx([*(loc - 4), *(loc + 4)])


def test_a_narrow_posterior_is_drawn_narrow():
    """σ of 0.2 by 0.05: the half-width at half height is four times its half-height, on axes of one scale."""
    drawn = Figure()
    axes, box = drawn.subplots(), panels.Box(np.full(2, -0.8), np.full(2, 0.8))
    panels._density(axes, box, np.zeros(2), np.array([0.2, 0.05]))
    high = np.asarray(axes.images[0].get_array()) > 0.5
    wide, tall = high.any(axis=0).sum(), high.any(axis=1).sum()
    assert wide / tall == pytest.approx(4, rel=0.1)
    assert axes.get_aspect() == 1


def test_panels_of_like_reach_share_their_axes_and_a_wild_one_has_its_own():
    disc = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    first, second, wild = panels._boxes([disc, 1.7 * disc, 20 * disc])
    assert first is second
    assert first.side == pytest.approx(1.7 * np.ptp(disc, axis=0).max())
    assert wild.side == pytest.approx(20 * np.ptp(disc, axis=0).max())


def test_codes_of_two_dimensions_are_drawn_round_with_ticks_and_their_spread(tmp_path):
    run = dataclasses.replace(read_run(write_run(tmp_path / "run", latent=2)), variant="vae")
    drawn = panels.figure(entry(kind="codes"), [run])
    axes, z = drawn.axes[0], run.tensors("codes-test")["z"]
    assert axes.get_aspect() == 1
    assert np.ptp(axes.get_xlim()) == pytest.approx(np.ptp(axes.get_ylim()))
    assert len(axes.get_xticks()) > 2
    assert [t.get_text() for t in axes.texts] == ["σ {:.2f}, {:.2f}".format(*z.std(axis=0))]


def test_codes_that_were_laid_into_the_plane_have_neither_spread_nor_origin(tmp_path):
    run = dataclasses.replace(read_run(write_run(tmp_path / "run", latent=2)), variant="vae")
    save_file({"tsne": run.tensors("codes-test")["z"] + 50}, run.evaluation / "embedding.safetensors")
    plain, laid = (
        panels.figure(entry(kind="codes", pick=p), [run]).axes[0] for p in ("codes-test/z", "embedding/tsne")
    )
    assert [t.get_text() for t in laid.texts] == [""]
    assert (len(plain.lines), len(laid.lines)) == (2, 0)
    assert laid.get_xlim()[0] > 30


def test_all_classes_stand_under_a_single_panel(tmp_path):
    run = dataclasses.replace(read_run(write_run(tmp_path / "run", latent=2)), variant="vae")
    drawn = panels.figure(entry(kind="codes"), [run])
    figures.png(drawn)
    box = drawn.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= drawn.get_figwidth() * figures.DPI


@pytest.mark.parametrize("name", ["graphical-model", "reparameterization", "spread"])
def test_diagrams_need_no_run(name):
    assert pixels(panels.figure(entry(kind="diagram", pick=name), [])).min() < 100


def test_shares_of_the_rate_once_plain_and_once_weighted(runs):
    row = panels._derived({"distortion": 30.0, "rate": 10.0}, runs[0])
    assert row == {"elbo": -40.0, "rate-share": 25.0, "weighted-rate-share": 25.0}  # beta = 1


def test_a_name_that_several_protocols_share_is_not_drawn():
    found = [score("probe/knn", 90.0, code="mean", labels="100"), score("fd", 3.0, code="prior")]
    assert by_name(found) == {"probe/knn": 90.0, "probe/knn (mean)": 90.0, "fd": 3.0, "fd (prior)": 3.0}
    more = [*found, score("fd", 2.0, code="gaussian"), score("fd", 1.0, code="control: train images")]
    more += [score("probe/knn", 95.0, code="mean", labels="all")]
    assert by_name(more) == {"fd (prior)": 3.0, "fd (gaussian)": 2.0}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "diagram", "pick": "graphical-modl"}, "unknown diagram.*Did you mean 'graphical-model'"),
        ({"kind": "diagram"}, "unknown diagram 'codes-test/z'"),
        ({"kind": "curves", "epochs": [1]}, "kind 'curves' has no epochs"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_refused_before_any_training(fields, message):
    with pytest.raises(ValueError, match=message):
        entry(**fields)

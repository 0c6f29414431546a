"""Figures: every pixel whole, every function usable by hand, nothing hidden."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from synthetic_runs import metrics

from elboroom.report import figures
from elboroom.report.overview import Glance, overview


def pixels(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(figures.png(figure))).convert("RGB"))


def test_images_are_enlarged_without_blur_white_on_black():
    checker = np.indices((4, 4)).sum(axis=0).astype(np.uint8) % 2 * 255
    picture = pixels(figures.grid(checker[None, None], columns=1, width=43))
    assert picture.shape == (40, 40, 3)
    np.testing.assert_array_equal(picture[5::10, 5::10, 0], checker)
    assert set(np.unique(picture)) == {0, 255}


def test_a_line_of_thousands_of_points_is_thinned_to_means():
    x = np.arange(1.0, 10_001.0)
    few, means = figures.thinned(x, 3 * x, most=100)
    assert 50 < len(few) <= 100
    np.testing.assert_allclose(means, 3 * few)
    assert (np.diff(few) > 0).all()
    assert few[0] == 1
    assert few[-1] > 9_000
    same, as_it_was = figures.thinned(x[:100], x[:100], most=100)
    np.testing.assert_array_equal(same, as_it_was)


@pytest.mark.parametrize("note", ["After 2 epochs.", "After 100 epochs, that is 6,000,000 examples seen." * 2])
def test_a_note_stands_under_a_picture_and_fits(note):
    picture = figures.png(figures.grid(np.zeros((4, 1, 8, 8), np.uint8), columns=2, width=400))
    image = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    both = np.asarray(Image.open(io.BytesIO(figures.noted(picture, note))).convert("RGB"))
    np.testing.assert_array_equal(both[: len(image)], image)
    strip = both[len(image) :]
    assert 5 < len(strip) < 40
    assert (strip[:, :3] == 255).all()  # not cut off
    assert (strip[:, -3:] == 255).all()
    assert (strip < 200).any()


def test_colours_stay_and_a_second_channel_is_ignored():
    red = np.zeros((3, 2, 2), np.uint8)
    red[0] = 255
    assert figures.as_rgb(red)[0, 0].tolist() == [255, 0, 0]
    assert figures.as_rgb(red[:2])[0, 0].tolist() == [255, 255, 255]
    assert figures.as_rgb(np.full((1, 1, 1), 0.5))[0, 0].tolist() == [128, 128, 128]


def test_rows_are_in_order():
    shades = np.array([10, 90, 200], np.uint8)[:, None, None, None, None] * np.ones((1, 2, 1, 3, 3), np.uint8)
    picture = pixels(figures.rows(shades, ["a", "b", "c"], ["-1", "+1"], width=200))
    column = picture[:, -20, 0]
    order = [int(np.flatnonzero(column == shade)[0]) for shade in (10, 90, 200)]
    assert order == sorted(order)


def test_pca_explains_the_variance():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(500, 3)) * [3, 2, 1]
    points, explained = figures.pca(codes)
    assert points.shape == (500, 2)
    np.testing.assert_allclose(explained, [9 / 14, 4 / 14], atol=0.05)


def test_mean_of_seeds_is_taken_where_all_have_a_point():
    lines = [(np.array([1.0, 2, 3]), np.array([1.0, 2, 3])), (np.array([1.0, 2]), np.array([3.0, 4]))]
    x, y = figures._mean(lines)
    assert (x.tolist(), y.tolist()) == ([1, 2], [2, 3])


def test_a_step_inside_an_epoch_has_its_place_on_the_axis():
    history = [
        {"split": "train", "step": 5, "epoch": 0, "loss": 3.0},
        {"split": "train", "step": 10, "epoch": 1, "loss": 2.0},
        {"split": "test", "step": 10, "epoch": 1, "loss": 2.5},
    ]
    x, y = figures._points(history, "loss", evaluated=False)
    assert (x.tolist(), y.tolist()) == ([0.5, 1.0], [3.0, 2.0])


def test_accuracy_in_training_takes_the_unit_of_evaluation():
    rows = [{"split": "train", "step": 1, "epoch": 1, "companion/accuracy": 50.0}]
    rows += [{"split": "test", "step": 1, "epoch": 1, "accuracy/z": 60.0}]
    assert figures._points(rows, "accuracy/z", evaluated=False)[1].tolist() == [50.0]


def test_curves_have_a_panel_a_quantity_and_mark_nan():
    history = metrics(0, point=False, epochs=4, noise=0.4)
    broken = [*history, {"split": "train", "step": 60, "loss": float("nan")}]
    figure = figures.curves({"vae $1$": [history, history], "hot": [broken]})
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert [t.split(",")[0].split(" (")[0] for t in titles] == [
        "loss",
        "distortion",
        "rate",
        "accuracy on sampled z",
        "accuracy on the mean code",
    ]
    assert any(line.get_marker() == "X" for line in figure.axes[0].lines)
    assert figures.png(figure)


@pytest.mark.parametrize("name", ["aevb", "random-wake-sleep · latent 200", "encoder.activation relu · " * 3 + "one"])
@pytest.mark.parametrize("columns", [1, 3])
def test_no_legend_runs_off_its_image(name, columns):
    history = metrics(0, point=False, epochs=4, noise=0.4)
    names = [f"{name} {i}" for i in range(7)]
    figure = figures.curves({n: [history] for n in names}, columns=columns)
    figures.png(figure)
    (legend,) = figure.legends
    assert [t.get_text().replace("\n", " ") for t in legend.get_texts()][:7] == names
    box, (wide, high) = legend.get_window_extent(), figure.get_size_inches() * figures.DPI
    assert 0 <= box.x0 < box.x1 <= wide
    assert 0 <= box.y0 < box.y1 <= high


@pytest.mark.parametrize(
    ("splits", "kinds"),
    [
        (("train", "test"), ["training", "validation or test"]),
        (("test",), ["validation or test"]),
        (("train",), ["training"]),
    ],
)
def test_a_legend_tells_the_dashes_that_are_drawn(splits, kinds):
    history = [{"split": split, "step": e, "epoch": e, "elbo": 1.0 * e} for e in range(1, 4) for split in splits]
    (legend,) = figures.curves({"vae": [history]}, {"elbo": "ELBO"}).legends
    assert [text.get_text() for text in legend.get_texts()] == ["vae", *kinds]


def test_curves_of_nothing_are_an_empty_figure():
    assert figures.curves({}).legends == []


def test_a_quantity_that_never_moves_draws_without_a_warning():
    still = [{"split": "test", "step": 10 * e, "epoch": e, "active-units": 20} for e in range(1, 12)]
    assert figures.png(figures.curves({"vae": [still]}))


@pytest.mark.parametrize(("last", "seen"), [(-100.0, True), (-1e6, False)], ids=["overfitting", "diverged"])
def test_where_a_line_ends_is_in_view_unless_it_diverged(last, seen):
    values = [*np.linspace(0, 100, 99), last]
    falls = [{"split": "test", "step": 10 * e, "epoch": e, "elbo": v} for e, v in enumerate(values, 1)]
    low, high = figures.curves({"vae": [falls]}, {"elbo": "ELBO (nats)"}).axes[0].get_ylim()
    assert high > 90
    assert bool(low < last) == seen


@pytest.mark.parametrize("labels", [None, np.arange(40) % 3, np.arange(40) % 30, np.linspace(0, 1, 40), np.arange(40)])
def test_scatter_takes_any_labels(labels):
    points = np.random.default_rng(0).normal(size=(40, 2))
    assert figures.png(figures.scatter(points, labels))


@pytest.mark.parametrize("classes", [2, 10, 17, 40])
def test_an_embedding_has_a_panel_a_method_one_key_and_no_axes(classes):
    points, labels = np.random.default_rng(0).normal(size=(400, 2)), np.arange(400) % classes
    figure = figures.embedding({"PCA": points, "t-SNE": points * [3, 1]}, labels)
    panels = figure.axes[:2]
    assert [a.get_title(loc="left") for a in panels] == ["PCA", "t-SNE"]
    assert not any(a.axison for a in panels)
    colours = {tuple(c) for c in panels[0].collections[0].get_facecolors()}
    if classes == 40:  # along a scale
        assert len(figure.axes) == 3
        return
    assert len(colours) == classes
    (key,) = figure.legends
    assert [t.get_text() for t in key.get_texts()] == [str(k) for k in range(classes)]


def test_an_embedding_without_labels_has_no_key():
    figure = figures.embedding({"PCA": np.zeros((3, 2))})
    assert not figure.legends
    assert pixels(figure).shape[0] > 100


def test_bars_and_histograms_live_with_nan():
    assert figures.png(figures.bars(np.array([1.0, np.nan, np.inf, 0.01])))
    codes = np.random.default_rng(0).normal(size=(50, 3))
    codes[:, 1] = np.nan
    assert figures.png(figures.histograms(codes))


def test_save_makes_the_folder(tmp_path):
    path = figures.save(figures.bars(np.ones(3)), tmp_path / "a" / "b.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_an_overview_has_the_rows_that_any_model_has():
    images, codes = np.zeros((36, 1, 8, 8), np.uint8), np.zeros((9, 2))

    def rows(*models):
        drawn = overview([Glance(f"m{i}", "", *model) for i, model in enumerate(models)])
        return [axes.get_ylabel() for axes in drawn.axes[:: len(models)]]

    bare, pictured = (None,) * 5, (None, None, images, images, images)
    assert rows(pictured, bare) == ["reconstructions", "samples"]
    assert rows(pictured, (codes, None, None, None, None)) == ["codes", "reconstructions", "samples"]
    assert rows((codes, None, None, None, None)) == ["codes"]
    assert rows(bare) == ["codes", "reconstructions", "samples"]

"""The page: whole, self-contained, and honest about what is missing."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from synthetic_runs import AUTOENCODER, config, save, score, write_run, write_study

from elboroom.errors import InputError
from elboroom.report import figures, report
from elboroom.report.folders import RunFolder, read_run
from elboroom.report.page import absent, missing, own_values

BLANK = figures.png(figures.bars(np.ones(2)))
PICTURES = ["reconstructions", "samples-1", "samples-fitted", "samples-3", "latent", "rate", "histograms", "traversals"]


@pytest.fixture
def quick(monkeypatch):
    """Figures of many axes are not drawn and none is rendered: for tests of the words around them."""
    monkeypatch.setattr(figures, "png", lambda figure: BLANK)
    monkeypatch.setattr(figures, "curves", lambda histories: Figure())
    monkeypatch.setattr(figures, "histograms", lambda codes, limit: Figure())


def text(html: str) -> str:
    """What a reader sees, without pictures and markup."""
    html = re.sub(r"<style>.*?</style>|base64,[^\"]*", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def bold(html: str) -> list[str]:
    return re.findall(r"<td class=\"n\"><b>([^<]*)</b>", html)


def test_every_run_appears_whatever_became_of_it(html):
    for name in ("vae", "mu-vae", "beta-vae", "autoencoder", "gaussian", "hot", "late"):
        assert re.search(rf"<th scope=\"row\">{name}<", html)
    seen = text(html)
    assert "diverged at step 47: rate is not finite" in seen
    assert "stopped after epoch 6 of 10" in seen
    assert "not run yet" in seen


def test_the_page_needs_nothing_else(html):
    assert "http://" not in html
    assert "https://" not in html
    assert all(src.startswith("data:image/png;base64,") for src in re.findall(r"src=\"([^\"]{0,30})", html))
    assert all(href.startswith("#") for href in re.findall(r"href=\"([^\"]*)", html))
    assert "<script" not in html
    assert all(re.findall(r"<img [^>]*alt=\"([^\"]*)\"", html))


def test_rows_of_another_protocol_stand_apart_with_the_reason(html):
    seen = text(html)
    assert "Not ranked with the first table: binarization" in seen
    assert "likelihood (“gaussian, variance 1” here, “bernoulli” there)" in seen
    first, second = re.findall(r"<table>.*?</table>", html, flags=re.DOTALL)[:2]
    assert bold(first)
    assert not bold(second)


def test_a_plain_autoencoder_has_no_rate_and_no_likelihood(html):
    row = re.search(r"<th scope=\"row\">autoencoder.*?</tr>", html, flags=re.DOTALL).group()
    assert row.count("—") == 4
    assert "no rate, hence no bound and no likelihood" in text(html)


def test_order_and_content_of_the_page(html):
    places = [html.index(f">{heading}</h2>") for heading in ("Scores", "Training", "Models", "Details")]
    assert places == sorted(places)
    seen = text(html)
    for words in (
        "Which objective keeps codes informative?",
        "commit 0123abc",
        "digits, test split, 300 examples; binarization dynamic, seed 0; likelihood bernoulli",
        "importance sampling, 1,000 samples",
        "β = 4",
        "no bound on log p(x)",
        "published Author (2020), table 1",
        "first two principal components of z (6 dimensions)",
        "Manifold",
        "elboroom train study/vae/seed-0/config.yaml",
        "median of 31.0 effective samples",
    ):
        assert words in seen


def test_published_numbers_of_many_scores_without_a_row_are_told_one_by_one(quick, tmp_path):
    told = {"where": {"variant": "other"}, "probe/svm": {"100 labels, raw": "88.7 ± 1.5"}, "source": "Author (2020)"}
    write_run(tmp_path / "vae" / "seed-0", scores=[score("elbo", -90.0)], images=False)
    html = report([write_study(tmp_path, [("vae", {"seed": 0}, "done")], published=[told])]).read_text()
    assert "probe/svm (100 labels, raw) 88.7 ± 1.5, source Author (2020) (variant = other)." in text(html)


def test_published_numbers_stand_in_the_table_that_has_their_score(quick, tmp_path):
    scores = [score("elbo", -80.0), score("mpd", 61.5)]
    write_run(tmp_path / "vae" / "seed-0", scores=scores, images=False)
    published = [{"where": {"variant": "vae"}, "elbo": -78.75, "mpd": 109.31, "source": "Author (2020)"}]
    entry = {"variant": "vae", "axes": {"seed": 0}, "folder": "vae/seed-0", "status": "done"}
    html = report([write_study(tmp_path, [], runs=[entry], published=published)]).read_text()
    first, second = re.findall(r"<table>.*?</table>", html, flags=re.DOTALL)[:2]
    assert "78.75" in first and "109.31" not in first
    assert "109.31" in second and "78.75" not in second


def test_figures_lie_in_the_folders(demo, html):
    made = {p.stem for p in (demo / "vae/seed-1/figures").glob("*.png")}
    assert made == {*PICTURES, "interpolations", "curves"}
    assert (demo / "figures/curves.png").is_file()
    assert "manifold" in {p.stem for p in (demo / "beta-vae/seed-0/figures").glob("*.png")}
    assert "rate" not in {p.stem for p in (demo / "autoencoder/seed-0/figures").glob("*.png")}


def test_names_are_escaped(quick, tmp_path):
    name = "<script>alert(1)</script>"
    write_run(tmp_path / "a" / "seed-0", images=False, state={"status": "stopped"})
    entry = {"variant": name, "axes": {"seed": 0}, "folder": "a/seed-0", "status": "failed", "error": "<b>no</b> & so"}
    study = write_study(tmp_path, [], name=name, description=name, runs=[entry])
    html = report([study]).read_text()
    assert "<script" not in html
    assert "<b>no</b>" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "failed: &lt;b&gt;no" in html


def test_the_page_says_how_long_its_runs_and_figures_were_trained(quick, tmp_path):
    figure = {"name": "figure-1", "kind": "codes", "caption": "Codes.", "columns": 2, "picks": {}}
    figure |= {"pick": "codes-test/z"}
    write_run(tmp_path / "study/vae/seed-0")
    write_study(tmp_path / "study", [("vae", {"seed": 0}, "done")], config={"figures": [figure]})
    seen = text(report([tmp_path / "study"]).read_text())
    assert "figure-1: Codes. After 10 epochs, 12,970 training examples seen." in seen
    assert "elbo, β = 1; after 10 epochs, 12,970 training examples seen" in seen


def test_a_searched_learning_rate_is_told_with_the_losses_of_all(quick, tmp_path):
    folder = write_run(tmp_path / "run")
    assert "learning rate" not in text(report([folder]).read_text())
    losses = {"0.01": 191.6745, "0.02": 189.528, "0.1": None}
    (folder / "lr-search.json").write_text(json.dumps({"format": 1, "losses": losses, "chosen": 0.02}))
    told = "learning rate 0.02, of the lowest loss among those tried (0.01: 191.67, 0.02: 189.53, 0.1: diverged)"
    assert told in text(report([folder]).read_text())


def test_nan_is_shown(quick, tmp_path):
    run = write_run(tmp_path / "vae", scores=[score("elbo", float("nan"), stderr=float("nan"))], images=False)
    assert "NaN" in text(report([run]).read_text())


def test_a_collapsed_posterior_is_called_so(quick, tmp_path):
    run = write_run(tmp_path / "vae", scores=[score("rate", 0.013)], images=False)
    assert "collapsed: the codes carry 0.013 nats" in text(report([run]).read_text())


def test_what_other_data_say_is_not_said_of_the_run(quick, tmp_path):
    """Neither that its code is empty, nor its rate in the overview, nor a table of other scores."""
    others = [score("rate", 0.013, data="mnist"), score("mpd", 4.0, data="mnist")]
    runs = [write_run(tmp_path / name, scores=[score("rate", 6.1), *others], images=False) for name in ("a", "b")]
    assert own_values(read_run(runs[0])) == {"rate": 6.1}
    html = report(runs, tmp_path / "x.html").read_text()
    seen = text(html)
    assert "collapsed: the codes" not in seen
    assert "Information and geometry" not in seen
    assert "0.0130" in seen  # in the table of all scores


def test_a_run_without_evaluation_says_how_to_get_it(quick, tmp_path):
    run = write_run(tmp_path / "vae", state={"status": "running", "epoch": 3}, evaluated=False)
    (run / "state.json").write_text('{"format": 1, "status": "running", "step": 0, "epoch": 0}')
    seen = text(report([run]).read_text())
    assert "still running after epoch 3 of 10" in seen
    assert "None of these runs has scores yet" in seen
    assert "elboroom evaluate vae" in seen
    assert (run / "figures/curves.png").is_file()


def test_vector_data_without_labels(quick, tmp_path):
    run = write_run(tmp_path / "vectors", images=False, labels=False)
    seen = text(report([run]).read_text())
    assert "No pictures (vectors have none)" in seen
    assert "no labels" in seen
    assert "coloured by class" not in seen


@pytest.mark.parametrize("labelled", [True, False])
def test_an_embedding_is_drawn_where_there_is_one(quick, tmp_path, labelled):
    run = write_run(tmp_path / "vae", images=False)
    assert "Codes in the plane" not in text(report([run]).read_text())
    plane = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    found = {"pca": plane, "pca-explained": np.array([0.3, 0.125]), "rows": np.arange(50)}
    found |= {"labels": np.arange(50) % 10} if labelled else {}
    save(run / "evaluation" / "step-130" / "embedding.safetensors", found)
    assert "t-SNE keeps" not in text(report([run]).read_text())
    save(run / "evaluation" / "step-130" / "embedding.safetensors", found | {"tsne": plane})
    seen = text(report([run]).read_text())
    coloured = ", coloured by class" * labelled
    assert f"Codes in the plane: 50 codes by the metric “embedding”{coloured}. t-SNE keeps neighbours" in seen
    assert (run / "figures" / "embedding.png").is_file()


@pytest.mark.parametrize(
    "gone",
    ["config.yaml", "state.json", "environment.json", "metrics.jsonl", "timing.jsonl", "scores.json", "evaluation"],
)
def test_any_missing_piece_leaves_a_page(quick, tmp_path, gone):
    run = write_run(tmp_path / "vae", images=False)
    shutil.rmtree(run / gone) if (run / gone).is_dir() else (run / gone).unlink()
    assert "vae" in text(report([run]).read_text())


@pytest.mark.parametrize("name", ["pictures", "codes-test", "examples"])
def test_a_torn_array_file_leaves_a_page(quick, tmp_path, name):
    run = write_run(tmp_path / "vae", images=False)
    (run / f"evaluation/step-130/{name}.safetensors").write_bytes(b"\x10")
    assert "elboroom evaluate vae" in text(report([run]).read_text())


def test_torn_lines_and_foreign_values_in_metrics(tmp_path):
    run = write_run(tmp_path / "vae", evaluated=False)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"split": "test", "step": 143, "epoch": 11, "loss": NaN, "rate": Infinity}\n{"split": "tr')
    seen = text(report([run]).read_text())
    assert "1 line of metrics.jsonl cannot be read" in seen


@pytest.mark.parametrize("name", ["config.yaml", "state.json", "scores.json", "environment.json"])
def test_unreadable_files_are_told(quick, tmp_path, name):
    run = write_run(tmp_path / "vae", images=False)
    (run / name).write_text("{: [")
    (run / "evaluation/step-130/scores.json").unlink()
    assert name in text(report([run]).read_text())


def test_codes_that_are_not_finite_are_counted(quick, tmp_path):
    run = write_run(tmp_path / "vae", images=False)
    z = np.random.default_rng(0).normal(size=(50, 3))
    z[:7] = np.nan
    save(run / "evaluation/step-130/codes-test.safetensors", {"z": z, "labels": np.arange(50) % 3})
    assert "7 codes are not finite" in text(report([run]).read_text())


def test_one_latent_dimension_and_an_autoencoder(tmp_path):
    run = write_run(tmp_path / "ae", config(**AUTOENCODER), latent=1)
    assert "this model has no prior" in text(report([run]).read_text())


def test_captions_name_the_prior_that_was_drawn_from(tmp_path):
    run = write_run(tmp_path / "run", config(model={"prior": {"kind": "mixture"}}))
    seen = text(report([run]).read_text())
    assert "draws from the mixture prior" in seen
    assert "the prior N(0, 1)" not in seen


@pytest.mark.parametrize(("make", "told"), [(True, "neither a run nor a study"), (False, "no such folder")])
def test_a_folder_that_is_neither_is_refused(tmp_path, make, told):
    folder = tmp_path / "photos"
    if make:
        folder.mkdir()
    with pytest.raises(InputError, match=told):
        report([folder])
    with pytest.raises(InputError, match="no folder"):
        report([])


def test_runs_side_by_side_under_their_names(quick, tmp_path):
    """Equal names with other configurations are told apart by folder; other seeds are one row."""
    write_run(tmp_path / "one", config(), images=False, seed=0)
    write_run(tmp_path / "two", config(), images=False, seed=1)
    page = report([tmp_path / "one", tmp_path / "two"], tmp_path / "pages" / "x.html", title="Two")
    assert page == tmp_path / "pages" / "x.html"
    html = page.read_text()
    assert "<h1>Two</h1>" in html
    assert re.search(r"<th scope=\"row\">vae<.*?<td class=\"n\">2</td>", html, flags=re.DOTALL)
    write_run(tmp_path / "two", config(objective={"kind": "elbo", "beta": 4}), images=False, seed=1)
    html = report([tmp_path / "one", tmp_path / "two"]).read_text()
    assert labels(html) == ["vae (one)", "vae (two)"]
    assert (tmp_path / "report.html").is_file()


def labels(html: str) -> list[str]:
    """The rows of the table at the top."""
    top = html.partition("</table>")[0]
    return re.findall(r"<th scope=\"row\">([^<]*)", top)


def test_runs_of_other_configurations_are_no_seeds_of_a_row(quick, tmp_path):
    """Two studies of one name, and two runs of one seed, were once averaged; a folder given twice counted twice."""
    for name, epochs in (("a", 10), ("b", 12)):
        write_run(tmp_path / name / "vae/seed-0", config(training={"epochs": epochs}), images=False)
        write_study(tmp_path / name, [("vae", {"seed": 0}, "done")])
    html = report([tmp_path / "a", tmp_path / "b"], tmp_path / "x.html").read_text()
    assert labels(html) == ["demo / vae (a/vae/seed-0)", "demo / vae (b/vae/seed-0)"]
    assert labels(report([tmp_path / "a", tmp_path / "b" / ".." / "a"], tmp_path / "x.html").read_text()) == ["vae"]
    shutil.copytree(tmp_path / "a/vae/seed-0", tmp_path / "a/vae/copy")
    runs = [tmp_path / "a/vae/seed-0", tmp_path / "a/vae/copy"]
    assert labels(report(runs, tmp_path / "x.html").read_text()) == ["vae (seed-0)", "vae (copy)"]


def test_a_run_that_was_not_begun_and_runs_that_start_from_others_are_seeds(quick, tmp_path):
    for seed in (0, 1):
        start = str(tmp_path / f"vae/seed-{seed}")
        write_run(tmp_path / f"on/seed-{seed}", config(init_from=start), images=False, seed=seed)
    write_study(tmp_path, [("on", {"seed": seed}, "done") for seed in (0, 1, 2)])
    assert labels(report([tmp_path]).read_text()) == ["on"]


def test_a_listed_folder_outside_the_study_is_not_read(quick, tmp_path):
    write_run(tmp_path / "outside", images=False)
    entry = {"variant": "sly", "axes": {"seed": 0}, "folder": "../outside", "status": "done", "error": None}
    study = write_study(tmp_path / "study", [], runs=[entry])
    seen = text(report([study]).read_text())
    assert "lies outside" in seen
    assert not (tmp_path / "outside/figures").exists()


def test_a_figure_that_would_be_written_elsewhere_or_is_none_is_told(quick, tmp_path):
    """`name: ../../x` once wrote outside of the study, and a figure without its fields ended the report."""
    write_run(tmp_path / "study/vae/seed-0", images=False)
    good, bad = {"name": "fine", "kind": "codes", "by_epoch": {}}, {"name": "../../sly", "kind": "codes"}
    for figures_of in ([good, bad, {"name": "short"}, "codes"], "none", {"name": "x"}):
        study = write_study(tmp_path / "study", [("vae", {"seed": 0}, "done")], config={"figures": figures_of})
        seen = text(report([study]).read_text())
        assert "It is left out." in seen
    assert not list(tmp_path.glob("*.png"))
    study = write_study(tmp_path / "study", [("vae", {"seed": 0}, "done")], config={"figures": [good, bad]})
    assert re.search(r"Figure 2 of study.yaml: name: .* &#39;../../sly&#39;", report([study]).read_text())
    assert (study / "figures/fine.png").is_file()


def test_time_adds_up_over_a_resumed_run(tmp_path):
    run = write_run(tmp_path / "vae", evaluated=False)
    seconds = [10, 20, 5, 12]
    (run / "timing.jsonl").write_text("".join(json.dumps({"seconds": s}) + "\n" for s in seconds))
    assert read_run(run).seconds == 32


def test_the_report_never_loads_torch():
    code = (
        "import sys, elboroom.report; assert 'torch' not in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("checkpoint", "shown"), [("c0ffee", True), ("other", False)])
def test_what_is_to_be_doubted_stands_with_its_run(tmp_path, quick, checkpoint, shown):
    """A note on numbers of other weights is none on these."""
    run = write_run(tmp_path / "run")
    content = {"format": 1, "checkpoint": checkpoint, "notes": {"nll": "not converged: it still falls.", "mpd": "?"}}
    (run / "evaluation" / "step-130" / "notes.json").write_text(json.dumps(content))
    assert ("nll: not converged: it still falls." in text(report([run]).read_text())) == shown
    assert read_run(run).doubts == (["nll: not converged: it still falls."] if shown else [])


@pytest.mark.parametrize(("name", "shown"), [("nll/train", True), ("nll/valid", False), ("nll/test", False)])
def test_what_is_to_be_doubted_of_another_split_is_said_by_its_own_name(tmp_path, name, shown):
    run = write_run(tmp_path / "run", scores=[score("nll", 93.0, split="train")])
    content = {"format": 1, "checkpoint": "c0ffee", "notes": {name: "crossed"}}
    (run / "evaluation" / "step-130" / "notes.json").write_text(json.dumps(content))
    assert read_run(run).doubts == ([f"{name}: crossed"] if shown else [])


def test_a_run_without_a_trained_encoder_is_not_asked_for_codes(tmp_path):
    settings = config(objective="monte-carlo-em", companion=None)
    unread = read_run(write_run(tmp_path / "new", settings, evaluated=False))
    assert missing(unread) == ["No scores and pictures yet: `elboroom evaluate new --metrics marginal` writes them."]
    assert "not evaluated yet" in absent(unread)[""]
    folder = write_run(tmp_path / "run", settings, scores=[])
    (folder / "evaluation" / "step-130" / "codes-test.safetensors").unlink()
    run = read_run(folder)
    assert missing(run) == ["No scores: `elboroom evaluate run --metrics marginal` writes them."]
    assert "not evaluated yet" not in str(absent(run))
    assert "--metrics marginal" in absent(run)[""]


@pytest.mark.parametrize("content", ["[1]", "{", '{"notes": 3}', '{"notes": {"nll": "x"}}'])
def test_notes_that_are_none_are_passed_over(tmp_path, content):
    run = write_run(tmp_path / "run")
    (run / "evaluation" / "step-130" / "notes.json").write_text(content)
    assert read_run(run).doubts == []


def test_nothing_is_said_of_weights_that_no_file_names(tmp_path):
    """Kept results have no evaluation folder: the evaluated checkpoint may be the best one, not the last."""
    lines = [{"split": "train", "step": s, "epoch": s, "examples": 10} for s in (1, 2)]
    kept = RunFolder(path=tmp_path, variant="vae", metrics=lines)
    assert kept.trained() == (2, 20)
    assert kept.shown_after is None
    (tmp_path / "evaluation" / "step-1").mkdir(parents=True)
    assert RunFolder(path=tmp_path, variant="vae", metrics=lines).shown_after == (1, 10)


def test_codes_kept_at_half_precision_have_their_spread(tmp_path):
    """σ = 3 in 10,000 codes: their squares add up to 90,000, beyond the largest half."""
    z = np.random.default_rng(0).normal(0, 3, (10_000, 1))
    run = write_run(tmp_path / "run")
    save(run / "evaluation" / "step-130" / "codes-test.safetensors", {"z": z.astype(np.float16)})
    codes = read_run(run).tensors("codes-test")["z"]
    assert codes.dtype == np.float32
    title = figures.histograms(codes).axes[0].get_title(loc="left")
    assert title.endswith(f"σ {z.std():.2f}")

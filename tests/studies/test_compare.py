"""Side by side: who is ranked with whom, why others are not, and what the differences are worth."""

import csv
import dataclasses
import json
import math
import re
import shutil
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from elboroom import cli, scores
from elboroom.errors import InputError
from elboroom.evaluation.comparison import paired_bootstrap
from elboroom.scores import Protocol, Score
from elboroom.studies import compared
from elboroom.studies.compare import Row, compare, difference, ranked
from elboroom.studies.kept import Kept, read, study_of, values_of

QUICK = {"resamples": 200}


@pytest.fixture
def elboroom(capsys, monkeypatch):
    """The command line: exit code, output, errors."""

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["elboroom", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return called


def by_name(found):
    return {c.name: c for c in found}


def test_a_grey_row_is_refused_beside_a_binarized_one(four_kept, elboroom):
    code, out, _ = elboroom("compare", four_kept, "--scores", "distortion,elbo", "--resamples", "200")
    assert code == 0
    reason = "likelihood: grey-bce against bernoulli"
    assert f"Not ranked with the first rows (binarization: none against dynamic, seed 0; {reason})" in out
    assert "Without elbo: grey: has bound/grey-bce = " in out
    assert reason in out.split("Without elbo: grey")[1].splitlines()[0]
    first = out.split("Not ranked")[0]
    assert "vae" in first
    assert "mu" in first
    assert "grey " not in first


def test_rows_are_ranked_within_a_protocol_only(four_kept):
    found = by_name(compare([four_kept], **QUICK))
    assert list(found)[:2] == ["elbo", "nll"]
    groups = found["distortion"].groups
    assert [{r.label for r in g.rows} for g in groups] == [{"vae", "mu"}, {"grey"}, {"squared"}]
    assert [r.rank for r in groups[0].rows] == [1, 2]
    assert groups[0].rows[0].value < groups[0].rows[1].value
    assert [r.rank for g in groups[1:] for r in g.rows] == [None, None]
    assert groups[0].apart == ""
    assert all("likelihood" in g.apart for g in groups[1:])
    assert found["rate"].groups[0].rows[0].rank is None  # neither direction is better


def test_rows_that_have_nothing_are_named_once(four_kept):
    (found,) = compare([four_kept], ["bound/grey-bce"], **QUICK)
    assert found.absent == ["vae; mu; squared: not measured"]


def test_seeds_that_diverged_are_told(four, tmp_path):
    """The mean of what is left of a model that often diverges is not that of the others."""
    for row in json.loads((four / "study.json").read_text())["runs"]:
        place = tmp_path / row["folder"]
        place.mkdir(parents=True)
        for name in ("config.yaml", "scores.json"):
            shutil.copyfile(four / row["folder"] / name, place / name)
    listed = json.loads((four / "study.json").read_text())
    for row in listed["runs"]:
        if row["folder"] in ("mu/seed-1", "grey/seed-0", "grey/seed-1"):
            row["status"] = "diverged"
            (tmp_path / row["folder"] / "scores.json").unlink()
    (tmp_path / "study.json").write_text(json.dumps(listed))
    (found,) = compare([tmp_path], ["elbo"], **QUICK)
    remarks = {row.label: row.remarks for row in found.groups[0].rows}
    assert remarks == {"vae": "", "mu": "1 of 2 seeds: 1 diverged, no bound (mu)"}
    assert found.absent == ["grey: diverged"]


def test_intervals_are_those_of_the_values(four_kept):
    """The same as from the arrays by hand: two seeds a row, the bound as minus distortion minus rate."""
    group = by_name(compare([four_kept], **QUICK))["elbo"].groups[0]
    rows = {}
    for row in group.rows:
        found = [load_file(four_kept / "runs" / row.label / f"seed-{s}" / "examples.safetensors") for s in row.seeds]
        rows[row.label] = np.stack([-f["distortion"].astype(float) - f["rate"].astype(float) for f in found])
    assert group.pairs == paired_bootstrap(rows, **QUICK)
    assert "seeds are resampled too" in group.how
    best, other = group.rows
    d = group.against_best(other)
    assert (d.first, d.second) == (other.label, best.label)
    assert d.value == pytest.approx(other.value - best.value, abs=1e-4)
    assert d.low <= d.value <= d.high < math.inf


def test_what_was_trained_is_said(four_kept):
    rows = {r.label: r for r in by_name(compare([four_kept], **QUICK))["elbo"].groups[0].rows}
    assert rows["mu"].remarks == "no bound (mu)"
    assert rows["vae"].remarks == ""


def test_every_kind_of_score_per_example_is_found(four_kept):
    """Also accuracies, and the constant that squared error leaves out: (64 / 2) ln π = 36.6 nats for digits."""
    for run in read(four_kept):
        kept = {s.name for s in run.scores if values_of(s, run) is not None}
        assert kept == {s.name for s in run.scores} - {"active-units", "nll/bound/1", "nll/low-share"}
        if run.variant == "squared":
            elbo = next(s for s in run.scores if s.name == "elbo")
            total = -run.examples["distortion"] - run.examples["rate"]
            np.testing.assert_allclose(values_of(elbo, run) - total, -32 * math.log(math.pi), rtol=1e-4)


def test_a_study_a_run_and_results_give_the_same(four, four_kept):
    """float32 in the results, float64 in the study."""
    one, other = (by_name(compare([f], ["nll"], **QUICK))["nll"].groups[0] for f in (four, four_kept))
    assert [r.label for r in one.rows] == [r.label for r in other.rows]
    np.testing.assert_allclose([d.low for d in one.pairs], [d.low for d in other.pairs], rtol=1e-4, atol=1e-4)
    runs = compare([four / "vae" / "seed-0", four / "mu" / "seed-0"], ["nll"], **QUICK)[0].groups[0]
    assert {r.label for r in runs.rows} == {"vae", "mu"}
    assert "one seed: says nothing about training noise" in runs.how


def test_seeds_of_one_configuration_are_one_row_and_a_copy_of_a_run_is_no_second_seed(four, tmp_path):
    folders = [four / "vae" / "seed-0", four / "vae" / "seed-1", four / "mu" / "seed-0"]
    group = compare(folders, ["elbo"], **QUICK)[0].groups[0]
    rows = group.rows
    assert {r.label: r.seeds for r in rows} == {"vae": ["0", "1"], "mu": ["0"]}
    assert "one seed (mu): held to vary as the rows of several seeds do" in group.how
    assert "three or more tell more" in group.how
    with pytest.raises(InputError, match="1 of 1 models have scores"):  # the same folder by another path
        compare([folders[0], folders[0].parent / ".." / "vae" / "seed-0"], ["elbo"], **QUICK)
    shutil.copytree(folders[0], tmp_path / "seed-0")
    again = compare([folders[0], tmp_path / "seed-0"], ["elbo"], **QUICK)[0].groups[0]
    assert len(again.rows) == 2
    assert (again.pairs[0].value, again.pairs[0].real) == (0, False)


def test_a_seed_of_an_older_version_and_one_that_was_not_begun_are_seeds(four, tmp_path):
    """An older config.yaml lacks the fields that were added since, and once made each seed a model of its own."""
    shutil.copytree(four / "vae", tmp_path / "vae")
    shutil.copytree(four / "mu", tmp_path / "mu")
    path = tmp_path / "vae/seed-1/config.yaml"
    path.write_text(path.read_text().replace("  mean_image: false\n", ""))
    rows = [{"variant": v, "axes": {"seed": s}, "folder": f"{v}/seed-{s}"} for v in ("vae", "mu") for s in (0, 1, 2)]
    (tmp_path / "study.json").write_text(json.dumps({"format": 1, "name": "s", "runs": rows}))
    compared = compare([tmp_path], ["elbo"], **QUICK)[0].groups[0].rows
    assert sorted((r.label, r.seeds) for r in compared) == [("mu", ["0", "1"]), ("vae", ["0", "1"])]


def test_values_of_another_evaluation_are_not_taken(four_kept, tmp_path):
    """The NLL with 3 samples stands beside, but the values on disk are those with 2."""
    shutil.copytree(four_kept, tmp_path / "k")
    (run,) = [r for r in read(tmp_path / "k") if (r.variant, r.seed) == ("vae", 0)]
    nll = next(s for s in run.scores if s.name == "nll")
    other = dataclasses.replace(nll, value=nll.value - 0.1, protocol=dataclasses.replace(nll.protocol, samples=3))
    (run.path / "scores.json").write_text(scores.dump([*run.scores, other]))
    again = next(r for r in read(tmp_path / "k") if r.path == run.path)
    assert values_of(nll, again) is not None
    assert values_of(other, again) is None
    groups = compare([tmp_path / "k"], ["nll"], **QUICK)[0].groups
    assert "samples: 3 against 2" in [g.apart for g in groups]


def test_rows_without_values_are_ranked_without_intervals(four_kept, tmp_path):
    shutil.copytree(four_kept, tmp_path / "k")
    for path in (tmp_path / "k").rglob("examples.safetensors"):
        path.unlink()
    group = compare([tmp_path / "k"], ["elbo"])[0].groups[0]
    assert [r.rank for r in group.rows] == [1, 2]
    spread = "± is the standard error of the mean over seeds"
    assert (group.pairs, group.how) == ([], f"{spread}; no intervals: no values per example are kept for these scores")


@pytest.mark.parametrize("suffix", [".csv", ".json", ".md", ".html"])
def test_written_in_every_form(four_kept, tmp_path, elboroom, suffix):
    out = tmp_path / f"c{suffix}"
    code, said, _ = elboroom("compare", four_kept, "--scores", "elbo,nll", "--resamples", "200", "--out", out)
    assert code == 0
    assert said.endswith(f"written: {out}\n")
    text = out.read_text()
    if suffix == ".csv":
        rows = list(csv.DictReader(text.splitlines()))
        assert {(r["score"], r["model"]) for r in rows if r["rank"] == "1"} <= {(r["score"], r["model"]) for r in rows}
        found = by_name(compare([four_kept], ["elbo", "nll"], **QUICK))
        assert [float(r["mean"]) for r in rows] == [r.value for c in found.values() for g in c.groups for r in g.rows]
    elif suffix == ".json":
        content = json.loads(text)
        assert content["format"] == 1
        pair = content["scores"][0]["groups"][0]["pairs"][0]
        assert {pair["first"], pair["second"]} == {"vae", "mu"}
        assert pair["low"] <= pair["difference"] <= pair["high"]
    else:
        assert {".md": "| rank | model |", ".html": "<th>rank</th><th>model</th>"}[suffix] in text
        assert "vae" in text


def test_text_is_made_safe_for_html(four_kept):
    found = compare([four_kept], ["elbo"], **QUICK)
    row = dataclasses.replace(found[0].groups[0].rows[0], label="<script>")
    group = dataclasses.replace(found[0].groups[0], rows=[row], pairs=[])
    page = compared.as_html([dataclasses.replace(found[0], groups=[group])])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


BAD = {
    "absent": ("no such folder", ("nowhere",)),
    "no run": ("neither a run, a study nor kept results", (".",)),
    "one model": ("1 of 1 models have scores. Name another folder beside it", ("KEPT/runs/vae/seed-0",)),
    "score": ("unknown score 'elb'.*Did you mean 'elbo'", ("KEPT", "--scores", "elb")),
    "suffix": ("unknown output suffix.*known: .csv, .json, .md, .html", ("KEPT", "--out", "x.pdf")),
    "resamples": ("--resamples must be at least 100", ("KEPT", "--resamples", "1")),
    "nothing": ("no folder given|required", ()),
}


@pytest.mark.parametrize(("message", "arguments"), BAD.values(), ids=BAD)
def test_bad_input_is_told_with_code_2(four_kept, tmp_path, monkeypatch, elboroom, message, arguments):
    monkeypatch.chdir(tmp_path)
    code, _, err = elboroom("compare", *(a.replace("KEPT", str(four_kept)) for a in arguments))
    assert code == 2
    assert re.search(message, err)


def test_torn_values_are_told(four_kept, tmp_path):
    shutil.copytree(four_kept, tmp_path / "k")
    (tmp_path / "k" / "runs" / "vae" / "seed-0" / "examples.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"examples\.safetensors: no safetensors file"):
        compare([tmp_path / "k"], ["elbo"], **QUICK)


HELD = Protocol(data="d", split="test", rows="r", binarization="none", likelihood="bernoulli")


def row(label, *values):
    found = [Score(name="s", value=v, unit="", better="higher", examples=3, protocol=HELD) for v in map(float, values)]
    return Row(label=label, seeds=[str(i) for i in range(len(values))], scores=found)


def test_mean_and_error_over_seeds():
    """1, 2, 6: mean 3, standard deviation sqrt(7), error sqrt(7 / 3)."""
    assert row("a", 1, 2, 6).value == 3
    assert row("a", 1, 2, 6).stderr == pytest.approx(math.sqrt(7 / 3))


def test_what_is_no_number_comes_last_and_has_no_rank():
    rows = ranked([row("nan", math.nan), row("low", 1), row("high", 2), row("seeds", 3, math.inf)], "higher")
    assert [(r.label, r.rank) for r in rows] == [("high", 1), ("low", 2), ("nan", None), ("seeds", None)]
    assert [r.label for r in ranked([row("b", 2), row("a", 1)], "lower")] == ["a", "b"]


def test_other_data_explains_other_rows():
    other = dataclasses.replace(HELD, data="e", rows="s", copies=5)
    assert difference(other, HELD) == "data: e against d; copies: 5 against 1"
    assert difference(dataclasses.replace(HELD, rows="s", code="z"), HELD) == "rows: s against r; code: z against none"


def test_arrays_of_all_runs_have_one_length(four_kept, tmp_path):
    """A file of other length than the score says is not taken for its values."""
    shutil.copytree(four_kept, tmp_path / "k")
    path = tmp_path / "k" / "runs" / "vae" / "seed-0" / "examples.safetensors"
    arrays = {k: np.ascontiguousarray(v[:-1]) for k, v in load_file(path).items()}
    save_file(arrays, path)
    group = compare([tmp_path / "k"], ["elbo"], **QUICK)[0].groups[0]
    assert group.pairs == []


@pytest.mark.parametrize("older", [False, True])
def test_values_of_probes_are_percent_and_older_files_of_zeros_and_ones_too(tmp_path, older):
    held = dataclasses.replace(HELD, code="mean", labels="all", scaling="raw", estimator="neighbours; ± deviation")
    right = np.array([1.0, 0.0, 1.0, 1.0], dtype=np.float32)
    score = Score(name="probe/knn", value=75.0, unit="%", better="higher", examples=4, protocol=held)
    kept = {"probe/knn/mean/all/raw": right} if older else {score.examples_name: 100 * right}
    save_file(kept, tmp_path / "examples.safetensors")
    run = Kept(path=tmp_path, variant="vae")
    assert values_of(score, run).tolist() == [100.0, 0.0, 100.0, 100.0]
    other = dataclasses.replace(score, value=50.0, protocol=dataclasses.replace(held, estimator="others; ± deviation"))
    assert values_of(other, run) is None


@pytest.mark.parametrize(
    "content", [None, "{}", "torn", '{"runs": null}', '{"runs": [{}]}', '{"runs": [{"folder": "other/seed-0"}]}']
)
def test_a_run_is_of_the_study_that_lists_it(four, four_kept, tmp_path, content):
    assert study_of(four / "vae" / "seed-0") == four.resolve()
    assert study_of(four_kept / "runs" / "mu" / "seed-1") == four_kept.resolve()
    assert study_of(four / "another" / "seed-0") is None
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    assert study_of(tmp_path / "vae" / "seed-0") is None

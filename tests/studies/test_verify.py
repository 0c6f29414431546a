"""What agrees is passed, and a number that was changed is named: which file, which score, what it should be."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from elboroom import cli, scores
from elboroom.config.files import parse_yaml, run_from, to_yaml
from elboroom.config.study import Study
from elboroom.errors import InputError
from elboroom.report import report
from elboroom.report.check import shows, wrong_headline, wrong_numbers
from elboroom.scores import Protocol, Score
from elboroom.studies import study as studies
from elboroom.studies.kept import Kept
from elboroom.studies.recompute import from_training, from_weights
from elboroom.studies.results import collect
from elboroom.studies.verify import arithmetic, other_axes

RUN = Path("runs/vae/seed-0")
COMMITTED = sorted((Path(__file__).parents[2] / "results").glob("*/ledger.json"))


@pytest.fixture
def kept(four_kept, tmp_path):
    """A copy of the results, to be changed."""
    return shutil.copytree(four_kept, tmp_path / "kept")


@pytest.fixture
def old(kept):
    """The same as an older version kept it: no hashes, no scores in the ledger."""
    ledger = json.loads((kept / "ledger.json").read_text())
    for name in ("files", "seal"):
        del ledger[name]
    for row in ledger["runs"]:
        del row["scores"]
    (kept / "ledger.json").write_text(json.dumps(ledger))
    return kept


def said(folder):
    return [str(f) for f in arithmetic(folder).findings]


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, indent=1) + "\n")


def edit_score(folder, name, **fields):
    def change(content):
        next(s for s in content["scores"] if s["name"] == name).update(fields)

    edit_json(folder / RUN / "scores.json", change)


def edit_array(folder, name):
    path = folder / RUN / "examples.safetensors"
    arrays = {k: v.copy() for k, v in load_file(path).items()}
    arrays[name][0] += 1
    save_file(arrays, path)


@pytest.mark.parametrize("ledger", COMMITTED, ids=lambda p: p.parent.name)
def test_committed_results_agree(ledger):
    assert said(ledger.parent) == []
    lines, count = wrong_numbers(ledger.parent)
    assert lines == []
    assert count > 0
    above, means, unread = wrong_headline(ledger.parent)
    assert (above, unread) == ([], "")
    assert means > 0


def test_results_study_and_run_agree(four, four_kept):
    for folder in (four_kept, four, four / "vae" / "seed-0"):
        assert said(folder) == []
        assert wrong_numbers(folder)[0] == []
        assert wrong_headline(folder)[0] == []
    done = " ".join(arithmetic(four_kept).done)
    assert "runs/vae/seed-0/: distortion, rate, elbo, accuracy/z, accuracy/mean, nll" in done
    assert "files have the hashes" in done


def test_edited_value_is_named_with_what_it_should_be(old):
    was = json.loads((old / RUN / "scores.json").read_text())["scores"]
    was = {s["name"]: s["value"] for s in was}
    edit_score(old, "elbo", value=was["elbo"] + 0.01)
    (line,) = said(old)
    assert line.startswith(f"{RUN}/scores.json: elbo is {was['elbo'] + 0.01:.10g}, should be ")
    assert float(re.search(r"should be (\S+)", line)[1]) == pytest.approx(was["elbo"], abs=1e-5)
    assert "examples.safetensors" in line
    assert "tolerance" in line


@pytest.mark.parametrize("record", ["checkpoint.json", "data's name", "none"])
def test_an_edited_bound_of_a_squared_error_is_named(old, record):
    """By a whole dimension: their number was once fitted to the score under test."""
    run = old / "runs/squared/seed-0"
    if record != "checkpoint.json":
        (run / "checkpoint.json").unlink()
    if record == "none":
        config = run / "config.yaml"
        config.write_text(config.read_text().replace("name: digits", "name: none-such"))
        (run / "state.json").unlink()  # else it tells of that edit
        assert any("runs/squared/seed-0/: no values per example of elbo" in gap for gap in arithmetic(old).gaps)
        return
    assert said(old) == []
    edit_json(run / "scores.json", lambda c: c["scores"][2].update(value=c["scores"][2]["value"] + np.log(np.pi) / 2))
    (line,) = said(old)
    assert line.startswith("runs/squared/seed-0/scores.json: elbo is ")


def test_checkpoints_that_are_gone_or_named_wrongly(four, four_kept, tmp_path):
    """Kept results have none, and go on as they are."""
    copy = shutil.copytree(four / "vae" / "seed-0", tmp_path / "run")
    (copy / "checkpoints" / "last").write_text("step-abc\n")
    (line,) = said(copy)
    assert line.startswith("checkpoints/last: it should name a checkpoint such as step-100, and says 'step-abc'")
    (copy / "checkpoints" / "last").write_text("step-999\n")
    assert said(copy) == ["checkpoints/last: names step-999, which is not there"]
    shutil.rmtree(copy / "checkpoints")
    assert any("no checkpoint is left" in gap for gap in arithmetic(copy).gaps)
    for folder in (four, four_kept, four_kept / RUN):
        assert not any("no checkpoint" in gap for gap in arithmetic(folder).gaps)


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("nll", {"stderr": 0.1}, "standard error of nll is 0.1, should be"),
        ("rate", {"examples": 299}, "number of examples of rate is 299, should be 300"),
        ("accuracy/z", {"value": 99.0}, "accuracy/z is 99, should be"),
        ("nll", {"value": None}, "scores.json"),
    ],
)
def test_other_edits_of_scores(old, name, fields, expected):
    edit_score(old, name, **({"value": float("nan")} if fields == {"value": None} else fields))
    assert any(expected in line for line in said(old))


def test_edited_protocol_points_at_other_weights(old):
    text = (old / RUN / "scores.json").read_text()
    checkpoint = json.loads(text)["scores"][0]["protocol"]["checkpoint"]
    (old / RUN / "scores.json").write_text(text.replace(checkpoint, "0" * 12, 1))
    assert any("distortion: measured on the weights 000000000000" in line for line in said(old))


@pytest.mark.parametrize("name", ["distortion", "nll", "effective-samples", "accuracy/mean", "rate-by-dimension"])
def test_edited_value_of_an_example(old, name):
    edit_array(old, name)
    lines = said(old)
    assert lines
    assert all("examples.safetensors" in line for line in lines)


def test_score_without_values_is_covered_by_the_ledger(kept):
    edit_score(kept, "active-units", value=7.0)
    lines = said(kept)
    assert any(
        re.search(r"runs/vae/seed-0/scores\.json: active-units is 7, should be \d as ledger\.json", x) for x in lines
    )
    assert any("scores.json: its sha256 is" in line for line in lines)


def test_without_hashes_the_page_still_tells(old):
    """The active units of an older version: no values, no record, but the page shows them."""
    edit_score(old, "active-units", value=7.0)
    assert said(old) == []
    (line,) = wrong_numbers(old)[0]
    assert re.match(r"vae, seed 0: shows active-units = \d units, should be active-units = 7 units", line)


def test_edited_page_is_named(kept):
    page = kept / "report.html"
    text = page.read_text()
    cell = re.search(r'<th scope="row">elbo</th><td class="n">([^<]*)</td>', text)
    page.write_text(text.replace(cell[0], cell[0].replace(cell[1], "−1.00 ± 0.10 nats"), 1))
    assert wrong_numbers(kept)[0][0].startswith("vae, seed 0: shows elbo = −1.00 ± 0.10 nats, should be elbo = ")
    assert any(line.startswith("report.html: its sha256") for line in said(kept))


def test_edited_table_at_the_top_is_named(kept):
    page = kept / "report.html"
    text = page.read_text()
    cell = re.search(r'<td class="n">(?:<b>)?−([\d.]+)', text)
    page.write_text(text.replace(cell[0], cell[0].replace(cell[1], "1.00"), 1))
    assert wrong_numbers(kept)[0] == []
    (line,) = wrong_headline(kept)[0]
    assert re.match(r"\w+: its table at the top shows −1\.00 \([±\d. ]+\), should be −\d", line)


def test_a_renamed_run_is_still_that_of_its_page(four, tmp_path):
    """A run without a name of its own is called by its folder."""
    copy = shutil.copytree(four / "vae" / "seed-0", tmp_path / "before")
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("name: vae\n", "name: run\n"))
    report([copy])
    copy = copy.rename(tmp_path / "after")
    assert wrong_numbers(copy)[0] == []
    wrong, count, unread = wrong_headline(copy)
    assert (wrong, unread) == ([], "")
    assert count > 0


def test_a_page_of_another_shape_is_said_to_be_unread(kept):
    page = kept / "report.html"
    page.write_text(page.read_text().replace('<th scope="row">vae', '<th scope="row">other', 1))
    assert wrong_headline(kept) == (
        [],
        0,
        "the tables at its top have other rows or columns than this version would give them: not read",
    )


LEDGER = {
    "seconds": (lambda c: c["runs"][0].update(seconds=1.0e6), "seconds of runs/vae/seed-0 is 1000000.0, should be"),
    "commit": (lambda c: c["runs"][0].update(commit="abc"), "commit of runs/vae/seed-0 is 'abc', should be"),
    "checkpoint": (lambda c: c["runs"][0].update(checkpoint="abc"), "should be abc as ledger.json says"),
    "axes": (lambda c: c["runs"][0]["axes"].update(seed=7), "seed is 0, should be 7 as the study lists the run"),
    "variant": (lambda c: c["runs"][0].update(variant="x"), "as study.json says"),
    "study": (lambda c: c.update(study="x"), "study is 'x', should be 'four'"),
}
STUDY = {
    "status": (lambda c: c["runs"][0].update(status="diverged"), "vae/seed-0 is 'diverged', should be 'done'"),
    "published": (lambda c: c.update(published=[{"elbo": 1}]), "published is .*, should be .* as study.yaml says"),
    "axes": (lambda c: c["runs"][0]["axes"].update(seed=7), "as study.json says"),
}


@pytest.mark.parametrize(("change", "expected"), LEDGER.values(), ids=LEDGER)
def test_edited_ledger(old, change, expected):
    edit_json(old / "ledger.json", change)
    assert any(re.search(expected, line) for line in said(old))


@pytest.mark.parametrize(("change", "expected"), STUDY.values(), ids=STUDY)
def test_edited_study(old, change, expected):
    edit_json(old / "study.json", change)
    assert any(re.search(expected, line) for line in said(old))


def test_ledger_that_only_its_seal_covers(kept):
    edit_json(kept / "ledger.json", lambda c: c.update(command="another"))
    assert said(kept) == ["ledger.json: its content has another hash than its seal: it was edited"]


def test_edited_weights_and_configuration(old):
    path = old / RUN / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert sum("weights.safetensors" in line for line in said(old)) == 2  # against the scores, and the ledger
    config = old / RUN / "config.yaml"
    config.write_text(config.read_text().replace("batch: 32", "batch: 16"))
    assert any(re.search(r"config\.yaml: has the hash \w+, should be \w+ as", line) for line in said(old))


AXES = {
    "training.optimizer.lr": "1e-3",  # text to YAML 1.1
    "objective": "mu",
    "objective.reading": "A6",
    "objective.variance": "abs",
    "model": "aevb",
}


def test_axes_are_compared_as_what_they_mean(tmp_path):
    """Their values as text, a kind by its name and what is short for other fields were once called wrong."""
    config = run_from({"data": {"name": "digits"}, "model": "aevb", "objective": "mu"})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert other_axes(Kept(path=tmp_path, variant="a", axes=AXES)) == []
    other = AXES | {"training.optimizer.lr": "1e-2", "objective.reading": "A1"}
    found = other_axes(Kept(path=tmp_path, variant="a", axes=other))
    assert found == ["training.optimizer.lr", "objective.reading"]


def test_missing_and_added_files(kept):
    (kept / RUN / "timing.jsonl").unlink()
    (kept / RUN / "more.txt").write_text("x")
    lines = said(kept)
    assert f"{RUN}/timing.jsonl: is missing; ledger.json has its hash" in lines
    assert f"{RUN}/more.txt: is not among the files that ledger.json records" in lines


@pytest.mark.parametrize("file", ["scores.json", "examples.safetensors"])
def test_torn_file_is_a_finding(kept, file):
    (kept / RUN / file).write_bytes(b"{")
    assert any(file in line for line in said(kept))


def test_edited_scores_of_a_study_and_its_run(four, tmp_path):
    copy = shutil.copytree(four, tmp_path / "study")
    path = copy / "mu" / "seed-1" / "scores.json"
    edit_json(path, lambda c: c["scores"][0].update(value=1.0))
    lines = said(copy)
    assert any(line.startswith("mu/seed-1/scores.json: distortion is 1, should be") for line in lines)
    assert any("evaluation/step-" in line and line.startswith("scores.json: distortion") for line in said(path.parent))


def test_scores_come_out_of_the_weights_again(kept):
    before = {p: p.read_bytes() for p in kept.rglob("*") if p.is_file()}
    found = from_weights(kept)
    assert (found.findings, found.reached) == ([], True)
    assert any("vae, seed 0: distortion, rate, elbo, active-units, nll" in line for line in found.done)
    assert any("seed 1: the weights" in line and "not kept" in line for line in found.gaps)
    assert {p: p.read_bytes() for p in kept.rglob("*") if p.is_file()} == before
    edit_score(kept, "active-units", value=7.0)
    (finding,) = from_weights(kept, ["active-units"]).findings
    assert re.match(r"runs/vae/seed-0/scores.json: active-units is 7, should be \d as its weights give", str(finding))


def test_weights_are_kept_in_the_order_of_the_study_as_far_as_they_fit(four, kept, tmp_path, monkeypatch):
    rows = json.loads((kept / "ledger.json").read_text())["runs"]
    first = [kept / row["folder"] / "weights.safetensors" for row in rows if row["weights"]]
    monkeypatch.setattr("elboroom.studies.results.ALL_WEIGHTS", sum(path.stat().st_size for path in first[:2]))
    ledger = collect(four, tmp_path / "less", kept / "report.html", "typed")
    assert [row["variant"] for row in rows if row["weights"]] == ["vae", "mu", "grey", "squared"]
    assert [row["variant"] for row in ledger["runs"] if row["weights"]] == ["vae", "mu"]
    assert len(list((tmp_path / "less").rglob("weights.safetensors"))) == 2


def test_pictures_of_all_runs_are_kept_before_the_codes_of_any(four, kept, tmp_path, monkeypatch):
    pictures = sorted(kept.rglob("pictures.safetensors"))
    monkeypatch.setattr("elboroom.studies.results.ALL_SHOWN", sum(path.stat().st_size for path in pictures))
    collect(four, tmp_path / "less", kept / "report.html", "typed")
    found = sorted(path.relative_to(tmp_path / "less") for path in (tmp_path / "less").rglob("pictures.safetensors"))
    assert found == [path.relative_to(kept) for path in pictures] != []
    assert list((tmp_path / "less").rglob("codes-test.safetensors")) == []
    assert list(kept.rglob("codes-test.safetensors")) != []


def test_draws_of_all_runs_are_kept_before_the_posteriors_of_any(four, kept, tmp_path, monkeypatch):
    pictures = sum(path.stat().st_size for path in kept.rglob("pictures.safetensors"))
    whole = {path.relative_to(kept): load_file(path) for path in kept.rglob("codes-test.safetensors")}
    monkeypatch.setattr("elboroom.studies.results.ALL_SHOWN", pictures + 100_000)  # far more than these codes
    collect(four, tmp_path / "all", kept / "report.html", "typed")
    draws = sum(arrays["z"].nbytes + arrays["labels"].nbytes for arrays in whole.values())
    headers = 500 * len(whole)  # of the files, at most
    monkeypatch.setattr("elboroom.studies.results.ALL_SHOWN", pictures + draws + headers)
    collect(four, tmp_path / "less", kept / "report.html", "typed")
    for name, arrays in whole.items():
        found = load_file(tmp_path / "less" / name)
        assert np.array_equal(found["z"], arrays["z"])
        assert np.array_equal(found["labels"], arrays["labels"])
        assert "mean" not in found
        assert load_file(tmp_path / "all" / name).keys() == arrays.keys() > found.keys()


def test_edited_weights_score_otherwise(kept):
    path = kept / RUN / "weights.safetensors"
    arrays = {k: v + np.float32(0.05) for k, v in load_file(path).items()}
    save_file(arrays, path)
    assert any("elbo is" in str(f) for f in from_weights(kept, ["elbo"]).findings)


def test_weights_of_a_run_folder(four):
    found = from_weights(four / "vae" / "seed-1", ["elbo", "accuracy/z"])
    assert (found.findings, found.gaps) == ([], [])


def test_training_comes_out_again_bit_for_bit(kept):
    found = from_training(kept, "mu/seed-0", ["elbo", "accuracy/z"])
    assert (found.findings, found.reached) == ([], True)
    assert found.done[0] == "mu, seed 0: the weights are the same, bit for bit"
    config = kept / "runs" / "mu" / "seed-0" / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.001", "lr: 0.05", 1))
    other = from_training(kept, "mu/seed-0", ["elbo"])
    assert any("other weights than then" in line for line in other.gaps)
    assert "as training it anew gives" in str(other.findings[0])


def test_missing_data_is_said_and_the_depth_is_not_reached(kept):
    for config in kept.glob("runs/*/*/config.yaml"):
        config.write_text(config.read_text().replace("name: digits", f"name: null\n  path: {kept}/nowhere.npy", 1)
                          .replace("  path: null\n", ""))  # fmt: skip
    found = from_weights(kept)
    assert not found.reached
    assert any("nowhere.npy" in line for line in found.gaps)
    with pytest.raises(InputError, match=r"unknown run of .*known: vae/seed-0"):
        from_training(kept, "vae/seed-9")


def test_at_the_command_line(kept, monkeypatch, capsys):
    def verify(*arguments):
        monkeypatch.setattr(sys, "argv", ["elboroom", "verify", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    code, out, err = verify(kept, "--weights", "--scores", "elbo")
    assert (code, err) == (0, "")
    assert "depths reached: 1, 2 of 3" in out
    assert "all that was checked agrees" in out
    edit_score(kept, "elbo", value=-1.0)
    code, out, err = verify(kept)
    assert code == 2
    assert "runs/vae/seed-0/scores.json: elbo is -1, should be -" in err
    assert "do not agree" in out
    code, _, err = verify(kept / "nowhere")
    assert code == 2
    assert "no such folder" in err


HELD = Protocol(data="d", split="test", rows="r", binarization="none", likelihood="bernoulli")


@pytest.mark.parametrize(
    ("text", "value", "stderr", "same"),
    [
        ("−102.50 ± 0.30 nats", -102.499, 0.3029, True),
        ("−102.50 ± 0.30 nats", -102.51, 0.3029, False),
        ("−102.50 ± 0.30 nats", -102.499, 0.31, False),
        ("−13,707.1 ± 10.2 nats", -13707.137, 10.2, True),
        ("−102.50 nats", -102.499, None, True),
        ("−102.50 nats", -102.499, 0.3, False),
        ("NaN nats", float("nan"), None, True),
        ("−∞ nats", float("-inf"), None, True),
        ("NaN nats", 1.0, None, False),
    ],
)
def test_printed_numbers_are_read_to_their_last_digit(text, value, stderr, same):
    score = Score(name="s", value=value, unit="nats", better="", stderr=stderr, examples=2, protocol=HELD)
    assert shows(text, score) is same


@pytest.mark.parametrize("names", [[], ["nll/bracket/high"]], ids=str)
def test_what_was_asked_for_along_the_training_comes_out_again(small_base, tmp_path, names):
    """Monte Carlo EM has no other scores; one of them says importance sampling, and does not come with the NLL."""
    base = small_base | {"objective": {"kind": "monte-carlo-em", "leapfrog": 2, "burn_in": 2}}
    along = [{"kind": "marginal", "images": 4, "samples": 8, "burn_in": 4, "leapfrog": 2}]
    study, out = Study(name="sampled", base=base, metrics={"nll": None, "along": along}), tmp_path / "s"
    studies.carry_out(study, out, studies.plan(study, out))
    found = from_weights(out, names)
    assert (found.findings, found.gaps, found.reached) == ([], [], True)
    assert "nll/bracket/high" in found.done[0]


EVERYTHING = """
name: everything
base:
  data: {name: digits, binarize: dynamic, limit: 400, copies: 2}
  model:
    encoder: {kind: mlp, hidden: [32]}
    decoder: {kind: mlp, hidden: [32]}
    posterior: {kind: gaussian, latent: 4}
  companion: {kind: classifier, hidden: [8]}
  training: {epochs: 5, batch: 32, threads: 1}
variants: {vae: {}}
axes: {seed: [0]}
metrics: {also: full, nll: {samples: 20, images: 40}}
"""


@pytest.mark.slow
def test_every_metric_of_the_full_set_comes_out_again_from_the_weights(tmp_path):
    """On digits without a cache, so that controls and classifiers are made anew too; and nothing is left out."""
    study = Study(**parse_yaml(EVERYTHING, "here"))
    studies.carry_out(study, tmp_path / "s", studies.plan(study, tmp_path / "s"))
    found = from_weights(tmp_path / "s")
    assert (found.findings, found.gaps) == ([], [])
    names = {s.name.split("/")[0] for s in scores.load(tmp_path / "s" / "vae" / "seed-0" / "scores.json")}
    assert {"probe", "cluster", "mpd", "mutual-information", "codes", "shuffled-codes", "fd", "confidence"} <= names

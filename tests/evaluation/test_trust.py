"""Whether an NLL can be trusted: the bound on the way, its doubts, and estimates that survive an interruption."""

import dataclasses
import json
import math
from itertools import pairwise

import pytest
import torch
from oracles.configurations import small_run
from oracles.linear_gaussian import examples, linear_gaussian
from oracles.small_data import data_of, run_of

from elboroom import build, scores
from elboroom.config.files import metrics_from
from elboroom.errors import Stopped
from elboroom.evaluation import evaluate
from elboroom.evaluation.likelihood import bound, doubt, evidence, low_share, marks, nll_scores, way_scores
from elboroom.evaluation.outliers import outliers, read_names, worst, write_names
from elboroom.evaluation.partial import Partial
from elboroom.evaluation.subject import Found, Subject
from elboroom.evaluation.views import view
from elboroom.models.evidence import PIECE, Evidence, log_evidence, noise_for
from elboroom.numerics import Randomness
from elboroom.scores import Score
from elboroom.training.checkpoint import unpack

X = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def opened(folder, *, posterior="gaussian", names=None):
    """An opened run on grey images that are binarized twice."""
    config = small_run(posterior=posterior)
    run = run_of(config, build.model(config, (1, 8, 8), "binary").eval(), (1, 8, 8))
    data = data_of(X, binarize="dynamic", copies=2)
    if names:
        data.splits()["test"].names = names
    run.__dict__.update(folder=folder, data=data)
    return run


# The bound on the way


def old_algorithm(model, x, samples):
    """The estimate as it was before there were marks: a piece of noise at a time, sums joined by logaddexp."""
    random, first, count = Randomness(0), None, 0
    with torch.no_grad():
        q, p = model.encoder(x), model.prior(model.encoder)
        for piece in range(0, samples, PIECE):
            noise = noise_for(model, random, list(range(len(x))), piece // PIECE, min(PIECE, samples - piece), 0)
            z, log_qz = q.rsample_with_log_prob(noise)
            ratio = p.log_prob(z) - log_qz
            log_w = (model.decoder(z).log_prob(x) + ratio).double()
            total = torch.logsumexp(log_w, 0)
            first = total if first is None else torch.logaddexp(first, total)
            count += len(log_w)
    return first - math.log(count)


@pytest.mark.parametrize("samples", [1, 100, 300])
def test_the_nll_is_what_it_was_to_the_last_bit(samples):
    oracle = linear_gaussian(shift=0.4)
    x = examples(oracle, 6)
    expected = old_algorithm(oracle.model, x, samples)
    assert torch.equal(log_evidence(oracle.model, x, torch.arange(6), samples).bound, expected)
    assert torch.equal(evidence(oracle.model, view(data_of(x)), samples).bound, expected)


def test_marks():
    assert marks(1) == (1,)
    assert marks(9) == (1,)
    assert marks(1000) == (1, 10, 100, 1000)
    assert marks(5000) == (1, 10, 100, 500, 1000)


def test_the_bound_at_k_is_that_of_k_samples_in_all():
    """Where k is a whole number of pieces, whose noise is the same."""
    oracle = linear_gaussian(shift=0.4)
    x, rows = examples(oracle, 6), torch.arange(6)
    found = log_evidence(oracle.model, x, rows, 3 * PIECE, marks=(1, PIECE, 2 * PIECE))
    for k in (PIECE, 2 * PIECE):
        torch.testing.assert_close(found.along[k], log_evidence(oracle.model, x, rows, k).bound, rtol=0, atol=1e-6)


def test_the_elbo_does_not_depend_on_how_many_samples_are_decoded_at_a_time(monkeypatch, tmp_path):
    """Three samples together, then one by one."""
    run = opened(tmp_path)
    seen = view(run.data)
    whole = bound(run.model, seen, samples=3)
    monkeypatch.setattr("elboroom.evaluation.likelihood.BYTES", 1)
    parts = bound(run.model, seen, samples=3)
    torch.testing.assert_close(parts.distortion, whole.distortion, rtol=1e-6, atol=0)
    torch.testing.assert_close(parts.rate, whole.rate, rtol=1e-6, atol=0)
    torch.testing.assert_close(parts.rate_by_dimension, whole.rate_by_dimension)


def test_the_bound_rises_from_the_elbo_to_the_evidence():
    """400 images of the linear Gaussian: E[L_1] = log p - gap within 4 standard errors, each step up beyond 4."""
    oracle = linear_gaussian(shift=0.4)
    x = examples(oracle, 400)
    found = evidence(oracle.model, view(data_of(x)), 1000)
    gaps = [oracle.evidence(x) - found.along[k] for k in (1, 10, 100, 1000)]
    assert torch.equal(found.along[1000], found.bound)
    assert abs(gaps[0].mean() - oracle.gap(0.4)) < 4 * gaps[0].std() / 20
    for few, many in pairwise(gaps):
        assert (few - many).mean() > 4 * (few - many).std() / 20
    assert gaps[-1].mean() > -4 * gaps[-1].std() / 20


def test_scores_on_the_way():
    run = opened("RUN")
    seen = view(run.data)
    found = evidence(run.model, seen, 50)
    nll = nll_scores(run, seen, found, 50)[0]
    scores = {s.name: s for s in way_scores(run, seen, found, 50)}
    assert list(scores) == ["nll/bound/1", "nll/bound/10", "nll/low-share"]  # 5 = K/10 serves the note alone
    assert scores["nll/bound/1"].value > scores["nll/bound/10"].value > nll.value
    first, tenth = scores["nll/bound/1"].protocol, scores["nll/bound/10"].protocol
    assert (first.estimator, first.samples, tenth.samples) == ("mean log-weight", 50, 10)
    assert (scores["nll/bound/10"].better, scores["nll/low-share"].unit) == ("lower", "%")


def test_a_uniform_posterior_says_bound():
    run = opened("RUN", posterior="uniform")
    seen = view(run.data)
    found = evidence(run.model, seen, 50)
    scores = way_scores(run, seen, found, 50)
    assert [(s.name, s.better) for s in scores] == [(f"bound/importance/{k}", "higher") for k in (1, 10)]
    assert scores[0].value < scores[1].value
    said = doubt(weighed([100.0], fall=0.25), 1000, covers=False)
    assert "it still rises by 0.25" in said
    assert "would raise the bound" in said


# What is to be doubted


def weighed(effective, fall):
    bound = torch.zeros(len(effective)).double()
    return Evidence(bound, torch.tensor(effective).double(), {100: bound - fall})


def test_low_share_by_hand():
    """9.99, 1 and one that is no number of five: 60 %."""
    assert low_share(torch.tensor([9.99, 10.0, 1.0, 500.0, math.nan])).tolist() == [100, 0, 100, 0, 100]


def test_doubts_by_hand():
    good = [100.0] * 19
    assert doubt(weighed([*good, 3.0], fall=0.09), 1000) is None  # 5 %
    few = doubt(weighed([*good[:-1], 3.0, 3.0], fall=0.01), 1000)
    assert "still falls by 0.01 nats from 100 to 1,000 samples; 10 % of images have fewer than 10" in few
    assert "`--samples 10000`) would lower the NLL, or use `--metrics ais`" in few
    assert "falls by 0.25 nats" in doubt(weighed(good, fall=0.25), 1000)
    assert doubt(weighed(good, fall=math.nan), 1000) is not None
    assert doubt(Evidence(torch.zeros(2).double(), torch.ones(2).double()), 5).startswith("not converged: 100 % of")


# Interrupted and resumed


class Interrupting:
    """A progress that stops after so many blocks."""

    def __init__(self, blocks):
        self.left, self.told = blocks, []

    def __call__(self, what, done, total):
        self.told.append(done)
        self.left -= 1
        if self.left == 0:
            raise Stopped("here")


def small_blocks(monkeypatch):
    """Five images at a time, as for a large decoder: two of the first copy's blocks are done after 10 of 12 images."""
    monkeypatch.setattr("elboroom.models.evidence.row_bytes", lambda decoder, z, x, kept: (32 << 20) // (20 * 5))


@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 6])
def test_an_interrupted_evaluation_is_the_one_left_alone(tmp_path, monkeypatch, blocks):
    small_blocks(monkeypatch)
    evaluate(opened(tmp_path / "alone"), samples=20)
    first, second = Interrupting(blocks), Interrupting(-1)
    with pytest.raises(Stopped):
        evaluate(opened(tmp_path / "run"), samples=20, progress=first)
    assert len(list((tmp_path / "run").rglob("partial/nll-*.safetensors"))) == 1
    evaluate(opened(tmp_path / "run"), samples=20, progress=second)
    assert first.told + second.told == [5, 10, 12, 17, 22, 24]  # nothing twice
    for name in ("scores.json", "evaluation/step-1/examples.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert not (tmp_path / "run" / "evaluation" / "step-1" / "partial").exists()


@pytest.mark.parametrize("change", ["samples", "images", "checkpoint"])
def test_parts_of_another_estimate_are_not_taken(tmp_path, monkeypatch, change):
    small_blocks(monkeypatch)
    with pytest.raises(Stopped):
        evaluate(opened(tmp_path), samples=20, progress=Interrupting(2))
    other, told = opened(tmp_path), Interrupting(-1)
    if change == "checkpoint":
        other.__dict__["checkpoint_hash"] = "def"
    more = {"images": 6} if change == "images" else {}
    evaluate(other, samples=19 if change == "samples" else 20, progress=told, **more)
    assert told.told[0] in (5, 6)


def test_a_metric_that_was_done_is_not_repeated(tmp_path, monkeypatch):
    """Stopped in the second of two metrics; the first is read from the folder: scores, values, arrays and notes."""
    calls = []

    def first(subject, **more):
        calls.append("first")
        subject.progress("first", 1, 1)
        held = subject.protocol(estimator="by hand")
        made = Score(name="a", value=0.1, unit="nats", better="lower", stderr=None, examples=12, protocol=held)
        return Found([made], {"a/b": torch.arange(12.0)}, {"plane": {"x": torch.eye(2)}}, {"a": "beware"})

    def second(subject, **more):
        calls.append("second")
        subject.progress("second", 1, 1)
        return Found()

    metrics = metrics_from("[knn, clusters]")
    monkeypatch.setattr("elboroom.evaluation.probes.knn", first)
    monkeypatch.setattr("elboroom.evaluation.clustering.clusters", second)
    evaluate(opened(tmp_path / "alone"), samples=None, metrics=metrics)
    calls.clear()
    with pytest.raises(Stopped):
        evaluate(opened(tmp_path / "run"), samples=None, metrics=metrics, progress=Interrupting(2))
    evaluate(opened(tmp_path / "run"), samples=None, metrics=metrics)
    assert calls == ["first", "second", "second"]
    for name in ("scores.json", "evaluation/step-1/examples.safetensors", "evaluation/step-1/plane.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert json.loads((tmp_path / "run/evaluation/step-1/notes.json").read_text())["notes"] == {"a": "beware"}
    assert not (tmp_path / "run" / "evaluation" / "step-1" / "partial").exists()


@pytest.mark.parametrize("change", ["checkpoint", "settings", "torn", "full disk"])
def test_what_another_metric_found_is_not_taken(tmp_path, monkeypatch, change):
    calls = []

    def find():
        calls.append(1)
        return Found()

    if change == "full disk":
        monkeypatch.setattr("elboroom.evaluation.subject.replace_bytes", full)
    Subject(opened(tmp_path)).finished({"kind": "knn"}, find)
    again = opened(tmp_path)
    if change == "checkpoint":
        again.__dict__["checkpoint_hash"] = "def"
    for path in tmp_path.rglob("metric-*") if change == "torn" else ():
        path.write_bytes(path.read_bytes()[:30])
    subject = Subject(again)
    subject.finished({"kind": "knn", "neighbours": 5} if change == "settings" else {"kind": "knn"}, find)
    assert len(calls) == 2
    subject.forget_partials()
    assert list(tmp_path.rglob("metric-*")) == []


def full(path, content):
    raise OSError(28, "No space left on device")


def test_what_a_killed_process_saved_serves(tmp_path):
    """Without being left in order: saved at every addition. Torn, it is none."""
    partial = Partial(tmp_path, "nll", "key", ("bound",), 4, often=0)
    partial.add(bound=torch.tensor([1.0, 2.0]))
    again = Partial(tmp_path, "nll", "key", ("bound",), 4)
    assert (again.done, again.columns["bound"].tolist()) == (2, [1, 2, 0, 0])
    assert Partial(tmp_path, "nll", "other", ("bound",), 4).done == 0
    partial.path.write_bytes(partial.path.read_bytes()[:50])
    assert Partial(tmp_path, "nll", "key", ("bound",), 4).done == 0


def test_a_quick_estimate_is_written_once(tmp_path):
    with Partial(tmp_path / "p", "nll", "key", ("bound",), 4) as partial:
        partial.add(bound=torch.tensor([1.0, 2.0]))
        assert not partial.path.exists()
    assert partial.path.exists()
    partial.remove()
    assert not (tmp_path / "p").exists()


# What is written


def test_notes_names_and_samples_are_kept(tmp_path):
    said, names = [], tuple(f"b/{i}.png" for i in range(12))
    run = opened(tmp_path, names=names)
    evaluate(run, samples=5, say=said.append)
    notes = json.loads((run.evaluation / "notes.json").read_text())
    assert said == [f"nll: {notes['notes']['nll']}"]
    assert "not converged" in said[0]
    assert read_names(run.evaluation) == list(names)
    held = worst(run)
    assert [o.name for o in held] == [f"b/{o.position}.png" for o in held]
    assert held[0].value >= held[1].value >= held[2].value
    evaluate(run, samples=None)  # the older number stands, and so does its note
    assert json.loads((run.evaluation / "notes.json").read_text()) == notes


def test_a_note_is_taken_back_where_nothing_is_in_doubt_any_more(tmp_path, monkeypatch):
    run = opened(tmp_path)
    for note in ("the first", None):
        monkeypatch.setattr("elboroom.evaluation.ais.doubt", lambda found, chains, note=note: note)
        evaluate(run, samples=None, metrics=metrics_from("[{kind: ais, steps: 2, images: 2}]"))
        kept = json.loads((run.evaluation / "notes.json").read_text())["notes"]
        assert kept == ({} if note is None else {"nll/ais": note})


def test_reasons_why_metrics_are_missing_are_kept_until_they_are_there(tmp_path):
    run = opened(tmp_path)

    def reasons():
        return list(json.loads((run.evaluation / "skipped.json").read_text())["skipped"])

    evaluate(run, samples=None, metrics=metrics_from("knn,disentanglement"))
    assert reasons() == ["knn", "disentanglement"]
    evaluate(run, samples=None, metrics=metrics_from("shuffled-codes"))
    assert reasons() == ["knn", "disentanglement"]
    run.__dict__["data"] = data_of(X, torch.arange(12) % 2, binarize="dynamic", copies=2)
    evaluate(run, samples=None, metrics=metrics_from("[{kind: knn, labels: [null], neighbours: 3}]"))
    assert reasons() == ["knn", "disentanglement"]  # that was another one
    evaluate(run, samples=None, metrics=metrics_from("knn"))
    assert reasons() == ["disentanglement"]


def test_scores_of_other_numbers_of_images_stand_beside_each_other(tmp_path):
    """They read part of a split, of which its hash says nothing."""
    run = opened(tmp_path)
    for count in (4, 6):
        kinds = f"[{{kind: embedding, points: {count}}}, {{kind: information, samples: {count}}}]"
        evaluate(run, samples=None, metrics=metrics_from(kinds))
    names = [s.name for s in scores.load(tmp_path / "scores.json")]
    for name in ("pca/explained-variance", "mutual-information", "aggregate-kl/leave-one-out"):
        assert names.count(name) == 2


def test_labels_of_two_planes_are_those_of_the_larger(tmp_path):
    run = opened(tmp_path)
    run.__dict__["data"] = data_of(X, torch.arange(12) % 2, binarize="dynamic", copies=2)
    few = "{kind: embedding, methods: [tsne], points: 7, iterations: 250}"
    for kinds in (f"[{{kind: embedding, points: 9}}, {few}]", f"[{few}, {{kind: embedding, points: 9}}]"):
        evaluate(run, samples=None, metrics=metrics_from(kinds))
        found = unpack((run.evaluation / "embedding.safetensors").read_bytes())
        assert {k: len(found[k]) for k in ("pca", "tsne", "labels", "rows")} == {
            "pca": 9,
            "tsne": 7,
            "labels": 9,
            "rows": 9,
        }
        assert found["labels"].equal(found["rows"] % 2)


def test_an_image_alone_is_evaluated(tmp_path):
    run = opened(tmp_path)
    run.__dict__["data"] = data_of(X[:1], binarize="dynamic", copies=2)
    found = evaluate(run, samples=5, metrics=metrics_from("embedding,shuffled-codes"))
    assert math.isnan(next(s.value for s in found if s.name == "active-units"))
    reasons = json.loads((run.evaluation / "skipped.json").read_text())["skipped"]
    assert reasons.keys() == {"embedding", "shuffled-codes"}


def test_the_number_of_samples_stands_beside_the_values(tmp_path):
    run = opened(tmp_path)
    evaluate(run, samples=7)
    held = unpack((run.evaluation / "examples.safetensors").read_bytes())
    assert held["nll/samples"].tolist() == [7]
    assert held["nll"].shape == held["effective-samples"].shape == (12,)


def test_outliers_among_some_of_sorted_data_have_their_own_names(tmp_path):
    run = opened(tmp_path, names=tuple(f"{i}.png" for i in range(12)))
    run.__dict__["data"] = dataclasses.replace(run.data, sorted=True)
    evaluate(run, samples=2, images=4)
    drawn = view(run.data, count=4).drawn.tolist()
    assert {o.name for o in worst(run, count=4)} == {f"{i}.png" for i in drawn}


def test_outliers_by_hand(tmp_path):
    values = torch.tensor([1.0, math.nan, 7.0, 3.0])
    assert [o.position for o in outliers(values)] == [1, 2, 3]
    assert str(outliers(values[2:], ["a.png", "b.png"], 1)[0]) == "a.png: 7"
    assert str(outliers(values[2:], None, 1)[0]) == "example 0: 7"
    assert outliers(values[:1], count=3)[0].value == 1
    assert worst(opened(tmp_path)) == []
    write_names(tmp_path, ("ä\n.png",))
    assert read_names(tmp_path) == ["ä\n.png"]

"""Keys, protocols and files of scores."""

import dataclasses
import json
import math

import pytest

from elboroom import scores
from elboroom.errors import InputError
from elboroom.scores import Protocol, Score, briefly, lines

HELD = Protocol(
    data="digits",
    split="test",
    rows="0123456789ab",
    binarization="dynamic, seed 0",
    copies=5,
    likelihood="bernoulli",
    checkpoint="abc",
    estimator="importance sampling",
    samples=1000,
)


def score(value: float, name: str = "nll", **held: object) -> Score:
    return Score(
        name=name,
        value=value,
        unit="nats",
        better="lower",
        stderr=0.5,
        examples=300,
        protocol=dataclasses.replace(HELD, **held),
    )


CHANGES = [
    {"data": "mnist"},
    {"split": "valid"},
    {"rows": "ba9876543210"},
    {"binarization": "threshold 0.5"},
    {"copies": 1},
    {"likelihood": "grey-bce"},
    {"estimator": "posterior samples"},
    {"samples": 5000},
    {"dtype": "float64"},
    {"code": "mean"},
    {"labels": "100"},
    {"scaling": "standardized"},
    {"classifier": "f00"},
]
WHOSE = [
    {"weights": "average"},
    {"checkpoint": "def"},
    {"beta": 4.0},
    {"trained": "no bound (mu)"},
]  # whose score it is, not under which conditions


def test_every_field_of_the_protocol_is_in_one_of_the_two_tables():
    named = {key for change in CHANGES + WHOSE for key in change}
    assert named == {f.name for f in dataclasses.fields(Protocol)}


@pytest.mark.parametrize("change", CHANGES + WHOSE[:-1])
def test_another_protocol_stands_beside(change):
    both = scores.merge([score(90.0)], [score(80.0, **change)])
    assert [s.value for s in both] == [90.0, 80.0]


def test_the_same_key_overwrites_in_its_place():
    merged = scores.merge([score(90.0), score(1.0, name="rate")], [score(80.0), score(2.0, name="elbo")])
    assert [(s.name, s.value) for s in merged] == [("nll", 80.0), ("rate", 1.0), ("elbo", 2.0)]


def test_a_file_without_what_was_trained_still_loads_and_is_overwritten(tmp_path):
    """Written before the field was there; scoring the same weights again leaves no second row."""
    path = tmp_path / "scores.json"
    path.write_text(scores.dump([score(90.0)]).replace(',\n    "trained": ""', ""))
    assert "trained" not in path.read_text()
    assert scores.load(path) == [score(90.0)]
    assert scores.merge(scores.load(path), [score(80.0, trained="bound")]) == [score(80.0, trained="bound")]


@pytest.mark.parametrize("change", CHANGES)
def test_other_conditions_cannot_be_compared(change):
    ((field, value),) = change.items()
    assert HELD.differences(dataclasses.replace(HELD, **change)) == {field: (getattr(HELD, field), value)}


@pytest.mark.parametrize("change", WHOSE)
def test_whose_score_it_is_does_not_matter(change):
    other = dataclasses.replace(HELD, **change)
    assert HELD.differences(other) == {}
    assert HELD.comparable() == other.comparable()


@pytest.mark.parametrize("value", [-93.42, 0.1 + 0.2, 1e-300, math.inf, -math.inf])
def test_dump_and_load(tmp_path, value):
    path = tmp_path / "scores.json"
    written = [score(value), dataclasses.replace(score(value, beta=4.0), stderr=None)]
    path.write_text(scores.dump(written))
    assert scores.load(path) == written


def test_nan_is_written_and_read_as_nan(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(scores.dump([score(math.nan)]))
    (back,) = scores.load(path)
    assert math.isnan(back.value)
    assert back.key == score(0.0).key


def test_the_file_states_its_format():
    assert json.loads(scores.dump([]))["format"] == 1


BROKEN = {
    "torn": scores.dump([score(1.0)])[:-20],
    "empty": "",
    "no mapping": "[1, 2]",
    "null": "null",
    "no scores": '{"format": 1}',
    "a number for a list": '{"format": 1, "scores": 3}',
    "a score without a protocol": '{"format": 1, "scores": [{"name": "nll"}]}',
    "an unknown field": scores.dump([score(1.0)]).replace('"unit"', '"units"'),
    "an unknown condition": scores.dump([score(1.0)]).replace('"copies"', '"copy"'),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_with_the_cure(tmp_path, text):
    path = tmp_path / "scores.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"scores\.json: not a scores file .* `elboroom evaluate`"):
        scores.load(path)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "scores.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a scores file"):
        scores.load(path)


def test_a_later_format_is_refused(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text('{"format": 2, "scores": []}')
    with pytest.raises(InputError, match="format 2 is not known here; this version reads 1"):
        scores.load(path)


def test_in_words():
    assert str(score(93.421)) == "nll = 93.42 ± 0.5 nats"
    assert str(dataclasses.replace(score(93.421), stderr=None)) == "nll = 93.42 nats"


def test_lines_name_a_split_other_than_test():
    found = [score(93.0), score(91.0, split="train"), score(92.0, split="train", code="mean")]
    assert lines(found) == [
        "nll = 93 ± 0.5 nats",
        "nll = 91 ± 0.5 nats  (train)",
        "nll = 92 ± 0.5 nats  (train, mean)",
    ]


OLDER = {
    "confidence/samples": (
        "highest probability of a class, over that of test images",
        "highest probability of a class, 2,000 images, over that of test images",
    ),
    "pca/explained-variance": ("first two principal components", "first two principal components, fitted to 2,000 of "),
    "mutual-information/leave-one-out": (
        "mixture of the other 9,999 posteriors; of a population's value: above",
        "mixture of the other 9,999 posteriors, at codes of 2,000 images; of a population's value: above",
    ),
}


@pytest.mark.parametrize("name", OLDER)
def test_older_files_did_not_count_the_images_of_part_of_a_split(tmp_path, name):
    old, new = OLDER[name]
    made = dataclasses.replace(score(1.0, name, estimator=old), examples=2000)
    (tmp_path / "old.json").write_text(scores.dump([made]))
    (read,) = scores.load(tmp_path / "old.json")
    assert read.protocol.estimator.startswith(new)
    (tmp_path / "new.json").write_text(scores.dump([read]))
    assert scores.load(tmp_path / "new.json") == [read]


def test_older_files_called_gradients_single_that_were_double(tmp_path):
    (tmp_path / "old.json").write_text(scores.dump([score(1.0, "gradient-variance/ratio")]))
    assert scores.load(tmp_path / "old.json")[0].protocol.dtype == "float64"


def test_what_an_error_is_of_one_repetition():
    how = "x; ± deviation over repetitions, of all labels binomial"
    for labels, words in (("all", "binomial"), ("20, 1 repetition", "binomial"), ("20, 11 repetitions", "repetitions")):
        assert words in score(1.0, estimator=how, labels=labels).spread


def test_notes_that_say_the_same_are_said_once():
    notes = {
        "probe/knn, mean, raw": "too few",
        "probe/knn, z, raw": "too few",
        "probe/svm, mean": "too few",
        "nll": "no",
    }
    assert briefly(notes) == ["probe/knn (2 rows): too few", "probe/svm, mean: too few", "nll: no"]


def test_lines_name_the_estimator_where_nothing_else_tells_scores_apart():
    held = Protocol(data="d", split="test", rows="r", binarization="none", likelihood="bernoulli", code="mean")
    found = [
        Score(
            name="probe/svm", value=v, unit="%", better="", examples=9, protocol=dataclasses.replace(held, estimator=e)
        )
        for v, e in ((50.0, "linear; ± a"), (60.0, "rbf; ± a"), (60.0, "rbf; ± a"))
    ]
    assert lines(found) == ["probe/svm = 50 %  (mean)  [linear]", "probe/svm = 60 %  (mean)  [rbf]"]

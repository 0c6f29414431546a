"""What is ranked, what is not and why, and the arithmetic of a row."""

import math
from dataclasses import replace

import pytest
from synthetic_runs import score

from elboroom.report import tables
from elboroom.report.tables import Entry, comparison


def column(table, name):
    """Label -> cell of one column."""
    index = [c.name for c in table.columns].index(name)
    return {line.label: line.cells[index] for line in table.lines}


def test_mean_and_standard_error_over_seeds():
    """-1, -2, -6: mean -3, standard deviation sqrt(7), error sqrt(7 / 3) = 1.5275."""
    runs = [Entry(label="vae", seed=i, scores=[score("elbo", v)]) for i, v in enumerate((-1.0, -2.0, -6.0))]
    (table,) = comparison(runs)
    cell = column(table, "elbo")["vae"]
    assert (cell.text, cell.error, table.lines[0].seeds) == ("−3.00", "1.53", "3")


def test_one_seed_has_the_error_over_examples():
    (table,) = comparison([Entry(label="vae", scores=[score("elbo", -3.0, stderr=0.25)])])
    assert column(table, "elbo")["vae"].error == "0.25"


def test_best_follows_the_direction_of_the_score():
    runs = [
        Entry(label="a", scores=[score("elbo", -20.0), score("nll", 18.0), score("rate", 5.0)]),
        Entry(label="b", scores=[score("elbo", -21.0), score("nll", 17.0), score("rate", 6.0)]),
    ]
    (table,) = comparison(runs)
    best = {name: [k for k, cell in column(table, name).items() if cell.best] for name in ("elbo", "nll", "rate")}
    assert best == {"elbo": ["a"], "nll": ["b"], "rate": []}  # more rate is neither better nor worse


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("likelihood", "gaussian"),
        ("split", "valid"),
        ("rows", "ffff"),
        ("binarization", "static, seed 1"),
        ("copies", 5),
        ("dtype", "float64"),
    ],
)
def test_another_protocol_stands_apart_and_the_sentence_names_the_field(field, value):
    plain, changed = score("elbo", -20.0), score("elbo", -10.0, **{field: value})
    runs = [Entry(label="a", scores=[plain]), Entry(label="b", scores=[changed]), Entry(label="c", scores=[plain])]
    first, second = comparison(runs)
    assert [line.label for line in first.lines] == ["a", "c"]
    assert [line.label for line in second.lines] == ["b"]
    assert first.refusal == ""
    assert f"{field} (" in second.refusal
    assert str(value) in second.refusal
    assert tables.REASONS[field][1:] in second.refusal
    assert not any(cell.best for cell in second.lines[0].cells)


def test_checkpoint_weights_and_beta_do_not_keep_rows_apart():
    changed = score("elbo", -10.0, checkpoint="beef", weights="average", beta=4.0)
    (table,) = comparison([Entry(label="a", scores=[score("elbo", -20.0)]), Entry(label="b", scores=[changed])])
    assert column(table, "elbo")["b"].best
    assert "average and raw" in table.protocol


def test_other_data_is_said_without_the_hash_of_its_rows():
    other = score("elbo", -10.0, data="mnist", rows="9999")
    _, second = comparison([Entry(label="a", scores=[score("elbo", -20.0)]), Entry(label="b", scores=[other])])
    assert "mnist" in second.refusal
    assert "rows" not in second.refusal


def test_likelihoods_of_other_sample_counts_are_two_columns():
    runs = [
        Entry(label="a", scores=[score("nll", 17.0, samples=500)]),
        Entry(label="b", scores=[score("nll", 16.0, samples=5000)]),
    ]
    (table,) = comparison(runs)
    assert [(c.name, c.samples) for c in table.columns] == [("nll", 500), ("nll", 5000)]
    assert not any(cell.best for line in table.lines for cell in line.cells)
    assert any("samples differs" in m for m in table.methods)


@pytest.mark.parametrize(
    ("name", "values", "labels"),
    [
        ("fd/accuracy", (98.7, 98.7), ["all models"]),
        ("fd/accuracy", (98.7, 98.8), ["a", "b"]),
        ("mpd", (7.0, 7.0), ["a", "b"]),  # equal by chance: the models' own
    ],
)
def test_what_is_no_models_own_is_said_once(name, values, labels):
    runs = [Entry(label=x, scores=[replace(score(name, v), better="")]) for x, v in zip("ab", values, strict=True)]
    (table,) = comparison(runs, [name])
    assert [line.label for line in tables.said_once(table).lines] == labels


def test_a_likelihood_of_fewer_images_says_where_their_elbo_is():
    few = replace(score("nll", 17.0, samples=500), examples=100)
    (table,) = comparison([Entry(label="a", scores=[score("elbo", -20.0), few])])
    assert any("on 100 examples (nll/bound/1 is minus the ELBO of these)" in m for m in table.methods)


def test_a_fixed_code_shares_the_table_but_not_the_ranking():
    fixed = score("distortion", 1.0, samples=0, estimator="")
    drawn = [Entry(label=k, scores=[score("distortion", v)]) for k, v in (("a", 12.0), ("b", 11.0))]
    (table,) = comparison([*drawn, Entry(label="ae", scores=[fixed])])
    cells = column(table, "distortion")
    assert [k for k, cell in cells.items() if cell.best] == ["b"]
    assert "Not ranked" in dict(table.notes)[cells["ae"].note]


def test_nan_and_infinity_are_shown_and_never_best():
    runs = [
        Entry(label=k, scores=[score("nll", v)]) for k, v in (("a", math.nan), ("b", math.inf), ("c", 3.0), ("d", 4.0))
    ]
    (table,) = comparison(runs)
    cells = column(table, "nll")
    assert [cells[k].text for k in "abc"] == ["NaN", "∞", "3.00"]
    assert [k for k, cell in cells.items() if cell.best] == ["c"]


def test_one_nan_seed_makes_the_mean_nan():
    runs = [Entry(label="a", seed=i, scores=[score("nll", v)]) for i, v in enumerate((17.0, math.nan))]
    (table,) = comparison(runs)
    assert column(table, "nll")["a"].text == "NaN"


def test_a_missing_value_says_why():
    whole = Entry(label="a", scores=[score("elbo", -20.0), score("distortion", 12.0)])
    partial = Entry(label="ae", scores=[score("distortion", 9.0)], absent={"elbo": "no rate"})
    (table,) = comparison([whole, partial])
    cell = column(table, "elbo")["ae"]
    assert cell.text == "—"
    assert dict(table.notes)[cell.note] == "no rate"


def test_every_run_is_in_exactly_one_table():
    """Those without scores go to their other seeds, else to their data."""
    other = replace(score("elbo", -1.0), protocol=replace(score("elbo", -1.0).protocol, data="mnist"))
    runs = [
        Entry(label="a", scores=[score("elbo", -20.0)], data="digits"),
        Entry(label="b", scores=[other], data="mnist"),
        Entry(label="b", seed=1, data="mnist", warnings=("diverged at step 7",)),
        Entry(label="c", data="mnist", warnings=("failed: no memory",)),
    ]
    first, second = comparison(runs)
    assert [line.label for line in first.lines] == ["a"]
    assert [(line.label, line.seeds) for line in second.lines] == [("b", "1 of 2"), ("c", "0 of 1")]
    assert second.lines[0].warnings == ["seed 1: diverged at step 7"]


def test_published_numbers_stand_beside_their_row_and_are_not_ranked():
    runs = [
        Entry(label=k, scores=[score("accuracy/z", v)], facts={"variant": k}) for k, v in (("vae", 91.0), ("mu", 90.0))
    ]
    published = [{"where": {"variant": "vae"}, "accuracy/z": 99.0, "source": "table 1"}]
    (table,) = comparison(runs, published=published)
    assert [line.label for line in table.lines] == ["vae", "published", "mu"]
    assert table.lines[1].cells[0].text == "99.0"
    assert table.lines[0].cells[0].best
    assert not table.lines[1].cells[0].best


def test_test_scores_come_before_validation_scores():
    entry = Entry(label="a", scores=[score("elbo", -1.0), score("elbo", -9.0, split="valid")])
    (table,) = comparison([entry])
    assert column(table, "elbo")["a"].text == "−1.00"


def test_scores_on_other_data_or_on_fewer_images_are_not_the_runs_own():
    """What `evaluate --data OTHER` and `--images 5` brought last once stood in the place of the run's numbers."""
    own = [score("elbo", -20.0), score("nll", 18.0)]
    later = [score("elbo", -90.0, data="mnist"), replace(score("nll", 7.0), examples=5)]
    (table,) = comparison([Entry(label="a", scores=own + later, data="digits")])
    assert [column(table, name)["a"].text for name in ("elbo", "nll")] == ["−20.00", "18.00"]


def test_a_likelihood_on_few_effective_samples_says_so():
    few = Entry(label="a", scores=[score("nll", 35.0), score("nll/effective-samples", 2.2, samples=1000)])
    many = Entry(label="b", scores=[score("nll", 22.0), score("nll/effective-samples", 400.0, samples=1000)])
    (table,) = comparison([few, many])
    cells = column(table, "nll")
    assert "2.2 effective samples of 1,000" in dict(table.notes)[cells["a"].note]
    assert cells["b"].note == ""

"""Scores that a run has many of: which code, which labels, and controls that belong to the data."""

import re
from dataclasses import replace

import pytest
from synthetic_runs import config, protocol, scores_like, write_run

from elboroom.report import families, report
from elboroom.report.tables import Entry
from elboroom.scores import Score


def probe(value, code="mean", labels="all", scaling="raw", **changes):
    held = protocol(code=code, labels=labels, scaling=scaling, **{"estimator": "10 neighbours; ± deviation", **changes})
    return Score(name="probe/knn", value=value, unit="%", better="higher", stderr=1.0, examples=300, protocol=held)


def entry(label, scores, seed=0):
    return Entry(label=label, scores=scores, seed=seed)


def both(mean, z, pca=80.0):
    return [probe(mean), probe(z, code="z"), probe(pca, code="control: pca-6")]


@pytest.fixture
def two():
    return [entry("vae", both(90.0, 70.0)), entry("mu", both(88.0, 86.0))]


def shown(table):
    return {(line.label, line.about): [c.text for c in line.cells[:-1]] for line in table.lines}


def test_a_row_for_each_code_and_one_for_each_control(two):
    [(title, table)] = families.families(two, ["probe/knn"])
    assert title == "nearest neighbours"
    assert shown(table) == {
        ("vae", "code: mean"): ["90.00"],
        ("vae", "code: z"): ["70.00"],
        ("mu", "code: mean"): ["88.00"],
        ("mu", "code: z"): ["86.00"],
        ("pca-6", "control"): ["80.00"],
    }


def test_numbers_of_the_data_are_said_once_and_those_of_models_for_each(two):
    def rarest(label, fewest):
        counts = [probe(v, labels=str(n)) for n, v in ((100, fewest), (1000, 70.0))]
        return entry(label, [replace(score, name="probe/rarest-class", better="") for score in counts])

    [(_, same)] = families.families([rarest("vae", 3.0), rarest("mu", 3.0)], ["probe/rarest-class"])
    assert list(shown(same)) == [("all models", "")]
    [(_, other)] = families.families([rarest("vae", 3.0), rarest("mu", 4.0)], ["probe/rarest-class"])
    assert [label for label, _ in shown(other)] == ["vae", "mu"]
    alike = [entry(label, [probe(10.0), probe(10.0, labels="100")]) for label in ("one", "two")]  # both collapsed
    assert len(families.families(alike, ["probe/knn"])[0][1].lines) == 2


def test_published_numbers_stand_below_the_first_code_of_their_model():
    """By words that a column must have all of; unranked, and none that no column has."""
    runs = [
        entry(
            label,
            [
                probe(90.0, code=c, labels=n, scaling=s)
                for c in ("mean", "z")
                for n in ("100 and 30 to stop by", "all")
                for s in way
            ],
        )
        for label, way in (("vae", ("raw", "standardized")), ("mu", ("raw", "standardized")))
    ]
    runs[0].facts["variant"] = "vae"
    told = {"100 labels, raw": 99.5, "raw, all labels": "98.0 ± 0.2", "1000 labels, raw": 1.0, "10 labels, raw": 2.0}
    published = [
        {"where": {"variant": "vae"}, "probe/knn": told, "source": "table 2"},
        {"where": {"variant": "vae"}, "probe/svm": told, "nll": 79.0, "source": "table 5"},
    ]
    [(_, table)] = families.families(runs, ["probe/knn"], published)
    assert [line.label for line in table.lines] == ["vae", "published", "vae", "mu", "mu"]
    line = table.lines[1]
    assert (line.published, line.about) == (True, "table 2")
    columns = {c.title: cell.text for c, cell in zip(table.columns, line.cells, strict=False)}
    assert columns == {
        "100 labels and 30 to stop by, raw": "99.5",
        "100 labels and 30 to stop by, standardized": "",
        "all labels, raw": "98.0 ± 0.2",
        "all labels, standardized": "",
    }
    assert not any(cell.best for cell in line.cells)


def test_codes_are_columns_where_they_alone_tell_a_models_scores_apart():
    def draws(label, prior, again):
        codes = {"prior": prior, "reconstructions": again, "control: train images": 6.0}
        made = [probe(v, code=code, labels="", scaling="", estimator="features") for code, v in codes.items()]
        return entry(label, [replace(score, better="lower") for score in made])

    [(_, table)] = families.families([draws("vae", 400.0, 90.0), draws("ae", 900.0, 10.0)], ["probe/knn"])
    assert [column.title for column in table.columns] == ["prior", "reconstructions"]
    assert shown(table) == {
        ("vae", ""): ["400.00", "90.00"],
        ("ae", ""): ["900.00", "10.00"],
        ("train images", "control"): ["6.00", "6.00"],
    }
    best = [(line.label, [cell.best for cell in line.cells[:-1]]) for line in table.lines]
    assert best == [("vae", [True, False]), ("ae", [False, True]), ("train images", [False, False])]


def test_codes_are_ranked_each_on_its_own_and_controls_never(two):
    two[0].scores.append(probe(99.0, code="control: pixels"))
    table = families.families(two, ["probe/knn"])[0][1]
    best = [(line.label, line.about) for line in table.lines if line.cells[0].best]
    assert best == [("vae", "code: mean"), ("mu", "code: z")]


def test_ways_of_reading_are_columns_named_by_what_differs():
    few = [probe(50.0, labels="100, 5 repetitions"), probe(60.0, scaling="standardized"), probe(55.0)]
    table = families.families([entry("vae", few)], ["probe/knn"])[0][1]
    assert [c.title for c in table.columns] == ["100 labels, raw", "all labels, standardized", "all labels, raw"]
    assert table.methods == ["probe/knn: 10 neighbours", "± is the standard error over images"]


DEVIATION = "10 neighbours; ± deviation over repetitions, of all labels binomial"
REPEATED = "the deviation over repetitions"
BINOMIAL = "the binomial standard error over test images (with all labels: one fit)"


def several(count):
    few = [probe(80.0, estimator=DEVIATION), probe(50.0, labels="100, 5 repetitions", estimator=DEVIATION)]
    pca = probe(85.0, code="control: pca-6", labels="100, 5 repetitions", estimator=DEVIATION)
    return families.families([entry("vae", [*few, pca], seed) for seed in range(count)], ["probe/knn"])[0][1]


def test_what_the_error_is_of_one_seed_and_of_several():
    assert several(1).methods[1] == f"± is {BINOMIAL}, {REPEATED}"
    assert several(2).methods[1] == (
        f"± is of several seeds the standard error of their mean, of one seed, and of controls, {REPEATED}"
    )


def test_a_score_of_one_seed_among_several_has_no_error_of_seeds():
    runs = [entry("vae", [probe(80.0), probe(1.0, code="z")], 0), entry("vae", [probe(84.0)], 1)]
    runs[1].scores.append(probe(70.0, scaling="standardized"))
    line = families.families(runs, ["probe/knn"])[0][1].lines[0]
    assert [(c.text, c.error) for c in line.cells[:2]] == [("82.00", "2.00"), ("70.00", "")]


def test_seeds_are_averaged_and_their_spread_shown():
    """80 and 84: mean 82, standard error 2."""
    runs = [entry("vae", [probe(80.0), probe(1.0, code="z")], 0), entry("vae", [probe(84.0), probe(1.0, code="z")], 1)]
    line = families.families(runs, ["probe/knn"])[0][1].lines[0]
    assert (line.cells[0].text, line.cells[0].error, line.seeds) == ("82.00", "2.00", "2")


def test_other_data_have_a_table_of_their_own(two):
    other = entry("vae", [probe(75.0, data="fashion-mnist"), probe(74.0, data="fashion-mnist", code="z")])
    assert len(families.families([*two, other], ["probe/knn"])) == 2


def test_only_names_with_several_scores_of_one_run_need_such_a_table(two):
    assert families.several(two, ["probe/knn", "elbo"]) == ["probe/knn"]
    assert families.several([entry("vae", scores_like())], ["elbo", "nll"]) == []


def test_the_page_shows_them(tmp_path):
    folder = write_run(tmp_path / "run", config(), scores=[*scores_like(), *both(90.0, 70.0)])
    html = report([folder]).read_text(encoding="utf-8")
    assert re.search(r"<caption>nearest neighbours</caption>", html)
    assert "code: z" in html


def test_other_binarizations_and_controls_of_theirs_stand_apart(two):
    """The pixels of grey images are not those of binarized ones, though their rows have one hash."""
    grey = entry("grey", [probe(97.0, code="control: pixels", binarization="none"), probe(95.0, binarization="none")])
    binary = entry("binary", [probe(90.0, code="control: pixels"), probe(91.0)])
    tables = [table for _, table in families.families([binary, grey], ["probe/knn"])]
    assert [[c.text for line in t.lines for c in line.cells[:-1]] for t in tables] == [
        ["91.00", "90.00"],
        ["95.00", "97.00"],
    ]


def test_thousands_are_one_number_and_a_nan_hides_no_winner():
    words = "L-BFGS in {} iterations at most; ± deviation"
    runs = [entry(n, [probe(v, estimator=words.format(i)) for i in ("1,000", "2,000")]) for n, v in
            (("a", 80.0), ("b", float("nan")), ("c", 85.0))]  # fmt: skip
    table = families.families(runs, ["probe/knn"])[0][1]
    assert "L-BFGS in 2,000 iterations at most" in table.columns[1].title
    assert [line.label for line in table.lines if line.cells[0].best] == ["c"]

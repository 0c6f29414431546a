"""Which runs are seeds of one row."""

from elboroom.config.study import rows_of


def run(seed: int, epochs: int = 1, folder: str | None = None):
    config = {"seed": seed, "training": {"epochs": epochs}}
    return "vae", config, seed, folder or f"vae/seed-{seed}"


def test_seeds_of_one_model_are_one_row():
    assert rows_of([run(0), run(1)]) == ["vae", "vae"]


def test_a_run_of_another_length_stands_apart_and_the_others_stay_together():
    assert rows_of([run(0), run(1), run(3, epochs=2)]) == ["vae", "vae", "vae (vae/seed-3)"]


def test_where_no_model_has_most_of_the_seeds_each_stands_apart():
    assert rows_of([run(0), run(1, epochs=2)]) == ["vae (vae/seed-0)", "vae (vae/seed-1)"]
    pairs = [run(0), run(1), run(0, epochs=2, folder="b/seed-0"), run(1, epochs=2, folder="b/seed-1")]
    assert len(set(rows_of(pairs))) == 4


def test_one_seed_twice_is_no_second_seed():
    assert len(set(rows_of([run(0), run(0, folder="copy")]))) == 2
    assert len(set(rows_of([run(0), run(0, folder="copy"), run(1, epochs=2)]))) == 3


def test_a_run_that_was_not_begun_is_of_no_other_model():
    assert rows_of([run(0), ("vae", {}, 1, "vae/seed-1")]) == ["vae", "vae"]

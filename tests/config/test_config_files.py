"""YAML in and out, options laid over it, and messages for whatever is wrong with a file."""

from pathlib import Path

import pytest
import yaml
from oracles.configurations import kinds, small_run

from elboroom.config import Run, apply_options, catalogue, load_run, load_study, run_from, to_yaml
from elboroom.config.base import DEFAULT_KINDS
from elboroom.config.files import merged, parse_yaml, read_mapping
from elboroom.config.models import Decoder, Encoder, Likelihood
from elboroom.config.objectives import Objective
from elboroom.errors import InputError


def written(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


RUNS = {
    "defaults": {},
    "one's own part": {"model": {"decoder": {"kind": "a.b:C", "options": {"width": 3, "names": ["x", None]}}}},
    "plain autoencoder": {"model": {"posterior": {"kind": "point", "squash": "tanh"}}, "objective": "reconstruction"},
    "companion": {"companion": {"code": "mean"}, "training": {"average": 0.999, "keep_epochs": [1, 5]}},
    "small numbers": {"training": {"optimizer": {"lr": 1e-8, "betas": [0.5, 0.99]}}, "objective": {"beta": 1 / 3}},
    "name that looks like a number": {"name": "1e5"},
}


@pytest.mark.parametrize("content", RUNS.values(), ids=RUNS)
def test_round_trip(tmp_path, content):
    run = run_from(content)
    back = load_run(written(tmp_path, to_yaml(run)))
    assert back == run
    assert back.hash == run.hash


SEAMS = {"encoder": Encoder, "decoder": Decoder, "likelihood": Likelihood, "objective": Objective}
EACH = [(seam, kind) for seam, choice in SEAMS.items() for kind in kinds(choice)]


@pytest.mark.parametrize(("seam", "kind"), EACH)
def test_round_trip_of_every_kind(tmp_path, seam, kind):
    run = small_run(**{seam: kind})
    assert load_run(written(tmp_path, to_yaml(run))) == run


def test_what_is_written_is_complete_and_states_its_format():
    content = yaml.safe_load(to_yaml(Run()))
    assert content["format"] == 1
    assert content["training"]["optimizer"] == {"kind": "adam", "lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-08}


def test_a_study(tmp_path):
    text = "name: demo\nbase: {seed: 3}\nvariants: {vae: {}, mu: {objective: mu}}\naxes: {seed: [0, 1]}\n"
    study = load_study(written(tmp_path, text))
    assert (list(study.variants), study.axes) == (["vae", "mu"], {"seed": [0, 1]})
    assert load_study(written(tmp_path, to_yaml(study))) == study


BAD_STUDIES = {
    "in a list of figures": (
        "figures: [{name: a, kind: codes, captoin: x}]",
        r"figures\.0\.captoin: unknown key 'captoin'; known: name, kind, caption, .* Did you mean 'caption'",
    ),
    "in a list of metrics": (
        "metrics: {also: [clusters, {kind: knn, cod: z}]}",
        r"also\.1\.cod: unknown key 'cod'; known: code, thresholded, .* Did you mean 'code'",
    ),
    "base": ("scales: {smoke: {base: null}}", "scale 'smoke' wants a mapping for base, got None. Or leave it out."),
    "base of 5": ("scales: {smoke: {base: 5}}", "scale 'smoke' wants a mapping for base, got 5"),
    "variants": ("scales: {smoke: {variants: null}}", "scale 'smoke' wants a mapping for variants, got None"),
    "axes": ("scales: {smoke: {axes: null}}", "scale 'smoke' wants a mapping for axes, got None"),
    "metrics": ("scales: {smoke: {metrics: []}}", r"scale 'smoke' wants a mapping for metrics, got \[\]"),
    "path of nobody": ("base: {data: {path: ~no-such-user/x}}", "~no-such-user/x: nobody of that name has a home"),
    "beginning of nobody": ("base: {init_from: ~no-such-user/x}", "~no-such-user/x: nobody of that name has a home"),
}


@pytest.mark.parametrize(("text", "message"), BAD_STUDIES.values(), ids=BAD_STUDIES)
def test_a_bad_study_is_told_with_its_place(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_study(written(tmp_path, f"name: x\n{text}\n"))


BAD_FILES = {
    "code": ("!!python/object/apply:os.system ['touch x']", "asks for code to be run .*; write plain values only"),
    "a class": ("a: !!python/name:os.system", "asks for code to be run"),
    "unknown tag": ("a: !foo 1", "could not determine a constructor for the tag '!foo'"),
    "not YAML": ("a: [1, 2", r"not YAML at line 1, column 9: .* Mend it there"),
    "tab": ("a:\n\tb: 1", "not YAML at line 2, column 1"),
    "a key twice": ("seed: 1\nseed: 2", "line 1: the key 'seed' stands twice"),
    "a nested key twice": (
        "data: {name: mnist}\nobjective:\n  beta: 1\n  beta: 2",
        "line 3: the key 'beta' stands twice",
    ),
    "empty": ("", "a configuration is a mapping such as `seed: 0`, this file holds nothing"),
    "comment": ("# seed: 0", "this file holds nothing"),
    "list": ("- a\n- b", "this file holds a list"),
    "text": ("elbo", "this file holds a str"),
    "later format": ("format: 2\nseed: 0", "it is of another format; this version reads 1"),
    "no date": ("a: 2020-13-45", "not a configuration: month must be in 1..12"),
    "within itself": ("data: &d {path: *d}", "not a configuration: Circular reference"),
    "no end": ("[" * 1500, "not a configuration: maximum recursion"),
    "control character": ("a: \x00", "not YAML"),
}


@pytest.mark.parametrize(("text", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_named_with_its_fault(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=message) as error:
        load_run(path)
    assert str(error.value).startswith(str(path))


def test_code_in_yaml_is_not_run(tmp_path):
    target = tmp_path / "made"
    with pytest.raises(InputError):
        load_run(written(tmp_path, f"seed: !!python/object/apply:pathlib.Path.touch [{target}]"))
    with pytest.raises(InputError):
        apply_options({}, ["--seed", f"!!python/object/apply:os.system ['touch {target}']"])
    assert not target.exists()


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.yaml: no such file. Give the path"):
        load_run(tmp_path / "nowhere.yaml")


def test_a_folder_or_bytes_for_a_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read as text"):
        load_run(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="cannot be read as text"):
        load_run(tmp_path / "bytes.yaml")


# Options


def test_options_both_ways():
    content = apply_options({}, ["--objective.beta", "4", "--training.epochs=5", "--seed", "2", "--name=a-b"])
    assert content == {"objective": {"beta": 4}, "training": {"epochs": 5}, "seed": 2, "name": "a-b"}


def test_option_values_are_yaml():
    content = apply_options({}, ["--companion", "null", "--model.encoder.hidden", "[3, 4]", "--data.path", "''"])
    assert content["companion"] is None
    assert content["model"]["encoder"]["hidden"] == [3, 4]


def test_the_last_option_wins_over_the_file(tmp_path):
    path = written(tmp_path, "seed: 1\nobjective: {kind: elbo, beta: 2, samples: 3}")
    run = load_run(path, ["--objective.beta", "4", "--objective.beta", "5"])
    assert (run.seed, run.objective.beta, run.objective.samples) == (1, 5.0, 3)


BAD_OPTIONS = {
    "no value at the end": (["--seed"], "option --seed needs a value, such as --seed 1"),
    "no value before another": (["--seed", "--name", "x"], "option --seed needs a value"),
    "no option": (["seed", "1"], "unexpected argument 'seed'; options look like --training.epochs 5"),
    "one dash": (["-seed", "1"], "unexpected argument '-seed'"),
    "not YAML": (["--seed", "[1"], "--seed: not YAML at line 1"),
    "a key twice": (["--objective", "{beta: 1, beta: 2}"], "--objective: line 1: the key 'beta' stands twice"),
}


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        apply_options({}, options)


def test_a_negative_number_is_a_value():
    assert apply_options({}, ["--seed", "-1"]) == {"seed": -1}


# Merging


@pytest.mark.parametrize(
    ("base", "change", "result"),
    [
        ({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}),
        ({"o": {"kind": "elbo", "beta": 4}}, {"o": {"samples": 2}}, {"o": {"kind": "elbo", "beta": 4, "samples": 2}}),
        ({"o": {"kind": "elbo", "beta": 4}}, {"o": {"kind": "mu"}}, {"o": {"kind": "mu"}}),
        ({"o": {"kind": "elbo", "beta": 4}}, {"o": {"kind": "elbo", "beta": 1}}, {"o": {"kind": "elbo", "beta": 1}}),
        ({"o": {"kind": "elbo", "beta": 4}}, {"o": "mu"}, {"o": "mu"}),
        ({"o": "mu"}, {"o": {"samples": 2}}, {"o": {"kind": "mu", "samples": 2}}),
        ({"o": None}, {"o": {"lr": 2}}, {"o": {"lr": 2}}),
        ({"o": {"lr": 2}}, {"o": None}, {"o": None}),
        ({"m": {"e": {"kind": "mlp", "hidden": [1]}}}, {"m": {"e": {"kind": "conv"}}}, {"m": {"e": {"kind": "conv"}}}),
        ({"data": {"name": "mnist", "valid": 3}}, {"data": {"path": "x"}}, {"data": {"path": "x", "valid": 3}}),
        ({"data": {"path": "x", "size": 8}}, {"data": {"name": "mnist"}}, {"data": {"name": "mnist", "size": 8}}),
        ({"l": [1, 2, 3]}, {"l": [4]}, {"l": [4]}),
        ({"objective": {"beta": 4}}, {"objective": "elbo"}, {"objective": {"kind": "elbo", "beta": 4}}),
        ({"objective": {"beta": 4}}, {"objective": "mu"}, {"objective": {"kind": "mu"}}),
        ({"prior": {"kind": "flow", "steps": 4}}, {"prior": "flow"}, {"prior": {"kind": "flow", "steps": 4}}),
    ],
)
def test_merging(base, change, result):
    before = yaml.safe_dump([base, change])
    assert merged(base, change) == result
    assert yaml.safe_dump([base, change]) == before  # neither is changed


@pytest.mark.parametrize("seam", [s for s in catalogue.SEAMS if s != "metric"])
def test_a_part_without_a_kind_is_of_the_first_kind(seam):
    """`posterior: {kind: gaussian}` once dropped the size of the code that a base without a kind had given it."""
    first = kinds(catalogue.SEAMS[seam])[0]
    assert merged({seam: {"x": 1}}, {seam: {"kind": first, "y": 2}}) == {seam: {"x": 1, "kind": first, "y": 2}}
    assert DEFAULT_KINDS[seam] == first


def test_a_part_without_a_kind_in_a_model_by_name_is_that_of_the_model():
    base = {"model": {"kind": "vlae", "prior": {"steps": 3}}}
    assert merged(base, {"model": {"prior": {"kind": "normal"}}})["model"]["prior"] == {"kind": "normal"}
    kept = merged(base, {"model": {"prior": {"kind": "flow", "layers": 2}}})["model"]["prior"]
    assert kept == {"steps": 3, "kind": "flow", "layers": 2}


@pytest.mark.parametrize(
    "options",
    [
        ["--objective.beta", "4", "--objective.kind", "elbo"],
        ["--objective.beta", "4", "--objective", "elbo"],
        ["--objective.beta", "4", "--objective", "{kind: elbo}"],
    ],
)
def test_a_kind_after_its_fields_leaves_them(options):
    """`--objective.beta 4 --objective.kind elbo` once trained with beta 1, silently."""
    assert run_from(apply_options({}, options)).objective.beta == 4


def test_a_model_or_another_kind_after_its_fields_leaves_them():
    assert run_from(apply_options({}, ["--model.posterior.latent", "3", "--model", "aevb"])).model.posterior.latent == 3
    ring = apply_options({}, ["--data.options", "{components: 5}", "--data.name", "gaussian-ring"])
    assert ring == {"data": {"name": "gaussian-ring", "options": {"components": 5}}}
    run = run_from(apply_options({}, ["--objective.samples", "2", "--objective.kind", "mu"]))
    assert (run.objective.kind, run.objective.samples) == ("mu", 2)


def test_an_option_of_a_kind_given_by_its_name():
    """`--objective mu --objective.samples 2` once trained the default objective, silently."""
    run = run_from(apply_options({}, ["--objective", "mu", "--objective.samples", "2"]))
    assert (run.objective.kind, run.objective.samples) == ("mu", 2)


# Paths


def test_a_relative_data_path_is_relative_to_the_file(tmp_path, monkeypatch):
    folder = tmp_path / "configs"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    run = load_run(written(folder, "data: {path: ../images}"))
    assert run.data.path == str(tmp_path / "images")
    assert Path(run.data.path).is_absolute()


def test_an_absolute_data_path_stays(tmp_path):
    path = written(tmp_path, f"data: {{path: {tmp_path / 'images'}}}")
    assert load_run(path).data.path == str(tmp_path / "images")


@pytest.mark.parametrize("options", [["--data.path", "images"], ["--data.path=images"], ["--data", "{path: images}"]])
def test_an_option_is_relative_to_the_current_folder(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    assert run_from(apply_options({}, options)).data.path == str(tmp_path / "images")


def test_paths_of_a_study(tmp_path):
    text = "name: s\nbase: {data: {path: a}}\nvariants: {v: {data: {path: b}}}\naxes: {data.path: [c, /d]}\n"
    content = read_mapping(written(tmp_path, text))
    assert content["base"]["data"]["path"] == str(tmp_path / "a")
    assert content["variants"]["v"]["data"]["path"] == str(tmp_path / "b")
    assert content["axes"]["data.path"] == [str(tmp_path / "c"), "/d"]


def test_values_of_yaml_1_1_that_surprise():
    """PyYAML reads 1e-3 as text; the field makes a number of it."""
    assert parse_yaml("1e-3", "here") == "1e-3"
    assert run_from({"training": {"optimizer": {"lr": "1e-3"}}}).training.optimizer.lr == 0.001

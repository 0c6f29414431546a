"""Every slip at the command line: exit code 2, one message with the name and the cure, and nothing changed on disk."""

import gzip
import json
import os
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY

from elboroom import cli


def content():
    """Names and bytes of everything in the current folder."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in Path().rglob("*")}


def text(name, words):
    Path(name).write_text(words)


def npz(name, **arrays):
    np.savez(name, **arrays)


def edit(path, flip=-5):
    """Flip a bit of a file."""
    whole = bytearray(Path(path).read_bytes())
    whole[flip] ^= 1
    Path(path).write_bytes(bytes(whole))


def running(run):
    """Let a finished run look as if it had been killed."""
    state = json.loads((run / "state.json").read_text())
    (run / "state.json").write_text(json.dumps({**state, "status": "running"}))


def check(outcome, offender, cure, before):
    said = re.sub(r"[│╭╮╰╯─\s]+", " ", outcome.out + outcome.err)  # a box of tyro breaks its lines
    assert outcome.code == 2, said
    assert "Traceback" not in said
    assert offender in said
    assert re.search(cure, said), said
    assert content() == before


MLP = "--model.encoder.kind mlp"

# what: (arguments, the offender's name in the message, the cure as a regular expression)
OPTIONS = {
    "unknown command": ("trian x.yaml", "trian", "Did you mean 'train'"),
    "unknown recipe": ("study dmo", "dmo", "Did you mean 'demo'"),
    "unknown scale": ("study demo --scale smok", "smok", "smoke"),
    "scale that the study lacks": ("study demo --scale paper", "paper", "known: smoke"),
    "unknown objective": ("train --objective elbow", "elbow", "Did you mean 'elbo'"),
    "unknown encoder": ("train --model.encoder.kind mpl", "mpl", "Did you mean 'mlp'"),
    "unknown likelihood": ("train --model.likelihood bernouli", "bernouli", "Did you mean 'bernoulli'"),
    "unknown data": ("train --data.name digit", "digit", "Did you mean 'digits'"),
    "unknown split": ("train --data.name digits --data.split oficial", "oficial", "Did you mean 'official'"),
    "misspelled key": ("train --training.epoch 3", "epoch", "Did you mean 'epochs'"),
    "extra key": ("train --model.flow.kind iaf", "flow", "known: encoder"),
    "value of another type": ("train --training.epochs many", "epochs", "Correct the value"),
    "value out of range": ("train --training.batch 0", "batch", "greater than or equal to 1"),
    "infinite value": ("train --objective.beta .inf", "beta", "finite"),
    "point posterior with elbo": ("train --model.posterior.kind point", "posterior 'point'", "'reconstruction'"),
    "bernoulli on grey data": ("train --data.name digits --data.binarize none", "digits", "--data.binarize dynamic"),
    "squashed on nothing": ("train --data.name digits --data.copies 3", "copies", "set data.binarize to dynamic"),
    "conv fewer channels": ("train --model.decoder.kind conv --model.decoder.channels [4]", "conv", "at least 2"),
    "too many halvings": ("train --model.encoder.kind conv --model.encoder.kernel 4 "
                          "--model.encoder.channels [4,4,4,4,4,4]", "halvings", "fewer channels"),
    "unknown device": ("train --training.device tpu", "tpu", "Choose auto, cpu or cuda"),
    "no such configuration": ("train none.yaml", "none.yaml", "Give the path"),
    "no such study": ("study none.yaml", "none.yaml", "Give the path"),
    "a folder as configuration": ("train .", ".", "Give the path"),
    "no such data folder": ("train --data-dir ./nowhere", "nowhere", "--data-dir"),
    "bad budget": ("train --budget soon", "soon", "such as 45m"),
    "budget of nothing": ("train --budget 0s", "0s", "positive number"),
    "negative budget": ("study demo --budget=-5m", "-5m", "positive number"),
    "option without value": ("train --training.epochs", "--training.epochs", "needs a value"),
    "option without value before another": ("train --training.epochs --seed 1", "--training.epochs", "needs a value"),
    "stray argument": ("train a.yaml b.yaml", "b.yaml", ""),
    "unknown option": ("train --epochs 3", "--epochs", ""),
    "no run folder": ("evaluate nowhere", "nowhere", "elboroom train"),
    "no run folder to resume": ("resume nowhere", "nowhere", "elboroom train"),
    "no run folder to sample": ("sample nowhere", "nowhere", "elboroom train"),
    "no run folder to report": ("report nowhere", "nowhere", "elboroom"),
    "no study folder": ("results nowhere --out kept", "nowhere", "elboroom study"),
    "unknown data set to check": ("data check mnits", "mnits", "Did you mean 'mnist'"),
    "unknown data set to fetch": ("data fetch mnits", "mnits", "Did you mean 'mnist'"),
    "fetch nothing": ("data fetch", "fetch what", "elboroom data fetch mnist"),
    "module that is not there": ("train --model.decoder.kind no_such.module:Net", "no_such", "PYTHONPATH"),
    "class that is not there": ("train --model.decoder.kind user_part:Decodr", "Decodr", "Correct the name"),
    "no module's name": ("train --model.decoder.kind :Net", ":Net", "Mend it"),
    "a number as a class": ("train --model.decoder.kind user_part:number", "user_part:number", "Correct the name"),
    "wrong options": ("train --model.decoder.kind user_part:Decoder --model.decoder.options.depth 3", "depth",
                      "width"),
    "without a head": ("train --model.decoder.kind user_part:Headless", "Headless", "head"),
}  # fmt: skip


@pytest.mark.parametrize("case", OPTIONS)
def test_options(call, case):
    arguments, offender, cure = OPTIONS[case]
    before = content()
    words = arguments.split()
    check(call(*words, *(["--out", "new"] if words[0] == "train" else [])), offender, cure, before)


@pytest.mark.parametrize(
    "arguments",
    ["evaluate run", "doctor run", "resume run --training.epochs 9", "study demo --out new", "train --out new/run"],
)
def test_folders_that_cannot_be_written_to(call, run, monkeypatch, arguments):
    """Told before the work is done, not after."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and not mode & os.W_OK)
    for work in ("elboroom.evaluation.evaluate", "elboroom.evaluation.checkup.examine", "elboroom.build.data"):
        monkeypatch.setattr(work, lambda *given, **named: pytest.fail("it began to work"))
    outcome = call(*arguments.split())
    assert outcome.code == 2
    assert re.search(r"no access .it cannot be written to.\. Get the right to read and write there", outcome.err)


FILES = {
    "no YAML": ("seed: [1", "not YAML", "Mend it there"),
    "code to be run": ("seed: !!python/object/apply:os.system ['touch ran']", "code", "plain values"),
    "empty": ("", "nothing", "a configuration is a mapping"),
    "a list": ("- seed", "a list", "a configuration is a mapping"),
    "a key twice": ("seed: 1\nseed: 2", "'seed' stands twice", "Mend that line"),
    "another format": ("format: 99", "another format", "Update elboroom"),
    "companion without labels": (TINY.replace("limit: 64", "labels: false"), "companion 'classifier'", "null"),
    "name and path": ("data: {name: digits, path: x.npz}", "name", "not both"),
    "not text": ("\x00", "bad.yaml", "Mend"),
}


@pytest.mark.parametrize("case", FILES)
def test_configuration_files(call, case):
    words, offender, cure = FILES[case]
    text("bad.yaml", words)
    before = content()
    outcome = call("train", "bad.yaml", "--out", "new")
    check(outcome, offender, cure, before)
    assert "bad.yaml" in outcome.err or case == "companion without labels"


def vectors(name, n=30, d=5, shift=0.0):
    np.savetxt(name, np.random.default_rng(0).normal(size=(n, d)) + shift, delimiter=",")


def cut_gz():
    packed = gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 30, 8, 8) + bytes(30 * 64))
    Path("x-images-idx3-ubyte.gz").write_bytes(packed[: len(packed) // 2])


def holes():
    x = np.random.default_rng(0).random((30, 8, 8))
    x[3, 2, 1] = np.nan
    npz("x.npz", images=x)


def png(name, side):
    Image.new("L", (side, side)).save(name)


def pngs(side):
    Path("x").mkdir()
    for i in range(12):
        png(f"x/{i}.png", side)


GAUSSIAN = ("--model.likelihood.kind", "gaussian", "--data.binarize", "none")
CONV = ("--model.encoder.kind", "conv")
DATA = {
    "truncated gz": ("x-images-idx3-ubyte.gz", cut_gz, (), "x-images-idx3-ubyte.gz", r"\."),
    "NaN pixels": ("x.npz", holes, GAUSSIAN, "x.npz", "NaN"),
    "objects": ("x.npz", lambda: npz("x.npz", images=np.array([{}, None])), (), "x.npz", "object"),
    "empty folder": ("x", lambda: Path("x").mkdir(), (), "x", "image"),
    "no such file": ("x.npz", lambda: None, (), "x.npz", "data.path"),
    "CSV with text": ("x.csv", lambda: text("x.csv", "1,2\n3,four\n"), GAUSSIAN, "x.csv", "four"),
    "outside the support": ("x.csv", lambda: vectors("x.csv"), (), "bernoulli", "'gaussian'"),
    "conv on vectors": ("x.csv", lambda: vectors("x.csv"), (*GAUSSIAN, *CONV), "conv", "'mlp'"),
    "conv on large images": ("x", lambda: pngs(80), (*GAUSSIAN, *CONV), "conv", "--data.size 28"),
    "companion without labels": ("x.csv", lambda: vectors("x.csv"), (*GAUSSIAN, "--companion", "classifier"),
                                 "x.csv", "--companion null"),
    "patience without validation": ("x.csv", lambda: vectors("x.csv"), (*GAUSSIAN, "--training.patience", "3"),
                                    "patience", "[Ss]et data.valid"),
}  # fmt: skip


@pytest.mark.parametrize("case", DATA)
def test_data_of_ones_own(call, case):
    name, make, options, offender, cure = DATA[case]
    make()
    before = content()
    check(call("train", "--data.path", name, *options, "--out", "new"), offender, cure, before)


def other_shape():
    npz("other.npz", images=np.random.default_rng(0).random((12, 9, 9)))


def foreign(run):
    """A checkpoint of another run in the place of this one's."""
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("seed: 0\n", "seed: 1\n"))


def larger(run):
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("latent: 2", "latent: 3"))


def named_part(run):
    config = (run / "config.yaml").read_text()
    changed = re.sub(r"(?s)  decoder:\n.*?  likelihood", "  decoder: {kind: 'user_part:Decoder'}\n  likelihood", config)
    (run / "config.yaml").write_text(changed)


def write(name, words):
    return lambda run: (run / name).write_text(words)


def remove(name):
    return lambda run: (run / name).unlink()


def nothing(run):
    pass


MODEL, STATE = "checkpoints/step-4/model.safetensors", "checkpoints/step-4/state.json"
BEST = "checkpoints/best"
# what: (what is done to ./run first, arguments, offender, cure)
RUNS = {
    "run folder that exists": (nothing, "train --out run", "run", "elboroom resume run"),
    "out that is a file": (write("../file", "x"), "train --out file", "file", "--out"),
    "out inside of a file": (write("../file", "x"), "train --out file/run", "file/run", "--out"),
    "study out that is a file": (write("../file", "x"), "study demo --scale smoke --out file", "file", "--out"),
    "resume of a done run": (nothing, "resume run", "run", "already done"),
    "edited weights": (lambda run: edit(run / MODEL), "evaluate run --samples 0", MODEL, "train anew|step-"),
    "edited weights, resumed": (lambda run: (running(run), edit(run / MODEL)), "resume run", MODEL, "anew|step-"),
    "torn weights": (write(MODEL, "half"), "sample run", MODEL, "train anew|step-"),
    "missing weights": (remove(MODEL), "encode run", MODEL, "missing"),
    "edited state": (lambda run: edit(run / STATE, 60), "sample run", STATE, "torn or edited"),
    "missing state": (remove(STATE), "sample run", "step-4", "no whole checkpoint"),
    "unreadable pointer": (write(BEST, "step-four"), "sample run", "best", "Write one of: step-4"),
    "pointer to nothing": (write(BEST, "step-3"), "sample run", "step-3", "step-4"),
    "unreadable pointer, resumed": (lambda run: (running(run), write("checkpoints/last", "?")(run)), "resume run",
                                    "last", "Write one of: step-4"),
    "configuration edited": (foreign, "evaluate run", "config.yaml", "Undo the edit"),
    "configuration edited, resumed": (lambda run: (running(run), foreign(run)), "resume run", "config.yaml", "Undo"),
    "another architecture": (larger, "evaluate run", "config.yaml", "Undo the edit"),
    "configuration torn": (write("config.yaml", "seed: ["), "sample run", "config.yaml", "Mend"),
    "own part without trust": (named_part, "sample run", "user_part:Decoder", "--trust"),
    "own part without trust, resumed": (lambda run: (running(run), named_part(run)), "resume run",
                                        "user_part:Decoder", "--trust"),
    "own part without trust, evaluated": (named_part, "evaluate run", "user_part:Decoder", "--trust"),
    "no such checkpoint": (nothing, "sample run --checkpoint step-99", "step-99", "step-4"),
    "no such checkpoint's name": (nothing, "sample run --checkpoint newest", "newest", "step-4"),
    "unknown suffix": (nothing, "sample run --out x.gif", ".gif", "known: .npz"),
    "unknown suffix of codes": (nothing, "encode run --out x.np", ".np", "Did you mean '.npz'"),
    "output folder missing": (nothing, "encode run --out deep/x.npz", "deep", "Make it"),
    "output that is a folder": (lambda run: Path("x.npz").mkdir(), "encode run --out x.npz", "x.npz", "Name a file"),
    "png of codes": (nothing, "encode run --out x.png", ".png", "npz or .csv"),
    "negative samples": (nothing, "evaluate run --samples -1", "--samples", "at least 0"),
    "no images": (nothing, "evaluate run --images 0", "--images", "at least 1"),
    "no draws": (nothing, "sample run --n 0", "--n", "at least 1"),
    "sigma that is no number": (nothing, "sample run --sigma nan", "--sigma", "0 or more"),
    "one step": (nothing, "interpolate run --steps 1", "--steps", "at least 2"),
    "samples that are no number": (nothing, "evaluate run --samples many", "--samples", "int"),
    "unknown split": (nothing, "encode run --split tset", "tset", "test"),
    "other data that is not there": (nothing, "evaluate run --data other.npz", "other.npz", "known|Check"),
    "unknown other data": (nothing, "evaluate run --data digts", "digts", "Did you mean 'digits'"),
    "other data of several splits": (nothing, "evaluate run --data frey-faces", "frey-faces", "--data frey-faces:last"),
    "no such split of other data": (nothing, "evaluate run --data frey-faces:lsat", "lsat", "Did you mean 'last'"),
    "data of another shape": (lambda run: other_shape(), "evaluate run --data other.npz", "other.npz", "shape"),
    "data of another shape, reconstructed": (lambda run: other_shape(), "reconstruct run --data other.npz",
                                             "9", "takes"),
    "unknown device": (nothing, "evaluate run --device tpu", "tpu", "cpu"),
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS)
def test_run_folders(call, run, case, tmp_path, monkeypatch):
    prepare, arguments, offender, cure = RUNS[case]
    monkeypatch.setenv("USER_PART_RAN", str(tmp_path / "ran"))
    monkeypatch.delitem(sys.modules, "user_part", raising=False)
    prepare(run)
    before = content()
    check(call(*arguments.split()), offender, cure, before)
    assert not (tmp_path / "ran").exists()


def test_png_of_vectors(call):
    vectors("x.csv")
    assert call("train", "--data.path", "x.csv", *GAUSSIAN, "--training.epochs", "1", "--out", "run").code == 0
    before = content()
    check(call("sample", "run", "--out", "x.png"), ".png", "npz or .csv", before)


def test_study_whose_runs_cannot_be_trained_says_so(call):
    text("s.yaml", "name: s\nbase: {data: {path: nowhere.npz}, training: {epochs: 1}}")
    outcome = call("study", "s.yaml", "--out", "s")
    assert outcome.code == 2
    assert "nowhere.npz" in outcome.err


def test_runs_of_a_study_that_would_share_a_folder(call):
    text("s.yaml", "name: s\naxes: {seed: [0, 0]}")
    check(call("study", "s.yaml", "--out", "s"), "share the folder", "different values", content())


def test_our_own_mistakes_are_shown_with_a_traceback(call, monkeypatch, run):
    def broken(*args, **options):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(cli, "_inputs", broken)
    with pytest.raises(ZeroDivisionError):
        monkeypatch.setattr("sys.argv", ["elboroom", "encode", "run"])
        cli.main()

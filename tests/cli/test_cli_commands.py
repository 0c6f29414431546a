"""Each command does what it says, twice the same; data of one's own and parts of one's own come by their path."""

import csv
import importlib.metadata
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import TINY

import elboroom
from elboroom.errors import InputError
from elboroom.models.evidence import log_evidence

QUICK = ("--training.epochs", "1", "--model.posterior.latent", "2", "--model.encoder.hidden", "[8]",
         "--model.decoder.hidden", "[8]")  # fmt: skip
GREY = ("--model.likelihood", "gaussian")


def done(outcome):
    assert outcome.code == 0, outcome.err
    return outcome


def twice(call, *arguments, out):
    """The bytes of an output, the same from two calls."""
    found = set()
    for _ in range(2):
        done(call(*arguments, "--out", out))
        found.add(Path(out).read_bytes())
    assert len(found) == 1
    assert not list(Path().glob(".*"))
    return found.pop()


def test_from_training_to_the_page(call):
    Path("c.yaml").write_text(TINY)
    done(call("train", "c.yaml", "--out", "run", "--training.epochs", "1"))
    assert elboroom.load("run").config.training.epochs == 1  # the option wins over the file
    said = done(call("evaluate", "run", "--samples", "5")).out
    assert all(name in said for name in ("elbo =", "nll =", "active-units =", "accuracy/z ="))
    first = Path("run/scores.json").read_bytes()
    done(call("evaluate", "run", "--samples", "5"))
    assert Path("run/scores.json").read_bytes() == first
    assert Path(done(call("report", "run")).out.split()[-1]).is_file()
    assert not list(Path().rglob("*.tmp"))


def test_scores_of_a_checkpoint_on_the_way_are_not_those_of_the_run(call, place):
    done(call("train", *QUICK, "--training.epochs", "2", "--training.keep_epochs", "[1]", "--out", "run"))
    assert "stay as they are" not in done(call("evaluate", "run", "--samples", "0")).out
    own, (first, last) = Path("run/scores.json").read_bytes(), sorted(elboroom.load("run").store.steps())
    said = done(call("evaluate", "run", "--samples", "0", "--checkpoint", f"step-{first}")).out
    assert "The run's own scores, those of `--checkpoint auto`, stay as they are." in said
    assert Path("run/scores.json").read_bytes() == own
    assert Path(f"run/evaluation/step-{first}/scores.json").read_bytes() != own
    assert "stay as they are" not in done(call("evaluate", "run", "--samples", "0", "--checkpoint", f"step-{last}")).out


def test_without_a_trained_encoder_it_is_said_what_to_ask_for(call, place):
    sampled = ("--objective.kind", "monte-carlo-em", "--objective.leapfrog", "1", "--objective.burn_in", "1")
    done(call("train", *QUICK, *sampled, "--data.limit", "60", "--out", "run"))
    said = done(call("evaluate", "run")).out
    assert "left out: the objective 'monte-carlo-em' does not train the encoder" in said
    assert "no scores: " in said
    assert "--metrics marginal does" in said
    assert "" not in said.splitlines()


def test_fields_of_data_without_a_name_are_those_of_the_default_data(call):
    done(call("train", *QUICK, "--data.valid", "100", "--data.limit", "200", "--out", "run"))
    data = elboroom.load("run").config.data
    assert (data.name, data.binarize, data.valid, data.limit) == ("digits", "dynamic", 100, 200)


def test_other_data_by_name_and_split(call, run):
    """A folder of a data set's name is not meant by it, but by ./digits."""
    Path("digits").mkdir()
    for name in ("digits:official", "digits"):
        assert "elbo =" in done(call("evaluate", run, "--samples", "0", "--data", name)).out
    assert call("evaluate", run, "--samples", "0", "--data", "./digits").code == 2


def test_arrays_out(call, run):
    twice(call, "sample", run, "--n", "6", out="s.npz")
    assert np.load("s.npz")["images"].shape == (6, 1, 8, 8)
    twice(call, "reconstruct", run, "--n", "3", "--split", "valid", out="r.NPZ")
    assert {k: v.shape for k, v in np.load("r.NPZ").items()} == {
        "images": (3, 1, 8, 8),
        "reconstructions": (3, 1, 8, 8),
    }
    twice(call, "interpolate", run, "--n", "2", "--steps", "5", out="i.npz")
    assert np.load("i.npz")["interpolations"].shape == (2, 5, 1, 8, 8)
    twice(call, "encode", run, out="e.npz")
    assert {k: v.shape for k, v in np.load("e.npz").items()} == {"mean": (300, 2), "rows": (300,), "labels": (300,)}


def test_codes_as_a_table(call, run):
    twice(call, "encode", run, out="e.csv")
    with Path("e.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["mean-0", "mean-1", "rows", "labels"]
    opened = elboroom.load(run)
    codes = opened.encode(opened.data.test.fixed(torch.arange(300)).x.numpy())
    np.testing.assert_allclose([[float(r["mean-0"]), float(r["mean-1"])] for r in rows], codes, rtol=1e-6)


def test_pictures_out(call, run):
    for command, across in (("sample", 8), ("reconstruct", 8), ("interpolate", 10)):
        twice(call, command, run, out=f"{command}.png")
        with Image.open(f"{command}.png") as picture:
            assert picture.size[0] == across * 34 - 2  # 8x8 enlarged four times, with a gap of two


def test_other_seeds_draw_other_samples(call, run):
    assert twice(call, "sample", run, "--seed", "1", out="a.npz") != twice(call, "sample", run, out="b.npz")


def test_in_python(run):
    opened = elboroom.load(run)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    codes = opened.encode(images)
    assert codes.shape == (5, 2)
    assert opened.decode(codes).shape == opened.reconstruct(images).shape == (5, 1, 8, 8)
    np.testing.assert_array_equal(opened.decode(codes), opened.reconstruct(images))
    assert opened.sample(3).shape == (3, 1, 8, 8)
    assert opened.interpolate(images[:2], images[2:4], steps=4).shape == (2, 4, 1, 8, 8)
    bound = opened.log_likelihood(images, samples=7)
    assert bound.shape == (5,)
    np.testing.assert_array_equal(bound, opened.log_likelihood(images, samples=7))
    assert opened.encode(images[:0]).shape == (0, 2)
    assert opened.encode(images[:1, None].astype(float) / 255).shape == (1, 2)


@pytest.mark.parametrize(
    ("images", "words"),
    [(np.zeros((2, 9, 9)), "takes"), (np.full((2, 8, 8), np.nan), "NaN"), (np.full((2, 8, 8), 7.0), "scale them")],
)
def test_images_that_do_not_fit(run, images, words):
    with pytest.raises(InputError, match=words):
        elboroom.load(run).encode(images)


def test_bytes_of_binary_data_are_what_their_range_says(finished):
    """A file of zeros and ones is read as such in training, and so is an array."""
    x = np.random.default_rng(0).integers(0, 2, (5, 8, 8), dtype=np.uint8)
    opened = elboroom.load(finished)
    for same in (x, x.astype(bool), x.astype(float), 255 * x):
        np.testing.assert_array_equal(opened.prepare(same).cpu().numpy()[:, 0], x)


def test_codes_that_do_not_fit(run):
    with pytest.raises(InputError, match="codes are"):
        elboroom.load(run).decode(np.zeros((2, 5)))


def test_likelihood_in_little_memory_is_the_same(run):
    """More samples than the budget holds: pieces, and the same value."""
    opened = elboroom.load(run)
    x = opened.prepare(np.random.default_rng(0).random((3, 8, 8), dtype=np.float32))
    found = [log_evidence(opened.model, x, torch.arange(3), 1_500, budget=b).bound for b in (1_000, 64 << 20)]
    torch.testing.assert_close(*found)


# data of one's own


def test_npz_with_labels(call):
    random = np.random.default_rng(0)
    np.savez("x.npz", images=random.random((40, 8, 8), dtype=np.float32), labels=np.arange(40) % 4)
    done(call("train", "--data.path", "x.npz", *GREY, *QUICK, "--companion.hidden", "[8]", "--out", "run"))
    done(call("evaluate", "run", "--samples", "3"))
    done(call("report", "run"))
    done(call("encode", "run"))
    assert "labels" in np.load("codes.npz")


def test_folder_of_pictures(call):
    Path("x").mkdir()
    for i in range(24):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (10, 12), dtype=np.uint8)).save(f"x/{i:02}.png")
    done(call("train", "--data.path", "x", "--data.size", "8", *GREY, *QUICK, "--out", "run"))
    done(call("evaluate", "run", "--samples", "3"))
    done(call("report", "run"))


def test_table_of_vectors(call):
    np.savetxt("x.csv", np.random.default_rng(0).normal(size=(60, 5)), delimiter=",")
    done(call("train", "--data.path", "x.csv", *GREY, *QUICK, "--out", "run"))
    done(call("evaluate", "run", "--samples", "3"))
    done(call("report", "run"))
    done(call("sample", "run", "--n", "4", "--out", "s.csv"))
    assert np.loadtxt("s.csv", delimiter=",", skiprows=1).shape == (4, 5)


def test_relative_path_is_relative_to_the_file_that_says_it(call):
    Path("deep").mkdir()
    np.savetxt("deep/x.csv", np.random.default_rng(0).normal(size=(60, 5)), delimiter=",")
    Path("deep/c.yaml").write_text("data: {path: x.csv}\nmodel: {likelihood: {kind: gaussian}}")
    done(call("train", "deep/c.yaml", *QUICK, "--out", "run"))
    assert elboroom.load("run").config.data.path == str(Path("deep/x.csv").resolve())
    done(call("train", "run/config.yaml", "--out", "again"))
    assert elboroom.load("again").checkpoint_hash == elboroom.load("run").checkpoint_hash


def test_evaluation_on_other_data(call, run):
    random = np.random.default_rng(0)
    np.savez("other.npz", images=random.random((40, 8, 8), dtype=np.float32), labels=np.arange(40) % 3)
    said = done(call("evaluate", run, "--data", "other.npz", "--samples", "3")).out
    assert "accuracy" not in said  # the classes are not the companion's
    scores = json.loads((run / "scores.json").read_text())["scores"]
    assert {s["protocol"]["data"] for s in scores} == {"other.npz"}
    assert not list((run / "evaluation").rglob("codes*"))
    done(call("evaluate", run, "--samples", "0"))
    scores = json.loads((run / "scores.json").read_text())["scores"]
    assert {s["protocol"]["data"] for s in scores} == {"other.npz", "digits"}


# parts of one's own


def test_own_parts_train_and_open_with_trust(call):
    own = ("--model.encoder.kind", "user_part:Encoder", "--model.decoder.kind", "user_part:Decoder",
           "--model.decoder.options.width", "5")  # fmt: skip
    done(call("train", *own, "--training.epochs", "1", "--out", "run"))
    assert call("sample", "run").code == 2
    done(call("sample", "run", "--trust"))
    done(call("evaluate", "run", "--samples", "3", "--trust"))
    done(call("report", "run"))  # runs nothing
    with pytest.raises(InputError, match=r"user_part:Encoder.*trust=True"):
        elboroom.load("run")
    assert elboroom.load("run", trust=True).model.decoder.network.width == 5


# what tells of itself


def test_version(call):
    assert done(call("--version")).out.strip() == importlib.metadata.version("elboroom")


def test_recipes(call):
    assert {"demo", "mnist-vae"} <= {
        line.split()[0] for line in done(call("recipes")).out.splitlines() if line[0] != " "
    }


def test_data_list_and_check(call):
    listed = done(call("data", "list")).out
    assert "digits" in listed
    assert "elboroom data fetch mnist" in listed
    assert re.search(r"ok +digits", done(call("data", "check", "digits")).out)
    assert re.search(r"absent +mnist", done(call("data", "check", "mnist")).out)


def test_damaged_files_of_a_data_set_are_bad(call, tmp_path):
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz",
                 "t10k-labels-idx1-ubyte.gz"):  # fmt: skip
        (tmp_path / "data" / "mnist" / name).write_bytes(b"torn")
    outcome = call("data", "check", "mnist")
    assert outcome.code == 2
    assert re.search(r"BAD +mnist .*train-images", outcome.out)


def test_diverging_run(call):
    outcome = call("train", *QUICK, "--training.optimizer.lr", "1e38", "--training.batch", "400", "--out", "run")
    assert outcome.code == 1
    assert re.search(r"diverged at step [\d,]+: [\w-]+ is not finite.*smaller learning rate", outcome.err)
    assert json.loads(Path("run/state.json").read_text())["status"] == "diverged"

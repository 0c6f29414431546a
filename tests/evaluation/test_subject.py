"""What metrics look at: codes computed once, and metrics that a run cannot have."""

import pytest
import torch
from oracles.configurations import small_run
from oracles.small_data import data_of, run_of

from elboroom import build
from elboroom.config.files import metrics_from
from elboroom.config.metrics import SETS, expanded
from elboroom.errors import InputError
from elboroom.evaluation.evaluate import measure
from elboroom.evaluation.samples import decoded, to_bytes
from elboroom.evaluation.subject import Subject
from elboroom.models import VAE

X = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(1)).round()


class Deaf(torch.nn.Module):
    """A decoder that does not listen to the code."""

    def __init__(self, decoder):
        super().__init__()
        self.inner, self.name = decoder, decoder.name

    def forward(self, z):
        return self.inner(torch.zeros_like(z))


def subject(tmp_path, *, labels=None, deaf=False, **more):
    config = small_run()
    model = build.model(config, (1, 8, 8), "binary").eval()
    if deaf:
        model = VAE(model.encoder, model.prior, Deaf(model.decoder))
    run = run_of(config, model, (1, 8, 8))
    run.__dict__.update(folder=tmp_path, data=data_of(X, labels))
    return Subject(run, **more)


def shuffled(found):
    return measure(found, metrics_from("shuffled-codes"))[0].scores[0]


def test_codes_of_another_image_cost_nothing_where_the_decoder_is_deaf(tmp_path):
    assert shuffled(subject(tmp_path, deaf=True)).value == 0


def test_codes_of_another_image_cost_what_two_passes_say(tmp_path):
    """Against a loop over pairs, with the permutation undone by hand."""
    found = subject(tmp_path)
    order = found.permutation(60, "shuffled codes")
    z, p = found.codes().z, found.model.decoder
    log_px = [p(z[b : b + 1]).log_prob(X[a : a + 1]).item() for a, b in zip(order, order.roll(1), strict=True)]
    own = [p(z[a : a + 1]).log_prob(X[a : a + 1]).item() for a in order]
    score = shuffled(found)
    assert score.value == pytest.approx((sum(own) - sum(log_px)) / 60, abs=1e-5)
    assert (score.examples, score.better, score.unit) == (60, "higher", "nats")


def test_one_image_has_no_other_code(tmp_path):
    """It would be decoded from its own, and the decoder called deaf."""
    found = subject(tmp_path)
    found.run.__dict__["data"] = data_of(X[:1])
    skipped = measure(Subject(found.run), metrics_from("shuffled-codes"))[1]
    assert "one image has no other's code" in skipped["shuffled-codes"]


def test_kept_codes_have_the_labels_that_their_images_have_now(tmp_path):
    first = subject(tmp_path, labels=torch.arange(60) % 3).codes()
    again = subject(tmp_path, labels=torch.arange(60) % 2)
    assert again.codes().z.equal(first.z)
    assert again.codes().labels.equal(torch.arange(60) % 2)


def test_codes_are_kept_and_those_of_other_weights_are_not_taken(tmp_path):
    first = subject(tmp_path).codes()
    again = subject(tmp_path)
    again.run.__dict__["model"] = None  # reading needs no model
    torch.testing.assert_close(again.codes().z, first.z)
    other = subject(tmp_path)
    other.run.__dict__["checkpoint_hash"] = "def"
    (tmp_path / "evaluation" / "step-1" / "codes-test.safetensors").touch()
    assert other.codes() is not None
    other.run.__dict__["checkpoint_hash"] = "abc"
    kept = subject(tmp_path)
    assert kept._kept_codes("test").mean.equal(first.mean)


def test_kept_codes_come_back_where_fresh_ones_would_lie(tmp_path, monkeypatch):
    """On the device of the examples, not of the file."""
    moved = []
    subject(tmp_path).codes()
    monkeypatch.setattr("elboroom.evaluation.codes.Codes.to", lambda codes, device: moved.append(device) or codes)
    subject(tmp_path).codes()
    assert moved == [torch.device("cpu")]


def test_torn_codes_are_computed_anew(tmp_path):
    first = subject(tmp_path).codes()
    path = tmp_path / "evaluation" / "step-1" / "codes-test.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    torch.testing.assert_close(subject(tmp_path).codes().z, first.z)


def test_mean_of_fifty_samples_nears_the_mean(tmp_path):
    found = subject(tmp_path)
    spread = (0.5 * found.codes().log_var).exp() / 50**0.5
    z = (found.code("mean-of-50") - found.code("mean")) / spread
    assert z.abs().max() < 5
    assert 0.8 < z.std() < 1.2


def test_the_code_of_thresholded_images_is_that_of_the_encoder_by_hand(tmp_path):
    """Grey images, binarized anew at every step; the drawn binarization gives other codes."""
    grey = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    found = subject(tmp_path)
    found.data = data_of(grey, binarize="dynamic")
    with torch.no_grad():
        expected = found.model.encoder((grey > 0.5).float()).mean
    assert found.thresholded.code().equal(expected)
    assert not torch.allclose(found.code(), expected, atol=0.01)
    assert found.thresholded.code_protocol().binarization == "threshold"
    with pytest.raises(InputError, match=r"are not binarized.*Leave `thresholded` out"):
        _ = subject(tmp_path).thresholded


def test_probes_clusters_and_planes_read_thresholded_images_where_asked(tmp_path):
    found = subject(tmp_path, labels=torch.arange(60) % 2)
    found.data = data_of(torch.rand(60, 1, 8, 8), torch.arange(60) % 2, binarize="dynamic")
    rest = "thresholded: true, controls: [pixels]"
    asked = f"[{{kind: knn, labels: [30], scaling: [raw], {rest}}}, {{kind: clusters, sizes: [3], {rest}}}]"
    made, skipped = measure(found, metrics_from(asked))
    plane, _ = measure(found, metrics_from("[{kind: embedding, thresholded: true}]"))
    made.scores.extend(plane.scores)
    assert not skipped
    assert {s.protocol.binarization for s in made.scores} == {"threshold"}
    assert any(s.protocol.code == "control: pixels" for s in made.scores)


def test_what_belongs_to_the_data_is_computed_once_by_a_version(tmp_path, monkeypatch):
    calls = []
    found = subject(tmp_path, cache=tmp_path / "cache")
    for settings in ({"k": 1}, {"k": 1}, {"k": 2}):
        value = found.remembered("controls", settings, lambda: calls.append(1) or [1.5])
        assert value == [1.5]
    assert len(calls) == 2
    monkeypatch.setattr("elboroom.evaluation.subject.version", lambda name: "later")
    found.remembered("controls", {"k": 1}, lambda: calls.append(1) or [1.5])
    assert len(calls) == 3


def test_without_labels_the_message_says_so(tmp_path):
    with pytest.raises(InputError, match=r"has no labels.*Give labels"):
        subject(tmp_path).labels()


def test_sets_of_metrics_and_unknown_names():
    kinds = [m.kind for m in metrics_from("standard")]
    assert kinds == list(dict.fromkeys(m["kind"] for m in SETS["standard"]))
    assert expanded(["standard", "standard"]) == SETS["standard"]
    with pytest.raises(InputError, match=r"unknown metric 'shufled-codes'; known: .*Did you mean 'shuffled-codes'"):
        metrics_from("shufled-codes")


def test_more_pictures_move_one_dimension_over_the_whole_range(tmp_path):
    """Against the decoder by hand: dimension 1 at its last step is z = (0, r); draws of twice the spread."""
    found = subject(tmp_path)
    asked = "[{kind: pictures, reaches: [3], steps: 5, sigmas: [1, 2], count: 4}]"
    made = measure(found, metrics_from(asked))[0].arrays["more-pictures"]
    with torch.no_grad():
        end = found.model.decoder(torch.tensor([[0.0, 3.0]])).mean
    assert made["traversals-3"].shape == (2, 5, 1, 8, 8)
    assert made["traversals-3"][1, 4].equal(to_bytes(end)[0])
    assert made["traversals-3"][0, 2].equal(made["traversals-3"][1, 2])  # the middle is z = 0
    assert made["samples-1"].shape == made["samples-2"].shape == (4, 1, 8, 8)
    spread = [made[f"samples-{s}"].double().std(0).mean() for s in (1, 2)]
    assert spread[1] > 1.3 * spread[0]


def test_pictures_of_vectors_are_refused(tmp_path):
    found = subject(tmp_path)
    found.run.__dict__["shape"] = (64,)
    skipped = measure(found, metrics_from("[{kind: pictures, sigmas: [1]}]"))[1]
    assert "are no images" in skipped["pictures, sigmas 1.0"]


def test_draws_of_a_decoder_that_goes_pixel_by_pixel_have_noise_of_their_own():
    """Equal codes give one picture where it is a function of the code, and images of p(x|z) where it is a draw."""
    walks = build.model(small_run(decoder="pixelcnn"), (1, 8, 8), "binary")
    z = torch.zeros(6, 2)
    with torch.no_grad():
        means, draws = walks.decoder(z).mean, decoded(walks, z)
    torch.testing.assert_close(means[1:], means[:-1])  # not bit for bit: the order of sums may depend on the place
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert len({tuple(image.flatten().tolist()) for image in draws}) == 6
    assert decoded(walks, z).equal(draws)
    plain = build.model(small_run(), (1, 8, 8), "binary")
    with torch.no_grad():
        assert decoded(plain, z).equal(plain.decoder(z).mean)

"""How good generated images are: the Fréchet distance of features, and the confidence of a classifier."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from elboroom.data import Examples
from elboroom.errors import InputError
from elboroom.evaluation.classifiers import FEATURES, WEAK, Classifier, classifier
from elboroom.evaluation.density import source
from elboroom.evaluation.subject import Found, Subject
from elboroom.evaluation.views import mean_score
from elboroom.models import VAE
from elboroom.numerics import Randomness, seed_for
from elboroom.scores import DRAWN, Protocol, Score

CONTROL = "control: train images"
Images = Iterator[Float[Tensor, "batch *event"]]


# ---- the Fréchet distance -----------------------------------------------------------------------------------------


def matrix_sqrt(s: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The symmetric square root of a covariance, through its eigenvalues; those that rounding made negative count 0."""
    values, vectors = torch.linalg.eigh(s.double())
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def frechet_distance(
    mean: Float[Tensor, " d"],
    cov: Float[Tensor, "d d"],
    other_mean: Float[Tensor, " d"],
    other_cov: Float[Tensor, "d d"],
) -> float:
    r"""Squared Fréchet (2-Wasserstein) distance of two Gaussians.

    .. math:: d^2 = \|m_1 - m_2\|^2 + \mathrm{tr}\,(S_1 + S_2 - 2\,(S_1 S_2)^{1/2})

    Dowson & Landau (1982); of features of images: Heusel et al. (2017), arXiv:1706.08500. In float64. The trace of the
    root is the sum of the singular values of :math:`S_1^{1/2} S_2^{1/2}`: a root of eigenvalues that are 0 but for
    rounding would cost half of the digits. Covariances of any rank will do.

    Returns:
        The distance, 0 or more; NaN where a number is not finite.
    """
    numbers = [x.double() for x in (mean, cov, other_mean, other_cov)]
    if not all(x.isfinite().all() for x in numbers):
        return float("nan")
    m1, s1, m2, s2 = numbers
    shared = torch.linalg.svdvals(matrix_sqrt(s1) @ matrix_sqrt(s2)).sum()
    return ((m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * shared).clamp_min(0).item()


def moments(features: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and covariance, in float64."""
    features = features.double()
    return features.mean(0), torch.cov(features.T).reshape(features.shape[1], features.shape[1])


def frechet(subject: Subject, *, images: int = 10_000, pixels: str = "mean") -> Found:
    """Fréchet distance between features of test images and of what the model makes.

    The features are the last hidden layer of a small classifier of this data set (named in the protocol), so distances
    of different data sets, or under different classifiers, have no common scale. Rows, by the protocol's ``code``:
    images decoded from draws of the prior and of densities fitted to the training codes (``gaussian``, ``mixture``);
    reconstructions of the test images from one sampled z; and as a control, training images, which a perfect generator
    would equal and a memorizing one too.

    Both sides have the same number of images n in every row. The estimate is too high by about a constant over n that
    depends on the model (Chong & Forsyth 2020, arXiv:1911.07023), so it is compared at equal n alone; that of
    two sets of real images, the control, shows how much.

    Args:
        subject: a run under evaluation.
        images: n at most; the size of the test or the training split where that is smaller.
        pixels: ``mean``: the mean of p(x|z), against test images before binarization; ``sample``: one draw of p(x|z),
            against test images as the model sees them.

    Raises:
        InputError: data without labels, which no classifier can learn from.
    """
    judge = classifier(subject, FEATURES)
    n = min(images, subject.seen.count, len(subject.data.train))
    if n < 2:
        sizes = f"{images:,} are asked for, {subject.seen.count:,} to score, {len(subject.data.train):,} of training"
        raise InputError(f"the Fréchet distance needs 2 images of each kind at least: {sizes}. Take or give more.")
    chosen = subject.permutation(subject.seen.count, "generation")[:n]
    test = moments(_features(judge, originals(subject.seen.examples, chosen, pixels)))
    held = _protocol(subject, judge, f"Gaussian fits to features of {n:,} images; {WORDS[pixels]}", pixels)
    settings = [images, pixels, judge.hash]
    values = {CONTROL: subject.remembered("fd/control", settings, lambda: _control(subject, judge, test, n, pixels))}
    notes: dict[str, str | None] = {}
    for kind, decoded_images in _generated(subject, chosen, pixels, notes):
        values[kind] = frechet_distance(*test, *moments(_features(judge, decoded_images)))
    scores = [_score("fd", v, "", "lower", n, _of_code(held, k)) for k, v in values.items()]
    return Found([_accuracy(subject, judge, "fd/accuracy"), *scores], notes=notes)


WORDS = {"mean": "means of p(x|z), test images before binarization", "sample": "draws of p(x|z)"}


def _generated(
    subject: Subject, chosen: Integer[Tensor, " n"], pixels: str, notes: dict[str, str | None]
) -> Iterator[tuple[str, Images]]:
    """By the origin of the codes, the prior last; and notes on the densities that they are drawn from."""
    yield "reconstructions", decoded(subject.model, subject.code("z")[chosen].to(subject.run.device), pixels)
    for kind in ("gaussian", "mixture", "prior"):
        z, note = drawn(subject, kind, len(chosen))
        notes[f"fd, {kind}"] = note
        yield kind, decoded(subject.model, z, pixels)


def _control(subject: Subject, judge: Classifier, test: tuple[Tensor, Tensor], n: int, pixels: str) -> float:
    """The distance of training images."""
    train = subject.data.train
    chosen = subject.permutation(len(train), "generation")[:n]
    return frechet_distance(*test, *moments(_features(judge, originals(train, chosen, pixels))))


def _features(judge: Classifier, images: Images) -> Float[Tensor, "n d"]:
    return over(judge.network.features, images)


# ---- confidence ---------------------------------------------------------------------------------------------------


def confidence(subject: Subject, *, images: int = 10_000, density: str = "prior") -> Found:
    r"""How sure a weak classifier is of generated images, relative to real ones.

    .. math:: \frac{\frac1n \sum_i \max_c p(c | \hat x_i)}{\frac1N \sum_j \max_c p(c | x_j)}

    over n decoded draws (``confidence/samples``), n reconstructions of test images from sampled z
    (``confidence/reconstructions``) and from the mean (``confidence/mean-reconstructions``), all of them means of
    p(x|z); below, the N test images before any binarization (``confidence/baseline``). What is reconstructed are the
    test images as the model sees them (their first binarization, where it was trained on binarized ones), and the
    classifier sees no binarized image: it has learned from training images before any binarization, and the mean of
    p(x|z) is grey as these are. Above 1, images are easier to recognize than real ones. It says nothing of variety: a
    decoder that repeats one clear image scores high.
    Eq. (13) of the study of the ELBO in β-VAEs. Standard errors take the baseline as given.

    Args:
        subject: a run under evaluation.
        images: n at most; there are no more reconstructions than test images.
        density: of the codes of samples: ``prior``, or ``gaussian`` or ``mixture``, fitted to training codes.

    Raises:
        InputError: data without labels, which no classifier can learn from.
    """
    judge, model, seen = classifier(subject, WEAK), subject.model, subject.seen
    baseline = _sureness(judge, originals(seen.examples, torch.arange(seen.count)))
    chosen = subject.permutation(seen.count, "generation")[:images]
    sure = "highest probability of a class"
    held = _protocol(subject, judge, f"{sure}, {len(baseline):,} images", "mean")
    scores = [
        _accuracy(subject, judge, "classifier/accuracy"),
        mean_score("confidence/baseline", baseline, "probability", "", held),
    ]
    z, doubt = drawn(subject, density, images)
    notes = {f"confidence/samples, {density}": doubt}
    codes = {
        "samples": (density, z),
        "reconstructions": ("z", subject.code("z")[chosen].to(subject.run.device)),
        "mean-reconstructions": ("mean", subject.code("mean")[chosen].to(subject.run.device)),
    }
    for name, (code, z) in codes.items():
        share = _sureness(judge, decoded(model, z)) / baseline.mean()
        words = f"{sure}, {len(share):,} images, over that of test images"
        how = dataclasses.replace(_of_code(held, code), estimator=words)
        scores.append(mean_score(f"confidence/{name}", share, "ratio", "", how))
    return Found(scores, notes=notes | {"classifier/accuracy": _chance(scores[0], subject.labels())})


def _chance(accuracy: Score, labels: Integer[Tensor, " n"]) -> str | None:
    """A sentence where the classifier knows no more than which class is the commonest; None where it does."""
    commonest = 100 * labels.unique(return_counts=True)[1].max().item() / len(labels)
    if accuracy.value - 2 * (accuracy.stderr or 0.0) > commonest:
        return None
    return (
        f"the classifier is right in {accuracy.value:.3g} % of test images, the commonest class alone in "
        f"{commonest:.3g} %: it has learned nothing, and its confidence says nothing."
    )


def _sureness(judge: Classifier, images: Images) -> Float[Tensor, " n"]:
    """The highest probability of a class, of each image, in float64."""
    return over(lambda x: judge.network(x).double().softmax(-1).amax(-1), images)


# ---- images -------------------------------------------------------------------------------------------------------


def originals(examples: Examples, index: Integer[Tensor, " n"], pixels: str = "mean", size: int = 500) -> Images:
    """Images of a split before binarization (``mean``) or as the model sees them (``sample``)."""
    for part in index.to(examples.device).split(size):
        yield examples.unbinarized(part) if pixels == "mean" else examples.fixed(part).x


@torch.no_grad()
def decoded(model: VAE, z: Float[Tensor, "n latent"], pixels: str = "mean", size: int = 500) -> Images:
    """The mean of p(x|z), or one draw of it; the global generators are left as they were."""
    for i, part in enumerate(z.split(size)):
        likelihood = model.decoder(part)
        if pixels == "mean":
            yield likelihood.mean
            continue
        with torch.random.fork_rng(devices=[part.device] if part.is_cuda else []):
            torch.manual_seed(seed_for(0, "pixels", i))
            images = likelihood.sample()
        yield images


def drawn(subject: Subject, kind: str, n: int) -> tuple[Float[Tensor, "n latent"], str | None]:
    """n codes from the prior or from a fitted density, on the run's device; and what is to be doubted of the fit."""
    with torch.no_grad():
        density = source(subject, kind)
        return density.draw(n, Randomness(0)("generation")).to(subject.run.device), getattr(density, "doubt", None)


@torch.no_grad()
def over(look: Callable[[Tensor], Tensor], images: Iterable[Tensor]) -> Tensor:
    """What a function of batches finds, in one piece, in float64."""
    return torch.cat([look(batch).double() for batch in images])


def _protocol(subject: Subject, judge: Classifier, estimator: str, pixels: str) -> Protocol:
    """With the binarization of what the classifier saw: none where images are compared before it (what the encoder
    saw, for reconstructions, is binarized as the data is)."""
    held = subject.protocol(estimator=estimator, classifier=judge.hash)
    return dataclasses.replace(held, copies=1, binarization="none" if pixels == "mean" else held.binarization)


def _of_code(held: Protocol, code: str) -> Protocol:
    """With where the decoded codes came from, and the posterior samples behind them."""
    return dataclasses.replace(held, code=code, samples=DRAWN.get(code, 0))


def _accuracy(subject: Subject, judge: Classifier, name: str) -> Score:
    """Of the classifier itself, on the scored split before binarization (%)."""
    examples = subject.seen.examples
    right = over(lambda x: judge.network(x).argmax(-1), originals(examples, torch.arange(subject.seen.count)))
    right = right.cpu() == subject.labels()
    held = _protocol(subject, judge, "classifier of images", "mean")
    return mean_score(name, 100 * right.double(), "%", "", held)


def _score(name: str, value: float, unit: str, better: str, examples: int, held: Protocol) -> Score:
    return Score(name=name, value=value, unit=unit, better=better, examples=examples, protocol=held)

"""Codes in the plane: principal components and t-SNE."""

import importlib.util
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from elboroom.errors import InputError
from elboroom.evaluation.density import finite
from elboroom.evaluation.subject import Found, Subject
from elboroom.scores import Score

EXAGGERATION, EARLY = 12, 250
"""Of the first iterations of t-SNE, and their number."""


def pca(codes: Float[Tensor, "n latent"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " 2"]]:
    """The first two principal components, and the shares of the variance that they explain; float64.

    The largest coefficient of an axis is positive, so that no picture is the mirror image of another by chance. One
    dimension gets a second coordinate of 0; codes that do not vary explain nothing.
    """
    centred = codes.double() - codes.double().mean(0)
    if codes.shape[1] == 1:
        centred = torch.cat([centred, torch.zeros_like(centred)], dim=1)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    axes = vectors[:, [-1, -2]]
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    shares = values[[-1, -2]].clamp_min(0) / values.clamp_min(0).sum().clamp_min(torch.finfo(torch.float64).tiny)
    return centred @ (axes * largest.sign()), shares


def tsne(
    codes: Float[Tensor, "n latent"], *, perplexity: float = 40, iterations: int = 1000
) -> tuple[Float[Tensor, "n 2"], float]:
    """t-SNE in two dimensions, and the perplexity that it had.

    van der Maaten & Hinton (2008). Neighbourhoods are kept; distances between clusters, and their sizes, mean nothing.
    It begins at the principal components (scaled to a standard deviation of 1e-4), exaggerates by 12 for the
    first 250 iterations, and has the learning rate n / 12, 50 at the least (Belkina et al. 2019). A perplexity needs
    three times as many neighbours: of fewer codes it is (n - 1) / 3.

    By openTSNE or scikit-learn-intelex where one is installed, which are faster, else by scikit-learn: the pictures
    differ as those of two seeds do.
    """
    perplexity = min(float(perplexity), (len(codes) - 1) / 3)
    start = pca(codes)[0].cpu().numpy()
    start = start * (1e-4 / max(start[:, 0].std(), np.finfo(float).tiny))
    made = _open_tsne if importlib.util.find_spec("openTSNE") else _scikit_learn
    found = made(codes.double().cpu().numpy(), start, perplexity, iterations, max(len(codes) / EXAGGERATION, 50.0))
    return torch.as_tensor(np.asarray(found, dtype=np.float32)), perplexity


def _scikit_learn(x: np.ndarray, start: np.ndarray, perplexity: float, iterations: int, rate: float) -> np.ndarray:
    if importlib.util.find_spec("sklearnex"):  # scikit-learn-intelex: the same class
        from sklearnex.manifold import TSNE
    else:
        from sklearn.manifold import TSNE

    fixed = {"early_exaggeration": EXAGGERATION, "learning_rate": rate, "random_state": 0, "method": "barnes_hut"}
    return TSNE(2, perplexity=perplexity, max_iter=iterations, init=start, **fixed).fit_transform(x)


def _open_tsne(x: np.ndarray, start: np.ndarray, perplexity: float, iterations: int, rate: float) -> np.ndarray:
    from openTSNE import TSNE

    fixed = {"early_exaggeration": EXAGGERATION, "early_exaggeration_iter": EARLY, "random_state": 0}
    made = TSNE(2, perplexity=perplexity, n_iter=iterations - EARLY, initialization=start, learning_rate=rate, **fixed)
    return made.fit(x)


def embedding(
    subject: Subject,
    *,
    methods: Sequence[str] = ("pca",),
    points: int = 5000,
    train: bool = False,
    code: str = "z",
    thresholded: bool = False,
    perplexity: float = 40,
    iterations: int = 1000,
) -> Found:
    """Codes of the first of a fixed permutation of the test data in two dimensions, for the report's pictures.

    Args:
        subject: a run under evaluation.
        methods: ``pca``, ``tsne``, or both.
        points: codes at most.
        train: training data follow where the test data are fewer than that.
        code: ``z``, ``mean`` or ``mean-of-50``.
        thresholded: of images thresholded at 0.5.
        perplexity: of t-SNE.
        iterations: of t-SNE, 250 at the least.

    Returns:
        The file ``embedding``: a tensor [n, 2] for each method, the labels, and the row numbers. With ``pca`` also the
        share of the variance that the two components explain (``pca/explained-variance``), over the codes that they
        are fitted to: those of the plane, training codes among them where these follow. The protocol says how many.

    Raises:
        InputError: codes that are not finite, or fewer than two of them.
    """
    subject = subject.thresholded if thresholded else subject
    parts = _chosen(subject, points, train, code)
    codes, labels, rows = _together(parts)
    arrays, scores = {"rows": rows} | ({} if labels is None else {"labels": labels}), []
    if "pca" in methods:
        plane, shares = pca(codes)
        arrays |= {"pca": plane.float(), "pca-explained": shares}
        scores.append(_explained(subject, float(shares.sum()), [len(part[0]) for part in parts], code))
    if "tsne" in methods:
        plane, used = tsne(codes, perplexity=perplexity, iterations=iterations)
        arrays |= {"tsne": plane, "tsne-perplexity": torch.tensor(used)}
    return Found(scores, arrays={"embedding": arrays})


def _chosen(subject: Subject, points: int, train: bool, code: str) -> list[tuple[Tensor, Tensor | None, Tensor]]:
    """Codes, labels and row numbers: of test data, then of training data."""
    parts = [_split(subject, subject.split, points, code)]
    if train and (missing := points - len(parts[0][0])) > 0:
        parts.append(_split(subject, "train", missing, code))
    return parts


def _together(parts: list[tuple[Tensor, Tensor | None, Tensor]]) -> tuple[Tensor, Tensor | None, Tensor]:
    """In one piece; InputError where codes are not finite, or one stands alone."""
    codes, labels, rows = zip(*parts, strict=True)
    if sum(map(len, codes)) < 2:
        raise InputError("one code makes no picture of codes. Evaluate 2 images at the least, or leave the metric out.")
    return finite(torch.cat(codes)), None if labels[0] is None else torch.cat(labels), torch.cat(rows)


def _split(subject: Subject, split: str, points: int, code: str) -> tuple[Tensor, Tensor | None, Tensor]:
    found = subject.codes(split)
    order = subject.permutation(len(found.rows), "embedding")[:points]
    labels = None if found.labels is None else found.labels.cpu()[order]
    return subject.code(code, split)[order], labels, found.rows.cpu()[order]


def _explained(subject: Subject, share: float, counts: list[int], code: str) -> Score:
    """Of all the codes that the components are fitted to: so many of the split, and then of training data."""
    more = f" and {counts[1]:,} of training data" if len(counts) > 1 else ""
    of = f"fitted to {counts[0]:,} of these codes{more}"
    held = subject.code_protocol(estimator=f"first two principal components, {of}", code=code)
    return Score(
        name="pca/explained-variance", value=100 * share, unit="%", better="", examples=sum(counts), protocol=held
    )

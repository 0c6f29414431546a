"""What classifiers and clusterings read: codes of a run, and what is no code of it, for comparison."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from elboroom.errors import InputError
from elboroom.evaluation.subject import Subject
from elboroom.evaluation.views import view
from elboroom.numerics import seed_for

MOST_PIXELS = 2**30
"""Numbers of the training images that a control keeps in memory (4 GiB of float32)."""


@dataclass(frozen=True)
class Labelled:
    """Codes and labels: what may be learned from, and what is scored."""

    train: Float[np.ndarray, "n d"]
    train_labels: Integer[np.ndarray, " n"]
    test: Float[np.ndarray, "m d"]
    test_labels: Integer[np.ndarray, " m"]

    def standardized(self) -> "Labelled":
        """Mean 0 and variance 1 over all training codes, labelled or not; a dimension that does not vary becomes 0.

        Raises:
            InputError: no dimension varies.
        """
        if not np.ptp(self.train, axis=0).any():
            raise InputError(
                "the codes are constant over the training split, so they cannot be standardized; "
                "the row of raw codes says what they give."
            )
        scaler = StandardScaler().fit(self.train)
        return replace(self, train=scaler.transform(self.train), test=scaler.transform(self.test))

    def scaled(self, scaling: str) -> "Labelled":
        """Raw or standardized."""
        return self.standardized() if scaling == "standardized" else self


class Source:
    """One thing to read labels from.

    Args:
        words: what protocols call it.
        subject: the run under evaluation, whose data and labels these are.
        load: the codes of a split, as rows.
        kept: whatever a control depends on beside the data, under which its rows are kept; None where the codes are
            the run's own.
    """

    def __init__(
        self, words: str, subject: Subject, load: Callable[[str], np.ndarray], kept: dict[str, Any] | None
    ) -> None:
        self.words, self._subject, self._load, self._kept = words, subject, load, kept
        self._last: tuple[str, Labelled] | None = None

    @property
    def own(self) -> bool:
        """Whether these are the run's codes, not a control."""
        return self._kept is None

    @cached_property
    def raw(self) -> Labelled:
        """Loaded when it is first asked for; InputError where the codes are no numbers."""
        train, test = (self._load(split) for split in ("train", self._subject.split))
        for split, codes in (("train", train), (self._subject.split, test)):
            if not np.isfinite(codes).all():
                row = int(np.argmin(np.isfinite(codes).all(axis=1)))
                raise InputError(
                    f"the codes of the {split} split hold NaN or infinite numbers (row {row} is the first). "
                    "The model has diverged: evaluate another checkpoint (--checkpoint)."
                )
        return Labelled(train, labels_of(self._subject, "train"), test, labels_of(self._subject))

    def scaled(self, scaling: str) -> Labelled:
        """Its codes, raw or standardized; the last ones are kept at hand."""
        if self._last is None or self._last[0] != scaling:
            self._last = (scaling, self.raw.scaled(scaling))
        return self._last[1]

    def forget(self) -> None:
        """Give the memory back; the codes are loaded anew when they are asked for again."""
        self.__dict__.pop("raw", None)
        self._last = None

    def remembered(self, settings: dict[str, Any], make: Callable[[], Any]) -> Any:
        """What ``make`` returns; of a control it is computed once per data set, labels and settings."""
        if self._kept is None:
            return make()
        digest = hashlib.sha256()
        for split in ("train", None):
            digest.update(labels_of(self._subject, split).tobytes())
        return self._subject.remembered("control", self._kept | settings | {"labels": digest.hexdigest()[:12]}, make)


def labels_of(subject: Subject, split: str | None = None) -> Integer[np.ndarray, " n"]:
    """The labels of a split; InputError where there are none."""
    return subject.labels(split).numpy()


def several_classes(subject: Subject) -> None:
    """InputError where all training examples are of one class: nothing can be learned of it, nor told from another."""
    if len(np.unique(labels_of(subject, "train"))) < 2:
        raise InputError("all training examples are of one class, so there is nothing to learn. Give labels of more.")


def sources(subject: Subject, code: str, controls: Iterable[str]) -> list[Source]:
    """The run's codes, and the controls.

    - ``pca``: as many principal components of the training images, as the model sees them, as the code has dimensions;
    - ``pixels``: these images;
    - ``noise``: N(0, I) of the code's size and independent of the image, the samples of a model that has collapsed.
    """
    own = Source(code, subject, lambda split: subject.code(code, split).flatten(1).numpy(), None)
    return [own, *(CONTROLS[name](subject) for name in controls)]


def _pixels(subject: Subject) -> Source:
    return Source("control: pixels", subject, lambda split: images(subject, split), {"control": "pixels"})


def _pca(subject: Subject) -> Source:
    train = subject.data.splits()["train"]
    size = min(latent(subject), len(train), int(np.prod(train.shape)))
    components = _Components(subject, size)
    return Source(f"control: pca-{size}", subject, components, {"control": "pca", "size": size})


def _noise(subject: Subject) -> Source:
    size = latent(subject)

    def draw(split: str) -> Float[np.ndarray, "n d"]:
        random = np.random.default_rng(seed_for(0, f"noise in place of codes, {split}"))
        return random.standard_normal((len(subject.data.splits()[split]), size), dtype=np.float32)

    return Source(f"control: noise-{size}", subject, draw, {"control": "noise", "size": size})


CONTROLS = {"pca": _pca, "pixels": _pixels, "noise": _noise}


class _Components:
    """Principal components, fitted on the training images when they are first asked for."""

    def __init__(self, subject: Subject, size: int) -> None:
        self._subject, self._size = subject, size

    @cached_property
    def _codes(self) -> dict[str, np.ndarray]:
        fitted = PCA(self._size, random_state=0).fit(images(self._subject, "train"))
        return {split: fitted.transform(images(self._subject, split)) for split in {"train", self._subject.split}}

    def __call__(self, split: str) -> Float[np.ndarray, "n d"]:
        return self._codes[split]


def latent(subject: Subject) -> int:
    """Dimensions of the code."""
    return subject.codes().mean.flatten(1).shape[1]


def images(subject: Subject, split: str) -> Float[np.ndarray, "n d"]:
    """The images of a split as the model sees them (their first binarization), flattened."""
    seen = view(subject.data, split)
    size = seen.count * int(np.prod(subject.data.shape))
    if size > MOST_PIXELS:
        raise InputError(
            f"the {split} split has {size:,} pixels, more than a control keeps in memory ({MOST_PIXELS:,}). "
            "Leave the controls 'pca' and 'pixels' out, or set data.limit."
        )
    return np.concatenate([batch.x.flatten(1).cpu().numpy() for _, batch in seen.batches()])

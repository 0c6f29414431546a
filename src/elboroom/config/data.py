"""Which data, which split, and how pixels become what the likelihood takes."""

import dataclasses
from typing import Any, Literal

from pydantic import Field, model_validator

from elboroom.config.base import NonNegative, Positive, settings


@settings
class Data:
    """A named data set, or one's own by path."""

    name: str | None = None
    """Name in the catalog (`elboroom data list`)."""
    path: str | None = None
    """One's own data: a folder of images, or a .npy, .npz, .csv, .mat or idx file."""
    split: str = "official"
    """Which division into train, valid and test; papers differ, so it is part of the protocol (`elboroom data list`).

    official: also the only one of a data set that has one alone."""
    valid: NonNegative = 0
    """Training examples set aside for validation, by a permutation fixed for the data set."""
    limit: Positive | None = None
    """Train on this many examples only, the first of a permutation fixed for the data set."""
    binarize: Literal["none", "threshold", "static", "dynamic"] = "none"
    """none: grey values; threshold: x > 0.5; static: one Bernoulli draw for good; dynamic: a fresh draw each time."""
    copies: Positive = 1
    """Fixed binarizations of each validation and test image."""
    seed: NonNegative = 0
    """Seed of the fixed binarizations."""
    labels: bool = True
    """Read labels where there are some."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What can be chosen of a data set that is drawn, such as ``{modes: 5}``; the page of data sets has the fields."""
    size: Positive | None = Field(default=None, le=512)
    """Height and width to which each image is brought: of a folder by resizing, of a named set by averaging squares of
    pixels, before any binarization."""

    @model_validator(mode="after")
    def _one_source(self) -> "Data":
        if (self.name is None) == (self.path is None):
            raise ValueError("data needs either a name (`elboroom data list`) or a path, and not both.")
        if self.options and self.name is None:
            raise ValueError("data.options are of data sets by name, and data.path has none. Leave them out.")
        if self.copies > 1 and self.binarize not in ("static", "dynamic"):
            raise ValueError(f"data.copies: {self.copies} needs random binarization; set data.binarize to dynamic.")
        return self

    @property
    def title(self) -> str:
        """How tables name it."""
        title = self.name or str(self.path).rstrip("/").rsplit("/", 1)[-1]
        return f"{title} {self.size}x{self.size}" if self.name and self.size else title

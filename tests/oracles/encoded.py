"""A subject whose codes are given, and codes whose classes are known."""

from types import SimpleNamespace

import torch
from oracles.configurations import small_run
from oracles.small_data import data_of, run_of

from elboroom import build
from elboroom.evaluation.subject import Subject

LABELS = torch.arange(120) % 3
SKEWED = torch.tensor([0] * 60 + [1] * 40 + [2] * 20)  # the majority class is half


def one_hot(labels=LABELS, noise=0.01, seed=0):
    """The class itself, and a little noise."""
    shape, generator = (len(labels), int(labels.max()) + 1), torch.Generator().manual_seed(seed)
    return torch.nn.functional.one_hot(labels).float() + noise * torch.randn(shape, generator=generator)


def blurred(seed=0, labels=LABELS):
    """Classes that overlap."""
    return one_hot(labels, noise=0.6, seed=seed)


class Encoded(Subject):
    """A subject whose codes are given: of train, then of test."""

    def __init__(self, train, test=None, labels=LABELS, **more):
        config = small_run(latent=train.shape[1])
        run = run_of(config, build.model(config, (1, 8, 8), "binary").eval(), (1, 8, 8))
        x = torch.rand(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(1)).round()
        super().__init__(run, data_of(x, labels), **more)
        self.given = {"train": train, "test": train if test is None else test}

    def codes(self, split=None):
        return SimpleNamespace(mean=self.given[split or self.split])

    def code(self, kind="mean", split=None):
        return self.given[split or self.split]

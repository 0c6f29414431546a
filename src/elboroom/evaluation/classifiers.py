"""Classifiers that metrics lean on. They belong to the data set: trained once, by a fixed recipe, on its train split.

They see images before any binarization, so that one classifier serves all runs on a data set, and are trained on the
CPU in float32 from fixed seeds: the same data on the same machine give the same weights. Elsewhere sums may round
otherwise, and so every score that leans on a classifier names it by a hash of its weights, and a study keeps those that
its runs were scored with in its folder: one that goes on, or is checked, on another machine leans on the same.
"""

import contextlib
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from elboroom.data import Examples
from elboroom.evaluation.subject import Progress, Subject
from elboroom.numerics import Randomness, seed_for
from elboroom.training.checkpoint import Tensors, pack, replace_bytes, unpack

FEATURES_WIDTH = 64
"""Numbers that describe an image: few enough for 10,000 images to fix their covariance well."""


class Weak(nn.Sequential):
    """784-128-64-10 with ReLU (for other data other ends): a classifier that is not sure of itself."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        layers = [nn.Linear(math.prod(shape), 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, classes)]
        super().__init__(nn.Flatten(), *layers)


class Features(nn.Module):
    """A small network whose last hidden layer, before its ReLU, describes an image in 64 numbers.

    Images pass through convolutions of stride 2 until 8x8 or less is left (two at the least), vectors through one
    hidden layer. Inputs are standardized by the train split: images as a whole by channel, vectors by dimension.
    """

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(shape[:1] + (1,) * (len(shape) - 1)))
        self.register_buffer("scale", torch.ones_like(self.loc))
        self.body = _convolutions(shape) if len(shape) == 3 else nn.Linear(math.prod(shape), 256)
        with torch.no_grad():
            width = self.body(torch.zeros(1, *shape)).shape[1]
        self.last = nn.Linear(width, FEATURES_WIDTH)
        self.head = nn.Linear(FEATURES_WIDTH, classes)

    def standardize(self, x: Float[Tensor, "n *event"]) -> None:
        """Take location and scale from examples; a dimension that never changes is left as it is."""
        dims = [d for d in range(x.dim()) if d != 1]
        scale = x.std(dims, correction=0)
        self.loc.copy_(x.mean(dims).view_as(self.loc))
        self.scale.copy_(torch.where(scale > 1e-6, scale, 1.0).view_as(self.scale))

    def features(self, x: Float[Tensor, "n *event"]) -> Float[Tensor, "n features"]:
        """What an image is described by."""
        return self.last(F.relu(self.body((x - self.loc) / self.scale)))

    def forward(self, x: Float[Tensor, "n *event"]) -> Float[Tensor, "n classes"]:
        return self.head(F.relu(self.features(x)))


def _convolutions(shape: tuple[int, ...]) -> nn.Sequential:
    layers, channels, side = [nn.Conv2d(shape[0], 16, 3, stride=2, padding=1)], 16, (max(shape[1:]) + 1) // 2
    while side > 8 or len(layers) == 1:
        layers += [nn.ReLU(), nn.Conv2d(channels, 32, 3, stride=2, padding=1)]
        channels, side = 32, (side + 1) // 2
    return nn.Sequential(*layers, nn.Flatten())


@dataclass(frozen=True)
class Recipe:
    """How a classifier is made from a train split: all that its weights depend on beside the data."""

    name: str
    network: Callable[[tuple[int, ...], int], nn.Module]
    """(shape of an example, classes) -> the network."""
    optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer]
    epochs: int
    least_steps: int = 0
    """Epochs go on until so many steps were taken: those of a small data set have few."""
    most_steps: int | None = None
    """Training ends here where the epochs have more steps."""
    decay: bool = False
    """Whether the learning rate falls to 0 along half a cosine."""
    batch: int = 128
    version: int = 1
    """To be raised with every change of the recipe: classifiers kept from an older one are not taken."""

    def steps(self, examples: int) -> int:
        """Of the whole training."""
        steps = max(self.least_steps, self.epochs * math.ceil(examples / self.batch))
        return steps if self.most_steps is None else min(steps, self.most_steps)


WEAK = Recipe("weak", Weak, partial(torch.optim.SGD, lr=0.003), epochs=10, least_steps=4690, version=2)
"""For `confidence`: plain SGD leaves it at 85-87 % on MNIST, with a mean confidence of 0.70-0.74. A good classifier is
sure of everything, and its confidence says nothing. Small data sets get the 4,690 steps of MNIST's ten epochs."""
FEATURES = Recipe("features", Features, partial(torch.optim.Adam, lr=2e-3), epochs=20, most_steps=2500, decay=True)
"""For the Fréchet distance: a good one, in about half a minute."""


@dataclass(frozen=True)
class Classifier:
    """A trained network, in evaluation mode, and the twelve digits of its weights' sha256 that name it."""

    network: nn.Module
    hash: str


def classifier(subject: Subject, recipe: Recipe) -> Classifier:
    """The classifier of the subject's data set, kept by its study, from the cache, or trained now.

    Raises:
        InputError: there are no labels.
    """
    labels = subject.labels("train")
    data = subject.data
    network = fresh(recipe, tuple(data.shape), len(data.classes))
    told = [recipe.name, recipe.version, list(data.shape), len(data.classes), data.train.rows_hash]
    key = hashlib.sha256(json.dumps(told).encode() + labels.numpy().tobytes()).hexdigest()
    places = [f / f"classifier-{recipe.name}-{key[:12]}.safetensors" for f in subject.classifier_folders]
    lacking = list(itertools.takewhile(lambda path: not _load(network, path, key), places))
    if len(lacking) == len(places):
        network = trained(recipe, data.train, tuple(data.shape), len(data.classes), subject.progress)
    for path in lacking:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, pack(_sealed(network.state_dict(), key)))
    return Classifier(network.to(subject.run.device).eval().requires_grad_(False), hash_of(network))


def fresh(recipe: Recipe, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network with its first weights; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(0, f"classifier {recipe.name}"))
        return recipe.network(shape, classes)


def trained(
    recipe: Recipe,
    examples: Examples,
    shape: tuple[int, ...],
    classes: int,
    progress: Progress = lambda what, done, total: None,
) -> nn.Module:
    """A network trained from scratch by a recipe, on the CPU."""
    network, random = fresh(recipe, shape, classes), Randomness(0)
    if isinstance(network, Features):
        network.standardize(examples.unbinarized(examples.order(random, 0)[:10_000]).cpu())
    optimizer, total, done, epoch = recipe.optimizer(network.parameters()), recipe.steps(len(examples)), 0, 0
    rate = optimizer.param_groups[0]["lr"]
    while done < total:
        for index in examples.order(random, epoch).split(recipe.batch)[: total - done]:
            if recipe.decay:
                optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * done / total)) / 2
            loss = F.cross_entropy(network(examples.unbinarized(index).cpu()), examples.labels[index].cpu())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
        progress(f"classifier '{recipe.name}'", done, total)
        epoch += 1
    return network.eval()


def hash_of(network: nn.Module) -> str:
    """Twelve hexadecimal digits of the sha256 of all weights."""
    return _hash(network.state_dict())


def hashes_in(folder: Path) -> set[str]:
    """The hashes of all classifiers in a folder that can be read."""
    found = set()
    for path in folder.glob("classifier-*.safetensors"):
        with contextlib.suppress(SafetensorError, ValueError, KeyError):
            found.add(_hash({name: tensor for name, tensor in unpack(path.read_bytes()).items() if name != "seal"}))
    return found


def _hash(tensors: Tensors) -> str:
    return hashlib.sha256(pack(tensors)).hexdigest()[:12]


def _sealed(tensors: Tensors, key: str) -> Tensors:
    """Weights with what they were trained on, and a sum by which a torn or edited file is known."""
    text = f"{key} {hashlib.sha256(pack(tensors)).hexdigest()}"
    return tensors | {"seal": torch.tensor(list(text.encode()), dtype=torch.uint8)}


def _load(network: nn.Module, path: Path, key: str) -> bool:
    """Take kept weights into the network; False where there are none, or none that are whole and of this data."""
    try:
        tensors = unpack(path.read_bytes())
        seal = tensors.pop("seal")
        if not torch.equal(seal, _sealed(tensors, key)["seal"]):
            return False
        network.load_state_dict(tensors)
    except (FileNotFoundError, SafetensorError, ValueError, KeyError, RuntimeError):
        return False
    return True

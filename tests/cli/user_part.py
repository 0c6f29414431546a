"""A user's own networks, named in a configuration; importing them is noted, which shows when their code ran."""

import math
import os

from torch import nn

if "USER_PART_RAN" in os.environ:
    with open(os.environ["USER_PART_RAN"], "a") as ran:  # noqa: PTH123
        ran.write("imported\n")


class Encoder(nn.Module):
    def __init__(self, shape, width=8):
        super().__init__()
        self.features = width
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width), nn.ReLU())

    def forward(self, x):
        return self.net(x)


class Decoder(nn.Module):
    def __init__(self, latent, shape, width=8):
        super().__init__()
        self.shape, self.width = shape, width
        self.net = nn.Sequential(nn.Linear(latent, width), nn.ReLU())

    def head(self, outputs):
        return nn.Sequential(
            nn.Linear(self.width, outputs * math.prod(self.shape)), nn.Unflatten(1, (outputs, *self.shape))
        )

    def forward(self, z):
        return self.net(z)


class Headless(nn.Module):
    def __init__(self, latent):
        super().__init__()


number = 3

"""One thread per test process, since `pytest -n 2` runs two; elboroom itself is imported only by the tests."""

import torch

torch.set_num_threads(1)

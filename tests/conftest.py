"""One thread per test process, since `pytest -n 2` runs two; elboroom itself is imported only by the tests."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Whatever a test draws from the global generator is the same each time, alone or beside others."""
    torch.manual_seed(0)

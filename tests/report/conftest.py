"""One page of a study that has one of everything, made once."""

from pathlib import Path

import pytest
from synthetic_runs import write_demo

from elboroom.report import report


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("demo") / "study", seeds=(0, 1))


@pytest.fixture(scope="session")
def html(demo: Path) -> str:
    return report([demo]).read_text()

"""Ultralytics within bounds, for tests that use its classes; tiny models; a run that was trained once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.yolo_datasets import write_guided_dataset
from tests.yolo_models import write_tiny_yaml


@pytest.fixture(scope="session")
def contained() -> None:
    """Import Ultralytics within bounds; its classes stay there."""
    from toolkit.yolo.containment import contained_ultralytics

    with contained_ultralytics(quiet=True):
        pass


@pytest.fixture(scope="session")
def guided_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small dataset of pairs; tests leave it as it is."""
    return write_guided_dataset(tmp_path_factory.mktemp("guided") / "data")


@pytest.fixture(scope="session")
def tiny_yaml(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the YAML of a tiny model."""
    return write_tiny_yaml(tmp_path_factory.mktemp("model"))

"""Tiny models that all tests of SAM share; saved once, as building and loading them costs more than using them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.sam_models import save_tiny_sam, save_tiny_sam2
from toolkit.sam.model import TrainableSam, load_trainable_sam


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tests run beside each other: more threads would be slower, and their sums might differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny SAM."""
    return save_tiny_sam(tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="session")
def sam2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny SAM2."""
    return save_tiny_sam2(tmp_path_factory.mktemp("sam2"))


@pytest.fixture
def sam(sam_folder: Path) -> TrainableSam:
    """A tiny SAM of one's own."""
    return load_trainable_sam(sam_folder)


@pytest.fixture
def sam2(sam2_folder: Path) -> TrainableSam:
    """A tiny SAM2 of one's own."""
    return load_trainable_sam(sam2_folder)

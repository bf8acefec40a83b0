"""The demonstration input: labels name the objects under the mask and no others, on photographs of their own side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toolkit.annotations.yolo import boxes_to_xyxy, load_labels
from toolkit.images import load_mask
from toolkit.yolo.demo import main, write_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("demo") / "out"
    assert write_demo(output) == 238
    return output


def test_labels_are_the_boxes_of_what_is_masked(demo: Path) -> None:
    objects = 0
    for path in sorted((demo / "photographs/labels").rglob("*.txt")):
        mask_hw = load_mask(demo / f"masks/{path.stem}_seg.png").pixels
        labels = load_labels(path, class_count=3)
        assert labels.problems == ()
        inside = np.zeros_like(mask_hw)
        for left, top, right, bottom in boxes_to_xyxy(labels.boxes, *mask_hw.shape[::-1]).round().astype(int).tolist():
            assert mask_hw[top:bottom, left:right].any()
            inside[top:bottom, left:right] = 1
        assert not mask_hw[inside == 0].any()
        objects += len(labels.boxes)
    assert objects > 200


def test_no_photograph_is_on_both_sides(demo: Path) -> None:
    sides = [
        {path.stem.partition("-")[0] for path in (demo / "photographs/images" / split).iterdir()}
        for split in ("train", "val")
    ]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_wrong_usage_and_a_used_folder(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main([str(demo)]) == 3
    assert "not empty" in capsys.readouterr().err

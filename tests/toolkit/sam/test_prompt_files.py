from __future__ import annotations

import numpy as np
import pytest

from toolkit.core.errors import InputProblemsError
from toolkit.sam.prompt_files import parse_prompts


def test_boxes_predictions_and_polygons_are_read_in_order_and_clipped() -> None:
    data = b"1 0.5 0.5 0.2 0.4\n0 0.1 0.5 0.205 0.2 0.87\n2 0.2 0.2 0.6 0.2 0.6 0.5\n"
    prompts = parse_prompts(data, "a.txt", 100, 200)
    expected = [[80, 30, 120, 70], [0, 40, 40.5, 60], [40, 20, 120, 50]]
    np.testing.assert_allclose(prompts.boxes_xyxy, expected, atol=1e-4)
    assert prompts.boxes_xyxy.dtype == np.float32
    assert prompts.class_ids.tolist() == [1, 0, 2]


def test_an_empty_file_has_no_boxes_and_equal_lines_are_kept() -> None:
    assert parse_prompts(b"\n", "a.txt", 10, 10).boxes_xyxy.shape == (0, 4)
    assert len(parse_prompts(b"0 0.5 0.5 0.2 0.2\n" * 2, "a.txt", 10, 10)) == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"0 0.5 0.5 0.2", "line 2: 4 fields"),
        (b"0 0.5 0.5 0.2 nan", "line 2: 'nan' is not a finite number"),
        (b"0 0.5 0.5 0.2 0.2 1.5", "line 2: confidence '1.5' is not from 0 to 1"),
        (b"7 0.5 0.5 0.2 0.2", "line 2: class '7' is beyond the 2 names"),
        (b"0 1.005 0.5 0.005 0.2", "line 2: the box has no area in the image"),
        (b"0 0.5 0.5 0 0.2", "line 2: width 0 is not above 0"),
    ],
)
def test_every_wrong_line_is_named(line: bytes, problem: str) -> None:
    with pytest.raises(InputProblemsError) as raised:
        parse_prompts(b"0 0.5 0.5 0.2 0.2\n" + line + b"\n9 9 9 9 9", "boxes/a.txt", 100, 100, class_count=2)
    assert raised.value.problems[0].startswith(problem)
    assert raised.value.problems[-1].startswith("line 3: ")
    assert str(raised.value).startswith("boxes/a.txt: ")

"""Label Studio exports: tasks, which annotations count, labels, and what is no export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.label_studio_exports import ANNOTATOR, annotation, polygon, rectangle, task
from toolkit.annotations.label_studio import (
    AnnotationChoice,
    Export,
    PredictionUse,
    choose_annotations,
    list_labels,
    load_export,
    parse_export,
)
from toolkit.core.errors import MvtkError


def parsed(*tasks: Any) -> Export:
    return parse_export(json.dumps(tasks).encode(), "export.json")


def labels_of(*annotations: dict[str, Any], **choice: Any) -> list[str]:
    """The labels of the annotations that count, in order."""
    given = task(1, "a.png", *annotations, predictions=choice.pop("predicted", []))
    [found] = parsed(given).tasks
    return [label for each in choose_annotations(found, **choice) for label in list_labels(each.results, ["rectangle"])]


def labelled(label: str, **changes: Any) -> dict[str, Any]:
    return annotation(rectangle(0, 0, 10, 10, label), **changes)


def test_real_exports(shared_data: Path) -> None:
    folder = shared_data / "label_studio" / "test_export_yolo"
    boxes = load_export(folder / "data.json")
    assert [(found.id, found.data, len(found.annotations)) for found in boxes.tasks] == [
        (1, {"image": "/image1"}, 2),
        (2, {"image": "/image2"}, 1),
    ]
    assert boxes.problems == ()
    [polygons] = load_export(folder / "data_polygons.json").tasks
    assert polygons.file_upload == "e97d4735-000000000025.jpg"
    assert list_labels(polygons.annotations[0].results, ["polygon"]) == {"Airplane"}
    assert list_labels(polygons.annotations[0].results, ["rectangle"]) == set()


@pytest.mark.parametrize(
    ("which", "expected"), [("first", ["early"]), ("last", ["late"]), ("all", ["late", "early", "middle"])]
)
def test_which_annotations_count(which: AnnotationChoice, expected: list[str]) -> None:
    made = [
        labelled("late", created_at="2024-05-03T00:00:00Z"),
        labelled("early", created_at="2024-05-01T00:00:00Z"),
        labelled("middle", created_at="2024-05-02T00:00:00Z"),
        labelled("cancelled", created_at="2024-05-04T00:00:00Z", was_cancelled=True),
    ]
    assert labels_of(*made, which=which) == expected


def test_annotations_of_one_time_count_by_their_order() -> None:
    assert labels_of(labelled("a"), labelled("b")) == ["b"]
    assert labels_of(labelled("a", created_at=None), labelled("b", created_at=None), which="first") == ["a"]


@pytest.mark.parametrize(
    ("use", "of_annotated", "of_bare"),
    [("ignore", ["human"], []), ("fallback", ["human"], ["model"]), ("only", ["model"], ["model"])],
)
def test_predictions_count_when_asked_for(use: PredictionUse, of_annotated: list[str], of_bare: list[str]) -> None:
    predicted = [labelled("model")]
    assert labels_of(labelled("human"), predicted=predicted, predictions=use) == of_annotated
    assert labels_of(labelled("human", was_cancelled=True), predicted=predicted, predictions=use) == of_bare
    assert labels_of(labelled("human"), predicted=[7, 8], predictions="ignore") == ["human"]


def test_older_names_of_annotations() -> None:
    old = {"id": 4, "data": {"image": "a.png"}, "completions": [annotation(), annotation(skipped=True, result=None)]}
    [found] = parsed(old).tasks
    assert [each.is_cancelled for each in found.annotations] == [False, True]
    assert [each.results for each in found.annotations] == [b"[]", b"[]"]


def test_a_task_that_cannot_be_read_does_not_hide_the_others() -> None:
    export = parsed(
        task(1, "a.png"),
        {"id": 2, "annotations": [annotation(completed_by=ANNOTATOR)]},
        {"id": 3, "data": {"image": "a.png"}, "annotations": [{"id": ANNOTATOR}]},
        "neither",
    )
    assert [found.id for found in export.tasks] == [1]
    assert [f"{place}: {text}" for place, text in export.problems] == [
        "tasks[1] (id 2): Object missing required field `data`",
        "tasks[2] (id 3): Expected `int | str | null`, got `object` - at `$.annotations[0].id`",
        "tasks[3]: Expected `object`, got `str`",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"id": 1,', "cut short or no JSON: line 1 column 11"),
        (b'{"images": [], "annotations": []}', "a list of tasks is expected, and this seems to be a COCO file"),
        (b'{"id": 1}', "a list of tasks is expected, not an object"),
        (b"7", "a list of tasks is expected, not 7"),
        (b"[NaN]", "no JSON as Label Studio writes it"),
        (b'[{"id": 1, "image": "a.png", "annotator": 1, "label": []}]', "this seems to be a JSON-MIN export"),
        (b'[{"result": [], "score": 0.5}]', "a list of annotations or predictions without their tasks"),
        (b"\xff\xfe[]", "not UTF-8 text from byte 0 on"),
    ],
)
def test_what_is_no_export_says_what_it_is(content: bytes, message: str) -> None:
    with pytest.raises(MvtkError) as caught:
        parse_export(content, "export.json")
    assert caught.value.message.startswith("export.json: ")
    assert message in caught.value.message


def test_nothing_of_who_made_it_is_kept() -> None:
    found = parsed(task(1, "a.png", annotation(polygon([[0, 0], [9, 0], [0, 9]], "cell"))))
    kept = repr(found)
    assert "cell" in kept
    assert not any(str(value) in kept for key, value in ANNOTATOR.items() if key != "id")


def test_labels_of_a_region_may_stand_in_a_result_of_their_own() -> None:
    shape = {**rectangle(0, 0, 9, 9), "type": "rectangle", "id": "r1"}
    label = {**shape, "type": "labels", "value": {"labels": ["cell"]}}
    stray = {**label, "id": "k1", "value": {"labels": ["of a point"]}}
    assert list_labels(json.dumps([shape, label, stray]).encode(), ["rectangle"]) == {"cell"}
    assert list_labels(json.dumps([shape, stray]).encode(), ["rectangle"]) == {""}
    assert list_labels(json.dumps([shape, label]).encode(), ["brush"]) == set()


def test_labels_of_results_that_are_none() -> None:
    assert list_labels(b'{"no": "list"}', ["brush"]) == set()
    assert list_labels(b'[{"type": "relation"}, {"type": "choices", "value": {"choices": ["x"]}}]', ["brush"]) == set()

"""CSV files of boxes: the known forms, and the exact text of what is wrong."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.annotations.csv_boxes import load_csv_boxes, parse_csv_boxes
from toolkit.annotations.table import AnnotationTable
from toolkit.core.errors import InputProblemsError, MvtkError

CORRECT = "; correct the file, or export it again"
TENSORFLOW = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


def parse(text: str) -> AnnotationTable:
    return parse_csv_boxes(text.encode(), "b.csv")


def error_of(data: str | bytes) -> str:
    """The whole line of the error, without the file's name and the usual hint."""
    with pytest.raises(MvtkError) as caught:
        parse_csv_boxes(data if isinstance(data, bytes) else data.encode(), "b.csv")
    line = str(caught.value)
    assert line.startswith("b.csv: ")
    assert line.isprintable()
    return line.removeprefix("b.csv: ").removesuffix(CORRECT)


def test_tensorflows_form() -> None:
    table = parse(TENSORFLOW + "b.jpg,640,480,hen,10,20,30,60\na.jpg,64,48,cat,1.5,2,1,3\nb.jpg,640,480,,0,0,1,1\n")
    assert table.image_names == ["b.jpg", "a.jpg"]
    assert table.image_sizes_wh.tolist() == [[640, 480], [64, 48]]
    assert table.image_indices.tolist() == [0, 0, 1]
    assert table.boxes_xywh.tolist() == [[10, 20, 20, 40], [0, 0, 1, 1], [1.5, 2, -0.5, 1]]
    assert table.class_names == ("cat", "hen")
    assert table.class_ids.tolist() == [1, -1, 0]
    assert table.has_box.all()
    assert (table.keypoint_counts.tolist(), table.keypoints_xyv.shape, table.findings) == ([0, 0, 0], (0, 3), [])


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("image_path,xmin,ymin,xmax,ymax\na.jpg,1,2,4,6\n", ()),
        ("filename,x,y,w,h\na.jpg,1,2,3,4\n", ()),
        ("a.jpg,1,2,4,6,ear\n", ("ear",)),
        ("a.jpg,1,2,4,6,\n", ()),
        ("Image_Path, XMIN ,ymin,xmax,ymax,Label\na.jpg,1,2,4,6, ear \n", ("ear",)),
        ("h,w,y,x,note,filename,class\n4,3,2,1,?,a.jpg,ear\n", ("ear",)),
        ("filename,x,y,w,h,width,height,class,xmin,ymin,xmax,ymax\na.jpg,9,9,9,9,,0,ear,1,2,4,6\n", ("ear",)),
        ("\ufefffilename,x,y,w,h\r\n\r\n'a.jpg',1,2,3,4\r\n , ,\r\n".replace("'", '"'), ()),
        ("filename,x,y,w,h\ra.jpg,1,2,3,4\r", ()),
    ],
)
def test_the_other_forms_give_the_same_box(text: str, classes: tuple[str, ...]) -> None:
    table = parse(text)
    assert table.image_names == ["a.jpg"]
    assert table.boxes_xywh.tolist() == [[1, 2, 3, 4]]
    assert table.class_names == classes
    assert table.class_ids.tolist() == [0 if classes else -1]
    assert table.image_sizes_wh.tolist() == [[0, 0]]


def test_an_image_without_boxes_has_an_empty_row() -> None:
    table = parse("a.jpg,,,,,\nb.jpg,1,2,4,6,ear\nc.jpg,,,,,nothing\n")
    assert table.image_names == ["a.jpg", "b.jpg", "c.jpg"]
    assert table.image_indices.tolist() == [1]
    assert table.class_names == ("ear",)


@pytest.mark.parametrize("text", ["", "\n \n,,\n", TENSORFLOW, "filename,x,y,w,h"])
def test_a_file_without_rows_is_an_empty_table(text: str) -> None:
    table = parse(text)
    assert (table.image_names, table.class_names) == ([], ())
    assert (table.image_sizes_wh.shape, table.boxes_xywh.shape, table.image_indices.shape) == ((0, 2), (0, 4), (0,))


def test_numbers_that_are_not_finite_are_left_to_who_judges_boxes() -> None:
    table = parse("image_path,xmin,ymin,xmax,ymax\na.jpg,nan,inf,1,inf\n")
    assert repr(table.boxes_xywh.tolist()) == "[[nan, inf, nan, nan]]"


def test_names_stay_as_they_are_written() -> None:
    assert parse('"x,\n y.jpg",1,2,3,4,c\nd\\e.jpg,1,2,3,4,c\n').image_names == ["x,\n y.jpg", "d\\e.jpg"]


def test_the_first_known_size_counts() -> None:
    table = parse(TENSORFLOW + "a,,,c,0,0,1,1\na,64.0,48,c,0,0,1,1\na,0,0,c,0,0,1,1\nb,9,8,c,0,0,1,1\n")
    assert table.image_sizes_wh.tolist() == [[64, 48], [9, 8]]


def test_an_unknown_header_says_what_was_found_and_what_is_known() -> None:
    assert error_of("\nfile;x;y\n") == (
        "line 2: no known header; its columns are 'file;x;y'; known are "
        "filename,width,height,class,xmin,ymin,xmax,ymax; "
        "image_path,xmin,ymin,xmax,ymax; filename,x,y,w,h; and, without a header, file,x1,y1,x2,y2,class"
    )
    assert " 'c11' and 8 more; known" in error_of(",".join(f"c{n}" for n in range(20)))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"filename,x,y,w,h\n\xff.jpg,1,2,3,4\n", "line 2: not UTF-8 text; save the file as UTF-8"),
        ("a.jpg,1,2,3,4,c\n".encode("utf-16"), "line 1: not UTF-8 text; save the file as UTF-8"),
        ("a.jpg,1,2,3,4,c\n".encode("utf-16-le"), "line 1: not UTF-8 text; save the file as UTF-8"),
        (b'filename,x,y,w,h\n"a.jpg,1,2,3,4\n', "no CSV: line 2: unexpected end of data"),
        (b"filename,x,y,w,h,X\n", "line 1: the column x is there twice"),
        (b"image_path,xmin,ymin,xmax,ymax,class,Class\n", "line 1: the column class is there twice"),
    ],
)
def test_what_cannot_be_read_is_said(data: bytes, problem: str) -> None:
    assert error_of(data) == problem


def test_everything_wrong_with_the_rows_is_said_by_line() -> None:
    text = TENSORFLOW + (
        "a.jpg,640,480,c,1,2,3\n"
        "a.jpg,640,480,c,1,2,x,1_0\n"
        "\n"
        "a.jpg,640,480,c,1,,3,4\n"
        "a.jpg,640,481,c,1,2,3,4\n"
        " ,640,480,c,1,2,3,4\n"
        "b.jpg,nan,-1,c,1,2,3,4\n"
        "b.jpg,2.5,1e300,c,٣,2,3,4\n"
    )
    assert error_of(text).split("; ") == [
        "line 2: 7 fields, not 8",
        "line 3: xmax is 'x', not a number",
        "line 3: ymax is '1_0', not a number",
        "line 5: ymin is '', not a number",
        "line 6: the image is 640x481, but 640x480 in a row before (width x height)",
        "line 7: filename is empty",
        "line 8: height is '-1', not a whole number of pixels",
        "line 8: width is 'nan', not a whole number of pixels",
        "line 9: height is '1e300', not a whole number of pixels",
        "line 9: width is '2.5', not a whole number of pixels",
        "line 9: xmin is '٣', not a number",
    ]


def test_the_first_problems_are_listed_and_the_others_counted() -> None:
    with pytest.raises(InputProblemsError) as caught:
        parse("filename,x,y,w,h\n" + "a.jpg,1,2,3,?\n" * 30)
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "and 10 more"


@given(st.binary(max_size=80).map(lambda tail: b"a.jpg,1,2,4,6,ear\n" + tail))
def test_any_bytes_are_an_expected_error_or_a_table(data: bytes) -> None:
    try:
        parse_csv_boxes(data, "b.csv")
    except MvtkError as error:
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6).filter(str.strip)
pixels = st.floats(-1e6, 1e6)
boxes = st.tuples(
    names.filter(lambda name: not name.startswith("\ufeff")), st.tuples(pixels, pixels, pixels, pixels), names
)


@given(st.lists(boxes, min_size=1, max_size=8))
def test_what_the_csv_module_writes_reads_back(written: list[tuple[str, tuple[float, ...], str]]) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerows([name, *box, label] for name, box, label in written)
    table = parse(stream.getvalue())
    read = [
        (table.image_names[image], box, table.class_names[class_id])
        for image, box, class_id in zip(table.image_indices, table.boxes_xywh.tolist(), table.class_ids, strict=True)
    ]
    order = sorted(range(len(written)), key=lambda place: table.image_names.index(written[place][0]))
    expected = [written[place] for place in order]
    assert read == [(name, [x1, y1, x2 - x1, y2 - y1], label.strip()) for name, (x1, y1, x2, y2), label in expected]


def test_a_roboflow_export(shared_data: Path) -> None:
    table = load_csv_boxes(shared_data / "roboflow_csv/deer/test/_annotations.csv")
    assert (len(table.image_names), len(table.boxes_xywh), table.class_names) == (27, 46, ("deer",))
    assert table.boxes_xywh[0].tolist() == [35, 164, 229, 225]
    assert np.unique(table.image_sizes_wh).tolist() == [640]

"""References to images: what path each form stands for, where it is found, and what is refused."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.file_trees import make_files
from toolkit.core.errors import MvtkError
from toolkit.images.search import ImageLookupError
from toolkit.sam.image_references import ImageFinder, ImageMatch, path_parts


def wrapped(reference: str) -> str:
    return f"/tasks/7/presign/?fileuri={base64.urlsafe_b64encode(reference.encode()).decode()}"


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("/data/upload/3/0a1b2c3d-car.jpg", "3/0a1b2c3d-car.jpg"),
        ("/data/upload/0a1b2c3d-a%20car.jpg", "0a1b2c3d-a car.jpg"),
        ("http://localhost:8080/data/upload/3/0a1b2c3d-car.jpg", "3/0a1b2c3d-car.jpg"),
        ("/data/local-files/?d=day1/a%20car.jpg", "day1/a car.jpg"),
        ("/data/local-files?d=day1%5Ccar.jpg", "day1/car.jpg"),
        ("https://studio.example.org/ls/data/local-files/?d=/srv/car.jpg", "srv/car.jpg"),
        ("s3://bucket/day1/50%.jpg", "day1/50%.jpg"),
        ("gs://bucket/day#1/car?.jpg", "day#1/car?.jpg"),
        ("azure-blob://container/car.jpg", "car.jpg"),
        ("https://host.example.org/day1/car%2B.jpg?signature=secret", "day1/car+.jpg"),
        (wrapped("s3://bucket/day1/car.jpg"), "day1/car.jpg"),
        ("http://localhost:8080" + wrapped("gs://bucket/car.jpg"), "car.jpg"),
        ("/storage-data/uploaded/?filepath=upload/3/car.jpg", "upload/3/car.jpg"),
        ("day1/car.jpg", "day1/car.jpg"),
        ("./day1//car 100%.jpg", "day1/car 100%.jpg"),
        ("C:\\photos\\car.jpg", "C:/photos/car.jpg"),
    ],
)
def test_every_form_stands_for_a_path(reference: str, path: str) -> None:
    assert "/".join(path_parts(reference)) == path


@pytest.mark.parametrize(
    "reference",
    [
        "../../etc/passwd",
        "/data/upload/../../secret.jpg",
        "/data/upload/%2e%2e/secret.jpg",
        "/data/local-files/?d=..%2F..%2Fsecret.jpg",
        "/data/local-files/?d=..%5Csecret.jpg",
        "s3://bucket/../secret.jpg",
        "https://host.example.org/a/../secret.jpg",
        "a\0.jpg",
        wrapped("s3://bucket/a/../../secret.jpg"),
    ],
)
def test_a_path_that_leads_out_is_refused(reference: str) -> None:
    with pytest.raises(MvtkError, match="would lead out of the folder of the images"):
        path_parts(reference)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("", "names no file"),
        ("/data/local-files/?x=1", "names no file"),
        ("https://host.example.org", "names no file"),
        ("data:image/png;base64,AAAA", "the image is inside of the export"),
        ("/tasks/7/presign/?fileuri=***", "holds no base64 text"),
        ("http://[broken/a.jpg", "is no address"),
    ],
)
def test_what_is_no_reference_says_why(reference: str, message: str) -> None:
    with pytest.raises(MvtkError, match=message):
        path_parts(reference)


@given(st.text(max_size=60))
@example("/data/local-files/?d=\udc80..")
@example("//[")
def test_any_text_is_a_safe_path_or_refused(text: str) -> None:
    try:
        parts = path_parts(text)
    except MvtkError:
        return
    assert parts
    root = Path("/root/images")
    assert root.joinpath(*parts).is_relative_to(root)
    assert not {"", ".", ".."} & set(parts)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_files(tmp_path, "3/0a1b2c3d-car.jpg", "day1/bus.jpg", "day2/bus.jpg", "day2/Deep.PNG", "van.jpg")
    return tmp_path


@pytest.mark.parametrize(
    ("match", "reference", "path"),
    [
        ("auto", "/data/upload/3/0a1b2c3d-car.jpg", "3/0a1b2c3d-car.jpg"),
        ("auto", "/data/upload/9/0a1b2c3d-car.jpg", "3/0a1b2c3d-car.jpg"),
        ("auto", "/data/upload/9/ffffffff-van.jpg", "van.jpg"),
        ("auto", "s3://bucket/project/day2/bus.jpg", "day2/bus.jpg"),
        ("auto", "/elsewhere/Deep.PNG", "day2/Deep.PNG"),
        ("auto", "/Deep", "day2/Deep.PNG"),
        ("path", "s3://bucket/day1/bus.jpg", "day1/bus.jpg"),
        ("name", "s3://bucket/elsewhere/van.jpg", "van.jpg"),
        ("original-name", "/data/upload/9/ffffffff-van.jpg", "van.jpg"),
    ],
)
def test_where_an_image_is_found(root: Path, match: ImageMatch, reference: str, path: str) -> None:
    assert ImageFinder(root, match).find(reference) == root / path


@pytest.mark.parametrize(
    ("match", "reference", "looked_for"),
    [
        ("auto", "/data/upload/9/ffffffff-none.jpg", "ffffffff-none.jpg"),
        ("path", "s3://bucket/project/day1/bus.jpg", "project/day1/bus.jpg"),
        ("name", "/data/upload/9/ffffffff-van.jpg", "ffffffff-van.jpg"),
        ("original-name", "/data/upload/9/ffffffff-none.jpg", "none.jpg"),
        ("auto", "/deep.jpg", "deep.jpg"),
    ],
)
def test_an_image_that_is_not_found_says_where_it_was_looked_for(
    root: Path, match: ImageMatch, reference: str, looked_for: str
) -> None:
    with pytest.raises(ImageLookupError) as caught:
        ImageFinder(root, match).find(reference)
    assert f"is not below {root} ({match}: looked for '{looked_for}')" in caught.value.message
    assert "--image-match" in caught.value.hint


def test_two_images_of_a_name_are_an_error(root: Path) -> None:
    with pytest.raises(ImageLookupError, match=r"'bus.jpg' may be \S+day1/bus.jpg or \S+day2/bus.jpg"):
        ImageFinder(root).find("https://host.example.org/bus.jpg")


def test_a_prefix_is_what_stands_for_the_folder(root: Path) -> None:
    finder = ImageFinder(root, "path", "project/2024/")
    assert finder.find("s3://bucket/project/2024/day1/bus.jpg") == root / "day1/bus.jpg"
    with pytest.raises(ImageLookupError, match=r"stands for 'project/day1/bus.jpg', not below 'project/2024'"):
        finder.find("s3://bucket/project/day1/bus.jpg")


def test_a_further_name_is_tried_last(root: Path) -> None:
    assert ImageFinder(root).find("/image1", "0a1b2c3d-van.jpg") == root / "van.jpg"
    with pytest.raises(ImageLookupError):
        ImageFinder(root, "name").find("/image1", "0a1b2c3d-van.jpg")


def test_a_signature_is_not_shown(root: Path) -> None:
    with pytest.raises(ImageLookupError) as caught:
        ImageFinder(root).find("https://host.example.org/none.jpg?signature=secret")
    assert "secret" not in str(caught.value)

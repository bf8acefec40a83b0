"""Synthetic runs: what is read and written, and every problem of every run at once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import gradient, write_image
from tests.datasets import tree_hash, written
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError
from toolkit.embryo.phases import PHASES, Phase
from toolkit.embryo.planes import PLANES, FocalPlane
from toolkit.embryo.synthetic import list_runs, new_run, read_run, verify_runs
from toolkit.embryo.synthetic_metadata import format_synthetic_metadata, load_synthetic_metadata

PROMPT = "a microscopic image of human embryo at phase t7 recorded at focal plane F+00"
DOCUMENTED = {
    "datetime": "2023-09-11T11:56:51.976986",
    "prompt": PROMPT,
    "phase": "t7",
    "focal-plane": "F+00",
}


def make_run(root: Path, name: str = "run1", *, images: tuple[str, ...] = ("img0.jpg",), **changes: Any) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    content = {key: value for key, value in {**DOCUMENTED, **changes}.items() if value is not None}
    (folder / "metadata.json").write_text(json.dumps(content))
    for image in images:
        write_image(folder / image, gradient())
    return folder


def problems_of(root: Path) -> tuple[str, ...]:
    with pytest.raises(InputProblemsError) as caught:
        list_runs(root)
    return caught.value.problems


def test_a_documented_run(tmp_path: Path) -> None:
    make_run(tmp_path, "run2", images=("img10.jpg", "img9.PNG", "img1.jpeg"))
    make_run(tmp_path, "run1")
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden").mkdir()
    first, second = list_runs(tmp_path)
    assert (first.name, second.name) == ("run1", "run2")
    assert second.image_names == ("img1.jpeg", "img9.PNG", "img10.jpg")
    assert second.metadata.when == datetime(2023, 9, 11, 11, 56, 51, 976986)  # noqa: DTZ001 - as the document has it
    assert (second.metadata.phase, second.metadata.plane) == (Phase.T7, FocalPlane.F_00)
    assert second.metadata.prompt == PROMPT
    assert second.metadata.remarks == []


@pytest.mark.parametrize("spelling", ["F-15", "_F-15", "embryo_dataset_F-15", "f-15"])
def test_both_spellings_of_planes(tmp_path: Path, spelling: str) -> None:
    folder = make_run(tmp_path, **{"focal-plane": spelling, "prompt": "an embryo"})
    assert read_run(folder).metadata.plane is FocalPlane.F_MINUS_15


def test_the_documented_trailing_comma_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    text = json.dumps(DOCUMENTED, indent=4).replace('"F+00"\n', '"F+00",\n')
    (folder / "metadata.json").write_text(text)
    (problem,) = problems_of(tmp_path)
    assert problem.startswith(f"{folder}: {folder}/metadata.json: cut short or no JSON: line ")
    assert problem.endswith(
        "; JSON allows no comma after the last entry; mvtk embryo synthetic new-run writes a valid file"
    )


def test_all_problems_of_all_runs_come_at_once(tmp_path: Path) -> None:
    bad = make_run(tmp_path, "a", images=(), **{"datetime": "yesterday", "phase": "t77", "focal-plane": 15})
    empty = make_run(tmp_path, "b", prompt=None, datetime=None)
    listed = tmp_path / "c"
    listed.mkdir()
    (listed / "metadata.json").write_text("[]")
    missing = tmp_path / "d"
    missing.mkdir()
    write_image(missing / "img0.jpg", gradient())
    make_run(tmp_path, "e")
    iso, labels = "write it as 2023-09-11T11:56:51 (ISO 8601)", ", ".join(phase.label for phase in PHASES)
    problems = problems_of(tmp_path)
    assert problems[:4] == (
        f"{bad}: {bad}/metadata.json: datetime: 'yesterday' is no date and time; {iso}",
        f"{bad}: {bad}/metadata.json: phase: there is no phase 't77'; did you mean t7?; the phases are {labels}",
        f"{bad}: {bad}/metadata.json: focal-plane: it is not a text",
        f"{bad}: no images",
    )
    assert problems[4:6] == (
        f"{empty}: {empty}/metadata.json: no key 'datetime'",
        f"{empty}: {empty}/metadata.json: no key 'prompt'",
    )
    assert problems[6].startswith(f"{listed}: {listed}/metadata.json: not a JSON object; ")
    assert problems[7] == f"{listed}: no images"
    assert problems[8].startswith(f"{missing}: {missing}/metadata.json: cannot read: No such file or directory")
    assert len(problems) == 9


def test_verify_names_damaged_images_and_what_is_odd(tmp_path: Path) -> None:
    folder = make_run(tmp_path, images=("img0.jpg", "img1.jpg"), prompt="an embryo at phase t8", model="sd")
    whole = (folder / "img1.jpg").read_bytes()
    (folder / "img1.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").touch()
    make_run(tmp_path, "run2", images=())
    before = tree_hash(tmp_path)
    first, second = verify_runs(tmp_path)
    assert first.problems == (f"{folder}/img1.jpg: the file is truncated (no JPEG end marker)",)
    assert first.warnings == (
        f"{folder}/metadata.json: unknown key 'model'",
        f"{folder}/metadata.json: the prompt says phase t8, the phase is t7",
        f"{folder}/notes.txt: neither an image nor metadata.json",
    )
    assert second.problems == (f"{tmp_path}/run2: no images",)
    assert second.run is None
    assert verify_runs(tmp_path, decode=False)[0].problems == ()
    assert tree_hash(tmp_path) == before


@pytest.mark.parametrize(("name", "message"), [("none", "none: no such folder"), ("", "there are no runs")])
def test_a_root_without_runs(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(MvtkError, match=rf"{message}; give the folder that holds the folders of the runs"):
        list_runs(tmp_path / name)


def test_verify_names_damaged_images_of_a_run_whose_metadata_are_bad(tmp_path: Path) -> None:
    folder = make_run(tmp_path, images=("img0.jpg",), phase="t77")
    (folder / "img0.jpg").write_bytes(b"no image")
    [check] = verify_runs(tmp_path)
    assert len(check.problems) == 2
    assert "there is no phase 't77'" in check.problems[0]
    assert check.problems[1].startswith(f"{folder}/img0.jpg: ")
    assert len(verify_runs(tmp_path, decode=False)[0].problems) == 1


def test_a_new_run_is_valid_and_documented(tmp_path: Path) -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    path = new_run(tmp_path / "runs", "run1", Phase.T9_PLUS, FocalPlane.F_PLUS_15, when=when)
    assert path.read_text() == (
        "{\n"
        '    "datetime": "2026-01-02T03:04:05+00:00",\n'
        '    "prompt": "a microscopic image of a human embryo at phase t9+ recorded at focal plane F+15",\n'
        '    "phase": "t9+",\n'
        '    "focal-plane": "F+15"\n'
        "}\n"
    )
    write_image(path.parent / "img0.jpg", gradient())
    (check,) = verify_runs(tmp_path / "runs")
    assert (check.problems, check.warnings) == ((), ())


def test_a_new_run_says_when_it_was_made(tmp_path: Path) -> None:
    before = datetime.now().astimezone()
    made = load_synthetic_metadata(new_run(tmp_path, "run1", Phase.T2, FocalPlane.F_00, "an embryo")).when
    assert before <= made <= datetime.now().astimezone()


def test_a_new_run_never_takes_an_existing_folder(tmp_path: Path) -> None:
    (tmp_path / "run1").mkdir()
    with pytest.raises(MvtkError, match=r"run1 exists already; give the run another name"):
        new_run(tmp_path, "run1", Phase.T2, FocalPlane.F_00)
    assert written(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "a\nb"])
def test_a_new_run_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match=r"^run name .*; give a plain name"):
        new_run(tmp_path, name, Phase.T2, FocalPlane.F_00)


@given(
    st.sampled_from(PHASES), st.sampled_from(PLANES), st.text(st.characters(exclude_categories=["Cs"])), st.datetimes()
)
def test_what_is_written_is_read_back(phase: Phase, plane: FocalPlane, prompt: str, when: datetime) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metadata.json"
        path.write_text(format_synthetic_metadata(phase, plane, prompt, when))
        metadata = load_synthetic_metadata(path)
    assert (metadata.phase, metadata.plane, metadata.prompt, metadata.when) == (phase, plane, prompt, when)


def test_sorting_is_by_number(tmp_path: Path) -> None:
    names = [f"img{number}.png" for number in np.random.default_rng(0).permutation(30)]
    folder = make_run(tmp_path, images=(*names, "7.png", "a1b10.png", "a1b9.png"))
    assert read_run(folder).image_names == (
        "7.png",
        "a1b9.png",
        "a1b10.png",
        *(f"img{number}.png" for number in range(30)),
    )

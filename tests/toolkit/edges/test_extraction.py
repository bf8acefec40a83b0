"""Edge maps extracted into NPZ files and PNG pictures: what is written, what is left alone, and what goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.builders import blob_mask
from tests.datasets import tree_hash, written
from tests.documented_edges import annotation_json, documented_extract, encoded
from toolkit.core.driver import run_to_end
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.report import Report
from toolkit.edges.extraction import ExtractEdgesJob, ExtractEdgesOptions

NAMES = ["edge_256x256.png", "edge_32x32.png", "edge_64x64.png", "edge_original.png", "edges.npz"]


def annotate(path: Path, *, masks: int = 1, height: int = 300, width: int = 400) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentations = [encoded(np.roll(blob_mask(height, width, high=1), 9 * mask, 1)) for mask in range(masks)]
    path.write_text(json.dumps(annotation_json(segmentations, height, width, path.stem)))
    return path


def options(output: Path, *paths: Path, **changes: Any) -> ExtractEdgesOptions:
    return ExtractEdgesOptions(**{"paths": paths, "output": output, "workers": 0, **changes})


def extract(output: Path, *paths: Path, **changes: Any) -> Report:
    return run_to_end(ExtractEdgesJob(options(output, *paths, **changes)))


def outputs(*stems: str) -> list[str]:
    return sorted(f"{stem}_{name}" for stem in stems for name in NAMES)


def only_reason(report: Report) -> str:
    (failed,) = report.failed
    return failed["reason"]


@pytest.mark.parametrize(("kernel_size", "version"), [(3, "B_v1"), (5, "B_v1_k5")])
def test_maps_are_those_of_the_documented_algorithm(tmp_path: Path, kernel_size: int, version: str) -> None:
    source = annotate(tmp_path / "sa_1.json", masks=3)
    out = tmp_path / "new" / "out"
    assert extract(out, source, kernel_size=kernel_size).figures.done == 1
    assert written(out) == outputs("sa_1")
    expected = documented_extract(source, kernel_size)
    with np.load(out / "sa_1_edges.npz", allow_pickle=False) as npz:
        assert list(npz) == ["edge_original", "edge_256x256", "edge_64x64", "edge_32x32", "edge_version"]
        assert npz["edge_version"].item() == version
        for name, edges in zip(npz, expected.values(), strict=False):
            assert npz[name].dtype == np.uint8
            np.testing.assert_array_equal(npz[name], edges)
            picture = cv2.imread(str(out / f"sa_1_{name}.png"), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(picture, edges * 255)


def test_real_records(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "sa1b"
    before = tree_hash(root)
    report = extract(tmp_path, root)
    assert report.figures.done == len(list(root.rglob("*.json")))
    assert report.figures.warnings == {"the annotation has no masks: the maps are empty": 1}
    assert tree_hash(root) == before
    with np.load(tmp_path / "tfds_excerpt" / "sa_000020" / "sa_226381_edges.npz") as npz:
        expected = documented_extract(root / "tfds_excerpt" / "sa_000020" / "sa_226381.json")
        np.testing.assert_array_equal(npz["edge_original"], expected["original"])


def test_subfolders_are_kept_for_what_is_found_in_a_folder(tmp_path: Path) -> None:
    annotate(tmp_path / "in" / "sa_000000" / "sa_1.json")
    annotate(tmp_path / "in" / "sa_2.JSON")
    other = annotate(tmp_path / "else" / "where" / "sa_3.json")
    (tmp_path / "in" / "readme.txt").touch()
    extract(tmp_path / "out", tmp_path / "in", other)
    assert written(tmp_path / "out") == outputs("sa_000000/sa_1", "sa_2", "sa_3")


def test_a_file_that_is_reached_twice_is_done_once(tmp_path: Path) -> None:
    annotate(tmp_path / "in" / "sa_1.json")
    source = annotate(tmp_path / "in" / "sub" / "sa_1.json")
    assert extract(tmp_path / "out", tmp_path / "in", source).figures.total == 2
    assert written(tmp_path / "out") == outputs("sa_1", "sub/sa_1")


def test_the_output_may_be_the_input_folder(tmp_path: Path) -> None:
    content = annotate(tmp_path / "sa_1.json").read_bytes()
    extract(tmp_path, tmp_path)
    assert extract(tmp_path, tmp_path).figures.skip_reasons == {"exists already": 1}
    assert written(tmp_path) == sorted(["sa_1.json", *outputs("sa_1")])
    assert (tmp_path / "sa_1.json").read_bytes() == content


def test_shards_share_the_files_out(tmp_path: Path) -> None:
    for number in range(8):
        annotate(tmp_path / "in" / f"sa_{number}.json")
    counts = [extract(tmp_path / "out", tmp_path / "in", shard=f"{part}/2").figures.done for part in range(2)]
    assert sum(counts) == 8
    assert min(counts) > 0
    assert written(tmp_path / "out") == outputs(*(f"sa_{number}" for number in range(8)))


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    report = extract(tmp_path / "out", annotate(tmp_path / "sa_1.json"), dry_run=True)
    assert report.figures.done == 1
    assert not (tmp_path / "out").exists()


def test_all_wrong_paths_are_named_together(tmp_path: Path) -> None:
    image = tmp_path / "sa_1.jpg"
    image.touch()
    with pytest.raises(InputProblemsError) as caught:
        ExtractEdgesJob(options(tmp_path / "out", tmp_path / "no.json", tmp_path / "none", image))
    assert caught.value.problems == (
        f"{tmp_path}/no.json: no such file or folder",
        f"{tmp_path}/none: no such file or folder",
        f"{image}: not named like a JSON file",
    )


def test_a_folder_without_json_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"there are no JSON files in .*; name annotation files, or folders"):
        ExtractEdgesJob(options(tmp_path / "out", tmp_path))


def test_two_inputs_with_one_output_are_named_before_anything_is_written(tmp_path: Path) -> None:
    for source in ("a/sa_1.json", "b/sa_1.json", "a/x/sa_2.json", "a/x/sa_2.JSON"):
        annotate(tmp_path / source)
    with pytest.raises(InputProblemsError) as caught:
        extract(tmp_path / "out", tmp_path / "a", tmp_path / "b")
    assert caught.value.problems == (
        f"{tmp_path}/a/x/sa_2.JSON and {tmp_path}/a/x/sa_2.json would both become {tmp_path}/out/x/sa_2_edges.npz",
        f"{tmp_path}/a/sa_1.json and {tmp_path}/b/sa_1.json would both become {tmp_path}/out/sa_1_edges.npz",
    )
    assert not (tmp_path / "out").exists()


def test_a_bad_annotation_fails_alone_and_leaves_nothing(tmp_path: Path) -> None:
    annotate(tmp_path / "in" / "sa_1.json")
    (tmp_path / "in" / "sa_2.json").write_text('{"image": ')
    report = extract(tmp_path / "out", tmp_path / "in")
    assert "sa_2.json: cut short or no JSON: line 1 column 11" in only_reason(report)
    assert written(tmp_path / "out") == outputs("sa_1")


def test_run_again_skips_what_is_done_and_changes_nothing(tmp_path: Path) -> None:
    source = annotate(tmp_path / "sa_1.json")
    out = tmp_path / "out"
    extract(out, source)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert extract(out, source).figures.skip_reasons == {"exists already": 1}
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("B_v1_k5", "exists, made with kernel size 5; use --overwrite to replace it"),
        ("", "exists, without edge_version; use --overwrite to replace it"),
        ("A", "exists, with edge_version 'A'; use --overwrite to replace it"),
    ],
)
def test_maps_of_another_kind_are_replaced_only_when_asked(tmp_path: Path, version: str, reason: str) -> None:
    source = annotate(tmp_path / "sa_1.json")
    out = tmp_path / "out"
    out.mkdir()
    np.savez(out / "sa_1_edges.npz", **({"edge_version": np.array(version)} if version else {"mine": np.array(1)}))
    before = tree_hash(out)
    assert only_reason(extract(out, source)) == f"{out}/sa_1_edges.npz {reason}"
    assert tree_hash(out) == before
    assert extract(out, source, overwrite=True).figures.done == 1
    assert extract(out, source).figures.skipped == 1


def test_a_damaged_npz_is_named_and_made_again_only_when_asked(tmp_path: Path) -> None:
    source = annotate(tmp_path / "sa_1.json")
    out = tmp_path / "out"
    extract(out, source)
    whole = (out / "sa_1_edges.npz").read_bytes()
    (out / "sa_1_edges.npz").write_bytes(whole[:-40])
    reason = only_reason(extract(out, source))
    assert reason.startswith(f"{out}/sa_1_edges.npz: ")
    assert reason.endswith("; use --overwrite to make it again")
    assert extract(out, source, overwrite=True).figures.done == 1
    assert (out / "sa_1_edges.npz").read_bytes() == whole


@pytest.mark.parametrize("count", range(5))
def test_what_a_killed_run_left_is_completed(tmp_path: Path, count: int) -> None:
    source = annotate(tmp_path / "sa_1.json")
    out = tmp_path / "out"
    extract(out, source)
    before = tree_hash(out)
    left = sorted(out.glob("*.png"))[:count]
    times = {path: path.stat().st_mtime_ns for path in left}
    for path in set(out.iterdir()) - set(left):
        path.unlink()
    assert extract(out, source).figures.done == 1
    assert tree_hash(out) == before
    assert {path: path.stat().st_mtime_ns for path in left} == times


def test_a_picture_with_other_content_is_replaced_only_when_asked(tmp_path: Path) -> None:
    source = annotate(tmp_path / "sa_1.json")
    out = tmp_path / "out"
    out.mkdir()
    mine = out / "sa_1_edge_64x64.png"
    mine.write_bytes(b"mine")
    assert only_reason(extract(out, source)) == f"{mine} exists with other content; use --overwrite to replace it"
    assert written(out) == [mine.name]
    assert mine.read_bytes() == b"mine"
    assert extract(out, source, overwrite=True).figures.done == 1
    assert cv2.imread(str(mine), cv2.IMREAD_UNCHANGED).shape == (64, 64)


def test_an_npz_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    source = annotate(tmp_path / "sa_1.json")
    job = ExtractEdgesJob(options(tmp_path / "out", source))
    (item,) = job.plan()
    publish = job.step().process_one(item)
    extract(tmp_path / "out", source)
    before = tree_hash(tmp_path / "out")
    assert callable(publish)
    assert publish().reason == "exists already"
    assert tree_hash(tmp_path / "out") == before


def test_details_say_what_was_found(tmp_path: Path) -> None:
    source = annotate(tmp_path / "sa_1.json", masks=2)
    job = ExtractEdgesJob(options(tmp_path / "out", source))
    (item,) = job.plan()
    publish = job.step().process_one(item)
    assert callable(publish)
    edge_pixels = int(documented_extract(source)["original"].sum())
    assert publish().details == {"masks": 2, "size": "400x300", "edge_pixels": edge_pixels}


def test_left_over_temporaries_are_removed(tmp_path: Path) -> None:
    source = annotate(tmp_path / "sa_1.json")
    out = tmp_path / "out"
    extract(out, source)
    ended = out / ".mvtk-00000000-1-1-00000000.tmp"
    ended.touch()
    os.utime(ended, (0, 0))
    extract(out, source)
    assert written(out) == outputs("sa_1")

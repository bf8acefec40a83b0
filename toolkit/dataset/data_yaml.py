"""The ``data.yaml`` of a converted dataset: its class names, and when it may be replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from toolkit.annotations.marked_data_yaml import DATA_YAML, publish_marked
from toolkit.annotations.yolo import load_labels
from toolkit.annotations.yolo_data_yaml import MAX_CLASSES, find_data_yaml, format_data_yaml, load_data_yaml
from toolkit.core.errors import MvtkError
from toolkit.dataset.pairing import Pair
from toolkit.npz.pair_options import RGB_AND_MASK


def read_class_names(labels_root: Path, names_yaml: Path | None) -> tuple[dict[int, str] | None, list[str]]:
    """Return the class names of a labels dataset, None where it has no data YAML, and remarks for the user.

    Args:
        labels_root: the root of the labels dataset.
        names_yaml: the file to take; None: the dataset's own. When it is not clear which one that is, names are not
            guessed: the remark names the candidates.

    Raises:
        MvtkError: the file is not a valid data YAML.
    """
    if names_yaml is None:
        try:
            names_yaml = find_data_yaml(labels_root)
        except MvtkError as error:
            return None, [f"classes are called class_0, class_1 …: {error.message}; choose one with --names-yaml"]
    if names_yaml is None:
        return None, []
    return load_data_yaml(names_yaml).names, []


def publish_data_yaml(
    output_root: Path,
    pairs: Sequence[Pair],
    *,
    names: Mapping[int, str] | None,
    labels_root: Path,
    splits: Sequence[str],
    keep_mode: bool,
    overwrite: bool,
) -> str:
    """Write the data YAML of a converted dataset; return a remark for the user, or an empty string.

    A file that this function wrote and nobody edited is brought up to date; any other is kept unless ``overwrite``.

    Args:
        output_root: the converted dataset.
        pairs: all pairs of the dataset, of every shard.
        names: class names by id; None: as many numbered names as the labels need.
        labels_root: the root of the labels dataset.
        splits: the splits in the order in which to list them.
        keep_mode: whether the images kept their own channels; the dataset's first file then says how many.
        overwrite: replace an edited file.

    Raises:
        MvtkError: the file cannot be written.
    """
    used = {pair.stem.partition("/")[0] for pair in pairs}
    body = format_data_yaml(
        names or _numbered_names(labels_root, pairs),
        [split for split in splits if split in used and (output_root / "images" / split).is_dir()],
        channels=_kept_channels(output_root, pairs) if keep_mode else RGB_AND_MASK,
    )
    return publish_marked(output_root / DATA_YAML, body, overwrite=overwrite)


def _numbered_names(labels_root: Path, pairs: Sequence[Pair]) -> dict[int, str]:
    """Return names for every class id that the labels have; at least one."""
    highest = 0
    for pair in pairs:
        labels = load_labels(labels_root / pair.label, class_count=MAX_CLASSES)
        class_ids = [box.class_id for box in labels.boxes] + [polygon.class_id for polygon in labels.polygons]
        highest = max([highest, *class_ids])
    return {class_id: f"class_{class_id}" for class_id in range(highest + 1)}


def _kept_channels(output_root: Path, pairs: Sequence[Pair]) -> int:
    """Return the channels of image and mask together, as the dataset's first file has them."""
    from toolkit.npz import open_npz

    for pair in pairs:
        with suppress(MvtkError), open_npz(output_root / "images" / f"{pair.stem}.npz") as npz:
            header = npz.header("image")
            return (header.shape[2] if header and len(header.shape) == 3 else 1) + 1
    return RGB_AND_MASK

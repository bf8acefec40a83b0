"""A contact sheet of a mask-attention dataset: samples with their masks and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.annotations.yolo import boxes_to_xyxy, load_labels, parse_labels
from toolkit.annotations.yolo_data_yaml import find_data_yaml, load_data_yaml
from toolkit.annotations.yolo_layout import find_split_folders, label_folder_of
from toolkit.core.errors import MvtkError
from toolkit.core.listing import list_files
from toolkit.npz import load_npz_data
from toolkit.preview import Tile, contact_sheet, require_drawable, save_png


def save_dataset_preview(
    dataset_root: Path,
    output: Path,
    *,
    splits: Sequence[str],
    samples: int = 12,
    columns: int = 4,
    tile_px: int = 320,
    overwrite: bool = False,
) -> int:
    """Draw evenly spaced samples of each split, with mask overlay, boxes and class names; return how many.

    Args:
        dataset_root: the dataset, as the conversion writes it.
        output: the PNG to write.
        splits: the splits to draw from.
        samples: how many samples in all, shared out among the splits.
        columns: tiles in a row.
        tile_px: a tile's longer side in pixels.
        overwrite: replace ``output``.

    Raises:
        MvtkError: the dataset has no samples, a file is damaged, or the PNG cannot be written.
    """
    yaml_path = find_data_yaml(dataset_root)
    names = load_data_yaml(yaml_path).names if yaml_path else {}
    tiles = [_tile(npz, label, names) for npz, label in _choose(dataset_root, splits, samples)]
    if not tiles:
        raise MvtkError(f"{dataset_root}: there are no NPZ files in {', '.join(splits)}")
    sheet = contact_sheet(tiles, columns=min(columns, len(tiles)), tile_px=tile_px)
    save_png(output, sheet, overwrite=overwrite)
    return len(tiles)


def _choose(root: Path, splits: Sequence[str], samples: int) -> list[tuple[Path, Path]]:
    """Return the NPZ and label files of evenly spaced samples; each split has its share of them."""
    found = {folder: list_files(folder, {".npz"}) for folder in find_split_folders(root, "images", splits).values()}
    total = sum(map(len, found.values()))
    chosen = []
    for folder, files in found.items():
        share = min(len(files), max(1, round(samples * len(files) / total))) if files else 0
        for index in range(share):
            name = files[index * len(files) // share]
            chosen.append((folder / name, (label_folder_of(folder) / name).with_suffix(".txt")))
    return chosen


def _tile(npz: Path, label: Path, names: dict[int, str]) -> Tile:
    image, mask_hw1 = load_npz_data(npz)
    require_drawable(npz, image, mask_hw1)
    height, width = image.shape[:2]
    labels = load_labels(label) if label.exists() else parse_labels("")
    boxes = [*labels.boxes, *(polygon.bounding_box() for polygon in labels.polygons)]
    class_ids = [box.class_id for box in boxes]
    return Tile(
        image,
        f"{npz.stem} {width}x{height}",
        mask=mask_hw1,
        boxes_xyxy=boxes_to_xyxy(boxes, width, height),
        labels=[names.get(class_id, str(class_id)) for class_id in class_ids],
        class_ids=class_ids,
    )

"""Preview pictures of SAM training data: each sample's image beside its masks and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from toolkit.core.errors import MvtkError, OptionError
from toolkit.core.files import require_apart
from toolkit.preview import Tile, contact_sheet, save_png
from toolkit.sam.layout import SamLayout, read_layout
from toolkit.sam.panels import paint_instances
from toolkit.sam.samples import SamSample, load_sample
from toolkit.sam.split_file import SPLIT_NAME, load_split

DEFAULT_COUNT: Final = 8
_SAMPLES_A_ROW: Final = 2


def save_sam_preview(
    root: Path,
    output: Path,
    *,
    ids: Sequence[str] = (),
    count: int = DEFAULT_COUNT,
    side: Literal["train", "val"] | None = None,
    tile_px: int = 320,
    overwrite: bool = False,
) -> list[str]:
    """Draw samples, two a row: the image, and beside it the masks and boxes over it.

    A mask and its box have one colour, so that boxes in another order than the masks are seen at once.

    Args:
        root: the dataset.
        output: the PNG to write.
        ids: which samples, in which order; none: ``count`` of them, evenly spread over the dataset.
        count: how many, where ``ids`` does not say.
        side: only samples of this side of ``split.json``.
        tile_px: longer side of each picture, in pixels.
        overwrite: replace ``output``.

    Returns:
        Remarks, one line each: samples that cannot be read.

    Raises:
        OptionError: ``ids`` names a sample that there is not, or ``count`` is less than one.
        MvtkError: the dataset cannot be read, none of the samples can, or the PNG cannot be written.
    """
    layout = read_layout(root)
    files_of = {files.id: files for files in layout.samples}
    chosen = [files_of[sample_id] for sample_id in _chosen(layout, ids, count, side)]
    require_apart(output, [path for files in chosen for path in (files.image, *files.masks)])
    remarks: list[str] = []
    tiles: list[Tile] = []
    for files in chosen:
        try:
            tiles += _tiles(load_sample(files, layout.class_count), layout.class_names)
        except MvtkError as error:
            remarks.append(f"not drawn: {error}")
    if not tiles:
        raise MvtkError(f"{root}: none of {len(chosen)} samples can be drawn: {remarks[0]}", "run mvtk sam verify")
    title = f"{root.name}: {len(tiles) // 2} of {len(layout.samples)} samples"
    save_png(output, contact_sheet(tiles, 2 * _SAMPLES_A_ROW, tile_px, title), overwrite=overwrite)
    return remarks


def _chosen(layout: SamLayout, ids: Sequence[str], count: int, side: str | None) -> list[str]:
    there: Sequence[str] = layout.ids
    if side is not None:
        split = load_split(layout.root / SPLIT_NAME, layout.ids)
        there = split.train if side == "train" else split.val
    where = f"{layout.root}, {side}" if side else str(layout.root)
    unknown = sorted(set(ids) - set(there))
    if unknown:
        raise OptionError(f"{where}: no sample {', '.join(map(repr, unknown))}", "mvtk sam verify --log lists them all")
    if count < 1:
        raise OptionError(f"{count} samples", "give a number above 0")
    if not there:
        raise MvtkError(f"{where}: there are no samples", "import some, such as with mvtk sam import-coco")
    if ids:
        return list(ids)
    shown = min(count, len(there))
    return [there[place * len(there) // shown] for place in range(shown)]


def _tiles(sample: SamSample, class_names: Sequence[str]) -> list[Tile]:
    height, width = sample.image_hwc.shape[:2]
    numbers = range(len(sample.class_ids))
    names = [class_names[class_id] if class_names else str(class_id) for class_id in sample.class_ids]
    painted_hwc = paint_instances(sample.image_hwc, sample.masks_nhw)
    instances = f"{len(numbers)} instance{'s' * (len(numbers) != 1)}"
    return [
        Tile(sample.image_hwc, f"{sample.id} {width}x{height}"),
        Tile(painted_hwc, instances, boxes_xyxy=sample.boxes_xyxy, labels=names, class_ids=numbers),
    ]

"""What a person wants to know of a dataset that was prepared: figures of each split, and remarks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from toolkit.splitting import Split
from toolkit.yolo.preparation.inputs import PreparationInputs
from toolkit.yolo.preparation.labels import SplitFigures
from toolkit.yolo.preparation.options import PrepareOptions
from toolkit.yolo.preparation.split import SPLITS


def split_figures(inputs: PreparationInputs) -> dict[str, Any]:
    """Return the figures of each split that has images, for the report."""
    names = inputs.class_names
    return {
        split: {
            "images": found.images,
            "groups": inputs.shared.groups[split],
            "backgrounds": found.backgrounds,
            "without_label_file": found.unlabelled,
            "objects": found.objects.total(),
            "objects_by_class": {
                f"{class_id} {names.get(class_id, f'class_{class_id}')}": count
                for class_id, count in sorted(found.objects.items())
            },
        }
        for split, found in _in_order(inputs)
    }


def split_lines(inputs: PreparationInputs) -> Iterator[str]:
    """Yield one line for each split that has images."""
    for split, found in _in_order(inputs):
        groups = inputs.shared.groups[split]
        parts = [counted(found.images, "image")]
        parts += [counted(groups, "group")] if groups != found.images else []
        parts += [counted(found.objects.total(), "object")]
        parts += [counted(found.backgrounds, "background")] if found.backgrounds else []
        yield f"{split}: {', '.join(parts)}"


def remarks(inputs: PreparationInputs, options: PrepareOptions) -> Iterator[str]:
    """Yield what may not be as it was meant, one line each."""
    yield from inputs.names.remarks
    yield from _split_remarks(inputs, options)
    source = inputs.source
    unlabelled = [image.source for image in inputs.images if not image.label]
    if unlabelled:
        yield f"{counted(len(unlabelled), 'image')} without a label file: background, such as {unlabelled[0]}"
    if source.orphans:
        yield f"{counted(len(source.orphans), 'label file')} without an image: left out, such as {source.orphans[0]}"
    if source.others:
        yield f"{counted(source.others, 'file')} that Ultralytics does not read: left out, such as {source.other}"
    found = inputs.labels.splits.values()
    boxes, polygons = sum(each.box_files for each in found), sum(each.polygon_files for each in found)
    if boxes and polygons:
        yield f"boxes in {counted(boxes, 'label file')}, polygons in {polygons:,}: good for boxes only"
    for effect, what in (("dropped", "Ultralytics drops"), ("kept", "are odd, and that Ultralytics takes")):
        if effect in inputs.labels.odd:
            count, example = inputs.labels.odd[effect]
            yield f"label rows that {what}: {count:,}, such as {example}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _split_remarks(inputs: PreparationInputs, options: PrepareOptions) -> Iterator[str]:
    images, shared = inputs.source.images, inputs.shared
    if options.pattern is not None:
        unmatched = [image.path for image in images if not options.pattern.search(image.path)]
        if unmatched:
            count = counted(len(unmatched), "image")
            yield f"--group-by does not match {count}, which are grouped as without it, such as {unmatched[0]}"
    if options.keep_splits and not any(image.split for image in images):
        yield "there are no split folders to keep: all images were shared out"
    if shared.divided:
        first = images[inputs.groups.index(shared.divided[0])].path
        count = counted(len(shared.divided), "group")
        yield f"{count} in several splits, such as that of {first}; leave out --keep-splits to have each in one"
    missing = [split for split in ("train", "val") if split not in shared.groups]
    if missing:
        yield f"nothing for {' and '.join(missing)}: Ultralytics cannot train so"


def _in_order(inputs: PreparationInputs) -> Iterator[tuple[Split, SplitFigures]]:
    return ((split, inputs.labels.splits[split]) for split in SPLITS if split in inputs.labels.splits)

"""``mvtk dataset``: the commands for metadata-only ``.npy`` datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from commands.options import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    LogOption,
    MaxFilesOption,
    OutputOptions,
    OverwriteOption,
    QuietOption,
    ReportOption,
    ShardOption,
    VerboseOption,
    WorkersOption,
    validated,
)

if TYPE_CHECKING:
    from toolkit.metadata.columns import Kind

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

KINDS_PANEL = "What to make (default: all)"
RAW_PANEL = "Raw data"

MetadataArgument = Annotated[
    Path, typer.Argument(readable=False, metavar="FILE.npy", help="A metadata file, as dataset process writes it.")
]


@app.command(
    epilog="Example: mvtk dataset process --all --raw-data-dir demo-output/raw --output-dir demo-output/preprocessed"
)
def process(
    all_kinds: Annotated[
        bool, typer.Option("--all", help="Detector, landmarker and teacher.", rich_help_panel=KINDS_PANEL)
    ] = False,
    detector: Annotated[
        bool, typer.Option("--detector", help="A sample an image, with all boxes.", rich_help_panel=KINDS_PANEL)
    ] = False,
    landmarker: Annotated[
        bool,
        typer.Option("--landmarker", help="A sample an object, with its keypoints.", rich_help_panel=KINDS_PANEL),
    ] = False,
    teacher: Annotated[
        bool,
        typer.Option(
            "--teacher", help="A sample a box: the object's own, or around its keypoints.", rich_help_panel=KINDS_PANEL
        ),
    ] = False,
    raw_data_dir: Annotated[
        Path,
        typer.Option(readable=False, metavar="DIR", help="Holds detector/ and landmarker/.", rich_help_panel=RAW_PANEL),
    ] = Path("common/data/raw"),
    output_dir: Annotated[
        Path,
        typer.Option(readable=False, metavar="DIR", help="Where the metadata files go; made if missing."),
    ] = Path("common/data/preprocessed"),
    train_split: Annotated[
        float, typer.Option(metavar="PART", help="The part of the images for training, 0 to 1.")
    ] = 0.8,
    seed: Annotated[int, typer.Option(metavar="N", help="Another one shares the images out differently.")] = 42,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="What it captures in an image's path below the raw data tells which images belong together.",
            show_default="the file name without .rf.<hash>",
        ),
    ] = None,
    keep_splits: Annotated[
        bool,
        typer.Option(
            "--keep-splits", help="Take the folders train, valid and test as they are.", rich_help_panel=RAW_PANEL
        ),
    ] = False,
    boxes: Annotated[
        Literal["clip", "drop", "error"],
        typer.Option(help="Boxes beyond the image: clip at its edge, drop, or fail. NaN or no area: dropped, or fail."),
    ] = "clip",
    check_images: Annotated[
        bool,
        typer.Option("--check-images", help="Decode every image; compare its size.", rich_help_panel=RAW_PANEL),
    ] = False,
    shift_pts: Annotated[
        bool,
        typer.Option(
            "--shift-pts", help="Subtract 1 from PTS coordinates, which count from 1.", rich_help_panel=RAW_PANEL
        ),
    ] = False,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images that are worked on together.")] = 500,
    flush_every: Annotated[int, typer.Option(metavar="N", help="Batches after which samples are written.")] = 1,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    workers: WorkersOption = None,
    max_files: MaxFilesOption = 0,
    shard: ShardOption = "0/1",
    dry_run: DryRunOption = False,
    report: ReportOption = None,
    log: LogOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Turn raw annotations (COCO, CSV, PTS, YOLO) into metadata files.

    Writes {train,val}_{detector,landmarker,teacher}.npy: image paths, boxes and keypoints.
    Images stay where they are and are not opened. An item is one dataset of the raw data.
    """
    from commands.ui import run_batch
    from toolkit.metadata.processing import ProcessJob, ProcessOptions

    options = validated(
        ProcessOptions,
        raw_data_dir=raw_data_dir,
        output_dir=output_dir,
        kinds=_kinds(all_kinds=all_kinds, detector=detector, landmarker=landmarker, teacher=teacher),
        train_split=train_split,
        seed=seed,
        group_by=group_by,
        keep_splits=keep_splits,
        boxes=boxes,
        check_images=check_images,
        shift_pts=shift_pts,
        batch_size=batch_size,
        flush_every=flush_every,
        overwrite=overwrite,
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
    )
    run_batch(ProcessJob(options), OutputOptions(report, log, json, quiet, verbose))


def _kinds(*, all_kinds: bool, detector: bool, landmarker: bool, teacher: bool) -> tuple[Kind, ...]:
    """Return the kinds that were asked for; all of them where none was."""
    asked_for: dict[Kind, bool] = {"detector": detector, "landmarker": landmarker, "teacher": teacher}
    every = all_kinds or not any(asked_for.values())
    return tuple(kind for kind, wanted in asked_for.items() if wanted or every)

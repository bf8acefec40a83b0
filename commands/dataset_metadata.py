"""``mvtk dataset``: the commands for metadata-only ``.npy`` datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    epilog="Example: mvtk dataset process --all --raw-data-dir demo-output/metadata/raw"
    " --output-dir demo-output/metadata/preprocessed"
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


@app.command(epilog="Example: mvtk dataset inspect demo-output/metadata/preprocessed/train_detector.npy --index 0")
def inspect(
    file: MetadataArgument,
    index: Annotated[
        int | None, typer.Option(metavar="N", help="Show one sample, from 0; negative ones count from the end.")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Check every sample, and that its image is there; exit code 1 on a problem."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what a metadata file holds: kind, samples, classes, sources, root. Nothing is unpickled."""
    from commands.consoles import output_console, print_json, say, say_value
    from commands.exit_codes import ITEMS_FAILED
    from toolkit.metadata.description import describe_metadata, describe_sample
    from toolkit.metadata.reading import open_metadata
    from toolkit.metadata.verification import check_metadata

    opened = open_metadata(file)
    problems = check_metadata(opened, images=True) if strict else []
    shown: dict[str, Any] = {}
    if not problems:
        shown = describe_metadata(opened) if index is None else describe_sample(opened, index)
    if json:
        print_json(shown | ({"problems": problems} if strict else {}))
    else:
        console = output_console()
        for name, value in shown.items():
            say_value(console, name, value)
        for problem in problems:
            say(console, f"problem: {problem}", "red")
        if strict and not problems:
            say(console, "no problems found")
    if problems:
        raise typer.Exit(ITEMS_FAILED)


@app.command(
    epilog="Example: mvtk dataset merge demo-output/metadata/preprocessed/train_detector.npy"
    " demo-output/metadata/preprocessed/val_detector.npy --output all_detector.npy"
)
def merge(
    files: Annotated[
        list[Path],
        typer.Argument(readable=False, metavar="FILE.npy...", help="Metadata files of one kind.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="OUT.npy", help="The metadata file to write.")
    ],
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
) -> None:
    """Write the samples of several metadata files as one; classes are united by name."""
    from commands.consoles import error_console, say
    from toolkit.metadata.merge import merge_metadata

    merged = merge_metadata(files, output, overwrite=overwrite)
    console = error_console()
    say(console, f"{output}: {merged.samples:,} {merged.kind} samples, image paths relative to {merged.root}")
    if merged.duplicates:
        say(console, f"warning: {merged.duplicates:,} samples are in more than one file; all are kept", "yellow")


@app.command(
    epilog="Example: mvtk dataset stats demo-output/metadata/preprocessed/train_detector.npy --output stats.png"
)
def stats(
    file: MetadataArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            readable=False,
            metavar="STATS.png",
            help="Draw the heat map of centres and the histograms.",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show figures of a metadata file: boxes an image, their sizes, keypoints, classes, image sizes."""
    from commands.consoles import error_console, output_console, print_json, say, say_value
    from toolkit.metadata.reading import open_metadata
    from toolkit.metadata.statistics import metadata_statistics

    opened = open_metadata(file)
    figures = metadata_statistics(opened)
    if output is not None:
        from toolkit.metadata.statistics_plot import save_statistics_plot

        save_statistics_plot(opened, output, overwrite=overwrite)
        say(error_console(), f"{output}: drawn")
    if json:
        print_json(figures)
    else:
        console = output_console()
        for name, value in figures.items():
            say_value(console, name, value)


@app.command(epilog="Example: mvtk dataset migrate demo-output/metadata/old_detector.npy migrated_detector.npy")
def migrate(
    old: Annotated[
        Path, typer.Argument(readable=False, metavar="OLD", help="A file of the old pickled layout; it is only read.")
    ],
    new: Annotated[Path, typer.Argument(readable=False, metavar="NEW.npy", help="The metadata file to write.")],
    root_dir: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="DIR",
            help="What the new image paths are relative to.",
            show_default="the deepest folder that holds all images",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
) -> None:
    """Convert a file of the old pickled layout.

    It is read without unpickling: only numbers, text, lists and arrays can come out of it.
    """
    from commands.consoles import error_console, say
    from toolkit.metadata.legacy import migrate_metadata

    migrated = migrate_metadata(old, new, root=root_dir, overwrite=overwrite)
    console = error_console()
    say(console, f"{new}: {migrated.samples:,} {migrated.kind} samples, image paths relative to {migrated.root}")
    if migrated.left_out:
        say(console, f"warning: left out, as no metadata file has it: {', '.join(migrated.left_out)}", "yellow")

"""``mvtk yolo prepare``: make a dataset that Ultralytics trains on from images and their label files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from commands.options import (
    BATCH_PANEL,
    ConfigOption,
    DryRunOption,
    JsonOption,
    LogOption,
    MaxFilesOption,
    OutputOptions,
    OverwriteOption,
    QuietOption,
    ReportOption,
    VerboseOption,
    validated,
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SPLITS_PANEL = "Splits"


@app.command(
    epilog="Example: mvtk yolo prepare demo-output/mask_attention_yolo yolo-dataset --val 0.25"
    r" --group-by '(\w+?)_?\d?\.npz'"
)
def prepare(
    source: Annotated[
        Path,
        typer.Argument(
            readable=False,
            metavar="SOURCE",
            help="Holds images/ and labels/, or train/images/, train/labels/ and so on, or images/ and boxes/.",
        ),
    ],
    output: Annotated[
        Path, typer.Argument(readable=False, metavar="OUT", help="The dataset to make: a new or an empty folder.")
    ],
    val: Annotated[
        float, typer.Option(metavar="PART", help="The part for validation.", rich_help_panel=SPLITS_PANEL)
    ] = 0.2,
    test: Annotated[
        float, typer.Option(metavar="PART", help="The part for testing.", rich_help_panel=SPLITS_PANEL)
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Another one gives another split.", rich_help_panel=SPLITS_PANEL)
    ] = 0,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="What it captures in an image's path (images/p1_003.png) tells which images belong together.",
            show_default="the path, without what Roboflow adds to each copy",
            rich_help_panel=SPLITS_PANEL,
        ),
    ] = None,
    keep_splits: Annotated[
        bool,
        typer.Option(
            "--keep-splits",
            help="Images in split folders (train, valid, test2017, …) stay in their split; else all are pooled.",
            rich_help_panel=SPLITS_PANEL,
        ),
    ] = False,
    labels_from: Annotated[
        Literal["labels", "boxes"] | None,
        typer.Option(help="Where the labels are.", show_default="whichever folder there is"),
    ] = None,
    names_yaml: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE",
            help="Class names: a data YAML, or a text file with one a line.",
            show_default="SOURCE's data.yaml, classes.txt, obj.names or summary.json",
        ),
    ] = None,
    link: Annotated[
        Literal["hard", "symlink", "copy"],
        typer.Option(
            help="How images get there. A hard link takes no space; what rewrites it in place rewrites the original."
        ),
    ] = "hard",
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    workers: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Parallel workers, for copies on slow disks; 0 works in this process.",
            rich_help_panel=BATCH_PANEL,
        ),
    ] = 0,
    max_files: MaxFilesOption = 0,
    dry_run: DryRunOption = False,
    report: ReportOption = None,
    log: LogOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Make a dataset for training from images and their YOLO labels: splits, hard links, data.yaml.

    Writes OUT/images/<split>/, OUT/labels/<split>/ (copies) and, last, OUT/data.yaml. Run again, it goes on.

    Images keep their side when others are added; images of one group are never on two sides.

    An image without a label file is a background, as it is for Ultralytics.

    No mvtk command writes through a link; for tools that do, as Ultralytics to damaged JPEGs, use --link copy.
    """
    from commands.ui import run_batch
    from toolkit.yolo.preparation.job import PrepareJob, PrepareOptions

    options = validated(
        PrepareOptions,
        source=source,
        output=output,
        val=val,
        test=test,
        seed=seed,
        group_by=group_by,
        keep_splits=keep_splits,
        labels_from=labels_from,
        link=link,
        names_yaml=names_yaml,
        workers=workers,
        max_files=max_files,
        dry_run=dry_run,
        overwrite=overwrite,
    )
    run_batch(PrepareJob(options), OutputOptions(report, log, json, quiet, verbose))

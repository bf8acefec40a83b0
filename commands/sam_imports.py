"""``mvtk sam import-label-studio`` and ``import-coco``: make a dataset from an export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
    split_list,
    validated,
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SERVER_PANEL = "Server"
IMAGES_PANEL = "Images"

ImageMatchOption = Annotated[
    Literal["auto", "path", "name", "original-name"],
    typer.Option(
        help="How references map to files: by path, by name, or by the name before its upload.",
        rich_help_panel=IMAGES_PANEL,
    ),
]
ImagePrefixOption = Annotated[
    str, typer.Option(metavar="PREFIX", help="What in references stands for --images.", rich_help_panel=IMAGES_PANEL)
]
ClassesOption = Annotated[
    list[str] | None,
    typer.Option("--classes", metavar="A,B", help="The classes 0, 1, ….", show_default="all that occur, sorted"),
]
OtherLabelsOption = Annotated[
    Literal["error", "skip"], typer.Option(help="What becomes of labels that are none of the classes.")
]
OutputDirOption = Annotated[
    Path, typer.Option("--output", "-o", readable=False, metavar="DIR", help="The dataset to make.")
]


@app.command(
    epilog="Example: mvtk sam import-label-studio demo-output/sam/label-studio.json --images demo-output/sam/images"
    " --output from-label-studio"
)
def import_label_studio(
    export: Annotated[Path, typer.Argument(readable=False, metavar="EXPORT.json", help="Exported as JSON.")],
    output: OutputDirOption,
    images: Annotated[
        Path | None,
        typer.Option(
            readable=False, metavar="DIR", help="The images, searched to any depth.", rich_help_panel=IMAGES_PANEL
        ),
    ] = None,
    image_match: ImageMatchOption = "auto",
    image_prefix: ImagePrefixOption = "",
    image_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Which of a task's data is its image.",
            rich_help_panel=IMAGES_PANEL,
            show_default="image",
        ),
    ] = None,
    exif: Annotated[
        Literal["apply", "ignore"],
        typer.Option(help="Browsers show images as EXIF data turn them.", rich_help_panel=IMAGES_PANEL),
    ] = "apply",
    annotations: Annotated[
        Literal["first", "last", "all"], typer.Option(help="Which of a task's annotations count.")
    ] = "last",
    predictions: Annotated[
        Literal["ignore", "fallback", "only"], typer.Option(help="Whether those of models count.")
    ] = "ignore",
    shapes: Annotated[
        list[str] | None,
        typer.Option("--shapes", metavar="A,B", help="brush, polygon, rectangle, ellipse.", show_default="all"),
    ] = None,
    alpha_threshold: Annotated[
        int, typer.Option(metavar="N", help="A brush's pixel is inside from this alpha on.")
    ] = 128,
    to_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The image of the labelling interface, where there are several.")
    ] = None,
    ids: Annotated[Literal["task", "image"], typer.Option(help="What samples are called by.")] = "task",
    classes: ClassesOption = None,
    other_labels: OtherLabelsOption = "error",
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Download images that are not there.", rich_help_panel=SERVER_PANEL),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN", envvar="LABEL_STUDIO_API_KEY", help="Its access token.", rich_help_panel=SERVER_PANEL
        ),
    ] = None,
    other_hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--other-hosts", metavar="A,B", help="Hosts that get no token, but may serve.", rich_help_panel=SERVER_PANEL
        ),
    ] = None,
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
    """Make a dataset from a Label Studio export: brushes, polygons, rectangles and ellipses become masks and boxes.

    Nothing of who annotated is carried over.
    """
    from commands.ui import run_batch
    from toolkit.sam.label_studio_import import ImportLabelStudioJob, ImportLabelStudioOptions

    options = validated(
        ImportLabelStudioOptions,
        export=export,
        output=output,
        images=images,
        image_match=image_match,
        image_prefix=image_prefix,
        image_key=image_key,
        exif=exif,
        annotations=annotations,
        predictions=predictions,
        shapes=split_list(shapes) if shapes else None,
        alpha_threshold=alpha_threshold,
        to_name=to_name,
        ids=ids,
        classes=split_list(classes) if classes else None,
        other_labels=other_labels,
        url=url,
        token=token,
        other_hosts=split_list(other_hosts or ()),
        overwrite=overwrite,
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
    )
    run_batch(ImportLabelStudioJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(
    epilog="Example: mvtk sam import-coco demo-output/sam/coco.json --images demo-output/sam/images --output from-coco"
)
def import_coco(
    annotations: Annotated[Path, typer.Argument(readable=False, metavar="COCO.json", help="With segmentations.")],
    output: OutputDirOption,
    images: Annotated[
        Path,
        typer.Option(
            readable=False, metavar="DIR", help="The images, searched to any depth.", rich_help_panel=IMAGES_PANEL
        ),
    ],
    image_match: ImageMatchOption = "auto",
    image_prefix: ImagePrefixOption = "",
    exif: Annotated[
        Literal["ignore", "apply"],
        typer.Option(help="COCO's objects are drawn on stored pixels.", rich_help_panel=IMAGES_PANEL),
    ] = "ignore",
    crowds: Annotated[bool, typer.Option("--crowds", help="Crowd regions are objects, too.")] = False,
    fill_boxes: Annotated[
        bool, typer.Option("--fill-boxes", help="An object that has a box only becomes a filled rectangle.")
    ] = False,
    ids: Annotated[Literal["image", "number"], typer.Option(help="What samples are called by.")] = "image",
    classes: ClassesOption = None,
    other_labels: OtherLabelsOption = "error",
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
    """Make a dataset from a COCO file: polygons and run lengths become masks and boxes."""
    from commands.ui import run_batch
    from toolkit.sam.coco_import import ImportCocoJob, ImportCocoOptions

    options = validated(
        ImportCocoOptions,
        annotations=annotations,
        output=output,
        images=images,
        image_match=image_match,
        image_prefix=image_prefix,
        exif=exif,
        crowds=crowds,
        fill_boxes=fill_boxes,
        ids=ids,
        classes=split_list(classes) if classes else None,
        other_labels=other_labels,
        overwrite=overwrite,
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
    )
    run_batch(ImportCocoJob(options), OutputOptions(report, log, json, quiet, verbose))

"""``mvtk sam``: fine-tune SAM on boxes and instance masks, evaluate it, and predict with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from commands.options import (
    ConfigOption,
    DeviceOption,
    DevicesExcludeOption,
    DevicesPreferOption,
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
from commands.sam_imports import app as imports_app
from commands.sam_training import app as training_app

if TYPE_CHECKING:
    from rich.table import Table

    from toolkit.sam.split_file import SplitReport

app = typer.Typer(
    help="Fine-tune SAM on boxes and instance masks; evaluate it, and predict with it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataArgument = Annotated[
    Path, typer.Argument(readable=False, metavar="DIR", help="A dataset: images/ masks/ boxes/ summary.json.")
]
ModelOption = Annotated[
    str,
    typer.Option(metavar="FOLDER|ID", help="A run of sam train, a folder with a SAM model, or a Hugging Face id."),
]
DEFAULT_MODEL = "facebook/sam-vit-base"


@app.command(epilog="Example: mvtk sam verify demo-output/sam")
def verify(
    data: DataArgument,
    min_iou: Annotated[
        float, typer.Option(metavar="IOU", help="A box must fit its mask's bounding box at least so well.")
    ] = 0.5,
    split: Annotated[
        Path | None,
        typer.Option(readable=False, metavar="FILE.json", help="Check it for leaks.", show_default="DIR/split.json"),
    ] = None,
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
    """Check a dataset before a GPU is touched: masks against boxes, sizes, values, classes, leaks.

    Exit code 1 when there is a problem; all of them are reported.
    """
    from commands.ui import run_batch
    from toolkit.sam.verification import VerifySamJob, VerifySamOptions

    options = validated(
        VerifySamOptions,
        root=data,
        min_iou=min_iou,
        split=split,
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
    )
    run_batch(VerifySamJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(epilog="Example: mvtk sam split demo-output/sam --output sam-split.json")
def split(
    data: DataArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", readable=False, metavar="FILE.json", show_default="DIR/split.json"),
    ] = None,
    test_size: Annotated[float, typer.Option(metavar="PART", help="The part for validation.")] = 0.2,
    stratify: Annotated[
        bool,
        typer.Option(
            "--stratify/--no-stratify", metavar=" ", help="Images of few and of many instances on both sides."
        ),
    ] = True,
    seed: Annotated[int, typer.Option(metavar="N", help="Another one gives another split.")] = 0,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="What it captures in an image's name tells which images belong together.",
            show_default="the groups of summary.json",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Share the images out between training and validation."""
    from commands.consoles import error_console, output_console, print_json, say
    from toolkit.sam.split_file import make_split

    made = make_split(
        data,
        output,
        test_size=test_size,
        stratify_by_box_count=stratify,
        seed=seed,
        group_by=group_by,
        overwrite=overwrite,
    )
    if json:
        print_json(made.to_dict())
    else:
        output_console().print(_split_table(made))
    say(error_console(), f"{made.path}: {made.total.train:,} for training, {made.total.val:,} for validation")


def _split_table(made: SplitReport) -> Table:
    from rich.table import Table

    table = Table(box=None)
    table.add_column("instances an image", no_wrap=True)
    for name in ("train", "val"):
        table.add_column(name, justify="right")
    for row in (*made.rows, made.total):
        table.add_row(row.instances or "all", f"{row.train:,}", f"{row.val:,}", style="" if row.instances else "bold")
    return table


@app.command(epilog="Example: mvtk sam preview demo-output/sam --output sam.png")
def preview(
    data: DataArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="SHEET.png", help="The PNG to write.")
    ],
    ids: Annotated[
        list[str] | None, typer.Option("--ids", metavar="A,B", help="Which samples, comma-separated or repeated.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="How many, spread over the dataset.")] = 8,
    side: Annotated[
        Literal["train", "val"] | None, typer.Option(help="Only samples of this side of split.json.")
    ] = None,
    tile: Annotated[int, typer.Option(min=64, max=2048, metavar="PX", help="A picture's longer side.")] = 320,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
) -> None:
    """Draw samples: the image, and beside it its masks and boxes, each pair in one colour."""
    from commands.consoles import error_console, say
    from toolkit.sam.preview import save_sam_preview

    remarks = save_sam_preview(
        data, output, ids=split_list(ids or ()), count=count, side=side, tile_px=tile, overwrite=overwrite
    )
    console = error_console()
    for remark in remarks:
        say(console, f"warning: {remark}", "yellow")
    say(console, f"{output}: drawn")


@app.command(epilog="Example: mvtk sam evaluate demo-output/sam --model demo-output/sam-run --output evaluation")
def evaluate(
    data: DataArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="DIR", help="Where the results go.")
    ],
    model: ModelOption = DEFAULT_MODEL,
    baseline: Annotated[
        str,
        typer.Option(metavar="FOLDER|ID", help="The un-tuned model; auto: the one that a run began with; none: none."),
    ] = "auto",
    part: Annotated[
        Literal["auto", "train", "val", "all"],
        typer.Option(help="Which images; auto: those for validation, all where there is no split."),
    ] = "auto",
    split: Annotated[
        Path | None,
        typer.Option(readable=False, metavar="FILE.json", help="The split.", show_default="DIR/split.json"),
    ] = None,
    boundary_tolerance: Annotated[
        float, typer.Option(metavar="PART", help="How far a boundary may be off, as a part of the diagonal.")
    ] = 0.008,
    panels: Annotated[int, typer.Option(metavar="N", help="Images to draw, the worst ones.")] = 8,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            readable=False, metavar="DIR", help="Embeddings of training.", show_default="DIR/.mvtk-embeddings"
        ),
    ] = None,
    cache_dtype: Annotated[Literal["float32", "float16"], typer.Option(help="Of those embeddings.")] = "float32",
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Images encoded at once.", show_default="1, on a GPU 4")
    ] = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = None,
    devices_exclude: DevicesExcludeOption = None,
    devices_prefer: DevicesPreferOption = None,
    config: ConfigOption = None,
    workers: WorkersOption = None,
    dry_run: DryRunOption = False,
    report: ReportOption = None,
    log: LogOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Score a model on a dataset: IoU, Dice and boundary F, per class and per size, beside the un-tuned model.

    Writes instances.csv, summary.csv, evaluation.png and panels/.
    """
    from commands.ui import run_batch
    from toolkit.sam.evaluation import EvaluateSamJob, EvaluateSamOptions

    options = validated(
        EvaluateSamOptions,
        data=data,
        output=output,
        model=model,
        baseline=baseline,
        part=part,
        split=split,
        boundary_tolerance=boundary_tolerance,
        panels=panels,
        cache_dir=cache_dir,
        cache_dtype=cache_dtype,
        batch_size=batch_size,
        overwrite=overwrite,
        device=device,
        devices_exclude=split_list(devices_exclude or ()),
        devices_prefer=split_list(devices_prefer or ()),
        workers=workers,
        dry_run=dry_run,
    )
    run_batch(EvaluateSamJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(
    epilog="Example: mvtk sam predict demo-output/sam/images --boxes demo-output/sam/boxes"
    " --model demo-output/sam-run --output predictions"
)
def predict(
    images: Annotated[Path, typer.Argument(readable=False, metavar="DIR", help="Images, searched to any depth.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="DIR", help="Where the results go.")
    ],
    boxes: Annotated[
        Path | None,
        typer.Option(readable=False, metavar="DIR", help="A YOLO text file an image, at the image's path."),
    ] = None,
    detector: Annotated[
        Path | None, typer.Option(readable=False, metavar="FILE.pt", help="A YOLO model that finds the boxes.")
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    class_names: Annotated[
        list[str] | None, typer.Option("--class-names", metavar="A,B", help="By class id, for the overlays.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(metavar="IOU", help="Leave out masks whose predicted IoU is lower.")
    ] = None,
    masks: Annotated[bool, typer.Option("--masks/--no-masks", metavar=" ", help="Write a PNG a mask.")] = True,
    overlays: Annotated[
        bool, typer.Option("--overlays/--no-overlays", metavar=" ", help="Write each image with its masks over it.")
    ] = True,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Images encoded at once.", show_default="1, on a GPU 4")
    ] = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = None,
    devices_exclude: DevicesExcludeOption = None,
    devices_prefer: DevicesPreferOption = None,
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
    """Make a mask of each box: PNG masks, COCO run lengths in predictions.json, overlays."""
    from commands.ui import run_batch
    from toolkit.sam.prediction import PredictSamJob, PredictSamOptions

    options = validated(
        PredictSamOptions,
        images=images,
        output=output,
        boxes=boxes,
        detector=detector,
        model=model,
        class_names=split_list(class_names or ()),
        min_score=min_score,
        masks=masks,
        overlays=overlays,
        batch_size=batch_size,
        overwrite=overwrite,
        device=device,
        devices_exclude=split_list(devices_exclude or ()),
        devices_prefer=split_list(devices_prefer or ()),
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
    )
    run_batch(PredictSamJob(options), OutputOptions(report, log, json, quiet, verbose))


app.add_typer(imports_app)
app.add_typer(training_app)

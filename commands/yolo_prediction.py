"""``mvtk yolo predict`` and ``export``: use a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

MASKS_PANEL = "Masks"

ModelOption = Annotated[
    Path, typer.Option(readable=False, metavar="RUN|FILE.pt", help="A run of yolo train, or weights.")
]


@app.command(
    epilog="Example: mvtk yolo predict demo-output/mask_attention_yolo/images/val --model demo-output/yolo-run"
    " --output yolo-predictions"
)
def predict(
    source: Annotated[
        Path,
        typer.Argument(
            readable=False, metavar="SOURCE", help="Images or pairs (NPZ): a folder, at any depth, or a file."
        ),
    ],
    model: ModelOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="DIR", help="Where the results go.")
    ],
    imgsz: Annotated[
        int | None, typer.Option(metavar="PX", help="Side of the model's input.", show_default="as trained")
    ] = None,
    conf: Annotated[float, typer.Option(metavar="PART", help="Leave out detections of a lower confidence.")] = 0.25,
    iou: Annotated[float, typer.Option(metavar="PART", help="Overlap from which one of two boxes is left out.")] = 0.7,
    max_det: Annotated[int, typer.Option(metavar="N", help="Detections an image.")] = 300,
    classes: Annotated[
        list[str] | None, typer.Option("--classes", metavar="0,2", help="Class ids to keep.", show_default="all")
    ] = None,
    save_conf: Annotated[
        bool, typer.Option("--save-conf", help="A sixth field in label files: the confidence.")
    ] = False,
    overlays: Annotated[
        bool, typer.Option("--overlays/--no-overlays", metavar=" ", help="Write each image with its boxes.")
    ] = True,
    masks: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="DIR",
            help="Masks for plain images, at the images' paths.",
            rich_help_panel=MASKS_PANEL,
        ),
    ] = None,
    mask_suffix: Annotated[
        str, typer.Option(metavar="TEXT", help="What a mask's name adds to its image's.", rich_help_panel=MASKS_PANEL)
    ] = "_seg",
    mask_extension: Annotated[str, typer.Option(metavar=".EXT", rich_help_panel=MASKS_PANEL)] = ".png",
    resize_mask: Annotated[
        bool,
        typer.Option(
            "--resize-mask", help="Resize masks of another size than their image.", rich_help_panel=MASKS_PANEL
        ),
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Images at once.", show_default="1, on a GPU 16")
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
    """Find objects: label files, COCO results in predictions.json, overlays.

    A model of image and mask takes pairs (NPZ), or plain images with --masks.
    """
    from commands.ui import run_batch
    from toolkit.yolo.prediction import PredictYoloJob, PredictYoloOptions

    options = validated(
        PredictYoloOptions,
        source=source,
        output=output,
        model=model,
        masks=masks,
        mask_suffix=mask_suffix,
        mask_extension=mask_extension,
        resize_mask=resize_mask,
        imgsz=imgsz,
        conf=conf,
        iou=iou,
        max_det=max_det,
        class_ids=split_list(classes or ()),
        save_conf=save_conf,
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
    run_batch(PredictYoloJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(epilog="Example: mvtk yolo export --model demo-output/yolo-run --output model.onnx")
def export(
    model: ModelOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="FILE.onnx", help="The file to write.")
    ],
    imgsz: Annotated[
        int | None, typer.Option(metavar="PX", help="Side of the input.", show_default="as trained")
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Images at once.")] = 1,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Let size and number of images vary.")] = False,
    opset: Annotated[int | None, typer.Option(metavar="N", help="Of ONNX.", show_default="a recent one")] = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
) -> None:
    """Write a model as ONNX; the input keeps its channels, the mask as the fourth."""
    from commands.consoles import error_console, say
    from toolkit.yolo.export import ExportYoloOptions, export_yolo

    options = validated(
        ExportYoloOptions,
        model=model,
        output=output,
        imgsz=imgsz,
        batch=batch,
        dynamic=dynamic,
        opset=opset,
        overwrite=overwrite,
    )
    (_, channels, height, width), size_bytes = export_yolo(options)
    say(error_console(), f"{output}: {channels} channels of {width} x {height} pixels, {size_bytes:,} bytes")

"""``mvtk yolo train`` and ``val``: run Ultralytics on pairs of image and mask, or on plain images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from commands.options import (
    OUTPUT_PANEL,
    ConfigOption,
    DeviceOption,
    DevicesExcludeOption,
    DevicesPreferOption,
    JsonOption,
    QuietOption,
    ReportOption,
    split_list,
    validated,
)

if TYPE_CHECKING:
    from rich.table import Table

    from toolkit.core.signals import StopRequest
    from toolkit.yolo.results import DetectionScores, Scores
    from toolkit.yolo.training import TrainingResult
    from toolkit.yolo.validation import ValidationResult

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

IMAGES_PANEL = "Images"
LEARNING_PANEL = "Learning"

DataArgument = Annotated[
    Path, typer.Argument(readable=False, metavar="DATA", help="A dataset's folder, or its data YAML.")
]
ImgszOption = Annotated[
    int, typer.Option(metavar="PX", help="Side of the model's input, a multiple of 32.", rich_help_panel=IMAGES_PANEL)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A further setting of Ultralytics, such as mosaic=0; may be repeated.",
        rich_help_panel=LEARNING_PANEL,
    ),
]
LoadersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Processes that read images ahead, a GPU; the CPU reads them in between.",
        show_default="the CPUs, at most 8",
        rich_help_panel=IMAGES_PANEL,
    ),
]
DetailsOption = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Also log the model's layers, and figures a class.", rich_help_panel=OUTPUT_PANEL
    ),
]


@app.command(
    epilog="Example: mvtk yolo train demo-output/mask_attention_yolo --output yolo-run --epochs 1 --imgsz 64"
    " --device cpu"
)
def train(
    data: DataArgument,
    output: Annotated[Path, typer.Option("--output", "-o", readable=False, metavar="RUN", help="The run's folder.")],
    model: Annotated[
        str, typer.Option(metavar="NAME.yaml|FILE.pt", help="A model to build anew, or weights to begin with.")
    ] = "yolo11n.yaml",
    attention: Annotated[
        Literal["auto", "none", "channel", "mask-cbam"],
        typer.Option(
            help="What becomes of masks: left out, a fourth channel, or that and attention in the neck; "
            "auto: channel where there are masks."
        ),
    ] = "auto",
    epochs: Annotated[int, typer.Option(metavar="N", help="How often every image is seen.")] = 100,
    imgsz: ImgszOption = 640,
    batch: Annotated[
        float, typer.Option(metavar="N", help="Images a step; on a GPU -1 or a part of its memory, such as 0.8.")
    ] = 16,
    lr0: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="The learning rate at the start.",
            show_default="Ultralytics' choice",
            rich_help_panel=LEARNING_PANEL,
        ),
    ] = None,
    patience: Annotated[
        int,
        typer.Option(
            metavar="N", help="Stop after N epochs without a better one; 0: never.", rich_help_panel=LEARNING_PANEL
        ),
    ] = 100,
    seed: Annotated[int, typer.Option(metavar="N", help="Of weights, order and augmentation.")] = 0,
    settings: SetOption = None,
    cache: Annotated[
        Literal["none", "ram", "disk"], typer.Option(help="Keep decoded images.", rich_help_panel=IMAGES_PANEL)
    ] = "none",
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="DIR",
            help="Where on disk, for several runs.",
            show_default="in RUN, until it ends",
            rich_help_panel=IMAGES_PANEL,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN.")] = False,
    workers: LoadersOption = None,
    device: DeviceOption = None,
    devices_exclude: DevicesExcludeOption = None,
    devices_prefer: DevicesPreferOption = None,
    config: ConfigOption = None,
    report: ReportOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: DetailsOption = False,
) -> None:
    """Train a detection model; masks of pairs are seen by it, too.

    The dataset is checked first. Ultralytics' log goes to stderr, its plots and weights into RUN, nothing elsewhere.
    """
    from toolkit.yolo.options import TrainYoloOptions

    options = validated(
        TrainYoloOptions,
        data=data,
        output=output,
        model=model,
        attention=attention,
        epochs=epochs,
        imgsz=imgsz,
        batch=batch,
        lr0=lr0,
        patience=patience,
        seed=seed,
        settings=tuple(settings or ()),
        cache=cache,
        cache_dir=cache_dir,
        resume=resume,
        workers=workers,
        device=device and ",".join(split_list(device)),
        devices_exclude=split_list(devices_exclude or ()),
        devices_prefer=split_list(devices_prefer or ()),
        verbose=verbose,
    )

    def work(stop: StopRequest) -> _Work:
        from toolkit.yolo.training import train_yolo

        result = train_yolo(options, stop, quiet=quiet)
        return _Work(result.trained, result.epochs - result.trained, result.stats(), result.interrupted, result)

    _run(
        "yolo train",
        options.model_dump(mode="json"),
        work,
        report,
        json=json,
        quiet=quiet,
        show=_show_training,
        after_interrupt="the same command with --resume goes on after the last whole epoch",
    )


@app.command(
    epilog="Example: mvtk yolo val demo-output/mask_attention_yolo --model demo-output/yolo-run --output yolo-val"
)
def val(
    data: DataArgument,
    model: Annotated[
        Path, typer.Option(readable=False, metavar="RUN|FILE.pt", help="A run of yolo train, or weights.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="DIR", help="Where the plots and metrics.csv go.")
    ],
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Which part of the dataset.")] = "val",
    imgsz: Annotated[
        int | None,
        typer.Option(
            metavar="PX", help="Side of the model's input.", show_default="as trained", rich_help_panel=IMAGES_PANEL
        ),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Images at once.")] = 16,
    conf: Annotated[float, typer.Option(metavar="PART", help="Leave out detections of a lower confidence.")] = 0.001,
    iou: Annotated[float, typer.Option(metavar="PART", help="Overlap from which one of two boxes is left out.")] = 0.7,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of an earlier validation.")
    ] = False,
    settings: SetOption = None,
    workers: LoadersOption = None,
    device: DeviceOption = None,
    devices_exclude: DevicesExcludeOption = None,
    devices_prefer: DevicesPreferOption = None,
    config: ConfigOption = None,
    report: ReportOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: DetailsOption = False,
) -> None:
    """Score a trained model on a split: precision, recall and mAP, a class, with plots and a confusion matrix."""
    from toolkit.yolo.options import ValYoloOptions

    options = validated(
        ValYoloOptions,
        data=data,
        output=output,
        model=model,
        split=split,
        imgsz=imgsz,
        batch=batch,
        conf=conf,
        iou=iou,
        overwrite=overwrite,
        settings=tuple(settings or ()),
        workers=workers,
        device=device and ",".join(split_list(device)),
        devices_exclude=split_list(devices_exclude or ()),
        devices_prefer=split_list(devices_prefer or ()),
        verbose=verbose,
    )

    def work(stop: StopRequest) -> _Work:
        from toolkit.yolo.validation import validate_yolo

        result = validate_yolo(options, stop, quiet=quiet)
        done = result.images if result.scores else 0
        return _Work(done, 0, result.stats(), result.scores is None, result)

    _run(
        "yolo val",
        options.model_dump(mode="json"),
        work,
        report,
        json=json,
        quiet=quiet,
        show=_show_validation,
        after_interrupt="run the command again",
    )


class _Work:
    """What a command has done, for its report: counts, figures, whether it was interrupted, and the result itself."""

    def __init__(self, done: int, skipped: int, stats: Mapping[str, Any], interrupted: bool, result: Any) -> None:
        self.done = done
        self.skipped = skipped
        self.stats = stats
        self.interrupted = interrupted
        self.result = result


def _run(
    command: str,
    options: Mapping[str, Any],
    work: Callable[[StopRequest], _Work],
    report_path: Path | None,
    *,
    json: bool,
    quiet: bool,
    show: Callable[[Any], None],
    after_interrupt: str,
) -> None:
    """Do the work, write the report, show the result.

    Raises:
        typer.Exit: a signal ended the work.
        MvtkError: the work could not be done; the report is written first.
    """
    from commands.consoles import error_console, say, write_output
    from commands.exit_codes import SIGNAL_BASE, exit_code_of
    from toolkit.core.files import require_writable
    from toolkit.core.report import Report, require_own_files
    from toolkit.core.signals import stop_on_signals

    require_own_files(report_path, None)
    if report_path:
        require_writable(report_path)
    report = Report(command, options)
    with stop_on_signals() as stop:
        try:
            done = work(stop)
        except Exception as error:
            report.exit_code = exit_code_of(error)
            report.close()
            if report_path:
                report.save(report_path)
            raise
    report.figures.done, report.figures.skipped = done.done, done.skipped
    if done.skipped:
        report.figures.skip_reasons["trained before"] = done.skipped
    report.stats, report.interrupted = {**done.stats, "complete": not done.interrupted}, done.interrupted
    report.exit_code = SIGNAL_BASE + (stop.signum or 2) if done.interrupted else 0
    report.close()
    if report_path:
        report.save(report_path)
    errors = error_console()
    for remark in done.stats.get("remarks", ()):
        say(errors, f"warning: {remark}", "yellow")
    if done.interrupted:
        say(errors, f"interrupted: {after_interrupt}", "yellow")
    if json:
        write_output(report.as_json())
    elif not quiet and not done.interrupted:
        show(done.result)
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _show_training(result: TrainingResult) -> None:
    from commands.consoles import output_console, say

    console = output_console()
    now = f"{result.trained:,} of {result.epochs:,} epochs now" if result.trained else "the run had ended before"
    say(console, f"mvtk yolo train: {now}, in {result.folder}", "bold")
    if result.best is not None:
        say(
            console,
            f"best epoch {result.best_epoch}: mAP50 {result.best.map50:.3f}, mAP50-95 {result.best.map50_95:.3f}",
        )
    if result.final is not None:
        console.print(_scores_table(result.final))
    if result.best_weights.exists():
        say(console, f"weights: {result.best_weights}")


def _show_validation(result: ValidationResult) -> None:
    from commands.consoles import output_console, say

    console = output_console()
    say(console, f"mvtk yolo val: {result.images:,} images", "bold")
    if result.scores is not None:
        console.print(_scores_table(result.scores))
    say(console, f"plots and metrics.csv: {result.folder}")


def _scores_table(scores: DetectionScores) -> Table:
    from rich.table import Table
    from rich.text import Text

    from toolkit.core.errors import one_line

    table = Table(box=None)
    table.add_column("class", overflow="fold")
    for name in ("n", "P", "R", "mAP50", "mAP50-95"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, figures in scores.classes.items():
        table.add_row(Text(one_line(name)), f"{scores.instances.get(name, 0):,}", *_cells(figures))
    table.add_row("all", f"{sum(scores.instances.values()):,}", *_cells(scores.overall), style="bold")
    return table


def _cells(scores: Scores) -> list[str]:
    return [f"{value:.3f}" for value in scores.as_dict().values()]

"""``mvtk sam train``: fine-tune SAM's mask decoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from commands.options import (
    OUTPUT_PANEL,
    ConfigOption,
    DeviceOption,
    DevicesExcludeOption,
    DevicesPreferOption,
    QuietOption,
    split_list,
    validated,
)

if TYPE_CHECKING:
    from rich.console import Console

    from toolkit.sam.train_options import TrainOptions
    from toolkit.sam.training_events import EpochReport, TrainingEvent

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

LEARNING_PANEL = "Learning"
CACHE_PANEL = "Images and embeddings"
LORA_PANEL = "LoRA"
_PROGRESS_CHARACTERS = 48


@app.command(
    epilog="Example: mvtk sam train demo-output/sam --model demo-output/sam-tiny --output sam-run --epochs 2"
    " --learning-rate 1e-3"
)
def train(
    data: Annotated[
        Path, typer.Argument(readable=False, metavar="DIR", help="A dataset: images/ masks/ boxes/ summary.json.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", readable=False, metavar="RUN", help="The run's folder.")],
    model: Annotated[
        str, typer.Option(metavar="FOLDER|ID", help="A folder with a SAM model, or a Hugging Face id.")
    ] = "facebook/sam-vit-base",
    epochs: Annotated[int, typer.Option(metavar="N", help="How often every image is seen.")] = 10,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images at once; fewer where memory is short.")] = 4,
    accumulate: Annotated[
        int, typer.Option(metavar="N", help="Batches to a step.", rich_help_panel=LEARNING_PANEL)
    ] = 1,
    learning_rate: Annotated[
        float, typer.Option(metavar="RATE", help="The highest one.", rich_help_panel=LEARNING_PANEL)
    ] = 1e-5,
    weight_decay: Annotated[float, typer.Option(metavar="DECAY", rich_help_panel=LEARNING_PANEL)] = 0.0,
    warmup: Annotated[
        float,
        typer.Option(metavar="PART", help="The part of all steps in which it rises.", rich_help_panel=LEARNING_PANEL),
    ] = 0.05,
    final_learning_rate: Annotated[
        float,
        typer.Option(metavar="PART", help="Where its cosine ends, as a part of it.", rich_help_panel=LEARNING_PANEL),
    ] = 0.01,
    max_grad_norm: Annotated[
        float, typer.Option(metavar="N", help="Shorten longer gradients; 0: none.", rich_help_panel=LEARNING_PANEL)
    ] = 0.0,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        typer.Option(help="auto: bf16 or fp16 on a GPU, fp32 on the CPU.", rich_help_panel=LEARNING_PANEL),
    ] = "auto",
    patience: Annotated[
        int,
        typer.Option(metavar="N", help="Stop after N epochs without a better one.", rich_help_panel=LEARNING_PANEL),
    ] = 0,
    min_delta: Annotated[
        float,
        typer.Option(metavar="N", help="By how much an epoch must be better to count.", rich_help_panel=LEARNING_PANEL),
    ] = 0.0,
    select_by: Annotated[
        Literal["loss", "iou"], typer.Option(help="What the best epoch is best by.", rich_help_panel=LEARNING_PANEL)
    ] = "loss",
    val_size: Annotated[
        float,
        typer.Option(metavar="PART", help="For validation, where there is no split.json.", rich_help_panel=CACHE_PANEL),
    ] = 0.2,
    stratify_by_box_count: Annotated[
        bool,
        typer.Option(
            "--stratify/--no-stratify",
            metavar=" ",
            help="Of that split: images of few and of many instances on both sides.",
            rich_help_panel=CACHE_PANEL,
        ),
    ] = True,
    seed: Annotated[int, typer.Option(metavar="N", help="Of split, order and augmentation.")] = 0,
    augment: Annotated[
        list[str] | None,
        typer.Option(
            "--augment",
            metavar="A,B",
            help="colour, rotation, crop (the encoder runs for each image), boxes (costs nothing).",
            rich_help_panel=CACHE_PANEL,
        ),
    ] = None,
    cache_variants: Annotated[
        Literal["none", "flips", "dihedral"],
        typer.Option(help="Mirrored or also turned images in the cache.", rich_help_panel=CACHE_PANEL),
    ] = "none",
    cache: Annotated[
        bool,
        typer.Option("--cache/--no-cache", metavar=" ", help="Encode each image once.", rich_help_panel=CACHE_PANEL),
    ] = True,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="DIR",
            help="Where embeddings are kept.",
            show_default="DIR/.mvtk-embeddings",
            rich_help_panel=CACHE_PANEL,
        ),
    ] = None,
    cache_dtype: Annotated[
        Literal["float32", "float16"], typer.Option(help="Of embeddings on disk.", rich_help_panel=CACHE_PANEL)
    ] = "float32",
    lora: Annotated[
        bool,
        typer.Option("--lora", help="Train low-rank updates of the decoder's attention.", rich_help_panel=LORA_PANEL),
    ] = False,
    lora_rank: Annotated[int, typer.Option(metavar="N", rich_help_panel=LORA_PANEL)] = 8,
    lora_alpha: Annotated[float, typer.Option(metavar="ALPHA", rich_help_panel=LORA_PANEL)] = 16.0,
    lora_dropout: Annotated[
        float,
        typer.Option(metavar="PART", help="Of their inputs, left out at random.", rich_help_panel=LORA_PANEL),
    ] = 0.0,
    panels: Annotated[
        int, typer.Option(metavar="N", help="Validation images drawn after every epoch.", rich_help_panel=OUTPUT_PANEL)
    ] = 4,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard/--no-tensorboard",
            metavar=" ",
            help="Write event files, where TensorBoard is installed.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = True,
    export: Annotated[
        bool,
        typer.Option(
            "--export/--no-export",
            metavar=" ",
            help="Write the best model as a whole at the end.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN.")] = False,
    threads: Annotated[int, typer.Option(metavar="N", help="Threads that read ahead.")] = 2,
    device: DeviceOption = None,
    devices_exclude: DevicesExcludeOption = None,
    devices_prefer: DevicesPreferOption = None,
    config: ConfigOption = None,
    quiet: QuietOption = False,
) -> None:
    """Fine-tune SAM's mask decoder; the image encoder is frozen and runs once an image.

    Writes checkpoints, the best model as a whole, metrics.csv, plots, panels and the exact configuration into RUN.
    """
    from toolkit.sam.train_options import TrainOptions

    options = validated(
        TrainOptions,
        data=data,
        output=output,
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup=warmup,
        final_learning_rate=final_learning_rate,
        max_grad_norm=max_grad_norm,
        precision=precision,
        patience=patience,
        min_delta=min_delta,
        select_by=select_by,
        val_size=val_size,
        stratify_by_box_count=stratify_by_box_count,
        seed=seed,
        augment=split_list(augment or ()),
        cache_variants=cache_variants,
        cache=cache,
        cache_dir=cache_dir,
        cache_dtype=cache_dtype,
        lora=lora,
        lora_rank=lora_rank,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        panels=panels,
        tensorboard=tensorboard,
        threads=threads,
        export=export,
        resume=resume,
        device=device and ",".join(split_list(device)),
        devices_exclude=split_list(devices_exclude or ()),
        devices_prefer=split_list(devices_prefer or ()),
    )
    _run(options, quiet=quiet)


def _run(options: TrainOptions, *, quiet: bool) -> None:
    """Train and show it; a signal ends the run after the step under way.

    Raises:
        typer.Exit: a signal ended the run.
        MvtkError: the run cannot begin or go on.
    """
    from contextlib import closing

    from commands.consoles import error_console, say
    from commands.exit_codes import SIGNAL_BASE
    from toolkit.core.signals import stop_on_signals
    from toolkit.sam.processes import launched_rank
    from toolkit.sam.training import SamTraining
    from toolkit.sam.training_events import EpochReport

    console = error_console()
    speaks = launched_rank() == 0  # all processes of a launcher have the same to say
    has_checkpoint = options.resume
    with stop_on_signals() as stop, closing(SamTraining(options).run()) as events:
        for event in events:
            if speaks:
                _show(console, event, quiet=quiet)
            has_checkpoint |= isinstance(event, EpochReport)
            if stop.requested:
                rest = "--resume goes on after the last whole epoch" if has_checkpoint else "run the command again"
                if speaks:
                    say(console, f"interrupted: {rest}", "yellow")
                raise typer.Exit(SIGNAL_BASE + (stop.signum or 2))


def _show(console: Console, event: TrainingEvent, *, quiet: bool) -> None:
    """Print what a person wants to know of an event; steps are drawn on a terminal only."""
    from commands.consoles import output_console, say
    from toolkit.sam.training_events import EncodingProgress, EpochReport, Notice, RunReport, StepReport

    if isinstance(event, RunReport):
        say(output_console(), f"{event.folder}: ended after epoch {event.epochs}: {event.reason}")
        best, start = (
            f"validation loss {each.val_loss:.4f}, IoU {each.val_iou:.4f}" for each in (event.best, event.start)
        )
        say(output_console(), f"best: epoch {event.best.epoch}, {best}; at the start: {start}")
        if event.model is not None:
            say(output_console(), f"model: {event.model}")
    elif quiet:
        return
    elif isinstance(event, Notice):
        say(console, event.text)
    elif isinstance(event, EpochReport):
        say(console, f"epoch {event.epoch}: {_figures(event)}{'  (best)' if event.is_best else ''}")
    elif console.is_terminal and isinstance(event, StepReport):
        _progress(console, f"{event.phase} {event.done}/{event.total}  loss {event.loss:.4f}")
    elif console.is_terminal and isinstance(event, EncodingProgress):
        _progress(console, f"encoding {event.done}/{event.total}")


def _progress(console: Console, text: str) -> None:
    """Write over the line of progress before, which may have been longer."""
    console.print(text.ljust(min(_PROGRESS_CHARACTERS, console.width - 1)), end="\r", highlight=False)


def _figures(epoch: EpochReport) -> str:
    parts = [] if epoch.epoch == 0 else [f"training loss {epoch.train_loss:.4f}"]
    parts += [f"validation loss {epoch.val_loss:.4f}", f"IoU {epoch.val_iou:.4f}"]
    if epoch.train_s:
        parts.append(f"{epoch.train_s:.1f} s, {epoch.waited_s:.1f} s of them waiting for data")
    return ", ".join(parts)

"""``mvtk npz``: inspect, verify, pack, preprocess and preview NPZ files."""

from __future__ import annotations

from dataclasses import asdict
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
    from toolkit.npz import NpzDescription

app = typer.Typer(
    help="Inspect, verify, pack, preprocess and preview NPZ files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

FilesArgument = Annotated[
    list[Path], typer.Argument(readable=False, metavar="FILE...", help="NPZ files.", show_default=False)
]


@app.command(epilog="Example: mvtk npz inspect demo-output/mask_attention_yolo/images/train/coins_1.npz")
def inspect(files: FilesArgument, json: JsonOption = False) -> None:
    """Show each member's key, shape, dtype, size and compression, and the values of flags. Nothing is unpickled."""
    from commands.consoles import error_console, output_console, print_json, say
    from commands.exit_codes import COULD_NOT_RUN, ITEMS_FAILED
    from toolkit.core.errors import MvtkError
    from toolkit.npz import describe_npz

    descriptions = []
    for file in files:
        try:
            descriptions.append(describe_npz(file))
        except MvtkError as error:
            say(error_console(), f"error: {error}", "red")
    if json:
        print_json([{**asdict(description), "path": str(description.path)} for description in descriptions])
    else:
        for description in descriptions:
            title = f"{description.path}: {description.kind}, {description.size_bytes:,} bytes"
            say(output_console(), title, "bold")
            output_console().print(_description_table(description))
    if len(descriptions) < len(files):
        raise typer.Exit(ITEMS_FAILED if descriptions else COULD_NOT_RUN)


def _description_table(description: NpzDescription) -> object:
    from rich.markup import escape
    from rich.table import Table

    from toolkit.core.errors import one_line

    table = Table(box=None, pad_edge=False)
    for column in ("key", "shape", "dtype"):
        table.add_column(column, overflow="fold", min_width=5)
    for column in ("bytes", "in file"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("stored", no_wrap=True)
    table.add_column("value", overflow="fold")
    for member in description.members:
        table.add_row(
            escape(one_line(member.key)),
            "" if member.shape is None else "x".join(map(str, member.shape)) or "()",
            "pickled" if member.pickled else member.dtype or "not an array",
            f"{member.size_bytes:,}",
            f"{member.compressed_bytes:,}",
            member.compression,
            "" if member.value is None else escape(one_line(str(member.value))),
        )
    return table


@app.command(epilog="Example: mvtk npz verify demo-output/mask_attention_yolo --kind mask-attention")
def verify(
    paths: Annotated[
        list[Path],
        typer.Argument(readable=False, metavar="PATH...", help="NPZ files and folders, searched to any depth."),
    ],
    kind: Annotated[
        Literal["auto", "mask-attention", "features", "any"],
        typer.Option(help="What the files should be; auto goes by each file's keys."),
    ] = "auto",
    max_bytes: Annotated[
        int | None, typer.Option(metavar="N", help="Largest size of a file's arrays.", show_default="2 GiB")
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
    """Read NPZ files in full and check their structure, every CRC and the arrays of their kind.

    Exit code 1 when a file has a problem; all of them are reported.
    """
    from commands.ui import run_batch
    from toolkit.npz.verification import VerifyNpzJob, VerifyNpzOptions

    options = validated(
        VerifyNpzOptions,
        paths=tuple(paths),
        kind=kind,
        max_bytes=max_bytes,
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
    )
    run_batch(VerifyNpzJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(
    epilog="Example: mvtk npz pack demo-output/photographs/images/val/cell.png"
    " demo-output/masks/cell_seg.png --output cell.npz"
)
def pack(
    image: Annotated[Path, typer.Argument(readable=False, metavar="IMAGE", help="The image file.")],
    mask: Annotated[Path, typer.Argument(readable=False, metavar="MASK", help="The mask file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="FILE.npz", help="The file to write.")
    ],
    compression: Annotated[
        Literal["fast", "zlib", "none"],
        typer.Option(help="fast: ISA-L or libdeflate; zlib: as np.savez_compressed; none: stored."),
    ] = "fast",
    mask_values: Annotated[
        Literal["auto", "keep"], typer.Option(help="auto: a two-valued mask becomes 0/255; keep: as decoded.")
    ] = "auto",
    keep_mode: Annotated[
        bool, typer.Option("--keep-mode", help="Store what was decoded, in its own channels and depth.")
    ] = False,
    exif: Annotated[Literal["ignore", "apply"], typer.Option(help="The EXIF orientation of both files.")] = "ignore",
    to_8bit: Annotated[bool, typer.Option("--to-8bit", help="Scale a 16-bit image to 8 bits.")] = False,
    resize_mask: Annotated[
        bool, typer.Option("--resize-mask", help="Resize a mask of another size than its image (nearest).")
    ] = False,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
) -> None:
    """Pack an image file and a mask file into one NPZ file, by the rules of dataset convert-mask-attention."""
    from commands.consoles import error_console, say
    from toolkit.core.files import require_apart
    from toolkit.npz import PairOptions, load_pair, save_npz

    options = PairOptions(
        mask_values=mask_values, keep_mode=keep_mode, exif=exif, to_8bit=to_8bit, resize_mask=resize_mask
    )
    require_apart(output, (image, mask))
    arrays, warnings = load_pair(image, mask, options)
    size = save_npz(output, arrays, compression=compression, overwrite=overwrite)
    console = error_console()
    for warning in warnings:
        say(console, f"warning: {image}: {warning}", "yellow")
    say(console, f"{output}: {size:,} bytes")


@app.command(epilog="Example: mvtk npz preprocess demo-output/mask_attention_yolo/images/train/*.npz --output tensors")
def preprocess(
    files: FilesArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            readable=False,
            metavar="FILE|DIR",
            help="A .npy or .pt file for one input; else a folder.",
        ),
    ],
    imgsz: Annotated[
        int,
        typer.Option(metavar="PX", help="Side of the letterbox square; 0 keeps the image's size."),
    ] = 640,
    file_format: Annotated[
        Literal["npy", "pt"] | None,
        typer.Option("--format", help="File format; pt needs torch.", show_default="the output's suffix, else npy"),
    ] = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    workers: WorkersOption = None,
    dry_run: DryRunOption = False,
    report: ReportOption = None,
    log: LogOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Make a YOLO model's input of each file: (1, C+1, imgsz, imgsz) float32 in [0, 1], image channels then mask.

    Files whose output exists are skipped.
    """
    from commands.ui import run_batch
    from toolkit.npz.tensor_files import PreprocessJob, PreprocessOptions

    options = validated(
        PreprocessOptions,
        files=tuple(files),
        output=output,
        imgsz=imgsz,
        file_format=file_format,
        overwrite=overwrite,
        workers=workers,
        dry_run=dry_run,
    )
    run_batch(PreprocessJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(epilog="Example: mvtk npz preview demo-output/mask_attention_yolo/images/val/*.npz --output samples.png")
def preview(
    files: FilesArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="FILE.png", help="The PNG to write.")
    ],
    columns: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Pictures in a row of the sheet.", show_default="a square")
    ] = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
) -> None:
    """Draw image, mask and overlay of one file, or a contact sheet of several."""
    from commands.consoles import error_console, say
    from toolkit.npz.preview import save_npz_preview

    save_npz_preview(files, output, columns=columns, overwrite=overwrite)
    say(error_console(), f"{output}: {len(files)} {'sample' if len(files) == 1 else 'samples'}")

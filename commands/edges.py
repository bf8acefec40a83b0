"""``mvtk edges``: edge maps of instance masks (Method B), alone and inside features files."""

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
    early_workers,
    validated,
)

app = typer.Typer(
    help="Edge maps of instance masks: update, verify, extract and preview.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# A panel of its own: the long names of their negations leave other options no room on a terminal of 80 columns.
MARKS_PANEL = "Marks of processed files"

NpzDirOption = Annotated[
    Path, typer.Option(readable=False, metavar="DIR", help="Features files (*_features.npz), searched to any depth.")
]
JsonDirOption = Annotated[
    Path,
    typer.Option(
        readable=False,
        metavar="DIR",
        help="Annotations <image_id>.json: here, else in subfolders, else beside the features file.",
    ),
]
KernelSizeOption = Annotated[int, typer.Option(metavar="PX", help="Side of the square kernel.")]


@app.command(epilog="Example: mvtk edges update --npz-dir demo-output/sa1b/extracted --json-dir demo-output/sa1b")
def update(
    npz_dir: NpzDirOption,
    json_dir: JsonDirOption,
    kernel_size: KernelSizeOption = 3,
    sort_by: Annotated[Literal["name", "mtime"], typer.Option(help="The order; mtime: oldest first.")] = "mtime",
    reverse: Annotated[bool, typer.Option("--reverse", help="Turn the order round.")] = False,
    only_mtime_after: Annotated[
        float | None,
        typer.Option(metavar="EPOCH", help="Only files modified later than so many seconds since 1970 (UTC)."),
    ] = None,
    skip_if_processed: Annotated[
        bool,
        typer.Option(
            help="Leave alone files marked as made with this kernel size (default).",
            metavar=" ",
            show_default=False,
            rich_help_panel=MARKS_PANEL,
        ),
    ] = True,
    set_edge_flag: Annotated[
        bool,
        typer.Option(
            help="Mark files: edge_flag 1, edge_version B_v1, for kernel size 5 B_v1_k5 (default).",
            metavar=" ",
            show_default=False,
            rich_help_panel=MARKS_PANEL,
        ),
    ] = True,
    add_256: Annotated[
        bool, typer.Option("--add-256", help="Write edge_256x256 also into files that have none.")
    ] = False,
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
    """Recompute the edge maps inside features files from the annotations (Method B).

    Writes edge_64x64, edge_32x32 and, where a file has it, edge_256x256.
    Everything else in a file is carried over byte for byte.
    Run again, it goes on where it stopped.
    """
    with early_workers(workers, "toolkit.edges.method_b", dry_run=dry_run) as crew:
        from commands.ui import run_batch
        from toolkit.edges.update import UpdateEdgesJob, UpdateEdgesOptions

        options = validated(
            UpdateEdgesOptions,
            npz_dir=npz_dir,
            json_dir=json_dir,
            kernel_size=kernel_size,
            sort_by=sort_by,
            reverse=reverse,
            only_mtime_after=only_mtime_after,
            skip_if_processed=skip_if_processed,
            set_edge_flag=set_edge_flag,
            add_256=add_256,
            workers=workers,
            max_files=max_files,
            shard=shard,
            dry_run=dry_run,
        )
        run_batch(UpdateEdgesJob(options), OutputOptions(report, log, json, quiet, verbose), crew)


@app.command(epilog="Example: mvtk edges verify --npz-dir demo-output/sa1b/extracted --json-dir demo-output/sa1b")
def verify(
    npz_dir: NpzDirOption,
    json_dir: JsonDirOption,
    sample: Annotated[int, typer.Option(metavar="N", help="Verify N files spread over all of them; 0: all.")] = 0,
    kernel_size: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            help="The kernel size that every file must have been made with.",
            show_default="what each file's edge_version says, else 3",
        ),
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
    """Compute the edge maps of features files again and compare.

    Exit code 1 when a map is missing or differs from its annotation; all such files are listed.
    """
    from commands.ui import run_batch
    from toolkit.edges.verification import VerifyEdgesJob, VerifyEdgesOptions

    options = validated(
        VerifyEdgesOptions,
        npz_dir=npz_dir,
        json_dir=json_dir,
        sample=sample,
        kernel_size=kernel_size,
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
    )
    run_batch(VerifyEdgesJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(epilog="Example: mvtk edges extract demo-output/sa1b --output edges")
def extract(
    paths: Annotated[
        list[Path],
        typer.Argument(
            readable=False, metavar="JSON...", help="Annotation files, and folders that are searched to any depth."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", readable=False, metavar="DIR", help="Folder to write to, made if missing."),
    ],
    kernel_size: KernelSizeOption = 3,
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
    """Write the edge maps of annotation files as NPZ (0 and 1) and PNG (0 and 255); no features file is needed.

    Each <name>.json becomes <name>_edges.npz with edge_original,
    edge_256x256, edge_64x64 and edge_32x32, and a PNG of each map.
    Annotations whose maps exist are skipped.
    """
    with early_workers(workers, "toolkit.edges.method_b", dry_run=dry_run) as crew:
        from commands.ui import run_batch
        from toolkit.edges.extraction import ExtractEdgesJob, ExtractEdgesOptions

        options = validated(
            ExtractEdgesOptions,
            paths=tuple(paths),
            output=output,
            kernel_size=kernel_size,
            overwrite=overwrite,
            workers=workers,
            max_files=max_files,
            shard=shard,
            dry_run=dry_run,
        )
        run_batch(ExtractEdgesJob(options), OutputOptions(report, log, json, quiet, verbose), crew)


@app.command(epilog="Example: mvtk edges preview demo-output/sa1b/sa_1.json --output edges.png")
def preview(
    files: Annotated[
        list[Path],
        typer.Argument(
            readable=False, metavar="FILE...", help="Annotations (.json), or features files, whose own maps are drawn."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="FILE.png", help="The PNG to write.")
    ],
    images: Annotated[
        Path | None,
        typer.Option(readable=False, metavar="DIR", help="Folder with the images.", show_default="beside the file"),
    ] = None,
    kernel_size: Annotated[int, typer.Option(metavar="PX", help="Side of the square kernel, for annotations.")] = 3,
    tile: Annotated[int, typer.Option(min=64, max=2048, metavar="PX", help="A picture's longer side.")] = 420,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
) -> None:
    """Draw each image with its edges laid over it, at full size and at each scale."""
    from commands.consoles import error_console, say
    from toolkit.edges.preview import save_edges_preview

    console = error_console()
    for remark in save_edges_preview(
        files, output, images=images, kernel_size=kernel_size, tile_px=tile, overwrite=overwrite
    ):
        say(console, f"warning: {remark}", "yellow")
    say(console, f"{output}: {len(files)} {'image' if len(files) == 1 else 'images'}")

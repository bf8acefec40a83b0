"""``mvtk features``: SAM2 features in NPZ files: repair, extract, verify and preview."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

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

app = typer.Typer(
    help="SAM2 features in NPZ files: repair, extract, verify and preview.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ENCODER_PANEL = "Encoder options"

WeightsOption = Annotated[
    str,
    typer.Option(
        metavar="FILE|REPO",
        help="SAM2 checkpoint (.pt, .safetensors), or a Hugging Face repository.",
        rich_help_panel=ENCODER_PANEL,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="sam2.1_hiera_tiny, _small, _base_plus, _large, or sam2_hiera_…",
        show_default="from the name of the weights",
        rich_help_panel=ENCODER_PANEL,
    ),
]
DtypeOption = Annotated[
    Literal["float32", "bfloat16", "float16"],
    typer.Option(help="The encoder's arithmetic; float32 is exact.", rich_help_panel=ENCODER_PANEL),
]
StoreOption = Annotated[
    Literal["float32", "float16"],
    typer.Option(help="The dtype of the features in the files.", rich_help_panel=ENCODER_PANEL),
]
BatchSizeOption = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="Images encoded at once; auto: 1 on the CPU, 8 on a GPU; halved where memory is short.",
        rich_help_panel=ENCODER_PANEL,
    ),
]
CompileOption = Annotated[
    bool,
    typer.Option("--compile", help="Compile the encoder (torch.compile).", rich_help_panel=ENCODER_PANEL),
]
To8BitOption = Annotated[
    bool,
    typer.Option("--to-8bit", help="Take 16-bit images, scaled to 8 bits.", rich_help_panel=ENCODER_PANEL),
]
RefreshStaleOption = Annotated[
    bool,
    typer.Option("--refresh-stale", help="Encode again what another model, other weights or other dtypes made."),
]


def _encoding(
    weights: str,
    model: str | None,
    dtype: str,
    store: str,
    batch_size: str,
    compiled: bool,
    to_8bit: bool,
    device: list[str] | None,
    devices_exclude: list[str] | None,
    devices_prefer: list[str] | None,
) -> dict[str, Any]:
    """Return the encoder's options as the options models name them."""
    return {
        "weights": weights,
        "model": model,
        "dtype": dtype,
        "store": store,
        "batch_size": batch_size,
        "compile": compiled,
        "to_8bit": to_8bit,
        "device": device,
        "devices_exclude": split_list(devices_exclude or ()),
        "devices_prefer": split_list(devices_prefer or ()),
    }


@app.command(
    epilog="Example: mvtk features bulk-fix --root demo-output/sa1b --weights random:0 --model sam2.1_hiera_tiny"
    " --max-files 1 --log bulk_fix.log"
)
def bulk_fix(
    root: Annotated[
        Path, typer.Option(readable=False, metavar="DIR", help="Features files and images, searched to any depth.")
    ],
    weights: WeightsOption,
    model: ModelOption = None,
    dtype: DtypeOption = "float32",
    store: StoreOption = "float32",
    batch_size: BatchSizeOption = "auto",
    compile: CompileOption = False,  # noqa: A002 - the option's name
    to_8bit: To8BitOption = False,
    refresh_stale: RefreshStaleOption = False,
    config: ConfigOption = None,
    device: DeviceOption = None,
    devices_exclude: DevicesExcludeOption = None,
    devices_prefer: DevicesPreferOption = None,
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
    """Replace P4 and P5 in every features file below a folder, and mark the file with feature_flag 1.

    Of X_features.npz and X_sam2_features.npz the first is done.
    Its image lies beside it, else anywhere below the folder.
    Everything else in a file is carried over byte for byte.
    """
    from commands.ui import run_batch
    from toolkit.features.bulk_fix import BulkFixJob
    from toolkit.features.options import BulkFixOptions

    options = validated(
        BulkFixOptions,
        root=root,
        refresh_stale=refresh_stale,
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
        **_encoding(
            weights, model, dtype, store, batch_size, compile, to_8bit, device, devices_exclude, devices_prefer
        ),
    )
    run_batch(BulkFixJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(
    epilog="Example: mvtk features fix-inplace --samples demo-output/sa1b/samples.txt"
    " --npz-dirs demo-output/sa1b/extracted --weights random:0 --model sam2.1_hiera_tiny --max-images 1"
)
def fix_inplace(
    samples: Annotated[Path, typer.Option(readable=False, metavar="LIST.txt", help="The path of one image a line.")],
    weights: WeightsOption,
    npz_dirs: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Where to search for features files that do not lie beside their image."),
    ] = None,
    set_flag: Annotated[bool, typer.Option("--set-flag", help="Set feature_flag to 1.")] = False,
    model: ModelOption = None,
    dtype: DtypeOption = "float32",
    store: StoreOption = "float32",
    batch_size: BatchSizeOption = "auto",
    compile: CompileOption = False,  # noqa: A002 - the option's name
    to_8bit: To8BitOption = False,
    config: ConfigOption = None,
    device: DeviceOption = None,
    devices_exclude: DevicesExcludeOption = None,
    devices_prefer: DevicesPreferOption = None,
    workers: WorkersOption = None,
    max_images: Annotated[
        int,
        typer.Option(
            "--max-images",
            "--max-files",
            metavar="N",
            help="Stop after N images that need work; 0: no limit.",
            rich_help_panel="Batch options",
        ),
    ] = 0,
    shard: ShardOption = "0/1",
    dry_run: DryRunOption = False,
    report: ReportOption = None,
    log: LogOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Replace P4, P5 and the copy IMAGE_EMB_S16 in the features files of listed images.

    Files that this model, these weights and this dtype made are skipped; feature_flag alone does not count.
    """
    from commands.ui import run_batch
    from toolkit.features.fix_inplace import FixInplaceJob
    from toolkit.features.options import FixInplaceOptions

    options = validated(
        FixInplaceOptions,
        samples=samples,
        npz_dirs=split_list(npz_dirs or ()),
        set_flag=set_flag,
        workers=workers,
        max_files=max_images,
        shard=shard,
        dry_run=dry_run,
        **_encoding(
            weights, model, dtype, store, batch_size, compile, to_8bit, device, devices_exclude, devices_prefer
        ),
    )
    run_batch(FixInplaceJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(
    epilog="Example: mvtk features fix-splits --extracted-dirs demo-output/sa1b/extracted --weights random:0"
    " --model sam2.1_hiera_tiny --max-files 1"
)
def fix_splits(
    extracted_dirs: Annotated[
        list[str],
        typer.Option(metavar="A,B", help="Folders with features files; the images lie in the folder above each."),
    ],
    weights: WeightsOption,
    model: ModelOption = None,
    dtype: DtypeOption = "float32",
    store: StoreOption = "float32",
    batch_size: BatchSizeOption = "auto",
    compile: CompileOption = False,  # noqa: A002 - the option's name
    to_8bit: To8BitOption = False,
    refresh_stale: RefreshStaleOption = False,
    config: ConfigOption = None,
    device: DeviceOption = None,
    devices_exclude: DevicesExcludeOption = None,
    devices_prefer: DevicesPreferOption = None,
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
    """Replace P4 and P5 in the features files of <split>/extracted folders, and mark each with feature_flag 1."""
    from commands.ui import run_batch
    from toolkit.features.fix_splits import FixSplitsJob
    from toolkit.features.options import FixSplitsOptions

    options = validated(
        FixSplitsOptions,
        extracted_dirs=split_list(extracted_dirs),
        refresh_stale=refresh_stale,
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
        **_encoding(
            weights, model, dtype, store, batch_size, compile, to_8bit, device, devices_exclude, devices_prefer
        ),
    )
    run_batch(FixSplitsJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(
    epilog="Example: mvtk features extract --images demo-output/sa1b --output features --weights random:0"
    " --model sam2.1_hiera_tiny --max-files 1"
)
def extract(
    images: Annotated[Path, typer.Option(readable=False, metavar="DIR", help="Images, searched to any depth.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="DIR", help="Folder to write to, made if missing.")
    ],
    weights: WeightsOption,
    model: ModelOption = None,
    dtype: DtypeOption = "float32",
    store: StoreOption = "float32",
    batch_size: BatchSizeOption = "auto",
    compile: CompileOption = False,  # noqa: A002 - the option's name
    to_8bit: To8BitOption = False,
    refresh_stale: RefreshStaleOption = False,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    device: DeviceOption = None,
    devices_exclude: DevicesExcludeOption = None,
    devices_prefer: DevicesPreferOption = None,
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
    """Make a features file of each image: P4, P5, image_id, image_shape, model_type, feature_flag, feature_source."""
    from commands.ui import run_batch
    from toolkit.features.extraction import ExtractFeaturesJob
    from toolkit.features.options import ExtractFeaturesOptions

    options = validated(
        ExtractFeaturesOptions,
        images=images,
        output=output,
        refresh_stale=refresh_stale,
        overwrite=overwrite,
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
        **_encoding(
            weights, model, dtype, store, batch_size, compile, to_8bit, device, devices_exclude, devices_prefer
        ),
    )
    run_batch(ExtractFeaturesJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(epilog="Example: mvtk features verify demo-output/features")
def verify(
    root: Annotated[Path, typer.Argument(readable=False, metavar="DIR", help="Features files, searched to any depth.")],
    recompute: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Compare N files, spread over all, with a fresh encoding, and no others; needs --weights.",
        ),
    ] = 0,
    min_cosine: Annotated[
        float, typer.Option(metavar="X", help="The least cosine similarity with the fresh features.")
    ] = 0.999,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE|REPO", help="SAM2 checkpoint, for --recompute.", rich_help_panel=ENCODER_PANEL),
    ] = None,
    model: ModelOption = None,
    dtype: DtypeOption = "float32",
    batch_size: BatchSizeOption = "auto",
    compile: CompileOption = False,  # noqa: A002 - the option's name
    to_8bit: To8BitOption = False,
    config: ConfigOption = None,
    device: DeviceOption = None,
    devices_exclude: DevicesExcludeOption = None,
    devices_prefer: DevicesPreferOption = None,
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
    """Read features files in full and check shapes, dtypes, values, feature_flag and feature_source.

    Exit code 1 when a file has a problem; all of them are reported.
    """
    from commands.ui import run_batch
    from toolkit.core.errors import OptionError
    from toolkit.features.verification import (
        RecomputeJob,
        RecomputeOptions,
        VerifyFeaturesJob,
        VerifyFeaturesOptions,
    )

    output = OutputOptions(report, log, json, quiet, verbose)
    shared = {"root": root, "workers": workers, "max_files": max_files, "shard": shard, "dry_run": dry_run}
    if not recompute:
        if weights:
            raise OptionError("--weights is for --recompute N", "say how many files are to be encoded again")
        run_batch(VerifyFeaturesJob(validated(VerifyFeaturesOptions, **shared)), output)
    if not weights:
        raise OptionError("--recompute needs --weights", "name the checkpoint that made the features")
    options = validated(
        RecomputeOptions,
        recompute=recompute,
        min_cosine=min_cosine,
        **shared,
        **_encoding(
            weights, model, dtype, "float32", batch_size, compile, to_8bit, device, devices_exclude, devices_prefer
        ),
    )
    run_batch(RecomputeJob(options), output)


@app.command(
    epilog="Example: mvtk features preview demo-output/features/sa_3_features.npz --images demo-output/sa1b"
    " --output features.png"
)
def preview(
    files: Annotated[list[Path], typer.Argument(readable=False, metavar="FILE...", help="Features files.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="FILE.png", help="The PNG to write.")
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="DIR",
            help="Images, searched to any depth.",
            show_default="beside the file or above",
        ),
    ] = None,
    tile: Annotated[int, typer.Option(min=64, max=2048, metavar="PX", help="A picture's longer side.")] = 420,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
) -> None:
    """Draw the three main components of P4 and P5 as colours, beside the image."""
    from commands.consoles import error_console, say
    from toolkit.features.preview import save_features_preview

    console = error_console()
    for remark in save_features_preview(files, output, images=images, tile_px=tile, overwrite=overwrite):
        say(console, f"warning: {remark}", "yellow")
    say(console, f"{output}: {len(files)} {'file' if len(files) == 1 else 'files'}")

"""``mvtk dataset``: build, verify and preview training datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from commands.dataset_metadata import app as metadata_app
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
    split_list,
    validated,
)

app = typer.Typer(
    help="Build, verify and preview training datasets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(metadata_app)

SplitsOption = Annotated[
    list[str], typer.Option("--splits", metavar="A,B", help="The splits to take, comma-separated or repeated.")
]
ALL_SPLITS = ["train,val,test"]


@app.command(
    epilog="Example: mvtk dataset convert-mask-attention --images-dataset-root demo-output/photographs"
    " --labels-dataset-root demo-output/annotations --mask-folder demo-output/masks"
    " --mapping-json demo-output/mapping.json --output-root demo-output/mask_attention_yolo"
)
def convert_mask_attention(
    images_dataset_root: Annotated[
        Path,
        typer.Option(
            readable=False, metavar="DIR", help="YOLO dataset with the images: images/<split> or <split>/images."
        ),
    ],
    labels_dataset_root: Annotated[
        Path, typer.Option(readable=False, metavar="DIR", help="YOLO dataset with the labels; may be the same.")
    ],
    mask_folder: Annotated[
        Path, typer.Option(readable=False, metavar="DIR", help="Masks, named <image stem><suffix><extension>.")
    ],
    mapping_json: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE.json",
            help='Which dataset image each label image stands for: {"label_image.png": "dataset_image.png"}.',
            show_default="each image is its own label image",
        ),
    ] = None,
    output_root: Annotated[Path, typer.Option(readable=False, metavar="DIR", help="The dataset to make.")] = Path(
        "mask_attention_yolo"
    ),
    splits: SplitsOption = ALL_SPLITS,
    mask_suffix: Annotated[str, typer.Option(metavar="TEXT", help="What a mask's name adds to the stem.")] = "_seg",
    mask_extension: Annotated[str, typer.Option(metavar=".EXT", help="The masks' file suffix.")] = ".png",
    names_yaml: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE.yaml",
            help="Data YAML with the class names.",
            show_default="the labels dataset's own",
        ),
    ] = None,
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
    exif: Annotated[
        Literal["ignore", "apply"],
        typer.Option(help="The EXIF orientation; labels and masks are usually made on the stored pixels."),
    ] = "ignore",
    to_8bit: Annotated[bool, typer.Option("--to-8bit", help="Scale 16-bit images to 8 bits.")] = False,
    resize_mask: Annotated[
        bool, typer.Option("--resize-mask", help="Resize a mask of another size than its image (nearest).")
    ] = False,
    max_pixels: Annotated[
        int | None, typer.Option(metavar="N", help="Refuse larger images.", show_default="178,956,970, Pillow's limit")
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
    """Convert images, masks and YOLO labels into a dataset of image and mask pairs (NPZ).

    Writes images/<split>/<stem>.npz (image HxWx3 uint8, mask HxW uint8), the label files as they are, and data.yaml.
    Run again, it goes on where it stopped.
    """
    with early_workers(workers, "toolkit.npz.packing", dry_run=dry_run) as crew:
        from commands.ui import run_batch
        from toolkit.dataset.mask_attention import MaskAttentionJob, MaskAttentionOptions

        options = validated(
            MaskAttentionOptions,
            images_dataset_root=images_dataset_root,
            labels_dataset_root=labels_dataset_root,
            mask_folder=mask_folder,
            mapping_json=mapping_json,
            output_root=output_root,
            splits=split_list(splits),
            mask_suffix=mask_suffix,
            mask_extension=mask_extension,
            names_yaml=names_yaml,
            compression=compression,
            mask_values=mask_values,
            keep_mode=keep_mode,
            exif=exif,
            to_8bit=to_8bit,
            resize_mask=resize_mask,
            max_pixels=max_pixels,
            overwrite=overwrite,
            workers=workers,
            max_files=max_files,
            shard=shard,
            dry_run=dry_run,
        )
        run_batch(MaskAttentionJob(options), OutputOptions(report, log, json, quiet, verbose), crew)


@app.command(epilog="Example: mvtk dataset verify demo-output/mask_attention_yolo --report verify.json")
def verify(
    dataset_root: Annotated[
        Path, typer.Argument(readable=False, metavar="ROOT", help="The dataset, as the conversion writes it.")
    ],
    splits: SplitsOption = ALL_SPLITS,
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
    """Read every file of a dataset in full; check arrays, sizes, labels, pairing and leaks between splits.

    Exit code 1 when there is a problem; all of them are reported.
    """
    from commands.ui import run_batch
    from toolkit.dataset.verification import VerifyDatasetJob, VerifyOptions

    options = validated(
        VerifyOptions,
        dataset_root=dataset_root,
        splits=split_list(splits),
        max_bytes=max_bytes,
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
    )
    run_batch(VerifyDatasetJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(epilog="Example: mvtk dataset preview demo-output/mask_attention_yolo --output sheet.png")
def preview(
    dataset: Annotated[
        Path,
        typer.Argument(
            readable=False,
            metavar="ROOT|FILE.npy",
            help="A dataset's folder, as the conversion writes it, or a metadata file, as dataset process writes it.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="SHEET.png", help="The PNG to write.")
    ],
    splits: SplitsOption = ALL_SPLITS,
    samples: Annotated[int, typer.Option(min=1, metavar="N", help="How many samples to draw.")] = 12,
    columns: Annotated[int, typer.Option(min=1, metavar="N", help="Samples in a row.")] = 4,
    tile: Annotated[int, typer.Option(min=64, max=2048, metavar="PX", help="A sample's longer side.")] = 320,
    root_dir: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="DIR",
            help="Where the images of a metadata file are.",
            show_default="where the file says",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
) -> None:
    """Draw a contact sheet of samples.

    Of a dataset's folder with mask overlay, boxes and class names; of a metadata file with boxes, keypoints or crops.
    """
    from commands.consoles import error_console, say

    console = error_console()
    if dataset.is_dir():
        from toolkit.dataset.preview import save_dataset_preview

        drawn = save_dataset_preview(
            dataset,
            output,
            splits=split_list(splits),
            samples=samples,
            columns=columns,
            tile_px=tile,
            overwrite=overwrite,
        )
    else:
        from toolkit.metadata.preview import save_metadata_preview

        drawn, remarks = save_metadata_preview(
            dataset, output, samples=samples, columns=columns, tile_px=tile, overwrite=overwrite, root_dir=root_dir
        )
        for remark in remarks:
            say(console, f"warning: {remark}", "yellow")
    say(console, f"{output}: {drawn} {'sample' if drawn == 1 else 'samples'}")

"""``mvtk embryo``: extract, check, split and prepare the embryo time-lapse dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.embryo_synthetic import app as synthetic_app
from commands.options import (
    OUTPUT_PANEL,
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

if TYPE_CHECKING:
    from rich.table import Table

    from toolkit.embryo.planes import FocalPlane
    from toolkit.embryo.split import SplitReport

app = typer.Typer(
    help="Extract, check, split and prepare the embryo time-lapse dataset.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DatasetArgument = Annotated[
    Path, typer.Argument(readable=False, metavar="DEST", help="The extracted dataset, or a part of it.")
]
PlanesOption = Annotated[
    list[str],
    typer.Option("--focal-planes", metavar="F+00,F-15", help="Comma-separated or repeated; all: those that are there."),
]
IndexOption = Annotated[
    Path | None,
    typer.Option(
        "--index",
        readable=False,
        metavar="FILE.npy",
        help="Where the frame index is kept.",
        show_default="DEST/.mvtk-index.npy",
    ),
]
EVERYTHING = ["all"]
MIDDLE_PLANE = ["F+00"]
DEFAULT_WEIGHTS = ["0.6,0.2,0.2"]
PHASE_COLUMNS, SET_COLUMNS = 8, 24
"""What a phase's label, and each set with all its figures, need to be read in the table of a split."""
LIMITS_PANEL = "Limits of an archive"
FIGURE_NAMES = {
    "root": "dataset",
    "missing_parts": "parts that are not there",
    "unlabelled": "frames without a phase",
    "missing_numbers": "missing frame numbers",
    "other_files": "other files beside the frames",
    "hidden_files": "hidden files",
    "checked_files": "frames whose ends were looked at",
    "problems": "videos with problems",
    "remarks": "videos with oddities that are known",
    "part_problems": "tables that cannot be used",
    "tables_without_video": "tables of videos that are not there",
}
"""What people read instead of the keys of ``--json``, where those are not words."""


@app.command(epilog="Example: mvtk embryo extract demo-output/embryo/archives demo-output/embryo/extracted")
def extract(
    archives: Annotated[
        Path,
        typer.Argument(readable=False, metavar="ARCHIVES", help="Holds the ten files of the record, nothing else."),
    ],
    dest: Annotated[
        Path,
        typer.Argument(readable=False, metavar="DEST", help="A new or empty folder, or one begun by this command."),
    ],
    verify_checksums: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE.md5",
            help="MD5 sums of the ten files, as md5sum writes them; of a complete DEST, too.",
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard what an unfinished extraction left instead of continuing it.")
    ] = False,
    max_member_mib: Annotated[
        int, typer.Option(metavar="MIB", help="The largest file.", rich_help_panel=LIMITS_PANEL)
    ] = 64,
    max_growth: Annotated[
        int,
        typer.Option(metavar="N", help="How many times its own size it may hold.", rich_help_panel=LIMITS_PANEL),
    ] = 100,
    max_members: Annotated[
        int, typer.Option(metavar="N", help="Files and folders.", rich_help_panel=LIMITS_PANEL)
    ] = 1_000_000,
    config: ConfigOption = None,
    workers: WorkersOption = None,
    dry_run: DryRunOption = False,
    report: ReportOption = None,
    log: LogOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Extract the ten files of the published record: all of them or nothing.

    Links, devices and anything else but plain files and folders are refused.
    Run again, it goes on where it stopped.
    """
    from commands.ui import run_batch
    from toolkit.embryo.extraction.extract import ExtractJob, ExtractOptions

    options = validated(
        ExtractOptions,
        archives=archives,
        dest=dest,
        verify_checksums=verify_checksums,
        restart=restart,
        max_member_mib=max_member_mib,
        max_growth=max_growth,
        max_members=max_members,
        workers=workers,
        dry_run=dry_run,
    )
    run_batch(ExtractJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(epilog="Example: mvtk embryo inspect demo-output/embryo/extracted")
def inspect(
    dest: DatasetArgument,
    check_files: Annotated[
        bool, typer.Option("--check-files", help="Look at the first and last bytes of every frame, too.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            readable=False,
            metavar="FILE.json",
            help="Write all that was found, video by video.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what the dataset holds: videos, frames a plane, phases, and what is odd or wrong."""
    from commands.consoles import output_console, print_json, say, say_value
    from toolkit.core.report import Report, require_own_files
    from toolkit.embryo.inspection import inspect_dataset
    from toolkit.embryo.names import counted

    require_own_files(report, None)
    run = Report("embryo inspect", {"dest": str(dest), "check_files": check_files})
    run.stats = inspect_dataset(dest, check_files=check_files)
    run.close()
    if report is not None:
        run.save(report)
    if json:
        print_json(run.stats)
        return
    console = output_console()
    figures: dict[str, Any] = dict(run.stats)
    per_video, planes, phases = (figures.pop(name) for name in ("per_video", "planes", "phases"))
    for name in ("root", "missing_parts", "videos", "frames"):
        say_value(console, FIGURE_NAMES.get(name, name), figures.pop(name))
    for rows in (planes, phases):
        console.print(_table_of(rows))
    if not check_files:
        figures.pop("checked_files")
        say(console, "the contents of the frames were not looked at: --check-files does that")
    for name, value in figures.items():
        say_value(console, FIGURE_NAMES.get(name, name), value)
    troubled = sum(bool(video["problems"]) for video in per_video)
    if troubled:
        say(console, f"problems in {counted(troubled, 'video')}: mvtk embryo verify names them", "red")


def _table_of(rows: list[dict[str, Any]]) -> Table:
    """Return rows of equal keys as a table."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for place, name in enumerate(rows[0] if rows else ()):
        table.add_column(name.replace("_", " "), justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(f"{value:,}" if isinstance(value, int) else str(value)) for value in row.values()))
    return table


@app.command(epilog="Example: mvtk embryo verify demo-output/embryo/extracted --decode")
def verify(
    dest: DatasetArgument,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode",
            help="Decode every frame, not only look at its first and last bytes. "
            "Sees damage that breaks the JPEG code, not a change that leaves it readable.",
        ),
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
    """Examine every video in all planes: frames, phases, time stamps, grades.

    Exit code 1 when a video has a problem. Known oddities of the published data are warnings; -v says of which video.
    Items are the videos and each part with tables.
    """
    from commands.ui import run_batch
    from toolkit.embryo.verification import VerifyEmbryoJob, VerifyEmbryoOptions

    options = validated(
        VerifyEmbryoOptions,
        root=dest,
        decode=decode,
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
    )
    run_batch(VerifyEmbryoJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command("clean-f0", epilog="Example: mvtk embryo clean-f0 demo-output/embryo/extracted --yes")
def clean_f0(
    dest: DatasetArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Remove the exact duplicates; without, only say what is.")] = False,
) -> None:
    """Find nested F0 folders, compare them by content, and remove those that are exact duplicates.

    Exit code 1 when one holds anything that is not one level up, byte for byte: it is left.
    """
    from commands.consoles import output_console, say
    from commands.exit_codes import ITEMS_FAILED
    from toolkit.embryo.duplicate_planes import clean_f0 as clean
    from toolkit.embryo.names import counted

    console = output_console()
    found = list(clean(dest, apply=yes))
    for copy in found:
        if copy.is_duplicate:
            verdict = "removed" if copy.removed else "an exact duplicate"
        else:
            verdict = f"left: {len(copy.differing):,} differing, {len(copy.extra):,} not one level up"
        say(console, f"{copy.path}: {counted(copy.equal, 'equal file')}; {verdict}")
    if not found:
        say(console, "no nested F0 folders")
    elif not yes and any(copy.is_duplicate for copy in found):
        say(console, "nothing was changed; --yes removes the exact duplicates")
    if not all(copy.is_duplicate for copy in found):
        raise typer.Exit(ITEMS_FAILED)


@app.command(epilog="Example: mvtk embryo split demo-output/embryo/extracted split.json --weights 0.5,0.25,0.25")
def split(
    dest: DatasetArgument,
    output: Annotated[Path, typer.Argument(readable=False, metavar="OUT.json", help="The split to write.")],
    weights: Annotated[
        list[str], typer.Option(metavar="A,B[,C]", help="Shares of train and test, or train, eval and test.")
    ] = DEFAULT_WEIGHTS,
    seed: Annotated[int, typer.Option(metavar="N", help="Another one gives another split.")] = 0,
    index: IndexOption = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Share the videos out among sets, every phase evenly, the rarest first; a video is in one set only."""
    from commands.consoles import error_console, output_console, print_json, say
    from toolkit.embryo.names import counted
    from toolkit.embryo.split import save_split

    shares = save_split(dest, output, weights=_numbers(weights), seed=seed, overwrite=overwrite, index_path=index)
    if json:
        print_json(shares.to_dict())
    else:
        console = output_console()
        console.print(_split_table(shares, console.width))
    _say_warnings(shares.remarks)
    say(error_console(), f"{output}: {counted(sum(shares.total.videos), 'video')}")


def _numbers(texts: list[str]) -> tuple[float, ...]:
    from toolkit.core.errors import OptionError

    try:
        return tuple(float(text) for text in (part for value in texts for part in value.split(",")))
    except ValueError as error:
        raise OptionError(f"--weights {','.join(texts)}", "give numbers, such as 0.6,0.2,0.2") from error


def _say_warnings(remarks: tuple[str, ...]) -> None:
    from commands.consoles import error_console, say

    for remark in remarks:
        say(error_console(), f"warning: {remark}", "yellow")


def _split_table(shares: SplitReport, width: int) -> Table:
    """Return the phases a set: videos with the phase and, where there is room, what the weights ask for, and frames."""
    from rich.table import Table

    is_wide = width >= PHASE_COLUMNS + SET_COLUMNS * len(shares.sets)
    caption = None if is_wide else "videos; a wider terminal shows what was asked for, and frames"
    table = Table(box=None, caption=caption, caption_justify="left")
    table.add_column("phase", no_wrap=True)
    for name in shares.sets:
        table.add_column(f"{name} videos" if is_wide else name, justify="right")
        if is_wide:
            table.add_column("asked for", justify="right")
            table.add_column("frames", justify="right")
    for share in (*shares.phases, shares.total):
        cells = [
            text
            for videos, target, frames in zip(share.videos, share.target, share.frames, strict=True)
            for text in ((f"{videos:,}", f"{target:.1f}", f"{frames:,}") if is_wide else (f"{videos:,}",))
        ]
        table.add_row(share.phase or "all", *cells, style="" if share.phase else "bold")
    return table


@app.command(
    epilog="Example: mvtk embryo image-folder demo-output/embryo/extracted --output image-folder --median-only"
)
def image_folder(
    dest: DatasetArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="DIR", help="The image folder to make.")
    ],
    split_file: Annotated[
        Path | None,
        typer.Option(
            readable=False, metavar="S.json", help="A split of embryo split.", show_default="frames of all videos"
        ),
    ] = None,
    set_name: Annotated[
        str | None, typer.Option("--set", metavar="NAME", help="Which set of the split: train, eval or test.")
    ] = None,
    phases: Annotated[
        list[str], typer.Option(metavar="t6,t7", help="Comma-separated or repeated; all: every phase.")
    ] = EVERYTHING,
    focal_planes: PlanesOption = MIDDLE_PLANE,
    median_only: Annotated[
        bool, typer.Option("--median-only", help="One frame a phase of each video and plane: the middle one.")
    ] = False,
    shuffle: Annotated[
        bool,
        typer.Option(
            "--shuffle/--no-shuffle", metavar=" ", help="Number the images in an order that looks random, or sorted."
        ),
    ] = True,
    seed: Annotated[int, typer.Option(metavar="N", help="Another one shuffles otherwise.")] = 0,
    link: Annotated[
        bool,
        typer.Option(
            "--link/--no-link", metavar=" ", help="Hard links: no space, but one content with the dataset's files."
        ),
    ] = False,
    index: IndexOption = None,
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
    """Make an image folder that Hugging Face's imagefolder loads as it is.

    Writes images/, description/ and metadata.csv (filename, label, phase, file_name, text); nothing is encoded again.
    """
    from commands.ui import run_batch
    from toolkit.embryo.image_folder import ImageFolderJob, ImageFolderOptions

    options = validated(
        ImageFolderOptions,
        root=dest,
        output=output,
        split_file=split_file,
        set_name=set_name,
        phases=",".join(split_list(phases)),
        focal_planes=",".join(split_list(focal_planes)),
        median_only=median_only,
        shuffle=shuffle,
        seed=seed,
        link=link,
        index_path=index,
        overwrite=overwrite,
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
    )
    run_batch(ImageFolderJob(options), OutputOptions(report, log, json, quiet, verbose))


@app.command(epilog="Example: mvtk embryo ground-truth demo-output/embryo/extracted ground-truth.csv")
def ground_truth(
    dest: DatasetArgument,
    output: Annotated[Path, typer.Argument(readable=False, metavar="OUT.csv", help="The table to write.")],
    focal_planes: PlanesOption = MIDDLE_PLANE,
    index: IndexOption = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
) -> None:
    """Write identifier, phase and phase index of every frame that has a phase."""
    from commands.consoles import error_console, say
    from toolkit.embryo.ground_truth import save_ground_truth
    from toolkit.embryo.names import counted
    from toolkit.embryo.planes import FocalPlane

    planes = _planes(focal_planes) or tuple(FocalPlane)
    truth = save_ground_truth(dest, output, planes=planes, overwrite=overwrite, index_path=index)
    _say_warnings(truth.remarks)
    say(error_console(), f"{output}: {counted(truth.rows, 'row')}")


@app.command(epilog="Example: mvtk embryo preview demo-output/embryo/extracted --video DEMO1-1 --output strip.png")
def preview(
    dest: DatasetArgument,
    video: Annotated[str, typer.Option(metavar="NAME", help="Which video.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, metavar="STRIP.png", help="The PNG to write.")
    ],
    focal_planes: PlanesOption = EVERYTHING,
    tile: Annotated[int, typer.Option(min=64, max=1024, metavar="PX", help="A frame's longer side.")] = 140,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
) -> None:
    """Draw one frame a phase in every plane, and a bar of the phases over time."""
    from commands.consoles import error_console, say
    from toolkit.embryo.preview import save_video_strip

    remarks = save_video_strip(dest, video, output, planes=_planes(focal_planes), tile_px=tile, overwrite=overwrite)
    _say_warnings(tuple(remarks))
    say(error_console(), f"{output}: drawn")


def _planes(names: list[str]) -> tuple[FocalPlane, ...] | None:
    """Return the focal planes that are named; None for all."""
    from toolkit.embryo.planes import parse_plane

    parts = split_list(names)
    return None if parts == ("all",) else tuple(parse_plane(part) for part in parts)


app.add_typer(synthetic_app, name="synthetic")

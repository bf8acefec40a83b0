"""A command line over the sample job, with the error boundary of ``mvtk``: ``python -m tests.commands.sample_app``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands import main as mvtk
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
from tests.toolkit.core.sample_jobs import SampleJob, SampleOptions
from toolkit.core.errors import BugError, InputProblemsError, MissingExtraError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    folder: Annotated[Path, typer.Option("--folder")],
    names: Annotated[list[str] | None, typer.Option("--names")] = None,
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
    """Run the sample job."""
    from commands.ui import run_batch

    del config
    options = validated(
        SampleOptions,
        folder=folder,
        names=split_list(names or []),
        overwrite=overwrite,
        workers=workers,
        max_files=max_files,
        shard=shard,
        dry_run=dry_run,
    )
    run_batch(SampleJob(options), OutputOptions(report=report, log=log, json=json, quiet=quiet, verbose=verbose))


@app.command()
def show(
    folder: Annotated[Path, typer.Option("--folder")],
    names: Annotated[list[str] | None, typer.Option("--names")] = None,
    ratio: Annotated[float, typer.Option("--ratio")] = 0.5,
    max_files: MaxFilesOption = 0,
    overwrite: OverwriteOption = False,
    mask_suffix: Annotated[str, typer.Option("--mask-suffix")] = "_seg",
    config: ConfigOption = None,
) -> None:
    """Print the options as they came."""
    del config
    typer.echo(repr((str(folder), names, ratio, max_files, overwrite, mask_suffix)))


@app.command()
def trouble(kind: str) -> None:
    """Raise what ``kind`` says."""
    errors: dict[str, BaseException] = {
        "extra": MissingExtraError("torch", "torch"),
        "problems": InputProblemsError("mapping.json", ["a is missing", "b\nis missing"], "mend both"),
        "bug": ZeroDivisionError("surprise\nin two lines"),
        "worker-bug": BugError("a.png: surprise", "the worker's traceback"),
        "library": ImportError("libGL.so.1: cannot open shared object file: No such file or directory"),
        "import": ImportError("cannot import name 'x'"),
        "interrupt": KeyboardInterrupt(),
        "full": OSError(28, "No space left on device"),
    }
    raise errors[kind]


def main() -> None:
    mvtk.app = app
    mvtk.main()


if __name__ == "__main__":
    main()

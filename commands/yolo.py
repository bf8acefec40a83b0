"""``mvtk yolo``: YOLO on images, and on image and mask pairs."""

from __future__ import annotations

import typer

from commands.yolo_prepare import app as prepare_app

app = typer.Typer(
    help="YOLO on images, and on image and mask pairs: prepare datasets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(prepare_app)

"""``mvtk yolo``: Ultralytics' detection models on pairs of image and mask, and on plain images."""

from __future__ import annotations

import typer

from commands.yolo_prediction import app as prediction_app
from commands.yolo_training import app as training_app

app = typer.Typer(
    help="Train, validate and use YOLO on pairs of image and mask, and on plain images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(training_app)
app.add_typer(prediction_app)

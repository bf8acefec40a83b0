"""``mvtk yolo``: Ultralytics' detection models on pairs of image and mask, and on plain images."""

from __future__ import annotations

import typer

from commands.yolo_prediction import app as prediction_app
from commands.yolo_prepare import app as prepare_app
from commands.yolo_training import app as training_app

app = typer.Typer(
    help="YOLO on pairs of image and mask, and on plain images: prepare, train, validate, predict, export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(prepare_app)
app.add_typer(training_app)
app.add_typer(prediction_app)

"""A trained detection model's figures on one split of a dataset, with Ultralytics' plots and a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from toolkit.core.claims import claimed_folder
from toolkit.core.errors import MvtkError
from toolkit.core.files import make_folder, write_bytes
from toolkit.core.options import ALL
from toolkit.core.signals import StopRequest
from toolkit.yolo.containment import contained_ultralytics, scratch_folder
from toolkit.yolo.options import ValYoloOptions
from toolkit.yolo.results import DetectionScores, scores_of, scores_table
from toolkit.yolo.run_data import RunData
from toolkit.yolo.run_folder import weights_of
from toolkit.yolo.scan import require_sound
from toolkit.yolo.settings import Setting, parse_settings
from toolkit.yolo.source import YoloSource, find_source, require_apart
from toolkit.yolo.trouble import Watch, WorkStoppedError, explained

METRICS_NAME: Final = "metrics.csv"


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """What a validation found.

    Attributes:
        folder: where the plots and ``metrics.csv`` are.
        images: how many images the split has.
        scores: the figures; None where a signal ended it.
        remarks: what a person should know.
    """

    folder: Path
    images: int
    scores: DetectionScores | None
    remarks: tuple[str, ...] = ()

    def stats(self) -> dict[str, Any]:
        """Return the figures for a report, JSON types only."""
        return {"images": self.images, "scores": self.scores and self.scores.as_dict(), "remarks": list(self.remarks)}


def validate_yolo(options: ValYoloOptions, stop: StopRequest | None = None, *, quiet: bool = False) -> ValidationResult:
    """Validate a model; its input decides what becomes of masks.

    Args:
        options: what to do.
        stop: asked between batches whether to stop.
        quiet: log errors only.

    Raises:
        InputProblemsError: the split is not fit to validate on; every problem of it.
        OptionError: a setting is not valid.
        MvtkError: the model cannot be loaded or does not fit the dataset, or validating fails.
    """
    source = find_source(options.data, [options.split])
    device = options.ultralytics_device()
    if "," in device:
        raise MvtkError(f"--device {options.device}: a validation runs on one device", "give one")
    if not options.overwrite and options.output.is_dir() and any(options.output.iterdir()):
        raise MvtkError(f"{options.output}: is not empty", "name another folder, or replace its results by --overwrite")
    require_apart(options.output, source)
    remarks = require_sound(source)
    with contained_ultralytics(quiet=quiet):
        settings = parse_settings(options.settings, "val")
        run_data, imgsz = _fitted(options, source)
        make_folder(options.output)
        with claimed_folder(options.output, "yolo val", ALL):
            scores = _validate(options, source, run_data, imgsz, device, settings, Watch(stop or StopRequest()))
            if scores is not None:
                write_bytes(options.output / METRICS_NAME, scores_table(scores).encode(), overwrite=True)
    return ValidationResult(options.output, len(source.splits[options.split]), scores, remarks)


def _fitted(options: ValYoloOptions, source: YoloSource) -> tuple[RunData, int]:
    """Return what the datasets need to know, as the model asks for it, and the side of its input in pixels.

    Raises:
        MvtkError: the model cannot be loaded, or does not fit the dataset.
    """
    from toolkit.yolo.engine.weights import load_weights

    checkpoint = load_weights(weights_of(options.model))
    attention = checkpoint.attention if source.kind == "pairs" else "none"
    channels = source.channels(attention)
    if checkpoint.channels != channels:
        raise MvtkError(
            f"{options.model}: takes {checkpoint.channels} channels, and {source.data_yaml} gives {channels}",
            "give the dataset that it was trained for",
        )
    classes = len(checkpoint.class_names)
    if classes != len(source.names):
        raise MvtkError(
            f"{options.model}: knows {classes} classes, and {source.data_yaml} has {len(source.names)}",
            "give the dataset that it was trained for",
        )
    run_data = RunData(source.data_yaml.absolute(), source.kind, attention, options.output, len(source.names))
    return run_data, options.imgsz or checkpoint.imgsz


def _validate(
    options: ValYoloOptions,
    source: YoloSource,
    run_data: RunData,
    imgsz: int,
    device: str,
    settings: Mapping[str, Setting],
    watch: Watch,
) -> DetectionScores | None:
    from toolkit.yolo.engine.trainer import ContainedValidator

    data_yaml = run_data.save(Path(scratch_folder()), source, source.channels(run_data.attention))
    overrides = {
        **settings,
        "mode": "val",
        "task": "detect",
        "model": str(weights_of(options.model).absolute()),
        "data": str(data_yaml),
        "split": options.split,
        "device": device,
        "workers": options.workers,
        "imgsz": imgsz,
        "batch": options.batch,
        "conf": options.conf,
        "iou": options.iou,
        "verbose": options.verbose,
        "save_dir": str(options.output),
    }
    with explained(options.output, watch):
        validator = ContainedValidator(args=overrides)
        validator.add_callback("on_val_batch_start", watch)
        try:
            validator(model=str(weights_of(options.model).absolute()))
        except WorkStoppedError:
            return None
    return scores_of(validator.metrics)

"""A trained model as an ONNX file, whose input keeps its channels: four for image and mask."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from toolkit.core.errors import MvtkError, OptionError
from toolkit.core.extras import require_installed
from toolkit.core.files import TargetExistsError, atomic_path, require_writable
from toolkit.core.signals import StopRequest
from toolkit.yolo.containment import contained_ultralytics, scratch_folder
from toolkit.yolo.run_folder import weights_of
from toolkit.yolo.trouble import Watch, explained

if TYPE_CHECKING:
    from toolkit.yolo.engine.weights import Checkpoint

_SUFFIX = ".onnx"


class ExportYoloOptions(BaseModel):
    """What an export does.

    Attributes:
        model: a checkpoint (.pt), or the folder of a training run.
        output: the ONNX file.
        imgsz: side of the input in pixels; None: as it was trained.
        batch: images at once.
        dynamic: let size and number of images vary.
        opset: of ONNX; None: the newest one that torch's exporter is known to write well.
        overwrite: replace the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: Path
    output: Path
    imgsz: int | None = Field(default=None, ge=32)
    batch: int = Field(default=1, ge=1)
    dynamic: bool = False
    opset: int | None = Field(default=None, ge=9)
    overwrite: bool = False


def export_yolo(options: ExportYoloOptions) -> tuple[tuple[int, int, int, int], int]:
    """Write a model as ONNX: input ``images`` (batch, channels, imgsz, imgsz) in [0, 1], output ``output0``.

    The channels are red, green and blue, and the mask where the model takes one; the output is (batch, 4 + classes,
    places): centre, width and height in pixels of the input, then a score a class, before overlapping boxes are
    suppressed. Class names, stride and channels are in the file's metadata.

    Returns:
        the input's shape, and the file's length in bytes.

    Raises:
        OptionError: the file has another suffix, or ``imgsz`` is no multiple of the model's stride.
        MvtkError: the weights cannot be loaded, or the file exists or cannot be written.
    """
    if options.output.suffix != _SUFFIX:
        raise OptionError(
            f"--output {options.output}: an ONNX file is written", f"name a file with the suffix {_SUFFIX}"
        )
    if options.output.exists() and not options.overwrite:
        raise TargetExistsError(options.output)
    require_writable(options.output)
    require_installed("onnx", "yolo")
    with contained_ultralytics(quiet=True):
        from toolkit.yolo.engine.weights import load_weights

        checkpoint = load_weights(weights_of(options.model))
        stride = int(checkpoint.model.stride.max())
        imgsz = options.imgsz or checkpoint.imgsz
        if imgsz % stride:
            raise OptionError(f"--imgsz {imgsz} is no multiple of the model's stride", f"give one of {stride}")
        # Ultralytics writes beside the checkpoint: it gets a place of its own.
        with tempfile.TemporaryDirectory(dir=scratch_folder()) as folder:
            made = _export(options, checkpoint, imgsz, Path(folder))
            with atomic_path(options.output) as temporary:
                shutil.copyfile(made, temporary)
    return (options.batch, checkpoint.channels, imgsz, imgsz), options.output.stat().st_size


def _export(options: ExportYoloOptions, checkpoint: Checkpoint, imgsz: int, folder: Path) -> Path:
    from ultralytics.engine.exporter import Exporter

    model = checkpoint.model
    model.pt_path = str(folder / "model.pt")
    model.yaml["channels"] = checkpoint.channels
    overrides = {
        "format": "onnx",
        "imgsz": imgsz,
        "batch": options.batch,
        "dynamic": options.dynamic,
        "opset": options.opset,
        "simplify": False,
        "device": "cpu",
        "mode": "export",
        "task": "detect",
    }
    # torch tells that its exporter will change, and which branches it takes as they are for this input.
    with explained(options.output, Watch(StopRequest())), warnings.catch_warnings(action="ignore"):
        made = Exporter(overrides=overrides)(model=model)
    if not made or not Path(made).is_file():
        raise MvtkError(f"{options.output}: Ultralytics made no file", "try another --opset")
    return Path(made)

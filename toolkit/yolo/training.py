"""Training by Ultralytics: on pairs of image and mask, or on plain images.

A run's folder::

    config.yaml             the exact options: mvtk yolo train --config config.yaml makes the same run
    weights/best.pt         the model of the best epoch (highest mAP50-95)
    weights/last.pt         of the last one; until the run has ended, all that --resume needs
    results.csv             a row an epoch: losses, precision, recall, mAP, learning rates
    results.png  confusion_matrix.png  BoxPR_curve.png  …    Ultralytics' plots
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from toolkit.core.claims import claimed_folder
from toolkit.core.config import load_yaml
from toolkit.core.errors import MvtkError
from toolkit.core.files import make_folder, write_bytes
from toolkit.core.options import ALL
from toolkit.core.signals import StopRequest
from toolkit.yolo.containment import contained_ultralytics, scratch_folder
from toolkit.yolo.options import TrainYoloOptions, require_same_training
from toolkit.yolo.results import DetectionScores, Scores, best_epoch, forget_epochs_after, read_history, scores_of
from toolkit.yolo.run_data import RunData
from toolkit.yolo.run_folder import BEST, CONFIG_NAME, LAST, RESULTS_NAME
from toolkit.yolo.scan import require_sound
from toolkit.yolo.settings import Setting, parse_settings
from toolkit.yolo.source import Attention, YoloSource, find_source, require_apart
from toolkit.yolo.trouble import Watch, WorkStoppedError, explained

_CACHE_FOLDER: Final = ".mvtk-images"
_SPLITS: Final = ("train", "val")
_NOMINAL_BATCH: Final = 64
_FEW_STEPS: Final = 50
_TRIAL_BATCHES: Final = 50
_SETTLED_BATCHES: Final = 300
_MODEL_SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training run did.

    Attributes:
        folder: the run's.
        epochs: how many there are results of.
        trained: how many of them this call trained; none where the run had ended before.
        best_epoch: counted from 1.
        best: figures of the best epoch on the validation images, during training.
        final: those of the best model, validated when training had ended; None where it did not, or on several GPUs.
        interrupted: a signal ended it.
        remarks: what a person should know.
    """

    folder: Path
    epochs: int
    trained: int
    best_epoch: int = 0
    best: Scores | None = None
    final: DetectionScores | None = None
    interrupted: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def best_weights(self) -> Path:
        """The model of the best epoch."""
        return self.folder / BEST

    def stats(self) -> dict[str, Any]:
        """Return the figures for a report, JSON types only."""
        return {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "best_weights": str(self.best_weights),
            "best": self.best and self.best.as_dict(),
            "final": self.final and self.final.as_dict(),
            "remarks": list(self.remarks),
        }


@dataclass(slots=True)
class _Run:
    """A training run under way."""

    options: TrainYoloOptions
    watch: Watch
    attention: Attention
    remarks: Sequence[str]

    @property
    def last(self) -> Path:
        return self.options.output / LAST


def train_yolo(options: TrainYoloOptions, stop: StopRequest | None = None, *, quiet: bool = False) -> TrainingResult:
    """Train a detection model.

    Everything about the dataset is checked before a model is built. What Ultralytics logs goes to standard error.

    Args:
        options: what to do.
        stop: asked between batches whether to stop.
        quiet: log errors only.

    Raises:
        InputProblemsError: the dataset is not fit to train on; every problem of it.
        OptionError: a setting is not valid, or a resumed run has other options.
        MvtkError: the run cannot begin or go on.
    """
    source = find_source(options.data, _SPLITS)
    device = options.ultralytics_device()
    channels = source.channels(options.attention)
    run = _Run(options, Watch(stop or StopRequest()), source.attention(options.attention), require_sound(source))
    require_apart(options.output, source)
    _require_fit(options)
    with contained_ultralytics(quiet=quiet, children="," in device):
        settings = parse_settings(options.settings, "train")
        model = _model_argument(options.model, channels)
        make_folder(options.output)
        with claimed_folder(options.output, "yolo train", ALL):
            return _train(run, source, channels, device, settings, model)


def _train(
    run: _Run, source: YoloSource, channels: int, device: str, settings: Mapping[str, Setting], model: str
) -> TrainingResult:
    options = run.options
    run.remarks = (*run.remarks, *_few_steps(options, source, settings))
    before = 0
    goes_on = options.resume and run.last.is_file()
    if options.resume and not goes_on:
        run.remarks = (*run.remarks, "no epoch of the run was finished: it begins anew")
    if goes_on:
        finished = _finished_epochs(run.last)
        if finished is not None:
            forget_epochs_after(options.output / RESULTS_NAME, finished)
        before = len(read_history(options.output / RESULTS_NAME))
        if finished is None:
            return _result(run, None, before)
    make_folder(run.last.parent)
    write_bytes(
        options.output / CONFIG_NAME,
        f"# mvtk yolo train --config config.yaml\n{options.as_yaml()}".encode(),
        overwrite=True,
    )
    cache_folder = options.cache_dir or options.output / _CACHE_FOLDER
    run_data = RunData(
        source.data_yaml.absolute(), source.kind, run.attention, cache_folder, len(source.names), options.lr0
    )
    scratch = Path(scratch_folder())
    overrides = {
        **settings,
        "mode": "train",
        "task": "detect",
        "data": str(run_data.save(scratch, source, channels)),
        "device": device,
        "workers": options.workers,
        "cache": {"none": False, "ram": "ram", "disk": "disk"}[options.cache],
        "patience": options.patience,
        "batch": options.images_a_step,
        "imgsz": options.imgsz,
        "save_dir": str(options.output),
        "verbose": options.verbose,
    }
    if goes_on:
        overrides |= {"resume": str(run.last), "model": str(run.last)}
    else:
        overrides |= {"model": model, "epochs": options.epochs, "seed": options.seed}
        overrides |= {} if options.lr0 is None else {"lr0": options.lr0}
    scores = None
    try:
        with _contained_cache(options, cache_folder):
            scores = _fit(run, overrides)
    except WorkStoppedError:
        return replace(_result(run, None, before), interrupted=True)
    return _result(run, scores, before)


def _fit(run: _Run, overrides: Mapping[str, Any]) -> DetectionScores | None:
    """Train, and return the figures of the best model; None where child processes trained."""
    from toolkit.yolo.engine.trainer import ContainedTraining

    with explained(run.options.output, run.watch):
        trainer = ContainedTraining(overrides=dict(overrides))
        for event in ("on_train_batch_start", "on_val_batch_start"):
            trainer.add_callback(event, run.watch)
        trainer.train()
    validator = trainer.validator
    return None if validator is None or not run.watch.began else scores_of(validator.metrics)


def _result(run: _Run, scores: DetectionScores | None, before: int) -> TrainingResult:
    history = read_history(run.options.output / RESULTS_NAME)
    best = best_epoch(history)
    result = TrainingResult(run.options.output, len(history), len(history) - before, remarks=tuple(run.remarks))
    return replace(result, final=scores, best_epoch=best[0], best=best[1]) if best else result


def _few_steps(options: TrainYoloOptions, source: YoloSource, settings: Mapping[str, Setting]) -> Iterator[str]:
    """Yield remarks where the run is so short that next to nothing is learnt; none for a mere trial.

    Ultralytics gathers the gradients of ``nbs`` images, 64 unless it is set, before each step. Its batch normalisation
    has a momentum of 0.03: after 100 batches a twentieth of the statistics is still their start, which in validation
    hides what was learnt.
    """
    nominal = settings.get("nbs", _NOMINAL_BATCH)
    if options.batch < 1 or not isinstance(nominal, int):
        return
    batches = math.ceil(len(source.splits["train"]) / options.batch) * options.epochs
    steps = batches // max(1, min(round(nominal / options.batch), batches))
    if _TRIAL_BATCHES < batches < _SETTLED_BATCHES:
        yield (
            f"batches: {batches} in all, and the statistics of batch normalisation take some {_SETTLED_BATCHES} to "
            "settle; with so few images use a smaller --batch or more --epochs"
        )
    if steps < _FEW_STEPS and batches > _TRIAL_BATCHES:
        yield (
            f"optimiser steps: about {steps} in all, as each gathers {nominal} images; with so few images "
            f"--set nbs={int(options.batch)} makes one after every batch"
        )


def _require_fit(options: TrainYoloOptions) -> None:
    """Check that the folder holds a run where one is to be gone on with, and nothing where one is to begin.

    Raises:
        MvtkError: it does not; the line says what to do.
    """
    last = options.output / LAST
    config = options.output / CONFIG_NAME
    if options.resume:
        if not last.is_file() and not config.is_file():
            raise MvtkError(f"{options.output}: there is no run to resume", "leave out --resume to begin one")
        if config.is_file():
            stored = load_yaml(config)
            require_same_training(options, stored if isinstance(stored, dict) else {})
    elif last.exists():
        raise MvtkError(
            f"{options.output}: holds a training run", "go on with it with --resume, or name another folder"
        )
    elif options.output.is_dir() and not config.exists() and any(options.output.iterdir()):
        raise MvtkError(f"{options.output}: is not empty, and holds no training run", "name another folder")


def _model_argument(model: str, channels: int) -> str:
    """Return the model as Ultralytics takes it.

    Raises:
        MvtkError: there is no such model, or it is not fit for so many channels.
    """
    from toolkit.yolo.engine.weights import load_weights

    if not model.lower().endswith(_MODEL_SUFFIXES):
        found = load_weights(Path(model)).channels
        if found > channels:
            raise MvtkError(
                f"{model}: takes {found} channels, and the dataset gives {channels}",
                "give a model for as many channels or fewer, or another --attention",
            )
        return str(Path(model).absolute())
    from ultralytics.nn.tasks import guess_model_task, yaml_model_load

    try:
        content = yaml_model_load(model)
    except (OSError, ValueError, SyntaxError) as error:
        raise MvtkError(f"{model}: no such model", "give a YAML such as yolo11n.yaml, or a checkpoint") from error
    task = guess_model_task(content)
    if task != "detect":
        raise MvtkError(f"{model}: a model for {task}", "give a detection model, such as yolo11n.yaml")
    return model


def _finished_epochs(last: Path) -> int | None:
    """Return after how many epochs a checkpoint was written; None for one without what going on would need.

    Raises:
        MvtkError: it cannot be read.
    """
    from toolkit.yolo.engine.weights import load_weights

    content = load_weights(last).content
    return None if content.get("optimizer") is None else int(content["epoch"]) + 1


@contextmanager
def _contained_cache(options: TrainYoloOptions, folder: Path) -> Iterator[None]:
    """Remove images that were cached for this run alone when it has ended well."""
    yield
    if options.cache_dir is None and folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)

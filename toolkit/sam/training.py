"""Fine-tuning SAM's mask decoder: an iterator of events that trains as it is read.

The encoders are frozen. Where the augmentation allows it, every image is encoded once, into a cache on disk, and
training runs the decoder alone; otherwise the encoder runs for every image in every epoch. Both end in the same loop.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from toolkit.core.claims import claimed_folder
from toolkit.core.devices import resolve_devices
from toolkit.core.extras import require_extra
from toolkit.core.files import make_folder
from toolkit.core.options import ALL
from toolkit.sam.checkpoints import Checkpoint, load_checkpoint, require_same_model, save_checkpoint
from toolkit.sam.companions import training_processes
from toolkit.sam.data_loading import SampleSource
from toolkit.sam.decoder_training import DecoderTraining
from toolkit.sam.epochs import Pace, PhaseFigures, train_epoch, validate_epoch
from toolkit.sam.processes import Processes
from toolkit.sam.run_folder import RunFolder, TensorBoard
from toolkit.sam.schedule import Schedule
from toolkit.sam.train_options import TrainOptions, require_same_training
from toolkit.sam.training_data import choose_images, prepare_sources
from toolkit.sam.training_events import EpochReport, Notice, RunReport, TrainingEvent
from toolkit.sam.training_panels import panel_picture
from toolkit.sam.training_state import capture, restore

if TYPE_CHECKING:
    from toolkit.sam.trainable_sam import TrainableSam

COMMAND: Final = "sam train"


class SamTraining:
    """A training run.

    Args:
        options: what it does.
    """

    def __init__(self, options: TrainOptions) -> None:
        self.options = options
        self.folder = RunFolder(options.output)

    def run(self) -> Generator[TrainingEvent]:
        """Train; yield what happens, last a :class:`RunReport`.

        Whoever stops reading stops the run: what is on the disk then is the state after the last whole epoch, with
        which ``resume`` goes on.

        Raises:
            DivergedError: a loss or a gradient is not a number; the line names the sample, the checkpoints stay.
            StopRunError: no space is left.
            OptionError: a run is resumed with options that change what is learnt.
            MvtkError: data, model, folder or device cannot be used.
        """
        options, folder = self.options, self.folder
        folder.require_fit(resume=options.resume)
        images = choose_images(options)
        devices = resolve_devices(options.device, options.device_policy)
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        require_extra("torch", "sam")
        with training_processes(options, devices) as processes, ExitStack() as stack:
            if processes.is_first:
                make_folder(options.output)
                stack.enter_context(claimed_folder(options.output, COMMAND, ALL))
            yield from map(Notice, images.notices)
            sam = _load(options, processes.device)
            checkpoint = _checkpoint(options, folder, sam) if options.resume else None
            train, val = yield from prepare_sources(options, images, sam, processes)
            yield from _Run(options, folder, sam, processes, train, val).events(checkpoint)


class _Run:
    """The epochs of a run, once everything is prepared."""

    def __init__(
        self,
        options: TrainOptions,
        folder: RunFolder,
        sam: TrainableSam,
        processes: Processes,
        train: SampleSource,
        val: SampleSource,
    ) -> None:
        self._options = options
        self._folder = folder
        self._processes = processes
        self._sources = train, val
        self._pace = Pace(options.batch_size, options.accumulate, options.threads, options.seed)
        steps = options.epochs * self._pace.steps(len(train), processes.count)
        self._training = DecoderTraining(
            sam,
            Schedule.of_run(options.learning_rate, steps, options.warmup, options.final_learning_rate),
            weight_decay=options.weight_decay,
            precision=options.precision,
            max_grad_norm=options.max_grad_norm,
            batch_size=options.batch_size,
            processes=processes,
        )
        self._history: list[EpochReport] = []

    def events(self, checkpoint: Checkpoint | None) -> Iterator[TrainingEvent]:
        """Train from the beginning, or from where ``checkpoint`` was made."""
        import torch

        options, training = self._options, self._training
        torch.manual_seed(options.seed)
        if checkpoint is not None:
            self._history = restore(training, checkpoint, self._folder.last)
            if self._processes.is_first and self._history[-1].is_best:
                save_checkpoint(self._folder.best, checkpoint)  # the run may have ended before it did
            yield from _resume_notices(options, checkpoint)
        if self._processes.is_first:
            self._folder.create(options, _facts(training))
        board = TensorBoard(self._folder.tensorboard if options.tensorboard and self._processes.is_first else None)
        try:
            if not self._history:
                yield from self._epoch(0, board)
            while not (reason := self._end()):
                yield from self._epoch(len(self._history), board)
        finally:
            board.close()
        yield from self._finish(reason)

    def _epoch(self, epoch: int, board: TensorBoard) -> Iterator[TrainingEvent]:
        """Do one epoch (0: only the validation), and write all that it leaves behind."""
        train, val = self._sources
        trained = PhaseFigures()
        if epoch:
            trained = yield from train_epoch(self._training, train, epoch, self._pace)
        validated = yield from validate_epoch(self._training, val, epoch, self._pace, self._options.panels)
        report = EpochReport(
            epoch,
            self._training.step_count,
            trained.learning_rate,
            trained.loss,
            validated.loss,
            validated.iou,
            trained.instances,
            validated.instances,
            trained.skipped_steps,
            round(trained.seconds, 4),
            round(trained.waited_s, 4),
            round(validated.seconds, 4),
        )
        self._history.append(replace(report, is_best=_is_better(report, self._best, self._options)))
        if self._processes.is_first:
            self._write(board, validated)
        self._processes.wait()
        yield self._history[-1]

    def _write(self, board: TensorBoard, validated: PhaseFigures) -> None:
        """Write checkpoints, figures and panels of the last epoch; what ``resume`` reads is complete at any moment."""
        folder, report = self._folder, self._history[-1]
        checkpoint = capture(self._training, self._options, self._history)
        save_checkpoint(folder.last, checkpoint)
        if report.is_best:
            save_checkpoint(folder.best, checkpoint)
        folder.write_metrics(self._history)
        board.add(report)
        if validated.logits:
            geometry, samples = self._training.sam.geometry, self._sources[1].samples
            folder.write_panel(report.epoch, panel_picture(samples, validated.logits, geometry, report))

    @property
    def _best(self) -> EpochReport | None:
        return next((report for report in reversed(self._history) if report.is_best), None)

    def _end(self) -> str:
        """Return why the run is over; "" while it is not."""
        done, best = self._history[-1].epoch, self._best
        if done >= self._options.epochs:
            return "all epochs are done"
        if self._options.patience and best is not None and done - best.epoch >= self._options.patience:
            return f"no epoch after {best.epoch} was better (patience {self._options.patience})"
        return ""

    def _finish(self, reason: str) -> Iterator[TrainingEvent]:
        """Write the best model as a whole, and say how it went."""
        start, best = self._history[0], self._best or self._history[0]
        model: Path | None = None
        if best.epoch == 0:
            yield Notice("no epoch was better than the model as it came: the best checkpoint is the untrained model")
        if self._options.export and self._processes.is_first:
            sam = self._training.sam
            sam.load_decoder_state(dict(load_checkpoint(self._folder.best).decoder), str(self._folder.best))
            sam.save_pretrained(self._folder.model)
            model = self._folder.model
        self._processes.wait()
        yield RunReport(self._folder.path, model, start, best, self._history[-1].epoch, reason)


def _load(options: TrainOptions, device: str) -> TrainableSam:
    from toolkit.sam.lora import LoraOptions
    from toolkit.sam.model import load_trainable_sam

    lora = None
    if options.lora:
        lora = LoraOptions(
            rank=options.lora_rank, alpha=options.lora_alpha, dropout=options.lora_dropout, seed=options.seed
        )
    return load_trainable_sam(options.model, device, lora)


def _checkpoint(options: TrainOptions, folder: RunFolder, sam: TrainableSam) -> Checkpoint:
    """Return the checkpoint to go on from.

    Raises:
        MvtkError: it belongs to another model, or its run had other options.
    """
    checkpoint = load_checkpoint(folder.last)
    require_same_model(folder.last, checkpoint, sam.model_hash)
    require_same_training(options, checkpoint.facts.options)
    return checkpoint


def _resume_notices(options: TrainOptions, checkpoint: Checkpoint) -> Iterator[Notice]:
    import torch

    facts = checkpoint.facts
    yield Notice(f"goes on after epoch {facts.epoch}")
    if facts.threads != torch.get_num_threads():
        yield Notice(f"{torch.get_num_threads()} threads instead of {facts.threads}: results differ in the last digits")
    before = facts.options.get("epochs")
    if before != options.epochs:
        yield Notice(f"{options.epochs} epochs instead of {before}: the learning rate differs from now on")


def _facts(training: DecoderTraining) -> list[str]:
    """Return what made a run besides its options."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("mvtk", "torch", "transformers"))
    processes = training.processes
    return [
        versions,
        f"encoder {training.sam.model_hash}",
        f"{processes.count} process(es), the first on {processes.device}, {training.precision}",
    ]


def _is_better(report: EpochReport, best: EpochReport | None, options: TrainOptions) -> bool:
    if best is None:
        return True
    if options.select_by == "iou":
        return report.val_iou > best.val_iou + options.min_delta
    return report.val_loss < best.val_loss - options.min_delta

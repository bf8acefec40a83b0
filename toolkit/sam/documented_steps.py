"""The steps of the yolo-sam-training package's training loop, with its names and arguments, for loops of one's own.

What it got wrong is right here: padded instances and the padding of images are no part of the loss, and every instance
counts alike however samples are batched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import MvtkError
from toolkit.core.files import make_folder
from toolkit.preview import display_image, save_png
from toolkit.sam.documented_data import SamBatch
from toolkit.sam.losses import dice_ce_losses
from toolkit.sam.mask_bounds import mask_boxes
from toolkit.sam.panels import prediction_panel

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from toolkit.sam.trainable_sam import TrainableSam

LossFunction = Callable[["Tensor", "Tensor"], "Tensor"]

_SHAPES: Final = {"pixel_values": "B3SS", "input_boxes": "BM4", "labels": "BMLL", "num_masks_per_sample": "B"}
"""Axes of a batch's tensors: equal letters are equal sizes."""
DRAWN_EVERY: Final = 10
"""Of so many batches one is drawn."""


class BatchShapeError(MvtkError, ValueError):
    """A tensor of a batch has a shape that does not fit."""


def validate_batch_shapes(batch: SamBatch, batch_idx: int | None = None) -> None:
    """Check the shapes of a batch's tensors against each other; see :class:`toolkit.sam.documented_data.SamBatch`.

    Args:
        batch: to check.
        batch_idx: its number, for the error.

    Raises:
        BatchShapeError: a tensor is missing, or its shape does not fit; the line names it.
    """
    where = "batch" if batch_idx is None else f"batch {batch_idx}"
    sizes: dict[str, tuple[int, str]] = {}
    for name, axes in _SHAPES.items():
        if name not in batch:
            raise BatchShapeError(f"{where}: {name} is missing")
        shape = tuple(_tensor(batch, name).shape)
        if len(shape) != len(axes):
            raise BatchShapeError(f"{where}: {name} has the shape {shape}, expected are {len(axes)} axes")
        for axis, size in zip(axes, shape, strict=True):
            expected, source = (int(axis), "SAM") if axis.isdecimal() else sizes.setdefault(axis, (size, name))
            if size != expected:
                raise BatchShapeError(f"{where}: {name} has the shape {shape}: {size}, where {source} has {expected}")
    if int(batch["num_masks_per_sample"].max()) > sizes["M"][0]:
        raise BatchShapeError(f"{where}: num_masks_per_sample is larger than the {sizes['M'][0]} boxes there are")


def validate_pred_masks(pred_masks: Tensor, expected_shape: Sequence[int]) -> Tensor:
    """Return predicted masks as (B, M, H, W).

    Args:
        pred_masks: (B, M, H, W), or with an axis of one mask before H, as ``SamModel`` returns them.
        expected_shape: whose last two are H and W.

    Raises:
        BatchShapeError: they have another shape.
    """
    masks = pred_masks.squeeze(2) if pred_masks.ndim == 5 and pred_masks.shape[2] == 1 else pred_masks
    if masks.ndim != 4 or tuple(masks.shape[-2:]) != tuple(expected_shape[-2:]):
        expected = f"(B, M, {expected_shape[-2]}, {expected_shape[-1]})"
        raise BatchShapeError(f"pred_masks has the shape {tuple(pred_masks.shape)}, expected is {expected}")
    return masks


def compute_batch_loss(
    pred_masks: Tensor,
    labels: Tensor,
    num_masks: Tensor,
    loss_fn: LossFunction | None = None,
    *,
    valid_sizes: Tensor | None = None,
) -> Tensor:
    """Return the mean loss of a batch's instances.

    Args:
        pred_masks: (B, M, L, L) logits.
        labels: (B, M, L, L), 0 and 1.
        num_masks: (B,), how many of M are real.
        loss_fn: of a logit and a target (1, 1, h, w), such as MONAI's ``DiceCELoss``; None: that with
            ``sigmoid=True, squared_pred=True``, all instances of a sample at once.
        valid_sizes: (B, 2), height and width of the part that is no padding; None: all of it is valid.

    Returns:
        a scalar, 0 where there are no instances.
    """
    import torch

    losses: list[Tensor] = []
    for index, count in enumerate(num_masks.tolist()):
        height, width = labels.shape[-2:] if valid_sizes is None else valid_sizes[index].tolist()
        logits = pred_masks[index, :count, :height, :width]
        targets = labels[index, :count, :height, :width]
        if loss_fn is None:
            losses.append(dice_ce_losses(logits, targets))
        else:
            losses += [
                loss_fn(one[None, None], true[None, None]).reshape(1) for one, true in zip(logits, targets, strict=True)
            ]
    together = torch.cat(losses) if losses else pred_masks.new_zeros(0)
    return together.mean() if len(together) else pred_masks.sum() * 0


def train_one_epoch(
    model: TrainableSam | nn.Module,
    train_loader: Iterable[SamBatch],
    optimizer: Optimizer,
    loss_fn: LossFunction | None = None,
    device: str = "cpu",
    epoch: int = 0,
    visualization_dir: str | Path | None = None,
) -> list[float]:
    """Train with an optimiser and a loss of one's own; return the loss of each batch.

    Args:
        model: a SAM; its encoders are frozen.
        train_loader: from :func:`toolkit.sam.documented_data.create_dataloaders`.
        optimizer: of the mask decoder's parameters.
        loss_fn: see :func:`compute_batch_loss`.
        device: of the model.
        epoch: its number, for the pictures.
        visualization_dir: where to draw the first image of every tenth batch; None draws nothing.

    Raises:
        BatchShapeError: a batch has tensors that do not fit.
        MvtkError: a loss is not a number; the line names the batch's samples.
    """
    sam = _trainable(model)
    sam.set_training(training=True)
    losses = []
    for number, batch in enumerate(train_loader):
        pred_masks, loss = _predicted(sam, batch, loss_fn, device, number)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        optimizer.step()
        losses.append(float(loss.detach()))
        if visualization_dir is not None and number % DRAWN_EVERY == 0:
            count = int(batch["num_masks_per_sample"][0])
            save_prediction_visualization(
                batch["pixel_values"][0],
                pred_masks[0, :count],
                batch["labels"][0, :count],
                number,
                epoch,
                visualization_dir,
            )
    return losses


def validate_one_epoch(
    model: TrainableSam | nn.Module,
    val_loader: Iterable[SamBatch],
    loss_fn: LossFunction | None = None,
    device: str = "cpu",
    epoch: int = 0,  # noqa: ARG001 - the documented signature
) -> list[float]:
    """Return the loss of each batch, without training; see :func:`train_one_epoch` for the arguments and errors."""
    import torch

    sam = _trainable(model)
    sam.set_training(training=False)
    with torch.no_grad():
        return [float(_predicted(sam, batch, loss_fn, device, number)[1]) for number, batch in enumerate(val_loader)]


def save_prediction_visualization(
    image: Tensor, pred_masks: Tensor, gt_masks: Tensor, batch_idx: int, epoch: int, output_dir: str | Path
) -> Path:
    """Draw image, truth, prediction with its IoU, and difference; return the PNG, ``epoch_<n>/batch_<n>.png``.

    Args:
        image: (3, H, W), or with an axis of one before, of any range.
        pred_masks: (N, h, w), or with an axis of one before: logits, or 0 and 1; above 0 is foreground.
        gt_masks: of the same shape, 0 and 1.
        batch_idx: number of the batch.
        epoch: number of the epoch.
        output_dir: the folder to write to.

    Raises:
        MvtkError: the picture cannot be written.
    """
    picture_chw = image.detach().cpu().float().numpy()
    image_hwc = display_image(picture_chw.reshape(picture_chw.shape[-3:]).transpose(1, 2, 0))
    predicted_nhw, truth_nhw = (_foreground(masks) for masks in (pred_masks, gt_masks))
    scale = image_hwc.shape[1] / truth_nhw.shape[-1]
    panel_hwc = prediction_panel(image_hwc, truth_nhw, predicted_nhw, mask_boxes(truth_nhw) * np.float32(scale))
    folder = Path(output_dir) / f"epoch_{epoch}"
    make_folder(folder)
    path = folder / f"batch_{batch_idx}.png"
    save_png(path, panel_hwc, overwrite=True)
    return path


def _predicted(
    sam: TrainableSam, batch: SamBatch, loss_fn: LossFunction | None, device: str, number: int
) -> tuple[Tensor, Tensor]:
    """Return the logits, (B, M, L, L) with zeros for what is padded, and the loss of a batch."""
    from torch.nn.utils.rnn import pad_sequence

    validate_batch_shapes(batch, number)
    counts = batch["num_masks_per_sample"]
    boxes = [boxes[:count].to(device) for boxes, count in zip(batch["input_boxes"], counts.tolist(), strict=True)]
    decoded = sam.decode(sam.encode(batch["pixel_values"].to(device)), boxes)
    padded = pad_sequence(decoded.logits, batch_first=True)
    labels = batch["labels"][:, : padded.shape[1]].to(device)
    pred_masks = validate_pred_masks(padded, labels.shape)
    loss = compute_batch_loss(pred_masks, labels, counts, loss_fn, valid_sizes=batch.get("valid_sizes"))
    if not bool(loss.isfinite()):
        names = ", ".join(batch.get("dataset_keys", []))
        raise MvtkError(f"the loss of batch {number} is {float(loss)} (samples {names})", "use a lower learning rate")
    return pred_masks, loss


def _trainable(model: TrainableSam | nn.Module) -> TrainableSam:
    from toolkit.sam.trainable_sam import TrainableSam

    return model if isinstance(model, TrainableSam) else TrainableSam(model)


def _tensor(batch: SamBatch, name: str) -> Tensor:
    tensors: Any = batch
    tensor: Tensor = tensors[name]
    return tensor


def _foreground(masks: Tensor) -> NDArray[np.bool_]:
    return np.asarray((masks.detach().reshape(-1, *masks.shape[-2:]) > 0).cpu().numpy(), np.bool_)

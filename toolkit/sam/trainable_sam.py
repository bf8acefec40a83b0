"""A SAM or SAM2 whose mask decoder is trained: images to embeddings without gradients, boxes to logits with them."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from toolkit.core.errors import MvtkError
from toolkit.core.files import atomic_write, make_folder, write_bytes
from toolkit.device_memory import within_memory
from toolkit.sam.embedding import Embedding
from toolkit.sam.geometry import ResizeGeometry
from toolkit.sam.lora import LoraOptions, add_lora, merged_state
from toolkit.sam.preprocessing import IMAGE_MEAN_RGB, IMAGE_STD_RGB, PREPROCESSING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor, nn

EncoderDtype: TypeAlias = Literal["float32", "bfloat16", "float16"]

_DECODER: Final = "mask_decoder."
_IN_EMBEDDINGS: Final = ("vision_encoder.", "no_memory_embedding", "mask_decoder.conv_s0.", "mask_decoder.conv_s1.")
"""Weights that embeddings depend on. SAM2 keeps two convolutions of its embeddings in the mask decoder."""
_UNREACHED: Final = (
    "mask_decoder.conv_s0.",
    "mask_decoder.conv_s1.",
    "mask_decoder.iou_prediction_head.",
    "mask_decoder.pred_obj_score_head.",
    "mask_decoder.output_hypernetworks_mlps.1.",
    "mask_decoder.output_hypernetworks_mlps.2.",
    "mask_decoder.output_hypernetworks_mlps.3.",
)
"""Parts of mask decoders that stay as they are: those in the cached embeddings, and heads whose output the loss of the
single mask for a box does not see. Weight decay alone would shrink the latter."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the mask decoder says of the boxes of B images.

    Attributes:
        logits: for each image (N_i, L, L), L being the model's ``low_resolution``; above 0 is foreground.
        iou: for each image (N_i,), the predicted IoU of each mask.
    """

    logits: list[Tensor]
    iou: list[Tensor]


class TrainableSam:
    """A SAM or SAM2 on one device, its encoders frozen.

    Args:
        model: ``SamModel`` or ``Sam2Model`` of transformers, with its weights; changed in place.
        lora: train adapters on the mask decoder instead of the decoder itself.
        encoder_dtype: the arithmetic of the image encoder; the reduced ones run under ``torch.autocast``.

    Attributes:
        model: the module itself.
        is_sam2: whether it is a SAM2.
        input_size: side of the square that the image encoder takes, in pixels.
        low_resolution: side of the square of logits, in pixels.
    """

    def __init__(
        self, model: nn.Module, *, lora: LoraOptions | None = None, encoder_dtype: EncoderDtype = "float32"
    ) -> None:
        module: Any = model
        prompts = module.config.prompt_encoder_config
        self.model = model
        self.is_sam2 = module.config.model_type.startswith("sam2")
        self.input_size = int(prompts.image_size)
        self.low_resolution = 4 * (self.input_size // int(prompts.patch_size))
        self.lora = lora
        self._encoder_dtype: EncoderDtype = encoder_dtype
        if self.is_sam2:
            # SAM2's own repositories say sam2_video, and the part that is here would be saved under that name.
            module.config.model_type = "sam2"
            # It would choose another mask in evaluation than the one that is trained.
            module.mask_decoder.dynamic_multimask_via_stability = False
            module.config.mask_decoder_config.dynamic_multimask_via_stability = False
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(_DECODER) and not name.startswith(_UNREACHED))
        if lora is not None:
            add_lora(module.mask_decoder, lora)
        model.eval()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @functools.cached_property
    def model_hash(self) -> str:
        """BLAKE2b of all that embeddings depend on besides the image: 32 hexadecimal digits.

        Weights, configuration and arithmetic of the encoder, and the preprocessing. What is trained is no part of it.
        """
        digest = hashlib.blake2b(digest_size=16)
        config = json.loads(self._config.vision_config.to_json_string(use_diff=False))
        config.pop("transformers_version", None)
        facts = [self._config.model_type, PREPROCESSING, self._encoder_dtype, self.input_size, config]
        digest.update(json.dumps(facts, sort_keys=True).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            if name.startswith(_IN_EMBEDDINGS):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(_bytes_of(tensor))
        return digest.hexdigest()

    @functools.cached_property
    def embedding_shape(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each level of one image's embedding, (C, h, w), the finest first."""
        side = self.low_resolution // 4
        channels = int(self._config.mask_decoder_config.hidden_size)
        coarsest = (channels, side, side)
        if not self.is_sam2:
            return (coarsest,)
        return (channels // 8, 4 * side, 4 * side), (channels // 4, 2 * side, 2 * side), coarsest

    def geometry(self, height: int, width: int) -> ResizeGeometry:
        """Return how an image of this size is scaled for this model."""
        return ResizeGeometry(height, width, self.input_size, self.low_resolution, square=self.is_sam2)

    def encode(self, pixel_values: Tensor) -> Embedding:
        """Return the embeddings of images, without gradients, on the model's device.

        Args:
            pixel_values: (B, 3, S, S) float32, from :func:`toolkit.sam.preprocessing.prepare_image`.

        Raises:
            OutOfMemoryError: a smaller batch may do.
        """
        return within_memory(
            lambda: self._encode(pixel_values),
            f"not enough memory on {self.device} to encode a batch of {len(pixel_values)}",
        )

    def _encode(self, pixel_values: Tensor) -> Embedding:
        import torch

        # Not inference_mode: what it returns can be no part of a graph, and the decoder's needs its input.
        enabled = self._encoder_dtype != "float32"
        arithmetic = torch.autocast(self.device.type, getattr(torch, self._encoder_dtype), enabled=enabled)
        module: Any = self.model
        # Whatever mode a training loop has put the model in: an embedding is one and the same.
        module.vision_encoder.eval()
        with torch.no_grad(), arithmetic:
            levels = module.get_image_embeddings(pixel_values.to(self.device, non_blocking=True))
        if not isinstance(levels, list | tuple):
            levels = [levels]
        return Embedding(tuple(level.float().contiguous() for level in levels))

    def decode(self, embedding: Embedding, boxes: Sequence[Tensor]) -> Decoded:
        """Return the mask of each box, as logits; gradients flow to the trainable parameters.

        Args:
            embedding: of B images; moved to the model's device and to float32 where it is not there.
            boxes: for each image (N_i, 4), from :func:`toolkit.sam.preprocessing.prepare_boxes`; N_i may differ, and
                be 0.
        """
        import torch

        counts = [len(each) for each in boxes]
        if len(counts) != len(embedding):
            raise ValueError(f"boxes of {len(counts)} images for embeddings of {len(embedding)}")
        images = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.long))
        logits, iou = self._decode_instances(embedding, images, torch.cat(list(boxes)))
        return Decoded(list(logits.split_with_sizes(counts)), list(iou.split_with_sizes(counts)))

    def _decode_instances(self, embedding: Embedding, images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (M, L, L) and predicted IoU (M,) of boxes (M, 4), ``images`` (M,) being the image of each."""
        import torch

        device = self.device
        if not len(boxes):
            side = self.low_resolution
            return torch.zeros((0, side, side), device=device), torch.zeros(0, device=device)
        # One prompt an image, the image repeated: the mask decoder repeats it anyway, and numbers of boxes may differ.
        levels = list(embedding.to(device, torch.float32)[images.to(device)].levels)
        module: Any = self.model
        output = module(
            image_embeddings=levels if self.is_sam2 else levels[0],
            input_boxes=boxes.to(device, torch.float32)[:, None],
            multimask_output=False,
        )
        return output.pred_masks[:, 0, 0], output.iou_scores[:, 0, 0]

    def set_training(self, *, training: bool) -> None:
        """Switch the mask decoder between training and evaluation (only LoRA's dropout differs)."""
        module: Any = self.model
        module.mask_decoder.train(training)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return what is trained, in a fixed order."""
        return list(self._trainable().values())

    def decoder_state(self) -> dict[str, Tensor]:
        """Return a snapshot of what is trained, by name: copies on the CPU that later training does not change."""
        return {name: parameter.detach().to("cpu", copy=True) for name, parameter in self._trainable().items()}

    def load_decoder_state(self, state: Mapping[str, Tensor], source: str = "the checkpoint") -> None:
        """Set what is trained to a snapshot.

        Args:
            state: from :meth:`decoder_state` of a model of the same kind.
            source: what errors call it.

        Raises:
            MvtkError: names or shapes differ: it belongs to another model, or to one with other LoRA options.
        """
        import torch

        own = self._trainable()
        differing = [
            name
            for name in sorted(own.keys() | state.keys())
            if name not in own or name not in state or own[name].shape != state[name].shape
        ]
        if differing:
            raise MvtkError(
                f"{source}: belongs to another model: {len(differing)} of its weights differ in name or shape,"
                f" such as {differing[0]}",
                "use the model and the LoRA options that it was made with",
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def plain_state(self) -> dict[str, Tensor]:
        """Return all weights under the names of a plain model, adapters merged: copies on the CPU."""
        return merged_state(self.model)

    def save_pretrained(self, folder: Path) -> None:
        """Write the whole model so that transformers' ``from_pretrained(folder)`` loads it; each file atomically.

        ``model.safetensors``, ``config.json`` and ``preprocessor_config.json`` are replaced where they exist; adapters
        are merged into the weights.

        Raises:
            MvtkError: a file cannot be written.
        """
        from safetensors.torch import save

        make_folder(folder)
        tied = set(getattr(self.model, "_tied_weights_keys", None) or ())
        state = {name: tensor.contiguous() for name, tensor in self.plain_state().items() if name not in tied}
        write_bytes(folder / "preprocessor_config.json", self._processor_json(), overwrite=True)
        write_bytes(folder / "config.json", self._config.to_json_string().encode(), overwrite=True)
        with atomic_write(folder / "model.safetensors", overwrite=True) as stream:
            stream.write(save(state, metadata={"format": "pt"}))

    def _processor_json(self) -> bytes:
        """Return the configuration of the image processor that does what :mod:`toolkit.sam.preprocessing` does."""
        facts: dict[str, Any] = {"image_mean": IMAGE_MEAN_RGB, "image_std": IMAGE_STD_RGB}
        square = {"height": self.input_size, "width": self.input_size}
        low_square = {"height": self.low_resolution, "width": self.low_resolution}
        if self.is_sam2:
            facts |= {"image_processor_type": "Sam2ImageProcessor", "processor_class": "Sam2Processor"}
            facts |= {"size": square, "mask_size": low_square}
        else:
            facts |= {"image_processor_type": "SamImageProcessor", "processor_class": "SamProcessor"}
            facts |= {"size": {"longest_edge": self.input_size}, "pad_size": square}
            facts |= {"mask_size": {"longest_edge": self.low_resolution}, "mask_pad_size": low_square}
        return json.dumps(facts, indent=2, sort_keys=True).encode() + b"\n"

    @property
    def _config(self) -> Any:
        return self.model.config

    def _trainable(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}


def _bytes_of(tensor: Tensor) -> memoryview:
    import torch

    bytes_n: npt.NDArray[np.uint8] = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return bytes_n.data

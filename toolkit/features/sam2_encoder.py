"""The SAM2 image encoder: exact preprocessing, and the two feature levels that features files hold.

Ravi et al., "SAM 2: Segment Anything in Images and Videos" (2024); the package ``sam2`` by the same authors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from toolkit.core.errors import MvtkError
from toolkit.core.extras import require_extra
from toolkit.device_memory import within_memory
from toolkit.features.weights import Weights, check_encoder_state, read_encoder_state

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

EncoderDtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
PreparedImage: TypeAlias = "Tensor"
"""What :meth:`Sam2Encoder.prepare` makes of an image; its form depends on the device."""
Features: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

INPUT_SIDE_PX: Final = 1024
"""Every SAM2 configuration has ``image_size: 1024``."""

# ImageNet's mean and standard deviation, as in sam2.utils.transforms.
_MEAN_RGB: Final = (0.485, 0.456, 0.406)
_STD_RGB: Final = (0.229, 0.224, 0.225)

# Of the four levels of the neck, strides 4, 8, 16 and 32, the two that are P4 and P5.
_P4_LEVEL: Final = 2
_P5_LEVEL: Final = 3

_REASON_LENGTH: Final = 200
_OLDEST_TORCH: Final = (2, 10)
_SMALLER = "use a smaller --batch-size, or another device"


class Sam2Encoder:
    """A SAM2 image encoder on one device, ready to encode.

    On the CPU in float32 the results equal ``image_encoder.neck(image_encoder.trunk(x))[0][2:4]`` of the same model,
    ``x`` being the output of sam2's ``SAM2Transforms``. The threads are those that torch was set to.

    Args:
        weights: from :func:`toolkit.features.weights.resolve_weights`.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: the arithmetic; the reduced ones run under ``torch.autocast``, as SAM2's own examples do.
        compiled: compile trunk and neck with ``torch.compile``, at the first batch.

    Raises:
        MvtkError: torch is too old, or the weights cannot be read or do not fit the model.
        MissingExtraError: torch or sam2 is not installed.
        OutOfMemoryError: the model does not fit the device.
    """

    def __init__(
        self, weights: Weights, device: str, *, dtype: EncoderDtype = "float32", compiled: bool = False
    ) -> None:
        encoder = build_encoder(weights)
        import torch

        self._device = torch.device(device)
        self._dtype = dtype
        encoder = within_memory(
            lambda: encoder.to(self._device), f"{weights.model.name} does not fit the memory of {device}", _SMALLER
        )
        # Made once: a GPU would have to be waited for each time.
        self._mean_chw = torch.tensor(_MEAN_RGB, device=self._device).view(3, 1, 1)
        self._std_chw = torch.tensor(_STD_RGB, device=self._device).view(3, 1, 1)
        self._trunk = encoder.get_submodule("trunk")
        self._neck = encoder.get_submodule("neck")
        self._levels: Callable[[Tensor], tuple[Tensor, Tensor]] = torch.compile(self._run) if compiled else self._run
        self._encode_batch = _with_compile_errors(self._encode) if compiled else self._encode

    def prepare(self, image_hwc: npt.NDArray[np.uint8]) -> PreparedImage:
        """Return what :meth:`encode` takes of one image. May be called in several threads at once.

        On the CPU that is the output of ``SAM2Transforms(resolution=1024)``, bit for bit: (3, 1024, 1024) float32, the
        image squashed to a square, antialiased, normalised. For a GPU the bytes go to page-locked memory, and
        :meth:`encode` does the same there; a GPU's sums may differ from the CPU's in the last bits.

        Args:
            image_hwc: (H, W, 3) uint8, RGB.
        """
        if image_hwc.dtype != np.uint8 or image_hwc.ndim != 3 or image_hwc.shape[2] != 3 or image_hwc.size == 0:
            raise ValueError(f"an image is (H, W, 3) uint8, not {image_hwc.shape} {image_hwc.dtype}")
        import torch

        # torch takes neither negative strides (an image flipped from BGR) nor, without a warning, read-only arrays.
        pixels_hwc = torch.from_numpy(np.require(image_hwc, requirements=["C", "W"]))
        return pixels_hwc.pin_memory() if self._device.type == "cuda" else self._network_input(pixels_hwc)

    def encode(self, batch: Sequence[PreparedImage]) -> Features:
        """Return the features of prepared images.

        To be called by one thread at a time. On the CPU the same batch gives the same bits each time; that an image
        alone gives the bits that it gives in a batch was seen with the stock models, but torch does not promise it.

        Args:
            batch: one or more results of :meth:`prepare`.

        Returns:
            P4 (B, 256, 64, 64), stride 16, and P5 (B, 256, 32, 32), stride 32; float32, C-contiguous.

        Raises:
            OutOfMemoryError: a smaller batch may do; its memory is free again.
            MvtkError: the encoder cannot be compiled.
        """
        return within_memory(
            lambda: self._encode_batch(batch),
            f"not enough memory on {self._device} to encode a batch of {len(batch)}",
            _SMALLER,
        )

    def _encode(self, batch: Sequence[PreparedImage]) -> Features:
        import torch

        with torch.inference_mode(), _exact_float32(self._device, self._dtype):
            images_bchw = torch.stack([self._on_device(prepared) for prepared in batch])
            with self._arithmetic():
                levels = self._levels(images_bchw)
            p4, p5 = (_to_numpy_soon(level) for level in levels)
            if self._device.type == "cuda":
                torch.cuda.current_stream(self._device).synchronize()
            return p4.numpy(), p5.numpy()

    def _on_device(self, prepared: PreparedImage) -> Tensor:
        if self._device.type != "cuda":
            return prepared
        return self._network_input(prepared.to(self._device, non_blocking=True))

    def _network_input(self, pixels_hwc: Tensor) -> Tensor:
        """Return one image as the network takes it: the steps of ``SAM2Transforms``, in their order.

        Args:
            pixels_hwc: (H, W, 3) uint8, RGB, on the encoder's device.

        Returns:
            (3, 1024, 1024) float32, there as well.
        """
        import torch
        from torch.nn.functional import interpolate

        image_chw = pixels_hwc.permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        size = (INPUT_SIDE_PX, INPUT_SIDE_PX)
        if image_chw.shape[1:] != size:
            image_chw = interpolate(image_chw[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
        return image_chw.sub_(self._mean_chw).div_(self._std_chw)

    def _arithmetic(self) -> AbstractContextManager[object]:
        import torch

        if self._dtype == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, getattr(torch, self._dtype))

    def _run(self, images_bchw: Tensor) -> tuple[Tensor, Tensor]:
        # Not image_encoder(x): its `scalp` drops the level of stride 32.
        levels, _ = self._neck(self._trunk(images_bchw))
        return levels[_P4_LEVEL], levels[_P5_LEVEL]


def build_encoder(weights: Weights) -> nn.Module:
    """Return the ``image_encoder`` of a SAM2 model with its weights, on the CPU, in evaluation mode.

    The packaged configuration is read from its file, and only the encoder is built: Hydra's global state and the
    working directory play no part.

    Raises:
        MvtkError: the weights cannot be read, or do not fit the model.
        MissingExtraError: sam2 is not installed.
    """
    _require_torch()
    require_extra("sam2", "features")
    import torch
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    config = OmegaConf.load(Path(str(files("sam2"))) / weights.model.config).model.image_encoder
    # The position encoding is no part of the features; sam2's would take 85 MiB an image, and memory of the first GPU,
    # whichever device was asked for.
    config.neck.position_encoding = {"_target_": "torch.nn.Identity"}
    state = None if weights.random_seed is not None else read_encoder_state(weights)
    with torch.random.fork_rng(devices=[]):
        if weights.random_seed is not None:
            torch.manual_seed(weights.random_seed)
        encoder: nn.Module = instantiate(config)
    if state is not None:
        check_encoder_state(state, encoder.state_dict(), weights)
        encoder.load_state_dict(state)
    return encoder.eval().requires_grad_(requires_grad=False)


def _require_torch() -> None:
    torch = require_extra("torch", "features")
    match = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if match is not None and (int(match[1]), int(match[2])) < _OLDEST_TORCH:
        raise MvtkError(
            f"torch {torch.__version__} is too old to load weights: a crafted checkpoint gets past its weights_only",
            "install torch 2.10 or newer",
        )


def _to_numpy_soon(level: Tensor) -> Tensor:
    """Return the copy on the CPU as contiguous float32; from a GPU it is there once the stream has been waited for."""
    import torch

    level = level.to(torch.float32).contiguous()
    if level.device.type != "cuda":
        return level
    return torch.empty(level.shape, dtype=level.dtype, pin_memory=True).copy_(level, non_blocking=True)


@contextmanager
def _exact_float32(device: torch.device, dtype: EncoderDtype) -> Iterator[None]:
    """Keep a GPU from rounding float32 to TF32, which torch does in convolutions unless told otherwise."""
    if device.type != "cuda" or dtype != "float32":
        yield
        return
    import torch

    backends: Any = torch.backends
    operations = (backends.cudnn.conv, backends.cuda.matmul)
    before = [operation.fp32_precision for operation in operations]
    try:
        for operation in operations:
            operation.fp32_precision = "ieee"
        yield
    finally:
        for operation, precision in zip(operations, before, strict=True):
            operation.fp32_precision = precision


def _with_compile_errors(encode: Callable[[Sequence[PreparedImage]], Features]) -> Callable[..., Features]:
    """Return ``encode``, a failure of torch.compile becoming a line."""
    from torch._dynamo.exc import TorchDynamoException

    def encode_compiled(batch: Sequence[PreparedImage]) -> Features:
        try:
            return encode(batch)
        except TorchDynamoException as error:
            reason = " ".join(str(error).split())[:_REASON_LENGTH]
            raise MvtkError(f"the encoder cannot be compiled here ({reason})", "leave out --compile") from error

    return encode_compiled

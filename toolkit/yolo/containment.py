"""Ultralytics within bounds: no files in the home folder, no network, no installing, no unpickling, output on stderr.

What it would do on its own, and what is set against it (Ultralytics 8.4):

- it keeps settings, fonts and temporary scripts in ``~/.config``: ``YOLO_CONFIG_DIR`` is a folder of this process, and
  so is matplotlib's where the user has none;
- it asks the network whether there is one, and downloads weights and a model to check AMP: ``YOLO_OFFLINE``;
- it downloads fonts to draw with: that folder has one under their names;
- it installs packages that it, or a checkpoint, names: ``YOLO_AUTOINSTALL``;
- it unpickles checkpoints: ``ULTRALYTICS_SAFE_LOAD`` makes it load only classes that it knows, and ours;
- it reports to services whose packages are installed: its settings switch them off;
- it prints to standard output: here all of it goes to standard error.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import io
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from toolkit.core.cpus import available_cpus
from toolkit.core.errors import MvtkError
from toolkit.core.extras import require_extra

_ENVIRONMENT: Final = {
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "ULTRALYTICS_SAFE_LOAD": "true",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "MPLBACKEND": "Agg",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
}
_CONFIG_DIR: Final = "YOLO_CONFIG_DIR"
_MATPLOTLIB_DIR: Final = "MPLCONFIGDIR"
_SERVICES: Final = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "sync", "vscode_msg")
_FONTS: Final = ("Arial.ttf", "Arial.Unicode.ttf")
_PACKAGE: Final = "ultralytics"
_ANSI_STYLE: Final = re.compile(r"\x1b\[[0-9;]*m")
_PLAIN_INTERVAL_S: Final = 30.0
"""How often a progress bar becomes a line where there is no terminal."""


@contextlib.contextmanager
def contained_ultralytics(*, quiet: bool = False, children: bool = False) -> Iterator[None]:
    """Import Ultralytics, if it is not yet, and keep it within bounds for the block.

    Args:
        quiet: only its errors are shown.
        children: also lead what child processes print to standard output to standard error.

    Raises:
        MissingExtraError: it is not installed.
        MvtkError: it was imported before without the restriction on checkpoints.
    """
    _restrict()
    stream = _StandardError()
    utils = _imported()
    with contextlib.redirect_stdout(stream), _no_standard_output() if children else contextlib.nullcontext():
        if not utils.SAFE_LOAD:
            raise MvtkError(
                "Ultralytics was imported before mvtk, without its restriction on checkpoints",
                "set ULTRALYTICS_SAFE_LOAD=1 before the import, or import it after mvtk",
            )
        _switch_services_off(utils.SETTINGS)
        with _logging_to(utils.LOGGER, stream, logging.ERROR if quiet else logging.INFO):
            yield


def _imported() -> Any:
    """Import Ultralytics and return its ``utils``; what the import does to others is undone.

    It tells about the settings that it makes, and puts a function of its own in place of ``PIL.Image.open``, which
    installs a package where a file is no image.
    """
    from PIL import Image

    opened = Image.open
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return require_extra(f"{_PACKAGE}.utils", "yolo")
    finally:
        Image.open = opened


def scratch_folder() -> str:
    """Return the folder of this process that Ultralytics may write to; it goes when the process ends."""
    _restrict()
    return os.environ[_CONFIG_DIR]


def _restrict() -> None:
    """Set the environment that Ultralytics reads when it is imported, here and in child processes."""
    if _PACKAGE not in sys.modules:
        os.environ.update(_ENVIRONMENT)
        # Ultralytics would set 1, and torch then computes with one thread.
        os.environ.setdefault("OMP_NUM_THREADS", str(available_cpus()))
    if os.environ.get("MVTK_ULTRALYTICS_DIR") != os.environ.get(_CONFIG_DIR) or _CONFIG_DIR not in os.environ:
        folder = tempfile.mkdtemp(prefix="mvtk-ultralytics-")
        os.environ |= {_CONFIG_DIR: folder, "MVTK_ULTRALYTICS_DIR": folder}
        _furnish(Path(folder) / "Ultralytics")
        _keep_matplotlib_away(Path(folder) / "matplotlib")
        atexit.register(_remove, folder, os.getpid())


def _furnish(folder: Path) -> None:
    """Put settings there, with folders of this process, and a font under the names of those that would be downloaded.

    The font is matplotlib's own, which has many scripts.
    """
    folder.mkdir(exist_ok=True)
    places = {name: str(folder / name) for name in ("weights_dir", "runs_dir", "datasets_dir")}
    (folder / "settings.json").write_text(json.dumps({**places, **dict.fromkeys(_SERVICES, False)}))
    package = importlib.util.find_spec("matplotlib")
    if package is None or package.origin is None:
        return
    font = Path(package.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    if font.is_file():
        for name in _FONTS:
            (folder / name).symlink_to(font)


def _keep_matplotlib_away(folder: Path) -> None:
    """Give matplotlib, with which Ultralytics draws, a folder for its list of fonts where the user has none yet."""
    home = Path.home()
    usual = (
        Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "matplotlib",
        Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "matplotlib",
    )
    if _MATPLOTLIB_DIR not in os.environ and not all(place.is_dir() for place in usual):
        folder.mkdir(exist_ok=True)
        os.environ[_MATPLOTLIB_DIR] = str(folder)


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _switch_services_off(settings: Any) -> None:
    wanted = dict.fromkeys(_SERVICES, False)
    if any(settings[name] for name in wanted):
        settings.update(wanted)


@contextlib.contextmanager
def _logging_to(logger: logging.Logger, stream: io.TextIOBase, level: int) -> Iterator[None]:
    handlers = [handler for handler in logger.handlers if isinstance(handler, logging.StreamHandler)]
    before, level_before = [handler.stream for handler in handlers], logger.level
    for handler in handlers:
        handler.setStream(stream)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(level_before)
        for handler, stream_before in zip(handlers, before, strict=True):
            handler.setStream(stream_before)


@contextlib.contextmanager
def _no_standard_output() -> Iterator[None]:
    """Lead the descriptor of standard output to standard error."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


class _StandardError(io.TextIOBase):
    """Standard error as it is now, for what was written for standard output; progress bars on a terminal only.

    Ultralytics' progress bars hand each frame to ``progress`` where the stream has one.
    """

    def __init__(self) -> None:
        self._frames: dict[int, tuple[float, str]] = {}

    def isatty(self) -> bool:
        return sys.stderr.isatty()

    def fileno(self) -> int:
        return sys.stderr.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return sys.stderr.write(text if self._coloured() else _ANSI_STYLE.sub("", text))

    def flush(self) -> None:
        sys.stderr.flush()

    def _coloured(self) -> bool:
        return self.isatty() and not os.environ.get("NO_COLOR")

    def progress(self, bar: int, frame: str) -> None:
        """Show a frame of a progress bar: in place on a terminal, else as a line at a bounded rate and at its end.

        Args:
            bar: which one.
            frame: how it looks now; "" when it is closed, after which its line is ended by ``write``.
        """
        if self.isatty():
            sys.stderr.write(frame if self._coloured() else _ANSI_STYLE.sub("", frame))
            return
        frame = _ANSI_STYLE.sub("", frame)
        now = time.monotonic()
        shown_at, last = self._frames.pop(bar, (now, ""))
        if not frame:
            sys.stderr.write(last)
            return
        frame = frame.removeprefix("\r\033[K")
        if now - shown_at >= _PLAIN_INTERVAL_S:
            shown_at = now
            sys.stderr.write(f"{frame}\n")
        self._frames[bar] = shown_at, frame

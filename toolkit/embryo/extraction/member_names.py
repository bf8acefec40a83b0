"""Which names of archive members are safe and sound, and the relative paths that they become."""

from __future__ import annotations

from typing import Final

from toolkit.embryo.extraction.tar_headers import MemberError

_MAX_COMPONENT_BYTES: Final = 255
_MAX_PATH_BYTES: Final = 1024
_MAX_DEPTH: Final = 16


class NameRules:
    """The rules for names in one archive.

    Args:
        top: the one folder in which everything in the archive must lie.
    """

    def __init__(self, top: str) -> None:
        self._top = top
        self._sound_folder = ""

    def relative_path(self, raw_name: bytes, *, is_folder: bool) -> str:
        """Return the path that a member becomes, with ``/`` between its parts; empty for the archive's root, ``./``.

        Raises:
            MemberError: the name is not UTF-8, empty, absolute, too long or too deep, has a part that is empty, ``.``
                or ``..``, holds a control character, another that cannot be printed or a backslash, or lies outside
                the archive's own folder.
        """
        try:
            name = raw_name.decode()
        except UnicodeDecodeError:
            raise MemberError("its name is not UTF-8") from None
        if is_folder and name in {".", "./"}:
            return ""
        name = name.removeprefix("./")
        if name.startswith("/"):
            raise MemberError("its name is absolute")
        if is_folder:
            name = name.removesuffix("/")
        folder, _, last = name.rpartition("/")
        if folder and folder == self._sound_folder and len(raw_name) <= _MAX_PATH_BYTES:
            _require_sound_part(last)
        else:
            self._require_sound(name, is_folder=is_folder)
            self._sound_folder = folder
        return name

    def _require_sound(self, name: str, *, is_folder: bool) -> None:
        parts = name.split("/")
        if not name:
            raise MemberError("its name is empty")
        if len(name.encode()) > _MAX_PATH_BYTES:
            raise MemberError(f"its name is longer than {_MAX_PATH_BYTES} bytes")
        if len(parts) > _MAX_DEPTH:
            raise MemberError(f"it lies more than {_MAX_DEPTH} folders deep")
        for part in parts:
            _require_sound_part(part)
        if parts[0] != self._top:
            raise MemberError(f"it lies outside the archive's own folder {self._top}")
        if len(parts) == 1 and not is_folder:
            raise MemberError(f"it is a file in the place of the archive's own folder {self._top}")


def _require_sound_part(part: str) -> None:
    if part in {"", ".", ".."}:
        raise MemberError(f"its name has the part '{part}'" if part else "its name has an empty part")
    if not part.isprintable():
        raise MemberError("its name holds a control character, or another that cannot be printed")
    if "\\" in part:
        raise MemberError("its name holds a backslash")
    if len(part.encode()) > _MAX_COMPONENT_BYTES:
        raise MemberError(f"its name has a part longer than {_MAX_COMPONENT_BYTES} bytes")

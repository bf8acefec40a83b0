"""Verify an extracted dataset: every video in all planes, with its tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from toolkit.core.batch import Figures, Job, Outcome, Step
from toolkit.core.errors import MvtkError
from toolkit.core.options import BatchOptions
from toolkit.embryo.frames import frame_file_problem
from toolkit.embryo.inspection import (
    BAD_TABLE,
    NO_VIDEO,
    all_videos,
    examine_video,
    read_graded,
    tables_without_video,
)
from toolkit.embryo.layout import GRADES_NAME, EmbryoTree, open_tree

_SEVERAL = "several problems"


class VerifyEmbryoOptions(BatchOptions):
    """The options of a verification.

    Attributes:
        root: the extracted dataset, or a part of it.
        decode: decode every frame rather than look at its first and last bytes: it finds what cannot be decoded, and
            image data that end too early or too late, or hold no code. A change of pixels that leaves the code in step
            cannot be seen in a JPEG file: compare checksums of the archives for that.
    """

    root: Path
    decode: bool = False


@dataclass(frozen=True, slots=True)
class VideoItem:
    """One video in all planes; its source is its name."""

    source: str


class VerifyVideo(Step[VideoItem]):
    """Examine one video, and open every one of its frames."""

    def __init__(self, tree: EmbryoTree, graded: Collection[str] | None, *, decode: bool) -> None:
        self._tree = tree
        self._graded = graded
        self._check_frame = decoding_problem if decode else frame_file_problem

    def process_one(self, item: VideoItem) -> Outcome:
        """Return done with what is odd as warnings, or failed with all problems.

        Raises:
            MvtkError: a folder cannot be listed.
        """
        report = examine_video(self._tree, item.source, self._graded, self._check_frame)
        remarks = "; ".join(remark.text for remark in report.remarks)
        details = {"frames": sum(report.plane_frames.values()), "phases": len(report.phase_frames)}
        warnings = tuple(dict.fromkeys(remark.kind for remark in report.remarks))
        if not report.problems:
            reason = f"sound; to know: {remarks}" if remarks else ""
            return Outcome(item.source, "done", reason, details=details, warnings=warnings)
        kinds = {problem.kind for problem in report.problems}
        reason = "; ".join(problem.text for problem in report.problems)
        failed = Outcome.failed(item.source, reason, kinds.pop() if len(kinds) == 1 else _SEVERAL)
        return replace(failed, details=details, warnings=warnings)


class VerifyEmbryoJob(Job[VideoItem]):
    """The verification of a dataset: an item a video, and one for each part with tables.

    What counts as a problem and what as a remark is said in :mod:`toolkit.embryo.inspection`.

    Raises:
        MvtkError: the folder is no dataset, has no videos, or cannot be listed.
    """

    command: ClassVar[str] = "embryo verify"

    def __init__(self, options: VerifyEmbryoOptions) -> None:
        self._options = options
        self._tree = open_tree(options.root)
        videos = all_videos(self._tree)
        if not videos:
            raise MvtkError(f"{options.root}: no videos in it", "give the folder that mvtk embryo extract made")
        self._graded, self._grade_problems = read_graded(self._tree)
        self._orphans = tables_without_video(self._tree, videos, self._graded)
        self._parts = [name for name in self._tree.parts if name in self._orphans or name == GRADES_NAME]
        self._parts = [name for name in self._parts if options.shard.holds(name)]
        self._videos = [video for video in videos if options.shard.holds(video)]
        self._frames = 0

    @property
    def options(self) -> VerifyEmbryoOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int:
        """The number of parts with tables and of videos."""
        return len(self._parts) + len(self._videos)

    def plan(self) -> Iterator[VideoItem | Outcome]:
        """Yield what became of each part with tables, then each video."""
        for part in self._parts:
            if part == GRADES_NAME and self._grade_problems:
                yield Outcome.failed(part, "; ".join(self._grade_problems), BAD_TABLE)
            else:
                yield Outcome.done(part, warnings=(NO_VIDEO,) if self._orphans[part] else ())
        yield from map(VideoItem, self._videos)

    def step(self) -> VerifyVideo:
        """Return the verification of one video."""
        return VerifyVideo(self._tree, self._graded, decode=self._options.decode)

    def watch(self, outcome: Outcome) -> Outcome:
        """Count the frames."""
        self._frames += int(outcome.details.get("frames", 0))
        return outcome

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return how many frames were examined, and which parts of a complete dataset are not there."""
        del figures
        missing = list(self._tree.missing)
        remarks = [f"not there, and not verified: {', '.join(missing)}"] if missing else []
        if self._parts:
            remarks.append(f"the items are the videos, and the parts with tables: {', '.join(self._parts)}")
        return {"frames": self._frames, "missing_parts": missing, "remarks": remarks}


def decoding_problem(path: str) -> str:
    """Decode a frame; return what is wrong with it, empty where nothing is.

    It is decoded twice: by the decoder that everything here uses, and by one that tells of damaged image data what
    :func:`~toolkit.embryo.jpeg_warnings.jpeg_data_problem` can tell.
    """
    from toolkit.embryo.jpeg_warnings import jpeg_data_problem
    from toolkit.images.decoding import load_image

    try:
        load_image(path, keep_mode=True)
        damage = jpeg_data_problem(path)
    except MvtkError as error:
        return error.message.removeprefix(f"{path}: ")
    return f"has damaged image data ({damage})" if damage else ""

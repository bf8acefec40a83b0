"""The embryo time-lapse dataset (Gomez et al. 2022): its frames, planes, phases and tables."""

from typing import TYPE_CHECKING

from toolkit.core.lazy import lazy_names

if TYPE_CHECKING:
    from toolkit.embryo.dataset import EmbryoDataset
    from toolkit.embryo.duplicate_planes import clean_f0
    from toolkit.embryo.extraction.extract import extract_dataset
    from toolkit.embryo.frame_index import Frame, FrameIndex, open_frame_index
    from toolkit.embryo.ground_truth import save_ground_truth
    from toolkit.embryo.inspection import inspect_dataset
    from toolkit.embryo.phases import Phase, PhaseRange, parse_phase, phase_of, read_phase_ranges
    from toolkit.embryo.planes import FocalPlane, parse_plane
    from toolkit.embryo.preview import save_video_strip
    from toolkit.embryo.selection import select_frames
    from toolkit.embryo.split import load_split, save_split
    from toolkit.embryo.synthetic import list_runs, new_run, verify_runs
    from toolkit.embryo.synthetic_dataset import SyntheticDataset
    from toolkit.embryo.tables import Grades, TimeStamps, read_grades, read_time_stamps

__all__ = [
    "EmbryoDataset",
    "FocalPlane",
    "Frame",
    "FrameIndex",
    "Grades",
    "Phase",
    "PhaseRange",
    "SyntheticDataset",
    "TimeStamps",
    "clean_f0",
    "extract_dataset",
    "inspect_dataset",
    "list_runs",
    "load_split",
    "new_run",
    "open_frame_index",
    "parse_phase",
    "parse_plane",
    "phase_of",
    "read_grades",
    "read_phase_ranges",
    "read_time_stamps",
    "save_ground_truth",
    "save_split",
    "save_video_strip",
    "select_frames",
    "verify_runs",
]

__getattr__ = lazy_names(
    __name__,
    {
        "dataset": ("EmbryoDataset",),
        "duplicate_planes": ("clean_f0",),
        "extraction.extract": ("extract_dataset",),
        "frame_index": ("Frame", "FrameIndex", "open_frame_index"),
        "ground_truth": ("save_ground_truth",),
        "inspection": ("inspect_dataset",),
        "phases": ("Phase", "PhaseRange", "parse_phase", "phase_of", "read_phase_ranges"),
        "planes": ("FocalPlane", "parse_plane"),
        "preview": ("save_video_strip",),
        "selection": ("select_frames",),
        "split": ("load_split", "save_split"),
        "synthetic": ("list_runs", "new_run", "verify_runs"),
        "synthetic_dataset": ("SyntheticDataset",),
        "tables": ("Grades", "TimeStamps", "read_grades", "read_time_stamps"),
    },
)

"""Run the benchmarks named on the command line, or all: ``python -m tests.benchmarks [edges conversion …]``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.benchmarks import (
    conversion,
    edges,
    embryo_extraction,
    embryo_index,
    features,
    metadata_processing,
    metadata_reading,
    reading,
    rewriting,
    sam_training,
    startup,
    yolo_loading,
)

BENCHMARKS = {
    "startup": startup.measure,
    "reading": reading.measure,
    "rewriting": rewriting.measure,
    "conversion": conversion.measure,
    "metadata_processing": metadata_processing.measure,
    "metadata_reading": metadata_reading.measure,
    "edges": edges.measure,
    "features": features.measure,
    "sam_training": sam_training.measure,
    "yolo_loading": yolo_loading.measure,
    "embryo_extraction": embryo_extraction.measure,
    "embryo_index": embryo_index.measure,
}


def main(names: list[str]) -> int:
    short = 0
    for name in names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="mvtk-bench-") as folder:
            for figure in BENCHMARKS[name](Path(folder)):
                print(figure, flush=True)  # noqa: T201 - the benchmark's result
                short += not figure.holds
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Timing of two sides in turn, and how a figure is shown beside what was asked for."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure: what, how much, and the bound it is held against (None: for information)."""

    what: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def holds(self) -> bool:
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def __str__(self) -> str:
        bound = ""
        if self.at_least is not None:
            bound = f"  (at least {self.at_least:g}{self.unit})"
        if self.at_most is not None:
            bound = f"  (at most {self.at_most:g}{self.unit})"
        return f"{self.what}: {self.value:.2f}{self.unit}{bound}{'' if self.holds else '  FALLS SHORT'}"


def in_turn(ours: Callable[[], object], reference: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Run both sides in turn; return each side's median seconds and the median of the ratios reference / ours."""
    pairs = [(_seconds(ours), _seconds(reference)) for _ in range(rounds)]
    return (
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(pair[1] / pair[0] for pair in pairs),
    )


def run_command(arguments: Sequence[str]) -> None:
    """Run a command without its output; it must succeed."""
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def peak_memory_mib(arguments: Sequence[str]) -> float:
    """Return the peak memory of the largest process among a command and its workers."""
    probe = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=-3, stderr=-3);"
        " print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    return float(subprocess.check_output([sys.executable, "-c", probe, *arguments]))


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start

"""The learning rate over a run: a linear warm-up, then half a cosine (Loshchilov and Hutter, SGDR, 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate as a function of the step alone: nothing of it has to be stored or restored.

    Attributes:
        peak: the learning rate at the end of the warm-up.
        warmup_steps: steps over which it rises.
        total_steps: of the whole run.
        final_fraction: where the cosine ends, as a fraction of ``peak``.
    """

    peak: float
    warmup_steps: int
    total_steps: int
    final_fraction: float

    @classmethod
    def of_run(cls, peak: float, total_steps: int, warmup: float, final_fraction: float) -> Schedule:
        """Return the schedule of a run whose warm-up takes the fraction ``warmup`` of its steps."""
        return cls(peak, round(warmup * total_steps), total_steps, final_fraction)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of step ``step``, which counts from 0; past the end it stays where it ended."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        span = max(1, self.total_steps - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / span)
        fraction = self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * progress)) / 2
        return self.peak * fraction

"""What a detector reports, and what all detectors have in common."""

from typing import NamedTuple, Protocol

import numpy as np


class Hit(NamedTuple):
    """One decision of a detector. Frames are numbers of output frames since the engine's start.

    The run of scores that it is about is [onset, end), where `end` is None as long as it goes on; its maximum `score`
    so far stands at `peak`, and the decision fell when frame `decided` was seen. `phase` is "provisional", "confirmed",
    "retracted" or "ended". `truncated`: the scores ended before the run did.
    """

    output: int
    onset: int
    peak: int
    end: int | None
    decided: int
    score: float
    truncated: bool = False
    phase: str = "confirmed"


class Detector(Protocol):
    """Scores in, hits out; used by one thread at a time. Results do not depend on how the scores were split.

    `thresholds`: for each output, the score without which nothing ever begins there. `memory`: after so many frames in
    which nothing was open and no score reached its threshold, everything older has no part in what is decided (but for
    what `reset` says). `kept`: which share of a smoothed score stays from one frame to the next, 0 where thresholds are
    held against scores as they come; smoothed are scores clipped to [0, 1]. `certain`: False, for ever, once a decision hung
    on a state that was not known; see `reset`.
    """

    thresholds: np.ndarray
    kept: float
    memory: int
    certain: bool

    @property
    def open(self) -> bool:
        """Whether something has begun that has not ended."""

    def process(self, scores: np.ndarray, frames: int) -> list[Hit]:
        """Take the first `frames` of `scores` (at least frames, outputs), float32, C-ordered; return the decisions."""

    def flush(self) -> list[Hit]:
        """End the scores: decide what is still open, truncated, at the last frame seen."""

    def reset(self, frame: int = 0, *, known: bool = True) -> None:
        """Forget everything; the next score is that of output frame `frame`.

        `known` is False where scores went before that this detector has not seen, and neither there nor in the next `memory`
        frames anything begins.
        """


def shortest_decimal(score: np.float32) -> float:
    """Return the float64 with the fewest digits that is this score in float32: 0.93, not 0.9300000071525574."""
    return float(str(score))

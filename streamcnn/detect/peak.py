"""The detector `peak`: one detection for the maximum of each run of scores at or above a threshold.

Rules, for each output of the net by itself, all in output frames:

- A run starts at the first frame that is at or above the threshold and at least `refractory` after the last peak.
- Its peak is its highest frame, the first of equals.
- It is decided at the first frame below the threshold, or when `refractory` has passed since the peak without a higher
  one. In the latter case the same frame, being above the threshold, starts the next run.
- Two peaks are therefore never closer than `refractory`. A NaN is never above the threshold,
  and neither is an infinite score: it says that the net has left its range.

The state moves by one frame at a time, so results cannot depend on how the scores were split.
"""

import numpy as np

from streamcnn.compiler.build import entry_point
from streamcnn.detect.hits import Hit, shortest_decimal

_NEVER = -(2**62)
ACTIVE, ONSET, PEAK, LAST = range(4)  # columns of the state, one row an output


def _scan(scores, frames, first_frame, threshold, refractory, state, best, hits, hit_scores):
    """Scan scores (frames, outputs), write rows (output, onset, peak, end, decided) to hits, return their number."""
    count = 0
    for t in range(frames):
        frame = first_frame + t
        for o in range(state.shape[0]):
            score = scores[t, o]
            above = threshold <= score < np.inf
            if state[o, ACTIVE]:
                if above and score > best[o]:
                    best[o] = score
                    state[o, PEAK] = frame
                if not above or frame - state[o, PEAK] >= refractory:
                    hits[count, 0] = o
                    hits[count, 1] = state[o, ONSET]
                    hits[count, 2] = state[o, PEAK]
                    hits[count, 3] = frame
                    hits[count, 4] = frame
                    hit_scores[count] = best[o]
                    count += 1
                    state[o, ACTIVE] = 0
                    state[o, LAST] = state[o, PEAK]
            if above and not state[o, ACTIVE] and frame - state[o, LAST] >= refractory:
                state[o, ACTIVE] = 1
                state[o, ONSET] = frame
                state[o, PEAK] = frame
                best[o] = score
    return count


_compiled_scan = entry_point(
    "int64(float32[:,::1], int64, int64, float32, int64, int64[:,::1], float32[::1], int64[:,::1], float32[::1])"
)(_scan)


class PeakDetector:
    """The `Detector` that finds peaks.

    `outputs`: values a score has. `refractory`: output frames, at least 1.
    """

    kept = 0.0
    certain = True  # once nothing is open, only the last peak matters, and that for `memory` frames

    def __init__(self, outputs: int, threshold: float, refractory: int):
        self.thresholds = np.full(outputs, threshold)
        self.memory = max(1, refractory)
        self._threshold = threshold
        self._scan = _compiled_scan()
        self._state = np.zeros((outputs, 4), np.int64)
        self._best = np.zeros(outputs, np.float32)
        self._hits = np.zeros((0, 5), np.int64)
        self._hit_scores = np.zeros(0, np.float32)
        self.reset()

    @property
    def open(self) -> bool:
        """Whether a run goes on."""
        return bool(self._state[:, ACTIVE].any())

    def process(self, scores: np.ndarray, frames: int) -> list[Hit]:
        """Take the first `frames` of `scores` (at least frames, outputs), float32, C-ordered; return the decisions."""
        self._make_room(frames)
        count = self._scan(
            scores,
            frames,
            self._frame,
            self._threshold,
            self.memory,
            self._state,
            self._best,
            self._hits,
            self._hit_scores,
        )
        self._frame += frames
        return [Hit(*self._hits[k].tolist(), shortest_decimal(self._hit_scores[k])) for k in range(count)]

    def flush(self) -> list[Hit]:
        """End the scores: decide the runs that are still open, truncated, at the last frame seen."""
        hits = [
            Hit(
                o,
                int(row[ONSET]),
                int(row[PEAK]),
                self._frame,
                self._frame - 1,
                shortest_decimal(self._best[o]),
                truncated=True,
            )
            for o, row in enumerate(self._state)
            if row[ACTIVE]
        ]
        self._state[:, ACTIVE] = 0
        return hits

    def reset(self, frame: int = 0, *, known: bool = True) -> None:  # noqa: ARG002 (see `certain`)
        """Forget everything; the next score is that of output frame `frame`."""
        self._frame = frame
        self._state[:] = (0, 0, 0, _NEVER)

    def _make_room(self, frames: int) -> None:
        if len(self._hits) < frames * len(self._state):
            self._hits = np.zeros((frames * len(self._state), 5), np.int64)
            self._hit_scores = np.zeros(frames * len(self._state), np.float32)

"""The flood guard: of what a detector decides in a second, only so much is told one by one.

Rules. The session is cut into windows of a second, by the position of the score with which something is decided. In each,
so many events of a detector may begin; of those beyond that nothing is told, in no phase, and their number is told once,
with the first score behind the window. What has begun to be told is told to its end.

So it depends on the signal alone what is told, not on how fast anybody reads it.
"""

from streamcnn.compiler.kernel import integers, kernel
from streamcnn.detect.hits import (
    DECIDED,
    END,
    FRAME,
    MEASURED,
    ONSET,
    OUTPUT,
    PEAK,
    PHASE,
    TRUNCATED,
)
from streamcnn.inference.tables import (
    DETECTOR,
    FATE_COLUMNS,
    FATE_ONSET,
    FATE_TOLD,
    FATES_AT,
    IN_WINDOW,
    MOST_EVENTS,
    PASSED,
    SCORE_HOP,
    STARTED,
    SUPPRESSED,
    WINDOW,
)

FLOOD = 100  # a hit's PHASE; its PEAK is the number of events suppressed


@kernel
def is_told(runner, hit):
    """Whether a hit shall be told; counts the events that begin."""
    fate = integers(runner[FATES_AT] + 8 * FATE_COLUMNS * (0 if hit[PHASE] == MEASURED else hit[OUTPUT]))
    # What is measured is one event with all its outputs.
    if hit[ONSET] != fate[FATE_ONSET] and (hit[PHASE] != MEASURED or hit[OUTPUT] == 0):
        fate[FATE_ONSET] = hit[ONSET]
        fate[FATE_TOLD] = 1 if runner[PASSED] < runner[MOST_EVENTS] else 0
        runner[PASSED] += fate[FATE_TOLD]
        runner[SUPPRESSED] += 1 - fate[FATE_TOLD]
    return fate[FATE_TOLD] == 1


@kernel
def window_of(runner, frame):
    """Return the window of a score."""
    return (runner[STARTED] + frame * runner[SCORE_HOP]) // runner[WINDOW]


@kernel
def turn(runner, frame, ended, hit):
    """Go on to the window of a score; return how many hits that gave: one where something was suppressed, written to `hit`.

    `ended`: 1 where the scores end with that one, 0 elsewhere.
    """
    window, before = max(window_of(runner, frame), runner[IN_WINDOW]), runner[IN_WINDOW]
    if window == before and not ended:
        return 0
    suppressed, runner[SUPPRESSED] = runner[SUPPRESSED], 0
    if window != before:
        runner[IN_WINDOW], runner[PASSED] = window, 0
    if suppressed == 0:
        return 0
    first = -((runner[STARTED] - before * runner[WINDOW]) // runner[SCORE_HOP])
    behind = -((runner[STARTED] - (before + 1) * runner[WINDOW]) // runner[SCORE_HOP])
    given = integers(runner[DETECTOR])[FRAME]
    hit[OUTPUT], hit[PHASE], hit[PEAK], hit[TRUNCATED] = 0, FLOOD, suppressed, ended
    hit[ONSET], hit[END], hit[DECIDED] = first, min(behind, given), min(behind, given - 1)
    return 1

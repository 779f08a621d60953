"""The detectors `trigger` and `measure`, against their rules written out in plain Python."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamcnn.detect.hits import Detector, Hit
from streamcnn.detect.measure import STATISTICS, MeasureDetector
from streamcnn.detect.trigger import TriggerDetector
from tests.graphs import pieces

NAN = float("nan")
scores = st.lists(st.sampled_from([-5.0, -1.0, 0.0, 1.0, 2.0, 2.5, 7.0, NAN, float("inf")]), max_size=80)


def detect(detector: Detector, blocks: list[np.ndarray]) -> list[Hit]:
    """Run a detector over blocks of scores (frames, outputs), to their end."""
    hits = [hit for block in blocks for hit in detector.process(np.ascontiguousarray(block), len(block))]
    return hits + detector.flush()


def naive_runs(
    values: list[float], on: float, off: float, min_frames: int, max_frames: int | None, hold_off: int
) -> list[Hit]:
    """Find runs by looking at one score after the other."""
    hits, onset, peak, ready, confirmed = [], None, 0, 0, False

    def hit(phase: str, end: int | None, frame: int, **more: bool) -> None:
        hits.append(Hit(0, onset, peak, end, frame, values[peak], phase=phase, **more))

    for frame, x in enumerate(values):
        if onset is None:
            if on <= x < math.inf and frame >= ready:
                onset = peak = frame
                confirmed = min_frames <= 1
                hit("confirmed" if confirmed else "provisional", None, frame)
        elif not off <= x < math.inf or (max_frames and frame - onset == max_frames):
            hit("ended" if confirmed else "retracted", frame, frame)
            onset, ready = None, frame + max(1, hold_off)
        else:
            peak = frame if x > values[peak] else peak
            if not confirmed and frame - onset + 1 >= min_frames:
                confirmed = True
                hit("confirmed", None, frame)
    if onset is not None:
        end = len(values)
        hit("ended" if confirmed else "retracted", end, end - 1, truncated=True)
    return hits


@given(
    values=scores,
    off=st.sampled_from([-2.0, 0.0, 2.0]),
    min_frames=st.integers(1, 4),
    longer=st.sampled_from([None, 0, 3, 9]),
    hold_off=st.integers(0, 6),
    seed=st.integers(0, 999),
)
def test_runs_are_those_of_the_rules(
    values: list[float], off: float, min_frames: int, longer: int | None, hold_off: int, seed: int
):
    """For any scores, settings and split the runs, phase by phase, are those that the rules, written out, give."""
    longest = None if longer is None else min_frames + longer
    detector = TriggerDetector(1, [0], [2.0], [off], min_frames, longest, hold_off)
    table = np.array(values, np.float32).reshape(-1, 1)
    assert detect(detector, pieces(table, seed)) == naive_runs(values, 2.0, off, min_frames, longest, hold_off)


def test_outputs_trigger_by_themselves_with_their_own_thresholds():
    """Only watched outputs are looked at, each with its own thresholds."""
    table = np.array([[9, 0, -3], [9, 5, -1], [9, 0, -9]], np.float32)
    hits = detect(TriggerDetector(3, [2, 1], [-2, 4], [-5, 4]), [table])
    assert [(hit.output, hit.phase, hit.onset, hit.end) for hit in hits] == [
        (2, "confirmed", 1, None),
        (1, "confirmed", 1, None),
        (2, "ended", 1, 2),
        (1, "ended", 1, 2),
    ]


def naive_measures(rows: np.ndarray, every: int, change: float | None, statistic: str) -> list[tuple]:
    """Tell values by looking at one frame after the other: (start, frame, values)."""
    reduce = {"last": lambda v: v[-1], "mean": np.mean, "min": np.min, "max": np.max}[statistic]
    told, since, out = None, 0, []
    for frame, row in enumerate(rows.astype(float)):
        due = every > 0 and frame % every == every - 1
        if change:
            for k, x in enumerate(row):
                before = NAN if told is None else told[k]
                both_none = math.isnan(x) and math.isnan(before)
                due |= not (x == before or abs(x - before) < change or both_none)
        if due:
            out.append((since, frame, [float(reduce(column)) for column in rows[since : frame + 1].T.astype(float)]))
            told, since = row, frame + 1
    return out


@given(
    values=st.lists(st.tuples(*[st.sampled_from([-1.0, 0.0, 0.25, 1.0, 8.0, NAN])] * 2), max_size=60),
    every=st.integers(0, 9),
    change=st.sampled_from([None, 0.25, 1.0]),
    statistic=st.sampled_from(STATISTICS),
    seed=st.integers(0, 999),
)
def test_measures_are_those_of_the_rules(
    values: list[tuple], every: int, change: float | None, statistic: str, seed: int
):
    """For any values, settings and split what is told, and when, is what the rules, written out, give."""
    table = np.array(values, np.float32).reshape(-1, 2)
    hits = detect(MeasureDetector(2, every, change, statistic), pieces(table, seed))
    told = [
        (first.onset, first.decided, [first.score, second.score])
        for first, second in zip(hits[::2], hits[1::2], strict=True)
    ]
    expected = naive_measures(table, every, change, statistic)
    assert [entry[:2] for entry in told] == [entry[:2] for entry in expected]
    np.testing.assert_allclose([entry[2] for entry in told], [entry[2] for entry in expected], rtol=1e-6)
    assert {hit.phase for hit in hits} <= {"measured"}

"""The detector `peak`, against its rules written out in plain Python."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamcnn.detect.hits import Hit
from streamcnn.detect.peak import PeakDetector
from tests.graphs import pieces

scores = st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.6, 0.7, 0.9, 1.0, float("nan")]), max_size=80)


def naive_peaks(values: list[float], threshold: float, refractory: int) -> list[Hit]:
    """Find peaks by looking at the whole list, one run after the other."""
    hits, frame, last, threshold = [], 0, None, float(np.float32(threshold))
    while frame < len(values):
        if not values[frame] >= threshold or (last is not None and frame - last < refractory):
            frame += 1
            continue
        onset = peak = frame
        while True:
            frame += 1
            if frame == len(values):
                hits.append(Hit(0, onset, peak, frame, frame - 1, values[peak], truncated=True))
                return hits
            if values[frame] > values[peak]:
                peak = frame
            if not values[frame] >= threshold or frame - peak >= refractory:
                break
        hits.append(Hit(0, onset, peak, frame, frame, values[peak]))
        last = peak
    return hits


def detect(values: np.ndarray, threshold: float, refractory: int, blocks: list[np.ndarray]) -> list[Hit]:
    """Run the detector over blocks of scores (frames, outputs)."""
    detector = PeakDetector(values.shape[1], threshold, refractory)
    hits = [hit for block in blocks for hit in detector.process(np.ascontiguousarray(block), len(block))]
    return hits + detector.flush()


@given(values=scores, refractory=st.integers(1, 12))
def test_peaks_are_those_of_the_rules(values: list[float], refractory: int):
    """The compiled detector finds just the peaks that the written-out rules give."""
    table = np.array(values, np.float32).reshape(-1, 1)
    expected = [hit._replace(score=float(str(hit.score))) for hit in naive_peaks(table[:, 0], 0.55, refractory)]
    assert detect(table, 0.55, refractory, [table]) == expected


@given(
    values=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 3), max_size=120),
    refractory=st.integers(1, 30),
    seed=st.integers(0, 999),
)
def test_peaks_do_not_depend_on_the_split(values: list[tuple], refractory: int, seed: int):
    """For any split of the scores of several outputs the detections are the same."""
    table = np.array(values, np.float32).reshape(-1, 3)
    assert detect(table, 0.5, refractory, pieces(table, seed)) == detect(table, 0.5, refractory, [table])


@given(values=scores, refractory=st.integers(1, 12))
def test_peaks_keep_their_distance(values: list[float], refractory: int):
    """No two peaks are closer than the refractory time."""
    table = np.array(values, np.float32).reshape(-1, 1)
    peaks = [hit.peak for hit in detect(table, 0.55, refractory, [table])]
    assert all(b - a >= refractory for a, b in itertools.pairwise(peaks))


def test_the_first_of_equal_maxima_is_the_peak():
    """A plateau is found at its first frame, and decided when the score has fallen."""
    table = np.array([[0], [0.7], [0.9], [0.9], [0.9], [0.1]], np.float32)
    (hit,) = detect(table, 0.5, 100, [table])
    assert (hit.onset, hit.peak, hit.end, hit.decided, hit.truncated) == (1, 2, 5, 5, False)


def test_a_score_at_the_threshold_counts():
    """A score equal to the threshold is a detection, in the float32 in which scores are computed."""
    table = np.array([[0], [0.6], [0]], np.float32)
    assert [hit.peak for hit in detect(table, 0.6, 1, [table])] == [1]


def test_reset_forgets_an_open_run_and_sets_the_frame():
    """After a reset nothing of the past is decided, and frames count from the given number."""
    detector = PeakDetector(1, 0.5, 5)
    detector.process(np.ones((3, 1), np.float32), 3)
    detector.reset(1000)
    (hit,) = detector.process(np.array([[1], [0]], np.float32), 2)
    assert (hit.onset, hit.peak, hit.decided) == (1000, 1000, 1001)

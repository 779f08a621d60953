"""The detector `peak`, against its rules written out in plain Python."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcnn.detect.hits import Hit
from streamcnn.detect.peak import PeakDetector
from tests.graphs import pieces

scores = st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.6, 0.7, 0.9, 1.0, float("nan")]), max_size=80)


def naive_peaks(values: list[float], threshold: float, refractory: int, merge: int = 0) -> list[Hit]:
    """Find peaks by looking at the whole list, one run after the other."""
    hits, frame, last, threshold = [], 0, None, float(np.float32(threshold))

    def offset(peak: int, seen: int) -> float:
        if not 0 < peak < seen:
            return 0.0
        a, b, c = (float(values[k]) for k in (peak - 1, peak, peak + 1))
        bend = a - 2 * b + c
        return max(-0.5, min(0.5, (a - c) / bend / 2)) if math.isfinite(bend) and bend < 0 else 0.0

    while frame < len(values):
        if not values[frame] >= threshold or (last is not None and frame - last < refractory):
            frame += 1
            continue
        onset = peak = above = frame
        while True:
            frame += 1
            if frame == len(values):
                at = offset(peak, frame - 1)
                hits.append(Hit(0, onset, peak, above + 1, frame - 1, values[peak], truncated=True, offset=at))
                return hits
            is_above = values[frame] >= threshold
            above = frame if is_above else above
            if is_above and values[frame] > values[peak]:
                peak = frame
            if frame - above > merge or frame - peak >= refractory:
                break
        end = frame if is_above else above + 1
        hits.append(Hit(0, onset, peak, end, frame, values[peak], offset=offset(peak, frame)))
        last = peak
    return hits


def detect(
    values: np.ndarray, threshold: float, refractory: int, blocks: list[np.ndarray], merge: int = 0
) -> list[Hit]:
    """Run the detector over blocks of scores (frames, outputs)."""
    detector = PeakDetector([threshold] * values.shape[1], refractory, merge)
    hits = [hit for block in blocks for hit in detector.process(np.ascontiguousarray(block), len(block))]
    return hits + detector.flush()


@given(values=scores, refractory=st.integers(1, 12), merge=st.integers(0, 4))
def test_peaks_are_those_of_the_rules(values: list[float], refractory: int, merge: int):
    """The compiled detector finds just the peaks that the written-out rules give."""
    table = np.array(values, np.float32).reshape(-1, 1)
    expected = [
        hit._replace(score=float(str(hit.score)), offset=pytest.approx(hit.offset, abs=1e-12))
        for hit in naive_peaks(table[:, 0], 0.55, refractory, merge)
    ]
    assert detect(table, 0.55, refractory, [table], merge) == expected


@given(
    values=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 3), max_size=120),
    refractory=st.integers(1, 30),
    seed=st.integers(0, 999),
)
def test_peaks_do_not_depend_on_the_split(values: list[tuple], refractory: int, seed: int):
    """For any split of the scores of several outputs the detections are the same."""
    table = np.array(values, np.float32).reshape(-1, 3)
    assert detect(table, 0.5, refractory, pieces(table, seed), 2) == detect(table, 0.5, refractory, [table], 2)


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
    detector = PeakDetector([0.5], 5)
    detector.process(np.ones((3, 1), np.float32), 3)
    detector.reset(1000)
    (hit,) = detector.process(np.array([[1], [0]], np.float32), 2)
    assert (hit.onset, hit.peak, hit.decided) == (1000, 1000, 1001)


@given(top=st.floats(3, 12), width=st.floats(2, 9))
def test_the_top_of_a_parabola_is_found_exactly(top: float, width: float):
    """Of a sampled parabola the peak between the samples is its top."""
    at = np.arange(16)
    table = (1 - ((at - top) / width) ** 2 / 10).astype(np.float32)[:, None]
    (hit,) = detect(table, 0.98, 100, [table], 100)
    assert hit.peak + hit.offset == pytest.approx(top, abs=1e-3)


def test_lobes_closer_than_merge_are_one_run():
    """Where the highest lobe is not the first, merging finds it; without it the first one hides it."""
    table = np.array([0, 0.7, 0.2, 0.9, 0.2, 0.7, 0, 0, 0, 0], np.float32)[:, None]
    assert [hit.peak for hit in detect(table, 0.5, 5, [table])] == [1]
    (hit,) = detect(table, 0.5, 5, [table], merge=1)
    assert (hit.onset, hit.peak, hit.end, hit.decided) == (1, 3, 6, 7)

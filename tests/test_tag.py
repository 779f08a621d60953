"""The detector `tag`, against its rules written out in plain Python."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamcnn.detect.hits import Hit
from streamcnn.detect.tag import TagDetector
from tests.graphs import pieces

scores = st.lists(
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.6, 0.9, 1.0, 1.5, -2.0, float("nan"), float("inf")]), max_size=80
)
smooths = st.sampled_from([0.0, 0.7, 2.0, 9.0])


def naive_tags(
    rows: np.ndarray,
    on: float,
    off: float,
    smooth: float,
    min_frames: int,
    votes: tuple[int, int] = (1, 1),
    top: int | None = None,
) -> list[Hit]:
    """Find tags by looking at one frame of scores (frames, labels) after the other."""
    taken = -math.expm1(-1 / smooth) if smooth else 1.0
    labels, (needed, of) = rows.shape[1], votes
    s, onset, peak, confirmed = [0.0] * labels, [None] * labels, [0] * labels, [False] * labels
    ons, helds = ([[] for _ in range(labels)] for _ in range(2))
    heard = np.where(np.isfinite(rows) & (rows > 0), np.minimum(rows, 1), 0).astype(np.float32)
    hits = []

    def hit(o: int, phase: str, end: int | None, frame: int, **more: bool) -> None:
        score = float(str(heard[peak[o], o]))
        hits.append(Hit(o, onset[o], peak[o], end, frame, score, phase=phase, **more))

    for frame, x in enumerate(heard):
        s = [(1 - taken) * s[o] + taken * float(x[o]) for o in range(labels)]
        for o in range(labels):
            counts = top is None or sum(other > s[o] for other in s) < top
            ons[o].append(s[o] >= on and counts)
            helds[o].append(s[o] >= off and counts)
            begins, ends = sum(ons[o][-of:]) >= needed, sum(helds[o][-of:]) < needed
            if onset[o] is None:
                if begins:
                    onset[o] = peak[o] = frame
                    confirmed[o] = min_frames <= 1
                    hit(o, "confirmed" if confirmed[o] else "provisional", None, frame)
            elif ends:
                hit(o, "ended" if confirmed[o] else "retracted", frame, frame)
                onset[o] = None
            else:
                peak[o] = frame if x[o] > heard[peak[o], o] else peak[o]
                if not confirmed[o] and frame - onset[o] + 1 >= min_frames:
                    confirmed[o] = True
                    hit(o, "confirmed", None, frame)
    for o in range(labels):
        if onset[o] is not None:
            end = len(rows)
            hit(o, "ended" if confirmed[o] else "retracted", end, end - 1, truncated=True)
    return hits


def detect(detector: TagDetector, blocks: list[np.ndarray]) -> list[Hit]:
    """Run a detector over blocks of scores (frames, outputs), to their end."""
    hits = [hit for block in blocks for hit in detector.process(np.ascontiguousarray(block), len(block))]
    return hits + detector.flush()


@given(values=scores, on=st.sampled_from([0.3, 0.5, 0.9, 1.0]), smooth=smooths, min_frames=st.integers(0, 6))
def test_tags_are_those_of_the_rules(values: list[float], on: float, smooth: float, min_frames: int):
    """For any scores and settings the tags, phase by phase, are those that the rules, written out, give."""
    detector = TagDetector(1, [0], [on], [0.6 * on], smooth, min_frames)
    found = detect(detector, [np.array(values, np.float32).reshape(-1, 1)])
    assert found == naive_tags(np.array(values, np.float32).reshape(-1, 1), on, 0.6 * on, smooth, min_frames)


rows_of_three = st.lists(st.tuples(*[st.sampled_from([0.0, 0.2, 0.45, 0.6, 0.8, 1.0, float("nan")])] * 3), max_size=60)
several_votes = st.sampled_from([(1, 1), (1, 3), (2, 3), (3, 3), (5, 8)])


@given(
    values=rows_of_three,
    smooth=smooths,
    min_frames=st.integers(0, 4),
    votes=several_votes,
    top=st.sampled_from([None, 1, 2]),
    seed=st.integers(0, 999),
)
def test_votes_and_ranks_are_those_of_the_rules(
    values: list[tuple], smooth: float, min_frames: int, votes: tuple, top: int | None, seed: int
):
    """For any votes, ranks and split the tags of several labels are those that the rules, written out, give."""
    table = np.array(values, np.float32).reshape(-1, 3)
    detector = TagDetector(3, [0, 1, 2], [0.5] * 3, [0.3] * 3, smooth, min_frames, votes, top)
    assert detect(detector, pieces(table, seed)) == naive_tags(table, 0.5, 0.3, smooth, min_frames, votes, top)
    assert detector.certain


@given(
    values=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 3), max_size=60), smooth=smooths, seed=st.integers(0, 999)
)
def test_tags_do_not_depend_on_the_split(values: list[tuple], smooth: float, seed: int):
    """For any split of the scores of several outputs the tags are the same, and outputs not watched have none."""
    table = np.array(values, np.float32).reshape(-1, 3)
    found = [
        detect(TagDetector(3, [2, 0], [0.4, 0.6], [0.2, 0.6], smooth, 3), blocks)
        for blocks in (pieces(table, seed), [table])
    ]
    assert found[0] == found[1]
    assert all(hit.output != 1 for hit in found[0])


@given(values=scores, on=st.sampled_from([0.5, 0.9]), smooth=smooths, min_frames=st.integers(0, 6))
def test_every_tag_is_told_to_its_end(values: list[float], on: float, smooth: float, min_frames: int):
    """Hits of one onset come as provisional, then retracted, or confirmed and then ended; and the peak is in the tag."""
    detector = TagDetector(1, [0], [on], [0.5 * on], smooth, min_frames)
    found = detect(detector, [np.array(values, np.float32).reshape(-1, 1)])
    for onset, hits in itertools.groupby(found, key=lambda hit: hit.onset):
        hits = list(hits)
        phases = [hit.phase for hit in hits]
        assert phases in (["provisional", "retracted"], ["provisional", "confirmed", "ended"], ["confirmed", "ended"])
        assert onset <= hits[-1].peak < hits[-1].end
        assert hits[-1].score >= on * (1 - 1e-6)


@given(
    values=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 3), max_size=200),
    start=st.integers(0, 199),
    smooth=smooths,
    votes=several_votes,
    top=st.sampled_from([None, 1, 2]),
)
def test_an_unknown_past_is_certain_or_owned_up_to(
    values: list[tuple], start: int, smooth: float, votes: tuple, top: int | None
):
    """Started late, where nothing is on for a while, a detector decides as one that heard all, or says it is not certain."""
    table = np.array(values, np.float32).reshape(-1, 3)
    whole, late = (TagDetector(3, [0, 1, 2], [0.6] * 3, [0.3] * 3, smooth, 2, votes, top) for _ in range(2))
    start = len(table[:start])
    table[max(0, start - votes[1]) : start + late.memory] *= 0.5  # so little that nothing is on
    early = whole.process(table[:start], start)
    if whole.open:
        return
    late.reset(start, known=False)
    late_hits = detect(late, [table[start:]])
    hits = detect(whole, [table[start:]])
    assume(all(hit.onset >= start + late.memory for hit in hits))
    assert not late.certain or hits == late_hits
    assert all(hit.decided < start for hit in early)


def test_memory_is_long_enough_for_certainty():
    """After `memory` frames in which nothing began, decisions of an unknown past are certain."""
    detector = TagDetector(1, [0], [0.6], [0.3], 12.5, 1)
    detector.reset(0, known=False)
    table = np.r_[np.full(detector.memory, 0.55), np.linspace(0.55, 1, 50), np.zeros(100)].astype(np.float32)[:, None]
    assert [hit.phase for hit in detect(detector, [table])] == ["confirmed", "ended"]
    assert detector.certain


def test_a_decision_on_an_unknown_past_is_not_certain():
    """Where the smoothed score hangs on what was not heard, the detector says so."""
    detector = TagDetector(1, [0], [0.6], [0.3], 12.5, 1)
    detector.reset(0, known=False)
    detector.process(np.full((2, 1), 0.7, np.float32), 2)
    assert detector.certain  # it was told that nothing begins there
    detector.process(np.full((detector.memory, 1), 0.7, np.float32), detector.memory)
    assert not detector.certain
    detector.reset(0)
    assert not detector.certain  # what has been decided stays as uncertain as it was


@pytest.mark.parametrize("smooth", [0.1, 48_000.0, 3e6])
def test_a_slow_smoothing_comes_to_its_score(smooth: float):
    """However slow the smoothing, a constant score is reached, and a threshold above it never is."""
    constant = np.full((1 << 16, 1), 0.9, np.float32)
    below, above = (TagDetector(1, [0], [on], [0.1], smooth, 1) for on in (0.85, 0.95))
    hits, frames = [], math.ceil(6 * smooth)
    for _ in range(0, frames, len(constant)):
        hits += below.process(constant, len(constant))
        assert above.process(constant, len(constant)) == []
    (hit,) = hits
    wanted = math.log(1 - 0.85 / float(np.float32(0.9))) / -(1 / smooth) - 1
    assert hit.onset == pytest.approx(max(0, wanted), rel=1e-3, abs=1)


@pytest.mark.parametrize("smooth", [0.0, 3.0])
def test_a_tag_without_a_shortest_duration_is_confirmed_at_once(smooth: float):
    """With no minimum duration there is no provisional phase."""
    table = np.ones((20, 1), np.float32)
    first, last = detect(TagDetector(1, [0], [0.5], [0.25], smooth, 0), [table])
    assert (first.phase, first.end, last.phase, last.end, last.truncated) == ("confirmed", None, "ended", 20, True)

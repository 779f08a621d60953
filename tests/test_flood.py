"""The flood guard: what is told of too much, and that it hangs on nothing but the signal."""

from collections import Counter
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcnn.config import DetectorSettings, Duration, Measure, Peak, Tag, Trigger, Votes
from streamcnn.events import Detection, Event, Flood, Gap
from streamcnn.events import Measure as Measured
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.graph.layers import Dense, Pooling1D
from streamcnn.pipeline.listener import Listener
from streamcnn.pipeline.pipeline import Pipeline
from tests.graphs import pieces

RATE = 40  # Hz: many windows of a second in few samples
FEWER = max(50, settings.default.max_examples // 6)


def detectors(most: int) -> list[DetectorSettings]:
    """One detector of each kind, which may tell so many events a second."""
    span, votes = Duration(0.05), Votes(needed=2, of=3)
    return [
        Peak(threshold=0.5, refractory=span, merge=Duration(0.025), most_per_s=most),
        Trigger(on=0.6, off=0.2, min_duration=span, max_duration=Duration(0.3), hold_off=Duration(0.1), most_per_s=most),
        Tag(on=0.6, off=0.3, smooth=Duration(0.03), votes=votes, top=1, min_duration=span, most_per_s=most),
        Measure(every=Duration(0.1), change=0.7, statistic="mean", most_per_s=most),
    ]  # fmt: skip


def listeners(most: int) -> list[Listener]:
    """A listener for each, on nets of two outputs: at the stream's rate, at half of it, and one that is resampled."""
    same, labels = Dense(kernel=np.eye(2)), ("a", "b")
    plain = Graph.sequential([same], 2, NetInfo(name="plain", labels=labels))
    slower = Graph.sequential(
        [Pooling1D(by="max", pool=2, stride=2, padding="valid")], 2, NetInfo(name="s", labels=labels)
    )
    other = Graph.sequential([same], 2, NetInfo(name="other", labels=labels, rate=30))
    return [
        Listener(f"{graph.info.name}-{k}", graph, settings)
        for graph in (plain, slower, other)
        for k, settings in enumerate(detectors(most))
    ]


def told(x: np.ndarray, most: int, seed: int | None = None, *, mask_edges: bool = True) -> list[Event]:
    """Return the events of a signal, in random pieces where there is a seed."""
    pipeline = Pipeline("s", "x", RATE, 2, listeners(most), mask_edges=mask_edges)
    events = []
    for block in [x] if seed is None else pieces(x, seed):
        events += pipeline.process(np.ascontiguousarray(block))
    return events + pipeline.finish()


signals = st.builds(
    lambda seed, frames, bad: _with_gaps(np.random.default_rng(seed).uniform(0, 1, (frames, 2)).astype(np.float32), bad),
    st.integers(0, 10**6), st.integers(0, 900), st.lists(st.integers(0, 899), max_size=3),
)  # fmt: skip


def _with_gaps(x: np.ndarray, bad: list[int]) -> np.ndarray:
    x[[at for at in bad if at < len(x)]] = np.nan
    return x


@settings(max_examples=FEWER)
@given(x=signals, most=st.sampled_from([1, 2, 5, 1000]), seed=st.integers(0, 999))
def test_events_of_all_kinds_do_not_depend_on_the_split(x: np.ndarray, most: int, seed: int):
    """For any split, any gaps and any limit, all detectors on all rates give the same events in the same order."""
    assert told(x, most, seed) == told(x, most, 0) == told(x, most)


def begun(events: list[Event]) -> Counter:
    """Return how many events of each detector there are."""
    counted = Counter()
    for name in {event.detector for event in events if isinstance(event, Detection | Measured)}:
        of_it = [event for event in events if isinstance(event, Detection | Measured) and event.detector == name]
        counted[name] = len({event.id for event in of_it})
    return counted


@settings(max_examples=FEWER)
@given(x=signals, most=st.sampled_from([1, 2, 5]), mask=st.booleans())
def test_what_is_suppressed_is_counted(x: np.ndarray, most: int, mask: bool):
    """What is told is told as without a limit, from beginning to end, and together with what is suppressed it is all."""
    free, limited = told(x, 10**6, mask_edges=mask), told(x, most, mask_edges=mask)
    assert not [event for event in free if isinstance(event, Flood)]
    kept = [event for event in limited if not isinstance(event, Flood)]
    ids = {event.id for event in kept if isinstance(event, Detection | Measured)}
    assert kept == [event for event in free if isinstance(event, Gap) or event.id in ids]
    suppressed = Counter()
    for event in limited:
        if isinstance(event, Flood):
            assert event.start_sample < event.end_sample <= len(x) + 2
            assert event.end_sample - event.start_sample <= RATE + 2
            suppressed[event.detector] += event.suppressed
    assert begun(kept) + suppressed == begun(free)


def test_in_any_second_only_so_many_begin():
    """A detector that fires at every chance tells its limit in each second, and one flood event for the rest of it."""
    x = np.tile(np.array([[0, 0], [1, 0]], np.float32), (200, 1))  # ten seconds of a peak every second sample
    events = [event for event in told(x, 3) if getattr(event, "detector", None) == "plain-0"]
    floods = [event for event in events if isinstance(event, Flood)]
    assert [flood.start_sample for flood in floods] == list(range(0, 400, RATE))
    assert {event.suppressed for event in floods[1:-1]} <= {9, 10, 17, 18}
    seconds = Counter(
        Fraction(event.decided_sample, RATE).__floor__() for event in events if isinstance(event, Detection)
    )
    assert set(seconds.values()) == {3}

"""The way from the sound card's callback to records, in machine code: losses, pauses, switches, and measures."""

import ctypes
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcnn.clock import SECOND, Clock
from streamcnn.config import Peak
from streamcnn.daemon.guard import AT_EASE, BEHIND, FULL, SETTLE_S, WHILE_S, Guard
from streamcnn.events import Detection, Event, Gap
from streamcnn.graph import store
from streamcnn.inference.callback import Ear
from streamcnn.inference.latency import Latency, quantiles_s
from streamcnn.inference.realtime import be_real_time, core_for, mask_of
from streamcnn.inference.tables import FUNCTIONS_AT
from streamcnn.pipeline.listener import Listener
from streamcnn.pipeline.pipeline import Pipeline
from streamcnn.ring import DRIVER_OVERFLOW, Ring
from streamcnn.system import CLOCK_GETTIME, REALTIME, Bell, c_functions
from tests.conftest import wait_until
from tests.signals import RATE, ramps

LECTURE = Listener("ramp", store.load("ramp"), Peak())
BLOCK = 480


class Live:
    """A pipeline beside a ring whose blocks a test writes, with whatever times it likes, of which `now_s` is now."""

    def __init__(
        self,
        listeners: list[Listener] | None = None,
        now_s: float = 60.0,
        functions: np.ndarray | None = None,
        recording: Ring | None = None,
    ):
        self.lost, self._started_ns = 0, time.monotonic_ns() - round(now_s * SECOND)
        self.ring, self.news = Ring(1, 4 * RATE), Bell()
        self.pipeline = Pipeline("s", "x", RATE, 1, listeners or [LECTURE], clock=Clock(RATE))
        self.events: list[Event] = []
        if functions is not None:
            self.pipeline._functions = functions
            self.pipeline._table[FUNCTIONS_AT] = functions.ctypes.data
        arguments = (self.ring, self.news, recording)
        self._thread = threading.Thread(target=self.pipeline.listen, args=arguments, daemon=True)
        self._thread.start()

    def write(
        self,
        samples: np.ndarray,
        arrived_s: Callable[[int], float],
        *,
        lost: int = 0,
        flagged: bool = False,
        aged: bool = False,
        fits: bool = True,
    ) -> None:
        """Write a signal in blocks, behind `lost` frames that never come to the ring; times are those of positions.

        `aged`: the driver says how old each block is. `fits`: the ring takes them all.
        """
        self.lost += lost
        for first in range(0, len(samples), BLOCK):
            block, at = samples[first : first + BLOCK, None], self.ring.next_sample + self.lost
            arrived = self._started_ns + round((arrived_s(at) + len(block) / RATE) * SECOND)
            late_s = max(0.0, arrived_s(at) - at / RATE) if aged else 0.0
            age = round((len(block) / RATE + late_s) * SECOND)
            fitted = self.ring.write(block, arrived, age, driver_overflow=flagged and first == 0)
            assert fitted or not fits

    def settle(self) -> None:
        """Wait until all that was written is processed, and take the clock's word."""
        wait_until(lambda: self.ring.waiting_frames == 0, "the loop")
        self.events += [event for event, _ in self.pipeline.drain()]
        self.pipeline.follow_clock()

    def end(self) -> list[Event]:
        """End the session; return all events."""
        self.ring.close()
        self._thread.join()
        self.events += [event for event, _ in self.pipeline.drain()]
        return self.events + self.pipeline.finish()


def _seconds(sample: int) -> float:
    return sample / RATE


def _gaps(events: list[Event]) -> list[Gap]:
    return [event for event in events if isinstance(event, Gap)]


def test_frames_that_the_driver_lost_are_estimated_from_the_clock():
    """After a driver's report, positions go on as many frames later as the following blocks are late, and the gap says so."""
    live = Live()
    live.write(ramps([50_000], 2 * RATE), _seconds)
    live.settle()
    live.write(ramps([30_000], RATE), _seconds, lost=5_000, flagged=True)
    events = live.end()
    (gap,) = _gaps(events)
    assert (gap.start_sample, gap.cause) == (2 * RATE, "the driver lost frames")
    assert abs(gap.frames - 5_000) <= gap.frames_error < 200
    first, second = (event.sample for event in events if isinstance(event, Detection))
    assert (first, second - gap.frames) == (50_000, 2 * RATE + 30_000)


def test_late_blocks_after_a_report_do_not_count_as_lost():
    """Of the blocks that follow a report the least late one tells how much was lost, not the first."""
    live = Live(now_s=2.25)
    live.write(np.zeros(2 * RATE, np.float32), _seconds)
    live.settle()
    late = iter([0.2, 0.19, 0.18, *([0.0] * 1000)])
    live.write(np.zeros(RATE, np.float32), lambda at: at / RATE + next(late), lost=1_000, flagged=True)
    (gap,) = _gaps(live.end())
    assert abs(gap.frames - 1_000) <= gap.frames_error < 200


def test_without_a_clock_the_number_of_lost_frames_is_not_guessed():
    """A driver's report before anything is known of its clock gives a gap of unknown length."""
    live = Live()
    live.write(np.zeros(1000, np.float32), _seconds, flagged=True)
    (gap,) = _gaps(live.end())
    assert (gap.frames, gap.frames_error) == (0, None)


def test_a_source_that_stalled_has_lost_what_it_does_not_send_afterwards():
    """After a pause without a report, frames that never come are a gap."""
    live = Live()
    live.write(np.zeros(2 * RATE, np.float32), _seconds)
    live.settle()
    live.write(ramps([20_000], RATE), _seconds, lost=3 * RATE)
    events = live.end()
    (gap,) = _gaps(events)
    assert gap.cause == "the source stalled"
    assert abs(gap.frames - 3 * RATE) <= gap.frames_error < 200
    assert [event.sample - gap.frames for event in events if isinstance(event, Detection)] == [2 * RATE + 20_000]


def test_a_source_that_stalled_and_sends_all_of_it_has_lost_nothing():
    """Blocks that come late, all at once, after a pause are taken as they are."""
    live = Live(now_s=4.95)
    live.write(np.zeros(2 * RATE, np.float32), _seconds)
    live.settle()
    live.write(ramps([100_000], 3 * RATE), lambda at: max(at / RATE, 4.9))
    events = live.end()
    assert _gaps(events) == []
    assert [event.sample for event in events if isinstance(event, Detection)] == [2 * RATE + 100_000]


@pytest.mark.parametrize("aged", [False, True])
def test_what_the_server_dropped_at_the_end_of_a_stop_is_missing_there(aged: bool):
    """After a stop, what was kept goes on where it was; the newest frames, which the server dropped, are missing behind it."""
    live = Live(now_s=11.55)
    live.write(np.zeros(2 * RATE, np.float32), _seconds)
    live.settle()
    live.write(ramps([100_000], 3 * RATE), lambda at: max(at / RATE, 11.5), aged=aged)
    live.write(ramps([10_000], RATE // 2), _seconds, lost=int(6.5 * RATE))
    events = live.end()
    (gap,) = _gaps(events)
    assert gap.start_sample == pytest.approx(5 * RATE, abs=BLOCK)
    assert abs(gap.frames - 6.5 * RATE) <= gap.frames_error < 200
    assert gap.cause == "streamcnn was stopped, and more came meanwhile than is kept for it"
    first, second = (event.sample for event in events if isinstance(event, Detection))
    assert (first, second - gap.frames) == (2 * RATE + 100_000, 5 * RATE + 10_000)


def test_what_the_server_dropped_at_the_beginning_of_a_stop_is_missing_there():
    """Where the ages of what was kept say that it is the newest, the frames before it are missing."""
    live = Live(now_s=11.55)
    live.write(np.zeros(2 * RATE, np.float32), _seconds)
    live.settle()
    live.write(ramps([100_000], 3 * RATE), lambda at: max(at / RATE, 11.5), lost=int(6.5 * RATE), aged=True)
    live.write(ramps([10_000], RATE // 2), _seconds)
    events = live.end()
    (gap,) = _gaps(events)
    assert gap.start_sample == 2 * RATE
    assert abs(gap.frames - 6.5 * RATE) <= gap.frames_error < 200
    first, second = (event.sample - gap.frames for event in events if isinstance(event, Detection))
    assert (first, second) == (2 * RATE + 100_000, 5 * RATE + 10_000)


def test_a_report_within_what_was_kept_does_not_take_the_loss_behind_it():
    """A driver's report among frames that were kept is a gap of unknown length; what is missing is missing behind them."""
    live = Live(now_s=12.05)
    live.write(np.zeros(2 * RATE, np.float32), _seconds)
    live.settle()
    live.write(np.zeros(RATE, np.float32), lambda at: max(at / RATE, 12.0))
    live.write(ramps([10_000], RATE), lambda at: max(at / RATE, 12.0), flagged=True)
    live.write(ramps([10_000], RATE // 2), _seconds, lost=8 * RATE)
    events = live.end()
    reported, missing = _gaps(events)
    assert (reported.start_sample, reported.frames, reported.frames_error) == (3 * RATE, 0, None)
    assert missing.start_sample == pytest.approx(4 * RATE, abs=BLOCK)
    assert abs(missing.frames - 8 * RATE) <= missing.frames_error < 200
    first, second = (event.sample for event in events if isinstance(event, Detection))
    assert (first, second - missing.frames) == (3 * RATE + 10_000, 4 * RATE + 10_000)


@pytest.mark.parametrize("late_s", [0.0, 3.0])
def test_a_recording_that_nobody_reads_stops_no_inference(late_s: float):
    """After a driver's report, or after a stop, a disk that hangs costs the recording its frames, and nothing else."""
    live = Live(now_s=2.0 + late_s + 0.05, recording=Ring(1, RATE // 2))
    live.write(np.zeros(2 * RATE, np.float32), _seconds)
    live.settle()
    held = 2.0 + late_s
    live.write(ramps([10_000], 3 * RATE), lambda at: max(at / RATE, held), flagged=late_s == 0)
    live.write(np.zeros(RATE, np.float32), lambda at: max(at / RATE, held), fits=False)
    wait_until(lambda: live.pipeline.sample >= 5 * RATE, "the loop to go on")
    (found,) = (event for event in live.end() if isinstance(event, Detection))
    assert found.sample == 2 * RATE + 10_000


def test_what_the_ring_cannot_take_after_a_stop_is_not_blamed_on_inference():
    """Where more was kept for us than the ring holds, the rest is counted exactly, and the stop is the cause."""
    live = Live(now_s=9.55)
    live.write(np.zeros(2 * RATE, np.float32), _seconds)
    live.settle()
    live.write(np.zeros(7 * RATE, np.float32), lambda at: max(at / RATE, 9.5), fits=False)
    wait_until(lambda: live.ring.waiting_frames == 0, "the loop to take what the ring holds")
    live.write(ramps([10_000], RATE // 2), lambda at: max(at / RATE, 9.5))
    events = live.end()
    (gap,) = _gaps(events)
    assert (gap.frames, gap.frames_error) == (live.ring.lost_frames, 0)
    assert gap.cause == "streamcnn was stopped, and more came meanwhile than is kept for it"
    assert [event.sample for event in events if isinstance(event, Detection)] == [9 * RATE + 10_000]


def test_utc_follows_the_cards_clock():
    """Live events carry the time at which their sample was converted, by the card's times."""
    live = Live()
    live.write(ramps([RATE], 2 * RATE), _seconds)
    live.settle()
    live.write(ramps([RATE // 2], RATE), _seconds)
    live.settle()
    first, second = (event for event in live.end() if isinstance(event, Detection))
    assert (second.time - first.time).total_seconds() == pytest.approx(1.5, abs=0.01)
    assert second.time_error_s < 0.01


def test_a_step_of_the_hosts_clock_changes_times_and_nothing_else():
    """While the host's clock is set forward by an hour, a live stream's drift stays, and its times follow."""
    stepped, library = threading.Event(), ctypes.CDLL(None)

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int64))
    def clock_gettime(which: int, place: object) -> int:
        done = library.clock_gettime(which, place)
        if which == REALTIME and stepped.is_set():
            place[0] += 3600
        return done

    functions = c_functions().copy()
    functions[CLOCK_GETTIME] = ctypes.cast(clock_gettime, ctypes.c_void_p).value
    live = Live(functions=functions)
    for second in range(40):
        live.write(ramps([1000], RATE), _seconds)
        live.settle()
        if second == 34:
            before = live.pipeline.clock.estimate.drift
            stepped.set()
    drift = live.pipeline.clock.estimate.drift
    times = [event.time.timestamp() for event in live.end() if isinstance(event, Detection)]
    assert np.abs(np.diff(times[:34]) - 1).max() < 0.01
    assert times[-1] - times[30] == pytest.approx(3600 + 9, abs=0.01)
    assert before == pytest.approx(0, abs=1e-6)
    assert drift == pytest.approx(0, abs=1e-6)


def test_a_net_is_switched_between_blocks():
    """A net that is not wanted ends what is open with it; back again, it is masked until it sees no zeros."""
    other = Listener("other", store.load("ramp").with_info(name="other"), Peak())
    live = Live([LECTURE, other])
    live.write(ramps([1000], 2000), _seconds)
    live.settle()
    live.pipeline.want([True, False])
    live.write(ramps([1000], 2000), _seconds)
    live.settle()
    assert live.pipeline.on == [True, False]
    live.pipeline.want([True, True])
    live.write(ramps([1000], 2000), _seconds)
    found = [(event.detector, event.sample) for event in live.end() if isinstance(event, Detection)]
    assert found == [("ramp", 1000), ("other", 1000), ("ramp", 3000), ("ramp", 5000), ("other", 5000)]


def test_nothing_is_lost_when_nobody_reads_the_records():
    """Inference waits until its records are read, and goes on where it was."""
    graph = store.load("ramp").with_info(threshold=-1.0)
    live = Live([Listener("all", graph, Peak(threshold=-1.0, refractory=0.0, most_per_s=10**6))])
    live.write(np.zeros(3 * RATE, np.float32), _seconds)
    wait_until(lambda: live.pipeline.sample > 3000, "the loop to fill the records")
    stuck = live.pipeline.sample
    assert stuck < RATE
    drained = []
    wait_until(lambda: drained.extend(live.pipeline.drain()) or live.pipeline.sample == 3 * RATE, "the loop to go on")
    live.events = [event for event, _ in drained]
    samples = [event.sample for event in live.end() if isinstance(event, Detection)]
    assert samples == list(range(samples[0], 3 * RATE - 3))


def _portaudio_times(adc_s: float, current_s: float) -> np.ndarray:
    return np.array([adc_s, current_s, 0.0])


@pytest.mark.parametrize("native", [True, False], ids=["C", "Python"])
@pytest.mark.parametrize("channels", [(1,), (2,), (1, 2), (3, 1)])
def test_the_callback_takes_the_wanted_channels(native: bool, channels: tuple[int, ...]):
    """Called as PortAudio calls it, or through Python, it writes the same: channels, ages, and reports."""
    ring = Ring(len(channels), 1000)
    ear = Ear(ring, channels, RATE)
    samples = np.random.default_rng(0).normal(0, 1, (96, max(channels))).astype(np.float32)
    kind = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p
    )
    for times, overflow in (((7.0, 7.05), False), ((0.0, 3.0), True), ((9.0, 8.0), False)):
        if native:
            called = kind(ear.code)
            buffer = _portaudio_times(*times)
            answer = called(samples.ctypes.data, None, 96, buffer.ctypes.data, 2 * overflow, ear.address)
            assert answer == 0
        else:
            ear.hear(samples, *times, overflow=overflow)
    first, second, third = ring.rest()
    assert np.array_equal(third.samples, samples[:, np.array(channels) - 1])
    assert first.age_ns == pytest.approx(50e6, abs=2)
    assert (
        second.age_ns == third.age_ns == 96 * 10**9 // RATE
    )  # where the host's times make no sense, the block's own length
    assert (first.flags, second.flags) == (0, DRIVER_OVERFLOW)
    assert ear.took.counts.sum() == 3


def test_the_callback_counts_what_does_not_fit():
    """A full ring drops the block, counts it, and the numbers of later samples are right."""
    ring = Ring(1, 100)
    ear = Ear(ring, (1,), RATE)
    for _ in range(3):
        ear.hear(np.zeros((60, 1), np.float32), 0.0, 0.0, overflow=False)
    assert (ring.overflows, ring.lost_frames, ring.next_sample) == (2, 120, 180)


@given(times=st.lists(st.integers(0, 10**10), min_size=1, max_size=200))
def test_quantiles_are_within_six_percent(times: list[int]):
    """Whatever was counted, the histogram's quantiles are those of the times, at most one place above."""
    latency = Latency()
    for ns in times:
        latency.add(ns)
    shares = (0.5, 0.99, 1.0)
    exact = np.sort(times)[np.ceil(np.multiply(shares, len(times))).astype(int) - 1] / 1e9
    got = np.array(quantiles_s(latency.recent, shares))
    assert (got >= exact).all()
    assert (got <= exact * 1.0626 + 2e-9).all()
    assert quantiles_s(Latency().recent, shares) is None


def test_what_is_recent_ends_with_the_turn_before_the_last():
    """Quantiles are of the current spell and the one before it."""
    latency = Latency()
    latency.add(100)
    latency.turn()
    latency.add(200)
    assert latency.recent.sum() == 2
    latency.turn()
    assert latency.recent.sum() == 1


def test_real_time_is_asked_for_and_its_refusal_reported():
    """A thread gets real-time scheduling and locked memory, or a line for each that it does not get."""
    refused: list[str] = []
    thread = threading.Thread(target=lambda: refused.extend(be_real_time([np.zeros(1000)], core_for(0))))
    thread.start()
    thread.join()
    assert all(line.startswith(("real-time scheduling", "locked memory")) for line in refused)
    assert mask_of(3).tolist() == [8]
    assert mask_of(64).tolist() == [0, 1]
    assert mask_of(None).tolist() == []


# The deadline guard


def test_the_least_important_nets_go_first_and_come_back_last():
    """Behind its deadlines, nets are switched off by importance, one after the other; the essential ones never."""
    guard, now = Guard([None, 2, 1]), 0.0
    assert guard.decide(0.0, 0.9, [0.3, 0.3, 0.3], now) == [True, True, True]
    for expected in ([True, True, False], [True, False, False], [True, False, False]):
        now += SETTLE_S
        assert guard.decide(2 * BEHIND, 0.9, [0.3, 0.3, 0.3], now) == expected
        assert guard.behind
        assert (
            guard.decide(2 * BEHIND, 0.9, [0.3, 0.3, 0.3], now + 0.1 * SETTLE_S) == expected
        )  # it takes a moment to help
    now += WHILE_S - 1
    assert guard.decide(0.0, 0.3, [0.3, 0, 0], now) == [True, False, False]
    now += 1.1
    assert guard.decide(0.0, 0.3, [0.3, 0, 0], now) == [True, True, False]
    now += 1.1 * WHILE_S
    assert guard.decide(0.0, 0.6, [0.3, 0.3, 0], now) == [True, True, False]  # no room for it
    assert guard.decide(0.0, FULL - 0.3, [0.3, 0.3, 0], now) == [True, True, True]


def test_a_net_that_came_back_too_early_stays_away_longer():
    """Each relapse doubles the time until the next attempt."""
    guard, now, waits = Guard([None, 0]), 1000.0, []
    for _ in range(4):
        assert guard.decide(2 * BEHIND, 1.0, [0.4, 0.6], now) == [True, False]
        left = now
        while not guard.decide(0.5 * AT_EASE, 0.1, [0.1, 0], now)[1]:
            now += 0.5
        waits.append(now - left)
        now += SETTLE_S
    assert np.allclose(np.diff(np.log2(waits)), 1, atol=0.1)


def test_without_optional_nets_nothing_is_switched():
    """Nets without an importance stay on, however far behind they are; that they are behind is known."""
    guard = Guard([None, None])
    assert guard.decide(0.9, 1.0, [0.5, 0.5], 1.0) == [True, True]
    assert guard.behind

"""The daemon's composition: streams, threads, and an orderly end."""

import itertools
import os
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from streamcnn.config import Config, Net, Peak, Source, Stream
from streamcnn.daemon import health, service
from streamcnn.daemon import stream as stream_module
from streamcnn.daemon.stream import StreamService
from streamcnn.daemon.systemd import ServiceManager
from streamcnn.errors import DeviceError, InputError, RunError, SourceLostError
from streamcnn.events import Detection, Event, Gap, Health
from streamcnn.graph import store
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.graph.layers import Conv1D, Dense
from streamcnn.pipeline.listener import Listener
from streamcnn.replaying import replay
from streamcnn.ring import Ring
from streamcnn.sinks.recording import Switched, control_track
from streamcnn.sources import opening, soundcard
from streamcnn.sources.demo import Demo, demo_signal, ramp_spacing
from streamcnn.sources.live import ThreadedSource
from streamcnn.sources.raw import Raw
from streamcnn.system import Bell
from tests.conftest import wait_until
from tests.signals import RATE, ramps

LECTURE = Listener("ramp", store.load("ramp"), Peak())


class Script(ThreadedSource):
    """A source that does what a test tells it."""

    paced = False

    def __init__(self, act: object):
        super().__init__(RATE, 1, 4096)
        self._act = act

    @property
    def title(self) -> str:
        """Its name in messages."""
        return "the script"

    def _run(self, ring: Ring) -> None:
        self._act(ring)


def run(source: object, duration_s: float | None = 20.0, stopped: object = lambda: False) -> list[Event]:
    """Run one stream to its end and return its events."""
    news = Bell()
    stream = StreamService("s", source, [LECTURE], 1.0, news)
    return list(service.run([stream], news, None, stopped, duration_s))


def test_a_source_is_heard_to_its_last_frame():
    """Every frame that the source wrote is processed, and the last event is health with the state 'ended'."""
    x = ramps([700, 9990], 10_000)
    events = run(Script(lambda ring: [ring.write(block[:, None]) for block in np.array_split(x, 33)]))
    found = [event for event in events if isinstance(event, Detection)]
    assert [event.sample for event in found] == [700, 9990]
    assert all(event.detected_at is not None for event in found)
    assert (events[-1].state, events[-1].sample, events[-1].detections) == ("ended", 10_000, 2)


def test_a_ring_overflow_becomes_a_gap_event():
    """Blocks that the ring could not take are reported with their exact place and number, and positions stay true."""
    x = ramps([500_000], 600_000)

    def flood(ring: Ring) -> None:
        ring.write(x[:1000, None])
        ring.write(x[1000 : 1000 + ring.capacity + 1, None])  # larger than the ring
        rest = x[1001 + ring.capacity :, None]
        for block in np.array_split(rest, len(rest) // 5000):
            while not ring.wait_for_room(len(block), 1.0):
                pass
            ring.write(block)

    events = run(Script(flood))
    (gap,) = [event for event in events if isinstance(event, Gap)]
    lost = 2 * RATE + 1
    assert (gap.start_sample, gap.frames, gap.frames_error) == (1000, lost, 0)
    assert [event.sample for event in events if isinstance(event, Detection)] == [500_000]
    assert (events[-1].overflows, events[-1].lost_frames, events[-1].sample) == (1, lost, 600_000)


def test_frames_lost_at_the_very_end_are_reported_too():
    """An overflow that nothing follows is still a gap event."""
    events = run(Script(lambda ring: ring.write(np.zeros((ring.capacity + 7, 1), np.float32))))
    assert [(event.start_sample, event.frames) for event in events if isinstance(event, Gap)] == [(0, 2 * RATE + 7)]


def test_a_failing_source_ends_the_run_with_its_reason():
    """What a source dies of is raised after its last events are out."""

    def fail(ring: Ring) -> None:
        ring.write(ramps([700], 1000)[:, None])
        raise SourceLostError("unplugged")

    news = Bell()
    stream = StreamService("s", Script(fail), [LECTURE], 1.0, news)
    seen = []
    with pytest.raises(SourceLostError, match="unplugged"):
        seen.extend(service.run([stream], news, None, lambda: False))
    # `extend` keeps what was yielded before the error
    assert [event.sample for event in seen if isinstance(event, Detection)] == [700]


def test_a_bug_in_a_source_is_not_swallowed():
    """An unforeseen error in a thread ends the run as a failure that names the stream."""
    with pytest.raises(RunError, match="stream 's' failed: ZeroDivisionError"):
        run(Script(lambda ring: 1 / 0))


def test_a_silent_device_is_noticed(monkeypatch: pytest.MonkeyPatch):
    """A paced source that delivers nothing is an error, since a lost device reports nothing by itself."""
    monkeypatch.setattr(health, "STALLED_S", 0.3)
    source = Script(lambda ring: source._stopping.wait(20))
    source.paced = True
    with pytest.raises(SourceLostError, match="the script delivered nothing"):
        run(source)


def test_duration_and_stopping_end_a_run():
    """A run ends after its duration, and when it is told to stop; both end in an orderly way."""
    source = Script(lambda ring: source._stopping.wait(20))
    assert run(source, duration_s=0.2)[-1].state == "ended"
    flag = threading.Event()
    source = Script(lambda ring: flag.set() or source._stopping.wait(20))
    assert run(source, stopped=flag.is_set)[-1].state == "ended"


def test_silence_is_called_no_signal(monkeypatch: pytest.MonkeyPatch):
    """Health says 'no signal' where the input is digital silence, and its level where it is not."""
    monkeypatch.setattr(service, "HEALTH_EVERY_S", 0.05)

    def states(value: float) -> set[tuple]:
        source = Script(
            lambda ring: [
                ring.write(np.full((480, 1), value, np.float32)) for _ in range(20) if not source._stopping.wait(0.02)
            ]
        )
        return {(e.state, e.level_dbfs) for e in run(source) if isinstance(e, Health) and e.state != "ended"}

    assert states(0.0) == {("no signal", None)}
    assert ("running", -6.0) in states(0.5)


def test_the_demo_is_a_function_of_the_sample():
    """The demo's blocks are the demo's signal, whatever the block size, with a ramp's end at each half second."""
    whole = demo_signal(0, 3 * RATE, RATE)
    parts = [demo_signal(start, 1000, RATE) for start in range(0, 3 * RATE, 1000)]
    assert np.array_equal(np.concatenate(parts), whole)
    ends = np.flatnonzero(whole > 0.9)
    assert ends.tolist() == list(range(ramp_spacing(RATE), 3 * RATE, ramp_spacing(RATE)))
    written, ring = [], Ring(1, 10 * RATE)
    source = Demo(RATE, 1, 777)
    source.start(ring)
    wait_until(lambda: ring.waiting_frames > 1.2 * RATE, "the demo")
    source.stop()
    for block in ring.rest():
        written.append(block.samples.copy())
    heard = np.concatenate(written)[:, 0]
    assert np.array_equal(heard, whole[: len(heard)])


def test_the_demos_ramps_are_heard_at_their_samples():
    """Live, through threads and ring, the demo's detections stand at the signal's ramps."""
    found = [event for event in run(Demo(RATE, 1, 256), duration_s=1.7) if isinstance(event, Detection)]
    assert [event.sample for event in found] == [24_000, 48_000, 72_000]
    assert all(event.time is not None and event.time_error_s < 0.5 for event in found)


def _raw(data: bytes, channels: tuple[int, ...]) -> list[Event]:
    read, write = os.pipe()
    with open(read, "rb") as reader, open(write, "wb") as writer:

        def feed() -> None:
            writer.write(data)
            writer.close()

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            return run(Raw(RATE, channels, reader))
        finally:
            feeder.join()


def test_raw_frames_are_read_without_loss():
    """Ten seconds of raw stereo, faster than real time: every frame is processed, in the right channel."""
    right = ramps([700, 479_000], 480_000)
    data = np.stack([np.zeros_like(right), right], axis=1).tobytes()
    events = _raw(data, (2,))
    assert [event.sample for event in events if isinstance(event, Detection)] == [700, 479_000]
    assert (events[-1].sample, events[-1].overflows) == (480_000, 0)


def test_raw_input_that_ends_inside_a_frame_is_reported():
    """Bytes that make no whole frame are not dropped in silence."""
    with pytest.raises(SourceLostError, match="3 of 4 bytes"):
        _raw(np.zeros(100, np.float32).tobytes() + b"abc", (1,))


@pytest.mark.parametrize("rate", [100, 1000, 2000])
def test_slow_streams_fit_too(rate: int):
    """Raw input at rates far below audio is processed, whatever the pipe delivers at once."""
    listener = Listener("ramp", store.load("ramp").with_info(rate=rate), Peak())
    news = Bell()
    read, write = os.pipe()
    with open(read, "rb") as reader, open(write, "wb") as writer:
        feeder = threading.Thread(target=lambda: (writer.write(ramps([700, 29_000], 30_000).tobytes()), writer.close()))
        feeder.start()
        stream = StreamService("s", Raw(rate, (1,), reader), [listener], 1.0, news)
        found = list(service.run([stream], news, None, lambda: False, 20.0))
        feeder.join()
    assert [event.sample for event in found if isinstance(event, Detection)] == [700, 29_000]
    assert (found[-1].sample, found[-1].lost_frames) == (30_000, 0)
    times = [event.time_s for event in found if isinstance(event, Detection)]
    assert times == pytest.approx([700 / rate, 29_000 / rate], abs=0.5 / rate)


def test_long_blocks_fit_into_the_ring():
    """A block longer than two seconds is no overflow, and the demo's long blocks are the demo's signal."""
    source, ring = Demo(1000, 1, 3500), Ring(1, 100_000)
    source.start(ring)
    wait_until(lambda: ring.waiting_frames, "a block")
    first = next(ring.rest())
    source.stop()
    assert np.array_equal(first.samples[:, 0], demo_signal(0, 3500, 1000))
    stream = StreamService("s", source, [LECTURE], 1.0, Bell())
    assert stream._ring.capacity >= 4 * 3500


def test_a_machine_that_cannot_keep_up_does_without_optional_nets(tmp_path: Path):
    """Where the ring fills, that is said at once and the optional net goes; no frame is lost, and the recording knows."""
    random = np.random.default_rng(0)
    layers = [
        Conv1D(kernel=random.normal(0, 0.01, (9, inputs, 512)), padding="causal") for inputs in (1, 512, 512, 512)
    ]
    heavy = Graph.sequential(
        [*layers, Dense(kernel=np.zeros((512, 1)))], info=NetInfo(name="heavy", rate=RATE, threshold=1)
    )
    heavy.save(tmp_path / "heavy.safetensors")
    listeners = [LECTURE, Listener("heavy", heavy, Peak())]
    news, path = Bell(), tmp_path / "x.wav"
    source = Demo(RATE, 1, 256)
    stream = StreamService("s", source, listeners, 1.0, news, importances=[None, 0], record_to=path)
    events = []
    for event in service.run([stream], news, None, lambda: False, 4.0):
        events.append(event)
    reports = [event for event in events if isinstance(event, Health)]
    behind = next(report for report in reports if report.state == "behind")
    assert behind.costs["heavy"] > 10 * behind.costs["ramp"]
    assert any(report.nets_off == ("heavy",) for report in reports)
    assert max(report.ring_high_water for report in reports) < 1
    assert [event for event in events if isinstance(event, Gap)] == []
    found = [event for event in events if isinstance(event, Detection)]
    assert [event.sample for event in found] == list(range(24_000, reports[-1].sample, 24_000))
    assert [(entry.net, entry.on) for entry in control_track(path) if isinstance(entry, Switched)] == [("heavy", False)]
    nets = (Net(name="ramp", net="ramp"), Net(name="heavy", net=str(tmp_path / "heavy.safetensors")))
    again = replay(path, Config(streams=(Stream(name="s", nets=nets),)))
    assert [event.id for event in again] == [event.id for event in found]


def test_a_stream_in_which_nothing_happens_goes_on(monkeypatch: pytest.MonkeyPatch):
    """Without any event for longer than the records have room for, every frame is processed, and the clock is known."""
    monkeypatch.setattr(service, "HEALTH_EVERY_S", 0.05)
    seconds, silence = 1000, np.zeros((RATE // 10, 1), np.float32)
    began_ns = time.monotonic_ns()

    def act(ring: Ring) -> None:
        for tenth in range(10 * seconds):
            while not ring.wait_for_room(len(silence), 1.0):
                pass
            ring.write(silence, began_ns + tenth * 10**8, 10**8)

    source = Script(act)
    source.paced = True
    *_, before, last = [event for event in run(source, 60.0) if isinstance(event, Health)]
    assert last.sample == seconds * RATE
    assert before.drift_ppm == pytest.approx(0, abs=0.1)


def test_a_card_that_cannot_have_the_nets_rate_is_opened_at_its_own(monkeypatch: pytest.MonkeyPatch):
    """Where no rate is configured, a card that refuses the nets' rate runs at its own; a configured one is not overruled."""

    def card(device: str, rate: int, channels: tuple[int, ...], block: int) -> int:
        if rate != 44_100:
            raise DeviceError(f"not at {rate} Hz")
        return rate

    monkeypatch.setattr(soundcard, "SoundCard", card)
    monkeypatch.setattr(soundcard, "find_device", lambda name: soundcard.Device(0, name, "test", 2, 44_100.0, True))
    assert opening.opened(Source(device="usb"), 8000, lambda: None) == 44_100
    with pytest.raises(DeviceError, match="not at 8000 Hz"):
        opening.opened(Source(device="usb", rate=8000), 8000, lambda: None)


class Manager:
    """Writes down what a service manager is told."""

    def __init__(self):
        self.told: list[str] = []

    def __getattr__(self, name: str) -> object:
        return lambda *text: self.told.append(" ".join((name, *text)))


@pytest.mark.parametrize(
    ("paced", "beats", "ready"), [(True, True, True), (True, False, False), (False, False, True)], ids=str
)
def test_only_progress_feeds_the_watchdog(monkeypatch: pytest.MonkeyPatch, paced: bool, beats: bool, ready: bool):
    """The manager hears that all is ready once frames are processed, and is fed while more come; a pipe may come later."""
    monkeypatch.setattr(service, "HEALTH_EVERY_S", 0.05)

    def act(ring: Ring) -> None:
        while not source._stopping.wait(0.01):
            if beats:
                ring.write(np.zeros((64, 1), np.float32))

    source, manager = Script(act), Manager()
    source.paced = paced
    news = Bell()
    stream = StreamService("s", source, [LECTURE], 1.0, news)
    list(service.run([stream], news, None, lambda: len(manager.told) > 12, 30.0, manager))
    assert ("ready" in manager.told) == ready
    assert ("alive" in manager.told) == (beats or not paced)
    state = "no signal, silent" if beats else "opening, nothing heard"
    assert any(line.startswith(f"status s: {state}, 0 detections") for line in manager.told)
    assert manager.told[-1] == "stopping"


def test_streams_that_progress_in_turn_feed_the_watchdog(monkeypatch: pytest.MonkeyPatch):
    """Two streams whose blocks are longer than the time between reports are both at work, and their levels stand."""
    monkeypatch.setattr(service, "HEALTH_EVERY_S", 0.02)
    turn = itertools.count()

    def act(ring: Ring) -> None:
        while not ring_source._stopping.wait(0.01):
            if next(turn) % 10 == 0:  # the one or the other, and rarely
                ring.write(np.full((64, 1), 0.5, np.float32))

    news = Bell()
    manager, streams = Manager(), []
    for name in "ab":
        source = ring_source = Script(act)
        source.paced = True
        streams.append(StreamService(name, source, [LECTURE], 1.0, news))
    states = []
    for event in service.run(streams, news, None, lambda: manager.told.count("alive") > 3, 30.0, manager):
        if isinstance(event, Health) and event.sample > 200 and event.state == "running":  # on a busy machine one may pause
            states.append(event.level_dbfs)
    assert manager.told.count("alive") > 3
    assert set(states) == {-6.0}


def test_inference_that_hangs_does_not_feed_the_watchdog(monkeypatch: pytest.MonkeyPatch):
    """While audio comes in and nothing is processed, the watchdog starves."""
    monkeypatch.setattr(service, "HEALTH_EVERY_S", 0.05)
    hanging = threading.Event()
    listen = stream_module.Pipeline.listen
    monkeypatch.setattr(
        stream_module.Pipeline, "listen", lambda *these, **more: (hanging.wait(20), listen(*these, **more))[1]
    )

    def act(ring: Ring) -> None:
        while not source._stopping.wait(0.01):
            ring.write(np.zeros((64, 1), np.float32))

    source, manager = Script(act), Manager()
    source.paced = True
    news = Bell()
    stream = StreamService("s", source, [LECTURE], 1.0, news)
    try:
        for _ in service.run([stream], news, None, lambda: len(manager.told) > 12, 30.0, manager):
            if len(manager.told) > 10 and not hanging.is_set():
                assert "alive" not in manager.told
                assert "ready" not in manager.told
                hanging.set()
    finally:
        hanging.set()


def test_what_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Messages arrive as datagrams at NOTIFY_SOCKET, and go nowhere, without harm, where nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        manager = ServiceManager()
        manager.ready()
        manager.status("two\nlines")
        manager.alive()
        manager.stopping()
        assert [listening.recv(100) for _ in range(4)] == [
            b"READY=1",
            b"STATUS=two lines",
            b"WATCHDOG=1",
            b"STOPPING=1",
        ]
    manager.alive()
    monkeypatch.delenv("NOTIFY_SOCKET")
    ServiceManager().ready()


def test_the_demo_has_the_channels_that_are_wanted():
    """Channels of the demo are counted from 1; one that it does not have is refused."""
    assert opening.opened(Source(channels=(1, 2)), RATE, lambda: None).channels == 2
    with pytest.raises(InputError, match="channels 1 to 1 where 1 are wanted, not 3"):
        opening.opened(Source(channels=(3,)), RATE, lambda: None)

"""Recordings: readable at any time, and replayed to the events that were given live (law 7)."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcnn import config
from streamcnn.clock import SECOND, Clock
from streamcnn.errors import InputError, StreamcnnError
from streamcnn.events import Detection, Event, Gap, Health, Measure
from streamcnn.graph import store
from streamcnn.pipeline.listener import load_listeners
from streamcnn.pipeline.pipeline import Pipeline
from streamcnn.replaying import replay
from streamcnn.ring import MAX_BLOCKS, UNKNOWN, Block, Ring
from streamcnn.sinks import recording as recordings
from streamcnn.sinks.recording import End, Lost, Recording, Session, Switched, control_path, control_track
from streamcnn.sinks.tape import Tape
from streamcnn.sources.wav import AudioFile
from streamcnn.system import Bell
from streamcnn.wire.subscriber import Subscriber
from tests.conftest import Cli, SoundServer, wait_until
from tests.signals import RATE, ramps, write

EDGE = 300  # frames around which a step puts ramps


@pytest.fixture(scope="module")
def settings_(tmp_path_factory: pytest.TempPathFactory) -> config.Config:
    """Nets of two rates, two of which may be switched off, and detectors of all kinds, some with little to tell in a second."""
    folder = tmp_path_factory.mktemp("nets")
    store.load("ramp").with_info(rate=16_000, name="slow").save(folder / "slow.safetensors")
    store.load("ramp").with_info(name="tag").save(folder / "tag.safetensors")
    tag = config.Tag(on=0.5, off=0.2, smooth=config.Duration(0.00002), min_duration=config.Duration(0.00004))
    nets = (
        config.Net(name="ramp", net="ramp"),
        config.Net(name="slow", net=str(folder / "slow.safetensors"), importance=1),
        config.Net(name="tag", net=str(folder / "tag.safetensors"), detector=tag, importance=0),
        config.Net(name="trigger", net="ramp", detector=config.Trigger(on=0.5, off=0.2, most_per_s=3)),
        config.Net(
            name="value", net="ramp", detector=config.Measure(every=config.Duration(0.01), change=0.5, most_per_s=9)
        ),
    )
    return config.Config(streams=(config.Stream(name="mic", nets=nets),))


class Studio:
    """A live pipeline that is recorded, and that a test tells what to hear."""

    def __init__(self, path: Path, settings_: config.Config):
        self.path, (stream,) = path, settings_.streams
        self.ring, self.news = Ring(1, 6000), Bell()
        self.pipeline = Pipeline(stream.name, "s1", RATE, 1, load_listeners(stream), clock=Clock(RATE))
        nets = {runner.listener.name: runner.net for runner in self.pipeline.runners}
        session = Session(stream=stream.name, session="s1", rate=RATE, channels=1, nets=nets)
        self.recording = Recording(path, session)
        self.tape = Tape(1, RATE, [self.recording])
        self.pipeline.reports.on_pair = self.recording.note_pair
        self._started_ns, self._wanted, self._lost = time.monotonic_ns(), [True] * len(nets), 0
        arguments = self.ring, self.news, self.tape.ring
        self._thread = threading.Thread(target=self.pipeline.listen, args=arguments, daemon=True)
        self._thread.start()

    def hear(self, samples: np.ndarray, *, lost: int = 0, flagged: bool = False) -> None:
        """Hear a block; `lost` frames never came before it, of which the driver tells where `flagged`."""
        self._lost += lost
        at = self.ring.next_sample + self._lost + len(samples)
        arrived = self._started_ns + round(at / RATE * SECOND)
        assert self.ring.write(samples[:, None], arrived, len(samples) * 10**9 // RATE, driver_overflow=flagged)
        self.settle()

    def overflow(self) -> None:
        """Lose a block that is larger than the ring."""
        assert not self.ring.write(np.zeros((self.ring.capacity + 100, 1), np.float32), None)

    def switch(self, net: int) -> None:
        """Switch a net off or on before the next block."""
        self._wanted[net] = not self._wanted[net]
        self.pipeline.want(self._wanted)

    def settle(self) -> None:
        """Wait until everything is processed."""
        wait_until(lambda: self.ring.waiting_frames == 0, "the loop")
        self.pipeline.follow_clock()

    def end(self) -> list[Event]:
        """End the session; return its events."""
        self.ring.close()
        self._thread.join()
        events = [event for event, _ in self.pipeline.drain()] + self.pipeline.finish()
        self.tape.close()
        self.recording.close(self.pipeline.sample)
        assert self.recording.error is None
        return events


def essence(events: list[Event]) -> list[Event]:
    """Return events without what a replay may give otherwise: when they were published, made, and estimated to be."""
    bare = []
    for event in events:
        event = msgspec.structs.replace(event, seq=None, prev=None)
        if isinstance(event, Detection | Measure):
            event = msgspec.structs.replace(event, detected_at=None, time=None, time_error_s=None)
        bare.append(event)
    return bare


steps = st.lists(
    st.one_of(
        st.tuples(st.just("hear"), st.integers(0, 3000)),
        st.tuples(st.just("nan"), st.integers(1, 400)),
        st.tuples(st.just("overflow"), st.just(0)),
        st.tuples(st.just("driver"), st.integers(0, 2000)),
        st.tuples(st.just("switch"), st.integers(1, 2)),
    ),
    max_size=14,
)


@given(script=steps, seed=st.integers(0, 999), block=st.sampled_from([1, 77, 4096]))
@settings(max_examples=40)
def test_a_recording_replays_to_its_live_events(
    tmp_path_factory: pytest.TempPathFactory, settings_: config.Config, script: list[tuple], seed: int, block: int
):
    """Whatever happens in a session (NaNs, overflows, lost frames, switched nets), its recording gives the same events."""
    studio = Studio(tmp_path_factory.mktemp("session") / "x.wav", settings_)
    random = np.random.default_rng(seed)
    for act, number in [("hear", 1500), *script]:
        samples = ramps([k for k in range(100, number - 10, EDGE)] if act == "hear" else [], max(number, 0), 0.02, seed)
        match act:
            case "hear":
                studio.hear(samples)
            case "nan":
                samples = np.full(number + 200, np.nan, np.float32)
                samples[::7] = random.choice([0.0, np.nan, np.inf])
                studio.hear(samples)
            case "overflow":
                studio.overflow()
            case "driver":
                studio.hear(ramps([100], 300), lost=number, flagged=True)
            case "switch":
                studio.switch(number)
    live = studio.end()
    again = list(replay(studio.path, settings_, block=block))
    assert essence(again) == essence(live)


def test_frames_that_the_recording_lost_do_not_turn_into_something_else(tmp_path: Path, settings_: config.Config):
    """Where the disk is too slow, a switch waits until it can be noted, and the recording says what it lacks."""
    studio = Studio(tmp_path / "x.wav", settings_)
    studio.hear(ramps([2000], 4000))
    wait_until(lambda: studio.tape.ring.waiting_frames == 0, "the writer")
    rest, studio.tape.ring.rest = studio.tape.ring.rest, lambda: iter(())  # a disk that hangs
    for _ in range(MAX_BLOCKS + 5):
        studio.hear(np.zeros(8, np.float32))
    studio.switch(1)
    studio.hear(ramps([200], 400))
    assert all(studio.pipeline.on)
    studio.tape.ring.rest = rest
    wait_until(lambda: studio.tape.ring.waiting_frames == 0, "the writer")
    studio.hear(ramps([200], 400))
    assert studio.pipeline.on[:3] == [True, False, True]
    studio.end()
    track = control_track(studio.path)
    (switched,) = [entry for entry in track if isinstance(entry, Switched)]
    assert (switched.net, switched.on) == ("slow", False)
    lost = [entry for entry in track if isinstance(entry, Lost)]
    assert {entry.cause for entry in lost} == {"the recording's disk was too slow"}
    assert sum(entry.frames for entry in lost) == studio.tape.lost_frames > 0
    assert next(event for event in replay(studio.path, settings_) if isinstance(event, Detection)).sample == 2000


def test_a_pipe_is_read_no_faster_than_it_can_be_recorded(cli: Cli, tmp_path: Path):
    """A minute of samples from a pipe is in the recording to the last frame."""
    x = ramps(list(range(10_000, 60 * RATE, 40_000)), 60 * RATE)
    command = cli.command(("run", "--device", "-", "--publish", "none", "--record", tmp_path / "x.wav"))
    done = subprocess.run(command, input=x.tobytes(), capture_output=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(soundfile.read(tmp_path / "x.wav", dtype="float32")[0], x)
    assert [type(entry) for entry in control_track(tmp_path / "x.wav")] == [Session, End]


def test_a_net_without_a_rate_has_the_recordings(cli: Cli, tmp_path: Path):
    """A recording knows at which rate its nets heard it."""
    store.load("ramp").with_info(rate=None).save(tmp_path / "n.safetensors")
    options = ("--net", tmp_path / "n.safetensors", "--threshold", "0.6")
    run = cli(
        "run", *options, "--rate", "44100", "--duration", "1.2", "--publish", "none", "--record", tmp_path / "x.wav"
    )
    assert run.returncode == 0, run.stderr
    done = cli("replay", tmp_path / "x.wav", *options)
    assert [json.loads(line)["sample"] for line in done.stdout.splitlines()] == [22_050, 44_100]


def damaged(lines: list[bytes]) -> list[tuple[list[bytes], str]]:
    """Return control tracks that are none, and what is said of them."""
    session, *more = lines
    lost = b'{"kind":"lost","at":%d,"sample":%d,"frames":%d,"frames_error":0,"cause":"x"}'
    return [
        ([session, b'{"kind":"lost","cause":"\xff"}'], "not a line"),
        ([session, lost % (0, 0, 10**30)], "not a line"),
        ([session, lost % (0, 0, -5)], "not a line"),
        ([session, lost % (100, 7, 5)], "sample 7 is said to be the file's frame 100"),
        ([session.replace(b'"rate":48000', b'"rate":0'), *more], "not a line"),
        ([session.replace(b'"rate":48000', b'"rate":16000'), *more], "of 48000 Hz, its control track of 16000 Hz"),
        ([session.replace(b'"channels":1', b'"channels":2'), *more], "was recorded with 2 channels"),
        ([session.replace(b'"version":1', b'"version":7'), *more], "is of version 7"),
        ([session, session, *more], "not the control track of one session"),
    ]


def test_a_damaged_control_track_is_refused(tmp_path: Path, settings_: config.Config):
    """What does not fit its file, or makes no sense, is an error that says so."""
    studio = Studio(tmp_path / "x.wav", settings_)
    studio.hear(ramps([2000], 4000))
    studio.end()
    path = control_path(studio.path)
    for lines, words in damaged(path.read_bytes().splitlines()):
        path.write_bytes(b"\n".join(lines) + b"\n")
        with pytest.raises(StreamcnnError, match=words):
            list(replay(studio.path, settings_))


def test_times_come_back(tmp_path: Path, settings_: config.Config):
    """A replayed recording's events carry the times that they had live, within the estimate's error."""
    studio = Studio(tmp_path / "x.wav", settings_)
    for _ in range(40):
        studio.hear(ramps([2000], 4000))
    live, again = (
        [event for event in events if isinstance(event, Detection | Measure)]
        for events in (studio.end(), list(replay(studio.path, settings_)))
    )
    times = [(a.time - b.time).total_seconds() for a, b in zip(live, again, strict=True)]
    assert np.abs(times).max() < 1e-3
    assert [event.time_s for event in live] == [event.time_s for event in again]
    assert all(event.time_s == round(event.position / RATE, 9) for event in again if isinstance(event, Detection))


def test_it_can_be_read_while_it_is_written(tmp_path: Path, settings_: config.Config):
    """At any moment the file is a WAV of the frames so far, and the control track a list of whole lines."""
    studio = Studio(tmp_path / "x.wav", settings_)
    for part in range(1, 4):
        studio.hear(ramps([2000], 4000))
        wait_until(lambda part=part: soundfile.info(studio.path).frames == 4000 * part, "the frames")
        with AudioFile(studio.path) as file:
            assert sum(len(block) for block in file.blocks(1000)) == 4000 * part
        assert isinstance(control_track(studio.path)[0], Session)
    studio.end()
    assert control_track(studio.path)[-1] == End(at=12_000, sample=12_000)


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path, settings_: config.Config):
    """What a crash left of a control track is read; damage in its middle is an error with file and line."""
    studio = Studio(tmp_path / "x.wav", settings_)
    studio.hear(ramps([2000], 4000))
    live, path = studio.end(), control_path(studio.path)
    text = path.read_bytes()
    path.write_bytes(text[:-10])
    assert essence(list(replay(studio.path, settings_))) == essence(live)
    path.write_bytes(text.replace(b'"kind":"end"', b'"kind":"und"'))
    with pytest.raises(InputError, match=r"control\.jsonl:\d+: not a line of a control track"):
        list(replay(studio.path, settings_))
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is not the control track of one session"):
        list(replay(studio.path, settings_))


def test_beyond_four_gibibytes_it_is_an_rf64(tmp_path: Path):
    """A recording that outgrows WAV's sizes goes on in the same file, and every frame is found at its place."""
    path = tmp_path / "x.wav"
    recording = Recording(path, Session(stream="s", session="x", rate=RATE, channels=1, nets={}))
    skipped = 2**30  # frames of 4 bytes that nobody has to write
    recording._at = recording._sample = skipped
    os.lseek(recording._samples, 4 * skipped, os.SEEK_CUR)
    x = ramps([500], 1000)
    recording.hear(Block(skipped, x[:, None], UNKNOWN, UNKNOWN, 0, 0, 0, None))
    recording.settle(sync=True)
    recording.close(skipped + 1000)
    assert os.stat(path).st_size > 2**32
    with path.open("rb") as file:
        assert file.read(4) == b"RF64"
    with AudioFile(path) as file:
        assert file.frames == skipped + 1000
        assert np.array_equal(file.read(skipped, 1000)[:, 0], x)


def test_a_full_disk_stops_the_recording_and_nothing_else(
    tmp_path: Path, settings_: config.Config, monkeypatch: pytest.MonkeyPatch
):
    """When nothing can be written any more, that is kept as the error, and detection goes on."""
    studio = Studio(tmp_path / "x.wav", settings_)
    studio.hear(ramps([2000], 4000))
    wait_until(lambda: soundfile.info(studio.path).frames == 4000, "the frames")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recordings.os, "write", full)
    studio.hear(ramps([2000], 4000))
    wait_until(lambda: studio.recording.error, "the error")
    monkeypatch.undo()
    studio.hear(ramps([2000], 4000))
    studio.ring.close()
    studio._thread.join()
    found = [event.sample for event, _ in studio.pipeline.drain() if event.detector == "ramp"]
    studio.tape.close()
    studio.recording.close(12_000)
    assert found == [2000, 6000, 10_000]
    assert soundfile.info(studio.path).frames == 4000


def test_an_existing_file_is_not_overwritten(cli: Cli, tmp_path: Path):
    """`--record` on a file that is there, or where none can be made, is one line and exit code 2."""
    taken = write(tmp_path / "x.wav", ramps([], 10))
    for path, words in ((taken, "it is there already"), (tmp_path / "nowhere" / "x.wav", "No such file")):
        done = cli("run", "--duration", "1", "--publish", "none", "--record", path)
        assert done.returncode == 2
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert soundfile.info(taken).frames == 10
    control_path(tmp_path / "y.wav").write_bytes(b"")
    done = cli("run", "--duration", "1", "--publish", "none", "--record", tmp_path / "y.wav")
    assert (done.returncode, "y.wav.control.jsonl: cannot be recorded to: it is there already" in done.stderr) == (
        2,
        True,
    )
    assert not (tmp_path / "y.wav").exists()


def test_a_disk_that_is_full_at_once_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where not even the header can be written, the error names the file, and nothing is left behind."""

    def full(*_these: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recordings.os, "pwrite", full)
    with pytest.raises(InputError, match=r"x\.wav: cannot be recorded to: No space left on device"):
        Recording(tmp_path / "x.wav", Session(stream="s", session="x", rate=RATE, channels=1, nets={}))
    assert list(tmp_path.iterdir()) == []


def test_a_recorded_demo_replays_to_its_events(cli: Cli, tmp_path: Path):
    """What `run --record` printed as JSON, `replay` prints again."""
    done = cli("run", "--duration", "2.2", "--publish", "none", "--json", "--record", tmp_path / "x.wav")
    assert done.returncode == 0, done.stderr
    live = [json.loads(line) for line in done.stdout.splitlines()]
    again = [json.loads(line) for line in cli("replay", tmp_path / "x.wav").stdout.splitlines()]
    for event in (*live, *again):
        for field in ("seq", "prev", "detected_at", "time", "time_error_s"):
            event.pop(field, None)
    assert again == [event for event in live if event["type"] != "health"]
    assert len(again) == 4


def test_a_daemon_that_was_killed_leaves_a_recording(tmp_path: Path, sound_server: SoundServer):
    """After kill -9 in the middle of playing, the recording replays to just the events that were published until its end."""
    here, endpoint = Cli(sound_server.environment), f"ipc://{tmp_path}/events"
    path = write(tmp_path / "ramps.wav", ramps(list(range(20_000, 20 * RATE, 10_000)), 20 * RATE))
    target = tmp_path / "x.wav"
    daemon = here.start("run", "--device", "pulse", "--publish", endpoint, "--record", target)
    events: list[Event] = []
    try:
        with Subscriber(endpoint) as subscriber:
            wait_until(lambda: isinstance(subscriber.receive(0.2), Health), "the daemon's first health event")
            player = sound_server.start_playing(path)

            def heard() -> bool:
                event = subscriber.receive(0.2)
                if isinstance(event, Detection | Gap):
                    events.append(event)
                return len(events) >= 12

            wait_until(heard, "twelve events")
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
            player.kill()
            player.wait()
            while (event := subscriber.receive(0.5)) is not None:
                if isinstance(event, Detection | Gap):
                    events.append(event)
    finally:
        daemon.kill()
        daemon.communicate()
    frames = soundfile.info(target).frames
    assert frames > 10_000
    again = essence(
        list(
            replay(
                target,
                config.Config(streams=(config.Stream(name="live", nets=(config.Net(name="ramp", net="ramp"),)),)),
            )
        )
    )
    assert again == [event for event in essence(events) if event.decided_sample < frames]
    assert len(again) > 5


@pytest.mark.parametrize(
    ("session", "lines", "said"),
    [
        ({"clocked": False}, ["PAIR"], "2: a time of the card's clock, of a session whose source has none"),
        ({}, ['{"arrival_ns": 36813000000000000000}'], "2: not a line of a control track"),
        ({}, ['{"utc_ahead_ns": -2000000000000000000}'], "2: a time that is in no year"),
        ({}, ['{"age_ns": -5}'], "2: a sample of -5e-09 s of age"),
        ({}, ["PAIR", "PAIR"], "3: sample 0 at 1,000,000,000 ns, behind 0 at 1,000,000,000 ns"),
        ({}, ["PAIR", '{"sample": 9, "arrival_ns": 5}'], "3: sample 9 at 5 ns, behind 0 at"),
    ],
)
def test_times_that_cannot_be_are_named_with_their_line(
    tmp_path: Path, settings_: config.Config, session: dict, lines: list[str], said: str
):
    """A clock that a source does not have, years that are none, and times that go backwards are errors of the control track."""
    path = write(tmp_path / "x.wav", ramps([1000], 2 * RATE))
    first = {"kind": "session", "stream": "s", "session": "x", "rate": RATE, "channels": 1, "nets": {}} | session
    pair = {"kind": "clock", "sample": 0, "arrival_ns": 10**9, "age_ns": 0, "utc_ahead_ns": 17 * 10**17}
    entries = [first, *(pair if line == "PAIR" else pair | json.loads(line) for line in lines)]
    control_path(path).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    with pytest.raises(InputError) as error:
        list(replay(path, settings_))
    assert f"x.wav.control.jsonl:{said}" in str(error.value)
    assert "remove it" in error.value.remedy


def test_a_clock_that_leads_out_of_all_years_gives_no_time(tmp_path: Path, settings_: config.Config):
    """Pairs of times that no card has, though each by itself could be, leave events without UTC, and harm nothing else."""
    path = write(tmp_path / "x.wav", ramps([90_000], 2 * RATE))
    entries: list[dict] = [
        {"kind": "session", "stream": "s", "session": "x", "rate": RATE, "channels": 1, "nets": {}},
        {"kind": "clock", "sample": 0, "arrival_ns": 0, "age_ns": 0, "utc_ahead_ns": 0},
        {"kind": "clock", "sample": 1, "arrival_ns": 4 * 10**18, "age_ns": 0, "utc_ahead_ns": 0},
        {"kind": "clock", "sample": 48_000 * 1, "arrival_ns": 4 * 10**18 + 1, "age_ns": 0, "utc_ahead_ns": 4 * 10**18},
    ]
    control_path(path).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    found = [event for event in replay(path, settings_) if isinstance(event, Detection)]
    assert ("ramp", 90_000) in [(event.detector, event.sample) for event in found]

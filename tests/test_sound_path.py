"""The real sound path: a file played into a sound server is heard frame by frame behind the sound card."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamcnn import load
from streamcnn.events import Detection, Event, Gap, Health
from streamcnn.training import spoken
from streamcnn.wire.subscriber import Subscriber
from tests.conftest import ROOT, Cli, SoundServer, wait_until
from tests.crashes import free_port
from tests.signals import RATE, ramps, write

TRIES = 3


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    """An endpoint that no other test uses."""
    return f"ipc://{tmp_path}/events"


@pytest.fixture
def here(sound_server: SoundServer) -> Cli:
    """The command line, as a client of the sound server."""
    return Cli(sound_server.environment)


def _stop(daemon: subprocess.Popen, number: int = signal.SIGINT) -> tuple[int, str, str]:
    daemon.send_signal(number)
    try:
        out, err = daemon.communicate(timeout=60)
    finally:
        daemon.kill()
    return daemon.returncode, out, err


def _heard(subscriber: Subscriber, events: list[Event], count: int, phase: str = "confirmed") -> bool:
    event = subscriber.receive(0.2)
    if event is not None:
        events.append(event)
    return len(_detections(events, phase)) >= count


def _detections(events: list[Event], phase: str) -> list[Detection]:
    return [event for event in events if isinstance(event, Detection) and event.phase == phase]


def test_twenty_ramps_through_the_sound_card(tmp_path: Path, endpoint: str, here: Cli, sound_server: SoundServer):
    """Twenty played ramps give twenty detections over ZeroMQ, spaced exactly as in the file, with no overflow."""
    random = np.random.default_rng(11)
    ends = (20_000 + np.cumsum(random.integers(6_000, 14_000, 20))).tolist()
    path = write(tmp_path / "ramps.wav", ramps(ends, ends[-1] + 20_000))
    daemon = here.start("run", "--device", "pulse", "--publish", endpoint)
    try:
        with Subscriber(endpoint) as subscriber:
            events: list[Event] = []
            wait_until(lambda: isinstance(subscriber.receive(0.2), Health), "the daemon's first health event")
            sound_server.play(path)
            wait_until(lambda: _heard(subscriber, events, 20), "twenty detections")
            wait_until(lambda: isinstance(subscriber.receive(0.2), Health), "another second of health")
            code, out, err = _stop(daemon)
            while (event := subscriber.receive(1.0)) is not None:
                events.append(event)
    finally:
        daemon.kill()
    samples = [event.sample for event in events if isinstance(event, Detection)]
    assert np.diff(samples).tolist() == np.diff(ends).tolist()
    assert len(out.splitlines()) == 20
    assert not [event for event in events if isinstance(event, Gap)]
    last = events[-1]
    assert (last.state, last.overflows, last.lost_frames, last.detections) == ("ended", 0, 0, 20)
    assert code == 130
    assert "Traceback" not in err
    assert "ALSA lib" not in err


def test_a_daemon_that_was_stopped_goes_on_where_it_was(tmp_path: Path, here: Cli, sound_server: SoundServer):
    """After SIGSTOP and three seconds, what the sound server kept is heard: no gap, and samples and UTC stay together."""
    path = write(tmp_path / "ramps.wav", ramps(list(range(12_000, 60 * RATE, 12_000)), 60 * RATE))
    lines = tmp_path / "events.jsonl"
    with lines.open("wb") as out:
        options = {"stdout": out, "stderr": subprocess.DEVNULL}
        daemon = here.start("run", "--device", "pulse", "--json", "--publish", "none", **options)

    def heard() -> list[dict]:
        whole = [json.loads(line) for line in lines.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [event for event in whole if event["type"] in ("detection", "gap")]

    player = sound_server.start_playing(path)
    try:
        wait_until(lambda: len(heard()) >= 20, "the clock to settle")
        daemon.send_signal(signal.SIGSTOP)
        time.sleep(3)
        daemon.send_signal(signal.SIGCONT)
        before = len(heard())
        wait_until(lambda: len(heard()) >= before + 30, "what was played meanwhile, and more")
        daemon.send_signal(signal.SIGINT)
        daemon.wait(60)
    finally:
        daemon.kill()
        player.kill()
        player.wait()
    events = heard()
    assert [event for event in events if event["type"] == "gap"] == []
    assert set(np.diff([event["sample"] for event in events])) == {12_000}

    def behind_s(told: list[dict]) -> float:
        """Return by how much what is told lies behind its UTC: the least of several, as a busy machine tells late."""
        times = [(datetime.fromisoformat(event["detected_at"]), datetime.fromisoformat(event["time"])) for event in told]
        return min((detected - happened).total_seconds() for detected, happened in times)

    # Not held against the samples: a sound server that is itself held up plays later, and rightly so by UTC.
    assert abs(behind_s(events[-15:]) - behind_s(events[10:20])) < 0.1


BURDENS = {
    "spinning": "while True: pass",
    "collecting garbage": "import gc\n    while True: gc.collect()",
}


@pytest.mark.parametrize("burden", BURDENS)
def test_nothing_is_lost_while_another_thread_holds_the_gil(
    tmp_path: Path, endpoint: str, sound_server: SoundServer, burden: str
):
    """Beside a Python thread that never rests, blocks of 64 frames are heard without a loss, and events are published."""
    ends = list(range(20_000, 6 * RATE, 10_000))
    path = write(tmp_path / "ramps.wav", ramps(ends, 6 * RATE + 20_000))
    nets = "nets: [{name: ramp, net: ramp}]"
    (tmp_path / "c.yaml").write_text(f"streams: [{{name: mic0, source: {{device: pulse, block: 64}}, {nets}}}]")
    flag = tmp_path / "go"
    program = (
        "import os, sys, threading, time\ndef burden():\n"
        f"    while not os.path.exists({str(flag)!r}): time.sleep(0.05)\n    {BURDENS[burden]}\n"
        "threading.Thread(target=burden, daemon=True).start()\n"
        "from streamcnn.__main__ import main\nmain()\n"
    )
    command = [sys.executable, "-c", program, "run", "--config", str(tmp_path / "c.yaml"), "--publish", endpoint]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    daemon = subprocess.Popen(command, env={**os.environ, **sound_server.environment}, **streams)
    try:
        with Subscriber(endpoint) as subscriber:
            events: list[Event] = []
            wait_until(lambda: isinstance(subscriber.receive(0.2), Health), "the daemon's first health event")
            flag.touch()
            sound_server.play(path)
            wait_until(lambda: _heard(subscriber, events, len(ends)), "the detections")
            health = wait_until(lambda: isinstance(e := subscriber.receive(0.2), Health) and e, "another health event")
    finally:
        daemon.kill()
        daemon.communicate()
    samples = [event.sample for event in _detections(events, "confirmed")]
    assert np.diff(samples).tolist() == np.diff(ends).tolist()
    assert not [event for event in events if isinstance(event, Gap)]
    assert (health.overflows, health.lost_frames, health.callback) == (0, 0, "machine code")
    assert health.record_latency_ms.p50 < health.wire_latency_ms.p50  # the one waits for no Python, the other does


NO_POINTERS = """
import sounddevice
class Base:
    def __call__(self, *_, **__):
        raise TypeError("no function pointers here")
base, original = Base(), sounddevice._StreamBase
base.__init__ = original.__init__
sounddevice._StreamBase = base
from streamcnn.__main__ import main
main()
"""


def test_without_function_pointers_the_callback_is_python(tmp_path: Path, endpoint: str, sound_server: SoundServer):
    """Where sounddevice takes no C function, a Python callback does the same, and that is said."""
    ends = [20_000, 50_000, 71_000]
    path = write(tmp_path / "ramps.wav", ramps(ends, 2 * RATE))
    command = [sys.executable, "-c", NO_POINTERS, "run", "--device", "pulse", "--publish", endpoint]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    daemon = subprocess.Popen(command, env={**os.environ, **sound_server.environment}, **streams)
    try:
        with Subscriber(endpoint) as subscriber:
            events: list[Event] = []
            health = wait_until(lambda: isinstance(e := subscriber.receive(0.2), Health) and e, "a health event")
            sound_server.play(path)
            wait_until(lambda: _heard(subscriber, events, len(ends)), "the detections")
    finally:
        _, _, err = _stop(daemon)
    assert health.callback == "Python"
    assert np.diff([event.sample for event in _detections(events, "confirmed")]).tolist() == np.diff(ends).tolist()
    assert "it runs in Python" in err


def test_the_live_bench_hears_itself(tmp_path: Path, here: Cli):
    """`bench --live` hears each ramp that it plays where it was played, tells what that took, and draws it."""
    for _ in range(TRIES):  # on a busy machine the player itself may come too late, which it says
        done = here("bench", "--live", "--seconds", "4", "--block", "64", "--plot", tmp_path / "x.png", "--json")
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        if facts["player_underruns"] == 0:
            break
    else:
        facts["events_off_samples"] = 0
    assert (facts["callback"], facts["overflows"], facts["gaps"], facts["events_off_samples"]) == (
        "machine code",
        0,
        0,
        0,
    )
    assert facts["events"] > 3
    for measured in ("record_latency_ms", "wire_latency_ms", "callback_ms"):
        assert 0 < facts[measured]["p50"] <= facts[measured]["p99"] <= facts[measured]["p999"] <= facts[measured]["max"]
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_spoken_digits_through_the_sound_card(
    tmp_path: Path, endpoint: str, here: Cli, sound_server: SoundServer, data_folder: Path
):
    """The shipped configuration hears digits that are played, as tags in the order in which they are said."""
    # Words that the net hears alike however the sound server's resampler cuts them; with others one run in four differs.
    words, random = spoken.load_recordings(data_folder).words[::197], np.random.default_rng(3)
    samples, said = spoken.glued(words, np.zeros(1, np.float32), np.inf, (0.6, 1.0), random)
    # The net answers only once it has heard as much as it can see.
    samples = np.concatenate([np.zeros(load("digits").receptive_field, np.float32), samples])
    path = write(tmp_path / "digits.wav", samples, spoken.RATE)
    wanted = [spoken.LABELS[word.digit] for word in said]
    daemon = here.start("run", "--config", ROOT / "configs" / "digits.yaml", "--publish", endpoint)
    try:
        with Subscriber(endpoint) as subscriber:
            events: list[Event] = []
            wait_until(lambda: isinstance(subscriber.receive(0.2), Health), "the daemon's first health event")
            sound_server.play(path)
            wait_until(lambda: _heard(subscriber, events, len(said), "ended"), "the end of each digit")
            code, out, err = _stop(daemon)
    finally:
        daemon.kill()
    ends = _detections(events, "ended")
    assert [tag.label for tag in _detections(events, "confirmed")] == wanted
    assert [tag.label for tag in ends] == wanted
    assert [label for line in out.splitlines() for label in spoken.LABELS if f" {label} " in line] == wanted
    gaps = np.diff([tag.sample for tag in ends]) - np.diff([word.end for word in said])
    assert np.abs(gaps).max() < 0.2 * spoken.RATE
    assert (code, "Traceback" in err) == (130, False)


def test_silence_and_signal_are_told_apart(tmp_path: Path, endpoint: str, here: Cli, sound_server: SoundServer):
    """`run` says 'no signal' while nothing plays, and the level when something does; SIGTERM ends it with code 0."""
    daemon = here.start("run", "--device", "pulse", "--publish", endpoint)
    try:
        with Subscriber(endpoint, ["health."]) as subscriber:
            wait_until(lambda: (event := subscriber.receive(0.2)) and event.state == "no signal", "no signal")
            wait_until(lambda: (event := subscriber.receive(0.2)) and event.state == "no signal", "no signal, again")
            tone = (0.5 * np.sin(np.arange(2 * RATE) / 10)).astype(np.float32)
            sound_server.play(write(tmp_path / "tone.wav", tone))
            event = wait_until(
                lambda: (event := subscriber.receive(0.2)) and event.state == "running" and event, "a level"
            )
            assert -7 < event.level_dbfs < -5
    finally:
        code, _, err = _stop(daemon, signal.SIGTERM)
    assert code == 0
    assert "NO SIGNAL" in err


def test_devices_lists_the_sound_server(here: Cli):
    """`devices` lists what can record, as a table and as JSON."""
    listed = json.loads(here("devices", "--json").stdout)
    assert "pulse" in [device["name"] for device in listed]
    table = here("devices")
    assert "pulse" in table.stdout
    assert table.stderr == ""


def test_an_unknown_device_lists_those_there_are(here: Cli):
    """A device that does not exist is one line with the devices there are, and exit code 1: it may be there another time."""
    done = here("run", "--device", "no such thing", "--publish", "none")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "'pulse'" in done.stderr
    assert "no such thing" in done.stderr


def test_a_channel_that_the_device_lacks_is_refused(tmp_path: Path, here: Cli):
    """A channel beyond the device's is refused with the number it has."""
    settings = "streams: [{name: a, source: {device: pulse, channels: [99]}, nets: [{name: n, net: ramp}]}]"
    (tmp_path / "c.yaml").write_text(settings, encoding="utf-8")
    done = here("run", "--config", tmp_path / "c.yaml", "--publish", "none")
    assert done.returncode == 1
    assert "channel 99 is wanted" in done.stderr


def test_everything_at_once_survives_a_kill(tmp_path: Path, here: Cli, sound_server: SoundServer):
    """Ramps, chirps and tags on one card: what any of two lives of the daemon said is in the journal, and was seen once."""
    chirp, _ = soundfile.read(ROOT / "configs" / "chirp.wav")
    ends, starts = [12_000, 60_000, 108_000], [30_000, 78_000, 126_000]
    x = ramps(ends, 160_000)
    for start in starts:
        x[start : start + len(chirp)] += 0.3 * chirp
    path, port = write(tmp_path / "x.wav", x), free_port()
    text = (ROOT / "configs" / "full.yaml").read_text(encoding="utf-8")
    text = text.replace("template: chirp.wav", f"template: {ROOT / 'configs' / 'chirp.wav'}").replace("5556", str(port))
    (tmp_path / "full.yaml").write_text(text.replace("journal:", f"journal:\n  path: {tmp_path / 'journal.db'}"))
    said, spacings = [], []
    with Subscriber(f"tcp://127.0.0.1:{port}", ["detection."], since=1) as subscriber:
        for number in (signal.SIGKILL, signal.SIGINT):
            daemon = here.start("run", "--config", tmp_path / "full.yaml", "--json")
            try:
                wait_until(partial(_has_said, daemon, "streamcnn: mic0"), "the daemon to hear")
                sound_server.play(path)
                heard: list[Event] = []
                wait_until(partial(_has_heard, subscriber, heard, {"ramp": 3, "chirp": 3}), "the events")
            finally:
                daemon.send_signal(number)
                daemon.communicate(timeout=60)
            said += heard
            for detector in ("ramp", "chirp"):
                samples = [event.sample for event in heard if event.detector == detector and event.phase == "confirmed"]
                spacings.append(np.diff(samples).tolist())
    assert spacings == [[48_000, 48_000]] * 4
    assert {event.phase for event in said if event.detector == "digits"} >= {"provisional"}
    kept = here("events", "--since", "10m", "--config", tmp_path / "full.yaml", "--json").stdout.splitlines()
    kept = [json.loads(line)["seq"] for line in kept if json.loads(line)["type"] == "detection"]
    seen = [event.seq for event in said]
    assert seen == kept[: len(seen)]  # every one of both lives, once and in order


def _has_said(daemon: subprocess.Popen, text: str) -> bool:
    return text in daemon.stderr.readline()


def _has_heard(subscriber: Subscriber, heard: list[Event], wanted: dict[str, int]) -> bool:
    event = subscriber.receive(0.2)
    if event is not None:
        heard.append(event)
    confirmed = [event.detector for event in _detections(heard, "confirmed")]
    return all(confirmed.count(detector) >= count for detector, count in wanted.items())


def test_a_sound_server_that_dies_is_told_in_our_words(tmp_path: Path):
    """What PortAudio prints of its own expressions is not shown; the daemon says what it lost, and ends with code 1."""
    server = SoundServer(tmp_path)
    daemon = Cli(server.environment).start("run", "--device", "pulse", "--publish", "none")
    try:
        said = ""
        while "dBFS" not in said:
            said += daemon.stderr.readline()
        server._process.kill()
        server._process.wait()
        _, rest = daemon.communicate(timeout=60)
    finally:
        daemon.kill()
        server.stop()
    assert daemon.returncode == 1
    assert all(line.startswith("streamcnn: ") for line in (said + rest).splitlines())
    assert "delivered nothing for 10 s" in rest.splitlines()[-1]

"""Raw frames on standard input: what bytes are is checked, and a writer that dies or hangs is noticed."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from streamcnn.config import RawFormat
from streamcnn.sources import pcm
from tests.conftest import Cli, wait_until
from tests.signals import RATE, ramps

PACKED = {"s16le": "<i2", "s16be": ">i2", "s32le": "<i4", "s32be": ">i4"}


def speech(frames: int, seed: int = 0) -> np.ndarray:
    """Return something like sound: noise that swells, most of it low, in [-1, 1]; float64 (frames,)."""
    noise = np.random.default_rng(seed).normal(size=frames)
    low = np.convolve(noise, np.hanning(24), "same")
    low *= np.abs(np.sin(np.arange(frames) / 3000)) + 0.05
    return 0.7 * low / np.abs(low).max()


def encoded(values: np.ndarray, name: str) -> bytes:
    """Return samples in [-1, 1) in a format."""
    if name in PACKED:
        kind = np.dtype(PACKED[name])
        return np.round(values * (2 ** (8 * kind.itemsize - 1) - 1)).astype(kind).tobytes()
    if name == "s24le":
        return np.round(values * (2**23 - 1)).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    if name == "u8":
        return np.round(values * 127 + 128).astype(np.uint8).tobytes()
    return values.astype(pcm.FORMATS[name][1]).tobytes()


def test_a_configuration_takes_each_format_that_is_decoded():
    """The formats that a configuration may name are those that are decoded, no more and no fewer."""
    assert set(get_args(RawFormat)) == set(pcm.FORMATS)


@pytest.mark.parametrize("name", pcm.FORMATS)
def test_every_format_is_decoded(name: str):
    """Samples of each format become the float32 samples that they stand for."""
    values = speech(1000)
    decoded = pcm.decode(encoded(values, name), name)
    assert decoded.dtype == np.float32
    assert np.abs(decoded - values).max() <= {"u8": 1 / 100, "s16le": 2e-5 * 2, "s16be": 2e-5 * 2}.get(name, 1e-6)


@pytest.mark.parametrize("name", sorted(pcm.FORMATS.keys() - {"f32le"}))
@pytest.mark.parametrize("loudness", [1.0, 0.1, 0.01])
def test_other_formats_are_told_from_floats(name: str, loudness: float):
    """Bytes of any other format are recognized within a thousand samples, loud or not, and named rightly."""
    found = pcm.what_else(encoded(speech(4096) * loudness, name)[:8192])
    assert found is not None
    assert found.format in (name, None)
    assert found.format == name or name not in ("s16le", "f64le", "f32be")


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1e-3, 1e-6, 30.0]), st.booleans(), st.sampled_from([0.0, 0.5, -20.3])
)  # fmt: skip
def test_floats_are_never_taken_for_anything_else(seed: int, scale: float, gaps: bool, offset: float):
    """float32 sound of any loudness, with offsets, silence, NaN and Inf in it, passes, from its first block on."""
    values = (speech(4096, seed) * scale + offset).astype("<f4")
    if gaps:
        values[100:300], values[400:500], values[600] = np.nan, 0, np.inf
    assert pcm.what_else(values.tobytes()) is None
    assert not pcm.looks_like_two_channels(values)


def test_a_sound_that_fades_away_is_no_rubbish():
    """What decays into denormal numbers stays sound."""
    fading = (0.5 ** np.arange(4096, dtype=np.float64) * np.sin(np.arange(4096))).astype("<f4")
    assert pcm.what_else(fading[-3000:].tobytes(), begun=True) is None


@pytest.fixture
def piped(cli: Cli, tmp_path: Path):
    """Run the daemon on bytes in a pipe."""

    def run(data: bytes, *options: object) -> subprocess.CompletedProcess:
        command = cli.command(("run", "--device", "-", "--publish", "none", "--json", *options))
        return subprocess.run(command, input=data, capture_output=True, timeout=120, check=False)

    return run


def detections(done: subprocess.CompletedProcess) -> list[int]:
    """Return the samples of what was detected."""
    events = map(json.loads, done.stdout.splitlines())
    return [event["sample"] for event in events if event["type"] == "detection"]


def refused(done: subprocess.CompletedProcess, code: int = 2) -> str:
    """Return the last line of a run that must have failed, without a traceback and without a detection."""
    text = done.stderr.decode()
    assert (done.returncode, detections(done)) == (code, []), text
    assert "Traceback" not in text
    return text.splitlines()[-1]


@pytest.mark.parametrize("name", sorted(pcm.FORMATS.keys() - {"f32le", "s32be", "f64be", "s24le"}))
def test_bytes_of_another_format_are_refused_before_anything_is_heard(piped, name: str):
    """A pipe of whole numbers, or of other floats, ends with code 2 and the option that fits."""
    assert f"--format {name}" in refused(piped(encoded(speech(3 * RATE), name)))


@pytest.mark.parametrize("name", sorted(pcm.FORMATS.keys() - {"u8"}))
def test_a_stated_format_is_read(piped, name: str):
    """With --format the same ramps are found, at the same samples, in every format."""
    signal_ = ramps([700, 30_000], 40_000) * 0.999
    done = piped(encoded(signal_.astype(np.float64), name), "--format", name)
    assert done.returncode == 0, done.stderr
    assert detections(done) == [700, 30_000]


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("wav", "a WAV file"), ("flac", "a FLAC file"), ("ogg", "an OGG file"), ("aiff", "an AIFF file"), ("w64", "a W64 file")],
)
@pytest.mark.parametrize("options", [(), ("--format", "s16le")])
def test_a_sound_file_in_the_pipe_is_named(piped, tmp_path: Path, suffix: str, kind: str, options: tuple[str, ...]):
    """A sound file's header is never taken for samples, whatever the format is said to be."""
    soundfile.write(tmp_path / f"x.{suffix}", speech(RATE), RATE)
    said = refused(piped((tmp_path / f"x.{suffix}").read_bytes(), *options))
    assert kind in said
    assert "replay" in said


def test_two_channels_are_not_taken_for_one(piped):
    """Stereo into one channel is refused with the option that fits; with it, positions are right."""
    signal_ = ramps([700, 30_000], 40_000, noise=0.01)
    stereo = np.repeat(signal_, 2).astype("<f4").tobytes()
    assert "--width 2" in refused(piped(stereo))
    for options in (("--width", 2), ("--width", 2, "--channels", 2), ("--channels", 2)):
        assert detections(piped(stereo, *options)) == [700, 30_000]


def test_an_empty_pipe_is_a_failure(piped):
    """Nothing on standard input is no success: code 1, and what to look at."""
    assert "ended before its first frame" in refused(piped(b""), 1)


def test_whole_numbers_as_floats_need_a_word(piped):
    """float32 values of thousands are refused unless --format f32le says that they are meant so."""
    values = ramps([700], 20_000, noise=0.01)
    for counts in (np.round(values * 20_000), values * 20_000.5e2):
        data = counts.astype("<f4").tobytes()
        assert "--format f32le" in refused(piped(data))
        assert piped(data, "--format", "f32le").returncode == 0


def test_a_writer_that_loses_bytes_is_noticed(piped):
    """Where frames go on in the middle of a sample, the stream ends with code 1 and says from which frame on."""
    data = speech(2 * RATE).astype("<f4").tobytes()
    done = piped(data[: 4 * RATE] + data[4 * RATE + 2 :] + b"ab")
    assert done.returncode == 1
    assert "holds no 32-bit floats any more" in done.stderr.decode().splitlines()[-1]


class Watched:
    """A daemon on a pipe and the demo, what its systemd would hear, and its writer."""

    def __init__(self, cli: Cli, folder: Path):
        config = folder / "x.yaml"
        nets = "nets: [{name: ramp, net: ramp}]"
        config.write_text(
            f"streams: [{{name: pipe, source: {{device: '-', rate: {RATE}}}, {nets}}}, {{name: demo, {nets}}}]\n"
        )
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self.told: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        program = (
            "import numpy as np, sys, time\nblock = np.random.default_rng(0).normal(0, 0.1, 4800).astype('<f4').tobytes()\n"
            "while True: sys.stdout.buffer.write(block); sys.stdout.buffer.flush(); time.sleep(0.1)\n"
        )
        self.writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        self.out, self.err = (folder / "out").open("wb"), (folder / "err").open("wb")
        self.folder = folder
        self.daemon = subprocess.Popen(
            cli.command(("run", "--config", config, "--publish", "none", "--json")),
            stdin=self.writer.stdout, stdout=self.out, stderr=self.err,
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
        )  # fmt: skip
        self.writer.stdout.close()

    def _listen(self) -> None:
        while True:
            self.told.append(self._socket.recv(4096).decode())

    def health(self) -> list[dict]:
        """The pipe's health so far."""
        whole = [line for line in (self.folder / "out").read_text().splitlines(keepends=True) if line.endswith("\n")]
        events = map(json.loads, whole)
        return [event for event in events if event["type"] == "health" and event["stream"] == "pipe"]

    def stop(self) -> None:
        """End both."""
        for process in (self.daemon, self.writer):
            process.kill()
            process.wait()
        self.out.close()
        self.err.close()


@pytest.fixture
def watched(cli: Cli, tmp_path: Path) -> Iterator[Watched]:
    """A daemon that hears its pipe."""
    made = Watched(cli, tmp_path)
    wait_until(lambda: [one for one in made.health() if one["state"] == "running"], "the pipe to be heard")
    yield made
    made.stop()


@pytest.mark.parametrize(("number", "state"), [(signal.SIGKILL, "ended"), (signal.SIGSTOP, "stalled")])
def test_a_writer_that_dies_or_hangs_is_noticed(watched: Watched, number: signal.Signals, state: str):
    """The pipe's state says so and has no level, the status too, it is told once, and the watchdog is not fed any more."""
    os.kill(watched.writer.pid, number)
    last = wait_until(lambda: (one := watched.health()[-1])["state"] == state and one, f"the pipe to be {state}")
    assert last["level_dbfs"] is None
    wait_until(lambda: any(f"pipe: {state}, nothing heard" in text for text in watched.told), "the status")
    wait_until(lambda: "pipe" in (text := (watched.folder / "err").read_text()) and state in text, "a line that says so")

    def health_without_a_feed() -> bool:
        statuses = [number for number, text in enumerate(watched.told) if text.startswith("STATUS=")]
        return len(statuses) > 5 and not any(text.startswith("WATCHDOG") for text in watched.told[statuses[-5] :])

    wait_until(health_without_a_feed, "the watchdog to starve")
    assert watched.daemon.poll() is None


@pytest.mark.parametrize("name", ["f64le", "s16le", "s24le", "f32be"])
def test_silence_first_hides_no_other_format(piped, name: str):
    """Zeros are alike in all formats; what follows them is looked at as if it came first."""
    data = encoded(np.concatenate([np.zeros(20_000), speech(20_000)]), name)
    assert "--format" in refused(piped(data))


def test_silence_first_hides_no_second_channel(piped):
    """Two channels in turn are found behind silence too."""
    stereo = np.repeat(ramps([120_000], 3 * RATE, noise=0.01), 2)
    stereo[: 3 * RATE] = 0
    assert "--width 2" in refused(piped(stereo.astype("<f4").tobytes()))


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=4))
def test_few_values_in_turn_are_no_doubles(values: list[float]):
    """A tone, or a trigger's signal, of a few whole values is float32."""
    assert pcm.what_else(np.resize(np.array(values, "<f4"), 4096).tobytes()) is None


def test_a_stated_format_is_not_doubted_for_two_bytes(piped):
    """Samples that begin as an MP3 does are samples, where somebody says so."""
    signal_ = np.concatenate([np.array([-1025, 50], "<i2"), np.round(ramps([700], 20_000) * 32_000).astype("<i2")])
    assert detections(piped(signal_.tobytes(), "--format", "s16le")) == [702]

"""Clips: what they hold, when they are written, and when they are removed."""

import json
import os
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from streamcnn.config import Clips, Duration
from streamcnn.errors import InputError
from streamcnn.events import Detection
from streamcnn.ring import UNKNOWN, Block
from streamcnn.sinks import clips
from streamcnn.sinks.clips import ClipWriter
from streamcnn.sinks.tape import Tape
from tests.conftest import wait_until
from tests.test_wire import DETECTION

RATE = 1000


def settings(folder: Path, **more: object) -> Clips:
    """Clips with a tenth of a second before and two tenths after."""
    return Clips(folder=folder, before=Duration(0.1), after=Duration(0.2), **more)


def event(start: int, end: int | None, phase: str = "confirmed", **more: object) -> Detection:
    """An event from a sample to another."""
    return msgspec.structs.replace(
        DETECTION, id=f"x/{start}", start_sample=start, sample=start, end_sample=end, phase=phase, **more
    )


def signal(frames: int, channels: int = 1) -> np.ndarray:
    """Random samples of 24 bits."""
    whole = np.random.default_rng(0).integers(-(2**23), 2**23, (frames, channels))
    return (whole / 2**23).astype(np.float32)


def play(writer: ClipWriter, x: np.ndarray, first: int = 0, block: int = 97) -> None:
    """Let a writer hear a signal in blocks."""
    for at in range(0, len(x), block):
        writer.hear(Block(first + at, x[at : at + block], UNKNOWN, UNKNOWN, 0, 0, 0, None))
        writer.settle(sync=False)


def read(folder: Path) -> list[tuple[np.ndarray, dict]]:
    """Return the clips in a folder with what they say about themselves."""
    found = []
    for path in sorted(folder.glob("*.flac")):
        with soundfile.SoundFile(path) as file:
            found.append((file.read(dtype="float32", always_2d=True), json.loads(file.comment)))
            assert (file.samplerate, file.subtype) == (RATE, "PCM_24")
    return found


@pytest.mark.parametrize("channels", [1, 2])
def test_a_clip_holds_the_very_samples_around_its_event(tmp_path: Path, channels: int):
    """From `before` its beginning to `after` its end, bit for bit, with the event in its comment."""
    writer, x = ClipWriter("mic1", settings(tmp_path / "clips"), RATE, channels), signal(3000, channels)
    play(writer, x[:1000])
    writer.note(event(900, 950))
    assert read(tmp_path / "clips") == []  # what comes after it has not come
    play(writer, x[1000:], 1000)
    ((samples, about),) = read(tmp_path / "clips")
    np.testing.assert_array_equal(samples, x[800:1150])
    assert (about["clip_start_sample"], about["clip_exact"], about["id"]) == (800, True, "x/900")


def test_what_goes_on_is_clipped_when_it_ends_or_is_long_enough(tmp_path: Path):
    """A tag's clip waits for its end; one that goes on and on is cut at `longest`."""
    writer, x = ClipWriter("mic1", settings(tmp_path, longest=Duration(1.0)), RATE, 1), signal(6000)
    play(writer, x[:500])
    writer.note(event(400, None))
    play(writer, x[500:1000], 500)
    assert read(tmp_path) == []
    writer.note(event(400, 900, "ended"))
    play(writer, x[1000:2000], 1000)
    writer.note(event(1900, None))
    writer.note(event(1950, None, "provisional"))
    play(writer, x[2000:], 2000)
    clips_ = [(about["clip_start_sample"], len(samples)) for samples, about in read(tmp_path)]
    assert sorted(clips_) == [(300, 800), (1800, 1300)]


def test_frames_that_never_came_are_silence_in_a_clip(tmp_path: Path):
    """Positions in a clip are true across a gap."""
    writer, x = ClipWriter("mic1", settings(tmp_path), RATE, 1), signal(2000)
    play(writer, x[:1000])
    play(writer, x[1050:], 1050)
    writer.note(event(1000, 1001))
    writer.settle(sync=True)
    ((samples, _),) = read(tmp_path)
    np.testing.assert_array_equal(samples[:100], x[900:1000])
    assert not samples[100:150].any()
    np.testing.assert_array_equal(samples[150:], x[1050:1201])


def test_samples_between_the_bits_are_rounded_and_that_is_said(tmp_path: Path):
    """What 24 bits do not hold, or full scale does not, is marked as not exact."""
    writer, x = ClipWriter("mic1", settings(tmp_path), RATE, 1), signal(1000) * np.float32(1.3)
    play(writer, x)
    writer.note(event(500, 501))
    writer.close()
    ((samples, about),) = read(tmp_path)
    assert about["clip_exact"] is False
    np.testing.assert_allclose(samples, np.clip(x[400:701], -1, 1), atol=2**-23)


def test_clips_of_other_detectors_and_too_many_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Only the detectors named get clips, and beyond an age or a size the oldest are removed."""
    monkeypatch.setattr(clips, "TIDY_S", 0.0)
    writer, x = ClipWriter("mic1", settings(tmp_path, detectors=("ramp",), most_mb=0.0025), RATE, 1), signal(3000)
    play(writer, x)
    for start in range(300, 2700, 300):
        writer.note(event(start, start + 1))
        writer.note(event(start + 1, start + 2, detector="other"))
        writer.settle(sync=False)
        for path in tmp_path.glob("*.flac"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 10))
    mine = tmp_path / "mic1.flac"
    mine.write_bytes(b"not a clip of ours")
    os.utime(mine, (0, 0))
    writer.settle(sync=False)
    assert mine.exists()
    mine.unlink()
    left = [about["start_sample"] for _, about in read(tmp_path)]
    assert left == [2400] or left == [2100, 2400]
    os.utime(next(tmp_path.glob("*.flac")), (0, 0))
    writer.settle(sync=False)
    assert len(read(tmp_path)) == len(left) - 1


def test_a_folder_that_cannot_be_written_is_an_error_and_a_full_disk_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is wrong from the start is refused; what goes wrong later is told and stops nothing."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no clips can be written there"):
        ClipWriter("mic1", settings(tmp_path / "file"), RATE, 1)
    writer = ClipWriter("mic1", settings(tmp_path / "clips"), RATE, 1)
    play(writer, signal(1000))
    os.rename(tmp_path / "clips", tmp_path / "gone")
    writer.note(event(500, 501))
    writer.settle(sync=True)
    assert "no clips can be written" in writer.error
    os.rename(tmp_path / "gone", tmp_path / "clips")
    writer.note(event(510, 511))
    writer.settle(sync=True)
    assert writer.error is None
    assert len(read(tmp_path / "clips")) == 1


def test_all_readers_of_a_tape_hear_the_same(tmp_path: Path):
    """A tape hands each block to everybody, in order, and at its end what is left."""
    writers = [ClipWriter("mic1", settings(tmp_path / name), RATE, 1) for name in "ab"]
    tape, x = Tape(1, RATE, writers), signal(2000)
    for writer in writers:
        writer.note(event(500, 501))
    tape.ring.write(x[:1500])
    wait_until(lambda: len(read(tmp_path / "a")) == len(read(tmp_path / "b")) == 1, "the clips")
    tape.ring.write(x[1500:])
    tape.close()
    assert all(writer._heard == 2000 for writer in writers)
    np.testing.assert_array_equal(read(tmp_path / "a")[0][0], read(tmp_path / "b")[0][0])


def test_a_full_disk_is_told_in_the_systems_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where a clip cannot be written, the reason is the disk's, not the codec's, and nothing half is left behind."""
    writer = ClipWriter("mic1", settings(tmp_path), RATE, 1)
    monkeypatch.setattr(os, "fsync", lambda _descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    writer.note(event(200, 300))
    play(writer, signal(1000))
    assert writer.error == f"{tmp_path}: no clips can be written: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_a_jump_of_the_hosts_clock_removes_no_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Clips that seem to be old at once are kept for a day: the clock may be set right again."""
    monkeypatch.setattr(clips, "TIDY_S", 0.0)
    writer = ClipWriter("mic1", settings(tmp_path), RATE, 1)
    writer.note(event(200, 300))
    play(writer, signal(1000))
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 40 * 86400 * 10**9)
    monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9)
    writer.settle(sync=False)
    assert len(list(tmp_path.glob("*.flac"))) == 1
    again = ClipWriter("mic1", settings(tmp_path), RATE, 1)
    again.settle(sync=False)
    assert len(list(tmp_path.glob("*.flac"))) == 1
    waited = time.monotonic() + 2 * 86400
    monkeypatch.setattr(time, "monotonic", lambda: waited)
    again.settle(sync=False)
    assert list(tmp_path.glob("*.flac")) == []

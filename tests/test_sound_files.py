"""Sound files whose headers lie, contradict themselves, or were never finished."""

import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcnn.errors import AudioFileError
from streamcnn.sources.coded import flac_layout, second_start
from streamcnn.sources.layout import layout_of
from streamcnn.sources.wav import AudioFile
from tests.conftest import Cli
from tests.signals import RATE, ramps

SOUND = ramps([1000, 40_000, 80_000], 2 * RATE, noise=0.01)
SAMPLES = np.round(SOUND * 30_000).astype("<i2").tobytes()


def wav(
    path: Path,
    data: bytes = SAMPLES,
    *,
    said: int | None = None,
    kind: int = 1,
    channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    frame: int | None = None,
    byte_rate: int | None = None,
    before: bytes = b"",
    behind: bytes = b"",
) -> Path:
    """Write a WAV with whatever its header shall say; by default what is true."""
    frame = channels * -(-bits // 8) if frame is None else frame
    byte_rate = rate * frame if byte_rate is None else byte_rate
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, rate, byte_rate, frame, bits)
    size = len(data) if said is None else said
    body = b"WAVE" + form + before + struct.pack("<4sI", b"data", size) + data + behind
    path.write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)
    return path


def heard(path: Path) -> tuple[np.ndarray, str]:
    """Return a file's frames (frames,), and what is said at their end."""
    blocks, said = [np.empty((0, 1), np.float32)], ""
    with AudioFile(path) as file:
        try:
            for block in file.blocks(1000):
                blocks.append(block)
        except AudioFileError as error:
            said = str(error)
    return np.concatenate(blocks)[:, 0], said


KILLED = [("wav", "PCM_16"), ("wav", "FLOAT"), ("rf64", "PCM_24"), ("w64", "PCM_16"), ("aiff", "PCM_16"), ("au", "PCM_16"),
          ("caf", "PCM_16")]  # fmt: skip


@pytest.mark.parametrize(("suffix", "subtype"), KILLED)
def test_a_file_whose_writer_was_killed_is_read_to_its_end(tmp_path: Path, suffix: str, subtype: str):
    """Every frame that stands in the file is read, and the header that knows less is named."""
    path = tmp_path / f"x.{suffix}"
    child = os.fork()
    if child == 0:
        file = soundfile.SoundFile(path, "w", RATE, 1, subtype, format=suffix.upper())
        for part in np.array_split(SOUND, 20):
            file.write(part)
        os._exit(0)
    os.waitpid(child, 0)
    samples, said = heard(path)
    assert len(samples) >= len(SOUND) - 4096  # what libsndfile had not written yet is gone
    assert np.abs(samples - SOUND[: len(samples)]).max() < 1e-4 + (subtype != "FLOAT") * 0.02
    assert "was not finished" in said


def test_python_s_wave_killed_before_it_closed(tmp_path: Path, cli: Cli):
    """`replay` of what `wave` leaves behind a kill finds all events, says what is wrong, and ends with code 2."""
    import wave

    path = tmp_path / "x.wav"
    child = os.fork()
    if child == 0:
        file = wave.open(str(path), "wb")  # noqa: SIM115 (never closed)
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        for part in np.array_split(np.frombuffer(SAMPLES, "<i2"), 10):
            file.writeframesraw(part.tobytes())
        file._file.flush()
        os._exit(0)
    os.waitpid(child, 0)
    done = cli("replay", path)
    assert (done.returncode, done.stdout.count('"sample"')) == (2, 3)
    assert "was not finished" in done.stderr


@given(st.integers(0, 2000), st.booleans(), st.lists(st.sampled_from([b"LIST", b"id3 ", b"bext", b"cue "]), max_size=3))
def test_sound_is_what_stands_before_real_chunks(tmp_path_factory: pytest.TempPathFactory, said: int, stale: bool, names: list):
    """A right size leaves the chunks behind the sound alone; one that is too small, whatever it is, hides no sample."""
    behind = b"".join(struct.pack("<4sI", name, 6) + b"abcdef" for name in names)
    path = tmp_path_factory.getbasetemp() / "chunks.wav"
    data = np.random.default_rng(said).integers(-9000, 9000, 3000).astype("<i2").tobytes()
    wav(path, data, said=2 * said if stale else None, behind=b"" if stale else behind)
    layout = layout_of(path)
    assert (layout.actual, layout.is_stale) == (len(data), stale)
    samples, message = heard(path)
    assert np.array_equal(samples, np.frombuffer(data, "<i2") / np.float32(32768))
    assert ("was not finished" in message) == stale


@pytest.mark.parametrize("said", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_length_that_the_writer_could_not_know_is_no_fault(tmp_path: Path, said: int):
    """What was written into a pipe is read to its end, without a word."""
    assert (len(heard(wav(tmp_path / "x.wav", said=said))[0]), heard(tmp_path / "x.wav")[1]) == (len(SOUND), "")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"frame": 4}, "1 channel of 16 bits in frames of 4 bytes, not 2"),
        ({"frame": 1}, "in frames of 1 bytes, not 2"),
        ({"bits": 24, "frame": 2}, "24 bits in frames of 2 bytes, not 3"),
        ({"bits": 8, "frame": 2}, "8 bits in frames of 2 bytes, not 1"),
        ({"channels": 2, "frame": 2}, "2 channels of 16 bits in frames of 2 bytes, not 4"),
        ({"byte_rate": 1}, "make 96,000 bytes a second, not 1"),
        ({"rate": 44_100, "byte_rate": 96_000}, "make 88,200 bytes a second, not 96,000"),
        ({"kind": 3}, "floats of 16 bits"),
        ({"bits": 0}, "samples of 0 bits"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path, header: dict, said: str):
    """Where alignment, bits, channels, rate and byte rate do not go together nothing is guessed: both are named."""
    with pytest.raises(AudioFileError, match="its header contradicts itself") as error:
        AudioFile(wav(tmp_path / "x.wav", **header))
    assert said in str(error.value)
    assert "ffmpeg -i" in error.value.remedy


def test_twelve_bits_in_two_bytes_are_right(tmp_path: Path):
    """Bits that do not fill their bytes are at their top, as the format says."""
    samples = heard(wav(tmp_path / "x.wav", bits=12))[0]
    assert np.array_equal(samples, np.frombuffer(SAMPLES, "<i2") / np.float32(32768))


@pytest.mark.parametrize("suffix", ["wav", "aiff", "w64"])
def test_a_header_without_frames_is_said(tmp_path: Path, cli: Cli, suffix: str):
    """A file that holds no sound is no file without events: code 2, and the reason."""
    soundfile.write(tmp_path / f"x.{suffix}", np.empty(0), RATE)
    done = cli("replay", tmp_path / f"x.{suffix}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "holds no sound" in done.stderr


@pytest.mark.parametrize("frames", [100_000, 98_304, 7])
def test_a_flac_that_does_not_know_its_length_is_read_to_its_end(tmp_path: Path, frames: int):
    """A FLAC written into a pipe has no number of frames in its header; none of them is lost."""
    path = tmp_path / "x.flac"
    sound = np.sin(np.arange(frames) / 10) * 0.3
    soundfile.write(path, sound, RATE, "PCM_16")
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # STREAMINFO: 36 bits of its total samples
    data[22:26] = bytes(4)
    path.write_bytes(data)
    samples, said = heard(path)
    assert (len(samples), said) == (frames, "")
    assert np.abs(samples - sound).max() < 1e-4


@pytest.mark.parametrize(("suffix", "subtype"), [*KILLED, ("flac", "PCM_16"), ("ogg", "VORBIS")])
def test_a_whole_file_is_read_without_a_word(tmp_path: Path, suffix: str, subtype: str):
    """What libsndfile wrote and closed is consistent, in every format."""
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, SOUND, RATE, subtype, format=suffix.upper())
    assert (len(heard(path)[0]), heard(path)[1]) == (len(SOUND), "")


@pytest.mark.parametrize(
    "behind",
    [bytes(300), b"TAG" + bytes(125), b"ID3\x04" + bytes(200), struct.pack("<4sI", b"LIST", 4) + b"INFO" + bytes(90),
     struct.pack("<4sI", b"LIST", 900) + b"INFO"],
    ids=["padding", "id3v1", "id3v2", "a chunk and padding", "a chunk that is cut off"],
)  # fmt: skip
def test_what_programs_put_behind_the_sound_is_no_sound(tmp_path: Path, behind: bytes):
    """Padding and tags behind a finished file are left alone, whether they are whole chunks or not."""
    path = wav(tmp_path / "x.wav")
    path.write_bytes(path.read_bytes() + behind)
    assert (len(heard(path)[0]), heard(path)[1]) == (len(SOUND), "")


def test_a_packed_aiff_is_whole(tmp_path: Path):
    """In an AIFF-C that is compressed the header counts packets, not frames: it is read without a word."""
    path = tmp_path / "x.aiff"
    soundfile.write(path, SOUND, RATE, "IMA_ADPCM", format="AIFF")
    samples, said = heard(path)
    assert (len(samples) >= len(SOUND), said) == (True, "")


@pytest.mark.parametrize("suffix", ["au", "snd", "vox", "gsm"])
def test_a_text_is_no_sound_whatever_its_name(tmp_path: Path, suffix: str):
    """A file without a header is not taken for sound because of its name."""
    (tmp_path / f"x.{suffix}").write_text("words " * 1000)
    with pytest.raises(AudioFileError, match="cannot be read as sound"):
        AudioFile(tmp_path / f"x.{suffix}")


def flac(path: Path, frames: int, channels: int = 1, *, said: int | None = None) -> tuple[Path, np.ndarray]:
    """Write a FLAC whose header tells of `said` frames; return what it holds as well: (frames,), its first channel."""
    sound = np.random.default_rng(frames).integers(-9000, 9000, (frames, channels)).astype(np.int16)
    soundfile.write(path, sound, RATE, format="FLAC", subtype="PCM_16")
    if said is not None:
        data = bytearray(path.read_bytes())
        data[21:26] = ((data[21] & 0xF0) << 32 | said).to_bytes(5, "big")
        path.write_bytes(data)
    return path, sound[:, 0] / np.float32(32768)


@settings(max_examples=30)
@given(st.integers(1, 30_000), st.integers(1, 8), st.floats(0, 1), st.sampled_from([b"", b"TAG".ljust(128)]))
def test_a_flac_s_last_block_tells_how_long_it_is(
    tmp_path_factory: pytest.TempPathFactory, frames: int, channels: int, share: float, behind: bytes
):
    """A header that tells of too few frames hides none, and is named; one that is right is believed without a word."""
    path = tmp_path_factory.getbasetemp() / "x.flac"
    said = 1 + int(share * (frames - 1))
    _, sound = flac(path, frames, channels, said=said)
    with path.open("ab") as file:
        file.write(behind)
    samples, message = heard(path)
    assert np.array_equal(samples, sound)
    wanted = f"its header tells of {said:,} frames, and {frames:,} are there"
    assert (wanted in message) if said < frames else not message


def _crc(data: bytes, bits: int, polynomial: int) -> bytes:
    rest = 0
    for bit in (byte >> k & 1 for byte in data for k in range(7, -1, -1)):
        rest = (rest << 1 ^ (polynomial if rest >> bits - 1 ^ bit else 0)) & (1 << bits) - 1
    return rest.to_bytes(bits // 8, "big")


def _blocks(sizes: list[int], *, counts_frames: bool) -> bytes:
    """Return FLAC's blocks of one constant sample each, numbered by frames or by blocks."""
    data, frames = b"", 0
    for number, size in enumerate(sizes):
        coded = chr(frames if counts_frames else number).encode("utf-8", "surrogatepass")
        head = bytes((0xFF, 0xF8 | counts_frames, 0x70, 0x08)) + coded + struct.pack(">H", size - 1)
        block = head + _crc(head, 8, 0x07) + struct.pack(">BH", 0, number + 1)
        data += block + _crc(block, 16, 0x8005)
        frames += size
    return data


@settings(max_examples=50)
@given(st.lists(st.integers(16, 5000), min_size=2, max_size=20), st.booleans(), st.integers(0, 3))
def test_a_flac_s_blocks_are_counted_either_way(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], counts_frames: bool, lost: int
):
    """Blocks of any sizes that number frames, and equal ones that number themselves, tell the length; a torn one is none."""
    path = tmp_path_factory.getbasetemp() / "blocks.flac"
    sizes = sizes if counts_frames else [sizes[0]] * len(sizes)
    said = 10
    info = struct.pack(">HH6xQ16x", min(sizes), max(sizes), RATE << 44 | 15 << 36 | said)
    blocks = _blocks(sizes, counts_frames=counts_frames)
    path.write_bytes(b"fLaC\x80\x00\x00\x22" + info + blocks[: len(blocks) - lost])
    wanted = sum(sizes[:-1] if lost else sizes)
    samples, message = heard(path)
    truth = np.repeat(np.arange(1, len(sizes) + 1), sizes)[:wanted] / np.float32(32768)
    if lost == 1 and blocks[-1] == 0:  # without it, a checksum that ends with zero fits all the same
        assert np.array_equal(samples, truth[: len(samples)])
        assert "damaged after frame" in message
        return
    assert flac_layout(path).actual == wanted
    assert np.array_equal(samples, truth)
    assert f"{wanted:,} are there" in message


def test_a_tail_of_nothing_but_headers_takes_no_longer_than_any_other(tmp_path: Path):
    """The last whole block before thousands of headers is found; before anything else, the last with another behind it."""
    path = tmp_path / "x.flac"
    info = struct.pack(">HH6xQ16x", 16, 5000, RATE << 44 | 15 << 36 | 10)
    head = bytes((0xFF, 0xF9, 0x70, 0x08, 0x40)) + struct.pack(">H", 99)
    for tail, wanted in ((10_000 * (head + _crc(head, 8, 0x07)), 200), (100_000 * b"\xff\xf8", 100)):
        path.write_bytes(b"fLaC\x80\x00\x00\x22" + info + _blocks([100, 100], counts_frames=True) + tail)
        assert flac_layout(path).actual == wanted


BEHIND_EACH_OTHER = [("wav", "PCM_16"), ("rf64", "PCM_24"), ("w64", "PCM_16"), ("aiff", "PCM_16"), ("au", "PCM_16"),
                     ("caf", "PCM_16"), ("flac", "PCM_16"), ("ogg", "VORBIS"), ("ogg", "OPUS")]  # fmt: skip


@pytest.mark.parametrize("tagged", [False, True], ids=["", "tagged"])
@pytest.mark.parametrize(("suffix", "subtype"), BEHIND_EACH_OTHER)
def test_a_second_recording_in_a_file_is_never_left_out_in_silence(
    tmp_path: Path, cli: Cli, suffix: str, subtype: str, tagged: bool
):
    """What `cat a b` made is no valid file: that is said, and the remedy gives two that are."""
    path = tmp_path / f"it's a take.{suffix}"  # as people name files
    with soundfile.SoundFile(path, "w", RATE, 1, subtype, format=suffix.upper()) as file:
        if tagged and suffix not in ("w64", "au"):  # which have no titles
            file.title = "a title"
        file.write(SOUND)
    path.write_bytes(2 * path.read_bytes())
    done = cli("replay", path)
    assert done.returncode == 2
    assert "holds two recordings, one behind the other" in done.stderr
    remedy = done.stderr.partition("cut it in two: ")[2]
    subprocess.run(remedy, shell=True, check=True, cwd=tmp_path)
    for part in ("first", "second"):
        samples, message = heard(tmp_path / f"{part}.{suffix}")
        assert (len(samples), message) == (len(SOUND), "")


def test_streams_beside_each_other_are_one_recording(tmp_path: Path):
    """In Ogg, streams that begin together are no recordings in a row."""
    page = struct.pack("<4sBBqIIIBB", b"OggS", 0, 2, 0, 1, 0, 0, 1, 3) + b"abc"
    path = tmp_path / "x.ogg"
    path.write_bytes(page + page + page.replace(b"S\0\x02", b"S\0\x04"))
    assert second_start(path) is None
    path.write_bytes(path.read_bytes() + page)
    assert second_start(path) == 3 * len(page)


def test_an_rf64_chunk_with_a_size_of_its_own_hides_no_frame(tmp_path: Path):
    """Where the chunk of samples says another size than the header, the file's end decides."""
    path = tmp_path / "x.rf64"
    soundfile.write(path, SOUND, RATE, "PCM_16", format="RF64")
    data = bytearray(path.read_bytes())
    at = data.index(b"data")
    data[at + 4 : at + 8] = b"data"
    path.write_bytes(data + b"\1\2" * 50)
    samples, message = heard(path)
    assert len(samples) == len(SOUND) + 50
    assert "was not finished" in message

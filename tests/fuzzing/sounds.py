"""Sound files whose headers lie, that are cut off or damaged, given to `replay`."""

import functools
import io
import struct
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from streamcnn.shipped import shipped_net
from tests.fuzzing.case import Case, Outcome, dropped, fault
from tests.fuzzing.command import judged, run
from tests.fuzzing.mutations import NUMBERS, spoiled
from tests.fuzzing.sound_reader import least_frames

RAMP = shipped_net("ramp")
PCM, FLOAT, ALAW, ULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
FORMATS = ((PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64), (ALAW, 8), (ULAW, 8))
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
HEADS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"riff", b"fLaC", b"OggS", b".snd", b"caff", b"ID3", b"\xff")
SUFFIXES = (".flac", ".ogg", ".w64", ".aiff", ".snd", ".au", ".vox", ".raw", ".mp3", "")  # what is in it decides
MOST_FRAMES = 3000
OTHERS = (("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("W64", "PCM_16"), ("W64", "FLOAT"),
          ("RF64", "PCM_16"), ("RF64", "FLOAT"), ("AIFF", "PCM_16"), ("AIFF", "PCM_24"), ("AIFF", "FLOAT"))  # fmt: skip
NAMES = (b"fmt ", b"data", b"fact", b"LIST", b"JUNK", b"bext", b"cue ", b"PEAK", b"wavl", b"slnt", b"ds64", b"abcd",
         b"\0\0\0\0")  # fmt: skip
SIZES = (0, 1, 2, 3, 4, 7, 8, 16, 100, 2000, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFF00)
FIELDS = ("HHIIHH", (("tag", 0), ("channels", 1), ("rate", 2), ("bytes a second", 3), ("frame bytes", 4), ("bits", 5)))


def prepare() -> None:
    """Load the engine and libsndfile."""
    Path("ready.wav").write_bytes(other("WAV", "FLOAT", 1, 48_000, 2000))
    run("replay", "ready.wav", "--net", RAMP)


def case(random: Random) -> Case:
    """Make a WAV chunk by chunk, with lies in it, or spoil a file of another kind."""
    made, data, least = lying_wav(random) if random.random() < 0.65 else _spoiled_other(random)
    words = random.choice(((), (), (), ("--block", "100"), ("--channels", "1,2"), ("--edges", "keras")))
    suffix = random.choice(SUFFIXES) if random.random() < 0.15 else ".wav"
    return Case(made, {f"x{suffix}": data}, words, least)


def try_(case: Case, folder: Path) -> Outcome:
    """Replay it; all its frames must be processed, or something said."""
    ran = run("replay", *(folder / name for name in case.files), "--net", RAMP, *case.words)
    outcome = judged(ran)
    if outcome.fault or not outcome.is_taken:
        return outcome
    (data,) = case.files.values()
    if not ran.err and not data.startswith(HEADS):
        return fault("what is no sound file is replayed", data[:40])
    return dropped("frames", ran.frames, case.least, ran.err)


def chunk(name: bytes, content: bytes, size: int | None = None, *, is_padded: bool = True) -> bytes:
    """Return a chunk of RIFF, of a size that need not be true."""
    padding = b"\0" if is_padded and len(content) % 2 else b""
    return name + struct.pack("<I", len(content) if size is None else size % 2**32) + content + padding


def lying_wav(random: Random) -> tuple[str, bytes, int | None]:
    """Return a WAV with some lies in it: how it was made, its bytes, and how many frames there are."""
    tag, bits = random.choice(FORMATS)
    channels, rate = random.choice((1, 1, 1, 2, 3)), random.choice((48_000, 48_000, 44_100, 8000))
    fields = [tag, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits]
    lies, is_extensible = [], random.random() < 0.2
    if random.random() < 0.25:
        name, place = random.choice(FIELDS[1])
        most = 2 ** (32 if place in (2, 3) else 16)
        fields[place] = random.choice([n for n in NUMBERS if isinstance(n, int) and 0 <= n < most])
        lies.append(f"{name} {fields[place]}")
    sound = samples(random, random.randrange(MOST_FRAMES), channels, tag, bits)
    size = None
    if random.random() < 0.5:
        size = random.choice(
            (*SIZES, len(sound) // 2, len(sound) - 1, len(sound) + 1, len(sound) * 2, len(sound) + 1000)
        )
        lies.append(f"data size {size}")
    chunks = [chunk(b"fmt ", _format(fields, is_extensible=is_extensible))]
    chunks.append(chunk(b"data", sound, size, is_padded=random.random() < 0.9))
    for _ in range(random.choice((0, 0, 1, 2))):
        name = random.choice(NAMES)
        strange = random.choice(SIZES) if random.random() < 0.2 else None
        noise = random.randbytes(random.choice((0, 4, 28, 101, 1000)))
        extra = random.choice((noise, chunks[random.randrange(len(chunks))][8:]))
        chunks.insert(random.randrange(len(chunks) + 1), chunk(name, extra, strange))
        lies.append(f"a chunk {name!r} of {len(extra)} bytes" + ("" if strange is None else f" that says {strange}"))
    if random.random() < 0.05:
        random.shuffle(chunks)
        lies.append("chunks in another order")
    body = b"WAVE" + b"".join(chunks)
    whole = random.choice(SIZES) if random.random() < 0.15 else len(body)
    data = random.choice((b"RIFF",) * 12 + (b"RIFX", b"RF64")) + struct.pack("<I", whole) + body
    data, more = _damaged(random, data)
    made = f"WAV of format {tag}{' (extensible)' if is_extensible else ''}, {bits} bits, {channels} channels"
    return ", ".join([made, *lies, *more]), data, least_frames(data)


def samples(random: Random, frames: int, channels: int, tag: int, bits: int) -> bytes:
    """Return sound in a format of WAV, none of which reads as the name of a chunk."""
    noise = np.random.default_rng(random.randrange(2**32)).uniform(-0.9, 0.9, frames * channels)
    if tag == FLOAT:
        return noise.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return ((noise * 120 + 128).astype(np.uint8) | 0x80).tobytes()
    whole = (noise * (2**31 - 1)).astype("<i4").view(np.uint8).reshape(-1, 4)[:, 4 - bits // 8 :]
    return np.ascontiguousarray(whole).tobytes()


def _format(fields: list[int], *, is_extensible: bool) -> bytes:
    tag, *rest = fields
    if not is_extensible:
        return struct.pack("<" + FIELDS[0], *fields)
    head = struct.pack("<" + FIELDS[0], EXTENSIBLE, *rest)
    return head + struct.pack("<HHIH", 22, rest[-1], 0, tag) + GUID_TAIL


def _damaged(random: Random, data: bytes) -> tuple[bytes, list[str]]:
    """Perhaps cut a file off, append something, or spoil its head."""
    match random.randrange(10):
        case 0:
            end = random.randrange(len(data) + 1)
            return data[:end], [f"cut off after {end} bytes"]
        case 1:
            return spoiled(random, data, within=(0, min(len(data), 80))), ["its head spoiled"]
        case 2:
            more = random.randbytes(random.choice((1, 3, 8, 50, 5000)))
            return data + more, [f"{len(more)} bytes behind it"]
    return data, []


@functools.cache
def other(kind: str, subtype: str, channels: int, rate: int, frames: int) -> bytes:
    """Return a valid file, made by libsndfile."""
    sound = np.random.default_rng(frames).uniform(-0.5, 0.5, (frames, channels))
    file = io.BytesIO()
    soundfile.write(file, sound, rate, format=kind, subtype=subtype)
    return _steady(file.getvalue())


def _steady(data: bytes) -> bytes:
    """Return a file without what libsndfile puts in by time or chance: when a peak was measured, and an Ogg stream's number."""
    at = data.find(b"PEAK")
    if at >= 0:
        data = data[: at + 12] + bytes(4) + data[at + 16 :]
    pages, at = b"", 0
    while data.startswith(b"OggS", at):
        segments = data[at + 27 : at + 27 + data[at + 26]]
        end = at + 27 + len(segments) + sum(segments)
        page = data[at : at + 14] + bytes(4) + data[at + 18 : at + 22] + bytes(4) + data[at + 26 : end]
        pages += page[:22] + struct.pack("<I", _ogg_checksum(page)) + page[26:]
        at = end
    return pages or data


def _ogg_checksum(page: bytes) -> int:
    """Return the checksum of a page of Ogg (RFC 3533, section 6)."""
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1) ^ (0x104C11DB7 if register & 0x80000000 else 0)
    return register


def _spoiled_other(random: Random) -> tuple[str, bytes, int | None]:
    kind, subtype = random.choice(OTHERS)
    channels, frames = random.choice((1, 2)), random.choice((1, 500, 2000, 5000))
    data = other(kind, subtype, channels, 48_000, frames)
    made = f"{kind} {subtype}, {channels} channels, {frames} frames"
    match random.randrange(6):
        case 0:
            end = random.randrange(len(data))
            made, data = f"{made}, cut off after {end} bytes", data[:end]
        case 1:
            made, data = f"{made}, its head spoiled", spoiled(random, data, within=(0, min(len(data), 100)))
        case 2:
            made, data = f"{made}, spoiled", spoiled(random, data)
        case 3:
            made, data = _resized(random, made, data)
        case 4:
            made, data, frames = f"{made}, twice", 2 * data, 2 * frames
    if kind in ("FLAC", "OGG"):
        return made, data, frames
    return made, data, least_frames(data)


def _resized(random: Random, made: str, data: bytes) -> tuple[str, bytes]:
    """Write another size, or another number, behind the name of a chunk."""
    names = [
        name
        for name in (b"RF64", b"FORM", b"riff", b"ds64", b"data", b"SSND", b"COMM", b"fmt ", b"OggS")
        if name in data
    ]
    if not names:
        return made, data
    name = random.choice(names)
    at = data.index(name) + (16 if b"riff" in data[:4] else 4) + random.choice((0, 0, 0, 4, 8))
    size = random.choice((*SIZES, len(data) // 2, len(data) - 1, len(data) + 9)) % 2**32
    form = (">I" if data[:4] == b"FORM" else "<I") if data[:4] != b"riff" else "<Q"
    number = struct.pack(form, size)
    return f"{made}, {size} at {name!r}", data[:at] + number + data[at + len(number) :]

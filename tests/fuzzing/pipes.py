"""Bytes on standard input, in odd pieces and of other kinds than they are said to be, given to the source that reads them."""

import os
import threading
from pathlib import Path
from random import Random

import numpy as np

from streamcnn.errors import StreamcnnError
from streamcnn.ring import Ring
from streamcnn.sources.pcm import FORMATS
from streamcnn.sources.raw import Raw
from tests.fuzzing.case import TAKEN, Case, Outcome, fault
from tests.fuzzing.mutations import spoiled
from tests.fuzzing.sounds import other

MOST_FRAMES = 40_000
LONGEST_S = 1.9


def prepare() -> None:
    """Load the ring."""
    try_(Case("", {"stdin": np.zeros(5000, "<f4").tobytes()}, ("", "", "1")), Path())


def case(random: Random) -> Case:
    """Make bytes of a format, or of a file, and say another format, other channels, or none."""
    name = random.choice(list(FORMATS))
    said, width = random.choice(("", name, random.choice(list(FORMATS)))), random.choice(("", "1", "2", "3"))
    channels = random.choice(("1", "2", "1,2", "2,1"))
    match random.randrange(8):
        case 0:
            kind, subtype = random.choice((("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")))
            made, data = "a sound file", other(kind, subtype, 1, 8000, 500)
        case 1:
            made, data = "random bytes", random.randbytes(random.randrange(30_000))
        case 2:
            made, data = "hardly any bytes", random.randbytes(random.randrange(20))
        case _:
            made, data = name, sound(random, name)
    if random.random() < 0.5:
        made, data = f"{made}, spoiled", spoiled(random, data)
    if random.random() < 0.3:
        data = data[: random.randrange(len(data) + 1)]
    return Case(f"{made}; said to be '{said}', width '{width}'", {"stdin": data}, (said, width, channels))


def try_(case: Case, folder: Path) -> Outcome:
    """Read them from a pipe; every frame must come, or an error be told."""
    said, width, channels = case.words
    selected = tuple(map(int, channels.split(",")))
    data, stated = case.files["stdin"], int(width) if width else None
    if stated is not None and max(selected) > stated:
        selected = (1,)  # anything else is refused before
    out, into = os.pipe()
    with os.fdopen(out, "rb") as file:
        raw, ring = Raw(48_000, selected, file, said or None, stated), Ring(len(selected), len(data) + 2)
        writer = threading.Thread(target=_write, args=(into, data))
        writer.start()
        raw.start(ring)
        reader = next((thread for thread in threading.enumerate() if thread.name == "source"), None)
        if reader is not None:
            reader.join(LONGEST_S)
        if reader is not None and reader.is_alive():
            raw.stop()
            return fault("hangs", "the source goes on after its end")
        raw.stop()
    writer.join()
    if raw.error is not None:
        if not isinstance(raw.error, StreamcnnError):
            return fault(f"{type(raw.error).__name__} of the source", raw.error)
        raise raw.error
    frame_bytes = FORMATS[said or "f32le"][0] * (stated or max(selected))
    if ring.next_sample * frame_bytes != len(data) or ring.lost_frames:
        return fault(
            "frames dropped in silence", f"{ring.next_sample} frames of {frame_bytes} bytes out of {len(data)} bytes"
        )
    return TAKEN


def sound(random: Random, name: str) -> bytes:
    """Return noise, a tone, zeros or a constant in a format."""
    size, kind = FORMATS[name]
    count = random.randrange(MOST_FRAMES // size)
    values = random.choice((
        np.random.default_rng(random.randrange(2**32)).normal(0, 0.1, count), np.sin(np.arange(count) / 20),
        np.zeros(count), np.full(count, random.choice((0.5, 1e-20, 1e5, np.nan, np.inf, 3e38))),
    ))  # fmt: skip
    with np.errstate(all="ignore"):
        if kind is None:
            whole = np.nan_to_num(values * 2**23).clip(-(2**23), 2**23 - 1).astype("<i4")
            return whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
        if "f" in kind:
            return values.astype(kind).tobytes()
        scale = 2 ** (8 * size - 1) - 1
        return (np.nan_to_num(values).clip(-1, 1) * scale + (128 if kind == "u1" else 0)).astype(kind).tobytes()


def _write(into: int, data: bytes) -> None:
    """Write in odd pieces; a reader that has gone is its own affair."""
    try:
        with os.fdopen(into, "wb", buffering=0) as file:
            for k in range(0, len(data), 4097):
                file.write(data[k : k + 4097])
    except BrokenPipeError:
        pass

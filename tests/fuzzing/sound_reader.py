"""A naive reader of sound files' headers that shares nothing with the program: how many frames there certainly are.

It believes where the samples begin, and of their size only what the rest of the file bears out: where real chunks follow, or
the file ends. Otherwise all up to the end of the file is taken for samples.
"""

import struct
from typing import NamedTuple

ONE_BYTE, PLAIN, EXTENSIBLE = (6, 7), (1, 3), 0xFFFE  # WAV's formats
UNKNOWN = 0xFFFFFFFF
W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")


class Chunk(NamedTuple):
    """A chunk: its name, where its content begins, its size, and where the next one stands."""

    name: bytes
    start: int
    size: int
    next: int


class Shape(NamedTuple):
    """How chunks are written."""

    number: str
    name_bytes: int
    padding: int
    counts_itself: bool


RIFF, IFF, W64 = Shape("<I", 4, 2, False), Shape(">I", 4, 2, False), Shape("<Q", 16, 8, True)


def least_frames(data: bytes) -> int | None:
    """Return how many frames a WAV, RF64, W64 or AIFF file holds at least, None where that cannot be known."""
    match data[:4], data[8:12]:
        case (b"RIFF" | b"RF64", b"WAVE"):
            return _wav(data, RIFF, 12)
        case (b"FORM", b"AIFF" | b"AIFC"):
            return _aiff(data)
    return _wav(data, W64, 40) if data[:4] == b"riff" and data[24:28] == b"wave" else None


def _chunk(data: bytes, shape: Shape, at: int) -> Chunk | None:
    head = shape.name_bytes + struct.calcsize(shape.number)
    if at + head > len(data):
        return None
    (size,) = struct.unpack_from(shape.number, data, at + shape.name_bytes)
    size -= head if shape.counts_itself else 0
    start = at + head
    return Chunk(data[at : at + shape.name_bytes], start, size, start + size + -size % shape.padding)


def _found(data: bytes, shape: Shape, at: int, *names: bytes) -> list[Chunk | None]:
    """Return the first chunk of each name."""
    found = {}
    while (chunk := _chunk(data, shape, at)) is not None and chunk.next > at:
        found.setdefault(chunk.name[:4], chunk)
        at = chunk.next
    return [found.get(name) for name in names]


def _end(data: bytes, shape: Shape, chunk: Chunk, size: int) -> int:
    """Return where the samples of a chunk end that says it has `size` bytes."""
    at = chunk.start + size
    if size < 0 or at > len(data):
        return len(data)
    after = {_chunk(data, shape, place) for place in (at, at + -size % shape.padding)}
    rest_is_chunks = any(chunk is not None and _is_name(chunk.name) for chunk in after)
    return at if rest_is_chunks or len(data) - at < shape.padding else len(data)


def _is_name(name: bytes) -> bool:
    return all(32 <= byte < 127 for byte in name[:4]) and name[4:] in (b"", W64_TAIL)


def _wav(data: bytes, shape: Shape, first: int) -> int | None:
    format_, samples, large = _found(data, shape, first, b"fmt ", b"data", b"ds64")
    if format_ is None or samples is None or samples.start < format_.start or format_.start + 16 > len(data):
        return None
    tag, channels, _, _, align, bits = struct.unpack_from("<HHIIHH", data, format_.start)
    if tag == EXTENSIBLE and format_.start + 26 <= len(data):
        (tag,) = struct.unpack_from("<H", data, format_.start + 24)
    if tag not in (*PLAIN, *ONE_BYTE):
        return None
    frame = max(align, channels * (1 if tag in ONE_BYTE else -(-bits // 8)))
    size = samples.size
    if size == UNKNOWN and large is not None and large.start + 16 <= len(data):
        (size,) = struct.unpack_from("<Q", data, large.start + 8)
    return (_end(data, shape, samples, size) - samples.start) // frame if frame else None


def _aiff(data: bytes) -> int | None:
    common, samples = _found(data, IFF, 12, b"COMM", b"SSND")
    if common is None or samples is None or common.start + 18 > len(data) or samples.start + 8 > len(data):
        return None
    channels, _, bits = struct.unpack_from(">hIh", data, common.start)
    kind = data[common.start + 18 : common.start + 22] if data[8:12] == b"AIFC" else b"NONE"
    frame = channels * (4 if kind.lower() == b"fl32" else (bits + 7) // 8)
    if frame <= 0 or kind not in (b"NONE", b"twos", b"sowt", b"fl32", b"FL32"):
        return None
    (offset,) = struct.unpack_from(">I", data, samples.start)
    start = samples.start + 8 + offset
    return max(0, _end(data, IFF, samples, samples.size) - start) // frame

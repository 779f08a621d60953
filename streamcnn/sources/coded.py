"""What a FLAC or Ogg file holds behind the place up to which libsndfile reads it.

libsndfile reads as many frames of a FLAC as its header tells of, and of Ogg the first stream alone. So

- the number in a FLAC's last frame is held against its header (RFC 9639, sections 8.2 and 9);
- a second recording behind the first, as `cat a.flac b.flac` puts it, is looked for;
- the last page of an Ogg file has to say that it is the last (RFC 3533, section 6).

FLAC and Ogg call two things a frame. Here a block is what FLAC codes together, and a frame is one sample of each channel.
"""

import mmap
import re
from collections import deque
from functools import cache
from pathlib import Path
from typing import NamedTuple

from streamcnn.sources.layout import Layout

FLAC, OGG = b"fLaC", b"OggS"
FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")  # with the head of STREAMINFO, the last of its kind or not
TOTAL = 21  # where the number of frames stands in STREAMINFO: 36 bits, from the middle of a byte
TAIL = 1 << 18  # bytes that hold the last block, even of 8 channels, 4,608 frames and 32 bits
TAG = 128  # bytes of the tag (ID3v1) that some programs put behind files
HEAD = 16  # bytes that hold a block's header
SYNC = re.compile(rb"\xff[\xf8\xf9]")  # what a block begins with, and sound may hold too
NEAR = 4  # places behind a block at which it may end: the next one begins there, or what only looks like one
OGG_TAIL, OGG_HEAD, OGG_FLAGS, OGG_SEGMENTS = 1 << 17, 27, 5, 26  # bytes that hold the last page; where things stand in a page
OGG_BEGINS, OGG_ENDS = 2, 4  # flags


class _Head(NamedTuple):
    """A block's header: its kind, whether its number counts frames or blocks, that number, and how many frames it has."""

    kind: tuple[int, int]
    counts_frames: bool
    number: int
    frames: int


def flac_layout(path: Path) -> Layout | None:
    """Return how many frames a FLAC's header tells of and how many are there; None where it tells none, or all of them."""
    with path.open("rb") as file:
        if file.read(4) != FLAC:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start = _first_block(data)
            first = None if start is None else _head(data, start)
            if first is None:
                return None
            said = int.from_bytes(data[TOTAL : TOTAL + 5], "big") & (1 << 36) - 1
            actual = _frames(data, start, first)
            if said == 0 or actual <= said or _second_flac(data, start) is not None:
                return None
            total = (data[TOTAL] & 0xF0) << 32 | actual
            return Layout(start, said, actual, {TOTAL: total.to_bytes(5, "big")}, "frames")


def second_start(path: Path) -> int | None:
    """Return the byte at which a second recording begins in a FLAC or Ogg file, None where there is none."""
    with path.open("rb") as file:
        kind = file.read(4)
        if kind not in (FLAC, OGG):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if kind == OGG:
                return _second_ogg(data)
            start = _first_block(data)
            return None if start is None else _second_flac(data, start)


def lacks_its_end(path: Path) -> bool:
    """Whether an Ogg file does not close with the page that is marked as the last."""
    with path.open("rb") as file:
        if file.read(4) != OGG:
            return False
        file.seek(max(0, path.stat().st_size - OGG_TAIL))
        tail = file.read()
    page = tail.rfind(OGG)
    return page < 0 or not tail[page + OGG_FLAGS : page + OGG_FLAGS + 1].ljust(1, b"\0")[0] & OGG_ENDS


def _second_flac(data: mmap.mmap, start: int) -> int | None:
    found = [at for at in (data.find(begins, start) for begins in FLAC_STARTS) if at >= 0]
    return min(found, default=None)


def _second_ogg(data: mmap.mmap) -> int | None:
    """Streams that lie beside each other begin together; one that begins behind them is another recording."""
    at = 0
    while data[at : at + 4] == OGG and data[at + OGG_FLAGS] & OGG_BEGINS:
        segments = at + OGG_HEAD + data[at + OGG_SEGMENTS]
        at = segments + sum(data[at + OGG_HEAD : segments])
    found = data.find(OGG + bytes((0, OGG_BEGINS)), at)
    return found if found >= 0 else None


def _first_block(data: mmap.mmap) -> int | None:
    """Return where a FLAC's first block begins: behind its metadata."""
    at, is_last = len(FLAC), False
    while not is_last:
        if at + 4 > len(data):
            return None
        is_last, size = data[at] >> 7, int.from_bytes(data[at + 1 : at + 4], "big")
        at += 4 + size
    return at


def _frames(data: mmap.mmap, start: int, first: _Head) -> int:
    """Return how many frames a FLAC has by the number of its last whole block, 0 where none is found near its end.

    Only the nearest places are tried as a block's end, so that a tail of nothing but headers takes no longer than any other.
    """
    ends = deque([len(data) - TAG, len(data)], maxlen=NEAR)
    tail = max(start, len(data) - TAIL)
    for found in reversed(list(SYNC.finditer(data, tail))):
        at = found.start()
        head = _head(data, at)
        if head is None or (head.kind, head.counts_frames) != (first.kind, first.counts_frames):
            continue
        # (A block that lacks its last byte passes where its checksum ends with zero; the decoder then tells of it.)
        if any(end > at and _crc(data[at:end], 16, 0x8005) == 0 for end in ends):
            return (head.number - first.number) * (1 if head.counts_frames else first.frames) + head.frames
        ends.append(at)  # of a block that is cut off, or what looks like one
    return 0


def _head(data: mmap.mmap, start: int) -> _Head | None:
    """Return the header of the block at a place, None where there is none (RFC 9639, section 9.1)."""
    data = data[start : start + HEAD].ljust(HEAD, b"\0")
    if data[0] != 0xFF or data[1] >> 1 != 0xF8 >> 1 or data[3] & 1:
        return None
    size, rate = data[2] >> 4, data[2] & 15
    longer = next((count for count in range(8) if not data[4] << count & 0x80), 8)  # as UTF-8 codes a number
    if size == 0 or rate == 15 or longer in (1, 8):
        return None
    at = 4 + max(1, longer)
    number = data[4] & 0x7F >> longer
    for byte in data[5:at]:
        number = number << 6 | byte & 0x3F
    if size in (6, 7):
        frames = int.from_bytes(data[at : at + size - 5], "big") + 1
        at += size - 5
    else:
        frames = 192 if size == 1 else 576 << size - 2 if size < 6 else 256 << size - 8
    at += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if at >= HEAD or _crc(data[: at + 1], 8, 0x07):
        return None
    return _Head((rate, data[3] >> 1 & 7), bool(data[1] & 1), number, frames)


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    """Return the remainder of bytes that end with their checksum: 0 where it fits."""
    table, above, mask, rest = _table(bits, polynomial), bits - 8, (1 << bits) - 1, 0
    for byte in data:
        rest = rest << 8 & mask ^ table[rest >> above ^ byte]
    return rest


@cache
def _table(bits: int, polynomial: int) -> list[int]:
    table = []
    for byte in range(256):
        rest = byte << bits - 8
        for _ in range(8):
            rest = (rest << 1 ^ (polynomial if rest >> bits - 1 else 0)) & (1 << bits) - 1
        table.append(rest)
    return table

"""What the header of an uncompressed sound file says, held against the file: WAV, RF64, W64, AIFF, CAF and AU.

A writer that is killed leaves sizes that are zero, or those of a moment before, with samples behind them; libsndfile reads as
many as the sizes say and is content. So what follows the samples is looked at: real chunks belong there, anything else is sound
that the header does not know of. `repaired` gives the file with the sizes that it should have.

A WAV's header says some things twice. Where it contradicts itself nobody knows what the samples are, and it is refused.
"""

import contextlib
import io
import shlex
import struct
from pathlib import Path
from typing import NamedTuple

from streamcnn.errors import AudioFileError

UNKNOWN = (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x7FFFFFF0, 0x7FFF0000)  # sizes that writers into a pipe put
PCM, FLOAT, ALAW, ULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
REWRITE = "have its header written anew, once you know which is right: ffmpeg -i {path} new.wav"


class _Chunks(NamedTuple):
    """How chunks are: the byte order, the bytes of a name and of a size, whether that counts both, what it is padded to."""

    order: str
    name: int
    size: int
    counts_head: bool
    multiple: int


_RIFF, _RIFX = _Chunks("<", 4, 4, False, 2), _Chunks(">", 4, 4, False, 2)
_W64, _CAF = _Chunks("<", 16, 8, True, 8), _Chunks(">", 4, 8, False, 1)
_PLAIN = (b"NONE", b"twos", b"sowt", b"fl32", b"FL32", b"fl64", b"FL64", b"in24", b"in32", b"ni24", b"ni32", b"ulaw", b"ULAW",
          b"alaw", b"ALAW", b"raw ")  # fmt: skip
PADDING = 4096  # bytes of zeros that fill up a file
_KNOWN = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"cue ", b"smpl", b"PEAK", b"JUNK", b"fact", b"guan", b"wamd", b"afsp")
_GUID = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"  # behind the first four bytes of W64's names
_FAR = 1 << 20  # chunks; a file that has more is none


class Layout(NamedTuple):
    """Where a file's sound is: `start`, and `said` bytes by the header; what there is of it, and how to put it right.

    `said` is None where the header leaves that open. `actual`: bytes from `start` up to real chunks, or the file's end.
    `patches`: bytes to stand at places of the file, so that its header says `actual`. `unit`: of which both are numbers.
    """

    start: int
    said: int | None
    actual: int
    patches: dict[int, bytes]
    unit: str = "bytes of sound"

    @property
    def is_stale(self) -> bool:
        """Whether there is sound that the header does not know of."""
        return self.said is not None and self.actual > self.said


class _File:
    """A file that is read at places."""

    def __init__(self, path: Path):
        self._file = path.open("rb")
        self.length = self._file.seek(0, io.SEEK_END)

    def at(self, place: int, count: int) -> bytes:
        """Return bytes, fewer at the end; none at a place that is not there."""
        if not 0 <= place < self.length:
            return b""
        self._file.seek(place)
        return self._file.read(count)

    def number(self, place: int, form: str) -> int:
        """Return a number; 0 behind the end."""
        size = struct.calcsize(form)
        return struct.unpack(form, self.at(place, size).ljust(size, b"\0"))[0]

    def close(self) -> None:
        """Close it."""
        self._file.close()


def layout_of(path: Path) -> Layout | None:
    """Return a file's layout, None for a file of another kind, or one that libsndfile will refuse.

    Raises AudioFileError where a WAV's header contradicts itself.
    """
    with contextlib.closing(_File(path)) as file:
        layout = _layout(path, file)
        if layout is not None and layout.said is not None:
            _refuse_second(path, file, layout.start + layout.said)
        return layout


def _layout(path: Path, file: _File) -> Layout | None:
    head = file.at(0, 40)
    match head[:4]:
        case b"RIFF" | b"RF64" | b"RIFX" if head[8:12] == b"WAVE":
            return _wav(path, file, head[:4])
        case b"FORM" if head[8:12] in (b"AIFF", b"AIFC"):
            return _aiff(file)
        case b"riff" if head[24:28] == b"wave":
            return _w64(file)
        case b"caff":
            return _caf(file)
        case b".snd":
            return _au(file)
    return None


def _refuse_second(path: Path, file: _File, end: int) -> None:
    """Refuse a file that goes on, where its header says that it or its samples end, with the beginning of another one."""
    magic, kind = file.at(0, 4), file.at(8, 4)
    ends = {end, end + end % 2, end + -end % 8}  # with padding, or without
    if magic in (b"RIFF", b"RIFX", b"FORM"):
        ends.add(8 + file.number(4, "<I" if magic == b"RIFF" else ">I"))
        ends = {at for at in ends if file.at(at + 8, 4) == kind}
    for at in sorted(ends):
        if file.at(at, 4) == magic:
            raise second_recording(path, at)


def second_recording(path: Path, at: int) -> AudioFileError:
    """Return what there is to say of a file that begins anew at one of its bytes, as `cat` makes them."""
    name, suffix = shlex.quote(str(path)), shlex.quote(path.suffix) if path.suffix else ""
    return AudioFileError(
        f"{path}: holds two recordings, one behind the other; the second begins after {at:,} bytes, and is not read",
        f"cut it in two: head -c {at} {name} > first{suffix}; tail -c +{at + 1} {name} > second{suffix}",
    )


def repaired(path: Path, layout: Layout) -> io.RawIOBase:
    """Return the file, with a header that tells the truth."""
    return _Patched(path, layout.patches)


class _Patched(io.RawIOBase):
    """A file some of whose bytes are others."""

    def __init__(self, path: Path, patches: dict[int, bytes]):
        self._file = path.open("rb", buffering=1 << 16)
        self._patches = patches

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read from anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; libsndfile asks for places before the first, and means none."""
        with contextlib.suppress(OSError):
            self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def readinto(self, buffer: memoryview) -> int:
        """Read what comes next."""
        place, buffer = self._file.tell(), memoryview(buffer).cast("B")
        count = self._file.readinto(buffer)
        for at, new in self._patches.items():
            for number, byte in enumerate(new, at - place):
                if 0 <= number < count:
                    buffer[number] = byte
        return count

    def close(self) -> None:
        """Close it."""
        self._file.close()
        super().close()


def _chunks(file: _File, form: _Chunks, place: int) -> list[tuple[bytes, int, int, int]]:
    """Return the chunks from a place on: name, where the size and the content stand, and the size; until one does not fit."""
    found, head = [], form.name + form.size
    while place + head <= file.length and len(found) < _FAR:
        name = file.at(place, form.name)
        size = file.number(place + form.name, form.order + ("I" if form.size == 4 else "q"))
        size -= head if form.counts_head else 0
        found.append((name, place + form.name, place + head, size))
        if size < 0 or place + head + size > file.length:
            break
        place += head + size + -size % form.multiple
    return found


def _holds_chunks(file: _File, form: _Chunks, place: int, *, is_closed: bool) -> bool:
    """Whether what stands at a place is no sound: real chunks, tags that programs put behind files, or padding.

    `is_closed`: the header's own size ends here too.
    """
    head = file.at(place, PADDING)
    if is_closed and not any(head) and file.length - place <= PADDING:
        return True
    if head[:3] == b"ID3" or (head[:3] == b"TAG" and file.length - place == 128):
        return True
    chunks = _chunks(file, form, place)
    if not chunks:
        return False
    name, _, content, size = chunks[0]  # behind a whole one there is no sound any more
    is_name = all(32 <= byte < 127 for byte in name) if form.name == 4 else name[4:] == _GUID
    return is_name and size >= 0 and (content + size <= file.length + 1 or name in _KNOWN)


def _measured(
    file: _File, form: _Chunks, start: int, said: int | None, least: int, *, closes_at: int = 0
) -> int:
    """Return how many bytes of sound there are; `least`: a frame; `closes_at`: where the header says that the file ends."""
    if said is None or said > file.length - start:
        return max(0, file.length - start)
    ends = {start + said + -said % form.multiple, start + said}  # some writers forget the padding
    if (file.length - start) // least == said // least:
        return said
    is_padded = not any(file.at(start + said, max(ends) - start - said))
    if any(_holds_chunks(file, form, end, is_closed=is_padded and end == closes_at) for end in ends):
        return said
    return file.length - start


def _wav(path: Path, file: _File, magic: bytes) -> Layout | None:
    form = _RIFX if magic == b"RIFX" else _RIFF
    large, chunks = None, {}
    for name, at, content, size in _chunks(file, form, 12):
        chunks.setdefault(name, (at, content, size))
        if name == b"data":
            break
    if b"fmt " not in chunks or b"data" not in chunks:
        return None
    frame = _frame_bytes(path, file, form.order, *chunks[b"fmt "][1:])
    at, start, said = chunks[b"data"]
    if magic == b"RF64" and b"ds64" in chunks:
        large = chunks[b"ds64"][1]
        said = file.number(large + 8, "<Q")  # whatever the chunk itself says: libsndfile goes by this
    elif said in UNKNOWN:
        said = None
    actual = _measured(file, form, start, said, frame, closes_at=8 + file.number(4, form.order + "I"))
    if said is not None and actual == said:
        if any(name == b"data" for name, *_ in _chunks(file, form, start + said + -said % form.multiple)):
            raise AudioFileError(f"{path}: has two chunks of samples", "cut it into two files")
    elif said is None or actual > said:
        actual -= actual % frame
    if large is not None:
        patches = {large: struct.pack("<QQQ", start + actual - 8, actual, actual // frame), at: b"\xff" * 4}
    else:
        sizes = [min(size, 0xFFFFFFFF) for size in (start + actual - 8, actual)]
        patches = {4: struct.pack(form.order + "I", sizes[0]), at: struct.pack(form.order + "I", sizes[1])}
    return Layout(start, said, actual, patches)


def _frame_bytes(path: Path, file: _File, order: str, content: int, size: int) -> int:
    """Return the bytes of a frame; raises AudioFileError where the chunk `fmt ` contradicts itself."""
    kind, channels = (file.number(content + place, order + "H") for place in (0, 2))
    rate, byte_rate = (file.number(content + place, order + "I") for place in (4, 8))
    frame, bits = (file.number(content + place, order + "H") for place in (12, 14))
    if kind == EXTENSIBLE and size >= 40:
        kind = file.number(content + 24, order + "H")
    if kind not in (PCM, FLOAT, ALAW, ULAW) or not channels or not rate:
        return max(frame, 1)  # compressed, or nothing that libsndfile takes
    wanted = channels * -(-bits // 8)
    problem = None
    if (kind == FLOAT and bits not in (32, 64)) or (kind in (ALAW, ULAW) and bits != 8) or not 0 < bits <= 64:
        problem = f"{'floats' if kind == FLOAT else 'samples'} of {bits} bits"
    elif frame != wanted:
        problem = f"{channels} channel{'s' if channels > 1 else ''} of {bits} bits in frames of {frame} bytes, not {wanted}"
    elif byte_rate not in (rate * frame % (1 << 32), min(rate * frame, (1 << 32) - 1)):
        problem = f"{rate:,} frames of {frame} bytes make {rate * frame:,} bytes a second, not {byte_rate:,}"
    if problem is not None:
        raise AudioFileError(f"{path}: its header contradicts itself: {problem}", REWRITE.format(path=shlex.quote(str(path))))
    return frame


def _aiff(file: _File) -> Layout | None:
    chunks = {name: (at, content, size) for name, at, content, size in _chunks(file, _RIFX, 12)}
    if b"COMM" not in chunks or b"SSND" not in chunks:
        return None
    comm, (at, content, size) = chunks[b"COMM"][1], chunks[b"SSND"]
    channels, frames, bits = (file.number(comm + place, form) for place, form in ((0, ">H"), (2, ">I"), (6, ">H")))
    frame, skipped = max(1, channels * -(-bits // 8)), 8 + file.number(content, ">I")
    packed = file.at(8, 4) == b"AIFC" and file.at(comm + 18, 4) not in _PLAIN  # there COMM counts packets
    start, said = content + skipped, max(0, size - skipped if packed else min(size - skipped, frames * frame))
    actual = _measured(file, _RIFX, start, said, 1 if packed else frame)
    actual -= 0 if packed else actual % frame
    patches = {
        4: struct.pack(">I", min(start + actual - 8, 0xFFFFFFFF)),
        comm + 2: struct.pack(">I", min(actual // frame, 0xFFFFFFFF)),
        at: struct.pack(">I", min(actual + skipped, 0xFFFFFFFF)),
    }
    return Layout(start, said, actual, patches)


def _w64(file: _File) -> Layout | None:
    for name, at, content, size in _chunks(file, _W64, 40):
        if name[:4] == b"data":
            actual = _measured(file, _W64, content, size, 1)
            return Layout(content, size, actual, {16: struct.pack("<q", content + actual), at: struct.pack("<q", actual + 24)})
    return None


def _caf(file: _File) -> Layout | None:
    for name, at, content, size in _chunks(file, _CAF, 8):
        if name == b"data":
            said = None if size == -1 else max(0, size - 4)
            actual = _measured(file, _CAF, content + 4, said, 1)
            return Layout(content + 4, said, actual, {at: struct.pack(">q", actual + 4)})
    return None


def _au(file: _File) -> Layout | None:
    start, said = file.number(4, ">I"), file.number(8, ">I")
    if not 24 <= start <= file.length:
        return None
    actual = file.length - start
    return Layout(start, None if said in UNKNOWN else said, actual, {8: struct.pack(">I", min(actual, 0xFFFFFFFE))})

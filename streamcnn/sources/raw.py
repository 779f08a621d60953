"""Raw frames from standard input: `ffmpeg ... -f f32le - | streamcnn run --device -`.

Bytes say nothing of what they are. So unless their format is stated, they are looked at: a sound file, or numbers of another
kind, are refused before anything is made of them, and later too, where a writer has lost bytes or begun anew.
"""

import os
import select
import time
from typing import BinaryIO

from streamcnn.errors import InputError, SourceLostError
from streamcnn.ring import Ring
from streamcnn.sources import pcm
from streamcnn.sources.live import ThreadedSource

_POLL_S = 0.1
BLOCK = 4096  # frames
UNTOLD_BYTES = 1 << 15  # that are looked at again, as long as they say too little
FIRST, FIRST_S = 1024, 0.25  # frames that are looked at before any is used, where so many come in that time
PIPED = "pipe raw frames: ffmpeg -i FILE -f f32le -ac 1 -ar RATE - | streamcnn run --device -"


class Raw(ThreadedSource):
    """Interleaved frames of `width` channels, of which `select_channels` (from 1) are kept.

    `sample_format`: one of pcm.FORMATS; None for little-endian float32 that is to be checked. `width`: by default as many
    as are needed for the selected ones. The pipe is read no faster than the nets can follow: nothing is dropped, its writer
    waits.
    """

    paced = False

    def __init__(
        self,
        rate: int,
        select_channels: tuple[int, ...],
        file: BinaryIO,
        sample_format: str | None = None,
        width: int | None = None,
    ):
        super().__init__(rate, len(select_channels), BLOCK)
        self._checked, self._format = sample_format is None, sample_format or pcm.DEFAULT
        self._width_is_stated = width is not None
        self._width = width or max(select_channels)
        self._columns = [channel - 1 for channel in select_channels]
        self._fd = file.fileno()
        self._frame_bytes = pcm.FORMATS[self._format][0] * self._width
        self._begun: int | None = None  # with which frame something came that is no silence, and is what it is said to be
        self._untold = b""

    @property
    def title(self) -> str:
        """What a person calls this source."""
        return "standard input"

    def _run(self, ring: Ring) -> None:
        data, given, ended = self._first(), 0, False
        if not data and not self._stopping.is_set():
            raise SourceLostError("standard input ended before its first frame", "did what writes into it fail?")
        kind = pcm.file_kind(data[: pcm.HEAD], is_stated=not self._checked)
        if kind is not None:
            raise InputError(f"standard input is {kind}, not raw frames", f"'replay' reads files; or {PIPED}")
        while not self._stopping.is_set():
            end = len(data) - len(data) % self._frame_bytes
            whole, rest = data[:end], data[end:]
            if whole:
                self._check(whole, given)
                samples = pcm.decode(whole, self._format).reshape(-1, self._width)[:, self._columns]
                while not ring.wait_for_room(len(samples), _POLL_S):
                    if self._stopping.is_set():
                        return
                ring.write(samples)
                given += len(samples)
            if ended:
                break
            more = self._read(BLOCK * self._frame_bytes - len(rest), _POLL_S)
            ended = more == b""
            data = rest + (more or b"")
        if data and ended:
            raise SourceLostError(
                f"standard input ended inside a frame: {len(data)} of {self._frame_bytes} bytes",
                f"send whole frames: {self._width} values of {self._format} each",
            )

    def _first(self) -> bytes:
        """Return the first bytes: enough to tell what they are, or what comes in a moment; nothing where there are none."""
        data, until = b"", None
        while not self._stopping.is_set() and len(data) < max(pcm.HEAD, FIRST * self._frame_bytes):
            more = self._read(BLOCK * self._frame_bytes - len(data), _POLL_S)
            if more == b"":
                break
            data += more or b""
            until = until or (time.monotonic() + FIRST_S if data else None)
            if until is not None and time.monotonic() > until:
                break
        return data

    def _read(self, most: int, timeout_s: float) -> bytes | None:
        """Return what comes next, nothing at the end, None where nothing comes for a while."""
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return None
        return os.read(self._fd, most)

    def _check(self, data: bytes, given: int) -> None:
        """Refuse bytes that are not what they are taken for; `given`: how many frames came before them."""
        if not self._checked:
            return
        if self._begun is None:  # silence, or too little to tell: it counts with what follows
            data = self._untold + data
            self._untold = data = data[len(data) - min(len(data), UNTOLD_BYTES) // self._frame_bytes * self._frame_bytes :]
        found = pcm.what_else(data, begun=self._begun is not None)
        if found is None and self._begun is None and pcm.is_telling(data):
            self._begun, self._untold = given, b""
        if found is not None and self._begun is not None:
            raise SourceLostError(
                f"standard input from frame {given:,} on holds no 32-bit floats any more",
                "did what writes into it lose bytes, or begin anew? to take all as 32-bit floats: --format f32le",
            )
        if found is None:
            self._check_width(data, given)
            return
        if found.format is not None:
            remedy = f"say so: --format {found.format}; or, if they are 32-bit floats all the same, --format f32le"
        elif found.is_scaled:
            remedy = "scale them; or, if they are meant so, say --format f32le"
        else:
            remedy = f"name what they are with --format ({', '.join(pcm.FORMATS)})"
        raise InputError(f"standard input holds {found.what}, not 32-bit floats in [-1, 1]", remedy)

    def _check_width(self, data: bytes, given: int) -> None:
        """Refuse, in the first second, one channel that looks like two."""
        if self._width > 1 or self._width_is_stated or (self._begun is not None and given > self._begun + self.rate):
            return
        if pcm.looks_like_two_channels(pcm.decode(data, self._format)):
            raise InputError(
                "standard input looks like two channels in turn, and is taken for one",
                "say how many a frame has: --width 2; or --width 1, if there is one",
            )

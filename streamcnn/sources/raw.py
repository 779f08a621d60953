"""Raw float32 frames from standard input: `ffmpeg ... -f f32le - | streamcnn run --device -`."""

import os
import select
from typing import BinaryIO

import numpy as np

from streamcnn.errors import SourceLostError
from streamcnn.ring import Ring
from streamcnn.sources.live import ThreadedSource

_POLL_S = 0.1
BLOCK = 4096  # frames


class Raw(ThreadedSource):
    """Interleaved little-endian float32 frames of `width` channels, of which `select` (from 1) are kept.

    The pipe is read no faster than the nets can follow: nothing is dropped, its writer waits.
    """

    paced = False

    def __init__(self, rate: int, select_channels: tuple[int, ...], file: BinaryIO):
        super().__init__(rate, len(select_channels), BLOCK)
        self._width = max(select_channels)
        self._columns = [channel - 1 for channel in select_channels]
        self._fd = file.fileno()

    @property
    def title(self) -> str:
        """What a person calls this source."""
        return "standard input"

    def _run(self, ring: Ring) -> None:
        frame_bytes, rest = 4 * self._width, b""
        while not self._stopping.is_set():
            if not select.select([self._fd], [], [], _POLL_S)[0]:
                continue
            data = os.read(self._fd, BLOCK * frame_bytes - len(rest))
            if not data:
                break
            data = rest + data
            whole = len(data) - len(data) % frame_bytes
            data, rest = data[:whole], data[whole:]
            if not data:
                continue
            samples = np.frombuffer(data, "<f4").reshape(-1, self._width)[:, self._columns]
            while not ring.wait_for_room(len(samples), _POLL_S):
                if self._stopping.is_set():
                    return
            ring.write(samples)
        if rest:
            raise SourceLostError(
                f"standard input ended inside a frame: {len(rest)} of {frame_bytes} bytes", "send whole float32 frames"
            )

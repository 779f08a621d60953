"""The ring between a source and the inference thread: one producer, one consumer, no lock on the way.

Frames lie in one preallocated float32 array, and beside it a smaller ring of block records tells which samples each
block holds. A block that does not fit is dropped whole and counted, and because sample numbers go on, the consumer sees
exactly which samples are missing. Each side writes only its own counter; an int store is atomic under the GIL.
"""

import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

MAX_BLOCKS = 4096


class Block(NamedTuple):
    """Frames as they arrived: `samples` (frames, channels) float32 whose first has the number `sample`.

    `utc_s`: when that sample was converted, seconds since 1970, None where the source has no clock. `driver_overflow`:
    the driver said that it lost frames before this block.
    """

    sample: int
    samples: np.ndarray
    utc_s: float | None
    driver_overflow: bool


class Ring:
    """A ring of `capacity` frames. `write` and `close` belong to the producer, `blocks` to the consumer."""

    def __init__(self, channels: int, capacity: int):
        self._frames = np.zeros((capacity, channels), np.float32)
        self._records: list[tuple[int, int, float | None, bool] | None] = [None] * MAX_BLOCKS
        self._written = self._read = 0  # blocks
        self._in = self._out = 0  # frames
        self._next_sample = 0
        self._closed = False
        self._arrived, self._room = threading.Event(), threading.Event()
        self.overflows = 0
        self.lost_frames = 0
        self._driver_overflow = False

    @property
    def next_sample(self) -> int:
        """The number of the next sample to be written: how many were written or lost."""
        return self._next_sample

    @property
    def capacity(self) -> int:
        """How many frames fit."""
        return len(self._frames)

    def write(self, samples: np.ndarray, utc_s: float | None = None, *, driver_overflow: bool = False) -> bool:
        """Append a block (frames, channels); drops and counts it, and returns False, where it does not fit."""
        frames = len(samples)
        self._driver_overflow |= driver_overflow
        self.overflows += driver_overflow
        if not self._fits(frames):
            self.overflows += 1
            self.lost_frames += frames
            self._next_sample += frames
            return False
        start = self._in % self.capacity
        head = min(frames, self.capacity - start)
        self._frames[start : start + head] = samples[:head]
        self._frames[: frames - head] = samples[head:]
        self._records[self._written % MAX_BLOCKS] = (self._next_sample, frames, utc_s, self._driver_overflow)
        self._driver_overflow = False
        self._in += frames
        self._next_sample += frames
        self._written += 1
        self._arrived.set()
        return True

    def wait_for_room(self, frames: int, timeout_s: float) -> bool:
        """Wait until a block of `frames` fits: for producers that can wait (files and pipes, not sound cards)."""
        self._room.clear()
        if self._fits(frames):
            return True
        self._room.wait(timeout_s)
        return self._fits(frames)

    def _fits(self, frames: int) -> bool:
        return frames <= self.capacity - (self._in - self._out) and self._written - self._read < MAX_BLOCKS

    def close(self) -> None:
        """Say that no more blocks will come."""
        self._closed = True
        self._arrived.set()

    def blocks(self, timeout_s: float) -> Iterator[Block | None]:
        """Yield blocks as they arrive, None whenever nothing came for `timeout_s`, and end after `close`.

        A block's samples are valid until the next one is asked for.
        """
        while True:
            if self._read == self._written:
                if self._closed and self._read == self._written:
                    return
                self._arrived.clear()
                if self._read == self._written and not self._closed and not self._arrived.wait(timeout_s):
                    yield None
                continue
            sample, frames, utc_s, driver_overflow = self._records[self._read % MAX_BLOCKS]
            start = self._out % self.capacity
            samples = self._frames[start : start + frames]
            if len(samples) < frames:
                samples = np.concatenate([samples, self._frames[: frames - len(samples)]])
            yield Block(sample, samples, utc_s, driver_overflow)
            self._out += frames
            self._read += 1
            self._room.set()

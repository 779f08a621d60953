"""The ring between a source and the inference thread: one producer, one consumer, no lock and no GIL on the way.

Rules. All of it lies in one piece of shared memory (a memfd, which a process that serves a device could share): a header of
numbers, each written by one side only; a table of block records; and the frames. A block that does not fit is dropped
whole and counted, and because sample numbers go on, the consumer sees exactly which samples are missing. Whoever finds
nothing to do says so (WAITING) and looks once more before it sleeps, so that nobody is woken in vain or sleeps on.

The producer is a sound card's callback in machine code, or Python; both are the same function, `push`. Times are ns of the
host's monotonic clock.
"""

import contextlib
import mmap
import os
import tempfile
import time
import weakref
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from streamcnn.compiler.build import entry_point
from streamcnn.compiler.kernel import address_of, floats, integers, kernel
from streamcnn.system import Bell, c_functions, look, publish, rouse

MAX_BLOCKS = 1 << 14
POLL_S = 0.002
PAUSE = 1_000_000_000  # ns without a block
UNKNOWN = -1  # a time, or a number of frames, that nobody knows
NOTHING_LOST = -1

# The header, in int64, so that what one side writes does not share a cache line with what the other writes: the producer's
# (blocks and frames written so far, the next sample's number, overflows, frames lost in them, the driver's report that has
# no block yet, the most frames that ever waited, the end) ...
WRITTEN, FRAMES_IN, NEXT_SAMPLE, OVERFLOWS, LOST_FRAMES, PENDING, HIGH_WATER, CLOSED = range(8)
# ... the consumer's (blocks and frames read; whether it sleeps) ...
READ, FRAMES_OUT, WAITING = range(8, 11)
# ... the producer's again: the sample behind the newest block that came, whether it found room or not, and when it came; how
# many frames may wait, and when the last pause ended ...
HEARD_END, HEARD_AT, ALLOWED, PAUSED_UNTIL = range(24, 28)
# ... and what never changes: how many frames fit, where records and frames begin (bytes from the header), how many frames may
# wait as a rule.
CAPACITY, CHANNELS, RECORDS_AT, FRAMES_AT, USUAL = range(16, 21)
HEADER_COLUMNS = 32

# A block: its first sample, how many frames, when it arrived and how long before that its first sample was converted
# (UNKNOWN without a clock), flags; and of a recording's blocks how many frames were lost before it, with what error
# (UNKNOWN: with any), and why.
SAMPLE, FRAMES, ARRIVED, AGE, FLAGS, LOST, LOST_ERROR, CAUSE = range(8)
BLOCK_COLUMNS = 8
DRIVER_OVERFLOW = 1  # flags: the driver lost frames before this block
MARK = 2  # no block: LOST is a net's number, LOST_ERROR whether it is on from SAMPLE on

# What the producer needs beside the ring, in its own process: addresses of the ring and of the C functions, the descriptor
# that wakes the consumer, and a place for two numbers.
RING_AT, FUNCTIONS_AT, RINGING, PLACE = range(4)
PRODUCER_COLUMNS = 6


@kernel
def fits(ring, frames):
    """Whether a block finds room, as its producer sees it."""
    at = address_of(ring)
    blocks, waiting = ring[WRITTEN] - look(at + 8 * READ), ring[FRAMES_IN] - look(at + 8 * FRAMES_OUT)
    return blocks < MAX_BLOCKS and waiting + frames <= ring[ALLOWED]


@kernel
def allow(ring, arrived):
    """Let all of the ring be used after a pause, for what was kept meanwhile, until that is dealt with.

    As a rule a consumer is not to be that late.
    """
    if ring[HEARD_AT] and arrived - ring[HEARD_AT] > PAUSE:
        ring[ALLOWED], ring[PAUSED_UNTIL] = ring[CAPACITY], arrived
    elif arrived - ring[PAUSED_UNTIL] > PAUSE and 2 * (ring[FRAMES_IN] - look(address_of(ring) + 8 * FRAMES_OUT)) < ring[USUAL]:
        ring[ALLOWED] = ring[USUAL]


@kernel
def push(producer, source, step, columns, frames, arrived, age, flags, lost, lost_error, cause):
    """Append a block; tells whether it fitted.

    `source` is the address of its first frame, each of `step` values, of which those numbered at the address `columns` (as many
    as the ring has channels) are taken; 0: all of them. What follows is for the block's record.
    """
    ring = integers(producer[RING_AT])
    at = producer[RING_AT]
    flags |= ring[PENDING]
    if flags & DRIVER_OVERFLOW and not ring[PENDING] & DRIVER_OVERFLOW:
        ring[OVERFLOWS] += 1
    sample, first = ring[NEXT_SAMPLE], ring[FRAMES_IN]
    ring[NEXT_SAMPLE] = sample + frames
    if arrived != UNKNOWN:
        allow(ring, arrived)
        # In this order: who reads the end and then the arrival may think the block later than it was, but never earlier.
        publish(at + 8 * HEARD_AT, arrived)
        publish(at + 8 * HEARD_END, sample + frames)
    if not fits(ring, frames):
        ring[PENDING] = flags & DRIVER_OVERFLOW
        ring[OVERFLOWS] += 1
        ring[LOST_FRAMES] += frames
        return False
    place = first % ring[CAPACITY]
    copy_in(ring, at, place, source, step, columns, frames)
    block = integers(at + ring[RECORDS_AT] + ring[WRITTEN] % MAX_BLOCKS * 8 * BLOCK_COLUMNS)
    block[SAMPLE], block[FRAMES], block[ARRIVED], block[AGE], block[FLAGS] = sample, frames, arrived, age, flags
    block[LOST], block[LOST_ERROR], block[CAUSE] = lost, lost_error, cause
    ring[PENDING] = 0
    ring[FRAMES_IN] = first + frames
    ring[HIGH_WATER] = max(ring[HIGH_WATER], first + frames - look(at + 8 * FRAMES_OUT))
    publish(at + 8 * WRITTEN, ring[WRITTEN] + 1)
    rouse(producer[FUNCTIONS_AT], at + 8 * WAITING, producer[RINGING], address_of(producer) + 8 * PLACE)
    return True


@kernel
def copy_in(ring, at, place, source, step, columns, frames):
    """Copy the wanted channels of frames to a place in the ring, and from there on at its beginning."""
    channels, wanted = ring[CHANNELS], integers(columns)
    for _ in range(2):
        count = min(frames, ring[CAPACITY] - place)
        to = at + ring[FRAMES_AT] + place * channels * 4
        x, y = floats(source), floats(to)
        if columns == 0:
            for k in range(count * channels):
                y[k] = x[k]
        else:
            for t in range(count):
                for c in range(channels):
                    y[t * channels + c] = x[t * step + wanted[c]]
        source += count * step * 4
        frames -= count
        place = 0


def _close(producer):
    """Say that no more blocks will come."""
    producer = integers(producer)
    at = producer[RING_AT]
    publish(at + 8 * CLOSED, 1)
    rouse(producer[FUNCTIONS_AT], at + 8 * WAITING, producer[RINGING], address_of(producer) + 8 * PLACE)


def _push(producer, source, step, columns, frames, arrived, age, flags):
    """Call `push` from Python."""
    return push(integers(producer), source, step, columns, frames, arrived, age, flags, 0, 0, NOTHING_LOST)


_closing = entry_point("void(int64)")(_close)
_pushing = entry_point("boolean(int64, int64, int64, int64, int64, int64, int64, int64)")(_push)


class Block(NamedTuple):
    """Frames as they arrived: `samples` (frames, channels) float32 whose first has the number `sample`.

    `arrived_ns` and `age_ns`: when the block came, and how long before that its first sample was converted; UNKNOWN where the
    source has no clock. `flags`: DRIVER_OVERFLOW, where the driver said that it lost frames before this block, or MARK. In a
    recording's ring, `lost` frames are missing before it, give or take `lost_error`, for a `cause`, or None are.
    """

    sample: int
    samples: np.ndarray
    arrived_ns: int
    age_ns: int
    flags: int
    lost: int
    lost_error: int
    cause: int | None


class Ring:
    """A ring of `capacity` frames. `write` and `close` belong to the producer, `blocks` and `rest` to the consumer.

    `usual`: how many frames may wait in it as a rule, by default all that fit; the rest is for what comes at once after a
    pause.

    `address` is that of the header, `producer` the table that `push` takes, `bell` wakes the consumer.
    """

    def __init__(self, channels: int, capacity: int, usual: int | None = None):
        records = 8 * HEADER_COLUMNS
        frames = records + 8 * BLOCK_COLUMNS * MAX_BLOCKS
        self._memory = _shared_memory(frames + 4 * channels * capacity)
        self._header = np.frombuffer(self._memory, np.int64, HEADER_COLUMNS)
        self._blocks = np.frombuffer(self._memory, np.int64, BLOCK_COLUMNS * MAX_BLOCKS, records)
        self._blocks = self._blocks.reshape(MAX_BLOCKS, BLOCK_COLUMNS)
        self._frames = np.frombuffer(self._memory, np.float32, channels * capacity, frames).reshape(-1, channels)
        usual = capacity if usual is None else usual
        self._header[[CAPACITY, CHANNELS, RECORDS_AT, FRAMES_AT]] = capacity, channels, records, frames
        self._header[[USUAL, ALLOWED]] = usual, usual
        self.bell = Bell()
        weakref.finalize(self, self.bell.close)
        self.address = int(self._header.ctypes.data)
        self._functions = c_functions()
        self.producer = np.zeros(PRODUCER_COLUMNS, np.int64)
        self.producer[:PLACE] = self.address, self._functions.ctypes.data, self.bell.ringing
        self._push = _pushing()

    @property
    def capacity(self) -> int:
        """How many frames fit."""
        return len(self._frames)

    @property
    def usual(self) -> int:
        """How many frames may wait as a rule."""
        return int(self._header[USUAL])

    @property
    def memory(self) -> np.ndarray:
        """All of it, as bytes."""
        return np.frombuffer(self._memory, np.uint8)

    @property
    def next_sample(self) -> int:
        """The number of the next sample to be written: how many were written or lost."""
        return int(self._header[NEXT_SAMPLE])

    @property
    def waiting_frames(self) -> int:
        """How many frames have been written that nobody has read."""
        return int(self._header[FRAMES_IN] - self._header[FRAMES_OUT])

    @property
    def filled(self) -> float:
        """How full it is: the share of the frames that may wait as a rule, or of the blocks that fit, whichever is more."""
        blocks = int(self._header[WRITTEN] - self._header[READ])
        return max(self.waiting_frames / self.usual, blocks / MAX_BLOCKS)

    @property
    def overflows(self) -> int:
        """How many blocks the ring could not take, and how often the driver said that it lost frames."""
        return int(self._header[OVERFLOWS])

    @property
    def lost_frames(self) -> int:
        """How many frames went with the blocks that the ring could not take."""
        return int(self._header[LOST_FRAMES])

    def take_high_water(self) -> int:
        """Return the most frames that waited at a time since this was last asked."""
        high, self._header[HIGH_WATER] = int(self._header[HIGH_WATER]), 0
        return high

    def write(
        self,
        samples: np.ndarray,
        arrived_ns: int | None = None,
        age_ns: int = 0,
        *,
        driver_overflow: bool = False,
    ) -> bool:
        """Append a block (frames, channels); drops and counts it, and returns False, where it does not fit."""
        samples = np.ascontiguousarray(samples, np.float32)
        arrived_ns = UNKNOWN if arrived_ns is None else arrived_ns
        flags = DRIVER_OVERFLOW if driver_overflow else 0
        source, step = samples.ctypes.data, samples.shape[1]
        return self._push(self.producer.ctypes.data, source, step, 0, len(samples), arrived_ns, age_ns, flags)

    def wait_for_room(self, frames: int, timeout_s: float) -> bool:
        """Wait until a block of `frames` fits: for producers that can wait (files and pipes, not sound cards)."""
        deadline = time.monotonic() + timeout_s
        while not self._fits(frames):
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        return True

    def _fits(self, frames: int) -> bool:
        blocks = self._header[WRITTEN] - self._header[READ]
        return frames <= int(self._header[ALLOWED]) - self.waiting_frames and bool(blocks < MAX_BLOCKS)

    def close(self) -> None:
        """Say that no more blocks will come."""
        _closing()(self.producer.ctypes.data)

    def rest(self) -> Iterator[Block]:
        """Yield the blocks that wait, for a consumer in Python; a block's samples are valid until the next is asked for."""
        while self._header[READ] < self._header[WRITTEN]:
            sample, frames, arrived, age, flags, lost, error, cause = self._blocks[
                self._header[READ] % MAX_BLOCKS
            ].tolist()
            start = int(self._header[FRAMES_OUT]) % self.capacity
            samples = self._frames[start : start + frames]
            if len(samples) < frames:
                samples = np.concatenate([samples, self._frames[: frames - len(samples)]])
            yield Block(sample, samples, arrived, age, flags, lost, error, None if cause == NOTHING_LOST else cause)
            self._header[FRAMES_OUT] += frames
            self._header[READ] += 1


def _shared_memory(size: int) -> mmap.mmap:
    """Return zeroed memory behind a descriptor."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("streamcnn-ring", os.MFD_CLOEXEC)
    else:
        descriptor, path = tempfile.mkstemp()
        os.unlink(path)
    with contextlib.closing(os.fdopen(descriptor, "r+b")) as file:
        file.truncate(size)
        return mmap.mmap(file.fileno(), size)

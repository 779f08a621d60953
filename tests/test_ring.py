"""The ring between a source and the inference thread."""

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamcnn.ring import DRIVER_OVERFLOW, MAX_BLOCKS, Ring
from tests.conftest import wait_until


def block(start: int, frames: int) -> np.ndarray:
    """Return frames that hold their own sample numbers."""
    return np.arange(start, start + frames, dtype=np.float32)[:, None]


@given(sizes=st.lists(st.integers(0, 40), max_size=60), capacity=st.integers(1, 100), reads=st.integers(0, 2**60))
def test_every_frame_is_delivered_or_counted(sizes: list[int], capacity: int, reads: int):
    """Whenever one writes and reads, each sample comes out once, in order, at its number, or is counted as lost."""
    ring, sample, expected, got = Ring(1, capacity), 0, [], []
    for turn, size in enumerate(sizes):
        if ring.write(block(sample, size)):
            expected += range(sample, sample + size)
        sample += size
        if reads >> (turn % 60) & 1:
            for delivered in ring.rest():
                assert delivered.samples[:1, 0].tolist() in ([], [delivered.sample])
                got += delivered.samples[:, 0].tolist()
    got += [value for delivered in ring.rest() for value in delivered.samples[:, 0].tolist()]
    assert got == expected
    assert ring.lost_frames == sample - len(expected)
    assert ring.next_sample == sample


def test_a_block_that_does_not_fit_is_dropped_whole():
    """An overflow drops the block that came, counts it, and leaves the numbers of later samples right."""
    ring = Ring(1, 10)
    assert ring.write(block(0, 8))
    assert not ring.write(block(8, 3))
    assert [read.sample for read in ring.rest()] == [0]
    assert ring.write(block(11, 3))
    assert [read.sample for read in ring.rest()] == [11]
    assert (ring.overflows, ring.lost_frames) == (1, 3)


def test_too_many_small_blocks_are_counted_too():
    """A ring whose frames fit but whose block records are used up overflows, and says so."""
    ring = Ring(1, 10 * MAX_BLOCKS)
    for k in range(MAX_BLOCKS):
        assert ring.write(block(k, 1))
    assert not ring.write(block(MAX_BLOCKS, 1))
    assert (ring.overflows, ring.lost_frames) == (1, 1)


def test_the_drivers_overflow_is_told_with_the_next_block():
    """A driver's report of lost frames arrives with the next block that is delivered, even after one of our own."""
    ring = Ring(1, 4)
    ring.write(block(0, 4))
    ring.write(block(4, 4), driver_overflow=True)  # does not fit
    assert [read.flags for read in ring.rest()] == [0]
    assert ring.overflows == 2, "the driver's and our own"
    ring.write(block(8, 2))
    assert [read.flags for read in ring.rest()] == [DRIVER_OVERFLOW]


def test_a_waiting_producer_loses_nothing():
    """A producer that waits for room, as pipes do, gets blocks of all sizes through a small ring."""
    ring, total, sizes = Ring(1, 100), 20_000, np.random.default_rng(0).integers(1, 90, 2000)

    def produce() -> None:
        start = 0
        for size in sizes:
            frames = min(int(size), total - start)
            while not ring.wait_for_room(frames, 1.0):
                pass
            assert ring.write(block(start, frames))
            start += frames
        ring.close()

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    got: list[float] = []
    wait_until(lambda: got.extend(v for b in ring.rest() for v in b.samples[:, 0]) or len(got) >= total, "all frames")
    assert got == list(range(total))
    assert ring.overflows == 0

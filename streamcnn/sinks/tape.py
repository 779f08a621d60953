"""The tape: all that a stream hears, handed to whoever keeps some of it, in a thread of its own.

The inference loop fills a ring and never waits for a disk; what the disk is too slow for is lost to the readers alone.
"""

import threading
from collections.abc import Sequence
from typing import Protocol

from streamcnn.ring import Block, Ring

RING_S = 10.0
POLL_S = 0.1
SYNC_S = 1.0


class Reader(Protocol):
    """Somebody who keeps what he hears; whatever goes wrong with that is his own affair."""

    def hear(self, block: Block) -> None:
        """Take a block, whose samples are valid until this returns."""

    def settle(self, *, sync: bool) -> None:
        """Write what was heard so far; `sync`: to the disk."""


class Tape:
    """A ring for the inference loop to fill, and the thread that reads it. `rate` in Hz."""

    def __init__(self, channels: int, rate: int, readers: Sequence[Reader]):
        self.ring = Ring(channels, round(RING_S * rate))
        self._readers = readers
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tape", daemon=True)
        self._thread.start()

    @property
    def lost_frames(self) -> int:
        """How many frames nobody heard because a disk was too slow."""
        return self.ring.lost_frames

    def close(self) -> None:
        """Hand over what is left, and end."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        unsynced_s = 0.0
        while not self._closing.wait(POLL_S):
            unsynced_s += POLL_S
            self._work(sync=unsynced_s >= SYNC_S)
            unsynced_s %= SYNC_S
        self._work(sync=True)

    def _work(self, *, sync: bool) -> None:
        for block in self.ring.rest():
            for reader in self._readers:
                reader.hear(block)
        for reader in self._readers:
            reader.settle(sync=sync)

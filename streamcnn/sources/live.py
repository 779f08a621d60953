"""What all live sources have in common, and a thread for those that have none of their own."""

import threading
from abc import ABC, abstractmethod

from streamcnn.inference.latency import Latency
from streamcnn.ring import Ring


class LiveSource(ABC):
    """A source that writes blocks into a ring until it is stopped.

    `rate` in Hz; `channels`: how many it delivers; `error`: why it ended by itself, None while all is well. `paced`: it
    delivers at its rate for ever and waits for nobody, so that silence on the line means that it was lost, and when a block
    came tells when its samples were. `core`: where its real-time thread shall run, None for anywhere. `block`: the most
    frames that it writes at a time. `callback`: what a sound card calls, "machine code" or "Python"; None for others.
    """

    paced = True
    callback: str | None = None
    core: int | None = None

    def __init__(self, rate: int, channels: int, block: int):
        self.rate = rate
        self.channels = channels
        self.block = block
        self.error: Exception | None = None

    @property
    def took(self) -> Latency | None:
        """How long the callback took, None where there is none."""
        return None

    @property
    @abstractmethod
    def title(self) -> str:
        """What a person calls this source."""

    @abstractmethod
    def start(self, ring: Ring) -> None:
        """Begin to write blocks into `ring`; raises DeviceError where that is not possible."""

    @abstractmethod
    def stop(self) -> None:
        """End the writing and close the ring; may be called twice."""


class ThreadedSource(LiveSource):
    """A live source whose blocks are made by `_run` in a thread of its own."""

    def __init__(self, rate: int, channels: int, block: int):
        super().__init__(rate, channels, block)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, ring: Ring) -> None:
        """Begin to write blocks into `ring`."""
        self._thread = threading.Thread(target=self._guarded, args=(ring,), name="source", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the writing; the thread closes the ring as it ends."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _guarded(self, ring: Ring) -> None:
        try:
            self._run(ring)
        except Exception as error:  # noqa: BLE001 (handed to the thread that can report it)
            self.error = error
        finally:
            ring.close()

    @abstractmethod
    def _run(self, ring: Ring) -> None:
        """Write blocks until `_stopping` is set or the source ends."""

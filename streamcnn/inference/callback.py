"""The sound card's callback in machine code: PortAudio calls it with each block, and it needs neither Python nor its GIL.

It copies the block into the ring with its times and flags, counts how long that took, and wakes the inference loop. Nothing
else happens here, but the first time: then its thread is put before the loop's, in real time and on the same core. So the loop
does not interrupt the callback that wakes it, and begins when it ends; to wake a thread on a core that sleeps took up to a
millisecond, on both sides. A host that cannot be given a C function calls the same code through Python.
"""

import numpy as np

from streamcnn.compiler.build import c_function, entry_point
from streamcnn.compiler.kernel import doubles, integers, kernel
from streamcnn.inference.latency import Latency, tally
from streamcnn.inference.realtime import PRIORITY, mask_of
from streamcnn.ring import DRIVER_OVERFLOW, FUNCTIONS_AT, NOTHING_LOST, PLACE, PRODUCER_COLUMNS, Ring, push
from streamcnn.system import MONOTONIC, SECOND, now, put_first

# What stands behind a producer's own columns: which channels of how many to take, the histogram of the time that it takes, the
# device's rate, on which cores to run (none: size 0), whether it was called before.
COLUMNS_AT, STEP, TOOK_AT, RATE, CORES_AT, CORES_SIZE, CALLED = range(PRODUCER_COLUMNS, PRODUCER_COLUMNS + 7)
ADC_TIME, CURRENT_TIME = 0, 1  # of PaStreamCallbackTimeInfo, in seconds
INPUT_OVERFLOW = 2  # of PaStreamCallbackFlags
OLDEST_S = 60.0  # a block is not older: a host that does not know its times says anything
CONTINUE = 0  # paContinue


@kernel
def hear(producer, source, frames, times, status):
    """Take a block, as PortAudio gives it."""
    place = producer + 8 * PLACE
    producer = integers(producer)
    if not producer[CALLED]:
        producer[CALLED] = 1
        if producer[CORES_SIZE]:
            put_first(producer[FUNCTIONS_AT], PRIORITY + 1, producer[CORES_AT], producer[CORES_SIZE], place)
    arrived = now(producer[FUNCTIONS_AT], MONOTONIC, place)
    time = doubles(times)
    lasts = frames * SECOND // producer[RATE]
    age = lasts
    if time[ADC_TIME] != 0 and 0 <= time[CURRENT_TIME] - time[ADC_TIME] < OLDEST_S:
        age = max(lasts, np.int64((time[CURRENT_TIME] - time[ADC_TIME]) * SECOND))
    flags = DRIVER_OVERFLOW if status & INPUT_OVERFLOW else 0
    push(producer, source, producer[STEP], producer[COLUMNS_AT], frames, arrived, age, flags, 0, 0, NOTHING_LOST)
    tally(producer[TOOK_AT], now(producer[FUNCTIONS_AT], MONOTONIC, place) - arrived)


def _called(source, _nothing, frames, times, status, producer):
    hear(producer, source, np.int64(frames), times, np.int64(status))
    return CONTINUE


_portaudio_callback = c_function("int32(int64, int64, uint64, int64, uint64, int64)")(_called)
_python_callback = entry_point("int64(int64, int64, int64, int64, int64, int64)")(_called)


class Ear:
    """What a callback writes into: the ring, and which of the device's channels (from 1) go there.

    `core`: where its thread shall run in real time, None for as it is.

    `code` is the address of the C function and `address` its userdata; `hear` does the same from Python. `took`: how long it
    took.
    """

    def __init__(self, ring: Ring, channels: tuple[int, ...], rate: int, core: int | None = None):
        self.took = Latency()
        self._ring = ring
        self._columns = np.array(channels, np.int64) - 1
        in_order = channels == tuple(range(1, max(channels) + 1))
        self._producer = np.zeros(CALLED + 1, np.int64)
        self._producer[:PLACE] = ring.producer[:PLACE]
        self._cores = mask_of(core)
        self._producer[COLUMNS_AT:CALLED] = (
            0 if in_order else self._columns.ctypes.data, max(channels), self.took.address, rate,
            self._cores.ctypes.data, self._cores.nbytes,
        )  # fmt: skip
        self.address = int(self._producer.ctypes.data)
        self._times = np.zeros(2)
        self._hear = _python_callback()

    @property
    def code(self) -> int:
        """The address of the C function."""
        return _portaudio_callback()

    def hear(self, samples: np.ndarray, adc_time_s: float, current_time_s: float, *, overflow: bool) -> None:
        """Take a block (frames, all of the device's channels) of float32 with PortAudio's times and report."""
        self._times[:] = adc_time_s, current_time_s
        status = INPUT_OVERFLOW if overflow else 0
        self._hear(samples.ctypes.data, 0, len(samples), self._times.ctypes.data, status, self.address)

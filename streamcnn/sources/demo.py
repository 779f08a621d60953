"""The built-in signal: ramps in faint noise, paced in real time. Needs no sound card and no PortAudio.

The signal is a function of the sample's number alone: a ramp 0, 1/4, 1/2, 3/4, 1 whose last sample is every multiple of
half a second (but 0), over white noise of -60 dBFS that repeats each second.
"""

import time

import numpy as np

from streamcnn.errors import RateError
from streamcnn.ring import Ring
from streamcnn.sources.live import ThreadedSource

RAMP = np.arange(5, dtype=np.float32) / 4
NOISE_RMS = 1e-3


def ramp_spacing(rate: int) -> int:
    """Return the samples from one ramp to the next."""
    return rate // 2


def demo_signal(start: int, frames: int, rate: int) -> np.ndarray:
    """Return samples start ... start+frames-1 of the demo, float32 (frames,)."""
    number = np.arange(start, start + frames)
    noise = np.random.default_rng(1).normal(0, NOISE_RMS, rate).astype(np.float32)
    before_end = -number % ramp_spacing(rate)  # samples until the next ramp's last one
    in_ramp = (before_end < len(RAMP)) & (number + before_end > 0)
    ramp = np.where(in_ramp, RAMP[np.clip(len(RAMP) - 1 - before_end, 0, None)], 0)
    return (noise[number % rate] + ramp).astype(np.float32)


class Demo(ThreadedSource):
    """The demo signal on `channels` equal channels, in blocks of `block` frames, at its rate's pace."""

    def __init__(self, rate: int, channels: int, block: int):
        super().__init__(rate, channels, block)
        if ramp_spacing(rate) < 2 * len(RAMP):
            raise RateError(f"the demo's ramps do not fit into {rate} Hz", "use a net for at least 20 Hz")
        # The first second has no ramp at sample 0; every later one is equal to the second one.
        self._seconds = demo_signal(0, 2 * rate, rate)

    @property
    def title(self) -> str:
        """What a person calls this source."""
        return "the built-in demo"

    def _run(self, ring: Ring) -> None:
        began, sample = time.monotonic(), 0
        lasts_ns = self.block * 1_000_000_000 // self.rate
        while not self._stopping.wait(max(0.0, began + (sample + self.block) / self.rate - time.monotonic())):
            number = np.arange(sample, sample + self.block)
            samples = self._seconds[np.where(number < self.rate, number, self.rate + number % self.rate)]
            ring.write(np.repeat(samples[:, None], self.channels, axis=1), time.monotonic_ns(), lasts_ns)
            sample += self.block

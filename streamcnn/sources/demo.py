"""The built-in signal: ramps in faint noise, paced in real time. Needs no sound card and no PortAudio.

The signal is a function of the sample's number alone: a ramp 0, 1/4, 1/2, 3/4, 1 whose last sample is every multiple of
half a second (but 0), over white noise of -60 dBFS that repeats each second.
"""

import time

import numpy as np

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
        super().__init__(rate, channels)
        self._block = block
        period = demo_signal(rate, rate, rate)  # every later second is equal to this one
        self._period = np.repeat(period[:, None], channels, axis=1)

    @property
    def title(self) -> str:
        """What a person calls this source."""
        return "the built-in demo"

    def _run(self, ring: Ring) -> None:
        first_second = np.repeat(demo_signal(0, self.rate, self.rate)[:, None], self.channels, axis=1)
        began, began_utc, sample = time.monotonic(), time.time(), 0
        while not self._stopping.wait(max(0.0, began + (sample + self._block) / self.rate - time.monotonic())):
            number = np.arange(sample, sample + self._block)
            table = first_second if sample + self._block <= self.rate else self._period
            samples = table[number % self.rate]
            if sample < self.rate < sample + self._block:
                samples = np.concatenate([first_second[sample:], self._period[: sample + self._block - self.rate]])
            ring.write(samples, began_utc + sample / self.rate)
            sample += self._block

"""From samples to UTC.

`sample` is the truth; UTC is an estimate. Each block that arrives gives a pair (sample, host time at which that sample
was converted, as far as the driver knows). A block can be late, by scheduling and by the sound server's bursts, but
hardly early; so the smallest offset of the last seconds is the best one, and the spread of the offsets bounds its
error.
"""

from collections import deque

WINDOW_S = 10.0
STEP_S = 1.0  # a jump by more than this is the host's clock being set, and the past says nothing about it


class Clock:
    """Running estimate of when sample 0 was, for one session; used by one thread at a time."""

    def __init__(self, rate: int):
        self._rate = rate
        self._offsets: deque[tuple[int, float]] = deque()

    def observe(self, sample: int, utc_s: float) -> None:
        """Take one pair: `sample` was converted at `utc_s`, seconds since 1970."""
        offset = utc_s - sample / self._rate
        if self._offsets and abs(offset - self._offsets[-1][1]) > STEP_S:
            self._offsets.clear()
        self._offsets.append((sample, offset))
        while sample - self._offsets[0][0] > WINDOW_S * self._rate:
            self._offsets.popleft()

    def utc(self, sample: int) -> tuple[float, float] | None:
        """Return (seconds since 1970, error bound in seconds) of a sample, or None before the first pair."""
        if not self._offsets:
            return None
        offsets = [offset for _, offset in self._offsets]
        earliest = min(offsets)
        return earliest + sample / self._rate, max(offsets) - earliest

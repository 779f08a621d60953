"""From samples to UTC.

`sample` is the truth; UTC is an estimate. Blocks that arrive give pairs (sample, the host's monotonic time at which it
arrived, and how long before that it had been converted, as far as the driver knows). The host's monotonic clock never
steps; how far UTC is ahead of it is a third number of each pair, and when the host's clock is set, only that changes.

Theory. A block can be late, by scheduling and by the sound server's bursts, but never early: its last frame must have been
converted. So of the blocks of each tenth of a second only the least late one is a pair here, and

    arrival of a sample = level + sample / rate / (1 + drift) + lateness,    lateness >= 0

The drift is the slope of a line towards the lower edge of the last ten minutes' pairs, by asymmetric least squares (expectile
regression: W. Newey and J. Powell, Econometrica 55, 1987), without what lies far off (a process that was stopped for a
second). The edge is steadier than the middle; but bursts beat with blocks, so that the edge itself goes up and down for
seconds, and a line that touches it in two points (the convex hull's, which is best without bursts) was five times as far
off. The level is the earliest arrival of the last minute, given the drift. What the driver says about a sample's age counts
where the block was hardly late: the median, among the earliest tenth of the pairs, of when the sample was converted. After a
loss that does not count where it is older than samples were before (by BEYOND_NS): PulseAudio counts what it dropped among
what it has yet to deliver, for as long as that would have lasted.
"""

from typing import NamedTuple

import numpy as np

SECOND = 1e9  # ns
DRIFT_S, LEVEL_S, EARLY = 600.0, 60.0, 0.1  # how much of the past counts, and of its last part which share
SETTLING_S = 30.0  # before it, a slope through the pairs would say more about them than about the card
EXPECTILE, ROUNDS, FAR = 0.25, 8, 4.0  # and how often pairs farther off than so many standard deviations are dropped
MAD_TO_DEVIATION = 1.4826  # of a normal distribution
LEAST_ERROR_S = 1e-6
BEYOND_NS = 5e7
BELIEVED = 30  # pairs; before them a driver's ages may be those of a stream that is only beginning (PulseAudio: 0.3 s)
PAIRS = 8192
FITTED = 1500  # of them, at most: more of ten minutes would say no more about the drift, and take longer


class Estimate(NamedTuple):
    """The card's clock: when `sample` arrived at the earliest and was converted (ns, monotonic), and how long one lasts (ns).

    `spread_ns`: how much later than that the pairs came. `drift`: how much faster than the host's second the card's is,
    None while that is not known. `error_s`: of the time of conversion.
    """

    sample: int
    arrival_ns: float
    converted_ns: float
    period_ns: float
    spread_ns: float
    drift: float | None
    error_s: float


class Clock:
    """Running estimate of a card's clock against the host's, for one session; used by one thread at a time."""

    def __init__(self, rate: int):
        self._rate = rate
        self._pairs = np.zeros((2 * PAIRS, 3))  # sample, lateness and age in ns; of them the first `_count`
        self._count = 0
        self._utc_ahead_ns = 0.0
        self._slope: float | None = None  # of arrival over sample / rate, minus 1
        self._aged_ns: float | None = None  # how old samples were when they arrived, before a loss
        self._estimate: Estimate | None = None

    def observe(self, sample: int, arrival_ns: float, age_ns: float = 0.0, utc_ahead_ns: float = 0.0) -> None:
        """Take a pair: a block that begins with `sample` arrived, less its own duration, at `arrival_ns`.

        `age_ns`: how long before that its first sample was converted. `utc_ahead_ns`: UTC minus the monotonic clock, then.
        """
        if self._count == len(self._pairs):
            self._pairs[:PAIRS] = self._pairs[PAIRS:]
            self._count = PAIRS
        self._pairs[self._count] = sample, arrival_ns - sample / self._rate * SECOND, age_ns
        self._count += 1
        self._utc_ahead_ns = utc_ahead_ns

    def restart(self) -> None:
        """Forget all but the drift, and how old samples are: an unknown number of samples was lost."""
        if self._estimate is not None:
            self._aged_ns = self._estimate.arrival_ns - self._estimate.converted_ns
        self._count = 0
        self._estimate = None

    @property
    def estimate(self) -> Estimate | None:
        """What was known when it was last asked to `refresh`; None before the first pair."""
        return self._estimate or self.refresh()

    def refresh(self) -> Estimate | None:
        """Return the estimate, made anew, which takes a millisecond, where the last one is too old: a second, later ten."""
        newest, steady_s = self._pairs[self._count - 1, 0], 1.0 if self._count < FITTED else 10.0
        if self._count and (self._estimate is None or newest - self._estimate.sample >= steady_s * self._rate):
            self._estimate = self._estimated()
        return self._estimate

    def utc(self, sample: float) -> tuple[float, float] | None:
        """Return (seconds since 1970, error in seconds) of when a sample was converted, or None before the first pair."""
        known = self.estimate
        if known is None:
            return None
        converted = known.converted_ns + (sample - known.sample) * known.period_ns
        return (converted + self._utc_ahead_ns) / SECOND, known.error_s

    def _estimated(self) -> Estimate:
        samples, late, ages = self._pairs[max(0, self._count - PAIRS) : self._count].T
        newest = samples[-1]
        seconds = (samples - newest) / self._rate
        past = np.searchsorted(seconds, -DRIFT_S)
        if seconds[past] <= -SETTLING_S:
            step = -(-(len(seconds) - past) // FITTED)
            self._slope = _slope(seconds[past::step], late[past::step]) / SECOND
        slope = self._slope or 0.0
        recent = slice(np.searchsorted(seconds, -LEVEL_S), None)
        above = late[recent] - slope * SECOND * seconds[recent]
        level = above.min()
        early = above <= np.quantile(above, EARLY)
        ages = ages[recent][early]
        if self._aged_ns is not None:
            ages = np.where(ages > self._aged_ns + BEYOND_NS, self._aged_ns, ages)
        claims = above[early] - ages
        doubt = 2 * np.subtract(*np.quantile(claims, (0.75, 0.25))) / np.sqrt(len(claims))
        spread = float(np.quantile(above, 0.9) - level)
        unknown = 0.0 if len(samples) >= BELIEVED or self._aged_ns is not None else np.median(ages) / SECOND
        arrival = newest / self._rate * SECOND + level
        return Estimate(
            sample=int(newest),
            arrival_ns=arrival,
            converted_ns=arrival - level + float(np.median(claims)),
            period_ns=SECOND * (1 + slope) / self._rate,
            spread_ns=spread,
            drift=None if self._slope is None else 1 / (1 + slope) - 1,
            error_s=float(max(LEAST_ERROR_S, unknown, (above[early].max() - level + doubt) / SECOND)),
        )


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the slope of a line towards the lower edge of points, but for those that lie far off them."""
    weights = np.ones(len(x))
    for _ in range(ROUNDS):
        total = weights.sum()
        from_x, from_y = x - weights @ x / total, y - weights @ y / total
        slope = (weights * from_x) @ from_y / ((weights * from_x) @ from_x)
        off = from_y - slope * from_x
        middle = np.median(off)
        deviation = MAD_TO_DEVIATION * np.median(np.abs(off - middle))
        weights = np.where(off < 0, 1 - EXPECTILE, EXPECTILE) * (np.abs(off - middle) <= FAR * deviation + 1.0)
    return float(slope)

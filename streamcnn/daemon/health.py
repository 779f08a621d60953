"""What a stream's health is reported from: whether it gets on, what it costs, and what that is called."""

import time
from collections.abc import Sequence

from streamcnn.events import Health, Quantiles
from streamcnn.inference.latency import Latency, quantiles_s

SILENCE_DBFS = -100.0  # below half a bit of 16-bit audio: a cable that is not there
PAUSED_S, STALLED_S = 1.0, 10.0  # a device that delivers nothing for so long pauses, is lost
LOOK_S = 0.1  # how often somebody looks after a stream
QUANTILES = (0.5, 0.99, 0.999, 1.0)


class Progress:
    """Whether audio comes in, and inference gets on with it.

    `may_wait`: the source may pause before its first frame, and for up to STALLED_S behind it; a writer that pauses for longer
    hangs, or is gone.
    """

    def __init__(self, *, may_wait: bool):
        self._may_wait = may_wait
        self._arrived, self.idle_s = 0, 0.0
        self._seen, self._is_made = (0, 0), False

    @property
    def has_begun(self) -> bool:
        """Whether any frame has come."""
        return self._arrived > 0

    @property
    def is_paused(self) -> bool:
        """Whether nothing has come for a moment."""
        return self.idle_s >= PAUSED_S

    @property
    def is_stalled(self) -> bool:
        """Whether nothing has come for so long that nothing will."""
        return self.idle_s > STALLED_S

    def note(self, arrived: int, elapsed_s: float) -> None:
        """Take how many frames have arrived; `elapsed_s`: the time since the last call.

        A daemon that was itself suspended has missed nothing yet.
        """
        self.idle_s = 0.0 if arrived > self._arrived else self.idle_s + min(elapsed_s, LOOK_S)
        self._arrived = arrived

    def is_made(self, arrived: int, processed: int, waiting: int, *, running: bool) -> bool:
        """Whether, since `forget`, frames have arrived and been processed; all are numbers of frames."""
        waits = self._may_wait and running and (not self.has_begun or not self.is_stalled)
        heard = arrived > self._seen[0] or waits
        self._is_made |= heard and (processed > self._seen[1] or waiting == 0)
        return self._is_made

    def forget(self, arrived: int, processed: int) -> None:
        """Ask from now on for new progress."""
        self._seen, self._is_made = (arrived, processed), False


class Load:
    """What share of a core a stream takes, and each of its nets."""

    def __init__(self, nets: int):
        self.share, self.costs = 0.0, [0.0] * nets
        self._before = (time.monotonic(), 0, [0] * nets)

    def take(self, busy_ns: int, costs_ns: Sequence[int]) -> None:
        """Take the time that was spent in all, and reckon the shares since the last time."""
        now, (began, busy_before, costs_before) = time.monotonic(), self._before
        span_ns = max(now - began, 1e-3) * 1e9
        self.share = (busy_ns - busy_before) / span_ns
        self.costs = [(cost - before) / span_ns for cost, before in zip(costs_ns, costs_before, strict=True)]
        self._before = now, busy_ns, list(costs_ns)


def state_of(progress: Progress, level_dbfs: float | None, *, running: bool, behind: bool) -> str:
    """Return what a stream's state is called."""
    if not running:
        return "ended"
    if not progress.has_begun:
        return "opening"
    if progress.is_paused:
        return "stalled"
    if behind:
        return "behind"
    return "no signal" if level_dbfs is None or level_dbfs < SILENCE_DBFS else "running"


def quantiles(latency: Latency) -> Quantiles | None:
    """Return the quantiles of what was measured of late, ms."""
    times = quantiles_s(latency.recent, QUANTILES)
    return None if times is None else Quantiles(*(round(time * 1e3, 4) for time in times))


def summary(health: Health) -> str:
    """Return a report in a few words, for a line of status."""
    is_heard = health.state not in ("opening", "stalled", "ended")
    level = (
        "nothing heard" if not is_heard else "silent" if health.level_dbfs is None else f"{health.level_dbfs:.1f} dBFS"
    )
    lost = f", {health.lost_frames:,} frames lost" if health.lost_frames else ""
    detections = f"{health.detections:,} detection{'' if health.detections == 1 else 's'}"
    without = f", without {', '.join(health.nets_off)}" if health.nets_off else ""
    return f"{health.stream}: {health.state}, {level}, {detections}{lost}{without}"

"""The host's clock, as far as what is kept depends on it: after a jump nothing is removed for its age, for a day.

Ages are counted on the host's clock, since they go on while nobody runs. But it may be set wrong, by a battery that is empty or
a server that errs, and right again: what had seemed to be old by then would be gone for ever.
"""

import time

JUMP_S = 60.0  # a step that is no correction of a running clock
HELD_S = DAY_S = 86400.0
HELD_AT_START_S = 3600.0  # who was only away is not to keep things longer for long
_UPTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # which goes on while the machine sleeps


class HostClock:
    """Watches the host's clock against its monotonic one; belongs to one thread."""

    def __init__(self):
        self._ahead_ns = _ahead_ns()
        self._held_until_s, self._why = 0.0, ""

    def watch(self) -> None:
        """Notice a jump; to be called now and then."""
        before, self._ahead_ns = self._ahead_ns, _ahead_ns()
        if abs(self._ahead_ns - before) > JUMP_S * 1e9:
            days = (self._ahead_ns - before) / 1e9 / DAY_S
            self._hold(HELD_S, f"the host's clock jumped by {days:+.1f} days: for a day nothing is removed for its age")

    def compare(self, newest_s: float | None) -> None:
        """Take, at the start, when the newest thing that is kept was made (seconds since 1970): long ago is perhaps a jump."""
        if newest_s is not None and abs(time.time() - newest_s) > DAY_S:
            days = (time.time() - newest_s) / DAY_S
            why = f"the newest of what is kept is {days:,.1f} days old: for an hour nothing is removed for its age"
            self._hold(HELD_AT_START_S, why)

    @property
    def is_held(self) -> bool:
        """Whether nothing is to be removed for its age."""
        return time.monotonic() < self._held_until_s

    @property
    def notice(self) -> str | None:
        """What to tell of it."""
        return self._why if self.is_held else None

    def _hold(self, span_s: float, why: str) -> None:
        self._why, self._held_until_s = why, time.monotonic() + span_s


def _ahead_ns() -> int:
    """Return how far the host's clock is ahead of the time since the machine was started."""
    return time.time_ns() - uptime_ns()


def uptime_ns() -> int:
    """Return the time since the machine was started, that in which it slept too."""
    return time.clock_gettime_ns(_UPTIME)

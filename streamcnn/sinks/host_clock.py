"""The host's clock, as far as what is kept depends on it: after a jump nothing is removed for its age, for a day.

Ages are counted on the host's clock, since they go on while nobody runs. But it may be set wrong, by a battery that is empty or
a server that errs, and right again: what had seemed to be old by then would be gone for ever.
"""

import time

JUMP_S = 60.0  # a step that is no correction of a running clock
HELD_S = DAY_S = 86400.0


class HostClock:
    """Watches the host's clock against its monotonic one; belongs to one thread."""

    def __init__(self):
        self._ahead_ns = _ahead_ns()
        self._held_until_s, self._jump_s = 0.0, 0.0

    def watch(self) -> None:
        """Notice a jump; to be called now and then."""
        before, self._ahead_ns = self._ahead_ns, _ahead_ns()
        if abs(self._ahead_ns - before) > JUMP_S * 1e9:
            self._hold((self._ahead_ns - before) / 1e9)

    def compare(self, newest_s: float | None) -> None:
        """Take, at the start, when the newest thing that is kept was made (seconds since 1970): long ago is perhaps a jump."""
        if newest_s is not None and abs(time.time() - newest_s) > DAY_S:
            self._hold(time.time() - newest_s)

    @property
    def is_held(self) -> bool:
        """Whether nothing is to be removed for its age."""
        return time.monotonic() < self._held_until_s

    @property
    def notice(self) -> str | None:
        """What to tell of it."""
        if not self.is_held:
            return None
        return f"the host's clock jumped by {self._jump_s / DAY_S:+.1f} days: for a day nothing is removed for its age"

    def _hold(self, jump_s: float) -> None:
        self._jump_s, self._held_until_s = jump_s, time.monotonic() + HELD_S


def _ahead_ns() -> int:
    """Return how far the host's clock is ahead of its monotonic one."""
    return time.time_ns() - time.monotonic_ns()

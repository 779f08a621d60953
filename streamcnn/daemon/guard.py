"""The deadline guard: when inference cannot keep up, which nets to do without, and when to have them back.

Rules. Frames that wait in the ring are the measure: beyond BEHIND of what fits, the least important of the optional nets
that are on is switched off, and after SETTLE_S the next one. Back comes the most important one of those that are off, once
hardly anything has been waiting for a while and the core has room for what that net took; each time that this turns out to
have been too early the while becomes twice as long.
"""

from collections.abc import Sequence

BEHIND, AT_EASE = 0.25, 0.05  # of what fits into the ring
SETTLE_S = 0.25
WHILE_S, LONGEST_WHILE_S = 10.0, 640.0
FULL = 0.8  # of a core


class Guard:
    """Decides which nets are on. `importances`: one a net; None for those that are never switched off."""

    def __init__(self, importances: Sequence[int | None]):
        self._order = sorted(
            (k for k, importance in enumerate(importances) if importance is not None), key=lambda k: importances[k]
        )
        self.on = [True] * len(importances)
        self.behind = False
        self._costs = [0.0] * len(importances)  # of those that are off, the share of a core that they took
        self._switched_s = self._uneasy_s = -LONGEST_WHILE_S
        self._brought_back_s = -LONGEST_WHILE_S
        self._while_s = WHILE_S

    def decide(self, waiting: float, load: float, costs: Sequence[float], now_s: float) -> list[bool]:
        """Return which nets shall be on.

        `waiting`: frames in the ring as a share of what fits. `load`: the share of a core that inference takes, `costs` what
        each net does of it. `now_s`: a monotonic time.
        """
        self.behind = waiting > BEHIND
        if waiting > AT_EASE:
            self._uneasy_s = now_s
        if self.behind:
            if now_s - self._switched_s >= SETTLE_S:
                self._do_without_one(costs, now_s)
        elif now_s - max(self._uneasy_s, self._switched_s) >= self._while_s:
            self._bring_back_one(load, now_s)
        return self.on

    def _do_without_one(self, costs: Sequence[float], now_s: float) -> None:
        for k in self._order:
            if self.on[k]:
                too_early = now_s - self._brought_back_s < self._while_s
                self._while_s = min(2 * self._while_s, LONGEST_WHILE_S) if too_early else self._while_s
                self._set(k, costs[k], on=False)
                self._switched_s = now_s
                return

    def _bring_back_one(self, load: float, now_s: float) -> None:
        for k in reversed(self._order):
            if not self.on[k]:
                if load + self._costs[k] <= FULL:
                    self._set(k, 0.0, on=True)
                    self._switched_s = self._brought_back_s = now_s
                return

    def _set(self, k: int, cost: float, *, on: bool) -> None:
        self.on = [on if j == k else is_on for j, is_on in enumerate(self.on)]
        self._costs[k] = cost

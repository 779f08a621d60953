"""Histograms of times that machine code keeps: counts on a scale that is even in logarithms, within 6 %.

A number below 16 has a place of its own; above, each octave has 16 (as HdrHistogram's buckets, http://hdrhistogram.org).
"""

import numpy as np

from streamcnn.compiler.kernel import integers, kernel

OCTAVE = 16  # places
PLACES = 60 * OCTAVE


@kernel
def tally(histogram, ns):
    """Count a time in the histogram at an address."""
    ns = max(0, ns)
    octave = 0
    while ns >> octave >= 2 * OCTAVE:
        octave += 1
    integers(histogram)[octave * OCTAVE + (ns >> octave)] += 1


def seconds_at(place: np.ndarray) -> np.ndarray:
    """Return the upper end of what is counted at each place, in seconds."""
    octave = np.maximum(0, np.asarray(place) // OCTAVE - 1)
    return (place - OCTAVE * octave + 1) * 2.0**octave / 1e9


class Latency:
    """A histogram that is written by `tally`, or here by `add`, and read at any time.

    `address` is what `tally` takes. `recent` are the counts since the one before the last `turn`.
    """

    def __init__(self):
        self.counts = np.zeros(PLACES, np.int64)
        self.address = int(self.counts.ctypes.data)
        self._turns = [np.zeros(PLACES, np.int64)] * 2

    def add(self, ns: int) -> None:
        """Count a time."""
        ns = max(0, ns)
        octave = max(0, ns.bit_length() - OCTAVE.bit_length())
        self.counts[octave * OCTAVE + (ns >> octave)] += 1

    def turn(self) -> None:
        """Begin another spell of what is recent."""
        self._turns = [self._turns[1], self.counts.copy()]

    def forget(self) -> None:
        """Let nothing so far be recent."""
        self._turns = [self.counts.copy()] * 2

    @property
    def recent(self) -> np.ndarray:
        """Return how often each place was counted lately."""
        return self.counts - self._turns[0]


def quantiles_s(counts: np.ndarray, shares: tuple[float, ...]) -> list[float] | None:
    """Return the times, in seconds, that these shares of all counted are not above; None where nothing was counted."""
    total = counts.sum()
    if total == 0:
        return None
    places = np.searchsorted(np.cumsum(counts), np.ceil(np.multiply(shares, total)))
    return seconds_at(places).tolist()

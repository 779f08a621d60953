"""A signal cut into chunks of one size, each with some frames before and after it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np


@dataclass(frozen=True)
class Layout:
    """How a signal is cut: chunks of `chunk` frames, with `before` and `after` frames around them, `batch` at once."""

    before: int
    chunk: int
    after: int
    batch: int

    def batches(self, blocks: Iterable[np.ndarray], channels: int) -> Iterator[np.ndarray]:
        """Yield the chunks of a signal: float32 (at most batch, before + chunk + after, channels), C-ordered.

        `blocks`: the signal, float32 (frames, channels). Around it there are zeros.
        """
        step = self.batch * self.chunk
        waiting, held = [np.zeros((self.before, channels), np.float32)], self.before
        for block in blocks:
            waiting.append(block)
            held += len(block)
            if held < self.before + step + self.after:
                continue
            signal = np.concatenate(waiting)
            while len(signal) >= self.before + step + self.after:
                yield self._cut(signal, self.batch)
                signal = signal[step:]
            waiting, held = [signal], len(signal)
        count = ceil((held - self.before) / self.chunk)
        while count > 0:
            signal = np.concatenate([*waiting, np.zeros((self.chunk + self.after, channels), np.float32)])
            yield self._cut(signal, min(count, self.batch))
            waiting, count = [signal[step : len(signal) - self.chunk - self.after]], count - self.batch

    def _cut(self, signal: np.ndarray, count: int) -> np.ndarray:
        whole = self.before + self.chunk + self.after
        windows = np.lib.stride_tricks.sliding_window_view(signal, whole, axis=0)[:: self.chunk][:count]
        return np.ascontiguousarray(windows.swapaxes(1, 2))


def bad_runs(block: np.ndarray, start: int) -> list[tuple[int, int]]:
    """Return (first, end) of each run of frames of a block that are not finite; its first frame has the number `start`."""
    finite = np.isfinite(block).all(axis=1)
    if finite.all():
        return []
    edges = np.flatnonzero(np.diff(finite, prepend=True, append=True)) + start
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans (first, end) in order, those that touch or overlap as one."""
    result: list[tuple[int, int]] = []
    for first, end in sorted(spans):
        if result and first <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((first, end))
    return result

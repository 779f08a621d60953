"""Random clips of words in noise, and what a tagger is to answer in them.

The tagger answers when a word has ended: for HOLD_S from the end on the target is the digit, otherwise "none"; just before
the end and just after the hold it may say what it likes.
"""

import numpy as np
import soxr

from streamcnn.training.spoken import NONE, RATE, WORD_RMS, Word, stretch

HOP = 160  # samples from one score to the next: 20 ms
CLIP_S = 3.2
HOLD_S = 0.2
OPEN_BEFORE_S, OPEN_AFTER_S = 0.12, 0.06  # around the hold, where any answer will do
NONE_WEIGHT = 0.3  # most frames are "none"
GAPS_S = (0.3, 1.2)
SPEEDS = np.geomspace(0.9, 1.12, 11)  # tried up to 0.75 and 1.33: further out, voices become none that anybody has
SNR_DB = (6.0, 20.0)
WORD_LEVELS_DB, CLIP_LEVELS_DB = (-6.0, 6.0), (-20.0, 14.0)
WORDLESS, WHITE, QUIET = 0.06, 0.13, 0.07  # shares of clips without words, with white noise, with next to none


class Clips:
    """Makes random clips of words in noise with their targets; the same ones again for the same seed."""

    def __init__(self, words: tuple[Word, ...], beds: list[np.ndarray], seed: int):
        self._words, self._beds = words, beds
        self._random = np.random.default_rng(seed)
        self._frames = int(CLIP_S * RATE) // HOP * HOP
        # Another speed is another voice: pitch and formants move with it.
        self._spoken = [[soxr.resample(w.samples, RATE * s, RATE, quality="LQ") for s in SPEEDS] for w in words]

    def batch(self, clips: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return samples (clips, frames, 1), and targets and weights of the scores (clips, frames / HOP)."""
        samples, targets, weights = zip(*(self._clip() for _ in range(clips)), strict=True)
        return np.stack(samples)[..., None], np.stack(targets), np.stack(weights)

    def _clip(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random, positions = self._random, np.arange(0, self._frames, HOP)
        samples = np.zeros(self._frames, np.float32)
        targets = np.full(len(positions), NONE)
        weights = np.full(len(positions), NONE_WEIGHT, np.float32)
        start = int(random.uniform(-0.4, 0.6) * RATE) if random.random() > WORDLESS else self._frames
        while start < self._frames:
            number = int(random.integers(len(self._words)))
            spoken = self._spoken[number][int(random.integers(len(SPEEDS)))]
            spoken = self._coloured(spoken) * _gain(random, WORD_LEVELS_DB)
            end = start + len(spoken)
            low, high = max(0, start), max(0, min(self._frames, end))
            samples[low:high] += spoken[low - start :][: high - low]
            self._mark(positions, targets, weights, start, end, self._words[number].digit)
            start = end + int(random.uniform(*GAPS_S) * RATE)
        return (samples + self._noise()) * _gain(random, CLIP_LEVELS_DB), targets, weights

    @staticmethod
    def _mark(
        positions: np.ndarray, targets: np.ndarray, weights: np.ndarray, start: int, end: int, digit: int
    ) -> None:
        hold_end = end + HOLD_S * RATE
        if start < 0:  # its beginning is cut off: whatever the net makes of it
            weights[positions < hold_end + OPEN_AFTER_S * RATE] = 0
            return
        hold = (positions >= end) & (positions < hold_end)
        weights[(positions >= end - OPEN_BEFORE_S * RATE) & (positions < hold_end + OPEN_AFTER_S * RATE)] = 0
        targets[hold], weights[hold] = digit, 1

    def _noise(self) -> np.ndarray:
        random = self._random
        kind, level = random.random(), np.float32(WORD_RMS * 10 ** (-random.uniform(*SNR_DB) / 20))
        if kind < QUIET:
            return np.float32(1e-5) * random.standard_normal(self._frames, np.float32)
        if kind < QUIET + WHITE:
            return level * random.standard_normal(self._frames, np.float32)
        bed = self._beds[int(random.integers(len(self._beds)))]
        return level * self._coloured(stretch(bed, self._frames, random))

    def _coloured(self, samples: np.ndarray) -> np.ndarray:
        """Return what another microphone would have made of it: through a short random filter."""
        taps = self._random.normal(0, 0.25, 4)
        taps[0] = 1
        return np.convolve(samples, taps.astype(np.float32))[: len(samples)]


def _gain(random: np.random.Generator, range_db: tuple[float, float]) -> np.float32:
    return np.float32(10 ** (random.uniform(*range_db) / 20))

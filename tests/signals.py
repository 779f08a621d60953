"""Signals with ramps at known places, and files of them."""

from pathlib import Path

import numpy as np
import soundfile

RAMP = np.arange(5, dtype=np.float32) / 4
RATE = 48_000


def ramps(ends: list[int], frames: int, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Return a signal, float32 (frames,), with a ramp whose last sample is each of `ends`."""
    x = np.random.default_rng(seed).normal(0, 1, frames) * noise
    for end in ends:
        x[end - 4 : end + 1] += RAMP
    return x.astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str | None = "FLOAT") -> Path:
    """Write a sound file and return its path."""
    soundfile.write(path, samples, rate, subtype=subtype)
    return path

"""What detectors cost: nanoseconds a score and label, beside a NumPy comparison of the same scores with a threshold.

python benchmarks/detectors.py
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from streamcnn.detect.hits import HIT_COLUMNS, Detector
from streamcnn.detect.measure import MeasureDetector
from streamcnn.detect.peak import PeakDetector
from streamcnn.detect.tag import TagDetector
from streamcnn.detect.trigger import TriggerDetector

VALUES = 1 << 20  # scores times labels
ROUNDS = 15
BLOCK = 8192  # frames: what a call costs in Python counts for nothing


def detectors(labels: int) -> dict[str, Detector]:
    """Return one of each kind, as they are used."""
    every, on, off = range(labels), [0.9] * labels, [0.5] * labels
    return {
        "peak": PeakDetector(on, 480),
        "trigger": TriggerDetector(labels, every, on, off, 10, 1000, 10),
        "tag": TagDetector(labels, every, on, off, 100.0, 10),
        "tag, votes": TagDetector(labels, every, on, off, 100.0, 10, (3, 5)),
        "tag, top 1": TagDetector(labels, every, on, off, 100.0, 10, top=1),
        "measure": MeasureDetector(labels, 48_000),
    }


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def scan(detector: Detector, scores: np.ndarray) -> None:
    """Take scores block by block, as the inference loop does, and leave the hits as they are."""
    hits = np.zeros((detector.most_hits(BLOCK), HIT_COLUMNS), np.int64)
    address, step = scores.ctypes.data, BLOCK * scores.strides[0]
    for k in range(len(scores) // BLOCK):
        detector._scan(detector._address, address + k * step, BLOCK, hits.ctypes.data)


def main() -> None:
    """Print the medians of interleaved rounds."""
    print("labels detector      ns a score and label   times NumPy's comparison")
    for labels in (1, 10, 100):
        # Mostly quiet, as scores are, with events now and then.
        scores = np.random.default_rng(0).beta(0.3, 3, (VALUES // labels // BLOCK * BLOCK, labels)).astype(np.float32)
        kinds, times = detectors(labels), {}
        for _ in range(ROUNDS):
            for name, detector in kinds.items():
                times.setdefault(name, []).append(seconds(partial(scan, detector, scores)))
            times.setdefault("NumPy", []).append(seconds(partial(np.greater_equal, scores, np.float32(0.9))))
        numpy = float(np.median(times.pop("NumPy")))
        for name, taken in times.items():
            median = float(np.median(taken))
            print(f"{labels:>6} {name:<12} {median / scores.size * 1e9:>22.2f} {median / numpy:>22.1f}")


if __name__ == "__main__":
    main()

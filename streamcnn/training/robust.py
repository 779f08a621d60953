"""A ramp net for real microphones: two layers with bias and relu, trained on ramps of any loudness in noise.

The ramps have random amplitudes over 10 dB; the noise is white, coloured or hum, at random levels; half of the loud
things in it are not ramps (clicks, steps, square and reversed pulses), and must not be answered.
"""

import numpy as np

from streamcnn.detect.peak import PeakDetector
from streamcnn.engine import Engine
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.optional import keras_module
from streamcnn.training.lecture import RAMP, RATE, TARGET_LAG

AMPLITUDE = (0.25, 0.25 * 10**0.5)  # peak of a ramp, a range of 10 dB
SHAPE = RAMP / RAMP.max()
DECOYS = (
    np.array([1.0]),
    np.array([1.0, 1, 1, 1, 1]),
    SHAPE[::-1],
    np.array([1.0, 0.5, 0.25, 0.125]),
    np.array([0.0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]),
    np.array([0, 1.0, 0]),
    np.concatenate([SHAPE, SHAPE]) * 0.5,
)
SPACING = 96  # samples from one loud thing to the next in training
BATCH, LENGTH, STEPS = 32, 4096, 1200
INFO = NetInfo(
    name="ramp_robust", rate=RATE, labels=("ramp",), target_lag=TARGET_LAG, template=tuple(float(v) for v in SHAPE)
)
SNRS_DB = (26, 20, 17, 14)
REFRACTORY_S = 0.0005


def noise(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return noise of unit RMS: white, or low-passed, with some hum, chosen for each row."""
    rows, length = shape
    white = random.normal(size=shape)
    coloured = white.copy()
    pole = random.uniform(0.5, 0.95, rows)
    for t in range(1, length):
        coloured[:, t] += pole * coloured[:, t - 1]
    mixed = np.where(random.random((rows, 1)) < 0.5, white, coloured)
    hum = np.sin(2 * np.pi * random.uniform(50, 2000, (rows, 1)) * np.arange(length) / RATE)
    mixed = mixed / mixed.std(axis=1, keepdims=True) + random.uniform(0, 1, (rows, 1)) * hum
    return mixed / mixed.std(axis=1, keepdims=True)


def examples(random: np.random.Generator, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return signals and targets, float32 (rows, length): a 1 stands `TARGET_LAG` after each ramp's last sample."""
    rms = 10 ** random.uniform(-3.5, -1.3, (rows, 1))
    x, y = noise(random, (rows, length)) * rms, np.zeros((rows, length))
    for row in range(rows):
        for slot in range(16, length - 2 * SPACING, SPACING):
            start, amplitude = slot + random.integers(0, SPACING // 2), random.uniform(*AMPLITUDE)
            if random.random() < 0.5:
                x[row, start : start + len(SHAPE)] += amplitude * SHAPE
                y[row, start + len(SHAPE) - 1 + TARGET_LAG] = 1
            else:
                decoy = DECOYS[random.integers(len(DECOYS))] * random.choice([-1, 1])
                x[row, start : start + len(decoy)] += amplitude * decoy
    return x.astype(np.float32), y.astype(np.float32)


def train_robust_net(seed: int) -> object:
    """Return the trained `keras.Model`: Conv1D(16, 9, relu), Conv1D(1, 1, sigmoid), both with bias."""
    keras = keras_module()
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    model = keras.Sequential(
        [
            keras.Input((None, 1)),
            keras.layers.Conv1D(16, 9, padding="causal", activation="relu", name="features"),
            keras.layers.Conv1D(1, 1, activation="sigmoid", name="score"),
        ],
        name="ramp_robust",
    )
    rate = keras.optimizers.schedules.CosineDecay(0.02, STEPS)
    model.compile(optimizer=keras.optimizers.Adam(rate), loss="binary_crossentropy")

    def batches() -> object:
        while True:
            x, y = examples(random, BATCH, LENGTH)
            # One frame in some 200 is a target: without weights, silence is the cheapest answer.
            yield x[..., None], y[..., None], np.where(y == 1, 20.0, 1.0).astype(np.float32)

    model.fit(batches(), steps_per_epoch=STEPS, epochs=1, shuffle=False, verbose=0)
    return model


def measure_roc(graph: Graph, seed: int, seconds: float = 60.0) -> dict[int, list[tuple[float, float, float]]]:
    """Return, for each signal-to-noise ratio (ramp's peak to white noise's RMS, dB), rows for rising thresholds.

    A row is (threshold, share of ramps heard, false detections per minute), measured by streaming: engine and peak
    detector, `seconds` of signal with 20 ramps and 20 decoys a second, each ramp matched by a detection at exactly its
    sample.
    """
    rows = {}
    for snr_db in SNRS_DB:
        random = np.random.default_rng((seed, snr_db))
        signal, ends = _test_signal(random, snr_db, round(seconds * RATE))
        scores = Engine(graph).process(signal)
        rows[snr_db] = []
        for threshold in (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99):
            detector = PeakDetector([threshold], round(REFRACTORY_S * RATE))
            heard = {hit.peak - TARGET_LAG for hit in (*detector.process(scores, len(scores)), *detector.flush())}
            rows[snr_db].append((threshold, len(heard & ends) / len(ends), len(heard - ends) / seconds * 60))
    return rows


def _test_signal(random: np.random.Generator, snr_db: float, length: int) -> tuple[np.ndarray, set[int]]:
    x, ends = np.zeros(length), set()
    for number, start in enumerate(range(RATE // 40, length - RATE // 40, RATE // 40)):
        amplitude = np.exp(random.uniform(*np.log(AMPLITUDE)))
        shape = SHAPE if number % 2 else DECOYS[random.integers(len(DECOYS))]
        position = start + random.integers(0, 400)
        x[position : position + len(shape)] += amplitude * shape
        # The noise follows each ramp's own loudness, so that a row of the table is one signal-to-noise ratio.
        around = slice(start - 200, start + RATE // 40 - 200)
        x[around] += random.normal(0, amplitude * 10 ** (-snr_db / 20), len(x[around]))
        if number % 2:
            ends.add(int(position + len(SHAPE) - 1))
    return x.astype(np.float32), ends

"""The spoken-digit tagger: its net, the clips that it learns from, and the training.

Theory. The net is causal and strided, and made of layers that stream exactly. Its front end is a mel filter bank written as
two convolutions (cosine and sine), squared and summed: the power in each band. A logarithm is no layer, but the sum of
x / (1 + x) at scales a decade apart is one of the power, but for its ends: x / (1 + x) is the logistic function of log x, and
equally spaced logistic functions add up to a straight line. The mean over the bands is then taken away (layer normalization),
which makes loudness vanish. The front end is not trained: with four speakers it would learn them.

It answers when a word has ended: for HOLD_S from the end on the target is the digit, otherwise "none"; just before the end
and just after the hold it may say what it likes.
"""

from collections.abc import Callable

import numpy as np
import soxr

from streamcnn.optional import keras_module
from streamcnn.training.spoken import LABELS, NONE, RATE, WORD_RMS, Recordings, Word, stretch

HOP = 160  # samples from one score to the next: 20 ms
BANDS, BAND_TAPS, BAND_HOP = 40, 256, 80
LOWEST_HZ, HIGHEST_HZ = 80.0, 3900.0
LOG_SCALES = tuple(10.0**k for k in range(2, 9))
CHANNELS, DILATIONS, DROPOUT, BAND_DROPOUT = 96, (1, 2, 4, 8, 4), 0.15, 0.1

HOLD_S = 0.2
OPEN_BEFORE_S, OPEN_AFTER_S = 0.12, 0.06  # around the hold, where any answer will do
NONE_WEIGHT = 0.3  # most frames are "none"
CLIP_S, BATCH, STEPS, RATE_OF_LEARNING = 3.2, 16, 2500, 3e-3
GAPS_S = (0.3, 1.2)
SPEEDS = np.geomspace(0.85, 1.18, 11)
SNR_DB = (5.0, 25.0)
WORD_LEVELS_DB, CLIP_LEVELS_DB = (-6.0, 6.0), (-20.0, 14.0)
WORDLESS, WHITE, QUIET = 0.06, 0.13, 0.07  # shares of clips without words, with white noise, with next to none


def train_tagger(recordings: Recordings, words: tuple[Word, ...], seed: int, tell: Callable[[str], None]) -> object:
    """Train the net on some of the words; returns the Keras model."""
    keras = keras_module(exact=False)
    keras.utils.set_random_seed(seed)
    model = build()
    decay = keras.optimizers.schedules.CosineDecay(RATE_OF_LEARNING, STEPS)
    optimizer = keras.optimizers.AdamW(decay, weight_decay=1e-3, use_ema=True, ema_momentum=0.995)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(), weighted_metrics=["accuracy"])
    clips = Clips(words, [training for training, _ in recordings.noises.values()], seed)
    for step in range(1, STEPS + 1):
        samples, targets, weights = clips.batch(BATCH)
        loss, accuracy = model.train_on_batch(samples, targets, sample_weight=weights)
        if step % 500 == 0:
            tell(f"  step {step}: loss {float(loss):.3f}, weighted accuracy of frames {float(accuracy):.3f}")
            model.reset_metrics()
    optimizer.finalize_variable_values(model.trainable_variables)
    return model


def build() -> object:
    """Return the untrained Keras model: (samples, 1) to (samples / HOP, labels)."""
    layers, keras = keras_module().layers, keras_module()
    inputs = keras.Input((None, 1))
    squares = []
    for name, kernel in zip(("cosines", "sines"), filter_bank(), strict=True):
        bank = layers.Conv1D(BANDS, BAND_TAPS, BAND_HOP, padding="causal", use_bias=False, trainable=False, name=name)
        band = bank(inputs)
        bank.set_weights([kernel[:, None, :]])
        squares.append(layers.Multiply()([band, band]))
    power = layers.Add()(squares)
    logarithm = layers.Add()([layers.Activation("softsign")(layers.Rescaling(scale)(power)) for scale in LOG_SCALES])
    x = layers.LayerNormalization(center=False, scale=False, epsilon=1e-3)(logarithm)
    x = layers.SpatialDropout1D(BAND_DROPOUT)(x)

    def convolution(x: object, taps: int, stride: int = 1, dilation: int = 1) -> object:
        x = layers.Conv1D(CHANNELS, taps, stride, "causal", dilation_rate=dilation, use_bias=False)(x)
        return layers.Dropout(DROPOUT)(layers.ReLU()(layers.BatchNormalization()(x)))

    x = convolution(x, 5, stride=HOP // BAND_HOP)
    for dilation in DILATIONS:
        x = layers.Add()([x, convolution(x, 3, dilation=dilation)])
    x = convolution(x, 1)
    return keras.Model(inputs, layers.Conv1D(len(LABELS), 1, activation="softmax")(x), name="digits")


def filter_bank() -> np.ndarray:
    """Return the taps of the mel bands' filters, (cosine and sine, BAND_TAPS, BANDS), mel as by O'Shaughnessy (1987)."""
    mel = np.linspace(*(2595 * np.log10(1 + np.array([LOWEST_HZ, HIGHEST_HZ]) / 700)), BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    taps = np.arange(BAND_TAPS)
    filters = []
    for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
        length = int(np.clip(4 * RATE / (high - low), 64, BAND_TAPS))
        window = np.zeros(BAND_TAPS)
        first = BAND_TAPS - length - (BAND_TAPS - length) // 2  # all windows are centred on the same time
        window[first : first + length] = np.hanning(length + 2)[1:-1]
        phase = 2 * np.pi * centre * taps / RATE
        filters.append(2 / window.sum() * window * np.stack([np.cos(phase), np.sin(phase)]))
    return np.array(filters).transpose(1, 2, 0).astype(np.float32)


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

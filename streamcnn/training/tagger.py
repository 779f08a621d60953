"""The spoken-digit tagger: its net and its training.

Theory. The net is causal and strided, and made of layers that stream exactly. Its front end is a mel filter bank written as
two convolutions (cosine and sine), squared and summed: the power in each band. A logarithm is no layer, but the sum of
x / (1 + x) at scales a decade apart is one of the power, but for its ends: x / (1 + x) is the logistic function of log x, and
equally spaced logistic functions add up to a straight line. Of the logarithms two views are taken, and loudness vanishes from
both: less their mean over the bands, and less each band's own mean over the last MEMORY frames, which takes away whatever
lasts, the rain and the room.

Generalizing to a voice that it has not heard is what is hard for a net that knows four. So the front end is fixed, and every
clip is given another throat: its bands are shifted and spread along the mel axis, and some of them are blotted out
(SpecAugment: Park et al. 2019). Wider speeds, more dropout and a deeper net all made it worse.
"""

from collections.abc import Callable

import numpy as np

from streamcnn.optional import keras_module
from streamcnn.training.clips import HOP, Clips
from streamcnn.training.spoken import LABELS, RATE, Recordings, Word

BANDS, BAND_TAPS, BAND_HOP = 40, 256, 80
LOWEST_HZ, HIGHEST_HZ = 80.0, 3900.0
LOG_SCALES = tuple(10.0**k for k in range(2, 9))
MEMORY = 128  # frames of BAND_HOP: 1.28 s
CHANNELS, DILATIONS, DROPOUT = 96, (1, 2, 4, 8, 4), 0.15

BATCH, STEPS, RATE_OF_LEARNING = 16, 2000, 3e-3
BAND_SPREAD, BAND_SHIFT, BLOTS, BLOT_BANDS = 0.06, 1.5, 2, 6


def train_tagger(recordings: Recordings, words: tuple[Word, ...], seed: int, tell: Callable[[str], None]) -> object:
    """Train the net on some of the words; returns the Keras model: (samples, 1) to (samples / HOP, labels)."""
    keras = keras_module(exact=False)
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    front_end, recognizer = build_front_end(), build_recognizer()
    decay = keras.optimizers.schedules.CosineDecay(RATE_OF_LEARNING, STEPS)
    optimizer = keras.optimizers.AdamW(decay, weight_decay=1e-3, use_ema=True, ema_momentum=0.995)
    trained = keras.Model(
        recognizer.inputs, recognizer.outputs
    )  # the optimizer stays in this shell, out of the saved model
    trained.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(), weighted_metrics=["accuracy"])
    clips = Clips(words, [training for training, _ in recordings.noises.values()], seed)
    for step in range(1, STEPS + 1):
        samples, targets, weights = clips.batch(BATCH)
        bands = other_throats(front_end.predict_on_batch(samples), random)
        loss, accuracy = trained.train_on_batch(bands, targets, sample_weight=weights)
        if step % 500 == 0:
            tell(f"  step {step}: loss {float(loss):.3f}, weighted accuracy of frames {float(accuracy):.3f}")
            trained.reset_metrics()
    optimizer.finalize_variable_values(trained.trainable_variables)
    inputs = keras.Input((None, 1))
    return keras.Model(inputs, recognizer(front_end(inputs)), name="digits")


def build_front_end() -> object:
    """Return the Keras model of the fixed front end: (samples, 1) to logarithms of power (samples / BAND_HOP, BANDS)."""
    keras, layers = keras_module(), keras_module().layers
    inputs = keras.Input((None, 1))
    squares = []
    for name, kernel in zip(("cosines", "sines"), filter_bank(), strict=True):
        bank = layers.Conv1D(BANDS, BAND_TAPS, BAND_HOP, padding="causal", use_bias=False, trainable=False, name=name)
        band = bank(inputs)
        bank.set_weights([kernel[:, None, :]])
        squares.append(layers.Multiply()([band, band]))
    power = layers.Add()(squares)
    logarithms = [layers.Activation("softsign")(layers.Rescaling(scale)(power)) for scale in LOG_SCALES]
    return keras.Model(inputs, layers.Add()(logarithms), name="front_end")


def build_recognizer() -> object:
    """Return the untrained Keras model that learns: the front end's bands (frames, BANDS) to (frames / 2, labels)."""
    keras, layers = keras_module(), keras_module().layers
    inputs = keras.Input((None, BANDS))
    less_mean = layers.Dense(BANDS, use_bias=False, trainable=False, name="less_mean")
    shape = less_mean(inputs)
    less_mean.set_weights([np.eye(BANDS) - 1 / BANDS])
    lasting = layers.AveragePooling1D(MEMORY, strides=1)(layers.ZeroPadding1D((MEMORY - 1, 0))(inputs))
    x = layers.Concatenate()([shape, layers.Subtract()([inputs, lasting])])

    def convolution(x: object, taps: int, stride: int = 1, dilation: int = 1) -> object:
        x = layers.Conv1D(CHANNELS, taps, stride, "causal", dilation_rate=dilation, use_bias=False)(x)
        return layers.Dropout(DROPOUT)(layers.ReLU()(layers.BatchNormalization()(x)))

    x = convolution(x, 5, stride=HOP // BAND_HOP)
    for dilation in DILATIONS:
        x = layers.Add()([x, convolution(x, 3, dilation=dilation)])
    x = convolution(x, 1)
    return keras.Model(inputs, layers.Conv1D(len(LABELS), 1, activation="softmax")(x), name="recognizer")


def other_throats(bands: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return bands (clips, frames, BANDS) with each clip's spread and shifted along the mel axis, and some blotted out."""
    clips = len(bands)
    spread = 1 + random.uniform(-BAND_SPREAD, BAND_SPREAD, (clips, 1))
    place = np.arange(BANDS) * spread + random.uniform(-BAND_SHIFT, BAND_SHIFT, (clips, 1))
    place = np.clip(place, 0, BANDS - 1)
    below = np.minimum(place.astype(int), BANDS - 2)
    share = (place - below).astype(np.float32)[:, None]
    low, high = (np.take_along_axis(bands, band[:, None], axis=2) for band in (below, below + 1))
    bands = low * (1 - share) + high * share
    for clip in bands:
        mean = clip.mean()
        for _ in range(BLOTS):
            width = int(random.integers(0, BLOT_BANDS + 1))
            first = int(random.integers(0, BANDS - width + 1))
            clip[:, first : first + width] = mean
    return bands


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

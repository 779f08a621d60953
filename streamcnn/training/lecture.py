"""The experiment that streamcnn started from: a convolution of eight taps that learns to answer to one ramp.

`Conv1D(filters=1, kernel_size=8, use_bias=False)`, mean absolute error, Adam, 5,000 passes over a single example: the
signal is nine zeros, the ramp 0 1 2 3 4, nine zeros; the target is a single 1, three samples after the ramp's last one,
where the eight taps exactly cover the ramp and the zeros after it. With 'causal' padding that is index 16, with 'valid'
padding index 9 of an output that is seven frames shorter.
"""

import numpy as np

from streamcnn.graph.graph import NetInfo
from streamcnn.optional import keras_module

RAMP = np.arange(5, dtype=np.float32)
SIGNAL = np.concatenate([np.zeros(9), RAMP, np.zeros(9)]).astype(np.float32)
RAMP_END = 13  # index of the ramp's last sample
TAPS = 8
TARGET_LAG = 3
EPOCHS = 5000
RATE = 48_000
THRESHOLD = 0.6
INFO = NetInfo(
    name="ramp",
    rate=RATE,
    labels=("ramp",),
    target_lag=TARGET_LAG,
    input_scale=float(RAMP.max()),
    threshold=THRESHOLD,
    template=tuple(float(v) for v in RAMP / RAMP.max()),
)


def target(padding: str) -> np.ndarray:
    """Return the training target, float32: (23,) for 'causal', (16,) for 'valid'."""
    lost = 0 if padding == "causal" else TAPS - 1
    wanted = np.zeros(len(SIGNAL) - lost, np.float32)
    wanted[RAMP_END + TARGET_LAG - lost] = 1
    return wanted


def train_lecture_net(padding: str, seed: int) -> object:
    """Return the trained `keras.Model`.

    One epoch of 5,000 steps over one example is 5,000 epochs of it, without their overhead.
    """
    keras = keras_module()
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((None, 1)), keras.layers.Conv1D(1, TAPS, padding=padding, use_bias=False, name="conv")],
        name=f"ramp_{padding}",
    )
    model.compile(optimizer=keras.optimizers.Adam(), loss="mae")
    example = SIGNAL[None, :, None], target(padding)[None, :, None]

    def again() -> object:
        while True:
            yield example

    model.fit(again(), steps_per_epoch=EPOCHS, epochs=1, shuffle=False, verbose=0)
    return model

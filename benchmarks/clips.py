"""What a clip net saves by sharing work between windows that overlap, and how it compares with `keras.Model.predict`.

    python benchmarks/clips.py [--overlap 0.9] [--json FILE]

Prints, for each net, interleaved medians on one core: microseconds a window with and without sharing, the share of the
multiplications and of the time that is saved, and the time that predict takes for the same windows in one batch.
Outputs are checked to be predict's before anything is measured.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from streamcnn.compiler.windows import macs_per_window
from streamcnn.engine import Engine
from streamcnn.importers.keras import import_keras
from streamcnn.optional import keras_module

ROUNDS = 9
WINDOWS = 16
STEP = 512  # samples: a whole number of steps of all layers that pool or stride


def waveform(keras: object) -> object:
    """A net on a second of waveform at 16 kHz, in the manner of M5 (Dai et al. 2017): strided, pooled, averaged."""
    K = keras.layers
    layers = [keras.Input((16384, 1)), K.Conv1D(32, 80, strides=4, padding="same", use_bias=False)]
    layers += [K.BatchNormalization(), K.ReLU(), K.MaxPooling1D(4)]
    for filters in (32, 64):
        layers += [K.Conv1D(filters, 3, padding="same", use_bias=False), K.BatchNormalization(), K.ReLU()]
        layers += [K.MaxPooling1D(4)]
    return keras.Sequential([*layers, K.GlobalAveragePooling1D(), K.Dense(12, activation="softmax")])


def spectrogram(keras: object) -> object:
    """A net on a second of mel bands, with convolutions along time and bands."""
    K = keras.layers
    mel = K.MelSpectrogram(fft_length=512, sequence_stride=128, sampling_rate=16000, num_mel_bins=40, top_db=1e9)
    layers = [keras.Input((16384,)), mel, K.Permute((2, 1)), K.Reshape((-1, 40, 1))]
    for filters in (16, 32):
        layers += [K.Conv2D(filters, 3, padding="same", activation="relu"), K.MaxPooling2D((2, 2))]
    return keras.Sequential([*layers, K.GlobalAveragePooling2D(), K.Dense(12, activation="softmax")])


NETS: dict[str, Callable[[object], object]] = {"waveform": waveform, "spectrogram": spectrogram}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--overlap", type=float, default=0.9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    keras = keras_module(exact=False)
    print(f"{platform.processor() or platform.machine()}, one core, windows that overlap by {arguments.overlap:.1%}")
    print(
        f"{'net':<12} {'shared us':>11} {'alone us':>11} {'MACs saved':>11} {'time saved':>11} {'predict us':>11} {'ratio':>7}"
    )
    rows = [measure(keras, name, arguments.overlap) for name in NETS]
    if arguments.json:
        machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        arguments.json.write_text(json.dumps({"machine": machine, "nets": rows}, indent=2) + "\n", encoding="utf-8")


def measure(keras: object, name: str, overlap: float) -> dict[str, object]:
    """Measure one net, print its row and return it."""
    keras.utils.set_random_seed(1)
    model = NETS[name](keras)
    length = model.input_shape[1]
    hop = max(STEP, round(length * (1 - overlap) / STEP) * STEP)
    graph = import_keras(model, window_hop=hop)
    signal = np.random.default_rng(1).normal(0, 0.1, (length + hop * (WINDOWS - 1), 1)).astype(np.float32)
    windows = np.stack([signal[hop * k : hop * k + length] for k in range(WINDOWS)]).reshape(-1, *model.input_shape[1:])
    shared, alone = Engine(graph), Engine(graph, share=False)
    outputs = shared.process(signal)
    assert np.array_equal(outputs, alone.process(signal)), "sharing changes the outputs"
    np.testing.assert_allclose(outputs, model.predict(windows, verbose=0), atol=1e-5)
    block = signal[: hop * WINDOWS]
    tasks: dict[str, Callable[[], object]] = {
        "shared": lambda: shared.process(block),
        "alone": lambda: alone.process(block),
        "predict": lambda: model.predict(windows, batch_size=WINDOWS, verbose=0),
    }
    times: dict[str, list[float]] = {task: [] for task in tasks}
    for _ in range(ROUNDS):
        for task, work in tasks.items():
            began = time.perf_counter()
            work()
            times[task].append((time.perf_counter() - began) / WINDOWS)
    shared_s, alone_s, predict_s = (median(times[task]) for task in tasks)
    macs = [macs_per_window(graph, share=share) for share in (True, False)]
    print(
        f"{name:<12} {shared_s * 1e6:>11.0f} {alone_s * 1e6:>11.0f} {1 - macs[0] / macs[1]:>11.1%} "
        f"{1 - shared_s / alone_s:>11.1%} {predict_s * 1e6:>11.0f} {predict_s / shared_s:>7.2f}"
    )
    seconds = {"shared_s": shared_s, "alone_s": alone_s, "predict_s": predict_s}
    return {"net": name, "clip_frames": length, "window_hop": hop, "macs": macs, **seconds}


if __name__ == "__main__":
    main()

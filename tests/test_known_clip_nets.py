"""Architectures that answer whole clips or see spectrograms, built in Keras with random weights and few filters."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import pytest

from tests.conftest import inside
from tests.test_layers import check_model, randomized

K = keras.layers
Tensor = keras.KerasTensor


def lenet_5() -> keras.Model:
    """LeNet-5 on a spectrogram patch of 32 x 32."""
    layers = [keras.Input((32, 32, 1))]
    for filters in (6, 16):
        layers += [K.Conv2D(filters, 5, activation="tanh"), K.AveragePooling2D(2), K.Activation("tanh")]
    layers += [K.Conv2D(120, 5, activation="tanh"), K.Flatten()]
    return keras.Sequential([*layers, K.Dense(84, activation="tanh"), K.Dense(10, activation="softmax")])


def course() -> keras.Model:
    """The two layers of a course text: convolutions of 5 x 5 x 8 and 3 x 3 x 16, each with pooling, and ten outputs."""
    layers = [keras.Input((28, 28, 1))]
    for filters, taps in [(8, 5), (16, 3)]:
        layers += [K.Conv2D(filters, taps, padding="same", activation="relu"), K.MaxPooling2D(2, 2)]
    return keras.Sequential([*layers, K.Flatten(), K.Dense(10, activation="softmax")])


def alexnet() -> keras.Model:
    """AlexNet: a coarse strided convolution, overlapping pooling, three convolutions in a row, dense layers."""
    layers = [keras.Input((99, 99, 1)), K.Conv2D(8, 11, strides=4, activation="relu"), K.MaxPooling2D(3, 2)]
    layers += [K.Conv2D(12, 5, padding="same", groups=2, activation="relu"), K.MaxPooling2D(3, 2)]
    layers += [K.Conv2D(filters, 3, padding="same", activation="relu") for filters in (16, 16, 12)]
    layers += [K.MaxPooling2D(3, 2), K.Flatten()]
    for units in (32, 24):
        layers += [K.Dense(units, activation="relu"), K.Dropout(0.5)]
    return keras.Sequential([*layers, K.Dense(10, activation="softmax")])


def _excited(x: Tensor, ratio: int = 2) -> Tensor:
    """Squeeze and excitation: weigh the channels by what the whole clip holds."""
    channels = x.shape[-1]
    s = K.Reshape((1, channels))(K.GlobalAveragePooling1D()(x))
    s = K.Dense(channels, activation="sigmoid")(K.Dense(channels * ratio, activation="relu")(s))
    return K.Multiply()([x, s])


def _samplecnn_block(x: Tensor, filters: int, convolutions: int, *, residual: bool, excited: bool) -> Tensor:
    y = x
    for k in range(convolutions):
        if k:
            y = K.Dropout(0.2)(K.ReLU()(y))
        y = K.BatchNormalization()(K.Conv1D(filters, 3, padding="same", use_bias=False)(y))
    if not residual:
        y = K.MaxPooling1D(3)(K.ReLU()(y))
        return _excited(y) if excited else y
    if x.shape[-1] != filters:
        x = K.BatchNormalization()(K.Conv1D(filters, 1, padding="same", use_bias=False)(x))
    return K.MaxPooling1D(3)(K.ReLU()(K.Add()([x, _excited(y) if excited else y])))


def samplecnn(convolutions: int = 1, *, residual: bool = False, excited: bool = False) -> keras.Model:
    """SampleCNN on 3**10 samples, with the features of its last three blocks (Kim, Lee and Nam 2018)."""
    inputs, filters, levels = keras.Input((3**10, 1)), 4, []
    x = K.ReLU()(K.BatchNormalization()(K.Conv1D(filters, 3, strides=3, use_bias=False)(inputs)))
    for k in range(9):
        filters *= 2 if k in (2, 8) else 1
        x = _samplecnn_block(x, filters, convolutions, residual=residual, excited=excited)
        levels.append(x)
    x = K.Concatenate()([K.GlobalMaxPooling1D()(level) for level in levels[-3:]])
    x = K.Dropout(0.5)(K.ReLU()(K.BatchNormalization()(K.Dense(x.shape[-1], use_bias=False)(x))))
    return keras.Model(inputs, K.Dense(50, activation="sigmoid")(x))


def ecg_beats() -> keras.Model:
    """The adaptive 1-D net for heart beats: its last pooling takes whatever is left (Kiranyaz, Ince and Gabbouj 2016)."""
    layers = [keras.Input((128, 1)), K.Conv1D(32, 15, activation="tanh"), K.AveragePooling1D(6)]
    layers += [K.Conv1D(16, 15, activation="tanh"), K.AveragePooling1D(5), K.Flatten()]
    return keras.Sequential([*layers, K.Dense(10, activation="tanh"), K.Dense(5, activation="softmax")])


def crnn() -> keras.Model:
    """Mel bands, convolutions, a recurrent layer in both directions, and a dense head."""
    mel = K.MelSpectrogram(fft_length=256, sequence_stride=128, sampling_rate=8000, num_mel_bins=24)
    x = inputs = keras.Input((4000,))
    x = K.Reshape((-1, 24, 1))(K.Permute((2, 1))(mel(x)))
    for filters in (4, 6):
        x = K.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = K.MaxPooling2D((1, 2))(K.ReLU()(K.BatchNormalization()(x)))
    x = K.Bidirectional(K.GRU(8, return_sequences=True))(K.Reshape((x.shape[1], -1))(x))
    return keras.Model(inputs, K.Dense(4, activation="softmax")(K.GRU(8)(x)))


def kws_crnn() -> keras.Model:
    """The convolutional recurrent net of keyword spotting, on 98 frames of 40 features."""
    x = inputs = keras.Input((98, 40))
    x = K.Reshape((98, 40, 1))(x)
    x = K.Conv2D(6, (3, 3), strides=(1, 2), activation="relu")(x)
    x = K.Conv2D(6, (5, 3), strides=(1, 2), dilation_rate=1, activation="relu")(x)
    x = K.GRU(16)(K.Reshape((x.shape[1], -1))(x))
    x = K.Dense(16, activation="relu")(K.Dropout(0.1)(x))
    return keras.Model(inputs, K.Dense(12, activation="softmax")(x))


def ds_cnn() -> keras.Model:
    """Depthwise separable keyword spotting on planes of 49 x 10."""
    layers = [
        keras.Input((49, 10, 1)),
        K.Conv2D(12, (10, 4), strides=2, padding="same"),
        K.BatchNormalization(),
        K.ReLU(),
    ]
    for _ in range(4):
        layers += [K.DepthwiseConv2D(3, padding="same"), K.BatchNormalization(), K.ReLU()]
        layers += [K.Conv2D(12, 1), K.BatchNormalization(), K.ReLU()]
    layers += [K.Dropout(0.4), K.AveragePooling2D((25, 5)), K.Flatten()]
    return keras.Sequential([*layers, K.Dense(12, activation="softmax")])


def yamnet() -> keras.Model:
    """A small YAMNet: depthwise separable convolutions with strides on patches of 96 x 64 mel bands."""
    layers = [keras.Input((96, 64)), K.Reshape((96, 64, 1)), K.Conv2D(8, 3, strides=2, padding="same", use_bias=False)]
    layers += [K.BatchNormalization(scale=False, epsilon=1e-4), K.ReLU()]
    for strides, filters in [(1, 12), (2, 16), (1, 16), (2, 24), (1, 24), (2, 32)]:
        layers += [
            K.DepthwiseConv2D(3, strides, "same", use_bias=False),
            K.BatchNormalization(scale=False, epsilon=1e-4),
        ]
        layers += [
            K.ReLU(),
            K.Conv2D(filters, 1, use_bias=False),
            K.BatchNormalization(scale=False, epsilon=1e-4),
            K.ReLU(),
        ]
    return keras.Sequential([*layers, K.GlobalAveragePooling2D(), K.Dense(21, activation="sigmoid")])


NETS: dict[str, tuple[Callable[[], keras.Model], dict[str, int]]] = {
    "lenet_5": (lenet_5, {"time_axis": 1, "window_hop": 4}),
    "lenet_5_on_its_side": (lenet_5, {"time_axis": 2, "window_hop": 8}),
    "course": (course, {"time_axis": 1, "window_hop": 4}),
    "alexnet": (alexnet, {"time_axis": 1, "window_hop": 32}),
    "samplecnn": (samplecnn, {"window_hop": 3**9}),
    "samplecnn_se": (partial(samplecnn, excited=True), {"window_hop": 3**9}),
    "samplecnn_res_1": (partial(samplecnn, residual=True), {"window_hop": 3**9}),
    "samplecnn_res_2": (partial(samplecnn, 2, residual=True), {"window_hop": 3**9}),
    "samplecnn_rese_1": (partial(samplecnn, residual=True, excited=True), {"window_hop": 3**9}),
    "samplecnn_rese_2": (partial(samplecnn, 2, residual=True, excited=True), {"window_hop": 3**9}),
    "ecg_beats": (ecg_beats, {"window_hop": 12}),
    "crnn": (crnn, {"window_hop": 512}),
    "kws_crnn": (kws_crnn, {"window_hop": 10}),
    "ds_cnn": (ds_cnn, {"time_axis": 1, "window_hop": 8}),
    "yamnet": (yamnet, {"window_hop": 48}),
}


@pytest.mark.parametrize("name", NETS)
def test_a_known_clip_net_answers_each_window_exactly(name: str):
    """A known architecture keeps the whole contract as a sliding window, and equals what Keras predicts for each window."""
    build, how = NETS[name]
    assert check_model(build(), **how).clip is not None


@pytest.mark.parametrize("name", NETS)
def test_a_known_clip_net_is_converted_and_verified(name: str, tmp_path: Path):
    """`convert --verify` takes the saved model as it is and finds nothing to complain about."""
    build, how = NETS[name]
    path, net = tmp_path / f"{name}.keras", tmp_path / "n.safetensors"
    randomized(build()).save(path)
    window = [word for key, value in how.items() for word in (f"--{key.replace('_', '-')}", value)]
    done = inside("convert", path, "-o", net, "--rate", 8000, "--threshold", 0.5, "--verify", *window)
    assert done.exit_code == 0, done.output
    assert "the same bits" in done.output
    assert inside("inspect", net).exit_code == 0

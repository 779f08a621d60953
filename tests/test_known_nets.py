"""Architectures that people use, built in Keras with random weights: each streams what Keras computes."""

from collections.abc import Callable
from pathlib import Path

import keras
import pytest

from tests.conftest import inside
from tests.test_layers import check_model, randomized

K = keras.layers
NETS: dict[str, Callable[[], keras.Model]] = {}


def net(build: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
    """Register a net under its function's name."""
    NETS[build.__name__] = build
    return build


@net
def lecture() -> keras.Model:
    """The convolution of eight taps."""
    return keras.Sequential([keras.Input((None, 1)), K.Conv1D(1, 8, padding="causal", use_bias=False)])


@net
def resnet() -> keras.Model:
    """Residual blocks with batch normalization, strided shortcuts included."""
    inputs = x = keras.Input((None, 1))
    for filters, strides in [(8, 1), (12, 2), (16, 2)]:
        y = K.Conv1D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
        y = K.ReLU()(K.BatchNormalization()(y))
        y = K.BatchNormalization()(K.Conv1D(filters, 3, padding="same", use_bias=False)(y))
        x = K.ReLU()(K.Add()([y, K.Conv1D(filters, 1, strides=strides, padding="same")(x)]))
    return keras.Model(inputs, K.Dense(3, activation="softmax")(x))


@net
def inception() -> keras.Model:
    """Parallel kernels of several sizes and a pooled path, as in InceptionTime."""
    inputs = x = keras.Input((None, 2))
    for _ in range(2):
        neck = K.Conv1D(4, 1, padding="same", use_bias=False)(x)
        paths = [K.Conv1D(4, taps, padding="same", use_bias=False)(neck) for taps in (5, 9, 19)]
        paths.append(K.Conv1D(4, 1, padding="same", use_bias=False)(K.MaxPooling1D(3, 1, padding="same")(x)))
        x = K.Activation("relu")(K.BatchNormalization()(K.Concatenate()(paths)))
    return keras.Model(inputs, K.Dense(2, activation="sigmoid")(x))


@net
def vgg() -> keras.Model:
    """Pairs of convolutions with pooling between them."""
    layers = [keras.Input((None, 1))]
    for filters in (4, 8, 12):
        layers += [K.Conv1D(filters, 3, padding="same", activation="relu") for _ in range(2)] + [K.MaxPooling1D(2)]
    return keras.Sequential([*layers, K.Dropout(0.5), K.Dense(4, activation="softmax")])


@net
def wavenet() -> keras.Model:
    """Gated dilated convolutions with residual and skip connections."""
    inputs = keras.Input((None, 1))
    x, skips = K.Conv1D(6, 1)(inputs), []
    for dilation in (1, 2, 4, 8, 16):
        a = K.Conv1D(6, 2, padding="causal", dilation_rate=dilation, activation="tanh")(x)
        b = K.Conv1D(6, 2, padding="causal", dilation_rate=dilation, activation="sigmoid")(x)
        gated = K.Conv1D(6, 1)(K.Multiply()([a, b]))
        skips.append(gated)
        x = K.Add()([x, gated])
    x = K.Conv1D(8, 1, activation="relu")(K.ReLU()(K.Add()(skips)))
    return keras.Model(inputs, K.Conv1D(1, 1)(x))


@net
def tcn() -> keras.Model:
    """Temporal convolutional network: dilated causal blocks, layer normalization, dropout, 1x1 shortcuts."""
    inputs = x = keras.Input((None, 3))
    for dilation in (1, 2, 4, 8):
        y = x
        for _ in range(2):
            y = K.Conv1D(8, 3, padding="causal", dilation_rate=dilation)(y)
            y = K.SpatialDropout1D(0.1)(K.ReLU()(K.LayerNormalization()(y)))
        x = K.ReLU()(K.Add()([x if x.shape[-1] == 8 else K.Conv1D(8, 1)(x), y]))
    return keras.Model(inputs, K.Dense(2)(x))


@net
def tc_resnet() -> keras.Model:
    """TC-ResNet of keyword spotting: long kernels over 40 features, strided blocks, a frame-wise head."""
    inputs = keras.Input((None, 40))
    x = K.Conv1D(16, 3, padding="same", use_bias=False)(inputs)
    for filters in (24, 32, 48):
        y = K.ReLU()(
            K.BatchNormalization(scale=False)(K.Conv1D(filters, 9, strides=2, padding="same", use_bias=False)(x))
        )
        y = K.BatchNormalization(scale=False)(K.Conv1D(filters, 9, padding="same", use_bias=False)(y))
        shortcut = K.ReLU()(K.BatchNormalization()(K.Conv1D(filters, 1, strides=2, padding="same", use_bias=False)(x)))
        x = K.ReLU()(K.Add()([y, shortcut]))
    return keras.Model(inputs, K.Conv1D(12, 1, activation="softmax")(x))


@net
def ds_cnn() -> keras.Model:
    """Depthwise separable keyword spotting, in its one-dimensional form."""
    layers = [
        keras.Input((None, 10)),
        K.Conv1D(16, 10, strides=2, padding="same", use_bias=False),
        K.BatchNormalization(),
    ]
    for _ in range(3):
        layers += [K.DepthwiseConv1D(3, padding="same", use_bias=False), K.BatchNormalization(), K.ReLU()]
        layers += [K.Conv1D(16, 1, use_bias=False), K.BatchNormalization(), K.ReLU()]
    return keras.Sequential([*layers, K.AveragePooling1D(5, 1, padding="valid"), K.Dense(12, activation="softmax")])


@net
def svdf() -> keras.Model:
    """Singular value decomposition filters: a product over features, then a depthwise filter over time."""
    layers = [keras.Input((None, 20))]
    for units, memory in [(16, 4), (16, 10), (8, 10)]:
        layers += [
            K.Dense(units, use_bias=False),
            K.ZeroPadding1D((memory - 1, 0)),
            K.DepthwiseConv1D(memory),
            K.ReLU(),
        ]
    return keras.Sequential([*layers, K.Dense(12, activation="softmax")])


@net
def conversation_framed() -> keras.Model:
    """A detector of conversation at 8 kHz on frames of 80 samples: relu, relu, sigmoid."""
    layers = [K.Dense(12, activation="relu"), K.Dense(8, activation="relu"), K.Dense(1, activation="sigmoid")]
    return keras.Sequential([keras.Input((None, 1)), K.Reshape((-1, 80)), *layers])


@net
def conversation_convolutional() -> keras.Model:
    """The same detector as a convolution that moves by a frame."""
    layers = [K.Conv1D(12, 80, strides=80, activation="relu"), K.Conv1D(8, 1, activation="relu")]
    return keras.Sequential([keras.Input((None, 1)), *layers, K.Conv1D(1, 1, activation="sigmoid")])


@net
def conv_gru_dense() -> keras.Model:
    """A strided front, a GRU and a LSTM, and a dense head."""
    layers = [K.Conv1D(8, 5, strides=2, padding="causal", activation="relu"), K.GRU(6, return_sequences=True)]
    layers += [K.LSTM(5, return_sequences=True), K.TimeDistributed(K.Dense(3, activation="softmax"))]
    return keras.Sequential([keras.Input((None, 4)), *layers])


@net
def samplecnn_trunk() -> keras.Model:
    """The convolutional trunk of SampleCNN: strides of three down to one frame for 3**6 samples."""
    layers = [keras.Input((None, 1)), K.Conv1D(8, 3, strides=3, use_bias=False), K.BatchNormalization(), K.ReLU()]
    for filters in (8, 8, 12, 12, 16):
        layers += [
            K.Conv1D(filters, 3, padding="same", use_bias=False),
            K.BatchNormalization(),
            K.ReLU(),
            K.MaxPooling1D(3),
        ]
    return keras.Sequential([*layers, K.Dense(10, activation="sigmoid")])


@net
def unet() -> keras.Model:
    """Down by pooling, up by transposed convolutions, with skips between."""
    inputs = keras.Input((None, 2))
    a = K.Conv1D(4, 3, padding="same", activation="relu")(inputs)
    b = K.Conv1D(6, 3, padding="same", activation="relu")(K.MaxPooling1D(2)(a))
    c = K.Conv1D(8, 3, padding="same", activation="relu")(K.MaxPooling1D(2)(b))
    b = K.Concatenate()([b, K.Conv1DTranspose(6, 2, strides=2, padding="same")(c)])
    a = K.Concatenate()([a, K.UpSampling1D(2)(K.Conv1D(4, 3, padding="same", activation="relu")(b))])
    return keras.Model(inputs, K.Conv1D(1, 1, activation="sigmoid")(a))


@pytest.mark.parametrize("name", NETS)
def test_a_known_net_streams_exactly(name: str):
    """A known architecture keeps the whole contract and equals Keras, tail included."""
    check_model(NETS[name](), frames=200)


@pytest.mark.parametrize("name", NETS)
def test_a_known_net_is_converted_and_verified(name: str, tmp_path: Path):
    """`convert --verify` takes the saved model as it is and finds nothing to complain about."""
    path = tmp_path / f"{name}.keras"
    randomized(NETS[name]()).save(path)
    done = inside("convert", path, "-o", tmp_path / "n.safetensors", "--rate", 8000, "--threshold", 0.5, "--verify")
    assert done.exit_code == 0, done.output
    assert "the same bits" in done.output
    assert inside("inspect", tmp_path / "n.safetensors").exit_code == 0

"""Every Keras layer that streams, with the products of its options: engine, reference and Keras agree, to the last frame."""

import itertools

import keras
import numpy as np
import pytest

from streamcnn.engine import Engine
from streamcnn.forward import reference
from streamcnn.graph import layers as records
from streamcnn.graph.functions import OVER_CHANNELS, POINTWISE
from streamcnn.graph.graph import Graph
from streamcnn.importers.keras import import_keras
from streamcnn.importers.keras_oracle import OUTPUT, keras_tensors
from streamcnn.verification import whole_length
from tests.contract import check_streaming_contract, streamed, tolerance
from tests.graphs import OF_SPECTRA, pieces, signal

K = keras.layers


def randomized(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give a model random weights, biases and statistics included; variances stay positive."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if "seed" in variable.path or not variable.dtype.startswith("float"):
            continue
        value = random.normal(size=variable.shape) * 0.4
        variable.assign(np.abs(value) + 0.3 if "variance" in variable.path else value)
    return model


def check_model(model: keras.Model, frames: int = 90, contract: bool = True, **how: int) -> Graph:
    """Check that a model's graph gives Keras' numbers for a whole signal, or for each window of a clip net.

    `how`: what `import_keras` is told. The streamed outputs come in any pieces, flush included.
    """
    graph = import_keras(randomized(model), **how)
    axis = graph.info.time_axis
    if graph.clip is None:
        length = model.inputs[0].shape[axis] or whole_length(graph, frames)
        starts, span = [0], length
    else:
        length, span = graph.clip.frames + 3 * graph.clip.hop + graph.clip.hop // 2, graph.clip.frames
        starts = [k * graph.clip.hop for k in range(4)]
    x = signal(3, length, graph.input_channels)
    windows = np.stack([x[start : start + span] for start in starts])
    shapes = [t.shape[1:axis] + t.shape[axis + 1 :] for t in model.inputs]
    widths = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    inputs = [
        np.moveaxis(part.reshape(len(starts), span, *shape), 1, axis)
        for part, shape in zip(np.split(windows, widths, axis=2), shapes, strict=True)
    ]
    answers = [model([part[k : k + 1] for part in inputs]) for k in range(len(starts))]  # as of single windows
    answers = [answer if isinstance(answer, (list, tuple)) else [answer] for answer in answers]
    outputs = [np.concatenate(parts) for parts in zip(*answers, strict=True)]
    if graph.clip is None:
        oracle = np.concatenate([np.asarray(y)[0].reshape(y.shape[1], -1) for y in outputs], axis=1)
    else:
        oracle = np.concatenate([np.asarray(y).reshape(len(starts), -1) for y in outputs], axis=1)
    exact = reference(graph, x)
    assert oracle.shape == exact.shape
    allowed = tolerance(graph, x)
    np.testing.assert_allclose(oracle, exact, rtol=0, atol=2 * allowed)
    got = streamed(Engine(graph), pieces(x, 1))
    np.testing.assert_allclose(got, exact, rtol=0, atol=allowed)
    if graph.clip is not None:
        np.testing.assert_array_equal(streamed(Engine(graph, share=False), pieces(x, 2)), got)
    if contract:
        check_streaming_contract(graph, x)
    return graph


def chain(*layers: object, shape: tuple = (None, 4)) -> keras.Model:
    """Return a Keras model of layers."""
    return keras.Sequential([keras.Input(shape), *layers])


CONVOLUTIONS = [
    {"padding": padding, "strides": strides, "dilation_rate": dilation, "groups": groups}
    for padding, strides, dilation, groups in itertools.product(["causal", "valid", "same"], [1, 2, 3], [1, 3], [1, 2])
    if strides == 1 or dilation == 1
]


@pytest.mark.parametrize("taps", [1, 2, 5])
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_conv1d(taps: int, options: dict):
    """Conv1D, with every padding, stride, dilation and grouping."""
    check_model(chain(K.Conv1D(6, taps, activation="tanh", **options)), contract=taps == 5)


@pytest.mark.parametrize("frames", range(30, 42))
def test_strided_same_padding_of_every_length(frames: int):
    """Strided 'same' layers pad by their own input's length: a model of a fixed length streams exactly at any length."""
    layers = [
        K.Conv1D(3, 2, padding="valid"),
        K.Conv1D(3, 3, strides=2, padding="same"),
        K.MaxPooling1D(3, 2, padding="same"),
    ]
    graph = check_model(chain(*layers, shape=(frames, 2)), contract=False)
    assert graph.length_class == frames % 4


@pytest.mark.parametrize(
    ("padding", "strides", "dilation", "multiplier"),
    [("valid", 1, 1, 1), ("same", 1, 2, 2), ("same", 2, 1, 3), ("valid", 3, 1, 1), ("valid", 1, 3, 2)],
)
def test_depthwise_and_separable(padding: str, strides: int, dilation: int, multiplier: int):
    """DepthwiseConv1D and SeparableConv1D, with every padding, stride, dilation and multiplier."""
    options = {"strides": strides, "padding": padding, "depth_multiplier": multiplier, "activation": "relu"}
    check_model(chain(K.DepthwiseConv1D(3, dilation_rate=dilation, **options)))
    check_model(chain(K.SeparableConv1D(5, 3, dilation_rate=dilation, **options)))


TRANSPOSED = list(itertools.product(["valid", "same"], [1, 2, 3], [1, 2, 5]))


@pytest.mark.parametrize(("padding", "strides", "taps"), TRANSPOSED)
def test_conv1d_transpose(padding: str, strides: int, taps: int):
    """Conv1DTranspose, with every padding and stride, behind a stride that makes room for it."""
    layer = K.Conv1DTranspose(3, taps, strides=strides, padding=padding, activation="relu")
    check_model(chain(K.Conv1D(2, 3, strides=strides, padding="causal"), layer), contract=taps == 5)


@pytest.mark.parametrize(("padding", "taps"), list(itertools.product(["valid", "same"], [1, 2, 5])))
def test_dilated_conv1d_transpose(padding: str, taps: int):
    """A dilated Conv1DTranspose keeps the contract; Keras' TensorFlow backend cannot compute one on a CPU."""
    kernel = np.random.default_rng(0).normal(size=(taps, 3, 2))
    layer = records.Conv1DTranspose(kernel=kernel, padding=padding, dilation=3)
    check_streaming_contract(Graph.sequential([layer], 2), signal(0, 90, 2))


@pytest.mark.parametrize(
    ("padding", "taps", "output_padding"),
    [("valid", 3, 1), ("same", 3, 1), ("valid", 2, 0), ("valid", 1, 0), ("same", 3, 0), ("same", 2, 1)],
)
def test_conv1d_transpose_with_output_padding(padding: str, taps: int, output_padding: int):
    """Conv1DTranspose with Keras' output_padding has just as many frames as Keras gives."""
    layer = K.Conv1DTranspose(3, taps, strides=2, padding=padding, output_padding=output_padding)
    check_model(chain(K.MaxPooling1D(2), layer))


@pytest.mark.parametrize(("pool", "strides", "padding"), list(itertools.product([1, 2, 3, 5], [1, 2, 3], ["valid", "same"])))
def test_pooling(pool: int, strides: int, padding: str):
    """MaxPooling1D and AveragePooling1D, overlapping and not; padded frames neither win nor count."""
    check_model(chain(K.MaxPooling1D(pool, strides, padding)), contract=pool == 5)
    check_model(chain(K.AveragePooling1D(pool, strides, padding)), contract=pool == 5)


MOVES = {
    "pad": [K.ZeroPadding1D((3, 2))],
    "pad more than there is history": [K.ZeroPadding1D((40, 50)), K.Conv1D(2, 3)],
    "crop": [K.Cropping1D((2, 5)), K.Conv1D(2, 3, padding="same")],
    "upsample": [K.MaxPooling1D(6), K.UpSampling1D(3), K.Conv1D(3, 4, padding="causal")],
    "upsample and stride again": [K.MaxPooling1D(2), K.UpSampling1D(3), K.Conv1D(2, 3, strides=3, padding="same")],
    "stack": [K.Reshape((-1, 12)), K.Dense(5, "relu"), K.Dense(1, "sigmoid")],
    "unstack": [K.Conv1D(6, 4, strides=4, padding="causal"), K.Reshape((-1, 3)), K.Conv1D(2, 3, padding="causal")],
    "frames of two axes": [K.Reshape((-1, 2, 2)), K.Permute((1, 3, 2)), K.Dense(3), K.TimeDistributed(K.Flatten())],
    "normalized frames of two axes": [K.Reshape((-1, 2, 2)), K.LayerNormalization(axis=[-2, -1]), K.Softmax(),
                                      K.BatchNormalization(), K.Reshape((-1, 4))],
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_moves_along_time(name: str):
    """Padding, cropping, upsampling, and reshaping that keeps frames whole."""
    check_model(chain(*(type(layer).from_config(layer.get_config()) for layer in MOVES[name])))


NORMS = [
    K.BatchNormalization(), K.BatchNormalization(center=False, scale=False, epsilon=0.1), K.LayerNormalization(),
    K.LayerNormalization(center=False, scale=False), K.RMSNormalization(), K.UnitNormalization(),
    K.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 2, 3, 4]), K.Normalization(mean=0.5, variance=2.0),
    K.Normalization(mean=0.5, variance=2.0, invert=True), K.Normalization(), K.Rescaling(2.0, 0.5),
    K.Rescaling([1.0, 2, 3, 4], [0.0, 1, 2, 3]),
]  # fmt: skip


@pytest.mark.parametrize("layer", NORMS, ids=lambda layer: layer.name)
def test_normalizations(layer: keras.Layer):
    """Normalization over channels, by statistics of the training and of the frame; a padded convolution follows."""
    check_model(chain(type(layer).from_config(layer.get_config()), K.Conv1D(3, 3, padding="same")))


def test_a_recurrent_layer_may_end_in_a_softmax():
    """The state of a recurrent layer may be what softmax makes of a whole frame."""
    check_model(chain(K.SimpleRNN(5, activation="softmax", return_sequences=True), shape=(None, 2)))


@pytest.mark.parametrize("cell", ["GRU", "GRU before", "LSTM", "SimpleRNN"])
@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "relu", "units": 7}], ids=str)
def test_recurrent(cell: str, options: dict):
    """GRU with both reset rules, LSTM and SimpleRNN, with and without bias, other activations, and stacked."""
    options = {"units": 5, "return_sequences": True, **options}
    if cell.startswith("GRU"):
        options["reset_after"] = cell == "GRU"
    layer = getattr(K, cell.split()[0])
    check_model(chain(layer(**options), K.Conv1D(4, 3, padding="causal"), layer(**options)), frames=60)


def test_recurrent_details():
    """Other gate functions, a wrapped cell, stacked cells, dropout inside, and unit_forget_bias."""
    check_model(chain(K.LSTM(3, return_sequences=True, recurrent_activation="hard_sigmoid", dropout=0.5)))
    check_model(chain(K.RNN(K.GRUCell(3), return_sequences=True)))
    check_model(chain(K.RNN([K.LSTMCell(3), K.GRUCell(2)], return_sequences=True)))
    check_model(chain(K.GRU(3, return_sequences=True, recurrent_activation="tanh", activation="softsign")))


@pytest.mark.parametrize(
    "name", [name for name in (*POINTWISE, *OVER_CHANNELS, "glu") if name not in ("threshold", *OF_SPECTRA)]
)
def test_every_activation_of_keras(name: str):
    """Each of Keras' activations, as a layer and inside a convolution, a Dense and behind a transposed convolution."""
    check_model(chain(K.Activation(name)), contract=False)
    check_model(chain(K.Conv1D(6, 3, padding="causal", activation=name)), contract=name == "glu")
    if name in ("exponential", "glu"):  # one explodes, and Keras itself cannot put layers behind the other
        return
    layers = [K.Conv1D(6, 3, padding="causal", activation=name), K.Dense(4, activation=name)]
    check_model(chain(*layers, K.Conv1DTranspose(2, 3, activation=name)), contract=False)


def test_activations_are_all_known():
    """Every function of keras.activations is one of ours, so that none can be missed."""
    skipped = {"get", "serialize", "deserialize", "glu", "swish", "hard_swish"}
    names = {name for name in dir(keras.activations) if callable(getattr(keras.activations, name)) and name[0] != "_"}
    assert names - skipped <= set(POINTWISE) | set(OVER_CHANNELS)


FUNCTIONS = [
    K.ReLU(), K.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.3), K.ReLU(negative_slope=0.25), K.LeakyReLU(),
    K.LeakyReLU(negative_slope=0.05), K.ELU(), K.ELU(alpha=0.3), K.PReLU(shared_axes=[1]), K.PReLU(shared_axes=[1, 2]),
    K.Softmax(), K.Activation(K.LeakyReLU()), K.Activation("swish"), K.Activation("hard_swish"),
]  # fmt: skip


@pytest.mark.parametrize("layer", FUNCTIONS, ids=lambda layer: layer.name)
def test_functions_with_parameters(layer: keras.Layer):
    """Activation layers with all their parameters, and layers in the place of a function."""
    check_model(
        chain(
            K.Conv1D(3, 2),
            layer if layer.name.startswith("activation") else type(layer).from_config(layer.get_config()),
        )
    )


def test_layers_that_do_nothing_vanish():
    """Dropout, noise and regularization leave no trace at inference."""
    layers = [K.Dropout(0.5), K.SpatialDropout1D(0.5), K.GaussianNoise(1.0), K.GaussianDropout(0.5), K.AlphaDropout(0.5),
              K.ActivityRegularization(l1=0.1), K.Identity(), K.Conv1D(2, 3)]  # fmt: skip
    assert len(check_model(chain(*layers)).nodes) == 1


@pytest.mark.parametrize("join", ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"])
def test_joins_match_frames(join: str):
    """Every join, of a path that looks ahead, one that looks back, and one that does nothing."""
    inputs = keras.Input((None, 4))
    paths = [K.Conv1D(4, 9, padding="same")(inputs), K.Conv1D(4, 3, padding="causal", dilation_rate=4)(inputs)]
    if join != "Subtract":
        paths.append(inputs)
    graph = check_model(keras.Model(inputs, K.Dense(2)(getattr(K, join)()(paths))))
    assert graph.delay == 4, "the delay is that of the path that looks ahead, and no more"


def test_operators_and_broadcasting():
    """Sums written with +, and one channel that gates all others."""
    inputs = keras.Input((None, 4))
    gate = K.Conv1D(1, 3, padding="causal", activation="sigmoid")(inputs)
    check_model(keras.Model(inputs, K.Multiply()([inputs, gate]) + inputs))


def test_valid_paths_are_cropped_to_match():
    """A 'valid' path joined with a cropped one, as in U-Nets, matches frame by frame."""
    inputs = keras.Input((None, 3))
    main = K.Conv1D(3, 5, padding="valid")(inputs)
    check_model(keras.Model(inputs, K.Add()([main, K.Cropping1D((1, 3))(inputs)])))


def test_strided_paths_with_other_paddings():
    """Paths of one total stride, made in different ways, join at every frame."""
    inputs = keras.Input((None, 3))
    a = K.Conv1D(4, 5, strides=4, padding="same")(inputs)
    b = K.MaxPooling1D(2)(K.Conv1D(4, 3, strides=2, padding="causal")(inputs))
    check_model(keras.Model(inputs, K.Conv1D(2, 2, padding="causal")(K.Concatenate()([a, b]))))


def test_nested_models_and_shared_layers():
    """A model inside a model, used twice, and a layer used twice, become nodes that share weights."""
    inner_inputs = keras.Input((None, 4))
    inner = keras.Model(inner_inputs, K.Add()([inner_inputs, K.Conv1D(4, 3, padding="causal", name="c")(inner_inputs)]))
    block = keras.Sequential([keras.Input((None, 4)), K.Conv1D(4, 2, padding="causal"), K.ReLU()])
    inputs, shared = keras.Input((None, 4)), K.Conv1D(4, 3, padding="same")
    x = shared(shared(inner(block(inner(inputs)))))
    graph = check_model(keras.Model(inputs, x))
    assert len([node for node in graph.nodes if node.name.endswith("/c")]) >= 1


def test_several_inputs_are_channels_of_the_stream():
    """Several inputs are groups of channels in the model's order, and several outputs stand side by side."""
    a, b = keras.Input((None, 2)), keras.Input((None, 3))
    x = K.Concatenate()([K.Conv1D(2, 3, padding="causal")(a), b])
    graph = check_model(keras.Model([a, b], [K.Dense(2)(x), K.Conv1D(3, 2, padding="causal")(x), b]))
    assert (graph.input_channels, graph.output_channels) == (5, 8)


def test_a_clip_of_samples_without_channels():
    """A model that takes a clip as one vector and reshapes it into frames streams as frames."""
    check_model(keras.Sequential([keras.Input((96,)), K.Reshape((96, 1)), K.Conv1D(3, 5, strides=2, padding="same")]))
    check_model(keras.Sequential([keras.Input((96,)), K.Reshape((12, 8)), K.Dense(3)]))


@pytest.mark.parametrize("scale", [1e-20, 1e-8, 1e-3, 1.0, 1e4])
def test_normalizations_at_every_scale(scale: float):
    """Normalizations of very quiet and very loud frames are Keras', where their epsilons decide."""
    for layer in (K.UnitNormalization(), K.LayerNormalization(), K.RMSNormalization()):
        model = chain(layer)
        x = signal(0, 50, 4) * np.float32(scale)
        exact = np.asarray(model(x[None]))[0]
        np.testing.assert_allclose(Engine(import_keras(model)).process(x), exact, rtol=1e-4, atol=1e-6)


def test_normalization_of_large_offsets():
    """Samples of an unsigned converter, around 30,000, keep their small digits."""
    model = chain(K.Normalization(mean=30_000.0, variance=3.0))
    x = 30_000 + signal(0, 200, 4)
    exact = (x.astype(np.float64) - 30_000) / np.sqrt(3)
    np.testing.assert_allclose(Engine(import_keras(model)).process(x), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"threshold": 1.0}, {"threshold": 1.0, "negative_slope": 0.5}, {"max_value": 1.0}], ids=str
)
def test_relu_at_its_corners(options: dict):
    """At exactly the threshold, the limit, zero, and at infinity, ReLU gives what Keras gives."""
    model = chain(K.ReLU(**options), shape=(None, 1))
    x = np.array([[-np.inf], [-1], [-0.0], [0], [0.5], [1], [1.5], [np.inf]], np.float32)
    np.testing.assert_array_equal(Engine(import_keras(model)).process(x), np.asarray(model(x[None]))[0])


def test_time_distributed_axes_are_those_of_a_frame():
    """Inside TimeDistributed a layer counts its axes without time."""
    check_model(chain(K.TimeDistributed(K.BatchNormalization(axis=1))))
    check_model(chain(K.TimeDistributed(K.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 2, 3, 4]))))
    check_model(chain(K.Rescaling(np.full((1, 4), 2.0))))


def test_joins_of_a_fixed_odd_length():
    """Strided paths that only match at the model's own length are streamed at it."""
    inputs = keras.Input((31, 2))
    paths = [K.Conv1D(2, 3, strides=2)(inputs), K.Conv1D(2, 2, strides=2)(inputs)]
    check_model(keras.Model(inputs, K.Add()(paths)), contract=False)


def test_a_stateful_layer_streams():
    """A stateful layer starts from zeros, however often its model was called."""
    model = keras.Sequential([keras.Input((None, 2), batch_size=1), K.GRU(3, return_sequences=True, stateful=True)])
    graph, x = import_keras(model), signal(0, 40, 2)
    expected = np.asarray(model(x[None]))[0]
    np.testing.assert_allclose(Engine(graph).process(x), expected, atol=1e-6)
    for _ in range(2):
        np.testing.assert_allclose(keras_tensors(model, x[None], graph)[OUTPUT], expected, atol=1e-6)

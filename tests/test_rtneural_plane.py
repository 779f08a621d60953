"""RTNeural's 2-D layers: what it computes frame by frame, written out slowly, is what streams."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from streamcnn.engine import Engine
from streamcnn.errors import GraphError, InputError, UnsupportedLayerError
from streamcnn.forward import reference
from streamcnn.graph.graph import Graph
from streamcnn.importers.rtneural import import_rtneural
from tests.contract import check_streaming_contract, streamed
from tests.graphs import pieces, signal

L = keras.layers
Frame = np.ndarray
FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(),  # of the whole frame, as all of RTNeural's activations
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
}


# The oracle: a frame goes through one layer after the other, and each layer keeps its state


class Conv2D:
    """A conv2d with its state: for each of the next output frames, the sum of what the frames so far add to it."""

    def __init__(self, keys: dict):
        self.kernel, self.bias = (np.array(w) for w in keys["weights"])
        self.taps, self.band_taps, self.filters_in, self.filters_out = self.kernel.shape
        self.features, self.stride, self.dilation = keys["num_features_in"], keys["strides"], keys["dilation"]
        self.valid = keys["padding"] == "valid"
        span = self.band_taps - 1 if self.valid else 0
        self.features_out = -(-(self.features - span) // self.stride)
        self.sums = np.zeros(((self.taps - 1) * self.dilation + 1, self.features_out, self.filters_out))
        self.now = 0

    def __call__(self, frame: Frame) -> Frame:
        """Add the frame to all output frames that see it, and return the one that has seen its last."""
        for tap in range(self.taps):
            later = len(self.sums) - 1 - tap * self.dilation
            self.sums[(self.now + later) % len(self.sums)] += self.along_features(frame, tap)
        made = self.sums[self.now] + self.bias
        self.sums[self.now] = 0
        self.now = (self.now + 1) % len(self.sums)
        return made.ravel()

    def along_features(self, frame: Frame, tap: int) -> np.ndarray:
        """Return what one tap makes of a frame: (features, filters)."""
        made = np.zeros((self.features_out, self.filters_out))
        for at in range(self.features_out):
            first = at * self.stride - self.below
            for k in range(max(0, -first), min(self.band_taps, self.features - first)):
                for i in range(self.filters_in):
                    for o in range(self.filters_out):
                        made[at, o] += self.kernel[tap, k, i, o] * frame[(first + k) * self.filters_in + i]
        return made

    @property
    def below(self) -> int:
        """How many features of zeros stand below the first one."""
        rest = self.features % self.stride
        zeros = self.band_taps - (self.stride if rest == 0 else rest)
        return 0 if self.valid else max(zeros, 0) // 2


def batchnorm2d(keys: dict) -> Callable[[Frame], Frame]:
    """Return a normalization of each filter."""
    filters, *weights = keys["num_filters_in"], *(np.array(w) for w in keys["weights"])
    gamma, beta, mean, variance = weights if len(weights) == 4 else (np.ones(filters), np.zeros(filters), *weights)

    def normalized(frame: Frame) -> Frame:
        made = frame.copy()
        for place in range(len(frame)):
            f = place % filters
            made[place] = (frame[place] - mean[f]) * gamma[f] / np.sqrt(variance[f] + keys["epsilon"]) + beta[f]
        return made

    return normalized


def dense(keys: dict) -> Callable[[Frame], Frame]:
    """Return a product with the whole frame."""
    kernel, bias = (np.array(w) for w in keys["weights"])
    return lambda frame: frame @ kernel + bias


ORACLES = {"conv2d": Conv2D, "batchnorm2d": batchnorm2d, "dense": dense, "activation": lambda keys: lambda frame: frame}


def rtneural(document: dict, x: np.ndarray) -> np.ndarray:
    """Return what RTNeural makes of a signal: a frame for each one."""
    layers = [(ORACLES[keys["type"]](keys), FUNCTIONS.get(keys["activation"])) for keys in document["layers"]]
    made = []
    for frame in x.astype(np.float64):
        for layer, function in layers:
            frame = layer(frame)
            frame = frame if function is None else function(frame)
        made.append(frame)
    return np.array(made)


# Models as RTNeural's exporter writes them


def conv2d(seed: int, plane: tuple[int, int], kernel: tuple[int, int, int] = (2, 3, 2), **options: object) -> dict:
    """Return a conv2d on a plane (features, filters), of a kernel (time, features, filters made)."""
    (features, filters), (taps, band_taps, made) = plane, kernel
    keys = {"dilation": 1, "strides": 1, "padding": "valid", "activation": "", **options}
    span = band_taps - 1 if keys["padding"] == "valid" else 0
    random = np.random.default_rng(seed)
    weights = random.normal(size=(taps, band_taps, filters, made)), random.normal(size=made)
    return {
        "type": "conv2d",
        "shape": [None, None, -(-(features - span) // keys["strides"]), made],
        "kernel_size_time": taps,
        "kernel_size_feature": band_taps,
        "num_filters_in": filters,
        "num_features_in": features,
        "num_filters_out": made,
        **keys,
        "weights": [w.astype(np.float32).tolist() for w in weights],
    }


def norm(seed: int, plane: tuple[int, int], arrays: int = 4) -> dict:
    """Return a batchnorm2d on a plane, of gamma, beta, mean and variance, or of the last two."""
    weights = np.random.default_rng(seed).uniform(0.5, 2, (arrays, plane[1])).astype(np.float32).tolist()
    return {
        "type": "batchnorm2d",
        "activation": "",
        "shape": [None, None, *plane],
        "epsilon": 0.01,
        "num_features_in": plane[0],
        "num_filters_in": plane[1],
        "weights": weights,
    }


def model(plane: tuple[int, int], *layers: dict, frames: int | None = None) -> dict:
    """Return a model of layers on a plane."""
    return {"in_shape": [None, frames, *plane], "layers": list(layers)}


def plane_of(keys: dict) -> tuple[int, int]:
    """Return the features and filters that a layer makes."""
    return tuple(keys["shape"][2:])


def imported(folder: Path, document: dict) -> Graph:
    """Return the graph of a document."""
    (folder / "m.json").write_text(json.dumps(document), encoding="utf-8")
    return import_rtneural(folder / "m.json")


def assert_streams(graph: Graph, x: np.ndarray, expected: np.ndarray, seed: int = 0) -> None:
    """Check the reference, and the engine for a random split into blocks, against what RTNeural computes."""
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(reference(graph, x), expected, rtol=0, atol=atol)
    np.testing.assert_allclose(streamed(Engine(graph), pieces(x, seed)), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("band_taps", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("taps", [1, 2, 3])
def test_a_conv2d_equals_rtneurals(
    tmp_path: Path, taps: int, band_taps: int, dilation: int, strides: int, padding: str
):
    """A conv2d of any kernel, dilation, stride and padding equals RTNeural's, from the first frame on."""
    for plane, made in (((5, 2), 3), ((6, 1), 2), ((8, 3), 1)):
        keys = conv2d(taps, plane, (taps, band_taps, made), dilation=dilation, strides=strides, padding=padding)
        document, x = model(plane, keys), signal(band_taps, 14, plane[0] * plane[1])
        assert_streams(imported(tmp_path, document), x, rtneural(document, x), dilation)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_activations_equal_rtneurals(tmp_path: Path, function: str):
    """An activation of a conv2d, and one behind it, work on the whole frame as RTNeural's do, a softmax too."""
    keys = conv2d(0, (7, 2), strides=2, padding="same", activation=function)
    behind = {"type": "activation", "activation": function, "shape": keys["shape"], "weights": []}
    document, x = model((7, 2), keys, behind), signal(0, 30, 14)
    assert_streams(imported(tmp_path, document), x, rtneural(document, x))


def whole_net() -> dict:
    """A net of all 2-D layers, with a dense on whole frames behind them."""
    first = conv2d(0, (9, 1), (3, 3, 2), dilation=2, activation="relu")
    second = conv2d(1, plane_of(first), (2, 4, 3), strides=2, padding="same")
    last = conv2d(2, plane_of(second), (2, 2, 2), dilation=3, padding="same", activation="elu")
    values = plane_of(last)[0] * plane_of(last)[1]
    weights = [signal(3, values, 4).tolist(), [0.1, 0.2, 0.3, 0.4]]
    head = {"type": "dense", "activation": "sigmoid", "shape": [None, None, 4], "weights": weights}
    norms = norm(4, plane_of(first), 2), norm(5, plane_of(second), 4)
    return model((9, 1), first, norms[0], second, norms[1], last, head)


def test_a_whole_net_equals_rtneurals(tmp_path: Path):
    """Convolutions, batch normalizations with and without gamma and beta, and a dense together equal RTNeural's."""
    document, x = whole_net(), signal(0, 120, 9)
    graph = imported(tmp_path, document)
    assert (graph.input_channels, graph.output_channels, graph.hop, graph.delay) == (9, 4, 1, 0)
    assert_streams(graph, x, rtneural(document, x))
    check_streaming_contract(graph, x)


def test_numbers_may_stand_in_lists(tmp_path: Path):
    """A number may stand in a list, of which RTNeural takes the last entry."""
    document, x = whole_net(), signal(0, 40, 9)
    expected = reference(imported(tmp_path, document), x)
    document["layers"][0] |= {"kernel_size_time": [3], "strides": [2, 1], "num_filters_in": [1]}
    assert np.array_equal(reference(imported(tmp_path, document), x), expected)


# Keras


def exported(net: keras.Model) -> dict:
    """Return a Keras net as RTNeural's exporter writes it; it is told to leave out the Reshape."""
    made = []
    for layer in net.layers:
        keys = {"activation": "", "shape": layer.output.shape, "weights": [w.tolist() for w in layer.get_weights()]}
        match layer:
            case L.Conv2D():
                features, filters = layer.input.shape[2:]
                keys |= {
                    "type": "conv2d",
                    "activation": {"linear": ""}.get(layer.activation.__name__, layer.activation.__name__),
                    "kernel_size_time": layer.kernel_size[0],
                    "kernel_size_feature": layer.kernel_size[1],
                    "dilation": layer.dilation_rate[0],
                    "strides": layer.strides[1],
                    "num_filters_in": filters,
                    "num_features_in": features,
                    "num_filters_out": layer.filters,
                    "padding": layer.padding,
                }
            case L.BatchNormalization():
                keys |= {"type": "batchnorm2d", "epsilon": layer.epsilon}
                keys |= {"num_features_in": layer.input.shape[2], "num_filters_in": layer.input.shape[3]}
            case L.Dense():
                keys |= {"type": "dense"}
            case L.Reshape():
                continue
        made.append(keys)
    return {"in_shape": net.input_shape, "layers": made}


def keras_net(frames: int, plane: tuple[int, int], *layers: object) -> keras.Model:
    """Return a Keras net on signals of a length, with random weights, variances among them."""
    net = keras.Sequential([keras.Input((frames, *plane)), *layers])
    random = np.random.default_rng(0)
    net.set_weights([random.uniform(0.2, 1, w.shape) * random.choice([-1, 1], w.shape) for w in net.get_weights()])
    for layer in net.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([np.abs(w) for w in layer.get_weights()])
    return net


def assert_equals_keras(folder: Path, net: keras.Model) -> None:
    """Check the frames of which Keras pads none along time: RTNeural gives them as its newest input frame comes."""
    x = signal(1, net.input_shape[1], np.prod(net.input_shape[2:]))
    graph = imported(folder, exported(net))
    expected = np.asarray(net(x.reshape(1, *net.input_shape[1:])))[0].reshape(-1, graph.output_channels)
    got = streamed(Engine(graph), pieces(x, 2))
    spans = [(c.kernel_size[0] - 1) * c.dilation_rate[0] for c in net.layers if isinstance(c, L.Conv2D)]
    left = sum(
        (c.kernel_size[0] - 1) * c.dilation_rate[0] // 2
        for c in net.layers
        if isinstance(c, L.Conv2D) and c.padding == "same"
    )
    got, whole = got[sum(spans) :], len(x) - sum(spans)
    assert len(got) == whole > 10
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(got, expected[left:][:whole], rtol=0, atol=atol)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("kernel", "dilation", "strides"),
    [((1, 5), 1, 2), ((2, 4), 1, 2), ((3, 3), 1, 1), ((3, 2), 2, 1), ((2, 1), 3, 1), ((3, 5), 3, 1), ((2, 1), 1, 2)],
)
@pytest.mark.parametrize("plane", [(8, 2), (9, 3)])
def test_an_exported_conv2d_equals_that_of_keras(
    tmp_path: Path, plane: tuple[int, int], kernel: tuple[int, int], dilation: int, strides: int, padding: str
):
    """An exported Conv2D equals Keras' where Keras sees no padding along time."""
    options = {"dilation_rate": (dilation, 1), "strides": (1, strides), "padding": padding, "activation": "tanh"}
    assert_equals_keras(tmp_path, keras_net(24, plane, L.Conv2D(4, kernel, **options)))


def test_a_whole_exported_net_equals_that_of_keras(tmp_path: Path):
    """Convolutions, batch normalizations and a dense on flattened frames equal Keras'."""
    net = keras_net(
        50,
        (11, 1),
        L.Conv2D(3, (3, 2), dilation_rate=(2, 1), activation="relu"),
        L.BatchNormalization(center=False, scale=False, epsilon=0.5),
        L.Conv2D(4, (4, 3), strides=(1, 2), padding="same"),
        L.BatchNormalization(),
        L.Conv2D(2, (2, 4), dilation_rate=(3, 1), padding="same", activation="elu"),
        L.Reshape((-1, 10)),
        L.Dense(3),
    )
    assert_equals_keras(tmp_path, net)


# What is refused

FINE = conv2d(0, (6, 2))
KERNEL, BIAS = FINE["weights"]
DENSE = {"type": "dense", "activation": "", "shape": [None, None, 4, 1], "weights": [[[1.0], [1.0]], [0.0]]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kernel_size_time": 3}, r"kernel has the shape \(2, 3, 2, 2\), its keys say \(3, 3, 2, 2\)"),
        ({"kernel_size_feature": 2}, r"its keys say \(2, 2, 2, 2\)"),
        ({"num_filters_out": 4}, r"its keys say \(2, 3, 2, 4\)"),
        ({"num_filters_in": 3}, "reads 6 features of 3 filters, its input has frames of 12 values.*be 12"),
        ({"num_features_in": 5}, "reads 5 features of 2 filters"),
        ({"num_features_in": 12, "num_filters_in": 1}, r"its keys say \(2, 3, 1, 2\).*no groups"),
        ({"weights": []}, "do not have the shape of a conv2d"),
        ({"weights": [KERNEL[0], BIAS]}, r"has the shape \(3, 2, 2\)"),
        ({"weights": [KERNEL, [1.0]]}, r"bias has the shape \(1,\)"),
        ({"weights": [[[1.0], [1.0, 2.0]], BIAS]}, "do not have the shape of a conv2d"),
        ({"weights": [KERNEL, [1.0, 1e99]]}, "NaN or Inf"),
        ({"strides": 0}, "strides is 0"),
        ({"strides": [1, True]}, "strides is True"),
        ({"strides": 2}, "makes frames of 4 values, its shape says 8.*along time only"),
        ({"dilation": "2"}, "dilation is '2'"),
        ({"dilation": 2**40}, "dilation is"),
        ({"padding": "causal"}, "padding is 'causal', expected 'valid' or 'same'"),
        ({"padding": "same"}, "makes frames of 12 values, its shape says 8"),
        ({"shape": [None, None, 4, 3]}, "its shape says 12"),
        ({"shape": [None, 10, 4, 2]}, "makes 10 frames of 20.*stride of 1 along time"),
        ({"shape": [None, None, None, 2]}, "leaves open how many values"),
    ],
)
def test_a_conv2d_that_disagrees_with_itself_is_refused(tmp_path: Path, change: dict, words: str):
    """A conv2d whose weights, keys and shapes disagree is refused with its name and what disagrees."""
    imported(tmp_path, model((6, 2), FINE, frames=20))
    with pytest.raises(GraphError, match=r"m\.json: layer '0 \(conv2d\)': .*" + words):
        imported(tmp_path, model((6, 2), FINE | change, frames=20))


@pytest.mark.parametrize("key", sorted(FINE.keys() - {"type", "shape", "activation", "weights"}))
def test_a_conv2d_without_one_of_its_keys_is_refused(tmp_path: Path, key: str):
    """A conv2d that lacks a key that RTNeural needs is refused with the key's name."""
    with pytest.raises(GraphError, match=rf"layer '0 \(conv2d\)': it has no '{key}'"):
        imported(tmp_path, model((6, 2), {name: value for name, value in FINE.items() if name != key}))


def test_a_kernel_beyond_both_edges_is_refused(tmp_path: Path):
    """A kernel that reaches beyond both edges is refused, as RTNeural reads past the frame; one that just fits streams."""
    for features, taps, strides in ((2, 4, 1), (3, 5, 1), (1, 3, 1), (3, 7, 1), (2, 5, 2)):
        with pytest.raises(UnsupportedLayerError, match=rf"'0 \(conv2d\)'.*both edges.*at most {features} features"):
            imported(tmp_path, model((features, 1), conv2d(0, (features, 1), (1, taps, 1), padding="same", strides=strides)))
    for features, taps in ((2, 3), (3, 4), (3, 3), (1, 2)):
        document = model((features, 1), conv2d(0, (features, 1), (1, taps, 1), padding="same"))
        x = signal(0, 9, features)
        assert_streams(imported(tmp_path, document), x, rtneural(document, x))
    with pytest.raises(GraphError, match="7 bands does not fit into 6"):
        imported(tmp_path, model((6, 1), conv2d(0, (6, 1), (1, 7, 1))))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (norm(0, (6, 2)) | {"num_filters_in": 3}, "reads 6 features of 3 filters"),
        (norm(0, (6, 2)) | {"weights": [[1.0] * 12] * 4}, r"expected \(2,\)"),
        (norm(0, (6, 2)) | {"weights": [[1.0] * 2] * 3}, "2 or 4 arrays, this one 3"),
        ({name: value for name, value in norm(0, (6, 2)).items() if name != "epsilon"}, "no 'epsilon'"),
        (DENSE | {"shape": [None, None, 6, 1]}, r"2 filters of each feature.*12 values.*Reshape\(\(-1, 12\)\)"),
        (DENSE | {"shape": [None, None, 1]}, "has weights for 2 input channels, gets 12"),
        (FINE | {"activation": "swish"}, "does not define the activation 'swish'"),
        ({"type": "activation", "activation": "swish"}, "does not define the activation 'swish'"),
        ({"type": "unknown"}, "reads no layer of the type 'unknown'.*conv2d.*leave it out"),
        ({"type": "strided_conv1d"}, "reads no layer of the type 'strided_conv1d'"),
        ({"type": "conv1d", "strides": [2], "weights": [np.ones((3, 12, 1)).tolist()]}, "strides are 2.*strides=1"),
    ],
)
def test_other_layers_on_planes_are_refused_by_name(tmp_path: Path, layer: dict, words: str):
    """A layer behind a 2-D one that does not fit, or that RTNeural does not read, is refused with its name and why."""
    before = conv2d(0, (6, 2), padding="same")
    with pytest.raises(InputError, match=rf"layer '1 \({layer['type']}\)': .*{words}"):
        imported(tmp_path, model((6, 2), before, layer))


def test_an_input_without_features_is_refused(tmp_path: Path):
    """A net whose input leaves the features open is refused, and so is one of none."""
    with pytest.raises(GraphError, match=r"\[None, None, None, 2\] leaves open.*fixed features"):
        imported(tmp_path, {"in_shape": [None, None, None, 2], "layers": [FINE]})
    with pytest.raises(GraphError, match=r"is \[0, 2\], expected axes"):
        imported(tmp_path, {"in_shape": [None, None, 0, 2], "layers": [FINE]})

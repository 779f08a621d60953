"""The nets that engines are compared on, as graphs with seeded random weights.

R1 to R6 span four decades of work a sample; GRU64 and LSTM64 are recurrent; X and R4b are neighbours of them that nobody
tuned for. All are float32 and causal, and their weights are scaled so that activations stay of order 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from benchmarks.batch import macs_per_sample
from streamcnn.graph.graph import INPUT, Graph, Node
from streamcnn.graph.layers import GRU, LSTM, Activation, Conv1D, Dense, Layer, Merge, Pooling1D

SEED = 1
BIAS = 0.1  # the deviation of biases: large enough that a forgotten one is noticed
VARIANCE = {"relu": 2.0}  # what keeps the variance of activations (He et al. 2015); 1 for all others


@dataclass(frozen=True)
class Net:
    """A net to measure: its name in tables, what it is, the graph, and its work: 2 * multiply-accumulates a sample."""

    name: str
    what: str
    graph: Graph
    flop_per_sample: float


@dataclass
class _Builder:
    """Collects the nodes of a graph, drawing their weights; every method returns the name of the node that it adds."""

    channels: int = 1
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self):
        self._random = np.random.default_rng(SEED)
        self._channels = {INPUT: self.channels}

    def conv(self, x: str, filters: int, taps: int, activation: str = "linear", **options: object) -> str:
        kernel = self._kernel((taps, self._channels[x], filters), activation)
        return self._add(Conv1D(kernel=kernel, bias=self._bias(filters), activation=activation, **options), filters, x)

    def dense(self, x: str, units: int, activation: str = "linear", *, bias: bool = True) -> str:
        kernel = self._kernel((self._channels[x], units), activation)
        offset = self._bias(units) if bias else None
        return self._add(Dense(kernel=kernel, bias=offset, activation=activation), units, x)

    def gru(self, x: str, units: int) -> str:
        weights = self._recurrent(x, units, GRU.gates)
        return self._add(GRU(**weights, bias=self._bias(2, GRU.gates * units)), units, x)

    def lstm(self, x: str, units: int) -> str:
        weights = self._recurrent(x, units, LSTM.gates)
        return self._add(LSTM(**weights, bias=self._bias(LSTM.gates * units)), units, x)

    def activation(self, x: str, activation: str) -> str:
        return self._add(Activation(activation=activation), self._channels[x], x)

    def plus(self, *inputs: str) -> str:
        return self._add(Merge(by="add"), self._channels[inputs[0]], *inputs)

    def max_pool(self, x: str, pool: int) -> str:
        return self._add(Pooling1D(by="max", pool=pool, stride=pool), self._channels[x], x)

    def net(self, name: str, what: str) -> Net:
        graph = Graph(tuple(self.nodes), (self.channels,))
        return Net(name, what, graph, 2 * macs_per_sample(graph))

    def _add(self, layer: Layer, channels: int, *inputs: str) -> str:
        name = f"{layer.kind.lower()}_{len(self.nodes)}"
        self.nodes.append(Node(name, layer, inputs))
        self._channels[name] = channels
        return name

    def _kernel(self, shape: Sequence[int], activation: str) -> np.ndarray:
        fan_in = np.prod(shape[:-1])
        return self._random.normal(0, sqrt(VARIANCE.get(activation, 1.0) / fan_in), shape)

    def _bias(self, *shape: int) -> np.ndarray:
        return self._random.normal(0, BIAS, shape)

    def _recurrent(self, x: str, units: int, gates: int) -> dict[str, np.ndarray]:
        shapes = {"kernel": (self._channels[x], gates * units), "recurrent_kernel": (units, gates * units)}
        return {name: self._kernel(shape, "tanh") for name, shape in shapes.items()}


def r1() -> Net:
    """One short filter: what calling an engine costs."""
    net = _Builder()
    net.conv(INPUT, 1, 8)
    return net.net("R1", "one filter of 8 taps")


def r2() -> Net:
    """A small dilated net."""
    net, x = _Builder(), INPUT
    for dilation in (1, 2, 4, 8):
        x = net.conv(x, 8, 3, "relu", dilation=dilation)
    net.dense(x, 1)
    return net.net("R2", "4 dilated convolutions of 8 channels")


def r3() -> Net:
    """A residual net with a long memory."""
    net = _Builder()
    x = net.conv(INPUT, 32, 3, "tanh")
    for exponent in range(1, 10):
        x = net.plus(x, net.conv(x, 32, 3, "tanh", dilation=2**exponent))
    net.dense(x, 10, "sigmoid")
    return net.net("R3", "10 residual dilated convolutions of 32 channels")


def r4() -> Net:
    """A WaveNet in the shape of Neural Amp Modeler's, 16 channels throughout."""
    net = _Builder()
    x, skips = _wavenet(net, net.dense(INPUT, 16), 16)
    _, skips = _wavenet(net, x, 16, skips)
    net.dense(skips, 1)
    return net.net("R4", "WaveNet: 2 x 10 layers of 16 channels")


def r4b() -> Net:
    """The WaveNet with half the channels in its second half."""
    net = _Builder()
    x, wide = _wavenet(net, net.dense(INPUT, 16), 16)
    _, narrow = _wavenet(net, net.dense(x, 8), 8)
    net.plus(net.dense(wide, 1), net.dense(narrow, 1))
    return net.net("R4b", "WaveNet: 10 layers of 16 and 10 of 8 channels")


def r5() -> Net:
    """A wide net: mostly matrix products."""
    net, x = _Builder(), INPUT
    for _ in range(4):
        x = net.conv(x, 128, 9, "relu")
    net.dense(x, 10)
    return net.net("R5", "4 convolutions of 128 channels and 9 taps")


def r6() -> Net:
    """SampleCNN (Lee et al. 2017): strided and pooled down to one output in 3**10 = 59,049 samples."""
    net = _Builder()
    x = net.conv(INPUT, 128, 3, "relu", stride=3, padding="valid")
    for filters in (128, 128, 256, 256, 256, 256, 256, 256, 512):
        x = net.max_pool(net.conv(x, filters, 3, "relu"), 3)
    x = net.conv(x, 512, 1, "relu")
    net.dense(x, 50, "sigmoid")
    return net.net("R6", "SampleCNN: 9 pooled convolutions of 128 to 512 channels")


def gru64() -> Net:
    """A GRU on frames of 40 features."""
    net = _Builder(40)
    net.gru(INPUT, 64)
    return net.net("GRU64", "GRU of 64 units on 40 features")


def lstm64() -> Net:
    """An LSTM on frames of 40 features."""
    net = _Builder(40)
    net.lstm(INPUT, 64)
    return net.net("LSTM64", "LSTM of 64 units on 40 features")


def odd() -> Net:
    """Layers of unlike sizes, some of which no vector width divides."""
    net = _Builder()
    hidden = net.conv(INPUT, 24, 5, "tanh")
    hidden = net.conv(hidden, 48, 4, "relu", dilation=3)
    hidden = net.conv(hidden, 12, 3)
    net.dense(net.dense(hidden, 96, "sigmoid"), 20, "softmax")
    return net.net("X", "layers of unlike sizes")


def _wavenet(net: _Builder, x: str, channels: int, skips: str | None = None) -> tuple[str, str]:
    """Add 10 dilated layers that also see the input; return the residual path and the sum of the skips.

    The last layer has a residual path too, though nobody may read it: so the published nets are built and counted.
    """
    for exponent in range(10):
        mixed = net.plus(
            net.conv(x, channels, 3, dilation=2**exponent),
            net.dense(INPUT, channels, bias=False),
        )
        z = net.activation(mixed, "tanh")
        skips = z if skips is None else net.plus(skips, z)
        x = net.plus(x, net.dense(z, channels))
    return x, skips


NETS: dict[str, Callable[[], Net]] = {
    "R1": r1,
    "R2": r2,
    "R3": r3,
    "R4": r4,
    "R5": r5,
    "R6": r6,
    "GRU64": gru64,
    "LSTM64": lstm64,
    "X": odd,
    "R4b": r4b,
}

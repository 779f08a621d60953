"""Random graphs, the same ones as Keras models, and signals for them."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from streamcnn.graph.graph import Graph
from streamcnn.graph.layers import ACTIVATIONS, Activation, Conv1D, Dense, Layer


@dataclass(frozen=True)
class Recipe:
    """A graph to be made: hypothesis shrinks these few numbers, not the weights."""

    input_channels: int
    layers: tuple[tuple, ...]
    seed: int

    def graph(self) -> Graph:
        """Make the graph, with random weights that keep the signal's size about the same."""
        random = np.random.default_rng(self.seed)
        layers, channels = [], self.input_channels
        for layer in self.layers:
            layers.append(_layer(random, channels, *layer))
            channels = layers[-1].output_channels(channels)
        return Graph.sequential(layers, self.input_channels)


def _weights(random: np.random.Generator, *shape: int) -> np.ndarray:
    fan_in = max(1, int(np.prod(shape[:-1])))
    return (random.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32)


def _layer(random: np.random.Generator, channels: int, kind: str, *options: object) -> Layer:
    if kind == "Activation":
        return Activation(activation=options[0])
    units, use_bias, activation, *rest = options
    bias = _weights(random, units) if use_bias else None
    if kind == "Dense":
        return Dense(kernel=_weights(random, channels, units), bias=bias, activation=activation)
    taps, padding, dilation = rest
    return Conv1D(
        kernel=_weights(random, taps, channels, units),
        bias=bias,
        activation=activation,
        padding=padding,
        dilation=dilation,
    )


_activation = st.sampled_from(ACTIVATIONS)
_units = st.sampled_from([1, 2, 3, 8, 9, 17])
_conv = st.tuples(
    st.just("Conv1D"),
    _units,
    st.booleans(),
    _activation,
    st.integers(1, 9),
    st.sampled_from(["causal", "valid"]),
    st.sampled_from([1, 1, 2, 5]),
)
_dense = st.tuples(st.just("Dense"), _units, st.booleans(), _activation)
_function = st.tuples(st.just("Activation"), _activation)

recipes = st.builds(
    Recipe,
    input_channels=st.integers(1, 3),
    layers=st.lists(st.one_of(_conv, _conv, _dense, _function), min_size=1, max_size=5).map(tuple),
    seed=st.integers(0, 2**32 - 1),
)


def keras_model(graph: Graph) -> object:
    """Build the same net in Keras, which shares nothing with us but the weights."""
    import keras

    model = keras.Sequential([keras.Input((None, graph.input_channels))])
    for node in graph.nodes:
        layer = node.layer
        match layer:
            case Conv1D():
                made = keras.layers.Conv1D(
                    layer.kernel.shape[2],
                    layer.taps,
                    padding=layer.padding,
                    dilation_rate=layer.dilation,
                    activation=layer.activation,
                    use_bias=layer.bias is not None,
                )
            case Dense():
                made = keras.layers.Dense(
                    layer.kernel.shape[1], activation=layer.activation, use_bias=layer.bias is not None
                )
            case Activation():
                made = keras.layers.Activation(layer.activation)
        model.add(made)
        made.set_weights([w for name in ("kernel", "bias") if (w := layer.weights.get(name)) is not None])
    return model


def signal(seed: int, frames: int, channels: int) -> np.ndarray:
    """Return a random signal, float32 (frames, channels)."""
    return np.random.default_rng(seed).normal(size=(frames, channels)).astype(np.float32)


def pieces(values: np.ndarray, seed: int) -> list[np.ndarray]:
    """Split a signal at random places: many small blocks, empty ones, and large ones."""
    random = np.random.default_rng(seed)
    cuts = np.sort(random.integers(0, len(values) + 1, random.integers(1, 40)))
    return np.split(values, cuts)

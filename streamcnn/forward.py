"""The oracle: a slow, obvious forward of a graph over a whole signal.

It shares nothing with the engine but the layer records, computes in float64, and is meant to be read beside the
formulas in Keras' documentation.
"""

import numpy as np

from streamcnn.graph.graph import INPUT, Graph
from streamcnn.graph.layers import Activation, Conv1D, Dense, Layer

_FUNCTIONS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 0.5 * (1 + np.tanh(0.5 * x)),
    "tanh": np.tanh,
}


def reference(graph: Graph, signal: np.ndarray) -> np.ndarray:
    """Return the graph's output for a whole signal.

    `signal`: (frames,) or (frames, channels), any float; the result is float64 (output frames, outputs): what the
    engine's outputs joined, `flush` included, must equal.
    """
    signal = np.asarray(signal, dtype=np.float64)
    tensors = {INPUT: signal.reshape(len(signal), graph.input_channels)}
    for node in graph.nodes:
        tensors[node.name] = _forward(node.layer, tensors[node.input])
    return tensors[graph.nodes[-1].name]


def _forward(layer: Layer, x: np.ndarray) -> np.ndarray:
    match layer:
        case Conv1D():
            if layer.padding == "causal":
                x = np.concatenate([np.zeros((layer.span - 1, x.shape[1])), x])
            frames = max(0, len(x) - layer.span + 1)
            y = np.zeros((frames, layer.kernel.shape[2]))
            for tap in range(layer.taps):
                start = tap * layer.dilation
                y += x[start : start + frames] @ layer.kernel[tap].astype(np.float64)
        case Dense():
            y = x @ layer.kernel.astype(np.float64)
        case Activation():
            return _FUNCTIONS[layer.activation](x)
        case _:
            raise AssertionError(f"the reference does not know {layer.kind}")
    if layer.bias is not None:
        y = y + layer.bias.astype(np.float64)
    return _FUNCTIONS[layer.activation](y)

"""What all peers have in common: runtimes that a net is rebuilt in, to be run on a stream in blocks of one size.

A peer takes a graph apart node by node. Where a layer reads frames of earlier blocks, the peer carries them from call to
call, as its users do: it puts the layer's history before the block, and keeps the newest frames of both for the next one.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np

from streamcnn.graph.graph import Graph, Node
from streamcnn.graph.layers import GRU, LSTM, Activation, Conv1D, Dense, Layer, Merge, Pooling1D
from streamcnn.optional import keras_module

ACTIVATIONS = ("linear", "relu", "tanh", "sigmoid", "softmax")


class Peer(ABC):
    """A net in another runtime, float32 on one thread, on a stream that starts after zeros in every layer.

    `graph`: the net. `block`: how many frames each push has. Raises NotImplementedError for layers and blocks that the
    peer has no way to stream.
    """

    name: ClassVar[str]

    def __init__(self, graph: Graph, block: int):
        self.graph = graph
        self.block = block

    @abstractmethod
    def push(self, x: np.ndarray) -> np.ndarray:
        """Run the next block, float32 (block, channels); return its output frames, float32 (output frames, outputs).

        What is returned may be a view of memory that the next push overwrites.
        """


@dataclass(frozen=True)
class Window:
    """What a layer reads along time: `span` frames every `stride`, of which `history` stand before the first frame."""

    span: int
    stride: int
    history: int


def window(layer: Conv1D | Pooling1D) -> Window:
    """Return the window of a layer; raises NotImplementedError where it looks ahead or skips frames."""
    span = layer.span if isinstance(layer, Conv1D) else layer.pool
    if layer.padding == "same" or span < layer.stride:
        raise NotImplementedError(f"{layer.kind} with padding '{layer.padding}' and stride {layer.stride}")
    return Window(span, layer.stride, span - 1 if layer.padding == "causal" else 0)


def is_even(graph: Graph, block: int) -> bool:
    """Whether every block gives the same number of frames at every node, so that a model of fixed shapes can run it."""
    windows = [window(node.layer) for node in graph.nodes if isinstance(node.layer, (Conv1D, Pooling1D))]
    return block % graph.period == 0 and all(w.history == w.span - 1 or w.span == w.stride for w in windows)


def refuse_uneven(graph: Graph, block: int) -> None:
    """Raise NotImplementedError unless every block gives the same number of frames at every node."""
    if not is_even(graph, block):
        raise NotImplementedError(f"blocks of {block} frames do not give whole frames at every layer")


def checked(node: Node) -> Layer:
    """Return the layer of a node; raises NotImplementedError unless it is one that peers know how to rebuild."""
    layer = node.layer
    match layer:
        case Conv1D(groups=1) | Dense() | Activation(settings=()):
            known = layer.activation in ACTIVATIONS
        case GRU(reset_after=True) | LSTM():
            known = (layer.activation, layer.gate) == ("tanh", "sigmoid") and layer.bias is not None
        case Merge() | Pooling1D():
            known = layer.by in ("add", "max")
        case _:
            known = False
    if not known:
        raise NotImplementedError(f"node '{node.name}': {layer.kind} with {layer.options}")
    return layer


def gates(weights: np.ndarray, order: str, wanted: str) -> np.ndarray:
    """Return the gates along the last axis, which come in `order`, in the order `wanted`: one letter for each."""
    parts = dict(zip(order, np.split(weights, len(order), axis=-1), strict=True))
    return np.concatenate([parts[gate] for gate in wanted], axis=-1)


@cache
def tensorflow_module() -> object:
    """Import TensorFlow, held to one thread; call it before anything else computes with it."""
    keras_module("tensorflow", exact=False)
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    return tensorflow

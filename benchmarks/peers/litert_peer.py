"""LiteRT as a peer: one model, which takes each layer's history and gives the next one."""

import re
from collections.abc import Callable

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks.peers.peer import Peer, checked, refuse_uneven, tensorflow_module, window
from streamcnn.graph.graph import INPUT, Graph, Node
from streamcnn.graph.layer import Shape
from streamcnn.graph.layers import GRU, LSTM, Activation, Conv1D, Dense, Merge, Pooling1D

tf = tensorflow_module()
FUNCTIONS: dict[str, Callable] = {
    "linear": lambda x: x,
    "relu": tf.nn.relu,
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "softmax": tf.nn.softmax,
}


class LiteRT(Peer):
    """A net in the LiteRT interpreter with XNNPACK.

    Setting and getting states is faster than copying between views of its memory: those must be made anew for each call.
    """

    name = "LiteRT"

    def __init__(self, graph: Graph, block: int):
        super().__init__(graph, block)
        refuse_uneven(graph, block)
        histories = _histories(graph)
        shapes = [_shape(block, graph.input_channels), *histories.values()]
        self._interpreter = Interpreter(model_content=_model(graph, shapes, list(histories)), num_threads=1)
        self._interpreter.allocate_tensors()
        self._x, *self._old = _in_order(self._interpreter.get_input_details())
        self._y, *self._new = _in_order(self._interpreter.get_output_details())
        for index, shape in zip(self._old, histories.values(), strict=True):
            self._interpreter.set_tensor(index, np.zeros(shape, np.float32))  # its memory is not cleared

    def push(self, x: np.ndarray) -> np.ndarray:
        """Run the next block."""
        run = self._interpreter
        run.set_tensor(self._x, x[None, None])
        run.invoke()
        for old, new in zip(self._old, self._new, strict=True):
            run.set_tensor(old, run.get_tensor(new))
        return run.get_tensor(self._y)[0, 0]


def _in_order(tensors: list[dict]) -> list[int]:
    """Return the places of tensors, listed in any order, in that of their names' numbers: `frames_3:0`, `Call:3`."""
    numbers = {int(re.search(r"(\d+)(:0)?$", tensor["name"])[1]): tensor["index"] for tensor in tensors}
    return [numbers[k] for k in sorted(numbers)]


def _shape(frames: int, channels: int) -> Shape:
    """Return the shape of frames as a picture of one row: the runtime has convolutions of pictures only."""
    return 1, 1, frames, channels


def _histories(graph: Graph) -> dict[str, Shape]:
    """Return the shapes of the histories before a block, by the names of the nodes that read them."""
    windowed = [node for node in graph.nodes if isinstance(node.layer, (Conv1D, Pooling1D))]
    lengths = {node: window(node.layer).history for node in windowed}
    return {node.name: _shape(frames, *graph.shapes[node.inputs[0]]) for node, frames in lengths.items() if frames}


def _model(graph: Graph, shapes: list[Shape], carried: list[str]) -> bytes:
    """Return the model from a block and the histories of the nodes `carried`, to output frames and new histories."""

    def step(x: tf.Tensor, *histories: tf.Tensor) -> dict[str, tf.Tensor]:
        tensors, old, new = {INPUT: x}, dict(zip(carried, histories, strict=True)), {}
        for node in graph.nodes:
            inputs = [tensors[name] for name in node.inputs]
            if node.name in old:
                joined = tf.concat([old[node.name], *inputs], 2)
                new[node.name] = joined[:, :, -old[node.name].shape[2] :]
                inputs = [joined]
            tensors[node.name] = _forward(node, inputs)
        made = (tensors[graph.output_name], *new.values())
        return {f"{k:04}": tensor for k, tensor in enumerate(made)}  # the converter numbers them in the order of names

    function = tf.function(step, autograph=False)
    traced = function.get_concrete_function(
        *(tf.TensorSpec(shape, tf.float32, f"frames_{k}") for k, shape in enumerate(shapes))
    )
    return tf.lite.TFLiteConverter.from_concrete_functions([traced], tf.Module()).convert()


def _forward(node: Node, inputs: list[tf.Tensor]) -> tf.Tensor:
    """Return what a layer makes of its inputs, histories included."""
    layer, x = checked(node), inputs[0]
    match layer:
        case GRU() | LSTM():
            raise NotImplementedError(f"{layer.kind} in LiteRT")
        case Conv1D():
            y = tf.nn.conv2d(x, layer.kernel[None], (1, layer.stride), "VALID", dilations=(1, layer.dilation))
        case Dense():
            y = tf.nn.conv2d(x, layer.kernel[None, None], 1, "VALID")
        case Pooling1D():
            return tf.nn.max_pool2d(x, (1, layer.pool), (1, layer.stride), "VALID")
        case Merge():
            return tf.add_n(inputs) if len(inputs) > 2 else inputs[0] + inputs[1]
        case Activation():
            return FUNCTIONS[layer.activation](x)
    return FUNCTIONS[layer.activation](y if layer.bias is None else y + layer.bias)

"""ONNX Runtime as a peer: one model, which takes each layer's history or state and gives the next one.

Tensors of convolutions are (1, channels, frames), or, as pictures of one row, (1, channels, 1, frames): the runtime blocks
the channels of pictures only, which pays where channels fill its vectors. Those of recurrent layers are (frames, 1, channels).
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from benchmarks.peers.peer import Peer, checked, gates, refuse_uneven, window
from streamcnn.graph.graph import INPUT, Graph, Node
from streamcnn.graph.layer import Shape
from streamcnn.graph.layers import GRU, LSTM, Activation, Conv1D, Dense, Merge, Pooling1D

OPSET = 25  # onnx can be ahead of what the runtime reads
OPERATORS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softmax": "Softmax"}
COLUMNS, PICTURE, ROWS = "columns", "picture", "rows"  # layouts of tensors, in the order above
TURNS = {(ROWS, COLUMNS): (1, 2, 0), (COLUMNS, ROWS): (2, 0, 1)}  # which axis goes where from one layout to another


class OnnxRuntime(Peer):
    """A net in ONNX Runtime with all graph optimizations.

    Two bindings, used in turn, swap the memory of old and new states, so that Python touches only the block: `run` on arrays
    takes from 1.03 (R5 in blocks of 64) to 2.2 times (R1 in blocks of 1) as long.
    """

    name = "ONNX Runtime"
    layout: ClassVar[str] = COLUMNS  # of the tensors of convolutions

    def __init__(self, graph: Graph, block: int):
        super().__init__(graph, block)
        refuse_uneven(graph, block)
        model = _Model(graph, block, self.layout)
        x, y = (np.zeros(_shape(*tensor), np.float32) for tensor in (model.input, model.output))
        one, other = ([np.zeros(shape, np.float32) for shape in model.states.values()] for _ in range(2))
        self._memory = (x, y, one, other)  # bindings know only its addresses
        self._x, self._y = _frames_first(x, model.input[0]), _frames_first(y, model.output[0])
        self._session = _session(model.proto())
        self._turns = [
            _bound(self._session, [x, *one], [y, *other]),
            _bound(self._session, [x, *other], [y, *one]),
        ]

    def push(self, x: np.ndarray) -> np.ndarray:
        """Run the next block."""
        self._x[:] = x
        self._session.run_with_iobinding(self._turns[0])
        self._turns.reverse()
        return self._y


class OnnxRuntimePicture(OnnxRuntime):
    """A net in ONNX Runtime as one of pictures: faster for R4 and R5, slower for X."""

    name = "ONNX Runtime 2-D"
    layout = PICTURE


def _session(model: ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _bound(
    session: onnxruntime.InferenceSession, inputs: list[np.ndarray], outputs: list[np.ndarray]
) -> onnxruntime.IOBinding:
    """Bind arrays to all inputs and outputs of a session, in their order."""
    binding = session.io_binding()
    for value, array in zip(session.get_inputs(), inputs, strict=True):
        binding.bind_input(value.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    for value, array in zip(session.get_outputs(), outputs, strict=True):
        binding.bind_output(value.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    return binding


def _shape(layout: str, channels: int, frames: int) -> Shape:
    return {COLUMNS: (1, channels, frames), PICTURE: (1, channels, 1, frames), ROWS: (frames, 1, channels)}[layout]


def _frames_first(tensor: np.ndarray, layout: str) -> np.ndarray:
    """Return a view (frames, channels) of a tensor."""
    return tensor[:, 0] if layout == ROWS else tensor.reshape(tensor.shape[1], -1).T


@dataclass
class _Model:
    """The model of a graph, for blocks of one size.

    `layout`: of the tensors of convolutions. `states`: the shapes of what goes from block to block, by name. `tensors`: the
    names of each node's output, by layout.
    """

    graph: Graph
    block: int
    layout: str
    states: dict[str, Shape] = field(default_factory=dict)
    tensors: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self):
        self._operations: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        readers = [node.layer for node in self.graph.nodes if INPUT in node.inputs]
        layout = ROWS if all(isinstance(layer, (GRU, LSTM)) for layer in readers) else self.layout
        self.tensors[INPUT] = {layout: INPUT}
        self.input = (layout, self.graph.input_channels, self.block)
        for node in self.graph.nodes:
            layout, made = self._add(node)
            self.tensors[node.name] = {layout: made}
        self.output = (layout, self.graph.output_channels, self.block // self.graph.hop)

    def proto(self) -> ModelProto:
        """Return it as a message: block and states go in, output frames and new states come out."""
        output = self.tensors[self.graph.output_name][self.output[0]]
        inputs = {INPUT: _shape(*self.input)} | {f"{name}_old": shape for name, shape in self.states.items()}
        outputs = {output: _shape(*self.output)} | {f"{name}_new": shape for name, shape in self.states.items()}
        values = [[_value(name, shape) for name, shape in side.items()] for side in (inputs, outputs)]
        graph = helper.make_graph(self._operations, "net", *values, self._constants)
        return helper.make_model_gen_version(graph, opset_imports=[helper.make_opsetid("", OPSET)])

    def _add(self, node: Node) -> tuple[str, str]:
        """Add a node; return the layout and the name of what it makes."""
        layer = checked(node)
        match layer:
            case GRU() | LSTM():
                return ROWS, self._recurrent(node, layer)
            case Conv1D():
                steps = {"strides": self._sizes(layer.stride), "dilations": self._sizes(layer.dilation)}
                y = self._conv(self._with_history(node, layer), layer.kernel, layer.bias, **steps)
            case Dense():
                y = self._conv(self._read(node, self.layout), layer.kernel[None], layer.bias)
            case Pooling1D():
                sizes = {"kernel_shape": self._sizes(layer.pool), "strides": self._sizes(layer.stride)}
                return self.layout, self._operation("MaxPool", self._with_history(node, layer), **sizes)
            case Merge():
                return self.layout, self._operation("Sum", *(self._tensor(name, self.layout) for name in node.inputs))
            case Activation():
                y = self._read(node, self.layout)
        return self.layout, self._activated(y, layer.activation)

    def _sizes(self, along_time: int) -> list[int]:
        """Return a size for each axis that a window moves along."""
        return [1, along_time] if self.layout == PICTURE else [along_time]

    def _conv(self, x: str, kernel: np.ndarray, bias: np.ndarray | None, **options: object) -> str:
        taps, inputs, outputs = kernel.shape
        turned = kernel.transpose(2, 1, 0).reshape(outputs, inputs, *self._sizes(taps))
        weights = [turned] if bias is None else [turned, bias]
        return self._operation("Conv", x, *map(self._constant, weights), **options)

    def _activated(self, x: str, activation: str) -> str:
        if activation == "linear":
            return x
        return self._operation(OPERATORS[activation], x, **({"axis": 1} if activation == "softmax" else {}))

    def _with_history(self, node: Node, layer: Conv1D | Pooling1D) -> str:
        """Return the node's input with the frames before the block, and keep its newest ones for the next block."""
        x, history = self._read(node, self.layout), window(layer).history
        if not history:
            return x
        old, new = self._state(node.name, _shape(self.layout, *self.graph.shapes[node.inputs[0]], history))
        joined = self._operation("Concat", old, x, axis=-1)
        ends = (np.array([end], np.int64) for end in (-history, np.iinfo(np.int64).max, -1))
        self._operation("Slice", joined, *map(self._constant, ends), makes=[new])
        return joined

    def _recurrent(self, node: Node, layer: GRU | LSTM) -> str:
        if isinstance(layer, GRU):
            kind, carried, options = "GRU", "h", {"linear_before_reset": 1}
            weights = [layer.kernel, layer.recurrent_kernel, *layer.bias]  # of the same order, zrh
        else:
            kind, carried, options = "LSTM", "hc", {}
            biases = (layer.bias, np.zeros_like(layer.bias))
            weights = [gates(w, "ifco", "iofc") for w in (layer.kernel, layer.recurrent_kernel, *biases)]
        kernel, recurrent_kernel, *biases = weights
        arrays = (kernel.T[None], recurrent_kernel.T[None], np.concatenate(biases)[None])
        states = [self._state(f"{node.name}_{letter}", (1, 1, layer.units)) for letter in carried]
        y, (old, new) = f"{node.name}_y", zip(*states, strict=True)
        inputs = (
            self._read(node, ROWS),
            *map(self._constant, arrays),
            "",
            *old,
        )  # "": all sequences are of full length
        self._operation(kind, *inputs, makes=[y, *new], hidden_size=layer.units, **options)
        return self._operation("Squeeze", y, self._constant(np.array([1])))  # the axis of directions

    def _read(self, node: Node, layout: str) -> str:
        return self._tensor(node.inputs[0], layout)

    def _tensor(self, name: str, layout: str) -> str:
        """Return the name of a node's output in a layout, transposing it where it comes in the other one."""
        found = self.tensors[name]
        if layout not in found:
            ((other, source),) = found.items()
            if (other, layout) not in TURNS:
                raise NotImplementedError(f"{other} to {layout}")
            found[layout] = self._operation("Transpose", source, perm=TURNS[other, layout])
        return found[layout]

    def _state(self, name: str, shape: Shape) -> tuple[str, str]:
        self.states[name] = shape
        return f"{name}_old", f"{name}_new"

    def _operation(self, kind: str, *inputs: str, makes: list[str] | None = None, **options: object) -> str:
        makes = makes or [f"{kind.lower()}_{len(self._operations)}"]
        self._operations.append(helper.make_node(kind, inputs, makes, **options))
        return makes[0]

    def _constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def _value(name: str, shape: Shape) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

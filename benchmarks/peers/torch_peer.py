"""PyTorch as a peer: a module that takes each layer's history or state and gives the next one."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peers.peer import Peer, Window, checked, gates, is_even, window
from streamcnn.graph.graph import INPUT, Graph, Node
from streamcnn.graph.layers import GRU, LSTM, Activation, Conv1D, Dense, Merge, Pooling1D

Function = Callable[[Tensor], Tensor]
FUNCTIONS: dict[str, Function] = {
    "linear": lambda x: x,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softmax": partial(torch.softmax, dim=1),
}


class Torch(Peer):
    """A net in PyTorch, traced and frozen; run eagerly where blocks give a varying number of frames.

    Eager takes up to twice (R4) as long; `optimize_for_inference` gains nothing more.
    """

    name = "PyTorch"

    @torch.inference_mode()
    def __init__(self, graph: Graph, block: int):
        super().__init__(graph, block)
        torch.set_num_threads(1)
        even = is_even(graph, block)
        net = _Net(graph, even).eval()
        self._states = [state for layer in net.layers for state in layer.start]
        self._net = torch.jit.freeze(torch.jit.trace(net, (self._frames(), *self._states))) if even else net

    @torch.inference_mode()
    def push(self, x: np.ndarray) -> np.ndarray:
        """Run the next block."""
        y, *self._states = self._net(torch.from_numpy(x).T[None], *self._states)
        return y[0].T.numpy()

    def _frames(self) -> Tensor:
        return torch.zeros((self.block, self.graph.input_channels)).T[None]


class _Net(nn.Module):
    """A block through the net: its frames and all states in, output frames and new states out."""

    def __init__(self, graph: Graph, even: bool):
        super().__init__()
        self.nodes = graph.nodes
        self.layers = nn.ModuleList(_layer(graph, node, even) for node in graph.nodes)

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        tensors, old, new = {INPUT: x}, list(states), []
        for node, layer in zip(self.nodes, self.layers, strict=True):
            carried = [old.pop(0) for _ in layer.start]
            tensors[node.name], *carried = layer(*(tensors[name] for name in node.inputs), *carried)
            new += carried
        return tensors[self.nodes[-1].name], *new


def _layer(graph: Graph, node: Node, even: bool) -> nn.Module:
    """Return a module from tensors (1, channels, frames), then states, to a tensor and the new states; `start`: the first."""
    layer = checked(node)
    match layer:
        case Conv1D() | Pooling1D():
            (inputs,), (outputs,) = graph.shapes[node.inputs[0]], graph.shapes[node.name]
            return (_Even if even else _Uneven)(_over_windows(layer), window(layer), inputs, outputs)
        case Dense():
            return _Stateless(_dense(layer))
        case Activation():
            return _Stateless(FUNCTIONS[layer.activation])
        case Merge():
            return _Stateless(lambda *inputs: sum(inputs[1:], inputs[0]))
    return _Recurrent(layer)


def _over_windows(layer: Conv1D | Pooling1D) -> Function:
    """Return what the layer makes of frames, each window of them giving one."""
    if isinstance(layer, Pooling1D):
        return partial(functional.max_pool1d, kernel_size=layer.pool, stride=layer.stride)
    weights, bias = _tensor(layer.kernel.transpose(2, 1, 0)), None if layer.bias is None else _tensor(layer.bias)
    activated, steps = FUNCTIONS[layer.activation], {"stride": layer.stride, "dilation": layer.dilation}
    return lambda x: activated(functional.conv1d(x, weights, bias, **steps))


def _dense(layer: Dense) -> Function:
    weights, activated = _tensor(layer.kernel.T)[None], FUNCTIONS[layer.activation]
    if layer.bias is None:
        return lambda x: activated(torch.bmm(weights, x))
    bias = _tensor(layer.bias)[:, None]
    return lambda x: activated(torch.baddbmm(bias, weights, x))


def _tensor(array: np.ndarray) -> Tensor:
    return torch.tensor(np.ascontiguousarray(array))


class _Stateless(nn.Module):
    """A function of each frame, or of the frames of several tensors."""

    start = ()

    def __init__(self, function: Function):
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        return (self.function(*inputs),)


class _Even(nn.Module):
    """A function of windows where all blocks give the same number of frames; its state is the history before the block."""

    def __init__(self, function: Function, window: Window, inputs: int, outputs: int):  # noqa: ARG002
        super().__init__()
        self.function, self.history = function, window.history
        self.start = (torch.zeros((1, inputs, self.history)),) if self.history else ()

    def forward(self, x: Tensor, *old: Tensor) -> tuple[Tensor, ...]:
        if not self.history:
            return (self.function(x),)
        joined = torch.cat((*old, x), 2)
        return self.function(joined), joined[:, :, -self.history :]


class _Uneven(nn.Module):
    """A function of windows where a block may give no frame; its state are the frames that a later window will read."""

    def __init__(self, function: Function, window: Window, inputs: int, outputs: int):
        super().__init__()
        self.function, self.window = function, window
        self.start = (torch.zeros((1, inputs, window.history)),)
        self.nothing = torch.zeros((1, outputs, 0))

    def forward(self, x: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
        if not x.shape[2]:
            return self.nothing, old
        joined = torch.cat((old, x), 2)
        frames = max(0, (joined.shape[2] - self.window.span) // self.window.stride + 1)
        y = self.function(joined) if frames else self.nothing
        return y, joined[:, :, frames * self.window.stride :]


class _Recurrent(nn.Module):
    """A recurrent layer, whose weights the kinds of PyTorch order in other ways."""

    def __init__(self, layer: GRU | LSTM):
        super().__init__()
        gru = isinstance(layer, GRU)
        self.module = (nn.GRU if gru else nn.LSTM)(layer.kernel.shape[0], layer.units)
        biases = layer.bias if gru else (layer.bias, np.zeros_like(layer.bias))
        orders = ("zrh", "rzh") if gru else ("ifco", "ifco")
        for parameter, array in zip(
            self.module.parameters(), (layer.kernel.T, layer.recurrent_kernel.T, *biases), strict=True
        ):
            parameter.copy_(_tensor(gates(array.T, *orders).T))
        self.start = tuple(torch.zeros((1, 1, layer.units)) for _ in range(1 if gru else 2))

    def forward(self, x: Tensor, *old: Tensor) -> tuple[Tensor, ...]:
        y, new = self.module(x.permute(2, 0, 1), old[0] if len(old) == 1 else old)
        return y.permute(1, 2, 0), *((new,) if isinstance(new, Tensor) else new)

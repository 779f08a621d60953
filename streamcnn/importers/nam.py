"""Neural Amp Modeler's `.nam` files to graphs: the architectures ConvNet and WaveNet.

A file's weights are one flat list, consumed in the order in which the layers are built; what is left over or missing is an
error. Kernels are (out, in, tap), tap K-1 being the newest frame. Nets of this kind expect to start after endless
silence, so the graph says `prewarm`.
"""

from os import PathLike
from pathlib import Path

import numpy as np

from streamcnn.errors import GraphError, NetFileError, UnsupportedLayerError
from streamcnn.graph import layers as L
from streamcnn.graph.graph import INPUT, Graph, NetInfo, Node, reached
from streamcnn.importers.text import read_json

_ACTIVATIONS = {"Tanh": "tanh", "ReLU": "relu", "Sigmoid": "sigmoid", "Hardtanh": "hard_tanh", "SiLU": "silu",
                "LeakyReLU": "leaky_relu"}  # fmt: skip
_LEAKY_SLOPE = 0.01  # NAM's LeakyReLU


def import_nam(path: str | PathLike[str], info: NetInfo | None = None) -> Graph:
    """Convert a `.nam` file.

    Raises NetFileError for a file that is none or whose number of weights is wrong, UnsupportedLayerError for an
    architecture or option that is not streamed.
    """
    path = Path(path)
    document = read_json(path)
    if not isinstance(document, dict) or not {"architecture", "config", "weights"} <= document.keys():
        raise NetFileError(f"{path}: no NAM model: it has no 'architecture', 'config' and 'weights'")
    architecture = document["architecture"]
    if architecture not in ("ConvNet", "WaveNet"):
        raise UnsupportedLayerError(
            path.name, f"the architecture '{architecture}' is not streamed", "ConvNet and WaveNet are"
        )
    try:
        rate = int(document.get("sample_rate") or 48_000)
        info = info or NetInfo(name=path.stem, rate=rate)
        weights = _Weights(document["weights"])
        nodes = (_convnet if architecture == "ConvNet" else _wavenet)(document["config"], weights)
        weights.check_all_taken()
        return Graph(tuple(nodes), info=info).with_info(prewarm=True, rate=info.rate or rate)
    except GraphError as error:
        raise NetFileError(f"{path}: {error.message}", error.remedy) from error
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError) as error:
        raise NetFileError(f"{path}: a damaged NAM model: {error!r}") from error


class _Weights:
    """The flat list, taken piece by piece."""

    def __init__(self, values: list[float]):
        with np.errstate(over="ignore"):  # what is beyond float32 is refused where it comes to stand
            self._values = np.array(values, np.float32)
        self._taken = 0
        if self._values.ndim != 1:
            raise ValueError("weights are no flat list")

    def take(self, *shape: int) -> np.ndarray:
        """Take the next weights in this shape; raises GraphError where too few are left."""
        count = int(np.prod(shape))
        if self._taken + count > len(self._values):
            raise GraphError(f"has {len(self._values)} weights, its configuration needs more")
        piece = self._values[self._taken : self._taken + count].reshape(shape)
        self._taken += count
        return piece

    def kernel(self, inputs: int, outputs: int, taps: int) -> np.ndarray:
        """Take a convolution's kernel, and return it as (tap, in, out)."""
        return self.take(outputs, inputs, taps).transpose(2, 1, 0)

    def check_all_taken(self) -> None:
        """Raise GraphError where weights are left."""
        if self._taken != len(self._values):
            raise GraphError(f"has {len(self._values)} weights, its configuration needs {self._taken}")


def _function(name: object) -> L.Activation:
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise UnsupportedLayerError("activation", f"'{name}' is not streamed", f"one of {', '.join(_ACTIVATIONS)} is")
    function = _ACTIVATIONS[name]
    return L.Activation(activation=function, settings=(_LEAKY_SLOPE,) if function == "leaky_relu" else ())


def _convnet(config: dict, weights: _Weights) -> list[Node]:
    nodes: list[Node] = []
    channels, normalized = int(config["channels"]), bool(config["batchnorm"])
    if int(config.get("groups", 1)) != 1:
        raise UnsupportedLayerError("groups", f"{config['groups']} groups are not streamed", "use one")

    def chain(name: str, layer: L.Layer) -> None:
        nodes.append(Node(name, layer, (nodes[-1].name if nodes else INPUT,)))

    inputs = 1
    for k, dilation in enumerate(config["dilations"]):
        kernel = weights.kernel(inputs, channels, 2)
        bias = None if normalized else weights.take(channels)
        chain(f"block{k}/conv", L.Conv1D(kernel=kernel, bias=bias, dilation=int(dilation)))
        if normalized:
            mean, variance, gamma, beta = (weights.take(channels).astype(np.float64) for _ in range(4))
            with np.errstate(invalid="ignore", divide="ignore"):  # refused as NaN or Inf, by its layer
                scale = gamma / np.sqrt(variance + float(weights.take(1)[0]))
            chain(f"block{k}/norm", L.Affine(scale=scale, offset=beta - mean * scale))
        chain(f"block{k}/activation", _function(config["activation"]))
        inputs = channels
    chain("head", L.Dense(kernel=weights.take(1, channels).T, bias=weights.take(1)))
    return nodes


def _wavenet(config: dict, weights: _Weights) -> list[Node]:
    """Each array: rechannel, then layers that add to a head and to themselves; its head feeds the next array's."""
    if config.get("head") is not None:
        raise UnsupportedLayerError("head", "a post-stack head is not streamed", "train the net without one")
    nodes: list[Node] = []

    def add(name: str, layer: L.Layer, *inputs: str) -> str:
        nodes.append(Node(name, layer, inputs))
        return name

    if not config["layers"]:
        raise GraphError("has no layers")
    x, head = INPUT, None
    for a, array in enumerate(config["layers"]):
        width, conditions, gated = int(array["channels"]), int(array["condition_size"]), bool(array["gated"])
        if conditions != 1:
            raise UnsupportedLayerError(f"array{a}", f"{conditions} condition channels are not streamed", "use one")
        mid = 2 * width if gated else width
        x = add(f"array{a}/rechannel", L.Dense(kernel=weights.kernel(int(array["input_size"]), width, 1)[0]), x)
        for k, dilation in enumerate(array["dilations"]):
            name = f"array{a}/layer{k}"
            kernel = weights.kernel(width, mid, int(array["kernel_size"]))
            conv = add(f"{name}/conv", L.Conv1D(kernel=kernel, bias=weights.take(mid), dilation=int(dilation)), x)
            mixer = add(f"{name}/mixer", L.Dense(kernel=weights.kernel(conditions, mid, 1)[0]), INPUT)
            z = add(f"{name}/sum", L.Merge(by="add"), conv, mixer)
            z = (
                _gate(add, name, z, array["activation"], width)
                if gated
                else add(f"{name}/activation", _function(array["activation"]), z)
            )
            head = z if head is None else add(f"{name}/head", L.Merge(by="add"), head, z)
            out = add(f"{name}/1x1", L.Dense(kernel=weights.kernel(width, width, 1)[0], bias=weights.take(width)), z)
            x = add(f"{name}/residual", L.Merge(by="add"), x, out)
        outputs = int(array["head_size"])
        kernel = weights.kernel(width, outputs, 1)[0]
        bias = weights.take(outputs) if array["head_bias"] else None
        head = add(f"array{a}/head", L.Dense(kernel=kernel, bias=bias), head)
    scale = np.repeat(weights.take(1), outputs)
    add("scale", L.Affine(scale=scale, offset=np.zeros(outputs)), head)
    return list(reached(nodes, "scale"))  # the last residual of all feeds nothing


def _gate(add: object, name: str, z: str, activation: str, width: int) -> str:
    first = add(f"{name}/first", L.Select(indices=tuple(range(width)), shape=(width,)), z)
    second = add(f"{name}/second", L.Select(indices=tuple(range(width, 2 * width)), shape=(width,)), z)
    value = add(f"{name}/activation", _function(activation), first)
    gate = add(f"{name}/gate", L.Activation(activation="sigmoid"), second)
    return add(f"{name}/gated", L.Merge(by="multiply"), value, gate)

"""The layer records: frozen, with their weights, and with what they do to shape and time.

A record says everything about a layer but how to compute it: the reference and the compiler each know that, and the
contract test holds them together. Weights are float32 in Keras' order (kernel: tap, input channel, output channel; tap
K-1 multiplies the newest frame).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import ClassVar

import numpy as np

from streamcnn.errors import GraphError
from streamcnn.graph.timing import FrameRule

ACTIVATIONS = ("linear", "relu", "sigmoid", "tanh")
PADDINGS = ("causal", "valid")


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer(ABC):
    """One step of a graph. Subclasses are final; fields that hold arrays are weights, all others are options."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def rule(self) -> FrameRule:
        """Which input frames each output frame reads."""

    @abstractmethod
    def output_channels(self, input_channels: int) -> int:
        """Return the number of output channels; raises GraphError where the weights do not fit the input."""

    @abstractmethod
    def output_frames(self, input_frames: int) -> int:
        """Return how many frames Keras gives for a whole signal of `input_frames`."""

    @property
    def macs(self) -> int:
        """The multiplications of one output frame: by default each weight but the bias counts once."""
        return sum(w.size for name, w in self.weights.items() if name != "bias")

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The arrays by field name; None ones left out."""
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), np.ndarray)}

    @property
    def options(self) -> dict[str, object]:
        """The fields that are not arrays."""
        return {
            f.name: v for f in fields(self) if not isinstance(v := getattr(self, f.name), np.ndarray) and v is not None
        }

    @property
    def parameters(self) -> int:
        """How many weights the layer holds."""
        return sum(w.size for w in self.weights.values())


def _frozen(layer: Layer, name: str, ndim: int) -> None:
    """Replace a weight field by a read-only float32 copy; raises GraphError for wrong shapes and values."""
    value = getattr(layer, name)
    if value is None:
        return
    array = np.array(value, dtype=np.float32, order="C")
    if array.ndim != ndim:
        raise GraphError(f"{layer.kind}: {name} has the shape {array.shape}, expected {ndim} axes")
    if array.size == 0:
        raise GraphError(f"{layer.kind}: {name} has the shape {array.shape}, which holds no weights")
    if not np.isfinite(array).all():
        raise GraphError(f"{layer.kind}: {name} holds NaN or Inf", "train the net again, or export an earlier epoch")
    array.setflags(write=False)
    object.__setattr__(layer, name, array)


def _one_of(layer: Layer, name: str, allowed: tuple[str, ...]) -> None:
    value = getattr(layer, name)
    if value not in allowed:
        raise GraphError(f"{layer.kind}: {name} is '{value}', expected one of {', '.join(allowed)}")


def _check_bias(layer: Layer, channels: int) -> None:
    if layer.bias is not None and layer.bias.shape != (channels,):
        raise GraphError(f"{layer.kind}: bias has the shape {layer.bias.shape}, expected ({channels},)")


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv1D(Layer):
    """A convolution along time: kernel (taps, input channels, output channels), optional bias (output channels,).

    `causal` puts (taps-1)*dilation zeros before the signal, so output i stands at input i; `valid` gives its first
    output once the window is full, at the window's newest frame.
    """

    kind: ClassVar[str] = "Conv1D"
    kernel: np.ndarray
    bias: np.ndarray | None = None
    padding: str = "causal"
    dilation: int = 1
    activation: str = "linear"

    def __post_init__(self):
        """Freeze and check the weights."""
        _frozen(self, "kernel", 3)
        _frozen(self, "bias", 1)
        _one_of(self, "padding", PADDINGS)
        _one_of(self, "activation", ACTIVATIONS)
        if not isinstance(self.dilation, int) or self.dilation < 1:
            raise GraphError(f"Conv1D: dilation is {self.dilation!r}, expected a whole number >= 1")
        _check_bias(self, self.kernel.shape[2])

    @property
    def taps(self) -> int:
        """The kernel's size along time."""
        return self.kernel.shape[0]

    @property
    def span(self) -> int:
        """How many input frames the window covers, dilation included."""
        return (self.taps - 1) * self.dilation + 1

    @property
    def rule(self) -> FrameRule:
        """Which input frames each output frame reads."""
        if self.padding == "causal":
            return FrameRule(oldest=1 - self.span, newest=0)
        return FrameRule(oldest=0, newest=self.span - 1, position=Fraction(self.span - 1))

    def output_channels(self, input_channels: int) -> int:
        """Return the number of filters; raises GraphError where the kernel has another number of input channels."""
        if self.kernel.shape[1] != input_channels:
            raise GraphError(
                f"Conv1D: kernel {self.kernel.shape} needs {self.kernel.shape[1]} input channels, gets {input_channels}"
            )
        return self.kernel.shape[2]

    def output_frames(self, input_frames: int) -> int:
        """Return how many frames Keras gives for a whole signal of `input_frames`."""
        return self.rule.ready(input_frames)


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Layer):
    """A product with each frame by itself: kernel (input channels, units), optional bias (units,)."""

    kind: ClassVar[str] = "Dense"
    kernel: np.ndarray
    bias: np.ndarray | None = None
    activation: str = "linear"

    def __post_init__(self):
        """Freeze and check the weights."""
        _frozen(self, "kernel", 2)
        _frozen(self, "bias", 1)
        _one_of(self, "activation", ACTIVATIONS)
        _check_bias(self, self.kernel.shape[1])

    @property
    def rule(self) -> FrameRule:
        """Each output frame reads the input frame of its number."""
        return FrameRule()

    def output_channels(self, input_channels: int) -> int:
        """Return the number of units; raises GraphError where the kernel has another number of input channels."""
        if self.kernel.shape[0] != input_channels:
            raise GraphError(
                f"Dense: kernel {self.kernel.shape} needs {self.kernel.shape[0]} input channels, gets {input_channels}"
            )
        return self.kernel.shape[1]

    def output_frames(self, input_frames: int) -> int:
        """Return `input_frames`."""
        return input_frames


@dataclass(frozen=True, eq=False, kw_only=True)
class Activation(Layer):
    """A function of each value by itself."""

    kind: ClassVar[str] = "Activation"
    activation: str

    def __post_init__(self):
        """Check the function's name."""
        _one_of(self, "activation", ACTIVATIONS)

    @property
    def rule(self) -> FrameRule:
        """Each output frame reads the input frame of its number."""
        return FrameRule()

    def output_channels(self, input_channels: int) -> int:
        """Return `input_channels`."""
        return input_channels

    def output_frames(self, input_frames: int) -> int:
        """Return `input_frames`."""
        return input_frames


KINDS: dict[str, type[Layer]] = {layer.kind: layer for layer in (Conv1D, Dense, Activation)}

"""Records of recurrent layers: they carry a state from frame to frame, and so see all of the past."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from streamcnn.graph.layer import Layer, Shape
from streamcnn.graph.timing import FrameRule


@dataclass(frozen=True, eq=False, kw_only=True)
class _Recurrent(Layer):
    """Kernel (inputs, gates*units), recurrent kernel (units, gates*units), bias in the shape that the kind says.

    The state starts at zero. `activation` makes the state's candidate, `gate` (Keras: recurrent_activation) the gates.
    """

    gates: ClassVar[int]
    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray | None = None
    activation: str = "tanh"
    gate: str = "sigmoid"

    def __post_init__(self):
        """Freeze and check the weights."""
        self._freeze("kernel", 2)
        self._freeze("recurrent_kernel", 2)
        self._freeze("bias", len(self._bias_shape), optional=True)
        self._check_shape("kernel", (self.kernel.shape[0], self.gates * self.units))
        self._check_shape("recurrent_kernel", (self.units, self.gates * self.units))
        self._check_shape("bias", self._bias_shape)
        self._check_function("activation")
        self._check_function("gate")

    @property
    def units(self) -> int:
        """How many values the state has."""
        return self.recurrent_kernel.shape[0]

    @property
    def _bias_shape(self) -> Shape:
        return (self.gates * self.units,)

    def rule(self, frames: int) -> FrameRule:  # noqa: ARG002
        """Return which input frames each output frame reads, beside the state."""
        return FrameRule(recurrent=True)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return (units,)."""
        self._channels(shapes[0], self.kernel.shape[0])
        return (self.units,)


@dataclass(frozen=True, eq=False, kw_only=True)
class SimpleRNN(_Recurrent):
    """h = activation(x W + h U + b)."""

    kind: ClassVar[str] = "SimpleRNN"
    gates: ClassVar[int] = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class LSTM(_Recurrent):
    """Gates in Keras' order i, f, c, o: c = f*c + i*activation(c'), h = o*activation(c)."""

    kind: ClassVar[str] = "LSTM"
    gates: ClassVar[int] = 4


@dataclass(frozen=True, eq=False, kw_only=True)
class GRU(_Recurrent):
    """Gates in Keras' order z, r, h: h = z*h + (1-z)*h'.

    With `reset_after` h' = activation(x W + b0 + r*(h U + b1)) and the bias is (2, 3*units), otherwise
    h' = activation(x W + b + (r*h) U) and the bias is (3*units,).
    """

    kind: ClassVar[str] = "GRU"
    gates: ClassVar[int] = 3
    reset_after: bool = True

    @property
    def _bias_shape(self) -> Shape:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

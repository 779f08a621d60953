"""Records of layers that are products with a kernel."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from streamcnn.errors import GraphError
from streamcnn.graph.layer import Layer, Shape, size
from streamcnn.graph.timing import FrameRule, window


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv1D(Layer):
    """A convolution along time: kernel (taps, input channels / groups, output channels), optional bias.

    Tap K-1 multiplies the newest frame. `causal` puts (taps-1)*dilation zeros before the signal; `valid` gives its first
    output once the window is full, at the window's newest frame; `same` pads both ends and so looks ahead.

    `grid`: give outputs only when a multiple of so many input frames (a power of two) is complete. A kernel of thousands of
    taps costs less than half of what it does without, for that delay.
    """

    kind: ClassVar[str] = "Conv1D"
    kernel: np.ndarray
    bias: np.ndarray | None = None
    padding: str = "causal"
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    activation: str = "linear"
    grid: int | None = None

    def __post_init__(self):
        """Freeze and check the weights."""
        self._freeze("kernel", 3)
        self._freeze("bias", 1, optional=True)
        self._check_choice("padding", ("causal", "valid", "same"))
        self._check_function()
        for name in ("stride", "dilation", "groups", *(["grid"] if self.grid is not None else [])):
            self._check_whole(name, 1)
        if self.grid is not None and self.grid & (self.grid - 1):
            raise GraphError(f"Conv1D: grid is {self.grid} frames, expected a power of two")
        if self.kernel.shape[2] % self.groups:
            raise GraphError(f"Conv1D: {self.kernel.shape[2]} output channels do not divide into {self.groups} groups")
        self._check_shape("bias", (self.kernel.shape[2],))

    @property
    def taps(self) -> int:
        """The kernel's size along time."""
        return self.kernel.shape[0]

    @property
    def span(self) -> int:
        """How many input frames the window covers, dilation included."""
        return (self.taps - 1) * self.dilation + 1

    def rule(self, frames: int) -> FrameRule:
        """Return which input frames each output frame reads."""
        return replace(window(self.span, self.stride, self.padding, frames), grid=self.grid or 1)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return (filters,)."""
        self._channels(shapes[0], self.kernel.shape[1] * self.groups)
        return (self.kernel.shape[2],)


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv1DTranspose(Layer):
    """A transposed convolution along time: kernel (taps, output channels, input channels), optional bias.

    Input frame n adds to the output frames n*stride + tap*dilation. `same` keeps n*stride frames and crops the smaller
    half of the rest on the left. `extra_frames`: how many frames the output has beyond n*stride, for Keras'
    `output_padding`; None is Keras' default.
    """

    kind: ClassVar[str] = "Conv1DTranspose"
    kernel: np.ndarray
    bias: np.ndarray | None = None
    padding: str = "valid"
    stride: int = 1
    dilation: int = 1
    extra_frames: int | None = None
    activation: str = "linear"

    def __post_init__(self):
        """Freeze and check the weights."""
        self._freeze("kernel", 3)
        self._freeze("bias", 1, optional=True)
        self._check_choice("padding", ("valid", "same"))
        self._check_function()
        for name in ("stride", "dilation"):
            self._check_whole(name, 1)
        self._check_shape("bias", (self.kernel.shape[1],))
        if self.extra_frames is not None:
            least = 1 - self.stride
            if not isinstance(self.extra_frames, int) or not least <= self.extra_frames <= self.span + self.stride:
                raise GraphError(
                    f"Conv1DTranspose: extra_frames is {self.extra_frames!r}, which no output_padding makes"
                )

    @property
    def span(self) -> int:
        """How many output frames an input frame adds to, dilation included."""
        return (self.kernel.shape[0] - 1) * self.dilation + 1

    @property
    def tail(self) -> int:
        """How many frames the output has beyond `stride` times those of the input."""
        if self.extra_frames is not None:
            return self.extra_frames
        return 0 if self.padding == "same" else max(self.span - self.stride, 0)

    @property
    def crop(self) -> int:
        """How many frames are cut off on the left."""
        return 0 if self.padding == "valid" else max(self.span - self.stride - self.tail, 0) // 2

    def rule(self, frames: int) -> FrameRule:  # noqa: ARG002
        """Return which input frames each output frame reads."""
        oldest = self.crop - self.span + self.stride
        # Where the output is shorter than its last windows, a frame must wait until it is known not to be cut off.
        wait = max(0, -self.tail - self.crop)
        return FrameRule(self.stride, 1, min(oldest, self.crop), self.crop, wait=wait, tail=self.tail)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return (filters,)."""
        self._channels(shapes[0], self.kernel.shape[2])
        return (self.kernel.shape[1],)


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Layer):
    """A product with the last axis of each frame: kernel (inputs, units), optional bias (units,)."""

    kind: ClassVar[str] = "Dense"
    kernel: np.ndarray
    bias: np.ndarray | None = None
    activation: str = "linear"

    def __post_init__(self):
        """Freeze and check the weights."""
        self._freeze("kernel", 2)
        self._freeze("bias", 1, optional=True)
        self._check_function()
        self._check_shape("bias", (self.kernel.shape[1],))

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the input's shape with `units` as its last axis."""
        self._channels(shapes[0][-1:], self.kernel.shape[0])
        return (*shapes[0][:-1], self.kernel.shape[1])

    def macs(self, *shapes: Shape) -> int:
        """Return the multiplications of one output frame."""
        return size(shapes[0][:-1]) * self.kernel.size

"""Records of layers on planes: frames of the shape (bands, channels), as spectrograms have them.

Time is streamed; the axis of the bands is there as a whole, and its padding is part of the layer.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from streamcnn.errors import GraphError
from streamcnn.graph.layer import Layer, Shape
from streamcnn.graph.timing import FrameRule, window


@dataclass(frozen=True, eq=False, kw_only=True)
class _Plane(Layer):
    """A window of so many frames and bands, which moves along both."""

    padding: str = "valid"

    def windows(self, bands: int) -> tuple[int, int]:
        """Return how many windows fit along the axis of so many bands, and how many bands stand before the first.

        Raises GraphError where not one fits.
        """
        rule = window(self._band_span, self.band_stride, self.padding, bands)
        many = int(rule.total(bands))
        if many < 1:
            raise GraphError(f"{self.kind}: a window of {self._band_span} bands does not fit into {bands}")
        return many, -rule.oldest

    @property
    def _band_span(self) -> int:
        raise NotImplementedError

    def _plane(self, shape: Shape) -> Shape:
        if len(shape) != 2:
            raise GraphError(f"{self.kind}: reads frames of the shape {shape}, expected (bands, channels)")
        return shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2D(_Plane):
    """Convolution along time and bands: kernel (taps, band taps, inputs / groups, outputs), bias (outputs,).

    The last of the taps meets the newest frame. Groups divide inputs and outputs alike; a depthwise convolution has as
    many groups as inputs.
    """

    kind: ClassVar[str] = "Conv2D"
    kernel: np.ndarray
    bias: np.ndarray | None = None
    stride: int = 1
    band_stride: int = 1
    dilation: int = 1
    band_dilation: int = 1
    groups: int = 1
    activation: str = "linear"

    def __post_init__(self):
        """Freeze the weights and check the options."""
        self._freeze("kernel", 4)
        self._freeze("bias", 1, optional=True)
        self._check_shape("bias", (self.kernel.shape[3],))
        self._check_choice("padding", ("valid", "same"))
        for name in ("stride", "band_stride", "dilation", "band_dilation", "groups"):
            self._check_whole(name, 1)
        if self.kernel.shape[3] % self.groups:
            raise GraphError(f"Conv2D: {self.kernel.shape[3]} outputs do not divide into {self.groups} groups")
        self._check_function()

    @property
    def span(self) -> int:
        """How many frames the kernel reaches over."""
        return (self.kernel.shape[0] - 1) * self.dilation + 1

    @property
    def _band_span(self) -> int:
        return (self.kernel.shape[1] - 1) * self.band_dilation + 1

    def rule(self, frames: int) -> FrameRule:
        """Return which input frames each output frame reads."""
        return window(self.span, self.stride, self.padding, frames)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return (bands, outputs)."""
        bands, channels = self._plane(shapes[0])
        if channels != self.kernel.shape[2] * self.groups:
            raise GraphError(
                f"Conv2D: has weights for {self.kernel.shape[2] * self.groups} input channels, gets {channels}"
            )
        return self.windows(bands)[0], self.kernel.shape[3]

    def macs(self, *shapes: Shape) -> int:
        """Return the multiplications of one output frame."""
        return self.windows(shapes[0][0])[0] * self.kernel.size


@dataclass(frozen=True, eq=False, kw_only=True)
class Pooling2D(_Plane):
    """The maximum (`max`) or mean (`average`) of a window of `pool` frames and `band_pool` bands, channel by channel.

    With 'same' padding what lies beyond the edges is left out: it neither is a maximum nor counts in a mean.
    """

    kind: ClassVar[str] = "Pooling2D"
    by: str
    pool: int
    band_pool: int
    stride: int
    band_stride: int

    def __post_init__(self):
        """Check the options."""
        self._check_choice("by", ("max", "average"))
        self._check_choice("padding", ("valid", "same"))
        for name in ("pool", "band_pool", "stride", "band_stride"):
            self._check_whole(name, 1)

    @property
    def _band_span(self) -> int:
        return self.band_pool

    def rule(self, frames: int) -> FrameRule:
        """Return which input frames each output frame reads."""
        return window(self.pool, self.stride, self.padding, frames)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return (bands, channels)."""
        bands, channels = self._plane(shapes[0])
        return self.windows(bands)[0], channels

    def macs(self, *shapes: Shape) -> int:  # noqa: ARG002
        """Return 0: nothing is multiplied."""
        return 0

"""Records of layers that only move along time: pooling, padding, cropping, repeating, and stacking of frames."""

from dataclasses import dataclass
from typing import ClassVar

from streamcnn.errors import GraphError
from streamcnn.graph.layer import Layer, Shape, size
from streamcnn.graph.timing import FrameRule, window


@dataclass(frozen=True, eq=False, kw_only=True)
class Pooling1D(Layer):
    """The maximum (`max`) or mean (`average`) of a window of `pool` frames, channel by channel.

    With 'same' padding the frames beyond the ends are left out: they neither are a maximum nor count in a mean.
    """

    kind: ClassVar[str] = "Pooling1D"
    by: str
    pool: int
    stride: int
    padding: str = "valid"

    def __post_init__(self):
        """Check the options."""
        self._check_choice("by", ("max", "average"))
        self._check_choice("padding", ("valid", "same"))
        self._check_whole("pool", 1)
        self._check_whole("stride", 1)

    def rule(self, frames: int) -> FrameRule:
        """Return which input frames each output frame reads."""
        return window(self.pool, self.stride, self.padding, frames)


@dataclass(frozen=True, eq=False, kw_only=True)
class Repeat(Layer):
    """Each frame `times` times (UpSampling1D)."""

    kind: ClassVar[str] = "Repeat"
    times: int

    def __post_init__(self):
        """Check the number."""
        self._check_whole("times", 1)

    def rule(self, frames: int) -> FrameRule:  # noqa: ARG002
        """Return which input frames each output frame reads."""
        return FrameRule(up=self.times)


@dataclass(frozen=True, eq=False, kw_only=True)
class ZeroPadding1D(Layer):
    """Zero frames before and after the signal."""

    kind: ClassVar[str] = "ZeroPadding1D"
    left: int
    right: int

    def __post_init__(self):
        """Check the numbers."""
        self._check_whole("left", 0)
        self._check_whole("right", 0)

    def rule(self, frames: int) -> FrameRule:  # noqa: ARG002
        """Return which input frames each output frame reads; output frame 0 stands `left` frames before the signal."""
        return FrameRule(oldest=-self.left, newest=-self.left, tail=self.left + self.right, position=-self.left)


@dataclass(frozen=True, eq=False, kw_only=True)
class Cropping1D(Layer):
    """The signal without its first `left` and last `right` frames.

    A frame can only be given once it is known not to be one of the last, hence a delay of `right`.
    """

    kind: ClassVar[str] = "Cropping1D"
    left: int
    right: int

    def __post_init__(self):
        """Check the numbers."""
        self._check_whole("left", 0)
        self._check_whole("right", 0)

    def rule(self, frames: int) -> FrameRule:  # noqa: ARG002
        """Return which input frames each output frame reads."""
        tail = -self.left - self.right
        return FrameRule(oldest=self.left, newest=self.left, wait=self.right, tail=tail, position=self.left)


@dataclass(frozen=True, eq=False, kw_only=True)
class Stack(Layer):
    """`frames` frames after each other become one of the shape `shape`: a Reshape that takes from time."""

    kind: ClassVar[str] = "Stack"
    frames: int
    shape: Shape

    def __post_init__(self):
        """Check the numbers."""
        self._check_whole("frames", 1)
        self._check_frame_shape()

    def rule(self, frames: int) -> FrameRule:  # noqa: ARG002
        """Return which input frames each output frame reads."""
        return FrameRule(down=self.frames, newest=self.frames - 1, position=self.frames - 1)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return `shape`."""
        if size(self.shape) != self.frames * size(shapes[0]):
            raise GraphError(f"Stack: {self.frames} frames of the shape {shapes[0]} do not make one of {self.shape}")
        return self.shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Unstack(Layer):
    """One frame becomes `frames` frames after each other, each of the shape `shape`: a Reshape that gives to time."""

    kind: ClassVar[str] = "Unstack"
    frames: int
    shape: Shape

    def __post_init__(self):
        """Check the numbers."""
        self._check_whole("frames", 1)
        self._check_frame_shape()

    def rule(self, frames: int) -> FrameRule:  # noqa: ARG002
        """Return which input frames each output frame reads."""
        return FrameRule(up=self.frames)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return `shape`."""
        if size(shapes[0]) != self.frames * size(self.shape):
            raise GraphError(f"Unstack: a frame of the shape {shapes[0]} does not make {self.frames} of {self.shape}")
        return self.shape

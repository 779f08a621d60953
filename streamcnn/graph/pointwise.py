"""Records of layers that work on each frame by itself, without a kernel."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from streamcnn.errors import GraphError
from streamcnn.graph.functions import MAX_PARAMETERS, defaults
from streamcnn.graph.layer import Layer, Shape, size


@dataclass(frozen=True, eq=False, kw_only=True)
class Activation(Layer):
    """A function of each value by itself, or, for softmax and its kin, of the last axis of each frame.

    `settings`: the function's parameters, in the order of `functions.POINTWISE`; empty for its defaults.
    """

    kind: ClassVar[str] = "Activation"
    activation: str
    settings: tuple[float, ...] = ()

    def __post_init__(self):
        """Check the function's name and parameters."""
        self._check_function()
        given = tuple(float(p) for p in self.settings)  # "inf" included, as files write it
        if len(given) not in (0, len(defaults(self.activation))) or len(given) > MAX_PARAMETERS:
            raise GraphError(f"Activation: '{self.activation}' does not take the parameters {given}")
        object.__setattr__(self, "settings", given)

    @property
    def arguments(self) -> tuple[float, ...]:
        """The function's parameters, defaults included."""
        return self.settings or defaults(self.activation)


@dataclass(frozen=True, eq=False, kw_only=True)
class GLU(Layer):
    """Gated linear unit: the first half of the channels times the sigmoid of the second."""

    kind: ClassVar[str] = "GLU"

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return half as many channels."""
        channels = self._channels(shapes[0])
        if channels % 2:
            raise GraphError(f"GLU: needs an even number of channels, gets {channels}")
        return (channels // 2,)


@dataclass(frozen=True, eq=False, kw_only=True)
class PReLU(Layer):
    """x where x >= 0, else slope * x: slope (values of a frame,)."""

    kind: ClassVar[str] = "PReLU"
    slope: np.ndarray

    def __post_init__(self):
        """Freeze the slopes."""
        self._freeze("slope", 1)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        self._check_shape("slope", (size(shapes[0]),))
        return shapes[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Affine(Layer):
    """(x - center) * scale + offset, all (values of a frame,): batch normalization at inference, Normalization, Rescaling.

    The center, where there is one, is subtracted first: folded into the offset, large means would cost the small digits.

    It stays a step of its own: folding it into a following padded convolution would be wrong at the edges.
    """

    kind: ClassVar[str] = "Affine"
    scale: np.ndarray
    offset: np.ndarray
    center: np.ndarray | None = None

    def __post_init__(self):
        """Freeze scale and offset."""
        self._freeze("scale", 1)
        self._freeze("offset", 1)
        self._freeze("center", 1, optional=True)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        self._check_shape("scale", (size(shapes[0]),))
        self._check_shape("offset", (size(shapes[0]),))
        self._check_shape("center", (size(shapes[0]),))
        return shapes[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Normalize(Layer):
    """Normalization of runs of `width` values in each frame, then times `scale`, plus `offset`, both (width,).

    `layer`: (x - mean) / sqrt(variance + epsilon). `rms`: x / sqrt(mean of squares + epsilon). `unit`: x / sqrt(max(sum of
    squares, epsilon)). `peak`: x / max |x|, and x itself where that is below epsilon.
    """

    kind: ClassVar[str] = "Normalize"
    by: str
    width: int
    epsilon: float
    scale: np.ndarray | None = None
    offset: np.ndarray | None = None

    def __post_init__(self):
        """Freeze scale and offset."""
        self._check_choice("by", ("layer", "rms", "unit", "peak"))
        self._check_whole("width", 1)
        if not isinstance(self.epsilon, (int, float)) or not 0 <= self.epsilon < float("inf"):
            raise GraphError(f"Normalize: epsilon is {self.epsilon!r}, expected a number from 0 on")
        for name in ("scale", "offset"):
            self._freeze(name, 1, optional=True)
            self._check_shape(name, (self.width,))

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        if size(shapes[0]) % self.width:
            raise GraphError(f"Normalize: frames of the shape {shapes[0]} do not divide into runs of {self.width}")
        return shapes[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Layer):
    """The same values in the same order, as frames of another shape."""

    kind: ClassVar[str] = "Reshape"
    shape: Shape

    def __post_init__(self):
        """Check the shape."""
        self._check_frame_shape()

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return `shape`; raises GraphError where it has another number of values."""
        if size(shapes[0]) != size(self.shape):
            raise GraphError(f"Reshape: frames of the shape {shapes[0]} cannot have the shape {self.shape}")
        return self.shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Select(Layer):
    """Picks values of each frame by their places in it: slices of channels, permutations, repetitions, zeros.

    `indices`: int32 (values of an output frame,), for each its place in the flattened input frame, -1 for a zero. `shape`: of
    an output frame.
    """

    kind: ClassVar[str] = "Select"
    indices: np.ndarray
    shape: Shape

    def __post_init__(self):
        """Freeze and check the indices."""
        indices = np.array(self.indices, np.int32)
        indices.setflags(write=False)
        object.__setattr__(self, "indices", indices)
        self._check_frame_shape()
        if indices.shape != (size(self.shape),):
            raise GraphError(f"Select: {indices.size} indices for frames of the shape {self.shape}")

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return `shape`; raises GraphError where an index lies outside the input's frame."""
        if not -1 <= self.indices.min() <= self.indices.max() < size(shapes[0]):
            raise GraphError(f"Select: picks places that frames of the shape {shapes[0]} do not have")
        return self.shape

    @property
    def parameters(self) -> int:
        """None: places are not trained."""
        return 0

    def macs(self, *shapes: Shape) -> int:  # noqa: ARG002
        """Return 0: nothing is multiplied."""
        return 0

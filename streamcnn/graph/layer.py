"""What all layer records have in common.

A record says everything about a layer but how to compute it: the reference and the compiler each know that, and the
contract test holds them together. Frames have a shape, mostly (channels,); weights are float32 in Keras' order.
"""

from dataclasses import dataclass, fields
from math import prod
from typing import ClassVar

import numpy as np

from streamcnn.errors import GraphError
from streamcnn.graph.functions import is_known
from streamcnn.graph.timing import FrameRule

Shape = tuple[int, ...]
MAX_FRAMES = 2**28  # of a window, an edge, or a frame's values: beyond it no memory suffices


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """One step of a graph. Subclasses are final; fields that hold arrays are weights, all others are options."""

    kind: ClassVar[str]
    arity: ClassVar[range] = range(1, 2)  # how many tensors it may read
    whole: ClassVar[bool] = False  # whether it reads all frames of them, so that it needs a clip
    endless: ClassVar[bool] = False  # whether it keeps sums of all that it has seen, so that it has no place in a clip
    any_rate: ClassVar[bool] = False  # whether a graph may end with it, though its frames fall between input frames

    def rule(self, frames: int) -> FrameRule:  # noqa: ARG002 (strided 'same' padding needs it)
        """Return which input frames each output frame reads, for signals of the length class of `frames`.

        By default the one of its own number.
        """
        return FrameRule()

    @property
    def unneeded(self) -> int:
        """How many of the oldest frames that it sees may be zeros before the signal, and its result stands all the same."""
        return 0

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape of an output frame, by default that of the input's.

        Raises GraphError where the weights do not fit the inputs' shapes.
        """
        return shapes[0]

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

    def macs(self, *shapes: Shape) -> int:  # noqa: ARG002 (of use where an input has several rows)
        """Return the multiplications of one output frame: by default each weight that is not added counts once."""
        return sum(w.size for name, w in self.weights.items() if name not in ("bias", "offset", "center"))

    # What subclasses check themselves with

    def _freeze(self, name: str, ndim: int, *, optional: bool = False) -> None:
        """Replace a weight field by a read-only float32 copy; raises GraphError for wrong shapes and values."""
        value = getattr(self, name)
        if value is None:
            if not optional:
                raise GraphError(f"{self.kind}: {name} is missing")
            return
        array = np.array(value, dtype=np.float32, order="C")
        if array.ndim != ndim:
            raise GraphError(f"{self.kind}: {name} has the shape {array.shape}, expected {ndim} axes")
        if array.size == 0:
            raise GraphError(f"{self.kind}: {name} has the shape {array.shape}, which holds no weights")
        if not np.isfinite(array).all():
            raise GraphError(f"{self.kind}: {name} holds NaN or Inf", "train the net again, or export an earlier epoch")
        array.setflags(write=False)
        object.__setattr__(self, name, array)

    def _check_shape(self, name: str, shape: Shape) -> None:
        value = getattr(self, name)
        if value is not None and value.shape != shape:
            raise GraphError(f"{self.kind}: {name} has the shape {value.shape}, expected {shape}")

    def _check_choice(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise GraphError(f"{self.kind}: {name} is '{value}', expected one of {', '.join(allowed)}")

    def _check_function(self, name: str = "activation") -> None:
        value = getattr(self, name)
        if not is_known(value):
            raise GraphError(f"{self.kind}: {name} is '{value}', which no function is called")

    def _check_whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MAX_FRAMES:
            raise GraphError(f"{self.kind}: {name} is {value!r}, expected a whole number from {least} to {MAX_FRAMES}")

    def _check_frame_shape(self, name: str = "shape") -> None:
        object.__setattr__(self, name, checked_shape(getattr(self, name), f"{self.kind}: {name}"))

    def _channels(self, shape: Shape, wanted: int | None = None) -> int:
        """Return the channels of frames that must be of one axis, and of so many channels."""
        if len(shape) != 1:
            raise GraphError(f"{self.kind}: reads frames of the shape {shape}, expected (channels,)")
        if wanted is not None and shape[0] != wanted:
            raise GraphError(f"{self.kind}: has weights for {wanted} input channels, gets {shape[0]}")
        return shape[0]


def checked_shape(shape: object, what: str) -> Shape:
    """Return a frame's shape as a tuple of whole numbers; raises GraphError, naming `what`, where it is none."""
    if (
        not isinstance(shape, (tuple, list))
        or not shape
        or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in shape)
        or prod(shape) > MAX_FRAMES
    ):
        raise GraphError(f"{what} is {shape!r}, expected axes of at least 1 with at most {MAX_FRAMES} values together")
    return tuple(shape)


def size(shape: Shape) -> int:
    """Return how many values a frame of this shape has."""
    return prod(shape)

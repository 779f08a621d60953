"""Records of layers that read several tensors: frame i of the output is made of the frames i of all inputs."""

import sys
from dataclasses import dataclass
from typing import ClassVar

from streamcnn.errors import GraphError
from streamcnn.graph.layer import Layer, Shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Merge(Layer):
    """Value by value: `add`, `subtract` (of two), `multiply`, `average`, `maximum` or `minimum`."""

    kind: ClassVar[str] = "Merge"
    arity: ClassVar[range] = range(2, sys.maxsize)
    by: str

    def __post_init__(self):
        """Check the operation."""
        self._check_choice("by", ("add", "subtract", "multiply", "average", "maximum", "minimum"))

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the inputs' common shape; raises GraphError where they differ."""
        if len(set(shapes)) != 1:
            raise GraphError(f"Merge: the inputs' frames have the different shapes {', '.join(map(str, shapes))}")
        if self.by == "subtract" and len(shapes) != 2:
            raise GraphError(f"Merge: subtract takes two inputs, gets {len(shapes)}")
        return shapes[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Concatenate(Layer):
    """The channels of all inputs, one input after the other."""

    kind: ClassVar[str] = "Concatenate"
    arity: ClassVar[range] = range(1, sys.maxsize)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the sum of the inputs' channels."""
        return (sum(self._channels(shape) for shape in shapes),)

"""The record of attention: every frame looks at every other one."""

from dataclasses import dataclass
from typing import ClassVar

from streamcnn.errors import GraphError
from streamcnn.graph.layer import Layer, Shape
from streamcnn.graph.timing import FrameRule


@dataclass(frozen=True, eq=False, kw_only=True)
class Attention(Layer):
    """softmax(scale * Q K^T) V, in `heads` parts of the channels side by side; reads queries, keys and values.

    `causal`: a query looks at the keys up to its own number only. Source: Vaswani et al. (2017), section 3.2.
    """

    kind: ClassVar[str] = "Attention"
    arity: ClassVar[range] = range(3, 4)
    whole: ClassVar[bool] = True
    heads: int
    scale: float
    causal: bool = False

    def __post_init__(self):
        """Check the options."""
        self._check_whole("heads", 1)
        if not isinstance(self.scale, (int, float)) or not abs(self.scale) < float("inf"):
            raise GraphError(f"Attention: scale is {self.scale!r}, expected a finite number")

    def rule(self, frames: int) -> FrameRule:
        """Return that each frame may read all of them."""
        return FrameRule(oldest=-frames, newest=frames)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape of the values."""
        queries, keys, values = (self._channels(shape) for shape in shapes)
        if queries != keys:
            raise GraphError(f"Attention: queries of {queries} channels, keys of {keys}")
        if keys % self.heads or values % self.heads:
            raise GraphError(f"Attention: {keys} and {values} channels do not divide into {self.heads} heads")
        return (values,)

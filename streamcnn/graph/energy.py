"""The record of a moving norm: how loud a signal was over a window, by which a correlation is made free of scale."""

from dataclasses import dataclass
from typing import ClassVar

from streamcnn.errors import GraphError
from streamcnn.graph.layer import MAX_FRAMES, Layer, Shape
from streamcnn.graph.timing import FrameRule, window

SILENT = 1e-30  # of energy: 300 dB below full scale
QUIET = 1e-10  # of the energy with what came before: a correlation in float32 says nothing about so little


@dataclass(frozen=True, eq=False, kw_only=True)
class InverseNorm(Layer):
    """One over the root of the sum of squares of a window's values, all channels together; one output for each window.

    Output k sees `lengths[k]` frames that end `lags[k]` frames before the newest. It is 0 where they are SILENT, and where
    they have at most QUIET of the energy that they have together with the `guard` frames before them: what is made of
    such a window's products, by transforms that saw the loud frames too, is their rounding errors.
    """

    kind: ClassVar[str] = "InverseNorm"
    endless: ClassVar[bool] = True
    lengths: tuple[int, ...]
    lags: tuple[int, ...]
    guard: int = 0

    def __post_init__(self):
        """Check the numbers."""
        numbers = (*self.lengths, *self.lags, self.guard)
        whole = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= MAX_FRAMES for n in numbers)
        if not whole or not self.lengths or len(self.lengths) != len(self.lags) or min(self.lengths) < 1:
            raise GraphError(
                f"InverseNorm: lengths {self.lengths}, lags {self.lags} and guard {self.guard!r} are no windows",
                "give as many lags, from 0, as lengths, from 1",
            )

    @property
    def unneeded(self) -> int:
        """How many of the oldest frames that it sees may be zeros: its result is the same without a loud frame there."""
        return self.guard

    @property
    def span(self) -> int:
        """How many frames an output frame sees."""
        return max(length + lag for length, lag in zip(self.lengths, self.lags, strict=True)) + self.guard

    def rule(self, frames: int) -> FrameRule:
        """Return which input frames each output frame reads."""
        return window(self.span, 1, "causal", frames)

    def macs(self, *shapes: Shape) -> int:
        """Return the multiplications of one output frame."""
        return 4 * shapes[0][0] * len(self.lengths)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return (windows,)."""
        self._channels(shapes[0])
        return (len(self.lengths),)

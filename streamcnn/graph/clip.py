"""How a net that needs a whole clip slides over a stream, and what overlapping windows have in common.

Rules. A clip net is a graph for signals of exactly `frames` frames. On a stream it is given every window of that length, each
`hop` frames after the one before it, and answers each as if nothing else had ever been heard: padding, normalization
and attention see the window alone.

Theory. Most of a convolutional net's work in a window does not depend on where the window ends. Frame i of a tensor reads
certain frames of the tensors before it; if all of those lie inside, and are themselves such frames, its value is
that of the same layer run on the endless stream, as frame i + k * shift of it, where shift is the window's hop in that tensor's
frames. So each tensor has a middle part that windows share, and edges, which the layer's padding reaches, that are each
window's own. A layer that moves by a stride in which the hop is no whole number of frames shares nothing, and nor does
what comes after it; a layer that sees the whole clip (pooling, attention, a recurrent state) ends all sharing.
"""

from dataclasses import dataclass
from fractions import Fraction

from streamcnn.errors import GraphError
from streamcnn.graph.layer import MAX_FRAMES
from streamcnn.graph.timing import FrameRule


@dataclass(frozen=True)
class Clip:
    """A window of `frames` input frames that moves by `hop` input frames.

    Raises GraphError where the window leaves frames out.
    """

    frames: int
    hop: int

    def __post_init__(self):
        """Check the numbers."""
        for name in ("frames", "hop"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_FRAMES:
                raise GraphError(f"a clip's {name} is {value!r}, expected a whole number from 1 to {MAX_FRAMES}")
        if self.hop > self.frames:
            raise GraphError(
                f"a window of {self.frames} frames that moves by {self.hop} never hears the frames between two windows",
                f"give it a hop of at most {self.frames}",
            )

    @property
    def rule(self) -> FrameRule:
        """Which input frames each window reads: it is complete, and its answer stands, at its last frame."""
        last = self.frames - 1
        return FrameRule(down=self.hop, newest=last, tail=self.hop - self.frames, position=last)


@dataclass(frozen=True)
class Shared:
    """The frames `first` to before `end` of a tensor in each window; window k's frame i is the stream's i + k*`shift`."""

    first: int
    end: int
    shift: int

    def through(self, rule: FrameRule, frames: int) -> "Shared | None":
        """Return what a layer's output of `frames` frames shares if its inputs share this; None for nothing."""
        shift = Fraction(self.shift * rule.up, rule.down)
        if rule.recurrent or shift.denominator != 1:
            return None
        first = -((rule.oldest - self.first * rule.up) // rule.down)  # the first frame whose oldest input is shared
        # ... and the one after the last whose newest is, of those that the stream has when the window is complete.
        end = -((rule.newest + rule.wait - self.end * rule.up) // rule.down)
        first, end = max(0, first), min(frames, end)
        return Shared(first, end, int(shift)) if first < end else None


def common(parts: "list[Shared | None]") -> "Shared | None":
    """Return what several tensors of the same hop share together."""
    if None in parts or len({part.shift for part in parts}) > 1:
        return None
    first, end = max(part.first for part in parts), min(part.end for part in parts)
    return Shared(first, end, parts[0].shift) if first < end else None

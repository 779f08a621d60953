"""Where frames stand in time, as arithmetic on frame numbers.

Rules. Every layer reads a window of input frames for each output frame; which ones is linear in the output's number,
so a layer's whole behaviour in time is six integers (`FrameRule`) and its number of output frames on a whole signal.
A graph composes the rules of its layers into one `Timing` per tensor:

    position of output frame i   = first + i * hop                     (input frames)
    known after input frame      = first + i * hop + delay

Theory. Output frame i reads the input frames floor((i*down + oldest) / up) ... floor((i*down + newest) / up). A
convolution of kernel K, dilation d, stride s with p zeros on its left has up = 1, down = s, oldest = -p and newest =
(K-1)*d - p. A layer that repeats or interpolates frames has up > 1. Output i can be computed once `newest` has been
read, so of n input frames come ceil((n*up - newest) / down) output frames. That one formula drives the engine, which
therefore never counts anything that depends on how the signal was split into blocks.
"""

from dataclasses import dataclass
from fractions import Fraction

INFINITE = None  # a receptive field without an end (recurrent layers)


@dataclass(frozen=True)
class FrameRule:
    """Which input frames a layer's output frame i reads, and where that frame stands.

    `position` is where output frame 0 stands, in input frames; frame i stands at position + i*down/up.
    """

    up: int = 1
    down: int = 1
    oldest: int = 0
    newest: int = 0
    position: Fraction = Fraction(0)

    def ready(self, frames: int) -> int:
        """Return how many output frames the first `frames` input frames suffice for."""
        return max(0, -((self.newest - frames * self.up) // self.down))

    def oldest_read(self, i: int) -> int:
        """Return the oldest input frame that output frame i reads (negative: padding)."""
        return (i * self.down + self.oldest) // self.up


@dataclass(frozen=True)
class Timing:
    """Where the frames of one tensor stand on the input's time axis; all in input frames.

    `first`, `hop`: frame i stands at first + i*hop. `delay`: how many input frames after its own position a frame
    becomes known, at the latest. `back`: how far before its own position a frame can see; INFINITE for recurrent nets.
    `ahead`: how far after it.
    """

    hop: Fraction = Fraction(1)
    first: Fraction = Fraction(0)
    delay: Fraction = Fraction(0)
    back: Fraction | None = Fraction(0)
    ahead: Fraction = Fraction(0)

    @property
    def receptive_field(self) -> int | None:
        """How many input frames one frame can see, INFINITE (None) for recurrent nets."""
        if self.back is INFINITE:
            return INFINITE
        span = self.back + self.ahead
        return -(-span.numerator // span.denominator) + 1

    def through(self, rule: FrameRule) -> "Timing":
        """Return the timing of a layer's output from that of its input."""
        newest = max(self._lag(rule, rule.newest, i) for i in range(rule.up))
        oldest = min(self._lag(rule, rule.oldest, i) for i in range(rule.up))
        return Timing(
            hop=self.hop * rule.down / rule.up,
            first=self.first + self.hop * rule.position,
            delay=self.delay + self.hop * newest,
            back=INFINITE if self.back is INFINITE else max(Fraction(0), self.back - self.hop * oldest),
            ahead=max(Fraction(0), self.ahead + self.hop * newest),
        )

    @staticmethod
    def _lag(rule: FrameRule, edge: int, i: int) -> Fraction:
        """How many input frames after the position of output frame i the frame at `edge` stands."""
        return (i * rule.down + edge) // rule.up - (rule.position + Fraction(i * rule.down, rule.up))

"""Where frames stand in time, as arithmetic on frame numbers.

Rules. Every layer reads a window of input frames for each output frame; which ones is linear in the output's number,
so a layer's whole behaviour in time is a handful of integers (`FrameRule`). A graph composes the rules of its layers into
one `Timing` per tensor:

    position of output frame i   = first + i * hop                     (input frames)
    known after input frame      = first + i * hop + delay

Theory. Output frame i reads the input frames floor((i*down + oldest) / up) ... floor((i*down + newest) / up). A
convolution of kernel K, dilation d, stride s with p zeros on its left has up = 1, down = s, oldest = -p and newest =
(K-1)*d - p. A layer that repeats or interpolates frames has up > 1. Output i can be computed once `newest` has been
read (and `wait` frames more), so of n input frames come ceil((n*up - newest - wait) / down) output frames; and of a
whole signal of n frames, padded as Keras pads its end, floor((n*up + tail) / down). These two formulas drive the engine,
which therefore never counts anything that depends on how the signal was split into blocks.

All functions take Python ints or NumPy int64 arrays of them.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

INFINITE = None  # a receptive field without an end (recurrent layers)


@dataclass(frozen=True)
class FrameRule:
    """Which input frames a layer's output frame i reads, and where that frame stands.

    `wait`: how many input frames beyond the newest must have come before it is given (cropping: it might be one of the
    last). `position` is where output frame 0 stands, in input frames; frame i stands at position + i*down/up. `recurrent`: it
    also depends on every older frame. `beyond`: how many frames outside of `oldest` to `newest` those output frames may
    read that overlap the signal's ends (mirrored edges). `grid`: input frames count only in whole groups of so many.
    """

    up: int = 1
    down: int = 1
    oldest: int = 0
    newest: int = 0
    wait: int = 0
    tail: int = 0
    position: int = 0
    recurrent: bool = False
    beyond: int = 0
    grid: int = 1

    def ready(self, frames: int) -> int:
        """Return how many output frames the first `frames` input frames suffice for."""
        complete = frames // self.grid * self.grid
        return np.maximum(0, -((self.newest + self.wait - complete * self.up) // self.down))

    def total(self, frames: int) -> int:
        """Return how many output frames Keras gives for a whole signal of `frames`."""
        return np.maximum(0, (frames * self.up + self.tail) // self.down)

    def oldest_read(self, i: int) -> int:
        """Return the oldest input frame that output frame i reads (negative: padding)."""
        return (i * self.down + self.oldest) // self.up

    def newest_read(self, i: int) -> int:
        """Return the newest input frame that output frame i reads."""
        return (i * self.down + self.newest) // self.up


def window(span: int, stride: int, padding: str, frames: int) -> FrameRule:
    """Return the rule of a window of `span` frames that moves by `stride`, as Keras pads it.

    `frames`: the length of a signal of the class that it is for. Strided 'same' padding depends on it: Keras pads
    max((ceil(frames/stride) - 1)*stride + span - frames, 0) zeros, the smaller half of them on the left.
    """
    if padding == "causal":
        return FrameRule(1, stride, oldest=1 - span, newest=0, tail=stride - 1)
    if padding == "valid":
        return FrameRule(1, stride, oldest=0, newest=span - 1, tail=stride - span, position=span - 1)
    left = max((-(-frames // stride) - 1) * stride + span - frames, 0) // 2
    return FrameRule(1, stride, oldest=-left, newest=span - 1 - left, tail=stride - 1)


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
        unbounded = self.back is INFINITE or rule.recurrent
        return Timing(
            hop=self.hop * rule.down / rule.up,
            first=self.first + self.hop * rule.position,
            delay=self.delay + self.hop * (newest + rule.wait + rule.grid - 1),
            back=INFINITE if unbounded else self.back - self.hop * oldest,
            ahead=self.ahead + self.hop * newest,
        )

    @staticmethod
    def _lag(rule: FrameRule, edge: int, i: int) -> Fraction:
        """How many input frames after the position of output frame i the frame at `edge` stands."""
        return (i * rule.down + edge) // rule.up - (rule.position + Fraction(i * rule.down, rule.up))


def joined(timings: list[Timing]) -> Timing:
    """Return the timing of a join, whose frame i is made of the frames i of all its inputs, which have the same hop.

    It stands where the latest of them stands and is known when the last of them is: no delay is added to the least
    that is possible.
    """
    first = max(t.first for t in timings)
    known = max(t.first + t.delay for t in timings)
    unbounded = any(t.back is INFINITE for t in timings)
    return Timing(
        hop=timings[0].hop,
        first=first,
        delay=known - first,
        back=INFINITE if unbounded else max(t.back + first - t.first for t in timings),
        ahead=max(t.ahead - (first - t.first) for t in timings),
    )

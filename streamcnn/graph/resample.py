"""The record of a resampler, from one sample rate to another."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil
from typing import ClassVar

import numpy as np

from streamcnn.errors import GraphError, RateError
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.graph.layer import Layer
from streamcnn.graph.timing import FrameRule

STOPBAND_DB = 110.0
PASSBAND = 0.9  # of the lower rate's half
GROUP = 16  # taps come in whole groups, half of which lie on each side
MAX_UP = 4096
MAX_TAPS = 2**22


@dataclass(frozen=True, eq=False, kw_only=True)
class Resample(Layer):
    """`up` frames for every `down` frames, as a polyphase FIR: a sinc under a Kaiser window.

    Output frame m stands at input position m*down/up exactly. What lies below 0.9 of half the lower rate passes; what lies
    above half of it is at least 100 dB down, the mirror images that a resampler makes as well. It looks ahead by `half`
    frames.

    The window's shape and length: J. Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", 1974.
    """

    kind: ClassVar[str] = "Resample"
    any_rate: ClassVar[bool] = True
    up: int
    down: int

    def __post_init__(self):
        """Check the numbers."""
        self._check_whole("up", 1)
        self._check_whole("down", 1)
        if Fraction(self.up, self.down).numerator != self.up:
            raise GraphError(f"Resample: {self.up}/{self.down} is no fraction in lowest terms")
        if self.up > MAX_UP or 2 * self.half * self.up > MAX_TAPS:
            raise GraphError(
                f"Resample: by {self.up}/{self.down} it would need {2 * self.half * self.up} taps",
                "choose rates with a simpler ratio, or resample the file",
            )

    @cached_property
    def half(self) -> int:
        """How many input frames before and behind its own position an output frame sees."""
        lower = min(1.0, self.up / self.down)
        width = (1 - PASSBAND) / 2 * lower  # of the transition, in cycles an input frame
        return GROUP // 2 * ceil((STOPBAND_DB - 7.95) / 14.36 / width / GROUP)

    @cached_property
    def phases(self) -> np.ndarray:
        """The taps for each fraction of an input frame at which an output frame may stand: float32 (up, 2 * half).

        Tap k of phase p belongs to the input frame k - half + 1 after the one at or before the output frame.
        """
        lower = min(1.0, self.up / self.down)
        edge = (1 + PASSBAND) / 2 * lower
        t = np.arange(2 * self.half) - (self.half - 1) - np.arange(self.up)[:, None] / self.up
        beta = 0.1102 * (STOPBAND_DB - 8.7)
        window = np.i0(beta * np.sqrt(np.clip(1 - (t / self.half) ** 2, 0, None))) / np.i0(beta)
        taps = edge * np.sinc(edge * t) * window
        # Each phase passes a constant as it is: they would else differ by what the window lets through.
        return (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)

    def rule(self, frames: int) -> FrameRule:  # noqa: ARG002
        """Return which input frames each output frame reads."""
        oldest, newest = -(self.half - 1) * self.up, self.half * self.up
        return FrameRule(self.up, self.down, oldest=oldest, newest=newest, tail=self.down - 1)

    @property
    def parameters(self) -> int:
        """How many numbers its design gives."""
        return self.phases.size

    def macs(self, *shapes: tuple[int, ...]) -> int:
        """Return the multiplications of one output frame."""
        return 2 * self.half * shapes[0][0]

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the input's shape, which must be one of channels."""
        return (self._channels(shapes[0]),)


def resampler(rate: int, to: int, channels: int) -> Graph:
    """Return a net that brings a stream from a rate to another one, both in Hz.

    Raises RateError where their ratio is beyond reason.
    """
    ratio = Fraction(to, rate)
    try:
        layer = Resample(up=ratio.numerator, down=ratio.denominator)
    except GraphError as error:
        raise RateError(f"cannot resample from {rate} to {to} Hz: {error.message}", error.remedy) from error
    return Graph.sequential([layer], channels, NetInfo(name=f"resample-{rate}-{to}", rate=rate))

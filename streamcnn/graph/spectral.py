"""Records of spectral front ends: Fourier transforms of windowed frames, pairs of real and imaginary parts, pre-emphasis.

Rules. Frames overlap the signal's ends in one of four ways. `valid`: not at all, as torch and tf.signal frame. `end`: the
last ones go on into zeros. `zeros` and `reflect`: the middle of frame i stands at sample i * hop, and what lies
beyond the ends is zero, or the signal mirrored at its first and last sample.

Theory. A mirrored frame reads samples on the other side of the end that it overlaps, as far from it as the frame's own
rule reaches, or, where its length is even, one farther: at the start that one has to be waited for (`FrameRule.beyond`).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from streamcnn.errors import GraphError
from streamcnn.graph.layer import Layer, Shape, size
from streamcnn.graph.timing import FrameRule
from streamcnn.graph.timing import window as window_rule

MAX_FFT = 2**20
MAX_PRIME = 4096


def prime_factors(number: int) -> list[int]:
    """Return the primes that a number is the product of, in rising order."""
    factors, p = [], 2
    while number > 1:
        p = number if p * p > number else p
        while number % p == 0:
            factors, number = [*factors, p], number // p
        p += 1
    return factors


@dataclass(frozen=True, eq=False, kw_only=True)
class Spectrum(Layer):
    """The Fourier transform of windowed frames of a signal: of each channel its bins, from 0 Hz to half the rate.

    X[k] = sum over n of window[n] * x[i*hop + n] * exp(-2*pi*1j*k*n / fft_length), for k = 0 ... fft_length/2 (Oppenheim and
    Schafer, Discrete-Time Signal Processing, ch. 10). `by`: `magnitude` |X|, `power` |X|^2, or `complex`: each bin's real
    and imaginary part. `window`: (samples of a frame,). A frame of the output is (bins,) for one channel, else (channels,
    bins), with an axis of 2 behind it for `complex`.
    """

    kind: ClassVar[str] = "Spectrum"
    window: np.ndarray
    hop: int
    fft_length: int
    padding: str = "valid"
    by: str = "magnitude"

    def __post_init__(self):
        """Freeze the window, and check the options."""
        self._freeze("window", 1)
        self._check_whole("hop", 1)
        self._check_whole("fft_length", 1)
        if not self.span <= self.fft_length <= MAX_FFT:
            raise GraphError(
                f"Spectrum: fft_length is {self.fft_length}, expected {self.span}, a frame's length, to {MAX_FFT}"
            )
        prime = max(prime_factors(self.fft_length), default=1)
        if prime > MAX_PRIME:
            raise GraphError(
                f"Spectrum: fft_length is {self.fft_length}, which has the prime factor {prime}",
                "take a power of two: such a transform would take as many steps a bin",
            )
        self._check_choice("padding", ("valid", "end", "zeros", "reflect"))
        self._check_choice("by", ("magnitude", "power", "complex"))

    @property
    def span(self) -> int:
        """How many samples a frame has."""
        return len(self.window)

    @property
    def bins(self) -> int:
        """How many frequencies there are."""
        return self.fft_length // 2 + 1

    def rule(self, frames: int) -> FrameRule:
        """Return which input frames each output frame reads."""
        if self.padding == "valid":
            return window_rule(self.span, self.hop, "valid", frames)
        if self.padding == "end":
            return FrameRule(1, self.hop, newest=self.span - 1, tail=self.hop - 1)
        before, after = self.span // 2, (self.span - 1) // 2
        beyond = before - after if self.padding == "reflect" else 0
        tail = self.hop + 2 * before - self.span
        return FrameRule(1, self.hop, oldest=-before, newest=after, wait=beyond, tail=tail, beyond=beyond)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the channels, if there are several, the bins, and for `complex` an axis of 2."""
        channels = () if shapes[0] == (1,) else shapes[0]
        return (*channels, self.bins, *((2,) if self.by == "complex" else ()))

    def macs(self, *shapes: Shape) -> int:
        """Return about how many multiplications a frame takes."""
        return size(shapes[0]) * int(2.5 * self.fft_length * np.log2(max(2, self.fft_length)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Polar(Layer):
    """The `power` re^2 + im^2, or the `angle` atan2(im, re), of runs of `width` real parts before as many imaginary ones."""

    kind: ClassVar[str] = "Polar"
    by: str
    width: int

    def __post_init__(self):
        """Check the options."""
        self._check_choice("by", ("power", "angle"))
        self._check_whole("width", 1)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return half as many values."""
        if size(shapes[0]) % (2 * self.width):
            raise GraphError(f"Polar: frames of the shape {shapes[0]} do not divide into pairs of runs of {self.width}")
        return (size(shapes[0]) // 2,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Preemphasis(Layer):
    """A difference that lifts high frequencies: y[n] = x[n] - coefficient * x[n-1].

    `start`: (a, b) for y[0] = a * x[0] + b * x[1], since nothing comes before the first sample: (1, 0) is silence there, (1 -
    coefficient, 0) the first sample again, as HTK has it, (3, -1) what librosa does.
    """

    kind: ClassVar[str] = "Preemphasis"
    coefficient: float
    start: tuple[float, float] = (1.0, 0.0)

    def __post_init__(self):
        """Check the numbers."""
        numbers = (self.coefficient, *self.start)
        if len(numbers) != 3 or not all(isinstance(x, (int, float)) and abs(x) < float("inf") for x in numbers):
            raise GraphError(f"Preemphasis: coefficient and start are {numbers}, expected three finite numbers")
        object.__setattr__(self, "start", tuple(float(x) for x in self.start))

    def rule(self, frames: int) -> FrameRule:  # noqa: ARG002
        """Return which input frames each output frame reads."""
        beyond = int(self.start[1] != 0)
        return FrameRule(oldest=-1, newest=0, wait=beyond, beyond=beyond)

    def macs(self, *shapes: Shape) -> int:
        """Return the multiplications of one output frame."""
        return size(shapes[0])

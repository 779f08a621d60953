"""Spectral layers: the Fourier transform of frames, and what is done with real and imaginary parts.

Theory. The transform is Stockham's, in mixed radix, for any length: pass after pass, each taking one factor of the length, goes
back and forth between two buffers, and no reordering is left at the end (Van Loan, Computational Frameworks for the Fast
Fourier Transform, 1992, ch. 1.7). An even number N of real samples is taken as N/2 complex ones, from whose
transform Z follows

    X[k] = E + exp(-2*pi*1j*k/N) * O,   E = (Z[k] + conj(Z[N/2-k])) / 2,   O = (Z[k] - conj(Z[N/2-k])) / 2j.

All of it is float64: what a logarithm makes of a nearly silent bin next to a loud one is else mostly rounding.
The float64 scratch has the buffers; the tables of roots stand before it, so that CONSTANTS is negative.
"""

import math

import numpy as np

from streamcnn.compiler.build import operation
from streamcnn.compiler.kernel import doubles, floats, integers, kernel
from streamcnn.compiler.kernels.linear import place
from streamcnn.compiler.tables import (
    ANGLE,
    C_IN,
    C_OUT,
    COEFFICIENTS,
    COMPLEX,
    CONSTANTS,
    DOWN,
    FACTORS,
    FFT,
    NUMBERS,
    OLDEST,
    PAIRS,
    POWER,
    REFLECTED,
    RESULT,
    SPAN,
    SPECTRUM_WINDOW,
    WIDE,
)  # fmt: skip

ZERO = np.float32(0)


@kernel
def folded(at, frames):
    """Return which frame of a signal of so many stands mirrored at a place outside of it."""
    period = max(1, 2 * (frames - 1))
    at = abs(at) % period
    return at if at < frames else period - at


@kernel
def transform(factors, wide, roots, size, x, y):
    """Transform `size` complex values at x; return where the result is, x or y. `roots`: of exp(-2*pi*1j*k/size)."""
    n, stride = size, 1
    for f in range(factors[0]):
        p = factors[1 + f]
        q = n // p
        for j in range(q):
            for k in range(stride):
                source, target = x + 2 * (k + stride * j), y + 2 * (k + stride * p * j)
                apart, out = 2 * stride * q, 2 * stride
                if p == 2:
                    a, b = wide[source], wide[source + 1]
                    c, d = wide[source + apart], wide[source + apart + 1]
                    wide[target], wide[target + 1] = a + c, b + d
                    w = roots + 2 * (j * stride)
                    re, im = a - c, b - d
                    wide[target + out] = re * wide[w] - im * wide[w + 1]
                    wide[target + out + 1] = re * wide[w + 1] + im * wide[w]
                elif p == 4:
                    a, b = wide[source], wide[source + 1]
                    c, d = wide[source + apart], wide[source + apart + 1]
                    e, g = wide[source + 2 * apart], wide[source + 2 * apart + 1]
                    h, i = wide[source + 3 * apart], wide[source + 3 * apart + 1]
                    sum_re, sum_im, less_re, less_im = a + e, b + g, a - e, b - g
                    odd_re, odd_im, turn_re, turn_im = c + h, d + i, c - h, d - i
                    wide[target], wide[target + 1] = sum_re + odd_re, sum_im + odd_im
                    w = roots + 2 * (j * stride)
                    re, im = less_re + turn_im, less_im - turn_re
                    wide[target + out] = re * wide[w] - im * wide[w + 1]
                    wide[target + out + 1] = re * wide[w + 1] + im * wide[w]
                    w = roots + 2 * (2 * j * stride)
                    re, im = sum_re - odd_re, sum_im - odd_im
                    wide[target + 2 * out] = re * wide[w] - im * wide[w + 1]
                    wide[target + 2 * out + 1] = re * wide[w + 1] + im * wide[w]
                    w = roots + 2 * (3 * j * stride)
                    re, im = less_re - turn_im, less_im + turn_re
                    wide[target + 3 * out] = re * wide[w] - im * wide[w + 1]
                    wide[target + 3 * out + 1] = re * wide[w + 1] + im * wide[w]
                else:
                    for t in range(p):
                        re, im = 0.0, 0.0
                        for r in range(p):
                            w = roots + 2 * (r * t % p * (size // p))
                            a, b = wide[source + r * apart], wide[source + r * apart + 1]
                            re += a * wide[w] - b * wide[w + 1]
                            im += a * wide[w + 1] + b * wide[w]
                        w = roots + 2 * (j * t * stride)
                        wide[target + t * out] = re * wide[w] - im * wide[w + 1]
                        wide[target + t * out + 1] = re * wide[w + 1] + im * wide[w]
        n, stride = q, stride * p
        x, y = y, x
    return x


@operation
def spectrum(node, done, frames, available, zero, source, target):
    """Transform frames of each channel."""
    row = integers(node)
    channels, span, fft, result = row[C_IN], row[SPAN], row[FFT], row[RESULT]
    bins, even = fft // 2 + 1, fft % 2 == 0
    size = fft // 2 if even else fft
    wide, window, signal = doubles(row[WIDE]), floats(place(row, SPECTRUM_WINDOW)), floats(zero)
    factors = integers(row[NUMBERS] + 8 * row[FACTORS])
    x, roots = 0, row[CONSTANTS]
    halves = roots + 2 * size  # exp(-2*pi*1j*k/fft), where fft is even
    step = 1 if even else 2
    for t in range(frames):
        start = (done + t) * row[DOWN] + row[OLDEST]
        for c in range(channels):
            for n in range(2 * size):
                wide[x + n] = 0.0
            for n in range(span):
                at = start + n
                if row[REFLECTED] and (at < 0 or at >= available):
                    at = folded(at, available)
                wide[x + n * step] = np.float64(signal[at * channels + c]) * window[n]
            z = transform(factors, wide, roots, size, x, x + 2 * size)
            y = floats(target + 4 * (t * row[C_OUT] + c * (row[C_OUT] // channels)))
            for k in range(bins):
                this = z + 2 * (k if k < size else 0)  # bin `size` of a real signal is bin 0 of the packed one
                re, im = wide[this], wide[this + 1]
                if even:
                    other = z + 2 * (size - k if k > 0 else 0)
                    re2, im2 = wide[other], -wide[other + 1]
                    odd_re, odd_im = 0.5 * (im - im2), -0.5 * (re - re2)
                    w_re, w_im = wide[halves + 2 * k], wide[halves + 2 * k + 1]
                    re, im = (
                        0.5 * (re + re2) + (w_re * odd_re - w_im * odd_im),
                        0.5 * (im + im2) + (w_re * odd_im + w_im * odd_re),
                    )
                if result == COMPLEX:
                    y[2 * k], y[2 * k + 1] = np.float32(re), np.float32(im)
                else:
                    power = re * re + im * im
                    y[k] = np.float32(power if result == POWER else math.sqrt(power))


@operation
def polar(node, done, frames, available, zero, source, target):
    """Make powers or angles of runs of real parts and as many imaginary ones."""
    row = integers(node)
    width = row[PAIRS]
    for start in range(0, frames * row[C_OUT], width):
        x, y = floats(source + 8 * start), floats(target + 4 * start)
        if row[ANGLE]:
            for k in range(width):
                y[k] = np.float32(math.atan2(x[width + k], x[k]))
        else:
            for k in range(width):
                y[k] = x[k] * x[k] + x[width + k] * x[width + k]


@operation
def preemphasis(node, done, frames, available, zero, source, target):
    """Subtract a part of the sample before."""
    row = integers(node)
    channels, numbers = row[C_IN], floats(place(row, COEFFICIENTS))
    for t in range(frames):
        n = done + t
        x, y = floats(zero + 4 * n * channels), floats(target + 4 * t * channels)
        for c in range(channels):
            if n == 0:
                y[c] = numbers[1] * x[c]
                if available > 1:
                    y[c] += numbers[2] * x[c + channels]
            else:
                y[c] = x[c] - numbers[0] * x[c - channels]

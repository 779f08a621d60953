"""Convolutions with long kernels, by Fourier transforms of blocks.

Theory. The kernel is cut into partitions of B taps. B outputs of a partition are a cyclic convolution of its taps with 2*B
frames, those of a block and of the block before it, of which the second half is kept (overlap-save). All partitions work
with the same blocks, each at its own delay, so a block is transformed once, its spectrum is kept for as long as there are
partitions, products are added up as spectra, and one transform goes back (Gardner, Efficient convolution without
input-output delay, J. Audio Eng. Soc. 43(3), 1995). Blocks begin at the multiples of B of the input's own frame numbers, so
nothing depends on how the signal was split.

The partition of the newest taps needs frames of the block under way. It is computed directly, sample by sample (LEAD is 1),
or, for a layer that waits for whole blocks anyway, like the others (LEAD is 0).

2*B real frames are taken as B complex numbers, from whose transform Z their own follows (see `spectral`). Lanes of vectors
are channels, going forth, and outputs, coming back; a complex value is a vector of real parts and one of imaginary parts
behind it.
"""

import numpy as np

from streamcnn.compiler.build import operation
from streamcnn.compiler.kernel import floats, inlined, integers, kernel
from streamcnn.compiler.kernels.linear import place
from streamcnn.compiler.kernels.tiles import OPEN, product
from streamcnn.compiler.tables import (
    BIAS,
    BOUNDS,
    C_IN,
    C_OUT,
    KERNEL,
    LEAD,
    NOTHING_ADDED,
    OLDEST,
    PARTITION,
    PARTITIONS,
    ROOTS,
    SCRATCH,
    SPECTRA,
    STATE,
    TAPS,
)  # fmt: skip
from streamcnn.compiler.vector import BYTES, LANES, at_least, at_most, fma, load, store, store_first, vector_of

ZERO, HALF = np.float32(0), np.float32(0.5)
PAIR = 2 * BYTES  # bytes of a vector of complex values


@inlined
def turned(y, re, im, a, b, w):
    """Store the complex number a + ib, times the root of unity at w, with its parts at y + re and y + im."""
    c, d = vector_of(floats(w)[0]), vector_of(floats(w)[1])
    store(y + re, fma(a, c, -(b * d)))
    store(y + im, fma(a, d, b * c))


@kernel
def transform(x, y, roots, size, re, im):
    """Transform `size` complex numbers at x, a power of two; return where the result is, x or y.

    `roots`: of exp(-2*pi*1j*k/size). `re`, `im`: where the parts of a number are; the other way round this is the inverse
    transform, times `size`. Stockham's, as in `spectral`: four at a time, and, where one factor of two is left, two.
    """
    n, stride = size, 1
    while n > 1:
        p = 4 if n % 4 == 0 else 2
        q = n // p
        apart, out = PAIR * stride * q, PAIR * stride
        for j in range(q):
            w1 = roots + 8 * j * stride
            for k in range(stride):
                s, t = x + PAIR * (k + stride * j), y + PAIR * (k + stride * p * j)
                a, b = load(s + re), load(s + im)
                c, d = load(s + apart + re), load(s + apart + im)
                if p == 2:
                    store(t + re, a + c)
                    store(t + im, b + d)
                    turned(t + out, re, im, a - c, b - d, w1)
                    continue
                e, g = load(s + 2 * apart + re), load(s + 2 * apart + im)
                h, i = load(s + 3 * apart + re), load(s + 3 * apart + im)
                sum_re, sum_im, less_re, less_im = a + e, b + g, a - e, b - g
                odd_re, odd_im, turn_re, turn_im = c + h, d + i, c - h, d - i
                store(t + re, sum_re + odd_re)
                store(t + im, sum_im + odd_im)
                turned(t + out, re, im, less_re + turn_im, less_im - turn_re, w1)
                turned(t + 2 * out, re, im, sum_re - odd_re, sum_im - odd_im, w1 + 8 * j * stride)
                turned(t + 3 * out, re, im, less_re - turn_im, less_im + turn_re, w1 + 16 * j * stride)
        n, stride = q, stride * p
        x, y = y, x
    return x


@kernel
def spectrum_of_block(row, zero, block, available):
    """Transform the frames of a block and of the one before it, and keep the spectra (bins, partitions, channels).

    Frames from `available` on are taken for zeros, and so is all that is older than the signal.
    """
    size, c_in, partitions = row[PARTITION], row[C_IN], row[PARTITIONS]
    x, roots = row[SCRATCH], place(row, ROOTS)
    y = x + PAIR * (size + 1)
    halves = roots + 8 * size  # exp(-2*pi*1j*k/(2*size))
    first = (block - 1) * size
    for channel in range(0, c_in, LANES):
        for n in range(2 * size):
            at = first + n
            value = vector_of(ZERO)
            if at < available:
                value = load(zero + 4 * (at * c_in + channel))
            store(x + BYTES * n, value)
        z = transform(x, y, roots, size, 0, BYTES)
        for lane in range(min(LANES, c_in - channel)):
            kept = row[STATE] + 8 * ((block % partitions) * c_in + channel + lane)
            values = floats(z + 4 * lane)
            for k in range(size + 1):
                this, other = 2 * LANES * (k & (size - 1)), 2 * LANES * ((size - k) & (size - 1))
                re, im, re2, im2 = values[this], values[this + LANES], values[other], -values[other + LANES]
                odd_re, odd_im = HALF * (im - im2), -HALF * (re - re2)
                w_re, w_im = floats(halves)[2 * k], floats(halves)[2 * k + 1]
                bin_ = floats(kept + 8 * k * partitions * c_in)
                bin_[0] = HALF * (re + re2) + (w_re * odd_re - w_im * odd_im)
                bin_[1] = HALF * (im + im2) + (w_re * odd_im + w_im * odd_re)


@kernel
def sum_of_products(row, block, weights, k, target):
    """Add up the products of all partitions' spectra with those of their blocks, in bin k, for a vector of outputs."""
    c_in, partitions = row[C_IN], row[PARTITIONS]
    re, im = vector_of(ZERO), vector_of(ZERO)
    slot = block % partitions
    for _ in range(partitions):
        for c in range(c_in):
            x = floats(row[STATE] + 8 * ((k * partitions + slot) * c_in + c))
            a, b, x_re, x_im = load(weights), load(weights + BYTES), vector_of(x[0]), vector_of(x[1])
            re, im = fma(x_re, a, re), fma(x_re, b, im)
            re, im = fma(-x_im, b, re), fma(x_im, a, im)
            weights += PAIR
        slot = slot - 1 if slot > 0 else partitions - 1
    store(target, re)
    store(target + BYTES, im)


@kernel
def sums_of_block(row, block):
    """Make what the partitions add to the outputs of a block, from the spectra up to LEAD blocks before it."""
    size, c_in, c_out, partitions = row[PARTITION], row[C_IN], row[C_OUT], row[PARTITIONS]
    x, roots = row[SCRATCH], place(row, ROOTS)
    y, halves = x + PAIR * (size + 1), roots + 8 * size
    sums = row[STATE] + 8 * partitions * c_in * (size + 1)
    scale = np.float32(1) / np.float32(2 * size)
    for channel in range(0, c_out, LANES):
        bins = place(row, SPECTRA) + channel // LANES * (size + 1) * partitions * c_in * PAIR
        for k in range(size + 1):
            sum_of_products(row, block - row[LEAD], bins + k * partitions * c_in * PAIR, k, y + PAIR * k)
        for k in range(size):
            a, b = load(y + PAIR * k), load(y + PAIR * k + BYTES)
            c, d = load(y + PAIR * (size - k)), -load(y + PAIR * (size - k) + BYTES)
            w_re, w_im = vector_of(floats(halves)[2 * k]), vector_of(-floats(halves)[2 * k + 1])
            even_re, even_im, odd_re, odd_im = a + c, b + d, a - c, b - d
            turn_re, turn_im = fma(odd_re, w_re, -(odd_im * w_im)), fma(odd_re, w_im, odd_im * w_re)
            store(x + PAIR * k, even_re - turn_im)
            store(x + PAIR * k + BYTES, even_im + turn_re)
        z = transform(x, y, roots, size, BYTES, 0)
        for n in range(size):  # the second half; numbers of a pair are two frames
            store_first(sums + 4 * (n * c_out + channel), load(z + BYTES * (size + n)) * scale, c_out - channel)


@operation
def conv_long(node, done, frames, available, zero, source, target):
    """Convolve with a long kernel: the head directly, and of all else a block at a time."""
    row = integers(node)
    size, c_in, c_out, lead = row[PARTITION], row[C_IN], row[C_OUT], row[LEAD]
    sums = row[STATE] + 8 * row[PARTITIONS] * c_in * (size + 1)
    newest = row[OLDEST] + row[TAPS] - 1  # the frame that output 0 sees last
    head = lead * size
    low, high = floats(place(row, BOUNDS))[0], floats(place(row, BOUNDS))[1]
    t = 0
    while t < frames:
        at = done + t + newest
        block, inside = at // size, at % size
        now = min(frames - t, size - inside)
        if done + t == 0:
            for older in range(block - lead - row[PARTITIONS] + 1, block - lead):
                spectrum_of_block(row, zero, older, available)
        if done + t == 0 or inside == 0:
            spectrum_of_block(row, zero, block - lead, available)
            sums_of_block(row, block)
        y = target + 4 * t * c_out
        product(
            place(row, KERNEL), place(row, BIAS), 0, place(row, BOUNDS) + OPEN, place(row, NOTHING_ADDED),
            zero + 4 * (at - head + 1) * c_in, 4 * c_in, 4 * c_in, 4, c_in, head, y, 4 * c_out, c_out, now,
        )  # fmt: skip
        for k in range(0, now * c_out, LANES):
            value = load(y + 4 * k) + load(sums + 4 * (inside * c_out + k))
            store_first(y + 4 * k, at_most(at_least(value, low), high), now * c_out - k)
        t += now

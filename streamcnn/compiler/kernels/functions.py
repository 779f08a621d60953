"""Activation functions, by their number in `graph.functions`. NaN stays NaN, as in Keras."""

import math
from collections.abc import Callable

import numpy as np

from streamcnn.compiler.build import activation
from streamcnn.compiler.kernel import floats, kernel
from streamcnn.compiler.kernels.exponential import exp, sigmoid, tanh
from streamcnn.compiler.vector import LANES, load, store_first
from streamcnn.graph.functions import number

F32 = np.float32
ZERO, HALF, ONE = F32(0), F32(0.5), F32(1)
SELU_SCALE, SELU_ALPHA = F32(1.0507009873554805), F32(1.6732632423543772)
SQRT_HALF, GELU_SCALE, GELU_CUBE = F32(math.sqrt(0.5)), F32(math.sqrt(2 / math.pi)), F32(0.044715)
SOFTPLUS_LINEAR = F32(20)  # beyond it log(1 + exp(x)) is x in float32

LINEAR, RELU, SIGMOID, TANH = (number(name) for name in ("linear", "relu", "sigmoid", "tanh"))
(LEAKY_RELU, RELU6, ELU, SELU, CELU, SOFTPLUS, SOFTSIGN, SQUAREPLUS, SOFT_SHRINK, HARD_SHRINK, SPARSE_PLUS, SILU, GELU,
 TANH_SHRINK, THRESHOLD, SPARSE_SIGMOID, EXPONENTIAL, HARD_SIGMOID, HARD_SILU, HARD_TANH, MISH, LOG_SIGMOID, LOG, POWER) = (
    number(name) for name in (
        "leaky_relu", "relu6", "elu", "selu", "celu", "softplus", "softsign", "squareplus", "soft_shrink", "hard_shrink",
        "sparse_plus", "silu", "gelu", "tanh_shrink", "threshold", "sparse_sigmoid", "exponential", "hard_sigmoid",
        "hard_silu", "hard_tanh", "mish", "log_sigmoid", "log", "power",
    )
)  # fmt: skip
SOFTMAX, LOG_SOFTMAX, SPARSEMAX = (number(name) for name in ("softmax", "log_softmax", "sparsemax"))


@kernel
def softplus(x):
    """log(1 + exp(x)), without overflow."""
    if x > SOFTPLUS_LINEAR:
        return x
    return F32(math.log1p(exp(x)))


@kernel
def clipped(x, low, high):
    """X between two bounds; a NaN passes."""
    if x < low:
        return low
    if x > high:
        return high
    return x


@kernel
def relu(x, slope, limit, threshold):
    """Keras' relu with all its parameters."""
    if x > threshold:
        return limit if x > limit else x
    if x <= threshold:
        return ZERO if slope == ZERO else slope * (x - threshold)
    return x  # NaN


@kernel
def exponential_unit(x, alpha):
    """X where x >= 0, else alpha * (exp(x) - 1)."""
    if x < ZERO:
        return alpha * F32(math.expm1(x))
    return x


@kernel
def power(x, exponent, floor):
    """X, or the floor, if that is higher, to a power."""
    if x < floor:
        x = floor
    if exponent == HALF:
        return F32(math.sqrt(x))
    return F32(math.pow(np.float64(x), np.float64(exponent)))


@kernel
def value(function, p, q, r, x):
    """Apply a function to one value; p, q, r are its parameters."""
    if function == LINEAR:
        return x
    if function == RELU:
        return relu(x, p, q, r)
    if function == SIGMOID:
        return sigmoid(x)
    if function == TANH:
        return tanh(x)
    if function == LEAKY_RELU:
        return p * x if x < ZERO else x
    if function == RELU6:
        return clipped(x, ZERO, F32(6))
    if function == ELU:
        return exponential_unit(x, p)
    if function == SELU:
        return SELU_SCALE * exponential_unit(x, SELU_ALPHA)
    if function == CELU:
        return p * F32(math.expm1(x / p)) if x < ZERO else x
    if function == SOFTPLUS:
        return softplus(x)
    if function == SOFTSIGN:
        return x / (abs(x) + ONE)
    if function == SQUAREPLUS:
        return HALF * (x + F32(math.sqrt(x * x + p)))
    if function == SOFT_SHRINK:
        return x - clipped(x, -p, p)
    if function == HARD_SHRINK:
        return ZERO if -p <= x <= p else x
    if function == SPARSE_PLUS:
        if x >= ONE:
            return x
        inside = clipped(x, -ONE, ONE) + ONE
        return F32(0.25) * inside * inside
    if function == SILU:
        return x * sigmoid(x)
    if function == GELU:
        if p != ZERO:
            return HALF * x * (ONE + tanh(GELU_SCALE * (x + GELU_CUBE * x * x * x)))
        return HALF * x * (ONE + F32(math.erf(x * SQRT_HALF)))
    if function == TANH_SHRINK:
        return x - tanh(x)
    if function == THRESHOLD:
        return q if x <= p else x
    if function == SPARSE_SIGMOID:
        return clipped(HALF * (x + ONE), ZERO, ONE)
    if function == EXPONENTIAL:
        return exp(x)
    if function == HARD_SIGMOID:
        return clipped(x / F32(6) + HALF, ZERO, ONE)
    if function == HARD_SILU:
        return x * clipped(x / F32(6) + HALF, ZERO, ONE)
    if function == HARD_TANH:
        return clipped(x, -ONE, ONE)
    if function == LOG:
        return q * F32(math.log(p if x < p else x)) + r
    if function == POWER:
        return power(x, p, q)
    if function == MISH:
        return x * tanh(softplus(x))
    return -softplus(-x)  # LOG_SIGMOID


@kernel
def softmax(logarithmic, y, width):
    """Softmax, or its logarithm, of one run of values, in place."""
    top = y[0]
    for k in range(1, width):
        if not y[k] <= top:
            top = y[k]
    if logarithmic:
        total = ZERO
        for k in range(width):
            y[k] -= top
            total += exp(y[k])
        log_total = F32(math.log(total))
        for k in range(width):
            y[k] -= log_total
        return
    for k in range(width):
        y[k] = exp(y[k] - top)
    total = ZERO
    for k in range(width):
        total += y[k]
    for k in range(width):
        y[k] /= total


@kernel
def sparsemax(y, scratch, width):
    """Sparsemax of one run of values, in place, as Keras has it; see `forward.py`. The scratch holds them in falling order."""
    for k in range(width):
        x, place = y[k], k
        while place > 0 and not scratch[place - 1] >= x:
            scratch[place] = scratch[place - 1]
            place -= 1
        scratch[place] = x
    total, totals, support = ZERO, ZERO, 0
    for k in range(width):
        total += scratch[k]
        if not scratch[k] - (total - ONE) / F32(k + 1) <= ZERO:
            totals += total
            support += 1
    tau = (totals - ONE) / F32(support)
    for k in range(width):
        over = y[k] - tau
        y[k] = ZERO if over < ZERO else over


@activation
def apply_common(function, arguments, values, size, width, scratch):
    """Apply one of the most common functions to `size` values in place, vector by vector."""
    for k in range(0, size, LANES):
        x = load(values + 4 * k)
        if function == SIGMOID:
            y = sigmoid(x)
        else:
            y = tanh(x)
        store_first(values + 4 * k, y, size - k)


@activation
def apply_value(function, arguments, values, size, width, scratch):
    """Apply any function of one value to `size` values in place."""
    y, parameters = floats(values), floats(arguments)
    p, q, r = parameters[0], parameters[1], parameters[2]
    for k in range(size):
        y[k] = value(function, p, q, r, y[k])


@activation
def apply_run(function, arguments, values, size, width, scratch):
    """Apply softmax, or one of its kin, to each run of `width` of `size` values, in place."""
    for start in range(0, size, width):
        y = floats(values + 4 * start)
        if function == SPARSEMAX:
            sparsemax(y, floats(scratch), width)
        else:
            softmax(function == LOG_SOFTMAX, y, width)


def code_for(function: int) -> Callable[[], int] | None:
    """Return what makes the machine code for a function, None for the one that changes nothing."""
    if function == LINEAR:
        return None
    if function == SIGMOID or function == TANH:
        return apply_common
    return apply_value if function < SOFTMAX else apply_run

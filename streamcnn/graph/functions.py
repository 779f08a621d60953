"""The functions of values, by Keras' names for its activations, with the defaults of their parameters.

A function that works on each value by itself has a number (its place in `POINTWISE`), which the compiled kernels know it
by. The others work on the last axis of a frame.
"""

POINTWISE: dict[str, tuple[float, ...]] = {
    "linear": (),
    "relu": (0.0, float("inf"), 0.0),  # negative_slope, max_value, threshold
    "sigmoid": (),
    "tanh": (),
    "leaky_relu": (0.2,),
    "relu6": (),
    "elu": (1.0,),
    "selu": (),
    "celu": (1.0,),
    "softplus": (),
    "softsign": (),
    "squareplus": (4.0,),
    "soft_shrink": (0.5,),
    "hard_shrink": (0.5,),
    "sparse_plus": (),
    "silu": (),
    "gelu": (0.0,),  # approximate: 1 for the tanh formula
    "tanh_shrink": (),
    "threshold": (0.0, 0.0),  # threshold, value below it
    "sparse_sigmoid": (),
    "exponential": (),
    "hard_sigmoid": (),
    "hard_silu": (),
    "hard_tanh": (),
    "mish": (),
    "log_sigmoid": (),
    "log": (0.0, 1.0, 0.0),  # floor, scale, offset: scale * log(max(x, floor)) + offset
    "power": (1.0, 0.0),  # exponent, floor: max(x, floor) ** exponent
}
OVER_CHANNELS = ("softmax", "log_softmax", "sparsemax")
MAX_PARAMETERS = 3

_POINTWISE_NAMES = tuple(POINTWISE)


def number(function: str) -> int:
    """Return the number by which the kernels know a function."""
    if function in POINTWISE:
        return _POINTWISE_NAMES.index(function)
    return len(POINTWISE) + OVER_CHANNELS.index(function)


def defaults(function: str) -> tuple[float, ...]:
    """Return the defaults of a function's parameters."""
    return POINTWISE.get(function, ())


def is_known(function: str) -> bool:
    """Whether there is a function of that name."""
    return function in POINTWISE or function in OVER_CHANNELS

"""What each Keras layer becomes: a short chain of layer records, or an error that says why not.

Rules. A layer is read through its attributes only; Keras itself is not imported here. A tensor is (batch, time, ...): axis 1
is time, and the rest is the shape of a frame. Every layer of Keras is in exactly one table: `RECORDS` or `MERGES` here, or
one of those in `keras_refusals`.
"""

from collections.abc import Callable

import numpy as np

from streamcnn.errors import GraphError, UnsupportedLayerError
from streamcnn.graph import layers as L
from streamcnn.graph.functions import is_known
from streamcnn.graph.layer import Shape, size
from streamcnn.importers.keras_context import Chain, Context, NeedsClipError, array, check_layer, is_of_keras
from streamcnn.importers.keras_refusals import CLIP_ONLY, CLIP_REMEDY, REFUSED, UNKNOWN, VANISHING, remedy
from streamcnn.importers.keras_spectral import SPECTRAL

UNIT_EPSILON = 1e-24  # Keras keeps the norm itself from falling below 1e-12
TIME = 1  # the axis of time in a Keras tensor


def records(layer: object, context: Context) -> Chain:
    """Return the chain of records of one Keras layer with one input.

    Raises UnsupportedLayerError for what does not stream exactly, GraphError for weights that do not fit.
    """
    kind = type(layer).__name__
    check_layer(layer)
    if kind in CLIP_ONLY:
        raise NeedsClipError(layer.name, f"{kind} {CLIP_ONLY[kind]}", CLIP_REMEDY)
    if kind not in RECORDS:
        raise UnsupportedLayerError(layer.name, f"{kind} {REFUSED.get(kind, UNKNOWN)}", remedy(kind))
    if not context.shape and kind != "Reshape":
        raise NeedsClipError(
            layer.name,
            f"{kind} sees the whole signal as one vector",
            f"begin the model with Input((None, channels)), or {CLIP_REMEDY}",
        )
    try:
        return RECORDS[kind](layer, context)
    except GraphError as error:
        raise GraphError(f"layer '{layer.name}': {error.message}", error.remedy) from None
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise UnsupportedLayerError(
            layer.name,
            f"{kind} has options that this version does not know ({error})",
            "use plainer ones, or another version of Keras",
        ) from error


def one(record: L.Layer) -> Chain:
    """Return a chain of one record, under the layer's own name."""
    return [("", record)]


def activated(layer: object, context: Context, make: Callable[[str], L.Layer]) -> Chain:
    """Return a record with its activation inside, or, for those that are layers of their own, behind it."""
    function = layer.activation
    name = context.builtin(function)
    if name is not None and is_known(name) and name != "threshold":
        return one(make(name))
    record = make("linear")
    behind = context._replace(shape=record.output_shape(context.shape))
    return [("", record), *renamed("activation", _function(layer, function, behind))]


def _function(layer: object, function: object, context: Context) -> Chain:
    name = context.builtin(function)
    if name == "glu":
        return one(L.GLU())
    if name is not None and is_known(name) and name != "threshold":
        return one(L.Activation(activation=name))
    if type(function).__name__ in RECORDS and hasattr(function, "get_config"):  # a layer in the place of a function
        return records(function, context)
    shown = getattr(function, "__name__", type(function).__name__)
    raise UnsupportedLayerError(
        layer.name, f"its activation '{shown}' is not one of Keras' own", "use one that keras.activations has"
    )


def renamed(prefix: str, chain: Chain) -> Chain:
    """Return a chain as a part of another one."""
    return [(f"/{prefix}{suffix}", record) for suffix, record in chain]


def _conv1d(layer: object, context: Context) -> Chain:
    def make(activation: str) -> L.Layer:
        return L.Conv1D(
            kernel=array(layer.kernel),
            bias=array(layer.bias),
            padding=layer.padding,
            stride=int(layer.strides[0]),
            dilation=int(layer.dilation_rate[0]),
            groups=int(layer.groups),
            activation=activation,
        )

    return activated(layer, context, make)


def _depthwise(layer: object, kernel: object, bias: object, activation: str) -> L.Conv1D:
    """A depthwise convolution is one in as many groups as there are channels."""
    kernel = array(kernel)
    taps, channels, multiplier = kernel.shape
    return L.Conv1D(
        kernel=kernel.reshape(taps, 1, channels * multiplier),
        bias=array(bias),
        padding=layer.padding,
        stride=int(layer.strides[0]),
        dilation=int(layer.dilation_rate[0]),
        groups=channels,
        activation=activation,
    )


def _depthwise_conv1d(layer: object, context: Context) -> Chain:
    return activated(layer, context, lambda activation: _depthwise(layer, layer.kernel, layer.bias, activation))


def _separable_conv1d(layer: object, context: Context) -> Chain:
    depthwise = _depthwise(layer, layer.depthwise_kernel, None, "linear")
    between = context._replace(shape=depthwise.output_shape(context.shape))

    def make(activation: str) -> L.Layer:
        return L.Conv1D(kernel=array(layer.pointwise_kernel), bias=array(layer.bias), activation=activation)

    return [("/depthwise", depthwise), *renamed("pointwise", activated(layer, between, make))]


def _conv1d_transpose(layer: object, context: Context) -> Chain:
    stride, dilation, extra = int(layer.strides[0]), int(layer.dilation_rate[0]), None
    kernel = array(layer.kernel)
    span = (kernel.shape[0] - 1) * dilation + 1
    given = getattr(layer, "output_padding", None)
    if given is not None:
        given = int(given[0] if isinstance(given, (tuple, list)) else given)
        extra = (span if layer.padding == "valid" else span % 2) + given - stride

    def make(activation: str) -> L.Layer:
        return L.Conv1DTranspose(
            kernel=kernel,
            bias=array(layer.bias),
            padding=layer.padding,
            stride=stride,
            dilation=dilation,
            extra_frames=extra,
            activation=activation,
        )

    return activated(layer, context, make)


def _dense(layer: object, context: Context) -> Chain:
    return activated(
        layer,
        context,
        lambda activation: L.Dense(kernel=array(layer.kernel), bias=array(layer.bias), activation=activation),
    )


def _time_distributed(layer: object, context: Context) -> Chain:
    inner = layer.layer
    kind = type(inner).__name__
    check_layer(inner)
    if kind == "Flatten":
        return one(_reframed(context.shape, (size(context.shape),)))
    if kind == "Reshape":
        return one(_reframed(context.shape, _resolved(tuple(int(n) for n in inner.target_shape), size(context.shape))))
    if kind in VANISHING:
        return []
    if kind not in FRAME_WISE:
        raise UnsupportedLayerError(
            layer.name, f"TimeDistributed({kind}) works inside each frame", f"wrap one of {', '.join(FRAME_WISE)}"
        )
    return records(inner, context._replace(leading=1))


def _pooling(by: str) -> Callable[[object, Context], Chain]:
    def make(layer: object, _context: Context) -> Chain:
        pool, stride = int(layer.pool_size[0]), int(layer.strides[0])
        return one(L.Pooling1D(by=by, pool=pool, stride=stride, padding=layer.padding))

    return make


def _padding(layer: object, _context: Context) -> Chain:
    left, right = layer.padding
    return one(L.ZeroPadding1D(left=int(left), right=int(right)))


def _cropping(layer: object, _context: Context) -> Chain:
    left, right = layer.cropping
    return one(L.Cropping1D(left=int(left), right=int(right)))


def _affine(scale: np.ndarray, offset: np.ndarray, shape: Shape) -> Chain:
    """Return x*scale + offset, both broadcast to a frame of this shape."""
    return one(L.Affine(scale=_spread(scale, shape), offset=_spread(offset, shape)))


def _spread(values: np.ndarray, shape: Shape) -> np.ndarray:
    """Return values broadcast to a frame of this shape, flat; axes of length 1 before a frame's own may be there."""
    values = np.asarray(values, np.float64)
    while values.ndim > len(shape) and values.shape[0] == 1:
        values = values[0]
    return np.broadcast_to(values, shape).ravel()


def _within_frames(layer: object, values: object, context: Context) -> np.ndarray:
    """Return values that are broadcast against the model's tensor as they stand in a frame; not along time."""
    values = context.behind_time(np.asarray(values, np.float64))
    if context.leading > TIME and values.shape[TIME] != 1:
        raise NeedsClipError(
            layer.name, f"it has values of its own for each of {values.shape[TIME]} frames", CLIP_REMEDY
        )
    return _spread(values[0, 0] if context.leading > TIME else values[0], context.shape)


def _batch_normalization(layer: object, context: Context) -> Chain:
    axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
    _need_last_axis(layer, axis, context)
    mean, variance = array(layer.moving_mean).astype(np.float64), array(layer.moving_variance).astype(np.float64)
    scale = 1 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * array(layer.gamma)
    offset = -mean * scale
    return _affine(scale, offset + array(layer.beta) if layer.center else offset, context.shape)


def _normalization(layer: object, context: Context) -> Chain:
    if any(context.axis(axis) < context.leading for axis in layer.axis):
        raise NeedsClipError(layer.name, "it normalizes along time", CLIP_REMEDY)
    mean, variance = (_within_frames(layer, array(v), context) for v in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), 1e-7)  # keras.config.epsilon(), as Keras divides
    if getattr(layer, "invert", False):
        return one(L.Affine(scale=deviation, offset=mean))
    return one(L.Affine(scale=1 / deviation, offset=np.zeros(len(mean)), center=mean))


def _rescaling(layer: object, context: Context) -> Chain:
    scale, offset = (_within_frames(layer, values, context) for values in (layer.scale, layer.offset))
    return one(L.Affine(scale=scale, offset=offset))


def _normalization_along_axes(layer: object, context: Context) -> Chain:
    return one(normalization(layer, _trailing_width(layer, layer.axis, context), context.leading + len(context.shape)))


def normalization(layer: object, width: int, rank: int) -> L.Normalize:
    """Return the record of a layer that normalizes runs of `width` values of a tensor of so many axes, the batch included.

    Layer, RMS or unit normalization.
    """
    if getattr(layer, "rms_scaling", False):
        raise UnsupportedLayerError(
            layer.name, "rms_scaling is deprecated, and divides by the variance about the mean", "use RMSNormalization"
        )
    match type(layer).__name__:
        case "LayerNormalization":
            by, scale, offset = "layer", getattr(layer, "gamma", None), getattr(layer, "beta", None)
        case "RMSNormalization":
            axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
            if sorted(axis % rank for axis in axes) != list(range(rank - len(axes), rank)):
                raise UnsupportedLayerError(
                    layer.name,
                    f"it normalizes along the axes {list(axes)}, but Keras applies its scale along the last ones",
                    "bring those axes to the end with a Permute, or use LayerNormalization",
                )
            by, scale, offset = "rms", layer.scale, None
        case _:
            return L.Normalize(by="unit", width=width, epsilon=UNIT_EPSILON)
    flat = [None if value is None else array(value).ravel() for value in (scale, offset)]
    return L.Normalize(by=by, width=width, epsilon=float(layer.epsilon), scale=flat[0], offset=flat[1])


def _need_last_axis(layer: object, axis: int, context: Context) -> None:
    axis = context.axis(axis)
    if axis != context.leading + len(context.shape) - 1:
        where = "time" if axis == TIME and context.leading > TIME else f"axis {axis}"
        raise NeedsClipError(layer.name, f"it works along {where}", f"use axis=-1, or {CLIP_REMEDY}")


def _trailing_width(layer: object, axis: int | list[int], context: Context) -> int:
    """Return how many values lie along the given axes, which must be the last ones of a frame."""
    rank = context.leading + len(context.shape)
    axes = sorted(context.axis(a) for a in (axis if isinstance(axis, (list, tuple)) else [axis]))
    if axes != list(range(rank - len(axes), rank)) or axes[0] < context.leading:
        along = "time, which needs the whole signal" if TIME in axes and context.leading > TIME else f"the axes {axes}"
        raise NeedsClipError(layer.name, f"it normalizes along {along}", f"use axis=-1, or {CLIP_REMEDY}")
    return size(context.shape[axes[0] - context.leading :])


def _recurrent(layer: object, context: Context) -> Chain:
    if not layer.return_sequences:
        raise NeedsClipError(layer.name, f"{type(layer).__name__} returns its last state only", CLIP_REMEDY)
    if layer.go_backwards:
        raise NeedsClipError(layer.name, "it runs backwards from the signal's end", CLIP_REMEDY)
    return cells(layer, context)


def cells(layer: object, context: Context) -> Chain:
    """Return the records of a recurrent layer that runs forwards and returns every state."""
    cell = layer.cell
    cells = cell.cells if type(cell).__name__ == "StackedRNNCells" else [cell]
    if not all(is_of_keras(cell) and type(cell).__name__ in _CELLS for cell in cells):
        raise UnsupportedLayerError(layer.name, "its cell is not one of Keras' own", "use GRU, LSTM or SimpleRNN")
    made = [_CELLS[type(cell).__name__](layer, cell, context) for cell in cells]
    return one(made[0]) if len(made) == 1 else [(f"/{k}", record) for k, record in enumerate(made)]


def _cell(record: type[L.Layer]) -> Callable[[object, object, Context], L.Layer]:
    def make(layer: object, cell: object, context: Context) -> L.Layer:
        options = {"activation": cell.activation, "gate": getattr(cell, "recurrent_activation", None)}
        names = {}
        for option, function in options.items():
            if function is None:
                continue
            names[option] = context.builtin(function)
            if names[option] is None or not is_known(names[option]):
                raise UnsupportedLayerError(layer.name, f"its {option} function is not one of Keras' own", "use tanh")
        extra = {"reset_after": cell.reset_after} if hasattr(cell, "reset_after") else {}
        bias = array(cell.bias) if cell.use_bias else None
        kernels = {"kernel": array(cell.kernel), "recurrent_kernel": array(cell.recurrent_kernel)}
        return record(**kernels, bias=bias, **names, **extra)

    return make


_CELLS = {"GRUCell": _cell(L.GRU), "LSTMCell": _cell(L.LSTM), "SimpleRNNCell": _cell(L.SimpleRNN)}


def _activation(layer: object, context: Context) -> Chain:
    return _function(layer, layer.activation, context)


def _relu(layer: object, _context: Context) -> Chain:
    limit = float("inf") if layer.max_value is None else layer.max_value
    return one(L.Activation(activation="relu", settings=(layer.negative_slope or 0.0, limit, layer.threshold or 0.0)))


def _softmax(layer: object, context: Context) -> Chain:
    axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) and len(layer.axis) == 1 else layer.axis
    _need_last_axis(layer, axis, context)
    return one(L.Activation(activation="softmax"))


def _prelu(layer: object, context: Context) -> Chain:
    alpha = array(layer.alpha)
    if alpha.shape[0] != 1:
        raise NeedsClipError(
            layer.name,
            f"it has a slope of its own for each of {alpha.shape[0]} frames",
            f"use shared_axes=[1], or {CLIP_REMEDY}",
        )
    return one(L.PReLU(slope=np.broadcast_to(alpha[0], context.shape).ravel()))


def _reframed(before: Shape, after: Shape) -> L.Layer:
    """Return the record that gives frames another shape, in the order of their values."""
    if size(before) != size(after):
        raise GraphError(f"frames of the shape {before} cannot have the shape {after}")
    return L.Reshape(shape=after)


def _resolved(target: Shape, values: int) -> Shape:
    """Return a Reshape's target with its -1 filled in, for so many values."""
    known = size(tuple(n for n in target if n != -1))
    return tuple(values // known if n == -1 else n for n in target)


def _reshape(layer: object, context: Context) -> Chain:
    """Keep time as the first axis; what it loses or gains must be whole frames."""
    target, values = tuple(int(n) for n in layer.target_shape), size(context.shape)
    frames, shape = target[0], target[1:]
    if context.frames is not None:
        resolved = _resolved(target, context.frames * values)
        if size(resolved) != context.frames * values:
            raise GraphError(f"{context.frames} frames of the shape {context.shape} cannot be reshaped to {target}")
        frames, *shape = resolved
    elif frames != -1 or -1 in shape:
        raise NeedsClipError(
            layer.name,
            f"the target {target} fixes the length of a signal of any length",
            f"begin it with -1, or {CLIP_REMEDY}",
        )
    shape = tuple(shape) or (1,)
    if size(shape) == values:
        return one(_reframed(context.shape or (1,), shape))
    if size(shape) % values == 0:
        return one(L.Stack(frames=size(shape) // values, shape=shape))
    if values % size(shape) == 0:
        return one(L.Unstack(frames=values // size(shape), shape=shape))
    raise NeedsClipError(
        layer.name, f"the target {target} cuts frames of {values} values apart", f"keep frames whole, or {CLIP_REMEDY}"
    )


RECORDS: dict[str, Callable[[object, Context], Chain]] = {
    "Activation": _activation,
    "AveragePooling1D": _pooling("average"),
    "BatchNormalization": _batch_normalization,
    "Conv1D": _conv1d,
    "Conv1DTranspose": _conv1d_transpose,
    "Cropping1D": _cropping,
    "Dense": _dense,
    "DepthwiseConv1D": _depthwise_conv1d,
    "ELU": lambda layer, _: one(L.Activation(activation="elu", settings=(layer.alpha,))),
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "LayerNormalization": _normalization_along_axes,
    "LeakyReLU": lambda layer, _: one(L.Activation(activation="leaky_relu", settings=(layer.negative_slope,))),
    "MaxPooling1D": _pooling("max"),
    "Normalization": _normalization,
    "PReLU": _prelu,
    "RMSNormalization": _normalization_along_axes,
    "RNN": _recurrent,
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "SeparableConv1D": _separable_conv1d,
    "SimpleRNN": _recurrent,
    "Softmax": _softmax,
    "TimeDistributed": _time_distributed,
    "UnitNormalization": _normalization_along_axes,
    "UpSampling1D": lambda layer, _: one(L.Repeat(times=int(layer.size))),
    "ZeroPadding1D": _padding,
    **SPECTRAL,
}
FRAME_WISE = ("Activation", "BatchNormalization", "Dense", "ELU", "LayerNormalization", "LeakyReLU", "Normalization",
               "RMSNormalization", "ReLU", "Rescaling", "Softmax", "UnitNormalization")  # fmt: skip

MERGES = {
    "Add": "add",
    "Subtract": "subtract",
    "Multiply": "multiply",
    "Average": "average",
    "Maximum": "maximum",
    "Minimum": "minimum",
}
JOINS = (*MERGES, "Concatenate")

"""Random graphs, the same ones as Keras models, and signals for them."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from streamcnn.graph import layers as L
from streamcnn.graph.functions import OVER_CHANNELS, POINTWISE
from streamcnn.graph.graph import INPUT, Graph, Node
from streamcnn.graph.layer import size

# Without those that explode, those that jump (where a value lies within rounding of a jump, no two computations agree),
# and the one that cancels: x - tanh(x) of a small x is mostly rounding, which a normalization behind it magnifies.
UNSTEADY = ("exponential", "threshold", "hard_shrink", "sparsemax", "tanh_shrink")
# Those that spectra are brought to scale with are no activations of Keras.
OF_SPECTRA = ("log", "power")
FUNCTIONS = [name for name in (*POINTWISE, *OVER_CHANNELS) if name not in (*UNSTEADY, *OF_SPECTRA)]
# Normalizations of nearly equal channels magnify rounding too, by one over the root of this.
EPSILON = 0.1


class Builder:
    """Grows a graph node by node; every choice is drawn from hypothesis, so that failures shrink."""

    def __init__(self, draw: Callable, channels: int, *, of_keras: bool, of_clip: bool):
        self.draw, self.of_keras, self.of_clip = draw, of_keras, of_clip
        self.random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.channels = self.input_channels = channels
        self.hop = Fraction(1)
        self.nodes: list[Node] = []
        self.name = INPUT

    def weights(self, *shape: int, fan_in: int | None = None) -> np.ndarray:
        """Return random weights that keep the signal's size about the same."""
        fan_in = fan_in or max(1, int(np.prod(shape[:-1])))
        return (self.random.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32)

    def maybe(self, *shape: int) -> np.ndarray | None:
        """Return weights, or None."""
        return self.weights(*shape) * 0.3 if self.draw(st.booleans()) else None

    def add(self, layer: L.Layer, *inputs: str) -> str:
        """Append a node that reads `inputs`, or the last one."""
        self.name = f"n{len(self.nodes)}"
        inputs = inputs or (self.nodes[-1].name if self.nodes else INPUT,)
        self.nodes.append(Node(self.name, layer, inputs))
        return self.name

    def grow(self) -> None:
        """Append one random step."""
        conv = ["conv"] * 3
        steps = [*conv, "dense", "function", "pool", "norm", "move", "branch", "transpose", "rnn", "plane"]
        steps += [] if self.of_keras else ["spectrum", "pair"]
        steps += [] if self.of_keras or self.of_clip else ["correlation"]
        getattr(self, self.draw(st.sampled_from(steps)))()

    def function_name(self) -> str:
        """Draw an activation, the plain ones more often."""
        return self.draw(st.sampled_from(["linear", "relu", "tanh", "sigmoid", *FUNCTIONS]))

    def conv(self, padding: str | None = None, stride: int | None = None, filters: int | None = None) -> None:
        """Convolve."""
        draw, c = self.draw, self.channels
        groups = draw(st.sampled_from([g for g in (1, 1, 1, 2, 3, c) if c % g == 0]))
        filters = filters or groups * draw(st.sampled_from([1, 2, 3, 9]))
        groups = groups if filters % groups == 0 else 1
        stride = stride or self.stride()
        taps = draw(st.integers(1, 7))
        layer = L.Conv1D(
            kernel=self.weights(taps, c // groups, filters, fan_in=taps * c // groups),
            bias=self.maybe(filters),
            padding=padding or draw(st.sampled_from(["causal", "valid", "same"])),
            stride=stride,
            dilation=1 if stride > 1 else draw(st.sampled_from([1, 1, 2, 5])),
            groups=groups,
            activation=self.function_name(),
        )
        self.add(layer, *([self.name] if self.nodes else []))
        self.channels, self.hop = filters, self.hop * stride

    def stride(self) -> int:
        """Draw a stride that keeps the total hop small."""
        return self.draw(st.sampled_from([1, 1, 1, 2, 3])) if self.hop < 12 else 1

    def dense(self) -> None:
        """Multiply with a matrix."""
        units = self.draw(st.sampled_from([1, 2, 4, 10]))
        kernel = self.weights(self.channels, units)
        self.add(L.Dense(kernel=kernel, bias=self.maybe(units), activation=self.function_name()))
        self.channels = units

    def function(self) -> None:
        """Apply something pointwise."""
        if self.channels % 2 == 0 and self.draw(st.booleans()):
            self.add(L.GLU())
            self.channels //= 2
        elif self.draw(st.booleans()):
            self.add(L.PReLU(slope=self.weights(self.channels, fan_in=4)))
        else:
            self.add(L.Activation(activation=self.function_name()))

    def pool(self) -> None:
        """Pool."""
        by, padding = self.draw(st.sampled_from(["max", "average"])), self.draw(st.sampled_from(["valid", "same"]))
        stride = self.stride()
        self.add(L.Pooling1D(by=by, pool=self.draw(st.integers(1, 5)), stride=stride, padding=padding))
        self.hop *= stride

    def norm(self) -> None:
        """Normalize, or scale."""
        c = self.channels
        by = self.draw(st.sampled_from(["layer", "rms", "unit", "affine"]))
        if by == "affine":
            self.add(L.Affine(scale=1 + self.weights(c, fan_in=9), offset=self.weights(c, fan_in=9)))
        else:
            scale, offset = (None, None) if by == "unit" else (self.maybe(c), self.maybe(c) if by == "layer" else None)
            self.add(
                L.Normalize(by=by, width=c, epsilon=1e-12 if by == "unit" else EPSILON, scale=scale, offset=offset)
            )

    def move(self) -> None:
        """Pad, crop, repeat, stack, or shuffle channels."""
        draw, c = self.draw, self.channels
        kind = draw(st.sampled_from(["pad", "crop", "repeat", "stack", "unstack", "select"]))
        if kind == "pad":
            self.add(L.ZeroPadding1D(left=draw(st.integers(0, 6)), right=draw(st.integers(0, 6))))
        elif kind == "crop":
            self.add(L.Cropping1D(left=draw(st.integers(0, 4)), right=draw(st.integers(0, 4))))
        elif kind == "repeat" and self.hop.numerator % 2 == 0:
            self.add(L.Repeat(times=2))
            self.hop /= 2
        elif kind == "stack" and self.hop < 12:
            self.add(L.Stack(frames=2, shape=(2 * c,)))
            self.channels, self.hop = 2 * c, self.hop * 2
        elif kind == "unstack" and self.hop.numerator % 2 == 0 and c % 2 == 0:
            self.add(L.Unstack(frames=2, shape=(c // 2,)))
            self.channels, self.hop = c // 2, self.hop / 2
        else:
            places = tuple(self.random.permutation(c).tolist())
            self.add(L.Select(indices=places, shape=(c,)))

    def plane(self) -> None:
        """Convolve and pool channels as bands and channels."""
        draw, c = self.draw, self.channels
        bands = draw(st.sampled_from([b for b in (c, 1, 2, 3, 5) if c % b == 0]))
        self.add(L.Reshape(shape=(bands, c // bands)))
        inputs, stride, padding = c // bands, self.stride(), draw(st.sampled_from(["valid", "same"]))
        groups = draw(st.sampled_from([1, inputs]))
        filters = groups * draw(st.sampled_from([1, 2, 9]))
        taps, band_taps = draw(st.integers(1, 3)), min(bands, draw(st.integers(1, 3)))
        band_stride = stride if stride > 1 or taps > 1 else draw(st.sampled_from([1, 2]))
        layer = L.Conv2D(
            kernel=self.weights(taps, band_taps, inputs // groups, filters),
            bias=self.maybe(filters),
            padding=padding,
            stride=stride,
            band_stride=band_stride,
            dilation=1 if band_stride > 1 else draw(st.sampled_from([1, 2])),
            groups=groups,
            activation=self.function_name(),
        )
        self.add(layer)
        self.hop *= stride
        bands, by = layer.windows(bands)[0], draw(st.sampled_from(["max", "average"]))
        if draw(st.booleans()):
            pool = L.Pooling2D(
                by=by,
                pool=draw(st.integers(1, 3)),
                band_pool=draw(st.integers(1, bands)),
                stride=1,
                band_stride=draw(st.sampled_from([1, 2])),
                padding=draw(st.sampled_from(["valid", "same"])),
            )
            self.add(pool)
            bands = pool.windows(bands)[0]
        self.channels = bands * filters
        self.add(L.Reshape(shape=(self.channels,)))

    def correlation(self) -> None:
        """A bank of matched filters, free of scale: products with a kernel, and norms of the windows that they see."""
        draw = self.draw
        lengths = tuple(draw(st.lists(st.integers(1, 40), min_size=1, max_size=3)))
        longest, source = max(lengths), self.name
        kernel = self.random.normal(size=(longest, self.channels, len(lengths)))
        lags = tuple(longest - length for length in lengths)
        self.add(L.InverseNorm(lengths=lengths, lags=lags, guard=draw(st.sampled_from([0, 5]))), source)
        norm = self.name
        self.add(L.Conv1D(kernel=kernel), source)
        self.add(L.Merge(by="multiply"), norm, self.name)
        self.channels = len(lengths)

    def spectrum(self) -> None:
        """Transform frames, and bring their bins to scale."""
        draw, span = self.draw, self.draw(st.integers(1, 9))
        self.add(L.Preemphasis(coefficient=0.9, start=draw(st.sampled_from([(1, 0), (3, -1)]))))
        layer = L.Spectrum(
            window=self.random.uniform(0.5, 1, span),
            hop=self.stride(),
            fft_length=draw(st.integers(span, 16)),
            padding=draw(st.sampled_from(["valid", "end", "zeros", "reflect"])),
            by=draw(st.sampled_from(["magnitude", "power", "complex"])),
        )
        self.add(layer)
        shape = layer.output_shape((self.channels,))
        self.hop, self.channels = self.hop * layer.hop, size(shape)
        self.add(L.Reshape(shape=(self.channels,)))
        if layer.by != "complex":
            scaled = ("log", (0.1, 2.0, 1.0)), ("power", (0.5, 0.01)), ("power", (1.7, 0.0))
            self.add(L.Activation(**dict(zip(("activation", "settings"), draw(st.sampled_from(scaled)), strict=True))))

    def pair(self) -> None:
        """Take pairs of channels as complex numbers, or, of one channel more, apply something pointwise."""
        pairs, odd = divmod(self.channels, 2)
        if odd:
            self.function()
            return
        self.add(L.Polar(by="power", width=self.draw(st.sampled_from([n for n in (1, 2, 3, pairs) if pairs % n == 0]))))
        self.channels = pairs

    def transpose(self) -> None:
        """Convolve transposed."""
        draw = self.draw
        stride = draw(st.sampled_from([1, 2])) if self.hop.numerator % 2 == 0 else 1
        filters, taps = draw(st.sampled_from([1, 2, 4])), draw(st.integers(1, 5))
        layer = L.Conv1DTranspose(
            kernel=self.weights(taps, filters, self.channels, fan_in=taps * self.channels),
            bias=self.maybe(filters),
            padding=draw(st.sampled_from(["valid", "same"])),
            stride=stride,
            dilation=draw(st.sampled_from([1, 2])) if stride == 1 else 1,
            activation=self.function_name(),
        )
        self.add(layer)
        self.channels, self.hop = filters, self.hop / stride

    def rnn(self) -> None:
        """Run a recurrent layer; one a graph is enough."""
        if any(isinstance(node.layer, (L.GRU, L.LSTM, L.SimpleRNN)) for node in self.nodes):
            return self.dense()
        units, c = self.draw(st.sampled_from([1, 3, 5])), self.channels
        record = self.draw(st.sampled_from([L.GRU, L.LSTM, L.SimpleRNN]))
        extra = {"reset_after": self.draw(st.booleans())} if record is L.GRU else {}
        gates = record.gates
        bias = self.maybe(*((2, gates * units) if extra.get("reset_after") else (gates * units,)))
        # Half the weights that would keep the state's size: beyond that a state is chaotic, and magnifies any rounding.
        recurrent = 0.5 * self.weights(units, gates * units)
        kernels = {"kernel": self.weights(c, gates * units), "recurrent_kernel": recurrent}
        self.add(record(**kernels, bias=bias, **extra))
        self.channels = units
        return None

    def branch(self) -> None:
        """Split into two or three paths of the same length and join them."""
        source, channels = self.name, self.channels
        filters = self.draw(st.sampled_from([channels, 2, 3]))
        ends = []
        for _ in range(self.draw(st.integers(2, 3))):
            self.name, self.channels = source, channels
            for _ in range(self.draw(st.integers(0 if filters == channels else 1, 2))):
                kind = self.draw(st.sampled_from(["causal", "same", "valid"]))
                self.conv(padding=kind, stride=1, filters=filters)
                if kind == "valid":
                    span = self.nodes[-1].layer.span
                    left = self.draw(st.integers(0, span - 1))
                    self.add(L.ZeroPadding1D(left=left, right=span - 1 - left))
            ends.append(self.name)
        if self.draw(st.booleans()):
            self.add(L.Concatenate(), *ends)
            self.channels = sum(filters if end != source else channels for end in ends)
        else:
            operations = ["add", "multiply", "average", "maximum", "minimum", *(["subtract"] if len(ends) == 2 else [])]
            self.add(L.Merge(by=self.draw(st.sampled_from(operations))), *ends)
            self.channels = filters
        self.nodes[-1]

    def graph(self) -> Graph:
        """Return the graph."""
        return Graph(tuple(self.nodes), (self.input_channels,))


@st.composite
def graphs(draw: Callable, most: int = 6, *, of_keras: bool = False, of_clip: bool = False) -> Graph:
    """Draw a graph with branches, strides, dilations and recurrent layers.

    `of_keras`: that `keras_model` can build; `of_clip`: that can slide as a window.
    """
    builder = Builder(draw, draw(st.integers(1, 3)), of_keras=of_keras, of_clip=of_clip)
    for _ in range(draw(st.integers(1, most))):
        builder.grow()
    return builder.graph()


def keras_model(graph: Graph, frames: int | None = None) -> object:
    """Build the same net in Keras, which shares nothing with us but the weights."""
    import keras

    tensors = {INPUT: keras.Input((frames, *graph.input_shape))}
    for node in graph.nodes:
        inputs = [tensors[name] for name in node.inputs]
        tensors[node.name] = _applied(keras.layers, node.layer, inputs)
    return keras.Model(tensors[INPUT], tensors[graph.output_name])


def _applied(K: object, layer: L.Layer, inputs: list) -> object:
    """Apply the Keras layer that a record stands for."""
    x, c = inputs[0], inputs[0].shape[-1]
    arrays = [w for name, w in layer.weights.items()]
    match layer:
        case L.Conv1D():
            made = K.Conv1D(
                layer.kernel.shape[2], layer.taps, strides=layer.stride, padding=layer.padding, groups=layer.groups,
                dilation_rate=layer.dilation, activation=layer.activation, use_bias=layer.bias is not None,
            )  # fmt: skip
        case L.Conv1DTranspose():
            made = K.Conv1DTranspose(
                layer.kernel.shape[1], layer.kernel.shape[0], strides=layer.stride, padding=layer.padding,
                dilation_rate=layer.dilation, activation=layer.activation, use_bias=layer.bias is not None,
            )  # fmt: skip
        case L.Dense():
            made = K.Dense(layer.kernel.shape[1], activation=layer.activation, use_bias=layer.bias is not None)
        case L.Activation():
            made = K.Activation(layer.activation)
        case L.GLU():
            # Keras' own glu reports the shape of its input, so that nothing can stand behind it.
            value, gate = K.Dense(c // 2, use_bias=False), K.Dense(c // 2, use_bias=False, activation="sigmoid")
            joined = K.Multiply()([value(x), gate(x)])
            value.set_weights([np.eye(c, dtype="f")[:, : c // 2]])
            gate.set_weights([np.eye(c, dtype="f")[:, c // 2 :]])
            return joined
        case L.PReLU():
            made, arrays = K.PReLU(shared_axes=[1]), [layer.slope[None]]
        case L.Affine():
            made = K.BatchNormalization(epsilon=1e-3)
            arrays = [layer.scale, layer.offset, np.zeros(c), np.full(c, 1 - 1e-3)]
        case L.Normalize(by="layer"):
            made = K.LayerNormalization(
                epsilon=layer.epsilon, scale=layer.scale is not None, center=layer.offset is not None
            )
        case L.Normalize(by="rms"):
            made, arrays = (
                K.RMSNormalization(epsilon=layer.epsilon),
                [np.ones(c) if layer.scale is None else layer.scale],
            )
        case L.Normalize():
            made = K.UnitNormalization()
        case L.Reshape():
            return K.Reshape((-1, *layer.shape))(x)
        case L.Conv2D():
            made = K.Conv2D(
                layer.kernel.shape[3], layer.kernel.shape[:2], strides=(layer.stride, layer.band_stride),
                padding=layer.padding, groups=layer.groups, dilation_rate=(layer.dilation, layer.band_dilation),
                activation=layer.activation, use_bias=layer.bias is not None,
            )  # fmt: skip
        case L.Pooling2D():
            kind = K.MaxPooling2D if layer.by == "max" else K.AveragePooling2D
            made = kind((layer.pool, layer.band_pool), (layer.stride, layer.band_stride), layer.padding)
        case L.Select():
            made, arrays = K.Dense(len(layer.indices), use_bias=False), [np.eye(c, dtype="f")[:, list(layer.indices)]]
        case L.Pooling1D():
            kind = K.MaxPooling1D if layer.by == "max" else K.AveragePooling1D
            made = kind(layer.pool, layer.stride, layer.padding)
        case L.Repeat():
            made = K.UpSampling1D(layer.times)
        case L.ZeroPadding1D():
            made = K.ZeroPadding1D((layer.left, layer.right))
        case L.Cropping1D():
            made = K.Cropping1D((layer.left, layer.right))
        case L.Stack() | L.Unstack():
            made = K.Reshape((-1, size(layer.shape)))
        case L.SimpleRNN() | L.LSTM() | L.GRU():
            extra = {"reset_after": layer.reset_after} if isinstance(layer, L.GRU) else {}
            made = getattr(K, layer.kind)(layer.units, return_sequences=True, use_bias=layer.bias is not None, **extra)
        case L.Merge():
            return getattr(K, layer.by.capitalize())()(inputs)
        case L.Concatenate():
            return K.Concatenate()(inputs)
    y = made(x)
    made.set_weights(arrays)
    return y


def signal(seed: int, frames: int, channels: int) -> np.ndarray:
    """Return a random signal, float32 (frames, channels)."""
    return np.random.default_rng(seed).normal(size=(frames, channels)).astype(np.float32)


def pieces(values: np.ndarray, seed: int) -> list[np.ndarray]:
    """Split a signal at random places: many small blocks, empty ones, and large ones."""
    random = np.random.default_rng(seed)
    cuts = np.sort(random.integers(0, len(values) + 1, random.integers(1, 40)))
    return np.split(values, cuts)

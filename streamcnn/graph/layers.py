"""All layer records, by name."""

from streamcnn.graph.attention import Attention
from streamcnn.graph.energy import InverseNorm
from streamcnn.graph.join import Concatenate, Merge
from streamcnn.graph.layer import Layer, Shape
from streamcnn.graph.linear import Conv1D, Conv1DTranspose, Dense
from streamcnn.graph.plane import Conv2D, Pooling2D
from streamcnn.graph.pointwise import GLU, Activation, Affine, Normalize, PReLU, Reshape, Select
from streamcnn.graph.recurrent import GRU, LSTM, SimpleRNN
from streamcnn.graph.resample import Resample
from streamcnn.graph.spectral import Polar, Preemphasis, Spectrum
from streamcnn.graph.window import Cropping1D, Pooling1D, Repeat, Stack, Unstack, ZeroPadding1D

__all__ = [
    "GLU",
    "GRU",
    "LSTM",
    "Activation",
    "Affine",
    "Attention",
    "Concatenate",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Cropping1D",
    "Dense",
    "InverseNorm",
    "Layer",
    "Merge",
    "Normalize",
    "PReLU",
    "Polar",
    "Pooling1D",
    "Pooling2D",
    "Preemphasis",
    "Repeat",
    "Resample",
    "Reshape",
    "Select",
    "Shape",
    "SimpleRNN",
    "Spectrum",
    "Stack",
    "Unstack",
    "ZeroPadding1D",
]

_RECORDS = (
    Activation,
    Affine,
    Attention,
    Concatenate,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Cropping1D,
    Dense,
    GLU,
    GRU,
    InverseNorm,
    LSTM,
    Merge,
    Normalize,
    PReLU,
    Polar,
    Pooling1D,
    Pooling2D,
    Preemphasis,
    Repeat,
    Resample,
    Reshape,
    Select,
    SimpleRNN,
    Spectrum,
    Stack,
    Unstack,
    ZeroPadding1D,
)
KINDS: dict[str, type[Layer]] = {record.kind: record for record in _RECORDS}

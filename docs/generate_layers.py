"""Writes docs/layers.md: every layer of keras.layers, and whether it streams. Run it with: python docs/generate_layers.py"""

from pathlib import Path

import keras

from streamcnn.importers.keras_plane import PLANE
from streamcnn.importers.keras_records import JOINS, RECORDS
from streamcnn.importers.keras_refusals import CLIP_ONLY, REFUSED, VANISHING

TARGET = Path(__file__).parent / "layers.md"
NOTES = {
    "Activation": "every function of `keras.activations`; another layer in its place",
    "Attention": "score_mode='dot'; causal mask too",
    "BatchNormalization": "over the last axis, with the statistics of the training; in a clip over any",
    "Bidirectional": "around recurrent layers, with every merge_mode but None",
    "Conv1D": "causal, valid, same; strides, dilation, groups",
    "Conv2D": "valid, same; strides, dilation, groups; streaming along either of its two axes",
    "Conv1DTranspose": "valid, same; strides, dilation, output_padding",
    "Concatenate": "along any axis but time; in a clip along time too",
    "DepthwiseConv1D": "as Conv1D in groups",
    "Dense": "on the last axis of each frame",
    "GRU": "reset_after true and false; in a clip also its last state, and backwards",
    "LSTM": "in a clip also its last state, and backwards",
    "LayerNormalization": "over the last axes of a frame; in a clip over any",
    "MelSpectrogram": "mirrored at start and end; of a stream `top_db` must be too large ever to clamp (1e9), in a clip any",
    "Multiply": "broadcasting along channels too; in a clip along time (squeeze and excitation)",
    "Normalization": "over the last axis",
    "PReLU": "needs shared_axes=[1]; in a clip any",
    "Permute": "of planes too; it is remembered which axis is time",
    "RNN": "with Keras' own cells, stacked too; in a clip also its last state, and backwards",
    "Reshape": "that keeps frames whole: within a frame, several frames into one, one into several; in a clip any",
    "SeparableConv1D": "as two convolutions",
    "STFTSpectrogram": "every mode, window and scaling",
    "SimpleRNN": "in a clip also its last state, and backwards",
    "Softmax": "over the last axis; in a clip over any",
    "SpectralNormalization": "as the layer that it wraps",
    "TimeDistributed": "around layers that work on each frame by itself; on planes also around convolution and pooling",
    "UpSampling2D": "interpolation='nearest'",
    "UpSampling1D": "as long as the output is no faster than the input",
}
WALKED = ("MelSpectrogram", "Permute", "SpectralNormalization")  # which the walk itself knows


def status(name: str) -> tuple[str, str]:
    """Return a layer's status and the reason or the note on it."""
    if name in RECORDS or name in JOINS or name in PLANE or name in WALKED:
        return "exact", NOTES.get(name, "")
    if name in VANISHING:
        return "exact", "does nothing at inference, and vanishes"
    if name in CLIP_ONLY:
        return "clip", NOTES.get(name, CLIP_ONLY[name])
    return "refused", REFUSED.get(name, "is a layer that this version does not know")


def names() -> list[str]:
    """Return the layers of keras.layers, each under its own name only."""
    found = {}
    for name in dir(keras.layers):
        layer = getattr(keras.layers, name)
        if isinstance(layer, type) and issubclass(layer, keras.layers.Layer):
            found.setdefault(layer, layer.__name__ if hasattr(keras.layers, layer.__name__) else name)
    return sorted(set(found.values()))


def text() -> str:
    """Return the whole document."""
    rows = [(name, *status(name)) for name in names()]
    counts = {kind: sum(row[1] == kind for row in rows) for kind in ("exact", "clip", "refused")}
    lines = [
        "# Which Keras layers stream",
        "",
        "Made by `python docs/generate_layers.py` from the importer's own tables; a test keeps it true.",
        "",
        "- **exact**: streams with the numbers that Keras computes on the whole signal, to the last frame.",
        "- **clip**: needs a whole clip before it can answer. A window of that length slides over the stream, and each of its",
        "  answers is the one that `model.predict` gives for the same samples. Of every other layer in such a net too; what",
        "  overlapping windows have in common is computed once.",
        "- **refused**: an error names the layer, the reason and a way out.",
        "",
        "Time is axis 1, or, of planes, the one of two axes that has no fixed length. A net may also use `+`, `-` and `*`",
        "between tensors, nested models, shared layers, several inputs (groups of channels of one stream) and several outputs",
        "(side by side). It may not use layers or functions of its own, `channels_first`, or computation in float16.",
        "",
        "Strided `same` layers pad by the length of the whole signal, as Keras does. A model of a fixed input length streams",
        "exactly at that length; one of any length, for signals whose length is a multiple of its total stride (at other",
        "lengths every frame is that of a signal padded so; `streamcnn inspect` shows the rule).",
        "",
        f"{counts['exact']} exact, {counts['clip']} clip, {counts['refused']} refused.",
        "",
        "| layer | status | |",
        "| --- | --- | --- |",
        *(f"| {name} | {kind} | {note} |" for name, kind, note in rows),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")

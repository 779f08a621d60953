"""Files that are no nets: what they are by their content, and which command takes them."""

import re
from pathlib import Path

from streamcnn.errors import NetFileError

HEAD = 4096  # bytes
_CONVERT = "make a net of it: streamcnn convert {path} -o net.safetensors"
_REPLAY = "'streamcnn replay' takes it; a net's file ends in .safetensors"
# What a file begins with, what it is, and what takes it.
_KINDS = (
    (rb"\x89HDF\r\n\x1a\n", "a Keras model (HDF5)", _CONVERT),
    (rb"PK\x03\x04.*(?:config\.json|model\.weights\.h5|metadata\.json)", "a Keras model", _CONVERT),
    (rb"PK\x03\x04.*(?:/data\.pkl|constants\.pkl|/version)", "a PyTorch model", "export its weights to a Keras model first"),
    (rb"\s*\{.*\"(?:in_shape|layers)\"", "an RTNeural model (JSON)", _CONVERT),
    (rb"\s*\{.*\"architecture\"", "a Neural Amp Modeler model", _CONVERT),
    (rb"....TFL3", "a LiteRT model (.tflite)", "convert the Keras model that it was made of"),
    (rb"\x08[\x01-\x0c](?:\x12|:)", "an ONNX model", "convert the Keras model that it was made of"),
    (rb"\x80[\x02-\x05]", "a pickle", _CONVERT),
    (rb"RIFF....WAVE|RF64....WAVE|fLaC|OggS|FORM....AIF|ID3", "a sound file", _REPLAY),
    (rb"(?:.*\n)?\s*streams\s*:", "a configuration", "give it with --config"),
    (rb"\x93NUMPY", "a NumPy file", "a net's file ends in .safetensors"),
)  # fmt: skip


def kind_of(path: Path) -> tuple[str, str] | None:
    """Return what a file is and what takes it, where it is one of the kinds that people give for a net; else None."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return None
    found = next(((what, remedy) for pattern, what, remedy in _KINDS if re.match(pattern, head, re.DOTALL)), None)
    return None if found is None else (found[0], found[1].format(path=path))


def refuse_foreign(path: Path) -> None:
    """Raise NetFileError where a file is known to be something else than a net."""
    kind = kind_of(path)
    if kind is not None:
        raise NetFileError(f"{path}: is {kind[0]}, not a net", kind[1])

"""Nets as files: safetensors, with the graph as JSON in its metadata.

A file holds the tensors `<node>/<field>` and three metadata entries: `format` ("streamcnn-net"), `version` (of this
layout), and `graph` (JSON: nodes with their options, shape of the input, metadata). `sha256` over the canonical graph and
the tensors finds damage that still parses, and its first digits name the net on the wire ("ramp@3f9a2c").
"""

import hashlib
import json
import math
from dataclasses import asdict, fields
from pathlib import Path

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from streamcnn.errors import GraphError, NetFileError, StreamcnnError
from streamcnn.explaining import did_you_mean
from streamcnn.graph.clip import Clip
from streamcnn.graph.foreign import refuse_foreign
from streamcnn.graph.graph import Graph, NetInfo, Node
from streamcnn.graph.layers import KINDS
from streamcnn.shipped import shipped_net, shipped_nets

FORMAT = "streamcnn-net"
VERSION = 1


def save(graph: Graph, path: str | Path) -> None:
    """Write a net's file; an existing one is replaced in one step.

    Raises NetFileError where the file cannot be written.
    """
    path = Path(path)
    text, tensors = _serialized(graph)
    metadata = {"format": FORMAT, "version": str(VERSION), "graph": text, "sha256": _digest(text, tensors)}
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(safetensors.numpy.save(tensors, metadata))  # save_file would make it private to its owner
        partial.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise NetFileError(f"{path}: cannot be written: {error}") from error


def load(path: str | Path) -> Graph:
    """Read a net's file, or a shipped net by its name ("ramp").

    Raises NetFileError, naming the file and the reason, for whatever is not a whole net of a version we know.
    """
    path = find(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except OSError as error:
        raise NetFileError(f"{path}: cannot be read: {error}") from error
    except (safetensors.SafetensorError, ValueError, TypeError) as error:
        refuse_foreign(path)
        raise NetFileError(
            f"{path}: damaged, or not a safetensors file: {error}", "make it again with 'streamcnn convert'"
        ) from error
    if metadata.get("format") != FORMAT:
        raise NetFileError(f"{path}: a safetensors file, but not a streamcnn net", "make one with 'streamcnn convert'")
    if metadata.get("version") != str(VERSION):
        raise NetFileError(
            f"{path}: format version {metadata.get('version')}, this streamcnn reads {VERSION}",
            "update streamcnn, or convert the model again",
        )
    text = metadata.get("graph", "")
    if metadata.get("sha256") != _digest(text, tensors):
        raise NetFileError(
            f"{path}: its checksum does not match its content: damaged or edited",
            "make it again with 'streamcnn convert'",
        )
    try:
        return _graph(msgspec.json.decode(text, type=_Document), tensors)
    except StreamcnnError as error:
        raise NetFileError(f"{path}: {error.message}", error.remedy) from error
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise NetFileError(f"{path}: its graph cannot be read: {error!r}") from error


def find(name_or_path: str | Path) -> Path:
    """Return the path of a net's file: a shipped net of that name, or an existing file.

    Raises NetFileError where there is neither.
    """
    path, shipped = Path(name_or_path), shipped_net(str(name_or_path))
    if shipped is not None:
        return shipped
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise NetFileError(f"{path}: cannot be read: {error.strerror}") from error
    raise NetFileError(
        f"{path}: no such file, and no shipped net has that name" if not path.exists() else f"{path}: not a file",
        f"{did_you_mean(str(name_or_path), shipped_nets())}; 'streamcnn convert' makes one of a model",
    )


def identity(graph: Graph) -> str:
    """Return the net's name on the wire: its name, '@', and six digits of its content's hash."""
    return f"{graph.info.name}@{_digest(*_serialized(graph))[:6]}"


def _serialized(graph: Graph) -> tuple[str, dict[str, np.ndarray]]:
    tensors = {f"{node.name}/{name}": w for node in graph.nodes for name, w in node.layer.weights.items()}
    nodes = [
        {"name": node.name, "kind": node.layer.kind, "inputs": node.inputs, "options": plain(node.layer.options)}
        for node in graph.nodes
    ]
    document = {
        "nodes": nodes,
        "input_shape": graph.input_shape,
        "length_class": graph.length_class,
        **({} if graph.clip is None else {"clip": asdict(graph.clip)}),
        "info": {name: value for name, value in asdict(graph.info).items() if value != asdict(NetInfo())[name]},
    }
    return json.dumps(document, sort_keys=True, allow_nan=False), tensors


def plain(options: dict[str, object]) -> dict[str, object]:
    """Return a record's options as JSON has them: no limit, an infinite number in a record, is the word "inf"."""
    return {
        name: tuple("inf" if v == math.inf else v for v in value) if isinstance(value, tuple) else value
        for name, value in options.items()
    }


def _digest(text: str, tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype.str}:{tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()


class _NodeEntry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    kind: str
    inputs: tuple[str, ...]
    options: dict[str, object]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON of a graph; decoding it checks the types."""

    nodes: list[_NodeEntry]
    input_shape: tuple[int, ...]
    length_class: int
    info: dict[str, object]
    clip: Clip | None = None


def _graph(document: _Document, tensors: dict[str, np.ndarray]) -> Graph:
    nodes = []
    for entry in document.nodes:
        kind = KINDS.get(entry.kind)
        if kind is None:
            raise NetFileError(f"node '{entry.name}' is of the unknown kind '{entry.kind}'", "update streamcnn")
        names = {f.name for f in fields(kind)}
        misplaced = {f.name for f in fields(kind) if "ndarray" in str(f.type)} & entry.options.keys()
        if misplaced:
            raise NetFileError(f"node '{entry.name}': weights '{min(misplaced)}' stand among the options")
        weights = {n: t for n in names if (t := tensors.pop(f"{entry.name}/{n}", None)) is not None}
        options = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.options.items()}
        try:
            nodes.append(Node(entry.name, kind(**options, **weights), entry.inputs))
        except GraphError as error:
            raise GraphError(f"node '{entry.name}': {error.message}", error.remedy) from None
    if tensors:
        raise NetFileError(f"tensor '{min(tensors)}' belongs to no layer")
    unknown = document.info.keys() - {f.name for f in fields(NetInfo)}
    if unknown:
        raise NetFileError(f"its metadata has the unknown entry '{min(unknown)}'", "update streamcnn")
    info = msgspec.convert(document.info, NetInfo)
    return Graph(tuple(nodes), document.input_shape, document.length_class, info, document.clip)

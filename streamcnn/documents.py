"""Strict YAML into frozen records, with errors that name the file, the line, the path in it and what was expected.

msgspec checks the types and ranges and reports a path; the YAML node tree turns that path into a line.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from streamcnn import strict_yaml
from streamcnn.errors import ConfigError
from streamcnn.explaining import explain

T = TypeVar("T")


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what stands in a document: frozen, and strict about unknown keys."""


def read(path: Path) -> str:
    """Return the text of a file; raises ConfigError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error


def parse(
    text: str, path: Path, kind: type[T], least: str, decode: Callable[[type, object], object] | None = None
) -> T:
    """Return a document's text as a record of `kind`; `path` is for messages only.

    `least`: what to tell somebody whose document is empty. `decode`: what msgspec asks for types that it does not know.
    Raises ConfigError, with file, line and path, for whatever is not valid.
    """
    values, root = strict_yaml.load(text, path)
    if root is None:
        raise ConfigError(f"{path}: is empty", least)
    try:
        return msgspec.convert(values, kind, dec_hook=decode)
    except msgspec.ValidationError as error:
        where, problem, remedy = explain(error, kind, values)
        line, place = _line(root, where, str(error)), f"at {where}: " if where else ""
        raise ConfigError(f"{path}:{line}: {place}{problem}", remedy) from error


def _line(root: yaml.Node, where: str, problem: str) -> int:
    """Return the line (from 1) of a path such as `streams[0].source`; a key may have dots of its own."""
    node, rest = root, f".{where}" if where and not where.startswith("[") else where
    while rest:
        if isinstance(node, yaml.MappingNode):
            fitting = [name for name, _ in node.value if re.match(rf"\.{re.escape(name.value)}(?=[.\[]|$)", rest)]
            if fitting:
                key = max(fitting, key=lambda name: len(name.value)).value
                node = next(value for name, value in node.value if name.value == key)
                rest = rest[len(key) + 1 :]
                continue
        index = re.match(r"\[(\d+)\]", rest)
        is_there = index and isinstance(node, yaml.SequenceNode) and int(index[1]) < len(node.value)
        if not is_there:  # it came by a merge key from elsewhere
            break
        node, rest = node.value[int(index[1])], rest[index.end() :]
    unknown = re.search(r"unknown field `([^`]*)`", problem)
    if unknown and isinstance(node, yaml.MappingNode):
        node = next((name for name, _ in node.value if name.value == unknown[1]), node)
    return node.start_mark.line + 1

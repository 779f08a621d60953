"""Strict YAML into frozen records, with errors that name the file, the line, the path in it and what was expected.

msgspec checks the types and ranges and reports a path; the YAML node tree turns that path into a line.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeVar

import msgspec
import yaml

from streamcnn.errors import ConfigError

T = TypeVar("T")


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what stands in a document: frozen, and strict about unknown keys."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2 where 1.1 surprises: `on`, `off`, `yes` and `no` are words, 1e-3 is a number, and there are no dates."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("timestamp", "bool")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


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
    try:
        root = yaml.compose(text, Loader=_Loader)
        values = yaml.load(text, Loader=_Loader)
        _refuse_duplicate_keys(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if root is None:
        raise ConfigError(f"{path}: is empty", least)
    try:
        return msgspec.convert(values, kind, dec_hook=decode)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at ")
        where = where.strip("`") or "$"
        raise ConfigError(f"{path}:{_line(root, where, problem)}: at {where.removeprefix('$.')}: {problem}") from error


def _line(root: yaml.Node, where: str, problem: str) -> int:
    """Return the line (from 1) of a msgspec path such as `$.streams[0].source`; a key may have dots of its own."""
    node, rest = root, where.removeprefix("$")
    while rest:
        if isinstance(node, yaml.MappingNode):
            fitting = [name for name, _ in node.value if re.match(rf"\.{re.escape(name.value)}(?=[.\[]|$)", rest)]
            if fitting:
                key = max(fitting, key=lambda name: len(name.value)).value
                node = next(value for name, value in node.value if name.value == key)
                rest = rest[len(key) + 1 :]
                continue
        index = re.match(r"\[(\d+)\]", rest)
        if not index or not isinstance(node, yaml.SequenceNode):
            break
        node, rest = node.value[int(index[1])], rest[index.end() :]
    unknown = re.search(r"unknown field `([^`]*)`", problem)
    if unknown and isinstance(node, yaml.MappingNode):
        node = next((name for name, _ in node.value if name.value == unknown[1]), node)
    return node.start_mark.line + 1


def _refuse_duplicate_keys(node: yaml.Node | None) -> None:
    """YAML lets the last of two equal keys win in silence; a document of ours must not."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for name, value in node.value:
            if name.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{name.value}' stands twice", problem_mark=name.start_mark)
            seen.add(name.value)
            _refuse_duplicate_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicate_keys(value)

"""YAML 1.2 as its core schema has it, into plain values and a tree of nodes that know their lines.

PyYAML reads YAML 1.1, where 012 is 10, 1:30 is 90, `on` is true and 2024-01-01 a date. Here a plain scalar is what the core
schema says, and what 1.1 and 1.2 would read as different numbers is refused. So is what would surprise whoever wrote it: a key
that stands twice, a key that is no text, half of a surrogate pair.

Aliases share what they stand for, so that a short text can mean a huge document. What it comes to is counted without walking
it: each node once.
"""

import re
from pathlib import Path
from typing import ClassVar

import yaml

from streamcnn.errors import ConfigError

MOST_VALUES = 100_000  # with all aliases written out
MOST_DIGITS = 30
_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"


class _Loader(yaml.SafeLoader):
    """The core schema of YAML 1.2 (section 10.3.2), and merge keys."""

    yaml_implicit_resolvers: ClassVar = {}


for _kind, _pattern, _first in (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"(?:[-+]?\d+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    ("float", r"(?:[-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+.0123456789"),
    ("merge", r"<<$", "<"),
):  # fmt: skip
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(_pattern), list(_first))


def _whole(_loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text, 10)


def _real(_loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor(f"{_TAG}int", _whole)
_Loader.add_constructor(f"{_TAG}float", _real)


def load(text: str, path: Path) -> tuple[object, yaml.Node | None]:
    """Return a document's values, and its tree; nothing of either for an empty one. `path` is for messages only.

    Raises ConfigError, with file and line, for what is no YAML, or is not read as it stands there.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None, None
        _Check(path).check(root)
        return loader.construct_document(root), root
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{path}:{line}: the character U+{ord(text[error.position]):04X} may not stand in YAML", "remove it"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError) as error:  # of values that no tag fits
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not valid YAML: brackets or indentation are hundreds of levels deep") from error


class _Check:
    """Goes through a tree, each node once."""

    def __init__(self, path: Path):
        self._path = path
        self._sizes: dict[int, int | None] = {}  # of a node, with all aliases written out; None while it is being counted

    def check(self, node: yaml.Node) -> int:
        """Return how many values a node comes to; raises ConfigError for what is not to be read."""
        size = self._sizes.get(id(node), 0)
        if size is None:
            raise self._error(node, "an alias stands inside what it names", "write it out")
        if size:
            return size
        self._sizes[id(node)] = None
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            size = 1 + sum(self.check(value) for _, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            size = 1 + sum(self.check(value) for value in node.value)
        else:
            self._check_scalar(node)
            size = 1
        if size > MOST_VALUES:
            raise self._error(
                node, f"with its aliases written out this is {size:,} values", f"have at most {MOST_VALUES:,}"
            )
        self._sizes[id(node)] = size
        return size

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                shown = f"'{key.value}'" if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                decimal_comma = isinstance(key, yaml.ScalarNode) and key.value.isdigit() and value.value == ""
                remedy = "write decimals with a point: 0.6" if decimal_comma else "write it in quotes, if it is a name"
                raise self._error(key, f"{shown} stands where a key should, and is no text", remedy)
            self._check_scalar(key)
            if key.value in seen and key.value != _MERGE:
                raise self._error(key, f"the key '{key.value}' stands twice", "keep one of them")
            seen.add(key.value)

    def _check_scalar(self, node: yaml.ScalarNode) -> None:
        text = node.value
        if node.tag.removeprefix(_TAG) not in ("str", "int", "float", "bool", "null", "merge"):
            raise self._error(node, f"values of the tag '{node.tag.removeprefix(_TAG)}' are not read", "remove the tag")
        if (node.style is None and node.tag == f"{_TAG}str") and re.fullmatch(r"[-+]?0[0-9]+", text):
            return  # by its tag it is a text
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise self._error(node, "half of a surrogate pair (\\ud800 to \\udfff) is no character", "remove it")
        if node.style is not None:  # quoted, or a block
            return
        if re.fullmatch(r"[-+]?0[0-9_]*[0-9][0-9_]*(?:\.[0-9]*)?", text):
            plain = text.lstrip("+-").replace("_", "").lstrip("0") or "0"
            raise self._error(
                node, f"'{text}' has a leading zero, which some programs read as base 8", f"write {plain}, or quote it"
            )
        if re.fullmatch(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?", text):
            raise self._error(
                node, f"'{text}' is a number of base 60 for some programs, and text for others",
                "quote it if it is text; or write the number",
            )  # fmt: skip
        if node.tag == f"{_TAG}int" and len(text) > MOST_DIGITS:
            raise self._error(node, f"a number of {len(text):,} digits", f"have at most {MOST_DIGITS}")

    def _error(self, node: yaml.Node, problem: str, remedy: str) -> ConfigError:
        return ConfigError(f"{self._path}:{node.start_mark.line + 1}: {problem}", remedy)

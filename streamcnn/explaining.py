"""What is wrong with a value, in words for whoever wrote it: msgspec's errors, and names that are nearly right.

msgspec says what it expected at which place ("Expected `int`, got `str` - at `$.streams[0].rate`"). From the record's types and
the document's values that becomes a sentence with the value itself, and, where a name is nearly one that there is, with that.
"""

import difflib
import re
from collections.abc import Collection, Iterable

import msgspec
from msgspec import inspect

_KINDS = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "array": "a list",
    "object": "keys with values", "null": "nothing",
}  # fmt: skip
_FORMS: dict[str, str] = {}
_SHOWN = 60  # characters of a text


def form(pattern: str, name: str) -> str:
    """Say what a text that fits a pattern is called; return the pattern."""
    _FORMS[pattern] = name
    return pattern


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was perhaps meant, None where none is near."""
    by_folded = {one.casefold(): one for one in names}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def did_you_mean(name: str, names: Collection[str]) -> str:
    """Return a remedy for a name that there is not: the one that was perhaps meant, and all that there are."""
    near = nearest(name, names)
    there = f"there are {', '.join(names)}"
    return there if near is None else f"did you mean '{near}'? {there}"


def explain(error: msgspec.ValidationError, kind: type, values: object) -> tuple[str, str, str | None]:
    """Return where in a document something is wrong (as `streams[0].rate`; nothing for all of it), what, and a remedy.

    `kind` is the type that the document should have, `values` what it holds.
    """
    problem, _, where = str(error).partition(" - at ")
    if found := re.fullmatch(r"`key` in `(.*)`", where, re.DOTALL):  # a name that may not stand there
        where = found[1].removeprefix("$")
        _, value = _at(kind, values, where)
        names = ", ".join(f"'{name}'" for name in value) if isinstance(value, dict) else "a key"
        return where.removeprefix("."), f"not all of its keys ({names}) are {_FORMS.get(_pattern(problem), 'names')}", None
    where = where.strip("`").removeprefix("$")
    if where.endswith("[...]"):  # one of the values of keys
        where = where.removesuffix("[...]")
        types, value = _at(kind, values, where)
        inner = [part for one in types if isinstance(one, inspect.DictType) for part in _alternatives(one.value_type)]
        found = value.values() if isinstance(value, dict) else ()
        wrong = [one for one in found if isinstance(one, bool) or not isinstance(one, int | float)]
        problem, remedy = _plain(problem, inner, wrong[0] if wrong else None)
        return where.removeprefix("."), problem if wrong else problem.partition(", got")[0], remedy
    types, value = _at(kind, values, where)
    problem, remedy = _plain(problem, types, value)
    return where.removeprefix("."), problem, remedy


def _pattern(problem: str) -> str:
    """Return the pattern that msgspec says a text does not fit."""
    found = re.search(r"matching regex '(.*)'", problem)
    return found[1] if found else ""


def _plain(problem: str, types: list[inspect.Type], value: object) -> tuple[str, str | None]:
    """Return a problem of msgspec's, and a remedy, in words."""
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", problem, re.DOTALL):
        structs = _fitting([one for one in types if isinstance(one, inspect.StructType)], value)
        names = [name for one in structs for name in (one.tag_field, *(field.encode_name for field in one.fields)) if name]
        return f"there is no key '{found[1]}' here", did_you_mean(found[1], names)
    if found := re.fullmatch(r"Object missing required field `(.*)`", problem):
        return f"the key '{found[1]}' is missing", None
    if found := re.fullmatch(r"Invalid (?:enum )?value (.*)", problem, re.DOTALL):
        names = [str(name) for name in _names(types)]
        return f"{shown(value)} is not one of the names that may stand here", did_you_mean(str(value), names) if names else None
    if problem.startswith("Expected `str` matching regex"):
        pattern = next((one.pattern for one in types if isinstance(one, inspect.StrType) and one.pattern), "")
        return f"{shown(value)} is no {_FORMS.get(pattern, 'text of the form ' + pattern)}", None
    if found := re.fullmatch(r"Expected `(.*)`, got `(.*)`", problem):
        wanted = [_KINDS.get(part, part) for part in found[1].split(" | ") if part != "null"]
        return f"expected {' or '.join(wanted)}, got {shown(value)}", _decimal_comma(value)
    if found := re.fullmatch(r"Expected `(\w+)` (>|>=|<|<=) (\S+)", problem):
        limit = float(found[3]) if "." in found[3] or "e" in found[3] else int(found[3])
        relation = {">": "above", ">=": "of at least", "<": "below", "<=": "of at most"}[found[2]]
        return f"expected {_KINDS.get(found[1], found[1])} {relation} {limit:,.15g}, got {shown(value)}", None
    if found := re.fullmatch(r"Expected `array` of length (>=|<=) (\d+)", problem):
        return f"expected {'at least' if found[1] == '>=' else 'at most'} {found[2]} of them, got {shown(value)}", None
    return problem.replace("`", "'"), None


def shortened(text: str) -> str:
    """Return a text, of a long one its beginning."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def shown(value: object) -> str:
    """Return a value as it may stand in a message."""
    if isinstance(value, str):
        return f"the text '{shortened(value)}'"
    if isinstance(value, dict):
        return "keys with values"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return f"{value}".lower() if isinstance(value, bool) else "nothing" if value is None else f"{value}"


def _decimal_comma(value: object) -> str | None:
    is_comma = isinstance(value, str) and re.fullmatch(r"[-+]?\d+,\d+", value.strip())
    return "write decimals with a point" if is_comma else None


def _names(types: list[inspect.Type]) -> list[object]:
    """Return the names that may stand somewhere: of literals, and of the kinds of records."""
    names = []
    for one in types:
        if isinstance(one, inspect.LiteralType):
            names += one.values
        elif isinstance(one, inspect.StructType) and one.tag is not None:
            names.append(one.tag)
    return names


def _at(kind: type, values: object, where: str) -> tuple[list[inspect.Type], object]:
    """Return the types that may stand at a place, and the value that does."""
    types, value = _alternatives(inspect.type_info(kind)), values
    rest = where
    while rest:
        structs = [one for one in types if isinstance(one, inspect.StructType)]
        index = re.match(r"\[(\d+)\]", rest)
        if index:
            inner = [getattr(one, "item_type", None) for one in types]
            value = value[int(index[1])] if isinstance(value, list | tuple) and int(index[1]) < len(value) else None
            rest = rest[index.end() :]
        else:
            structs = _fitting(structs, value)
            names = [field.encode_name for one in structs for field in one.fields] + [one.tag_field or "" for one in structs]
            names += [str(name) for name in value] if isinstance(value, dict) else []
            fitting = [name for name in names if name and re.match(rf"\.{re.escape(name)}(?=[.\[]|$)", rest)]
            if not fitting:
                return [], value
            name = max(fitting, key=len)
            inner = [field.type for one in structs for field in one.fields if field.encode_name == name]
            inner += [one for one in structs if one.tag_field == name]  # where the kind itself stands
            inner += [one.value_type for one in types if isinstance(one, inspect.DictType)]
            value = value.get(name) if isinstance(value, dict) else None
            rest = rest[len(name) + 1 :]
        types = [alternative for one in inner if one is not None for alternative in _alternatives(one)]
    return types, value


def _fitting(structs: list[inspect.StructType], value: object) -> list[inspect.StructType]:
    """Return those of some records whose kind a value says, all of them where it says none."""
    if not isinstance(value, dict):
        return structs
    return [one for one in structs if one.tag is not None and one.tag == value.get(one.tag_field)] or structs


def _alternatives(kind: inspect.Type) -> list[inspect.Type]:
    """Return the types of a union, a type by itself."""
    if isinstance(kind, inspect.Metadata):
        return _alternatives(kind.type)
    return [part for one in kind.types for part in _alternatives(one)] if isinstance(kind, inspect.UnionType) else [kind]

"""Tables of text, as spreadsheets and scripts write them (CSV), read strictly: no value is taken that nobody wrote.

The header tells the separator: the one of tab, ';' and ',' by which it names the columns that are needed. Names of columns are
told apart whatever their case is, cells without the white space around them; rows without any text are none. Decimals have a
point, or a comma where that is not the separator, in one column always the same.
"""

import csv
import io
import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from streamcnn.errors import InputError
from streamcnn.explaining import did_you_mean, shortened

SEPARATORS = {"\t": "a tab", ";": "';'", ",": "','"}
_NUMBER = re.compile(r"[-+]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][-+]?[0-9]+)?")
_POINT = "write decimals with a point"


@dataclass(frozen=True)
class Table:
    """A table's columns by their names, in small letters, and its rows: each with the number of its first line."""

    path: Path
    separator: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    @property
    def places(self) -> list[str]:
        """Where each row stands, as file:line."""
        return [f"{self.path}:{line}" for line, _ in self.rows]

    def texts(self, name: str) -> list[str]:
        """Return the cells of a column; raises InputError where one is empty."""
        cells = self._cells(name)
        for where, cell in zip(self.places, cells, strict=True):
            if not cell:
                raise InputError(f"{where}: {name} is empty", "give a name")
        return cells

    def numbers(self, name: str) -> list[float]:
        """Return a column of finite numbers; raises InputError where a cell is none."""
        numbers = self.numbers_or_none(name)
        for where, number in zip(self.places, numbers, strict=True):
            if number is None:
                raise InputError(f"{where}: {name} is empty", "give a number")
        return numbers

    def numbers_or_none(self, name: str) -> list[float | None]:
        """Return a column of finite numbers, None for each empty cell; raises InputError where a cell is anything else."""
        cells = self._cells(name)
        marks = {mark: where for where, cell in zip(self.places, cells, strict=True) for mark in ".," if mark in cell}
        if self.separator != "," and len(marks) > 1:
            raise InputError(f"{marks[',']}: {name} has a decimal comma here, and a point in {marks['.']}", _POINT)
        return [self._number(where, name, cell) for where, cell in zip(self.places, cells, strict=True)]

    def _cells(self, name: str) -> list[str]:
        at = self.columns.index(name)
        return [cells[at] for _, cells in self.rows]

    def _number(self, where: str, name: str, cell: str) -> float | None:
        if not cell:
            return None
        is_number = _NUMBER.fullmatch(cell) is not None
        if not is_number or ("," in cell and self.separator == ","):
            raise InputError(f"{where}: {name} is {cut(cell)}", _POINT if is_number else "give a number")
        number = float(cell.replace(",", "."))
        if not math.isfinite(number):
            raise InputError(f"{where}: {name} is {cut(cell)}, which is no finite number", "give a smaller one")
        return number


def read(path: Path) -> str:
    """Return a file's text; raises InputError where it cannot be read, or is no UTF-8 text."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}:{line}: holds a NUL byte, as no text does", "save it as UTF-8, without that byte")
    return text


def parse(text: str, path: Path, needed: Collection[str], remedy: str) -> Table:
    """Return a text as a table that has the columns `needed`; `path`, and `remedy` where one is missing, are for messages only.

    Raises InputError, with file and line, for a column that is missing, without a name or there twice, for a row that has not
    as many cells as the header, and for what is not CSV.
    """
    separator = _separator(text, path, needed)
    rows = _rows(text, path, separator)
    line, header = next(rows, (1, ()))
    columns = _columns(header)
    _check_columns(f"{path}:{line}", columns, needed, remedy)
    table = Table(path, separator, columns, tuple(rows))
    for (_, cells), where in zip(table.rows, table.places, strict=True):
        if len(cells) != len(columns):
            raise InputError(
                f"{where}: has {len(cells)} cells ({listed(cells)}), the header has {len(columns)} ({listed(columns)})",
                _remedy(cells, columns, separator),
            )
    return table


def cut(text: str) -> str:
    """Return a text in quotes, on one line, and not all of a long one."""
    return repr(shortened(text))


def listed(texts: Collection[str], most: int = 8) -> str:
    """Return texts in quotes, and not all of many."""
    shown = [cut(text) for text in list(texts)[:most]]
    return ", ".join([*shown, "..."] if len(texts) > most else shown)


def _separator(text: str, path: Path, needed: Collection[str]) -> str:
    """Return the separator by which the header names what is needed, else the one that it has most of."""

    def fits(separator: str) -> tuple[bool, int]:
        try:
            columns = _columns(next(_rows(text, path, separator), (1, ()))[1])
        except InputError:
            return False, -1
        return set(needed) <= set(columns), len(columns)

    return max(reversed(SEPARATORS), key=fits)


def _rows(text: str, path: Path, separator: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the rows that hold something, each with the number of its first line."""
    # Without newline="" a line's end within a cell would be changed.
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    while True:
        line = rows.line_num + 1
        try:
            cells = tuple(cell.strip() for cell in next(rows))
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"{path}:{line}: is not CSV: {error}",
                "close each quotation mark, or leave both out; write one within a quoted cell twice",
            ) from error
        if any(cells):
            yield line, cells


def _columns(header: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.casefold() for name in header)


def _check_columns(where: str, columns: tuple[str, ...], needed: Collection[str], remedy: str) -> None:
    if not columns:
        raise InputError(f"{where}: is empty", remedy)
    for name in needed:
        if name not in columns:
            there = did_you_mean(name, [cut(one)[1:-1] for one in columns[:30]])
            raise InputError(f"{where}: has no column '{name}'", f"{remedy}; {there}")
    for number, name in enumerate(columns, 1):
        if not name:
            raise InputError(f"{where}: column {number} has no name", "name it, or take it out of every line")
        if columns.count(name) > 1:
            raise InputError(f"{where}: has {columns.count(name)} columns '{name}'", "leave one of them")


def _remedy(cells: tuple[str, ...], columns: tuple[str, ...], separator: str) -> str:
    """Return what helps against a row that has too many cells, or too few."""
    name = SEPARATORS[separator]
    if len(cells) < len(columns):
        others = [named for one, named in SEPARATORS.items() if one != separator and any(one in cell for cell in cells)]
        used = f", not {others[0]}" if others else ""
        return f"separate cells by {name}, as the header does{used}"
    return f"quote a cell that holds {name}" + (f"; {_POINT}" if separator == "," else "")

"""Numbers on the command line, refused in plain words."""

import math
import re

import click


class Whole(click.ParamType):
    """A whole number from `least` to `most`."""

    name = "number"

    def __init__(self, least: int | None = None, most: int | None = None):
        self._least, self._most = least, most

    def convert(self, value: object, param: click.Parameter | None, context: click.Context | None) -> int:
        """Read a number."""
        if isinstance(value, str):
            if not re.fullmatch(r"[-+]?[0-9]{1,30}", value):
                self.fail(f"'{value}' is no whole number", param, context)
            value = int(value)
        _check_range(self, value, self._least, self._most, param, context)
        return value


class Real(click.ParamType):
    """A finite number from `least` to `most`; with `above` instead of `least`, above that."""

    name = "number"

    def __init__(self, least: float | None = None, most: float | None = None, *, above: float | None = None):
        self._least, self._most, self._above = least, most, above

    def convert(self, value: object, param: click.Parameter | None, context: click.Context | None) -> float:
        """Read a number."""
        if isinstance(value, str):
            try:
                number = float(value) if "_" not in value else math.nan
            except ValueError:
                comma = re.fullmatch(r"[-+]?\d+,\d+", value)
                self.fail(f"'{value}' is no number{'; write decimals with a point' if comma else ''}", param, context)
            if not math.isfinite(number):
                self.fail(f"'{value}' is no finite number", param, context)
            value = number
        if self._above is not None and not value > self._above:
            self.fail(f"{value:g} is not above {self._above:g}", param, context)
        _check_range(self, value, self._least, self._most, param, context)
        return value


def _check_range(
    kind: click.ParamType,
    value: float,
    least: float | None,
    most: float | None,
    param: click.Parameter | None,
    context: click.Context | None,
) -> None:
    if least is not None and value < least:
        kind.fail(f"{value:,} is less than {least:,}", param, context)
    if most is not None and value > most:
        kind.fail(f"{value:,} is more than {most:,}", param, context)

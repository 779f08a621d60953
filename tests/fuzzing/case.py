"""What a case is, and what may come of it."""

import random as chance
from pathlib import Path
from typing import NamedTuple, Protocol


class Case(NamedTuple):
    """Input for a door: how it was made, its files by their names, and words that say what is done with them.

    `least`: how many frames, rows or labels it certainly holds, None where that cannot be known.
    """

    made: str
    files: dict[str, bytes]
    words: tuple[str, ...] = ()
    least: int | None = None

    def write(self, folder: Path) -> None:
        """Write its files into a folder."""
        for name, data in self.files.items():
            (folder / name).write_bytes(data)


class Outcome(NamedTuple):
    """What came of a case: whether it was taken as valid, and the fault, None where all is as it must be.

    `fault` names the kind, so that equal ones can be counted; `detail` says the rest.
    """

    is_taken: bool
    fault: str | None = None
    detail: str = ""


TAKEN, REFUSED = Outcome(is_taken=True), Outcome(is_taken=False)


def fault(kind: str, detail: object = "") -> Outcome:
    """Return the outcome of a case that does what none may do."""
    return Outcome(is_taken=True, fault=kind, detail=str(detail))


def dropped(what: str, got: int, least: int | None, said: str) -> Outcome:
    """Return the outcome of a case of which `got` came through: a fault where that is too few and nothing is said."""
    if least is not None and got < least and not said:
        return fault(f"{what} dropped in silence", f"{got} of at least {least}")
    return TAKEN


class Door(Protocol):
    """The shape of a door's module."""

    def prepare(self) -> None:
        """Load and compile what the first case would otherwise have to wait for."""

    def case(self, random: chance.Random) -> Case:
        """Make a case; the same chance makes the same case."""

    def try_(self, case: Case, folder: Path) -> Outcome:
        """Put a case before the program, in an empty folder that is the process's own."""

"""What is wrong with a journal's file: damaged pages, indexes that do not fit, and files that are no journal."""

import re
import sqlite3
from pathlib import Path

from streamcnn.errors import InputError, JournalError

VERSION = 2
DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
TRANSIENT = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_NOMEM")


class UnfitIndex(sqlite3.DatabaseError):
    """An index that does not fit the rows: they are not found by it."""


class BrokenPages(sqlite3.DatabaseError):
    """Pages that do not hang together: rows are lost, and new ones may be."""


# What SQLite says of single rows (their checksums tell it too) and of indexes; all else is about pages.
_OF_ROWS = re.compile("(?:NULL|NUMERIC|TEXT|BLOB|non-[A-Z]+) value in |CHECK constraint failed in ")
_OF_INDEXES = re.compile("(?:row(?:id)? .*|wrong # of entries in|non-unique entry in) index ")


def damage_of(db: sqlite3.Connection, check: str = "integrity_check") -> Exception | None:
    """Return what does not fit together in a file, None where all does.

    That takes as long as reading the file; a `quick_check`, which leaves out whether the indexes fit, half as long.
    """
    try:
        said = [str(line) for (line,) in db.execute(f"PRAGMA {check}(1000)")]
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        return error if is_damage(error) else None
    said = [line for line in said if line != "ok" and not _OF_ROWS.match(line)]
    broken = [line for line in said if not _OF_INDEXES.match(line)]
    if broken:
        return BrokenPages(broken[0].splitlines()[-1])
    return UnfitIndex(said[0]) if said else None


def is_damage(error: Exception) -> bool:
    """Whether an error says that a file is damaged; SQLite's own message may quote what is no text."""
    return isinstance(error, UnicodeDecodeError | BrokenPages) or _name(error).startswith(DAMAGE)


def is_transient(error: Exception) -> bool:
    """Whether an error says nothing of the file, and may be gone the next time."""
    return _name(error).startswith(TRANSIENT)


def _name(error: Exception) -> str:
    return getattr(error, "sqlite_errorname", "") or ""


def unreadable(path: Path, error: Exception, remedy: str) -> JournalError:
    """Return what there is to say of a file that cannot be read."""
    reason = "it is damaged" if isinstance(error, UnicodeDecodeError) else error
    return JournalError(f"{path}: cannot be read: {reason}", remedy)


def refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a database in which something else happens than what we wrote: views can be endless, triggers undo writes."""
    kinds = {kind for (kind,) in db.execute("SELECT CAST(type AS BLOB) FROM sqlite_master")}
    if not kinds <= {b"table", b"index"}:
        raise InputError(
            f"{path}: is a database, but no journal: it has views or triggers", "give journal.path another name"
        )


def other_version(path: Path, version: int) -> InputError:
    """Return what there is to say of a journal that another version of the program wrote."""
    remedy = "update streamcnn" if version > VERSION else "move it away; a new one is begun"
    return InputError(f"{path}: a journal of version {version}, this streamcnn takes version {VERSION}", remedy)

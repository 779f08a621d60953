"""Ways to spoil a file of SQLite: its pages, its header, and, through SQLite itself, its rows and its schema."""

import contextlib
import sqlite3
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.fuzzing.mutations import odd, spoiled

PAGE = 4096
VALUES = ("NULL", "''", "'x'", "x'00'", "x'ff80'", "x'7b7d'", "'{}'", "'[]'", "'null'", "-1", "0", "1e308", "9e999", "1.5",
          "9223372036854775807", "-9223372036854775808", "'é'", "char(0)", "char(55296)", "zeroblob(100000)",
          "replace(hex(zeroblob(5000)), '00', '[')", "CAST(x'ff' AS TEXT)", "'5'")  # fmt: skip


def damaged(random: Random, data: bytes) -> tuple[str, bytes]:
    """Return a database with bytes flipped, pages exchanged, or its end cut off, and how that was done."""
    match random.randrange(7):
        case 0:
            end = random.choice((0, 1, 15, 16, 100, 1024, PAGE, random.randrange(len(data) + 1)))
            return f"cut off after {end} bytes", data[:end]
        case 1:
            return "its header spoiled", spoiled(random, data, within=(0, min(100, len(data))))
        case 2:
            at = random.randrange(100)
            return f"byte {at} of its header changed", data[:at] + random.randbytes(1) + data[at + 1 :]
        case 3:
            pages = [data[k : k + PAGE] for k in range(0, len(data), PAGE)]
            one, other = random.randrange(len(pages)), random.randrange(len(pages))
            pages[one] = random.choice((pages[other], bytes(PAGE), random.randbytes(PAGE)))
            return f"page {one} overwritten", b"".join(pages)
        case 4:
            parts = bytearray(data)
            for _ in range(random.choice((1, 3, 30))):
                parts[random.randrange(len(parts))] ^= 1 << random.randrange(8)
            return "bits flipped", bytes(parts)
        case 5:
            page = random.randrange(max(1, len(data) // PAGE)) * PAGE
            at = page + (100 if page == 0 else 0) + random.randrange(40)
            number = struct.pack(">H", random.choice((0, 1, 8, 255, 4096, 65535)))
            return f"a page's head changed at {at}", data[:at] + number + data[at + 2 :]
    return "spoiled", spoiled(random, data)


def changed_by(random: Random, data: bytes, statements: Sequence[str]) -> tuple[str, bytes]:
    """Return a database after some of the statements, in which `?` is a strange value; those that fail are left out."""
    chosen = [random.choice(statements) for _ in range(random.choice((1, 1, 2, 3)))]
    chosen = [statement.replace("?", random.choice((*VALUES, _literal(odd(random))))) for statement in chosen]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.db"
        path.write_bytes(data)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("PRAGMA ignore_check_constraints = ON")
            for statement in chosen:
                with contextlib.suppress(sqlite3.Error):
                    db.executescript(statement)
        return "; ".join(chosen)[:300], path.read_bytes()


def rows_in(data: bytes, table: str) -> int | None:
    """Return how many rows a table has, None where it cannot be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.db"
        path.write_bytes(data)
        with contextlib.closing(sqlite3.connect(path)) as db, contextlib.suppress(sqlite3.Error):
            return len(db.execute(f"SELECT CAST(seq AS BLOB) FROM {table} NOT INDEXED").fetchall())
    return None


def _literal(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "NULL"
    if isinstance(value, int | float):
        return str(value) if abs(value) < 2**63 else "1e400"
    text = str(value).replace("'", "''").replace("\0", "").encode(errors="replace").decode()
    return f"'{text}'"

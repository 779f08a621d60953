"""A process's claim to a journal: the lock, and in its file the numbers that are reserved, should the journal be lost."""

import fcntl
import os
from pathlib import Path

from streamcnn.errors import JournalError

MOST_RESERVED = 2**62


class Claim:
    """The file beside a journal that one process has locked.

    Raises JournalError where another process has it, or its folder cannot be made.
    """

    def __init__(self, path: Path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise JournalError(
                f"{path}: the journal cannot be opened: {error.strerror}", "check its folder, or journal.path"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise JournalError(
                f"{path}: another process writes this journal", "stop it, or give this one its own journal.path"
            ) from error

    @property
    def reserved(self) -> int:
        """Up to where numbers were reserved, 0 where that is not known."""
        text = os.pread(self._file, 20, 0)
        number = int(text) if text.isdigit() else 0
        return number if number <= MOST_RESERVED else 0

    def reserve(self, number: int) -> None:
        """Note up to where numbers are reserved, on the disk: none of them is used again."""
        os.pwrite(self._file, f"{number:020d}".encode(), 0)
        os.fsync(self._file)

    def release(self) -> None:
        """Let other processes have it."""
        os.close(self._file)

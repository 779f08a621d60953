"""Keeping the start-up chatter of C libraries off the user's terminal."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Send what C code writes to standard error nowhere, for as long as the block lasts.

    For libraries that greet their loader with lines that mean nothing to a user and cannot be switched off: ALSA names
    every device that it did not find, TensorFlow the GPUs that are not there. Python's own errors are raised as ever.
    """
    try:
        target = sys.__stderr__.fileno()
    except (AttributeError, OSError, ValueError):
        yield
        return
    sys.__stderr__.flush()
    saved = os.dup(target)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), target)
        yield
    finally:
        os.dup2(saved, target)
        os.close(saved)

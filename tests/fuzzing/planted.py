"""A door with a fault of each kind, for the harness to find."""

import os
import signal
import threading
import time
from pathlib import Path
from random import Random

import numpy as np

from streamcnn.errors import InputError
from tests.fuzzing.case import TAKEN, Case, Outcome, dropped
from tests.fuzzing.worker import MOST_MB

# What is planted, and what the harness shall call it.
PLANTED = {
    "valid": None,
    "refused": None,
    "an exception": "KeyError in planted.py, try_",
    "a hang": "hangs",
    "a loss": "frames dropped in silence",
    "a thread's death": "a thread dies: ZeroDivisionError in planted.py, <lambda>",
    "the process's death": "the process dies: SIGKILL",
    "a flood": f"memory: more than {MOST_MB} MB",
    "an endless flood": "memory: asks for more than there may be",
}


def prepare() -> None:
    """Nothing has to be loaded."""


def case(random: Random) -> Case:
    """Choose what is planted."""
    return Case(random.choice(list(PLANTED)), {"x": b"12345"}, (), 5)


def try_(case: Case, folder: Path) -> Outcome:
    """Do what is planted."""
    match case.made:
        case "refused":
            raise InputError("no")
        case "an exception":
            raise KeyError("planted")
        case "a hang":
            time.sleep(60)
        case "a loss":
            return dropped("frames", 4, case.least, "")
        case "a thread's death":
            thread = threading.Thread(target=lambda: 1 / 0)
            thread.start()
            thread.join()
        case "the process's death":
            os.kill(os.getpid(), signal.SIGKILL)
        case "a flood":
            np.ones((MOST_MB + 100) << 17)
        case "an endless flood":
            np.ones(1 << 40)
    return TAKEN

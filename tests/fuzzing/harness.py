"""Puts the cases of a door before the program, several at a time, and tells which of them do what none may do."""

import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from tests.fuzzing.worker import Result, Worker, case_of

DOORS = (
    "nets",
    "models",
    "keras_models",
    "sounds",
    "tracks",
    "journals",
    "labels",
    "configs",
    "wires",
    "cursors",
    "pipes",
)
FEWER = {"keras_models": 10}  # a case of them costs so many of the others
KEPT = Path(tempfile.gettempdir()) / "streamcnn-fuzzing"


class Failure(NamedTuple):
    """A case that does what none may do."""

    door: str
    seed: int
    number: int
    made: str
    kind: str
    detail: str

    @property
    def again(self) -> str:
        """The command that tries it again."""
        return f"python -m tests.fuzzing {self.door} --seed {self.seed} --only {self.number}"

    def keep(self, folder: Path = KEPT) -> Path:
        """Write its files and what came of it into a folder of its own, and return that."""
        place = folder / f"{self.door}-{self.seed}-{self.number}"
        place.mkdir(parents=True, exist_ok=True)
        case = case_of(self.door, self.seed, self.number)
        case.write(place)
        words = f"{self.made}\n{' '.join(case.words)}\n{self.kind}\n{self.detail}\n"
        (place / "WHAT").write_text(words, errors="backslashreplace")
        return place


def tried(door: str, seed: int, numbers: Iterable[int], workers: int = 1) -> Iterator[tuple[int, Result]]:
    """Yield the result of each case."""
    idle: SimpleQueue[Worker] = SimpleQueue()
    everybody = [Worker(door, seed) for _ in range(workers)]

    def one(number: int) -> tuple[int, Result]:
        worker = idle.get()
        try:
            return number, worker.result(number)
        finally:
            idle.put(worker)

    for worker in everybody:
        idle.put(worker)
    try:
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(one, numbers)
    finally:
        for worker in everybody:
            with closing(worker):
                pass


def failure(door: str, seed: int, number: int, result: Result) -> Failure | None:
    """Return a result as a failure, None where it is none."""
    if result.outcome.fault is None:
        return None
    made = case_of(door, seed, number).made
    return Failure(door, seed, number, made, result.outcome.fault, result.outcome.detail)


def failures(door: str, seed: int, numbers: Iterable[int], workers: int = 1) -> list[Failure]:
    """Return the cases of a door that fail."""
    results = (failure(door, seed, number, result) for number, result in tried(door, seed, numbers, workers))
    return [one for one in results if one is not None]

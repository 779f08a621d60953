"""How good detections are, against labels: precision, recall, F1 and onset errors, event by event.

Definitions, those of sed_eval (Mesaros, Heittola, Virtanen, "Metrics for Polyphonic Sound Event Detection", Applied Sciences
6(6), 2016): an event matches a label of the same name in the same file whose onset is at most the tolerance away; each is
matched at most once, and as many as possible are. Overall numbers count all events (micro average); a label's its own.

A largest matching of onsets in time order is found by going through both lists and matching whatever can be matched first: two
that cross could be exchanged. So no search is needed.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

TOLERANCE_S = 0.2


class Occurrence(NamedTuple):
    """Something that begins at a time: in which file, as what, when (seconds from the file's start)."""

    file: str
    label: str
    onset_s: float


@dataclass(frozen=True)
class Score:
    """What was found of what there was: `errors_s` are found onsets less true ones, of those that match."""

    found: int
    labelled: int
    errors_s: tuple[float, ...]

    @property
    def matched(self) -> int:
        """How many of those found are true."""
        return len(self.errors_s)

    @property
    def precision(self) -> float:
        """Which share of what was found is true; NaN where nothing was found."""
        return self.matched / self.found if self.found else math.nan

    @property
    def recall(self) -> float:
        """Which share of what there was has been found; NaN where there was nothing."""
        return self.matched / self.labelled if self.labelled else math.nan

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; NaN where there was nothing and nothing was found."""
        both = self.found + self.labelled
        return 2 * self.matched / both if both else math.nan


def score(
    found: Iterable[Occurrence], labelled: Iterable[Occurrence], tolerance_s: float = TOLERANCE_S
) -> dict[str | None, Score]:
    """Return the score of each label, and under None that of all of them."""
    groups: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for side, occurrences in enumerate((found, labelled)):
        for one in occurrences:
            groups.setdefault((one.label, one.file), ([], []))[side].append(one.onset_s)
    scores: dict[str | None, list[tuple[int, int, list[float]]]] = {}
    for (label, _), (ours, theirs) in sorted(groups.items()):
        part = len(ours), len(theirs), matches(sorted(ours), sorted(theirs), tolerance_s)
        for name in (label, None):
            scores.setdefault(name, []).append(part)
    everything = {name: _sum(parts) for name, parts in scores.items()}
    return everything or {None: Score(0, 0, ())}


def matches(found: Sequence[float], labelled: Sequence[float], tolerance_s: float) -> list[float]:
    """Return the errors of a largest matching of two sorted lists of onsets."""
    errors, k = [], 0
    for onset in labelled:
        while k < len(found) and found[k] < onset and math.fabs(onset - found[k]) > tolerance_s:
            k += 1
        if k < len(found) and math.fabs(onset - found[k]) <= tolerance_s:
            errors.append(found[k] - onset)
            k += 1
    return errors


def _sum(parts: list[tuple[int, int, list[float]]]) -> Score:
    errors = tuple(error for *_, some in parts for error in some)
    return Score(sum(found for found, *_ in parts), sum(labelled for _, labelled, _ in parts), errors)

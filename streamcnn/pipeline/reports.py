"""From the records that machine code leaves to events: what was decided, where it stands, and when that was."""

import math
from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np

from streamcnn.clock import Clock
from streamcnn.detect.hits import (
    DECIDED,
    END,
    MEASURED,
    ONSET,
    PEAK,
    PHASE,
    TRUNCATED,
    Hit,
    hit_of,
    reals_of,
    shortest_decimal,
)
from streamcnn.events import Detection, Event, Flood, Gap, Measure, utc
from streamcnn.inference import tables as T
from streamcnn.inference.flood import FLOOD
from streamcnn.pipeline.runner import Runner
from streamcnn.ring import UNKNOWN

SECOND_DIGITS = 9


class Reports:
    """Makes events of records, and tells the clock of the pairs of times among them. `rate` in Hz.

    `on_pair` is told pairs of times too, about one a second. `detections`: how many were confirmed. `epoch`: how often the
    clock had to begin anew.
    """

    def __init__(self, stream: str, session: str, rate: int, runners: list[Runner], clock: Clock | None):
        self.detections, self.epoch = 0, 0
        self.on_pair: Callable[[int, int, int, int], None] | None = None
        self._names = {"stream": stream, "session": session}
        self._rate, self._runners, self._clock = rate, runners, clock
        self._causes = list(T.CAUSES)
        self._told_pair = T.NOWHERE

    def number_of(self, cause: str) -> int:
        """Return the number by which records name the cause of a gap."""
        if cause not in self._causes:
            self._causes.append(cause)
        return self._causes.index(cause)

    def events(self, rows: np.ndarray) -> Iterator[tuple[Event, int]]:
        """Yield records, those of whole pieces of signal, as events, each with when it was made."""
        reals = reals_of(rows[:, T.HIT_AT :].copy())
        for kind, numbered in groupby(enumerate(rows.tolist()), lambda pair: _group(pair[1])):
            if kind[0] == T.HIT:
                told = list(self._told([(row, reals[number]) for number, row in numbered], kind[1]))
                # As single frames would give them. (What ends by force is in the order of the nets.)
                by_force = kind[2]
                yield from told if by_force else sorted(told, key=lambda pair: pair[0].decided_sample)
                continue
            for _, row in numbered:
                if kind[0] == T.GAP:
                    yield self._gap(row), row[T.MADE_AT]
                elif kind[0] == T.PAIR and self._clock is not None:
                    self._observe(row)

    def _observe(self, row: list[int]) -> None:
        self._clock.observe(row[T.OF_SAMPLE], row[T.OF_ARRIVAL], row[T.OF_AGE], row[T.OF_UTC])
        if self.on_pair is not None and (self._told_pair < 0 or row[T.OF_SAMPLE] - self._told_pair >= self._rate):
            self._told_pair = row[T.OF_SAMPLE]
            self.on_pair(*row[T.OF_SAMPLE : T.OF_UTC + 1])

    def _gap(self, row: list[int]) -> Gap:
        start, frames, error, cause = row[T.GAP_START : T.GAP_CAUSE + 1]
        if error and self._clock is not None:
            self._clock.restart()
            self.epoch, self._told_pair = self.epoch + 1, T.NOWHERE
        return Gap(
            **self._names,
            start_sample=start,
            frames=frames,
            frames_error=None if error == UNKNOWN else error,
            cause=self._causes[cause],
        )

    def _told(self, rows: list[tuple[list[int], list[float]]], seen: int) -> Iterator[tuple[Event, int]]:
        """Yield the events of rows of hits, with their scores and offsets."""
        measured: list[float] = []  # of the outputs of one frame
        for row, reals in rows:
            runner, started, hit = self._runners[row[T.NET]], row[T.ENGINE_STARTED], row[T.HIT_AT :]
            if hit[PHASE] == FLOOD:
                yield self._flood(runner, hit, started, seen), row[T.MADE_AT]
            elif hit[PHASE] == MEASURED:
                measured.append(reals[0])
                if len(measured) == len(runner.listener.labels):
                    yield self._measure(runner, hit_of(hit, *reals), measured, started, seen), row[T.MADE_AT]
                    measured = []
            else:
                yield self._detection(runner, hit_of(hit, *reals), started, seen), row[T.MADE_AT]

    def _detection(self, runner: Runner, hit: Hit, started: int, seen: int) -> Detection:
        self.detections += hit.phase == "confirmed"
        listener, onset = runner.listener, runner.sample(hit.onset, started)
        label, sample = listener.labels[hit.output], runner.sample(hit.peak, started)
        position = runner.between(hit.peak, hit.offset, started)
        return Detection(
            **self._names,
            id=f"{self._names['stream']}/{self._names['session']}/{listener.name}/{label}/{onset}",
            phase=hit.phase,
            detector=listener.name,
            kind=listener.kind,
            label=label,
            net=runner.net,
            sample=sample,
            position=position,
            start_sample=onset,
            end_sample=None if hit.end is None else runner.sample(hit.end, started),
            decided_sample=runner.decided(hit.decided, started, seen),
            score=hit.score,
            threshold=listener.thresholds[label],
            truncated=hit.truncated,
            **self._times(position),
        )

    def _measure(self, runner: Runner, hit: Hit, values: list[float], started: int, seen: int) -> Measure:
        listener, sample = runner.listener, runner.sample(hit.peak, started)
        told = [shortest_decimal(value) if math.isfinite(value) else None for value in values]
        return Measure(
            **self._names,
            id=f"{self._names['stream']}/{self._names['session']}/{listener.name}/{sample}",
            detector=listener.name,
            net=runner.net,
            sample=sample,
            start_sample=runner.sample(hit.onset, started),
            decided_sample=runner.decided(hit.decided, started, seen),
            values=dict(zip(listener.labels, told, strict=True)),
            **self._times(float(sample)),
        )

    def _flood(self, runner: Runner, hit: list[int], started: int, seen: int) -> Flood:
        return Flood(
            **self._names,
            detector=runner.listener.name,
            suppressed=hit[PEAK],
            start_sample=runner.sample(hit[ONSET], started),
            end_sample=runner.sample(hit[END], started),
            decided_sample=runner.decided(hit[DECIDED], started, seen),
        )

    def _times(self, position: float) -> dict[str, object]:
        """Return when a position was: in seconds from the start, and, where there is a clock, in UTC, with its error."""
        seconds = {"time_s": round(position / self._rate, SECOND_DIGITS)}
        known = None if self._clock is None else self._clock.utc(position)
        if known is None:
            return seconds
        try:
            return {**seconds, "time": utc(known[0]), "time_error_s": known[1]}
        except (ValueError, OverflowError):  # a recording whose clock leads out of all years
            return seconds


def _group(row: list[int]) -> tuple[int, int, int]:
    """Return what records have in common that were decided in one piece."""
    return row[T.KIND], row[T.SEEN], row[T.HIT_AT + TRUNCATED] if row[T.KIND] == T.HIT else 0

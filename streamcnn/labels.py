"""What there is and what was found, as files list it, and whether both speak of the same files and labels.

Labels are a table of the columns onset, label and perhaps file. Detections are events as `replay` and `events` write them, JSON
lines or CSV, which is told by the content; only confirmed ones count, each once.

Which file is which: a name in the column file is that of the events' session, or has the base name of it, where no other name
on either side has that. Nothing else is brought together by likeness. What has no partner counts as missed or as false, and
that is said.
"""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from streamcnn import tables
from streamcnn.errors import InputError, SubscribeError
from streamcnn.events import SCHEMA, Detection, Event, from_json
from streamcnn.explaining import explain, nearest
from streamcnn.scoring import Occurrence

_OURS = "give what 'replay -o', 'events --json' or 'events --csv' wrote"
_JSON = (".json", ".jsonl", ".ndjson")
_SHOWN = 3  # names in a note


@dataclass(frozen=True)
class Listing:
    """What a file lists: occurrences, the files that it speaks of (None where it names none), what a user should know."""

    path: Path
    occurrences: tuple[Occurrence, ...]
    files: frozenset[str] | None
    notes: tuple[str, ...] = ()


class _Told(NamedTuple):
    """What counts of a detection, and where it stands."""

    where: str
    id: str
    phase: str
    kind: str
    label: str
    session: str
    position: float
    start_sample: float
    time_s: float | None

    @property
    def same(self) -> tuple[object, ...]:
        """What must be equal in detections of one id."""
        return self.kind, self.label, self.session, self.position, self.start_sample


def read_labels(path: Path) -> Listing:
    """Return what a table of labels lists; raises InputError, with file and line, for anything else."""
    table = tables.parse(
        tables.read(path), path, ("onset", "label"), "a header line names onset, label and perhaps file"
    )
    onsets, labels = table.numbers("onset"), table.texts("label")
    names_files = "file" in table.columns
    files = table.texts("file") if names_files else [""] * len(labels)
    for where, onset in zip(table.places, onsets, strict=True):
        if onset < 0:
            raise InputError(f"{where}: onset is {onset:g} s, before the file's start", "count seconds from the start")
    notes = [] if labels else [f"{path}: holds no labels"]
    near = None if names_files else next((name for name in table.columns if "file" in name), None)
    if near is not None:
        notes.append(f"{path}: has no column 'file', only '{near}': its labels count as those of one file")
    occurrences = tuple(map(Occurrence, files, labels, onsets))
    return Listing(path, occurrences, frozenset(files) if names_files else None, tuple(notes))


def read_detections(path: Path, rate: int | None = None) -> Listing:
    """Return the confirmed detections of a file of events: peaks by where they stand, others by where they begin.

    `rate`: of the signal, for events that say no seconds. Raises InputError, with file and line, for what is no event, and
    for events that do not say when they were.
    """
    text = tables.read(path)
    if text.lstrip()[:1] in ("{", "") or path.suffix.casefold() in _JSON:
        events = list(_events(path, text))
        files = {event.session.strip() for _, event in events}
        told = [_told(where, event) for where, event in events if isinstance(event, Detection)]
        count = len(events)
    else:
        told = list(_rows(path, text))
        files, count = {one.session for one in told}, len(told)
    confirmed = [one for one in told if one.phase == "confirmed"]
    once = _once(confirmed)
    notes = []
    if not confirmed:
        notes.append(f"{path}: holds no " + (f"confirmed detections, in {count} events" if count else "detections"))
    if len(once) < len(confirmed):
        notes.append(f"{path}: {len(confirmed) - len(once)} detections are there again; each counts once")
    occurrences = tuple(Occurrence(one.session, one.label, _onset_s(one, rate)) for one in once)
    return Listing(path, occurrences, frozenset(files), tuple(notes))


def paired(found: Listing, labelled: Listing) -> tuple[Listing, Listing, list[str]]:
    """Return both with the same names for the same files, and what a user should know of names that the other has not.

    Raises InputError where labels name no files and detections are of several.
    """
    if labelled.files is None:
        files = {one.file for one in found.occurrences}
        if len(files) > 1:
            raise InputError(
                f"{labelled.path}: names no files, {found.path} has {len(files)} of them: {tables.listed(sorted(files))}",
                "add a column 'file'",
            )
        found = _renamed(found, dict.fromkeys(found.files, ""))
        return found, labelled, list(_label_notes(found, labelled))
    labelled = _renamed(labelled, _partners(labelled.files, found.files))
    return found, labelled, [*_file_notes(found, labelled), *_label_notes(found, labelled)]


# Events


def _events(path: Path, text: str) -> Iterator[tuple[str, Event]]:
    """Yield the events of JSON lines, each with where it stands."""
    for number, line in enumerate(text.split("\n"), 1):  # a string of JSON may hold what Python calls a line's end
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            yield where, from_json(line.encode())
        except SubscribeError as error:
            if isinstance(error.__cause__, RecursionError):
                raise InputError(f"{where}: not an event: is nested too deeply", _OURS) from error
            why, remedy = _why(line, error)
            raise InputError(f"{where}: not an event: {why}", remedy) from error


def _why(line: str, error: SubscribeError) -> tuple[str, str]:
    """Return why a line of JSON is no event, and what helps."""
    cause, values = error.__cause__, _values(line)
    schema = values.get("schema", SCHEMA) if isinstance(values, dict) else SCHEMA
    if isinstance(schema, int) and schema != SCHEMA:
        return f"is of schema {schema}, this version reads schema {SCHEMA}", "update streamcnn"
    if not isinstance(cause, msgspec.ValidationError):
        return f"is no JSON: {cause}: {tables.cut(line)}", _OURS
    place, problem, remedy = explain(cause, Event, values)
    return f"{f'at {place}: ' if place else ''}{problem}", remedy or _OURS


def _values(line: str) -> object:
    """Return what JSON says, numbers of any size among it; nothing where it is none."""
    try:
        return json.loads(line, parse_int=lambda digits: int(digits) if len(digits) < 20 else float(digits))
    except (ValueError, RecursionError):
        return None


def _told(where: str, event: Detection) -> _Told:
    return _Told(
        where,
        event.id,
        event.phase,
        event.kind,
        event.label.strip(),
        event.session.strip(),
        event.position,
        event.start_sample,
        event.time_s,
    )


def _rows(path: Path, text: str) -> Iterator[_Told]:
    """Yield the detections of a table."""
    names = [name for name in _Told._fields if name != "where"]
    table = tables.parse(text, path, names, _OURS)
    if "schema" in table.columns:
        for where, schema in zip(table.places, table.numbers("schema"), strict=True):
            if schema != SCHEMA:
                raise InputError(
                    f"{where}: is of schema {schema:g}, this version reads schema {SCHEMA}", "update streamcnn"
                )
    texts = [table.texts(name) for name in names[:5]]
    numbers = [table.numbers("position"), table.numbers("start_sample"), table.numbers_or_none("time_s")]
    yield from map(_Told, table.places, *texts, *numbers)


def _once(detections: list[_Told]) -> list[_Told]:
    """Return the first detection of each id; raises InputError where another one is not the same."""
    by_id: dict[str, _Told] = {}
    for one in detections:
        first = by_id.setdefault(one.id, one)
        if first.same != one.same:
            raise InputError(
                f"{one.where}: has the id of {first.where}, and is another detection: {tables.cut(one.id)}",
                "score what one replay wrote, of files with different names",
            )
    return list(by_id.values())


def _onset_s(one: _Told, rate: int | None) -> float:
    """Return when a detection began, in seconds from its session's start."""
    if one.time_s is None and rate is None:
        raise InputError(f"{one.where}: this event says no seconds", "give the signal's rate: --rate")
    at_rate_s = one.time_s if rate is None else one.position / rate
    at_s = at_rate_s if one.time_s is None else one.time_s
    if not math.isclose(at_s, at_rate_s, rel_tol=1e-9, abs_tol=1e-6):
        raise InputError(
            f"{one.where}: sample {one.position:.15g} is said to be at {at_s:g} s, at {rate} Hz it is at {at_rate_s:g} s",
            "leave --rate out",
        )
    if one.kind == "peak":
        return at_s
    try:
        onset_s = at_s / one.position * one.start_sample if one.position else 0.0
    except OverflowError:
        onset_s = math.inf
    if not math.isfinite(onset_s):
        raise InputError(f"{one.where}: start_sample {one.start_sample} has no finite time", _OURS)
    return onset_s


# Names


def _base(name: str) -> str:
    """Return what stands behind the last slash of either kind."""
    return re.split(r"[/\\]", name)[-1]


def _partners(labelled: Set[str], found: Set[str]) -> dict[str, str]:
    """Return for names of files among the labels those of the same files among the detections."""
    ours, theirs = (Counter(map(_base, names)) for names in (found, labelled))
    by_base = {_base(name): name for name in found}
    alone = {name for name in labelled if ours[_base(name)] == theirs[_base(name)] == 1}
    return {name: name if name in found else by_base[_base(name)] for name in alone | (labelled & found)}


def _renamed(listing: Listing, names: dict[str, str]) -> Listing:
    """Return a listing with other names for some of its files."""
    occurrences = tuple(one._replace(file=names.get(one.file, one.file)) for one in listing.occurrences)
    return replace(listing, occurrences=occurrences, files=frozenset(names.get(file, file) for file in listing.files))


def _file_notes(found: Listing, labelled: Listing) -> Iterator[str]:
    """Say what lies in files that the other side does not name."""
    free = sorted(found.files - labelled.files)
    if missed := _apart(labelled, found):
        names = _with_nearest(sorted(set(missed)), lambda name: _nearest_file(name, free))
        yield (
            f"{labelled.path}: {len(missed)} of {len(labelled.occurrences)} labels lie in files that {found.path} does not "
            f"name, and count as missed: {names}"
            + (
                f"; names, or base names that no other has, must be equal: there are {tables.listed(free)}"
                if free
                else ""
            )
        )
    if false := _apart(found, labelled):
        yield (
            f"{found.path}: {len(false)} of {len(found.occurrences)} detections lie in files that {labelled.path} does not "
            f"name, and count as false: {tables.listed(sorted(set(false)), _SHOWN)}"
        )


def _apart(one: Listing, other: Listing) -> list[str]:
    """Return the file of each occurrence in one that the other does not name."""
    return [occurrence.file for occurrence in one.occurrences if occurrence.file not in other.files]


def _nearest_file(name: str, names: list[str]) -> str | None:
    """Return the file that was perhaps meant: its name may have another folder, case or ending."""

    def stem(path: str) -> str:
        return PurePosixPath(_base(path)).stem.casefold()

    bases = {_base(one): one for one in names}
    return {stem(one): one for one in names}.get(stem(name)) or bases.get(nearest(_base(name), bases) or "")


def _label_notes(found: Listing, labelled: Listing) -> Iterator[str]:
    """Say which labels are perhaps the same, and where none is."""
    ours, theirs = ({one.label for one in side.occurrences} for side in (found, labelled))
    alike: dict[str, list[str]] = {}
    for name in sorted(ours | theirs):
        alike.setdefault(_folded(name), []).append(name)
    twins = [names for names in alike.values() if len(names) > 1]
    for names in twins:
        written = " and ".join(map(tables.cut, names))
        yield f"labels {written} differ in case, spaces, '_' or '-' only: they count as {len(names)}"
    if not twins and ours and theirs and not ours & theirs:
        names, there = _with_nearest(sorted(theirs), lambda name: nearest(name, ours)), tables.listed(sorted(ours))
        yield f"{labelled.path}: none of its labels is detected in {found.path}: {names}; there are {there}"


def _folded(name: str) -> str:
    """Return what labels have in common that people take for the same."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold())


def _with_nearest(names: list[str], near: Callable[[str], str | None]) -> str:
    """Return names, and not all of many, each with the one that was perhaps meant."""
    shown = []
    for name in names[:_SHOWN]:
        meant = near(name)
        shown.append(tables.cut(name) + ("" if meant is None else f" (nearest: {tables.cut(meant)})"))
    return ", ".join([*shown, f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else shown)

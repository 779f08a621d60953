"""`streamcnn score`: detections against labels."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median

import click
from rich.table import Table
from rich.text import Text

from streamcnn.cli.numbers import Real, Whole
from streamcnn.cli.screen import wide_console
from streamcnn.config import MAX_RATE
from streamcnn.errors import InputError, SubscribeError
from streamcnn.events import Detection, from_json
from streamcnn.scoring import TOLERANCE_S, Occurrence, Score, score


@click.command("score", short_help="Compare detections with labels.")
@click.argument("events", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    required=True,
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="What there is: columns 'onset' (seconds) and 'label', and 'file' where there are several.",
)
@click.option(
    "--tolerance",
    type=Real(0),
    default=TOLERANCE_S,
    show_default=True,
    metavar="S",
    help="How far apart two onsets of the same event may be.",
)
@click.option(
    "--rate",
    type=Whole(1, MAX_RATE),
    metavar="HZ",
    help="Of the signal, for events that say no seconds (live).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def command(events: Path, labels: Path, tolerance: float, rate: int | None, as_json: bool) -> None:
    """Compare the detections in EVENTS, as 'replay' and 'events' write them (JSON lines, or CSV), with labels.

    An event is found if a detection of its label begins within the tolerance of its onset; each counts once.
    """
    found, (labelled, by_file) = _found(events, rate), _labelled(labels)
    if not by_file:
        files = {one.file for one in found}
        if len(files) > 1:
            raise InputError(f"{labels}: names no files, {events} has {len(files)} of them", "add a column 'file'")
        found = [one._replace(file="") for one in found]
    scores = score(found, labelled, tolerance)
    if as_json:
        named = {name or "all": _numbers(one) for name, one in scores.items()}
        print(json.dumps(named, allow_nan=False, indent=1))
        return
    table = Table(box=None)
    errors = ("onset error: mean", "median", "95 %")
    for heading in ("label", "labelled", "found", "matched", "precision", "recall", "F1", *errors):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for name, one in sorted(scores.items(), key=lambda pair: (pair[0] is None, pair[0])):
        numbers = _numbers(one)
        shares = (_share(numbers[key]) for key in ("precision", "recall", "f1"))
        errors = (_ms(numbers[key]) for key in ("mean_error_s", "median_error_s", "error95_s"))
        cells = (name or "all", str(one.labelled), str(one.found), str(one.matched), *shares, *errors)
        table.add_row(*map(Text, cells))
    wide_console().print(table)


def _numbers(one: Score) -> dict[str, float | int | None]:
    errors = sorted(map(abs, one.errors_s))
    values = {
        "labelled": one.labelled,
        "found": one.found,
        "matched": one.matched,
        "precision": one.precision,
        "recall": one.recall,
        "f1": one.f1,
        "mean_error_s": mean(one.errors_s) if errors else None,
        "median_error_s": median(one.errors_s) if errors else None,
        "error95_s": errors[math.ceil(0.95 * len(errors)) - 1] if errors else None,
    }
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value * 1e3:.2f} ms"


def _found(path: Path, rate: int | None) -> list[Occurrence]:
    """Return the confirmed detections of a file, each once: peaks by where they stand, others by where they begin."""
    found = {}
    for where, event in _detections(path):
        if event["phase"] != "confirmed":
            continue
        if rate is None and event["time_s"] is None:
            raise InputError(f"{where}: this event says no seconds", "give the signal's rate: --rate")
        scale = 1 / rate if rate else event["time_s"] / event["position"] if event["position"] else 0.0
        onset_s = scale * (event["position"] if event["kind"] == "peak" else event["start_sample"])
        found.setdefault(event["id"], Occurrence(event["session"], event["label"], onset_s))
    return list(found.values())


def _detections(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the detections of a file, each with where it stands."""
    lines = _lines(path)
    if path.suffix == ".csv":
        for number, row in _rows(path, csv.DictReader(lines)):
            yield f"{path}:{number}", _typed(f"{path}:{number}", row)
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = from_json(line.encode())
        except SubscribeError as error:
            raise InputError(
                f"{path}:{number}: {error.message}", "give what 'replay' or 'events --json' wrote"
            ) from error
        if isinstance(event, Detection):
            yield f"{path}:{number}", {name: getattr(event, name) for name in event.__struct_fields__}


def _typed(where: str, row: dict[str, str]) -> dict[str, object]:
    """Return a row of CSV with the fields that are numbers as such."""
    try:
        numbers = {"position": float(row["position"]), "time_s": float(row["time_s"]) if row["time_s"] else None}
        texts = {name: row[name] for name in ("id", "phase", "kind", "label", "session")}
        if None in texts.values() or not all(map(math.isfinite, filter(None, numbers.values()))):
            raise ValueError("a field is missing, or not finite")
        return {**numbers, **texts, "start_sample": int(row["start_sample"])}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: is no detection: {error}", "give what 'replay -o X.csv' wrote") from error


def _labelled(path: Path) -> tuple[list[Occurrence], bool]:
    """Return what a file of labels says, and whether it names files."""
    reader = csv.DictReader(_lines(path))
    missing = {"onset", "label"} - set(reader.fieldnames or ())
    if missing:
        raise InputError(
            f"{path}:1: has no column '{min(missing)}'", "a header line names onset, label and perhaps file"
        )
    labelled = []
    for number, row in _rows(path, reader):
        try:
            onset = float(row["onset"])
        except (TypeError, ValueError):
            onset = math.nan
        if not math.isfinite(onset) or not row["label"]:
            raise InputError(
                f"{path}:{number}: onset is '{row['onset']}', label '{row['label']}'", "give seconds and a name"
            )
        labelled.append(Occurrence(row.get("file") or "", row["label"], onset))
    return labelled, "file" in reader.fieldnames


def _rows(path: Path, reader: csv.DictReader) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a table with the numbers of their lines."""
    try:
        yield from enumerate(reader, 2)
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: is not CSV: {error}") from error


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start})") from error

"""`streamcnn score`: detections against labels."""

import json
import math
from pathlib import Path
from statistics import mean, median

import click
from rich.table import Table
from rich.text import Text

from streamcnn.cli.numbers import Real, Whole
from streamcnn.cli.screen import wide_console
from streamcnn.config import MAX_RATE
from streamcnn.errors import InputError
from streamcnn.labels import paired, read_detections, read_labels
from streamcnn.scoring import TOLERANCE_S, Score, score

ALL = "all"


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
    help="Of the signal, for events that say no seconds (in old files).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def command(events: Path, labels: Path, tolerance: float, rate: int | None, as_json: bool) -> None:
    """Compare the detections in EVENTS, as 'replay' and 'events' write them (JSON lines, or CSV), with labels.

    An event is found if a detection of its label begins within the tolerance of its onset; each counts once.

    Labels are separated by tabs, ';' or ',', as in their header. A 'file' is the session of EVENTS that has its name (of a
    replayed file that is the file's name, of a recording the session's own), else the one that has its base name, where
    no other on either side has that.
    """
    detections, listed = read_detections(events, rate), read_labels(labels)
    found, labelled, notes = paired(detections, listed)
    for note in (*detections.notes, *listed.notes, *notes):
        click.echo(f"streamcnn: {note}", err=True)
    scores = score(found.occurrences, labelled.occurrences, tolerance)
    if as_json:
        if ALL in scores:
            raise InputError(f"a label is named '{ALL}', as the numbers of all labels are", "leave out --json")
        print(json.dumps({_name(name): _numbers(one) for name, one in scores.items()}, allow_nan=False, indent=1))
        return
    table = Table(box=None)
    errors = ("onset error: mean", "median", "95 %")
    for heading in ("label", "labelled", "found", "matched", "precision", "recall", "F1", *errors):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for name, one in sorted(scores.items(), key=lambda pair: (pair[0] is None, pair[0])):
        numbers = _numbers(one)
        shares = (_share(numbers[key]) for key in ("precision", "recall", "f1"))
        errors = (_ms(numbers[key]) for key in ("mean_error_s", "median_error_s", "error95_s"))
        cells = (_name(name), str(one.labelled), str(one.found), str(one.matched), *shares, *errors)
        table.add_row(*map(Text, cells))
    wide_console().print(table)


def _name(label: str | None) -> str:
    return ALL if label is None else label


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

"""Labels and events as people and programs write them, given to `score`."""

import csv
import io
import json
import re
from pathlib import Path
from random import Random

from tests.fuzzing.case import Case, Outcome, dropped, fault
from tests.fuzzing.command import judged, run
from tests.fuzzing.mutations import TEXTS, changed, nudged, odd, spoiled

COLUMNS = ("id", "phase", "stream", "session", "detector", "kind", "label", "net", "sample", "position", "start_sample",
           "end_sample", "decided_sample", "score", "threshold", "truncated", "time", "time_s", "time_error_s",
           "detected_at", "seq", "prev", "schema")  # fmt: skip
LABELS = ("ramp", "two", "Frère, Jacques", 'say "a"', " ramp", "é", "1")


def prepare() -> None:
    """Load the command."""
    Path("e.jsonl").write_text(json.dumps(detection(0, 1000)) + "\n")
    Path("l.csv").write_text("onset,label\n0.02,ramp\n")
    run("score", "e.jsonl", "--labels", "l.csv", "--json")


def detection(number: int, sample: int, label: str = "ramp", file: str = "a.wav") -> dict[str, object]:
    """Return a detection as `replay` writes it."""
    return {
        "type": "detection", "schema": 1, "id": f"s/{file}/d/{label}/{number}", "phase": "confirmed", "stream": "s",
        "session": file, "detector": "d", "kind": "peak", "label": label, "net": "ramp@1390f4", "sample": sample,
        "position": sample + 0.25, "start_sample": sample - 2, "end_sample": sample + 2, "decided_sample": sample + 9,
        "score": 0.9, "threshold": 0.6, "truncated": False, "time": None, "time_s": (sample + 0.25) / 48_000,
        "time_error_s": None, "detected_at": None, "seq": None, "prev": None,
    }  # fmt: skip


def case(random: Random) -> Case:
    """Make labels and events, and spoil one of the two."""
    spoils_labels = random.random() < 0.6
    made, labels = _labels(random, is_spoiled=spoils_labels)
    suffix, told, events = _events(random, is_spoiled=not spoils_labels)
    words = random.choice(((), (), ("--rate", "48000"), ("--tolerance", "0.5")))
    return Case(f"labels {made}; events {told}", {"labels.csv": labels, f"events{suffix}": events}, words)


def try_(case: Case, folder: Path) -> Outcome:
    """Score them; each label and each confirmed detection must be counted, or something said."""
    events = next(name for name in case.files if name.startswith("events"))
    ran = run("score", folder / events, "--labels", folder / "labels.csv", "--json", *case.words)
    outcome = judged(ran)
    if outcome.fault or not outcome.is_taken:
        return outcome
    total = json.loads(ran.out)["all"]
    least = rows_of(case.files["labels.csv"])
    outcome = dropped("labels", total["labelled"], least, ran.err)
    if outcome.fault:
        return outcome
    if has_more_than_is_named(case.files["labels.csv"]) and not ran.err:
        return fault("cells dropped in silence")
    if total["labelled"] > max(least, 0) and not ran.err:
        return fault("labels come from nowhere", f"{total['labelled']} of {least}")
    found = confirmed_of(case.files[events], events)
    return dropped("events", total["found"], found, ran.err)


def table(data: bytes) -> tuple[list[str], list[list[str]] | None]:
    """Return the lines of a table that hold anything, and its rows of strict CSV that do; None where it is none."""
    text = data.decode("utf-8-sig", errors="replace")
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip(" \t,;")]
    head = lines[0] if lines else ""
    delimiter = max(",;\t", key=lambda one: (head.count(one), one == ","))
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter))
    except csv.Error:
        return lines, None
    return lines, [row for row in rows if any(cell.strip() for cell in row)]


def rows_of(data: bytes) -> int:
    """Return how many rows a table has below its header: those of strict CSV, or else the lines that hold anything."""
    lines, rows = table(data)
    return len(lines if rows is None else rows) - 1


def has_more_than_is_named(data: bytes) -> bool:
    """Whether a row of a table has something beyond the columns of its header, or one of the columns stands there twice."""
    _, rows = table(data)
    if not rows:
        return False
    header = [name.strip() for name in rows[0]]
    return len({*header} & {"onset", "label", "file"}) < sum(
        name in ("onset", "label", "file") for name in header
    ) or any(any(cell.strip() for cell in row[len(header) :]) for row in rows[1:])


def confirmed_of(data: bytes, name: str) -> int:
    """Return how many detections a file of events confirms, each id once."""
    text = data.decode("utf-8-sig", errors="replace")
    if name.endswith(".csv"):
        try:
            rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        except csv.Error:
            return max(0, len([line for line in text.splitlines() if line.strip()]) - 1)
    else:
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        rows = [row for row in rows if row.get("type") == "detection"]
    return len({row.get("id") for row in rows if row.get("phase") == "confirmed"})


def _labels(random: Random, *, is_spoiled: bool) -> tuple[str, bytes]:
    many = random.random() < 0.5
    header = ["onset", "label", *(["file"] if many else [])]
    rows = [[_onset(random), random.choice(LABELS), *(["a.wav"] if many else [])] for _ in range(random.randrange(12))]
    made = [f"{len(rows)} rows"]
    if is_spoiled and random.random() < 0.4:
        for _ in range(random.choice((1, 1, 2))):
            made.append(_change_table(random, header, rows))
    ends = random.choice(("\n", "\n", "\r\n", "\r")) if is_spoiled else "\n"
    delimiter = random.choice((",", ",", ",", ";", "\t")) if is_spoiled else ","
    quoting = random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    text = io.StringIO(newline="")
    if is_spoiled and random.random() < 0.25:
        made.append("without quotation marks")
        text.write("".join(delimiter.join(row) + ends for row in [header, *rows]))
    else:
        csv.writer(text, lineterminator=ends, delimiter=delimiter, quoting=quoting).writerows([header, *rows])
    data = text.getvalue().encode(errors="surrogatepass")
    made.append(f"ends {ends!r}, delimiter {delimiter!r}")
    if is_spoiled and random.random() < 0.5:
        made.append("bytes spoiled")
        data = spoiled(random, data)
    if is_spoiled and random.random() < 0.15:
        encoding = random.choice(("utf-8-sig", "utf-16", "utf-16-le", "latin-1"))
        made.append(encoding)
        data = data.decode(errors="replace").encode(encoding, errors="replace")
    return ", ".join(made), data


def _onset(random: Random) -> str:
    onset = random.uniform(0, 10)
    return random.choice((f"{onset:.3f}", f"{onset:.3f}", str(round(onset)), f"{onset:.2e}", f" {onset:.2f}"))


def _change_table(random: Random, header: list[str], rows: list[list[str]]) -> str:
    column = random.randrange(len(header))
    match random.randrange(8):
        case 0:
            header[column] = random.choice(("Onset", "onset ", "label", "onset", "file", "offset", "", "\ufeffonset"))
            return f"header {header}"
        case 1:
            extra = random.choice(("offset", "label", "onset", "", "note"))
            header.insert(column, extra)
            for row in rows:
                row.insert(column, "0")
            return f"a column {extra!r} more"
        case 2:
            for row in rows:
                del row[column:]
            return f"rows without column {column}"
        case 3:
            for row in rows:
                row.append(random.choice(("", "x", "0.5")))
            return "rows with a column more"
        case 4:
            for row in rows:
                row[:1] = [cell.replace(".", ",") for cell in row[:1]]
            return "decimal commas"
        case 5 if rows:
            row, place = random.choice(rows), random.randrange(len(header))
            row[place : place + 1] = [str(odd(random))]
            return f"an odd value in column {place}"
        case 6:
            rows.insert(random.randrange(len(rows) + 1), random.choice(([], [""], ["", ""], ["# comment"], [" "])))
            return "a row of nothing"
    for row in rows:
        row[-1:] = [cell + random.choice(TEXTS) for cell in row[-1:]]
    return "odd ends of rows"


def _events(random: Random, *, is_spoiled: bool) -> tuple[str, str, bytes]:
    events = [
        detection(k, random.randrange(2, 480_000), random.choice(LABELS), random.choice(("a.wav", "a.wav", "b.wav")))
        for k in range(random.randrange(12))
    ]
    made = [f"{len(events)}"]
    if is_spoiled and random.random() < 0.6 and events:
        made.append("values changed")
        events = random.choice((changed, nudged))(random, events)
        events = events if isinstance(events, list) else [events]
    if random.random() < 0.4:
        suffix, text = ".csv", io.StringIO(newline="")
        columns = [name for name in COLUMNS if not is_spoiled or random.random() < 0.98]
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(event for event in events if isinstance(event, dict))
        data = text.getvalue().encode(errors="surrogatepass")
    else:
        suffix = ".jsonl"
        lines = (json.dumps(event, ensure_ascii=random.random() < 0.5) for event in events)
        data = "".join(f"{line}\n" for line in lines).encode(errors="surrogatepass")
    if is_spoiled and random.random() < 0.5:
        made.append("bytes spoiled")
        data = spoiled(random, data)
    return suffix, ", ".join(made), data

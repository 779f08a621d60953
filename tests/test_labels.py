"""What is scored is what the files say: tables, events and names are read strictly, and what does not fit is said."""

import csv
import io
import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcnn import tables
from streamcnn.errors import InputError
from streamcnn.events import Detection, Gap, to_json
from streamcnn.labels import Listing, paired, read_detections, read_labels
from streamcnn.scoring import Occurrence
from streamcnn.sinks.lines import Lines
from tests.conftest import Cli

RATE = 48_000
LINE_ENDS_OF_PYTHON = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # and of nobody else
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12).map(str.strip)
names = names.filter(bool) | st.sampled_from([f"a{end}b" for end in LINE_ENDS_OF_PYTHON])
onsets = st.floats(0, 1e9, allow_nan=False)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for the files of many examples."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def written(path: Path, text: str) -> Path:
    """Write a text as it is."""
    path.write_bytes(text.encode())
    return path


def table(rows: list[tuple[str, ...]], separator: str, end: str) -> str:
    """Return a table as Python writes it."""
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    return file.getvalue()


def labels(folder: Path, text: str) -> Listing:
    """Return what a text lists as labels."""
    return read_labels(written(folder / "labels.csv", text))


def refused(folder: Path, text: str) -> str:
    """Return why a text is no table of labels."""
    with pytest.raises(InputError) as caught:
        labels(folder, text)
    return str(caught.value)


def detection(**fields: object) -> Detection:
    """Return a detection of a ramp at sample 48,000."""
    session, label = fields.get("session", "x.wav"), fields.get("label", "ramp")
    start = fields.get("start_sample", 47_990)
    values = {
        "stream": "s", "session": session, "id": f"s/{session}/ramp/{label}/{start}", "phase": "confirmed", "detector": "ramp",
        "kind": "peak", "label": label, "net": "ramp@1", "sample": 48_000, "position": 48_000.0, "start_sample": start,
        "end_sample": None, "decided_sample": 48_010, "score": 0.9, "threshold": 0.6, "time_s": 1.0,
    }  # fmt: skip
    return Detection(**values | fields)


def events(folder: Path, *told: object, name: str = "events.jsonl") -> Path:
    """Write events, or what stands in their place, as lines of a file."""
    lines = [one if isinstance(one, str) else to_json(one).decode() for one in told]
    return written(folder / name, "".join(f"{line}\n" for line in lines))


# Tables


@given(
    rows=st.lists(st.tuples(names, onsets, names), max_size=5),
    separator=st.sampled_from("\t;,"),
    comma=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_labels_come_back_as_they_were_written(
    folder: Path, rows: list[tuple[str, float, str]], separator: str, comma: bool, end: str
):
    """Every name, also with separators, quotes and line ends, and every onset is read, by whichever separator."""
    mark = "," if comma and separator != "," else "."
    cells = [(label, repr(onset).replace(".", mark), file) for label, onset, file in rows]
    listing = labels(folder, table([("label", "onset", "file"), *cells], separator, end))
    assert listing.occurrences == tuple(Occurrence(file, label, onset) for label, onset, file in rows)
    assert listing.files == {file for *_, file in rows}


@given(before=st.integers(0, 3), cells=st.lists(st.sampled_from(["0", "5", "ramp", "x"]), min_size=1, max_size=6))
def test_a_row_of_another_length_is_refused(folder: Path, before: int, cells: list[str]):
    """Cells too many or too few are an error with the line, what the row has, and what the header has."""
    text = "onset,label\n" + "1,a\n" * before + ",".join(cells) + "\n"
    if len(cells) == 2:
        with suppress(InputError):
            labels(folder, text)
        return
    said = refused(folder, text)
    assert f"labels.csv:{before + 2}: has {len(cells)} cells ({tables.listed(cells)}), " in said
    assert "the header has 2 ('onset', 'label')" in said
    assert ("decimals with a point" in said) == (len(cells) > 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("onset,label\n0,5,ramp\n", "quote a cell that holds ','; write decimals with a point"),
        ("onset,label\n0.5;ramp\n", "separate cells by ',', as the header does, not ';'"),
        ("onset;label\n0.5,ramp\n", "separate cells by ';', as the header does, not ','"),
        ('onset,label\n"0,5",ramp\n', "labels.csv:2: onset is '0,5'; write decimals with a point"),
        ("onset;label\n0.5;a\n0,7;a\n", "labels.csv:3: onset has a decimal comma here, and a point in "),
        ("onset\tlabel\n1,234.5\ta\n", "labels.csv:2: onset"),
        ("onset,label,label\n1,a,b\n", "labels.csv:1: has 2 columns 'label'"),
        ("onset,label, LABEL \n1,a,b\n", "labels.csv:1: has 2 columns 'label'"),
        ("onset,label,x,x\n1,a,b,c\n", "labels.csv:1: has 2 columns 'x'"),
        ("onset,label,\n0,5,ramp\n", "labels.csv:1: column 3 has no name"),
        ("onset,lable\n1,a\n", "column 'label'; a header line names onset, label and perhaps file; did you mean 'lable'"),
        ("0.5,ramp\n", "labels.csv:1: has no column 'onset'"),
        ("", "labels.csv:1: is empty; a header line names onset, label and perhaps file"),
        ("\n \n", "is empty"),
        ("onset,label\n-0.5,ramp\n", "labels.csv:2: onset is -0.5 s, before the file's start"),
        ("onset,label\n,ramp\n", "labels.csv:2: onset is empty"),
        ("onset,label\n1, \n", "labels.csv:2: label is empty"),
        ("onset,label,file\n1,a,\n", "labels.csv:2: file is empty"),
        ('onset,label\n1,a\n2,"b\n3,c\n', "labels.csv:3: is not CSV: unexpected end of data; close each quotation mark"),
        ('onset,label\n1,"a"b\n', "labels.csv:2: is not CSV"),
        (f"onset,label\n1,{'a' * 131_073}\n", "labels.csv:2: is not CSV: field larger than field limit (131072)"),
        ("onset,label\n1,a\n2,\0\n", "labels.csv:3: holds a NUL byte"),
    ],
)  # fmt: skip
def test_a_table_that_is_none_is_refused(folder: Path, text: str, said: str):
    """What a table of labels cannot mean is an error that says where, what, and what helps."""
    assert said in refused(folder, text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_text_of_another_encoding_is_named(folder: Path, encoding: str):
    """Labels that are not UTF-8 are refused, and so are their bytes that look like it."""
    path = folder / "labels.csv"
    path.write_bytes("onset,label\n1,é\n".encode(encoding))
    with pytest.raises(InputError, match=r"labels\.csv:[12]: .*save it as UTF-8"):
        read_labels(path)


@given(st.text("0123456789_.,eE+-naifx ٣\u00b2", max_size=8))
def test_a_number_is_one_that_somebody_wrote(folder: Path, cell: str):
    """What counts as an onset is a finite decimal of ASCII digits: no underscores, no other digits, no nan and no inf."""
    try:
        (one,) = labels(folder, table([("onset", "label"), (cell, "a")], ",", "\n")).occurrences
    except InputError:
        return
    assert set(cell.strip()) <= set("0123456789.eE+-")
    assert math.isfinite(one.onset_s)
    assert one.onset_s == float(cell) >= 0


@pytest.mark.parametrize(
    "cell", ["0_5", "nan", "inf", "-inf", "1e999", "٣", "0x1", "1 2", "1:05", ".", "e5", "1e", "--1"]
)
def test_what_only_a_program_takes_for_a_number_is_refused(folder: Path, cell: str):
    """An onset that no table would show as a number is refused by its value."""
    assert f"labels.csv:2: onset is {cell!r}" in refused(folder, f"onset,label\n{cell},a\n")


def test_white_space_and_empty_rows_mean_nothing(folder: Path):
    """Cells and headers are read without the white space around them, empty rows are none, and lines are counted right."""
    text = '\ufeff\n Onset ,\tLABEL\n\n 0.5 , "ramp"\n , \n1.5,\u00a0ramp \n"2","two\nlines"\n\n3,x,y\n'
    assert "labels.csv:10: has 3 cells" in refused(folder, text)
    listing = labels(folder, text.replace("3,x,y\n", ""))
    assert [(one.label, one.onset_s) for one in listing.occurrences] == [
        ("ramp", 0.5),
        ("ramp", 1.5),
        ("two\nlines", 2.0),
    ]
    assert (listing.files, listing.notes) == (None, ())


def test_what_a_table_of_labels_lacks_is_said(folder: Path):
    """A table without rows is legitimate and told, and so is a column that only nearly is 'file'."""
    assert labels(folder, "onset,label\n").notes == (f"{folder}/labels.csv: holds no labels",)
    (note,) = labels(folder, "filename,onset,label\nx.wav,1,a\n").notes
    assert "has no column 'file', only 'filename'" in note


# Events


told = st.lists(
    st.builds(
        detection,
        session=names.filter(lambda name: "\r" not in name),
        label=names.filter(lambda name: "\r" not in name),
        kind=st.sampled_from(["peak", "trigger"]),
        phase=st.sampled_from(["provisional", "confirmed", "ended"]),
        position=st.floats(1, 1e9),
        start_sample=st.integers(0, 10**9),
        time_s=st.floats(0, 1e5),
    ),
    max_size=5,
    unique_by=lambda one: one.id,
)


@given(told)
def test_events_are_the_same_from_either_format(folder: Path, told: list[Detection]):
    """What is written as JSON lines or as CSV is read alike, whatever names hold, and under any name of the file."""
    read = []
    for written_as, called in ((".jsonl", "E.CSV"), (".csv", "E.CSV"), (".csv", "events"), (".jsonl", "events")):
        with Lines(str(folder / f"e{written_as}")) as lines:
            for one in told:
                lines.write(one)
        listing = read_detections((folder / f"e{written_as}").rename(folder / called))
        read.append((listing.occurrences, listing.files))
    assert read == [read[0]] * 4
    confirmed = [one for one in told if one.phase == "confirmed"]
    assert [one[:2] for one in read[0][0]] == [(one.session, one.label) for one in confirmed]
    seconds = [one.time_s * (1 if one.kind == "peak" else one.start_sample / one.position) for one in confirmed]
    assert [one.onset_s for one in read[0][0]] == pytest.approx(seconds)


DAMAGED = to_json(detection(id="another")).decode()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{}", "not an event: the key 'type' is missing"),
        (DAMAGED[:50], "not an event: is no JSON: "),
        ("[1]", "not an event: expected keys with values, got a list"),
        ("null", "not an event: expected keys with values, got nothing"),
        ("ramp 1.0", "not an event: is no JSON"),
        (DAMAGED.replace('"position":48000.0,', ""), "not an event: the key 'position' is missing"),
        (DAMAGED.replace("48000.0", '"soon"'), "not an event: at position: expected a number, got the text 'soon'"),
        (DAMAGED.replace("48000.0", "1e999"), "not an event: at position: "),
        (DAMAGED.replace('"schema":1', '"schema":2'), "not an event: is of schema 2, this version reads schema 1; update"),
        ('{"type":"detection","schema":2}', "not an event: is of schema 2, this version reads schema 1; update"),
        (DAMAGED.replace("detection", "detektion"), "did you mean 'detection'?"),
        ('{"a":' + "[" * 100_000, "not an event: is nested too deeply"),
        (f'{{"type":"gap","start_sample":{"9" * 5000}}}', "not an event: "),
        (DAMAGED.replace("ramp", "ra\0mp", 1), "holds a NUL byte"),
        (DAMAGED.replace(":1.0", ":null"), "this event says no seconds; give the signal's rate: --rate"),
        (DAMAGED.replace(":1.0", ":1e308").replace("48000.0", "1e-9").replace("peak", "tag"), "has no finite time"),
        (DAMAGED.replace("47990,", "9" * 400 + ",").replace("peak", "tag"), "has no finite time"),
        (DAMAGED.replace("another", detection().id).replace("48000.0", "48001.0"), "is another detection"),
    ],
)  # fmt: skip
def test_a_damaged_event_is_named(folder: Path, line: str, said: str):
    """A line that is no event, or says nothing of use, is an error with its file, its line, the cause and a remedy."""
    with pytest.raises(InputError) as caught:
        read_detections(events(folder, detection(), "", line))
    assert str(caught.value).startswith(f"{folder}/events.jsonl:3: ")
    assert said in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("position", "place"), ":1: has no column 'position'; give what 'replay -o'"),
        (lambda text: text.replace("48000.0", "0_5"), ":2: position is '0_5'"),
        (lambda text: text.replace("48000.0", ""), ":2: position is empty"),
        (lambda text: text.replace("47990,", "47990,1,"), ":2: has 22 cells"),
        (lambda text: text.replace(",1,", ",2,", 1), ":2: is of schema 2, this version reads schema 1"),
        (lambda _text: "12:00:01.000  live  ramp  sample 24000\n", ":1: has no column 'id'; give what 'replay -o'"),
    ],
)
def test_damaged_rows_of_events_are_named(folder: Path, change: object, said: str):
    """A CSV that is none of events, and a row of it that is no detection, are errors with file, line and remedy."""
    with Lines(str(folder / "events.csv")) as lines:
        lines.write(detection())
    text = (folder / "events.csv").read_text()
    assert read_detections(folder / "events.csv").occurrences == (Occurrence("x.wav", "ramp", 1.0),)
    with pytest.raises(InputError) as caught:
        read_detections(written(folder / "events.csv", change(text)))
    assert f"events.csv{said}" in str(caught.value)


@given(data=st.binary(max_size=60), at=st.integers(0, 400), form=st.sampled_from(["jsonl", "csv", "labels"]))
def test_no_file_makes_more_than_an_error(folder: Path, data: bytes, at: int, form: str):
    """Whatever bytes stand anywhere in a file, it is read or refused in one line of plain words."""
    if form == "labels":
        whole = b'file,onset,label\nx.wav,0.5,ramp\n"y.wav",1.5,"a ""b"""\n'
    else:
        with Lines(str(folder / f"fuzz.{form}")) as lines:
            lines.write(detection())
        whole = (folder / f"fuzz.{form}").read_bytes()
    path = folder / f"fuzz.{form}"
    path.write_bytes(whole[:at] + data + whole[at:])
    try:
        (read_labels if form == "labels" else read_detections)(path)
    except InputError as error:
        said = str(error)
    else:
        return
    assert said.startswith(f"{path}:")
    assert said.isprintable()


def test_what_events_lack_is_said(folder: Path):
    """A file without events, one of which nothing counts, and detections that are there twice are told."""
    gap = Gap(stream="s", session="x.wav", start_sample=0, frames=1, frames_error=0, cause="ring full")
    assert read_detections(events(folder)).notes == (f"{folder}/events.jsonl: holds no detections",)
    (note,) = read_detections(events(folder, gap, detection(phase="retracted"))).notes
    assert note.endswith("holds no confirmed detections, in 2 events")
    again = msgspec.structs.replace(detection(), seq=7)
    listing = read_detections(events(folder, detection(), again))
    assert len(listing.occurrences) == 1
    assert "1 detections are there again" in listing.notes[0]


def test_a_rate_is_for_events_without_seconds(folder: Path):
    """An event's own seconds count; a rate gives those of one that has none, and is refused where it contradicts."""
    bare = detection(time_s=None, kind="trigger")
    assert read_detections(events(folder, bare), RATE).occurrences[0].onset_s == pytest.approx(47_990 / RATE)
    assert read_detections(events(folder, detection()), RATE).occurrences[0].onset_s == 1.0
    with pytest.raises(InputError, match="said to be at 1 s, at 16000 Hz it is at 3 s; leave --rate out"):
        read_detections(events(folder, detection()), 16_000)


# Names


def listing(name: str, *files: str, label: str = "a") -> Listing:
    """Return a listing that has one thing in each of some files."""
    return Listing(Path(name), tuple(Occurrence(file, label, 0.0) for file in files), frozenset(files))


def base(path: str) -> str:
    """Return a path's last part."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]


paths = st.sets(st.sampled_from([f"{folder}{name}.wav" for folder in ("", "./", "/a/", "C:\\b\\") for name in "xyz"]))


@given(paths, paths)
def test_files_are_the_same_by_their_name_or_their_base_name(found: set[str], labelled: set[str]):
    """Equal names are the same file, and base names that are there once on both sides; no others; the rest is counted."""
    ours, theirs, notes = paired(listing("e", *sorted(found)), listing("l", *sorted(labelled)))
    partner = dict(zip(sorted(labelled), (one.file for one in theirs.occurrences), strict=True))
    assert ours.files == found
    for name in labelled:
        alike = [other for other in found if base(other) == base(name)]
        lonely = len(alike) == sum(base(other) == base(name) for other in labelled) == 1
        assert partner[name] == (name if name in found else alike[0] if lonely else name)
    lost, false = len(set(partner.values()) - found), len(found - set(partner.values()))
    said = [note for note in notes if "does not name" in note]
    assert [note.split(": ")[1].split(" of ")[0] for note in said] == [str(count) for count in (lost, false) if count]


@pytest.mark.parametrize("name", ["X.WAV", "x", "/data/x.flac", "c:\\x.WAV", "x..wav"])
def test_the_nearest_file_is_told(name: str):
    """A file that has no events is named with the file that was perhaps meant, and with what helps."""
    *_, (lost, false) = paired(listing("e", "x.wav", "y.wav"), listing("l", name, "y.wav"))
    assert lost.startswith(
        f"l: 1 of 2 labels lie in files that e does not name, and count as missed: {name!r} (nearest: 'x.wav')"
    )
    assert "must be equal: there are 'x.wav'" in lost
    assert false.startswith("e: 1 of 2 detections lie in files that l does not name, and count as false: 'x.wav'")


def test_a_silent_file_is_no_mistake():
    """Where every file of the events has its labels, those of one without events are told with no other file's name."""
    *_, (note,) = paired(listing("e", "x1.wav"), listing("l", "x1.wav", "x2.wav"))
    assert note == "l: 1 of 2 labels lie in files that e does not name, and count as missed: 'x2.wav'"


def test_many_names_are_a_few():
    """Of many files without a partner only the first are named."""
    *_, (note, _) = paired(listing("e", "q"), listing("l", *(f"{k}.wav" for k in range(1000))))
    assert "'0.wav', '1.wav', '10.wav', and 997 more" in note


def test_labels_without_files_are_those_of_one():
    """Labels that name no file belong to the only session, and to none of several."""
    bare = Listing(Path("l"), (Occurrence("", "a", 0.0),), None)
    ours, theirs, notes = paired(listing("e", "x.wav"), bare)
    assert ({one.file for one in (*ours.occurrences, *theirs.occurrences)}, notes) == ({""}, [])
    with pytest.raises(InputError, match="l: names no files, e has 2 of them: 'x', 'y'; add a column 'file'"):
        paired(listing("e", "x", "y"), bare)


@given(st.sampled_from(["Ramp", "RAMP", "ra mp", "ra_mp", "ra-mp", "\uff52amp"]))
def test_labels_that_look_alike_are_told_and_two(name: str):
    """Labels that differ in case or spaces only are told, and stay two."""
    ours, theirs, (note,) = paired(listing("e", "x", label="ramp"), listing("l", "x", label=name))
    assert (ours.occurrences[0].label, theirs.occurrences[0].label) == ("ramp", name)
    assert note.endswith("differ in case, spaces, '_' or '-' only: they count as 2")
    assert repr(name) in note
    assert "'ramp'" in note


def test_labels_that_share_nothing_are_told():
    """Where no label is detected at all, that is said, with what was perhaps meant; one of several that is not is a miss."""
    *_, (note,) = paired(listing("e", "x", label="ramp"), listing("l", "x", label="rampe"))
    assert note == "l: none of its labels is detected in e: 'rampe' (nearest: 'ramp'); there are 'ramp'"
    both = Listing(Path("l"), (Occurrence("x", "ramp", 0.0), Occurrence("x", "dog", 1.0)), frozenset("x"))
    assert paired(listing("e", "x", label="ramp"), both)[2] == []
    assert paired(listing("e", "x"), listing("l"))[2] == [
        "e: 1 of 1 detections lie in files that l does not name, and count as false: 'x'"
    ]


# The command


def test_the_command_tells_beside_the_numbers(cli: Cli, tmp_path: Path):
    """What a user should know stands on standard error, a line each; the numbers are the same, and alone on standard output."""
    told = events(tmp_path, detection(), detection(start_sample=5, label="Ramp"))
    there = written(tmp_path / "l.csv", "file\tonset\tlabel\n/data/x.wav\t1,0\tramp\ny.wav\t2,5\tramp\n")
    done = cli("score", told, "--labels", there, "--json")
    assert done.returncode == 0
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == ["streamcnn"] * 2
    assert "'y.wav'" in done.stderr
    assert "'Ramp' and 'ramp'" in done.stderr
    numbers = json.loads(done.stdout)
    assert [numbers["ramp"][name] for name in ("labelled", "found", "matched")] == [2, 1, 1]


def test_a_label_is_not_mistaken_for_all_of_them(cli: Cli, tmp_path: Path):
    """The numbers of a label 'all' do not get lost behind those of all labels."""
    there = written(tmp_path / "l.csv", "onset,label\n1,all\n1,ramp\n")
    done = cli("score", events(tmp_path, detection()), "--labels", there, "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a label is named 'all'" in done.stderr


def test_recordings_are_scored_as_files_are(cli: Cli, tmp_path: Path):
    """Events of a session with a clock, live and replayed, say their seconds, and are scored without a rate."""
    live = cli("run", "--publish", "none", "--record", tmp_path / "x.wav", "--duration", 2, "--json")
    assert live.returncode == 0, live.stderr
    there = written(tmp_path / "labels.csv", "onset,label\n0.5,ramp\n1,ramp\n1.5,ramp\n")
    assert cli("replay", tmp_path / "x.wav", "-o", tmp_path / "again.csv").returncode == 0
    for told in (written(tmp_path / "live.jsonl", live.stdout), tmp_path / "again.csv"):
        done = cli("score", told, "--labels", there, "--tolerance", 0.01, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["ramp"]["recall"] == 1

"""What `streamcnn inspect` tells of a net: a summary of some lines, and a table of layers for who asks for it."""

import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from streamcnn.cli.inspect import receptive_field
from streamcnn.graph import layers as records
from streamcnn.graph import store
from streamcnn.graph.clip import Clip
from streamcnn.graph.graph import INPUT, Graph, NetInfo, Node
from tests.conftest import inside
from tests.test_screens import Teletype

RATE = 8000
HEADINGS = ["layer", "kind", "frame", "hop", "first", "delay", "receptive field", "parameters", "MAC/s", "look-ahead"]


def conv(taps: int, **options: object) -> records.Conv1D:
    """A convolution of one channel."""
    return records.Conv1D(kernel=np.ones((taps, 1, 1), np.float32), **options)


def shown(graph: Graph, folder: Path, *options: str) -> list[str]:
    """Return the lines that `inspect` prints of a net."""
    graph.save(folder / "n.safetensors")
    done = inside("inspect", folder / "n.safetensors", *options)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def values(lines: list[str]) -> dict[str, str]:
    """Return the values of a summary by their names; a line that is indented goes on with the value before it."""
    found, name = {}, ""
    for line in lines:
        if line.startswith(" "):
            found[name] += " " + line.strip()
        else:
            name, value = line.split(":", 1)
            found[name] = value.strip()
    return found


def test_a_net_is_summed_up():
    """The summary tells rate, labels, input, timing, threshold, scale, lag and cost, in lines `name: value`."""
    told = values(inside("inspect", "ramp").stdout.splitlines())
    assert told.pop("net").startswith("ramp@")
    cost = told.pop("cost")
    assert cost.startswith("8 parameters, 384,000 MAC/s, ")
    assert cost.endswith("% of this core")
    assert told == {
        "rate": "48000 Hz",
        "labels": "ramp",
        "input": "frames of 1 value",
        "hop": "1 sample (0.02083 ms)",
        "first": "sample 0",
        "delay": "0 samples",
        "receptive field": "8 samples (0.1667 ms)",
        "threshold": "0.6",
        "input scale": "4",
        "target lag": "3 samples (0.0625 ms)",
        "look-ahead": "none",
    }


def test_a_summary_has_80_columns():
    """However many labels and layers a net has, its summary fits 80 columns, and has no table."""
    lines = inside("inspect", "digits").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    told = values(lines)
    assert told["labels"] == "zero, one, two, three, four, five, six, seven, eight, nine, none"
    assert told["receptive field"] == "16,816 samples (2102 ms)"
    assert "front_end" not in "".join(lines)


def test_a_net_without_a_rate_has_no_times(tmp_path: Path):
    """Where no rate is known, there are samples, and neither milliseconds nor costs of a second."""
    told = values(shown(Graph.sequential([conv(3)]), tmp_path))
    assert (told["rate"], told["labels"], told["threshold"]) == ("unknown", "none", "none")
    assert (told["hop"], told["receptive field"], told["cost"]) == ("1 sample", "3 samples", "3 parameters")


def test_looking_ahead_is_told(tmp_path: Path):
    """What 'same' padding costs is the sum over a chain's layers, in samples of the input: the net's delay."""
    layers = [conv(5, padding="same"), conv(9, padding="same", stride=2), conv(9), conv(9, padding="same")]
    told = values(shown(Graph.sequential(layers).with_info(rate=RATE), tmp_path))
    assert told["delay"] == "15 samples (1.875 ms)"
    assert told["look-ahead"] == "15 samples (1.875 ms), by the 'same' padding of 3 layers"
    assert told["last frames"] == "exact for signals of N frames with N mod 2 = 0"


def test_a_window_is_told(tmp_path: Path):
    """Of a clip net the summary tells the window and what windows share, the table what each one computes."""
    layers = [conv(3, padding="valid"), records.Pooling1D(by="max", pool=398, stride=398)]
    lines = shown(Graph.sequential(layers, clip=Clip(400, 40)).with_info(rate=RATE), tmp_path, "--layers")
    told = values(lines[: lines.index("")])
    assert told["window"] == "400 samples (50 ms) that move by 40 samples (5 ms)"
    assert re.fullmatch(r"saves 89\.9% of the multiplications, -?[\d.]+% of the time measured here", told["shared"])
    assert "look-ahead" not in told
    assert lines[lines.index("") + 2].endswith("40 of 398")


def test_a_file_gets_all_columns(tmp_path: Path):
    """`--layers` adds the table: outside of terminals with all columns and whole names, however wide that is."""
    name = "a_name_of_a_layer_" * 12
    net = Graph((Node(name, conv(3, padding="same"), (INPUT,)),), (1,), info=NetInfo(rate=RATE))
    heading, row = shown(net, tmp_path, "--layers")[-2:]
    assert heading.split() == " ".join(HEADINGS).split()
    assert row.startswith(f"{name}  Conv1D  ")
    assert len(row) > 240


@pytest.mark.parametrize(
    ("columns", "headings"),
    [
        (100, ["layer", "kind", "frame", "hop", "delay", "receptive field", "parameters", "MAC/s"]),
        (80, ["layer", "kind", "frame", "hop", "delay", "receptive field", "MAC/s"]),
        (60, ["layer", "kind", "hop", "delay", "MAC/s"]),
        (40, ["layer", "kind", "hop"]),
    ],
)
def test_a_terminal_gets_what_fits(columns: int, headings: list[str]):
    """On a terminal no line is longer than a row: the summary is wrapped, the least important columns are left out."""
    with closing(Teletype("inspect", "digits", "--layers", columns=columns, kind="xterm")) as terminal:
        assert terminal.wait() == 0
    lines = terminal.printed.splitlines()
    assert max(map(len, lines)) <= columns
    heading, *rows = lines[lines.index("") + 1 :]
    assert heading.split() == " ".join(headings).split()
    assert len(rows) == len(store.load("digits").nodes)
    assert "conv1d_47" in rows[-1]
    assert values(lines[: lines.index("")])["look-ahead"] == "none"


def test_a_receptive_field_for_people():
    """A receptive field is a number of samples and how long they last; where it has no end, that is said."""
    assert receptive_field(None, RATE) == "all that came before"
    assert receptive_field(1) == "1 sample"
    assert receptive_field(16_816, RATE) == "16,816 samples (2102 ms)"

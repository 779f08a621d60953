"""`streamcnn bench`, and the stopwatch behind it: what they say is what was measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from streamcnn import layers as L
from streamcnn.engine import Engine
from streamcnn.graph.graph import Graph
from streamcnn.stopwatch import Course, flop_per_second
from tests.conftest import Cli


def test_bench_measures_every_net_at_every_block(cli: Cli):
    """As JSON there is a row for each net and block, whose numbers fit together."""
    done = cli("bench", "ramp", "ramp_robust", "--block", 64, "--block", 480, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["machine"]["flop_per_second"] > 1e8
    assert [(row["net"].split("@")[0], row["block"]) for row in facts["rows"]] == [
        ("ramp", 64), ("ramp", 480), ("ramp_robust", 64), ("ramp_robust", 480)
    ]  # fmt: skip
    for row in facts["rows"]:
        assert row["share_of_a_core"] == pytest.approx(row["seconds_per_frame"] * 48000)
        assert row["streams_per_core"] == int(1 / row["share_of_a_core"])
        assert row["deadline_s"] == row["block"] / 48000
        assert 0 < row["worst_block_s"] < 1


def test_bench_prints_a_table(cli: Cli):
    """For people it is a line a block size, under the processor and what it can do."""
    done = cli("bench", "ramp", "--block", 256)
    assert done.returncode == 0, done.stderr
    machine, headings, row = done.stdout.splitlines()
    assert "GFLOP/s" in machine
    assert headings.split()[:4] == ["net", "rate", "block", "ns/sample"]
    assert row.split()[0].startswith("ramp@")


def test_bench_refuses_nets_that_it_cannot_judge(cli: Cli, tmp_path: Path):
    """A net without a rate needs one, and one that is no net is named."""
    net = tmp_path / "net.safetensors"
    Graph.sequential([L.Conv1D(kernel=np.ones((3, 1, 2)))]).save(net)
    done = cli("bench", net)
    assert done.returncode == 2
    assert "does not know its sample rate; say it: --rate HZ" in done.stderr
    assert cli("bench", net, "--rate", 1000, "--block", 64).returncode == 0
    assert cli("bench", "nothing").returncode == 2
    assert cli("bench", "ramp", "--block", 0).returncode == 2


def test_a_course_runs_the_engine_block_by_block():
    """What is measured is the engine: after a course it has heard the whole signal, and each block took its time."""
    engine = Engine(Graph.sequential([L.Conv1D(kernel=np.ones((300, 1, 16)), activation="tanh")]))
    course = Course(engine, 64, 50)
    assert course.seconds_per_frame() > 0
    assert engine.frames == engine.output_frames == 3200
    taken = course.seconds_per_block()
    assert engine.frames == 3200
    assert taken.shape == (50,)
    assert (taken > 0).all()


def test_a_core_does_more_than_any_net():
    """The most that a core does is more than what a wide net gets out of it."""
    engine = Engine(Graph.sequential([L.Conv1D(kernel=np.ones((9, 64, 64)))], 64))
    course = Course(engine, 256, 8)
    course.seconds_per_frame()
    assert 2 * 9 * 64 * 64 / min(course.seconds_per_frame() for _ in range(5)) < 1.1 * flop_per_second()

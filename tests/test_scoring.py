"""Scores against labels: the numbers of sed_eval, for any lists of events."""

import json
import math
from pathlib import Path

import dcase_util
import numpy as np
import pytest
import sed_eval

from streamcnn.scoring import Occurrence, Score, matches, score
from tests.conftest import Cli

LABELS = ("dog", "cat", "car")
LISTS = 1000


def random_lists(seed: int) -> tuple[list[Occurrence], list[Occurrence], float]:
    """Return what was found, what there was, and a tolerance; with onsets that coincide, and just at the tolerance."""
    random = np.random.default_rng(seed)
    tolerance = float(random.choice([0.05, 0.2, 0.5]))
    files = [f"{k}.wav" for k in range(random.integers(1, 3))]

    def some(count: int) -> list[Occurrence]:
        grid = random.choice([0.05, 0.001])
        onsets = np.round(random.uniform(0, random.choice([2.0, 20.0]), count) / grid) * grid
        return [Occurrence(str(random.choice(files)), str(random.choice(LABELS)), float(onset)) for onset in onsets]

    labelled = some(random.integers(1, 25))
    found = some(random.integers(0, 12))
    found += [one._replace(onset_s=one.onset_s + float(random.choice([0, tolerance, -tolerance, 0.01])))
              for one in labelled if random.random() < 0.6]  # fmt: skip
    return [one for one in found if one.onset_s >= 0] or labelled[:1], labelled, tolerance


def oracle(
    found: list[Occurrence], labelled: list[Occurrence], tolerance: float
) -> dict[str | None, tuple[float, ...]]:
    """Return precision, recall and F1 of sed_eval, of each label and of all."""
    metrics = sed_eval.sound_event.EventBasedMetrics(
        event_label_list=list(LABELS),
        t_collar=tolerance,
        evaluate_onset=True,
        evaluate_offset=False,
        event_matching_type="optimal",
    )

    def container(occurrences: list[Occurrence], file: str) -> dcase_util.containers.MetaDataContainer:
        events = [
            {"filename": file, "event_label": one.label, "onset": one.onset_s, "offset": one.onset_s + 1}
            for one in occurrences
            if one.file == file
        ]
        return dcase_util.containers.MetaDataContainer(events)

    for file in sorted({one.file for one in (*found, *labelled)}):
        metrics.evaluate(container(labelled, file), container(found, file))
    overall, by_label = metrics.results_overall_metrics(), metrics.results_class_wise_metrics()
    rows = {label: row["f_measure"] for label, row in by_label.items()} | {None: overall["f_measure"]}
    return {name: (row["precision"], row["recall"], row["f_measure"]) for name, row in rows.items()}


def test_scores_are_those_of_sed_eval():
    """On a thousand random lists of events precision, recall and F1 equal sed_eval's, of each label and of all."""
    compared = 0
    for seed in range(LISTS):
        found, labelled, tolerance = random_lists(seed)
        ours, theirs = score(found, labelled, tolerance), oracle(found, labelled, tolerance)
        for name, one in ours.items():
            for mine, other in zip((one.precision, one.recall, one.f1), theirs[name], strict=True):
                if math.isnan(other) or math.isnan(mine):
                    # Where nothing matches, sed_eval has no F1, or calls what is not defined 0.
                    assert one.matched == 0
                    continue
                assert mine == pytest.approx(other, abs=1e-12), (seed, name)
                compared += 1
    assert compared > 3 * LISTS


def test_as_many_as_possible_are_matched_one_to_one():
    """An onset that two labels could claim goes to the one that leaves the other a match, with the signed error."""
    assert matches([0.0, 0.3], [0.15, 0.45], 0.2) == pytest.approx([-0.15, -0.15])
    assert matches([0.1, 0.11, 0.12], [0.1], 0.2) == [0.0]
    assert matches([], [1.0], 0.2) == []


def test_an_empty_list_has_no_precision():
    """What is not defined is not a number: no events, no labels, neither."""
    assert score([], [])[None] == Score(0, 0, ())
    assert math.isnan(Score(0, 3, ()).precision)
    assert Score(0, 3, ()).recall == 0
    assert Score(0, 3, ()).f1 == 0


def test_the_command_scores_a_replay(cli: Cli, tmp_path: Path):
    """`replay` and `score` together: every ramp found, with the errors in time, from JSON lines and from CSV alike."""
    import soundfile

    from tests.signals import RATE, ramps

    soundfile.write(tmp_path / "x.wav", ramps([9600, 48_000, 70_000], 96_000), RATE, subtype="FLOAT")
    labels = tmp_path / "labels.csv"
    labels.write_text("onset,label\n0.2,ramp\n1.0,ramp\n1.9,ramp\n")
    told = []
    for name in ("events.jsonl", "events.csv"):
        assert cli("replay", tmp_path / "x.wav", "-o", tmp_path / name).returncode == 0
        done = cli("score", tmp_path / name, "--labels", labels, "--json")
        told.append(json.loads(done.stdout))
    assert told[0] == told[1]
    assert {name: told[0]["ramp"][name] for name in ("labelled", "found", "matched")} == {
        "labelled": 3, "found": 3, "matched": 2
    }  # fmt: skip
    assert abs(told[0]["all"]["median_error_s"]) < 1e-4
    assert "0.667" in cli("score", tmp_path / "events.jsonl", "--labels", labels).stdout


@pytest.mark.parametrize(
    ("events", "labels", "said"),
    [
        ("{}", "onset,label\n1,a\n", "events.jsonl:1: not an event"),
        ("", "time,label\n1,a\n", "labels.csv:1: has no column 'onset'"),
        ("", "onset,label\nsoon,a\n", "labels.csv:2: onset is 'soon'"),
        ("", "onset,label\n1\n", "labels.csv:2"),
    ],
)
def test_what_cannot_be_scored_is_named(cli: Cli, tmp_path: Path, events: str, labels: str, said: str):
    """A line that is no event, and a table that is none of labels, are one clear line and exit code 2."""
    (tmp_path / "events.jsonl").write_text(events)
    (tmp_path / "labels.csv").write_text(labels)
    done = cli("score", tmp_path / "events.jsonl", "--labels", tmp_path / "labels.csv")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
    assert cli("score", tmp_path / "none.jsonl", "--labels", tmp_path / "labels.csv").returncode == 2

"""A net with its detector's settings: what fits together, and what is refused by name."""

import numpy as np
import pytest

from streamcnn.config import Duration, Net, Peak, Stream, Tag, Trigger
from streamcnn.detect.peak import PeakDetector
from streamcnn.detect.tag import MIN_FRAMES, TagDetector
from streamcnn.errors import ConfigError
from streamcnn.graph import store
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.graph.layers import Conv1D, Dense
from streamcnn.pipeline.listener import Listener, load_listeners, own_detector, with_threshold
from tests.graphs import signal

LABELS = ("yes", "no", "none")


def net(**info: object) -> Graph:
    """Return a net with three outputs, one every ten samples."""
    layers = [Conv1D(kernel=signal(1, 10, 3)[:, None, :], stride=10)]
    return Graph.sequential(layers, info=NetInfo(name="words", rate=1000, labels=LABELS, **info))


def test_times_become_output_frames():
    """Spans of seconds become frames of the net's own hop, rounded up."""
    peak = Listener("n", net(), Peak(threshold=0.5, refractory=Duration(0.041))).detector(1000)
    assert isinstance(peak, PeakDetector)
    assert (peak.memory, peak.thresholds.tolist()) == (5, [0.5] * 3)
    settings = Tag(labels=("no",), on=0.5, smooth=Duration(0.1), min_duration=Duration(0.041))
    tag = Listener("n", net(), settings).detector(1000)
    assert isinstance(tag, TagDetector)
    assert tag.thresholds.tolist() == [float("inf"), 0.5, float("inf")]
    assert tag.kept == pytest.approx(0.9048, abs=1e-4)  # exp(-10 ms / 100 ms)
    assert tag.table[MIN_FRAMES] == 5


def test_what_is_not_configured_comes_from_the_net():
    """Detector and thresholds that nobody configured are those of the net's file, which keeps them."""
    own = {"kind": "tag", "labels": ["yes"], "smooth": "20ms"}
    graph = net(threshold=0.7, detector=own)
    listener = Listener("n", graph, own_detector(graph))
    assert listener.thresholds == {"yes": 0.7}
    assert listener.describe() == "n (tag, threshold 0.7)"
    assert own_detector(net()) == Peak()
    raised = Listener("n", graph, with_threshold(own_detector(graph), 0.9))
    assert raised.thresholds == {"yes": 0.9}
    assert with_threshold(Peak(refractory=Duration(1)), 0.9) == Peak(threshold=0.9, refractory=Duration(1))


def test_a_nets_detector_survives_its_file(tmp_path: object):
    """The detector that a net asks for is saved with it, and is no part of the name of a net that asks for none."""
    path = tmp_path / "n.safetensors"
    net(detector={"kind": "tag", "on": 0.5}).save(path)
    assert own_detector(store.load(path)) == Tag(on=0.5)
    assert store.identity(net()) != store.identity(store.load(path))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Peak(), ["no threshold for 'yes'", "--threshold"]),
        (Peak(label="yes", threshold=0.5), ["one label, 'yes', for 3 outputs"]),
        (Tag(labels=("yes", "maybe"), on=0.5), ["no output 'maybe'", "yes, no, none"]),
        (Tag(on={"yes": 0.5}, labels=("yes", "no")), ["no threshold for 'no'", "detector.on"]),
        (Tag(on={"yess": 0.5}), ["no output 'yess'"]),
        (Tag(on=0.5, off=0.6), ["begins at 0.5 and ends below 0.6", "0 < off <= on <= 1"]),
        (Tag(on=0.5, off={"yes": 0.1}, labels=("yes", "no")), ["no threshold for 'no'", "detector.off"]),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: Peak | Tag, words: list[str]):
    """What does not fit the net's outputs is refused when the net is loaded, with the value and the remedy."""
    with pytest.raises(ConfigError) as caught:
        Listener("n", net(), settings)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_file_with_nonsense_for_a_detector_is_refused():
    """A net whose file asks for a detector that there is none of says so, by the net's name."""
    with pytest.raises(ConfigError, match="net 'words': not the settings of a detector"):
        own_detector(net(detector={"kind": "oracle"}))


@pytest.mark.parametrize("function", ["sigmoid", "softmax", "tanh"])
def test_a_threshold_that_no_score_reaches_is_refused(function: str):
    """Above what a net's last function can give there is nothing to detect; 1 itself can be reached."""
    graph = Graph.sequential([Dense(kernel=np.ones((1, 2)), activation=function)], info=NetInfo(name="n", rate=8000))
    assert Listener("n", graph, Trigger(on=1.0)).thresholds
    for settings in (Trigger(on=1.01), Trigger(on={"n-0": 0.5, "n-1": 2.0})):
        with pytest.raises(ConfigError, match="which no score reaches: the net's outputs go up to 1"):
            Listener("n", graph, settings)
    linear = Graph.sequential([Dense(kernel=np.ones((1, 2)))], info=NetInfo(name="n", rate=8000))
    assert Listener("n", linear, Trigger(on=2.0)).thresholds


def test_spans_of_more_than_a_minute_are_said_in_seconds():
    """`10 m` are minutes; who meant milliseconds hears what was read."""
    said = []
    settings = Peak(threshold=0.5, refractory=Duration.parse("10 m"), merge=Duration.parse("10 ms"))
    load_listeners(Stream(name="s", nets=(Net(name="r", net="ramp", detector=settings),)), say=said.append)
    assert said == ["net 'r': refractory is 600 s"]

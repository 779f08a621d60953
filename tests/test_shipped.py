"""The shipped nets: the lecture's experiment is reproduced, and each net answers as Keras did when it was trained."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from streamcnn.engine import Engine
from streamcnn.forward import reference
from streamcnn.graph import store
from streamcnn.importers.keras import import_keras
from streamcnn.importers.pickle import import_pickle
from streamcnn.training import lecture, robust
from tests.contract import check_streaming_contract
from tests.graphs import pieces

WEIGHTS = Path(__file__).parents[1] / "weights"
NETS = sorted(path.stem for path in WEIGHTS.glob("*.safetensors") if "." not in path.stem)


@pytest.mark.parametrize("name", NETS)
def test_a_shipped_net_gives_its_golden_output(name: str):
    """Streamed in any pieces, a shipped net gives what Keras gave for the golden input; its card stands beside it."""
    graph, golden = store.load(name), safetensors.numpy.load_file(WEIGHTS / f"{name}.golden.safetensors")
    engine = Engine(graph, scale=graph.info.input_scale)
    got = np.concatenate([engine.process(block) for block in pieces(golden["input"], 5)])
    np.testing.assert_allclose(got, golden["output"], rtol=0, atol=1e-5)
    assert store.identity(graph) in (WEIGHTS / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NETS)
def test_a_shipped_net_keeps_the_contract(name: str):
    """A shipped net streams exactly, on its golden signal."""
    golden = safetensors.numpy.load_file(WEIGHTS / f"{name}.golden.safetensors")
    check_streaming_contract(store.load(name), golden["input"])


def test_all_variants_of_the_lectures_net_answer_at_the_same_sample():
    """Causal, valid, pickled and PyTorch-ordered weights all answer at index 16, three samples after the ramp."""
    nets = {
        "causal": import_keras(WEIGHTS / "ramp.keras"),
        "valid": import_keras(WEIGHTS / "ramp_valid.keras"),
        "pickle": import_pickle(WEIGHTS / "convnetweights.pickle"),
        "torch": import_pickle(WEIGHTS / "convnetweights_torch.pickle", order="torch"),
        "shipped": store.load("ramp"),
    }
    for name, graph in nets.items():
        scores = Engine(graph).process(lecture.SIGNAL)[:, 0]
        assert int(scores.argmax()) + graph.first == 16, name
        assert scores.max() == pytest.approx(1, abs=0.05), name
        assert np.sort(scores)[-2] < 0.2, name


def test_training_the_lectures_net_again_gives_its_answer():
    """Training from scratch, as the lecture did, gives a net that answers 1 at the target and little elsewhere."""
    for padding in ("causal", "valid"):
        graph = import_keras(lecture.train_lecture_net(padding, seed=7))
        scores = reference(graph, lecture.SIGNAL)[:, 0]
        wanted = lecture.target(padding)
        assert scores[wanted == 1] == pytest.approx(1, abs=0.05)
        assert np.abs(scores[wanted == 0]).mean() < 0.03


def test_the_robust_net_is_as_good_as_its_card():
    """At 26 dB the robust net hears nearly every ramp and few decoys, on other signals than the card's."""
    graph = store.load("ramp_robust")
    rows = {
        threshold: (heard, false) for threshold, heard, false in robust.measure_roc(graph, seed=99, seconds=20.0)[26]
    }
    heard, false_a_minute = rows[graph.info.threshold]
    assert heard > 0.99
    assert false_a_minute < 30

"""Verification: what it must not let pass."""

import keras
import numpy as np
import pytest

from streamcnn.errors import InputError
from streamcnn.graph.graph import NetInfo
from streamcnn.importers.keras import import_keras
from streamcnn.verification import Verdict, check_signal, fitted, keras_oracle, random_signal
from tests.test_layers import chain, randomized

K = keras.layers


def small_net(seed: int, scale: float = 1.0) -> keras.Model:
    """Return a net whose outputs are of the size `scale`."""
    model = randomized(chain(K.Conv1D(6, 5, padding="causal", activation="tanh", name="a"), K.Dense(2, name="b")), seed)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * scale, bias * scale])
    return model


def verdict(net: keras.Model, model: keras.Model) -> Verdict:
    """Check the graph of one model against another model."""
    graph = import_keras(net, NetInfo(threshold=0.1))
    return check_signal(graph, keras_oracle(model, graph), random_signal(graph), "noise")


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_net_agrees_with_its_own_model(scale: float):
    """A net passes against the model that it was made from, whatever the size of its outputs."""
    model = small_net(0, scale)
    found = verdict(model, model)
    assert found.passed
    assert (found.diverging, found.decisions, found.same_bits) == (None, 0, True)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_another_net_does_not_pass(scale: float):
    """A net with other weights fails, however small its outputs, and the first layer is named."""
    found = verdict(small_net(0, scale), small_net(1, scale))
    assert not found.passed
    assert found.diverging[0] == "a"


@pytest.mark.parametrize("error", [1e-4, 1e-3])
def test_a_small_difference_does_not_pass(error: float):
    """A bias that is off by a ten-thousandth of the output's size fails, in the layer where it is."""
    model, other = small_net(0), small_net(0)
    kernel, bias = other.layers[-1].get_weights()
    other.layers[-1].set_weights([kernel, bias + error])
    found = verdict(model, other)
    assert not found.passed
    assert found.diverging[0] == "b"
    assert found.max_error == pytest.approx(error, rel=0.1)


def test_models_with_other_layer_names_can_be_compared():
    """Only the output counts where the layers have other names."""
    model, other = (
        small_net(0),
        keras.Sequential([keras.Input((None, 4)), K.Conv1D(6, 5, padding="causal", activation="tanh"), K.Dense(2)]),
    )
    other.set_weights(model.get_weights())
    assert verdict(model, other).passed


def test_a_signal_too_short_for_an_output_is_refused():
    """A file that gives no output proves nothing."""
    graph = import_keras(chain(K.Conv1D(2, 50)))
    with pytest.raises(InputError, match="too few"):
        fitted(graph, np.zeros((20, 4), np.float32))

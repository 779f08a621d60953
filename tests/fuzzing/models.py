"""Trained models of RTNeural, Neural Amp Modeler and pickles, changed, given to `convert`."""

import json
import pickle
from pathlib import Path
from random import Random

import numpy as np

from streamcnn.graph import store
from tests.fuzzing.case import Case, Outcome
from tests.fuzzing.command import judged, run
from tests.fuzzing.mutations import changed, nudged, odd, spoiled

PICKLES = tuple(Path(__file__).parents[2].glob("weights/*.pickle"))
FUNCTIONS = ("tanh", "relu", "sigmoid", "softmax", "elu", "")
OPCODES = b"(.0125FIJKLMNPQRSTUVXabcd}eghijlopqrstu)]" + bytes(range(0x80, 0x96))


def prepare() -> None:
    """Load the command."""
    for seed in range(10):
        name, data = valid(Random(seed))
        Path(name).write_bytes(data)
        run("convert", name, "-o", "net.safetensors")


def case(random: Random) -> Case:
    """Change the values or the bytes of a model."""
    name, data = valid(random)
    made = name
    if name != "m.pickle" and random.random() < 0.75:
        made, data = (
            f"{name}, values changed",
            json.dumps(random.choice((changed, nudged))(random, json.loads(data))).encode(),
        )
    elif random.random() < 0.9:
        made, data = f"{name}, spoiled", spoiled(random, data)
    if name == "m.pickle" and random.random() < 0.5:
        made, parts = f"{made}, opcodes changed", bytearray(data)
        for _ in range(random.choice((1, 2, 5))):
            if parts:
                parts[random.randrange(len(parts))] = random.choice(OPCODES)
        data = bytes(parts)
    return Case(made, {name: data}, random.choice(((), (), ("--order", "torch"))) if name == "m.pickle" else ())


def try_(case: Case, folder: Path) -> Outcome:
    """Convert it; what has been written can be read."""
    (name,) = case.files
    net = folder / "net.safetensors"
    outcome = judged(run("convert", folder / name, "-o", net, *case.words))
    if outcome.is_taken and outcome.fault is None:
        try:
            store.load(net)
        except Exception as error:
            raise AssertionError(f"what has been written cannot be read: {error!r}") from error
    return outcome


def valid(random: Random) -> tuple[str, bytes]:
    """Return a valid model: its file's name, and its bytes."""
    match random.randrange(4):
        case 0:
            return "m.json", json.dumps(_rtneural(random)).encode()
        case 1:
            return "m.nam", json.dumps(_convnet(random)).encode()
        case 2:
            return "m.nam", json.dumps(_wavenet(random)).encode()
    return "m.pickle", _pickled(random)


def _numbers(random: Random, *shape: int) -> list:
    return np.random.default_rng(random.randrange(2**32)).normal(0, 0.3, shape).round(3).tolist()


def _rtneural(random: Random) -> dict[str, object]:
    width, layers = random.choice((1, 1, 2)), []
    inputs = width
    for _ in range(random.randrange(1, 4)):
        units, taps = random.choice((1, 2, 3)), random.choice((1, 3))
        function = random.choice(FUNCTIONS)
        layer = random.choice((
            {"type": "dense", "activation": function, "shape": [None, None, units],
             "weights": [_numbers(random, width, units), _numbers(random, units)]},
            {"type": "conv1d", "activation": function, "shape": [None, None, units], "kernel_size": [taps], "dilation": [1],
             "strides": [1], "weights": [_numbers(random, taps, width, units), _numbers(random, units)]},
            {"type": "gru", "activation": "tanh", "shape": [None, None, units],
             "weights": [_numbers(random, width, 3 * units), _numbers(random, units, 3 * units),
                         _numbers(random, 2, 3 * units)]},
            {"type": "lstm", "activation": "tanh", "shape": [None, None, units],
             "weights": [_numbers(random, width, 4 * units), _numbers(random, units, 4 * units), _numbers(random, 4 * units)]},
            {"type": "batchnorm", "activation": "", "shape": [None, None, width], "epsilon": 0.001,
             "weights": [[1.0] * width, [0.1] * width, [0.0] * width, [1.0] * width]},
            {"type": "prelu", "activation": "", "shape": [None, None, width], "weights": [[0.1] * width]},
            {"type": "activation", "activation": function or "tanh", "shape": [None, None, width], "weights": []},
        ))  # fmt: skip
        layers.append(layer)
        width = layer["shape"][-1]
    return {"in_shape": [None, None, inputs], "layers": layers}


def _convnet(random: Random) -> dict[str, object]:
    channels, dilations, normalized = (
        random.choice((1, 2)),
        random.choice(([1], [1, 2], [1, 2, 4])),
        random.random() < 0.5,
    )
    count, inputs = 0, 1
    for _ in dilations:
        count += channels * inputs * 2 + (4 * channels + 1 if normalized else channels)
        inputs = channels
    weights = np.abs(_numbers(random, count + channels + 1)).tolist()
    function = random.choice(("Tanh", "ReLU"))
    config = {"channels": channels, "dilations": dilations, "batchnorm": normalized, "activation": function}
    return _nam("ConvNet", config, weights)


def _wavenet(random: Random) -> dict[str, object]:
    width, taps, gated = random.choice((1, 2)), random.choice((1, 3)), random.random() < 0.5
    dilations, mid = random.choice(([1], [1, 2])), width * (2 if gated else 1)
    count = width + len(dilations) * (mid * width * taps + mid + mid + width * width + width) + width + 1
    array = {"input_size": 1, "condition_size": 1, "head_size": 1, "channels": width, "kernel_size": taps,
             "dilations": dilations, "activation": "Tanh", "gated": gated, "head_bias": False}  # fmt: skip
    config = {"layers": [array], "head": None, "head_scale": 0.02}
    return _nam("WaveNet", config, _numbers(random, count))


def _nam(architecture: str, config: dict[str, object], weights: list[float]) -> dict[str, object]:
    return {
        "version": "0.5.1",
        "architecture": architecture,
        "config": config,
        "weights": weights,
        "sample_rate": 48_000,
    }


def _pickled(random: Random) -> bytes:
    if random.random() < 0.4:
        return random.choice(PICKLES).read_bytes()
    kernel = np.array(
        _numbers(random, 3, 1, 2), random.choice((np.float32, np.float64, np.float16, np.int32, ">f4", object))
    )
    content = random.choice(
        ([kernel], [kernel, kernel[0, 0]], kernel, [kernel, [1.0]], odd(random), [kernel.T], [kernel[:0]])
    )
    return pickle.dumps(content, protocol=random.randrange(6))

"""Files of nets, the shipped ones and ones grown layer by layer, changed and signed anew, given to `inspect` and `replay`."""

import functools
import json
import struct
from pathlib import Path
from random import Random
from unittest import mock

import numpy as np
import safetensors.numpy

from streamcnn.cli import inspect
from streamcnn.errors import StreamcnnError
from streamcnn.graph import layers as L
from streamcnn.graph import store
from streamcnn.graph.clip import Clip
from streamcnn.graph.graph import INPUT, Graph, NetInfo, Node
from streamcnn.graph.layer import Layer
from tests.fuzzing.case import Case, Outcome, dropped
from tests.fuzzing.command import judged, run
from tests.fuzzing.mutations import changed, nudged, odd, spoiled
from tests.fuzzing.sounds import other

WEIGHTS = Path(__file__).parents[2] / "weights"
SHIPPED = ("ramp", "ramp_robust")
FRAMES = 2000
GROWN = 40  # nets to choose from
NAMES = {np.float32: "F32", np.float64: "F64", np.float16: "F16", np.int8: "I8", np.int64: "I64", np.bool_: "BOOL",
         np.int32: "I32", np.uint32: "U32"}  # fmt: skip
TYPES = ("F32", "F64", "F16", "BF16", "I8", "U8", "I64", "BOOL", "F8_E4M3", "X")


def prepare() -> None:
    """Load the engine, with all kinds of layers that nets are grown of; and have `inspect` measure shortly."""
    mock.patch.object(inspect, "MEASURED_S", 0.002).start()
    for k in range(GROWN):
        Path("ready.safetensors").write_bytes(grown(k))
        run("inspect", "ready.safetensors", "--json")
    Path("x.wav").write_bytes(sound())
    run("replay", "x.wav", "--net", "ready.safetensors", "--threshold", "0.5")


def case(random: Random) -> Case:
    """Change a net's graph, its tensors or its bytes."""
    base = (WEIGHTS / f"{random.choice(SHIPPED)}.safetensors").read_bytes() if random.random() < 0.4 else None
    base = grown(random.randrange(GROWN)) if base is None else base
    if random.random() < 0.15:
        made, data = _unsigned(random, base)
    else:
        made, data = _signed(random, base)
    command = random.choice((("inspect", "--json"), ("inspect", "--layers"), ("replay",), ("replay",), ("replay",)))
    return Case(made, {"net.safetensors": data, "x.wav": sound()}, command, FRAMES)


def try_(case: Case, folder: Path) -> Outcome:
    """Inspect it, or replay a file with it; where that ends well, all frames are processed."""
    command, *words = case.words
    if command == "inspect":
        return judged(run(command, folder / "net.safetensors", *words))
    ran = run(command, folder / "x.wav", "--net", folder / "net.safetensors", "--threshold", "0.5")
    outcome = judged(ran)
    if outcome.fault or not outcome.is_taken:
        return outcome
    return dropped("frames", ran.frames, case.least, ran.err)


def sound() -> bytes:
    """Return the file that is replayed."""
    return other("WAV", "FLOAT", 1, 48_000, FRAMES)


@functools.cache
def grown(seed: int) -> bytes:
    """Return the file of a valid net of a few random layers."""
    random = Random(seed)
    while True:
        try:
            return _file(*_parts(_grown(random)))
        except StreamcnnError:
            continue


def _grown(random: Random) -> Graph:
    nodes, channels, name = [], random.choice((1, 1, 2)), INPUT
    inputs = channels
    for k in range(random.randrange(1, 5)):
        layer = _layer(random, channels)
        nodes.append(Node(f"n{k}", layer, (name,)))
        before, (channels,) = channels, layer.output_shape((channels,))
        if before == channels and random.random() < 0.2:
            nodes.append(Node(f"m{k}", L.Merge(by=random.choice(("add", "multiply"))), (f"n{k}", f"n{k}")))
        name = nodes[-1].name
    clip = Clip(frames=32, hop=16) if random.random() < 0.2 else None
    info = NetInfo(
        name="grown", rate=48_000, labels=tuple(f"l{k}" for k in range(channels)), target_lag=random.choice((0, 3))
    )
    return Graph(tuple(nodes), (inputs,), info=info, clip=clip)


def _layer(random: Random, channels: int) -> Layer:
    """Return a layer for frames of so many channels."""
    numbers, taps, filters = (
        np.random.default_rng(random.randrange(2**32)),
        random.choice((1, 2, 5)),
        random.choice((1, 2, 4)),
    )

    def weights(*shape: int) -> np.ndarray:
        return numbers.normal(0, 0.3, shape).astype(np.float32)

    makers = (
        lambda: L.Conv1D(kernel=weights(taps, channels, filters), bias=weights(filters), stride=random.choice((1, 1, 2)),
                         padding=random.choice(("causal", "valid", "same")),
                         activation=random.choice(("linear", "relu", "tanh"))),
        lambda: L.Conv1D(kernel=weights(taps, channels, filters), dilation=random.choice((1, 3))),
        lambda: L.Dense(kernel=weights(channels, filters), bias=weights(filters), activation="softmax"),
        lambda: L.Activation(activation=random.choice(("sigmoid", "elu", "hard_tanh"))),
        lambda: L.PReLU(slope=weights(channels)),
        lambda: L.Affine(scale=weights(channels), offset=weights(channels)),
        lambda: L.Normalize(by="layer", width=channels, epsilon=1e-3),
        lambda: L.Pooling1D(by=random.choice(("max", "average")), pool=taps, stride=random.choice((1, 2)), padding="valid"),
        lambda: L.ZeroPadding1D(left=2, right=1),
        lambda: L.Cropping1D(left=1, right=2),
        lambda: L.GRU(kernel=weights(channels, 3 * filters), recurrent_kernel=weights(filters, 3 * filters)),
        lambda: L.LSTM(kernel=weights(channels, 4 * filters), recurrent_kernel=weights(filters, 4 * filters)),
        lambda: L.SimpleRNN(kernel=weights(channels, filters), recurrent_kernel=weights(filters, filters)),
        lambda: L.Select(indices=tuple(reversed(range(channels))), shape=(channels,)),
        lambda: L.Stack(frames=2, shape=(2 * channels,)),
    )  # fmt: skip
    return random.choice(makers)()


def _parts(graph: Graph) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    text, tensors = store._serialized(graph)
    return json.loads(text), tensors


def _file(document: object, tensors: dict[str, np.ndarray]) -> bytes:
    """Return the file of a graph and its tensors, with a checksum that fits them."""
    text = json.dumps(document, sort_keys=True)
    entries = {"format": "streamcnn-net", "version": "1", "graph": text, "sha256": store._digest(text, tensors)}
    header, place = {"__metadata__": entries}, 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": NAMES[tensor.dtype.type],
            "shape": tensor.shape,
            "data_offsets": (place, place + tensor.nbytes),
        }
        place += tensor.nbytes
    return _with_header(header, b"".join(tensor.tobytes() for tensor in tensors.values()))


def _with_header(header: object, rest: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def _signed(random: Random, base: bytes) -> tuple[str, bytes]:
    """Change graph or tensors of a file, and sign it."""
    size = struct.unpack("<Q", base[:8])[0]
    document = json.loads(json.loads(base[8 : 8 + size])["__metadata__"]["graph"])
    tensors = {name: tensor.copy() for name, tensor in sorted(safetensors.numpy.load(base).items())}
    made = "graph changed"
    match random.randrange(12):
        case 0 | 1:
            document = changed(random, document)
        case 2:
            made = "a layer changed"
            node = random.choice(document["nodes"])
            node["options"] = changed(random, node["options"]) if node["options"] else {"stride": odd(random)}
        case 6 | 7:
            made, document = "values changed", nudged(random, document)
        case 8 | 9 | 10 | 11:
            made = "options changed"
            for node in random.sample(document["nodes"], min(2, len(document["nodes"]))):
                node["options"] = nudged(random, node["options"])
        case 3:
            made = "an option changed"
            options = [node["options"] for node in document["nodes"] if node["options"]]
            if options:
                chosen = random.choice(options)
                chosen[random.choice(list(chosen))] = odd(random)
        case 4:
            made = "metadata changed"
            document["info"] = random.choice((changed, nudged))(random, document["info"])
        case 5:
            made = "tensors changed"
            for name in random.sample(list(tensors), min(len(tensors), 1)):
                tensors[name] = _changed_tensor(random, tensors[name])
    try:
        return made, _file(document, tensors)
    except UnicodeEncodeError:
        return made, spoiled(random, base)


def _changed_tensor(random: Random, tensor: np.ndarray) -> np.ndarray:
    match random.randrange(7):
        case 0 if tensor.size and tensor.dtype.kind == "f":
            tensor.flat[random.randrange(tensor.size)] = random.choice((np.nan, np.inf, -np.inf, 3e38, 1e-45))
            return tensor
        case 1:
            return tensor[..., None]
        case 2:
            return tensor.ravel()
        case 3:
            return tensor[:0]
        case 4:
            return np.ascontiguousarray(tensor.T)
        case 5:
            return np.concatenate([tensor] * random.choice((2, 100)))
    return tensor.astype(random.choice((np.float64, np.float16, np.int8, np.int64, np.bool_, np.uint32)))


def _unsigned(random: Random, base: bytes) -> tuple[str, bytes]:
    """Change the bytes of a file, or its header."""
    size = struct.unpack("<Q", base[:8])[0]
    header, rest = json.loads(base[8 : 8 + size]), base[8 + size :]
    match random.randrange(5):
        case 0:
            return "bytes spoiled", spoiled(random, base)
        case 1:
            end = random.randrange(len(base))
            return f"cut off after {end} bytes", base[:end]
        case 2:
            number = random.choice((0, 1, size - 1, size + 1, 2**32, 2**63 - 1, 2**64 - 1))
            return f"a header of {number} bytes", struct.pack("<Q", number) + base[8:]
        case 3:
            names = [name for name in header if name != "__metadata__"]
            if names:
                field = random.choice(("dtype", "shape", "data_offsets"))
                header[random.choice(names)][field] = random.choice(TYPES) if field == "dtype" else odd(random)
            made = "a tensor's entry changed"
        case _:
            made, header = "the header changed", changed(random, header)
    return made, _with_header(header, rest)

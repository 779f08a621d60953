"""Models of Keras, their archives, their descriptions and their weights changed, given to `convert`."""

import functools
import io
import json
import os
import tempfile
import zipfile
from pathlib import Path
from random import Random

from tests.fuzzing import models
from tests.fuzzing.case import Case, Outcome
from tests.fuzzing.command import run
from tests.fuzzing.mutations import changed, nudged, odd, spoiled

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # before TensorFlow is loaded
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

WEIGHTS = Path(__file__).parents[2] / "weights"
ARCHIVES = ("ramp.keras", "ramp_robust.keras", "ramp_valid.keras")
CLASSES = (
    "Lambda",
    "Dense",
    "Conv1D",
    "GRU",
    "Flatten",
    "TFSMLayer",
    "os.system",
    "Nothing",
    "Sequential",
    "Functional",
)
MODULES = ("keras.layers", "keras", "os", "builtins", "subprocess", "", None, "tests.fuzzing")


def prepare() -> None:
    """Load TensorFlow, and convert every valid one."""
    for name in ARCHIVES:
        Path(name).write_bytes((WEIGHTS / name).read_bytes())
        run("convert", name, "-o", "net.safetensors")
    Path("x.h5").write_bytes(legacy())
    run("convert", "x.h5", "-o", "net.safetensors")


def case(random: Random) -> Case:
    """Change an archive's parts, or the bytes of one or of an HDF5 file."""
    if random.random() < 0.25:
        data = legacy()
        within = (0, min(len(data), 2000)) if random.random() < 0.5 else None
        return Case("HDF5, spoiled", {random.choice(("m.h5", "m.h5", "m.keras")): spoiled(random, data, within=within)})
    data = (WEIGHTS / random.choice(ARCHIVES)).read_bytes()
    if random.random() < 0.2:
        return Case("an archive, spoiled", {random.choice(("m.keras",) * 5 + ("m.h5",)): spoiled(random, data)})
    made, parts = _changed_parts(random, _parts(data))
    return Case(made, {"m.keras": _archive(parts)})


def try_(case: Case, folder: Path) -> Outcome:
    """Convert it; what has been written can be read."""
    return models.try_(case, folder)


@functools.cache
def legacy() -> bytes:
    """Return a model as an HDF5 file."""
    import keras

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.h5"
        keras.models.load_model(WEIGHTS / "ramp_robust.keras").save(path)
        return path.read_bytes()


def _parts(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _archive(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


def _changed_parts(random: Random, parts: dict[str, bytes]) -> tuple[str, dict[str, bytes]]:
    """Change one part of an archive."""
    match random.randrange(8):
        case 0:
            name = random.choice(list(parts))
            return f"without {name}", {key: data for key, data in parts.items() if key != name}
        case 1:
            name = random.choice(("../x", "/x", "config.json/x", "assets/x", "", "\0"))
            return f"with {name!r}", {**parts, name or "empty": b"x"}
        case 2:
            return "weights spoiled", {**parts, "model.weights.h5": spoiled(random, parts["model.weights.h5"])}
        case 3:
            return "config.json spoiled", {**parts, "config.json": spoiled(random, parts["config.json"])}
    config = json.loads(parts["config.json"])
    made = "config.json changed"
    layers = config["config"]["layers"]
    match random.randrange(3):
        case 0:
            layer = random.choice(layers)
            layer[random.choice(("class_name", "module"))] = random.choice((*CLASSES, *MODULES))
        case 1:
            options = random.choice(layers)["config"]
            name = random.choice(list(options))
            options[name] = odd(random)
            made = f"{name} {str(options[name])[:40]!r}"
        case _:
            config = random.choice((changed, nudged))(random, config)
    return made, {**parts, "config.json": json.dumps(config).encode()}

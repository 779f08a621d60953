"""What is written about streamcnn is true."""

import importlib.util
import re
from pathlib import Path

import keras

ROOT = Path(__file__).parents[1]


def _generator() -> object:
    spec = importlib.util.spec_from_file_location("generate_layers", ROOT / "docs" / "generate_layers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_layers_is_up_to_date():
    """docs/layers.md is what its generator writes, and knows every layer of this Keras."""
    generator = _generator()
    if keras.__version__.startswith("3.15"):  # another Keras has other layers
        assert (ROOT / "docs" / "layers.md").read_text(encoding="utf-8") == generator.text()
        unknown = [name for name in generator.names() if "does not know" in generator.status(name)[1]]
        assert unknown == []


def test_every_layer_has_one_status():
    """No layer stands in two of the importer's tables."""
    from streamcnn.importers.keras_plane import PLANE
    from streamcnn.importers.keras_records import JOINS, RECORDS
    from streamcnn.importers.keras_refusals import CLIP_ONLY, REFUSED, VANISHING

    names = [*CLIP_ONLY, *JOINS, *PLANE, *RECORDS, *REFUSED, *VANISHING, *_generator().WALKED]
    assert len(names) == len(set(names))


def test_the_readme_names_real_commands_and_files():
    """Every command and every linked file of the README exists."""
    from streamcnn.cli import COMMANDS

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"streamcnn ([a-z]+) ", readme)) <= {*COMMANDS, "turns"}
    for target in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / target).exists(), target

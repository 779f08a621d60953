"""What is written about streamcnn is true."""

import importlib.util
import json
import re
import textwrap
from pathlib import Path

import keras
import msgspec
import pytest

from streamcnn import documents
from streamcnn.importers.front_end import FrontEnd, Step
from streamcnn.importers.front_layers import sketched

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


def test_the_schemas_are_up_to_date():
    """The JSON Schemas that are shipped are those of the events and messages, and every field of an event is described."""
    spec = importlib.util.spec_from_file_location("generate_schemas", ROOT / "docs" / "generate_schemas.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shipped = {path.name: path.read_text(encoding="utf-8") for path in module.TARGET.glob("*.json")}
    assert shipped == module.texts()


def test_every_event_keeps_its_schema():
    """What is published is valid by the schema that is shipped, of every kind of event and message."""
    import jsonschema

    from streamcnn.wire import messages
    from tests.test_wire import DETECTION, FLOOD, GAP, HEALTH, MEASURE, QUESTION

    def check(name: str, payload: bytes) -> None:
        schema = json.loads((ROOT / "streamcnn" / "schemas" / f"{name}-1.json").read_text(encoding="utf-8"))
        jsonschema.validate(json.loads(payload), schema)

    for event in (DETECTION, FLOOD, GAP, HEALTH, MEASURE):
        check("event", msgspec.json.encode(event))
        check("event", msgspec.json.encode(event.numbered(7, 3)))
    check("heartbeat", messages.encode(messages.Heartbeat(publisher="p", seq=3, topics={"gap.s.": 2})))
    check("question", QUESTION)
    check("answer", messages.encode(messages.Refusal(id=1, error="x")))
    with pytest.raises(jsonschema.ValidationError):
        check("event", b"{}")


def test_the_example_configurations_of_the_documents_are_valid():
    """Every block of configuration in docs/detectors.md, and every file in configs/, is one."""
    from streamcnn import config

    text = (ROOT / "docs" / "detectors.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", text, re.S)
    assert len(examples) > 5
    for example in examples:
        whole = (
            example
            if example.startswith("streams:")
            else "streams:\n- name: s\n  nets:\n" + textwrap.indent(example, "  ")
        )
        config.parse(whole, Path("example.yaml"))
    for path in (ROOT / "configs").glob("*.yaml"):
        config.load(path)


def test_every_layer_has_one_status():
    """No layer stands in two of the importer's tables."""
    from streamcnn.importers.keras_plane import PLANE
    from streamcnn.importers.keras_records import JOINS, RECORDS
    from streamcnn.importers.keras_refusals import CLIP_ONLY, REFUSED, VANISHING

    names = [*CLIP_ONLY, *JOINS, *PLANE, *RECORDS, *REFUSED, *VANISHING, *_generator().WALKED]
    assert len(names) == len(set(names))


def test_every_step_of_a_front_end_is_described():
    """docs/front-ends.md lists each step with all its arguments and their defaults, and its examples are valid."""
    text = (ROOT / "docs" / "front-ends.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|", text, re.M)
    words = {"None": "null", "True": "true", "False": "false"}
    described = {}
    for field in msgspec.structs.fields(Step):
        settings = field.type.__args__[0]
        arguments = [
            argument.name
            if argument.required
            else f"{argument.name}: {words.get(str(argument.default), argument.default)}"
            for argument in msgspec.structs.fields(settings)
        ]
        described[field.encode_name] = ", ".join(arguments)
    assert dict(rows) == described
    examples = re.findall(r"```yaml\n(.*?)```", text, re.S)
    assert examples
    for example in examples:
        sketched(documents.parse(example, Path("example.yaml"), FrontEnd, ""), None)


def test_the_readme_names_real_commands_and_files():
    """Every command and every linked file of the README exists."""
    from streamcnn.cli import COMMANDS

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", readme, re.S | re.M)
    code = "\n".join([*blocks, *re.findall(r"`[^`\n]+`", re.sub(r"^```.*?^```", "", readme, flags=re.S | re.M))])
    named = set(re.findall(r"streamcnn ([a-z]+)", code))
    assert {"run", "replay", "convert"} <= named <= set(COMMANDS)
    for target in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / target).exists(), target

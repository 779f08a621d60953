"""Writes the JSON Schemas of what goes over the wire. Run it with: python docs/generate_schemas.py

Policy: a schema's number changes when a reader of the old one could misread the new one: a field that goes, or means something
else. New fields come without a new number; readers ignore what they do not know.
"""

import json
from pathlib import Path

import msgspec

from streamcnn.events import SCHEMA, Event
from streamcnn.wire.messages import Answer, Heartbeat, Question

TARGET = Path(__file__).parents[1] / "streamcnn" / "schemas"
DOCUMENTS = {"event": Event, "heartbeat": Heartbeat, "question": Question, "answer": Answer}


def texts() -> dict[str, str]:
    """Return each document's text by its file's name."""
    made = {}
    for name, kind in DOCUMENTS.items():
        schema = msgspec.json.schema(kind)
        title = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"streamcnn {name}, schema {SCHEMA}",
        }
        schema = title | schema
        made[f"{name}-{SCHEMA}.json"] = json.dumps(schema, indent=1, sort_keys=True) + "\n"
    return made


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    for name, text in texts().items():
        (TARGET / name).write_text(text, encoding="utf-8")

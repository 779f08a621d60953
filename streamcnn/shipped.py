"""Where the nets that come with streamcnn lie: inside an installed package, or beside it in a checkout."""

import re
from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped_net(name: str) -> Path | None:
    """Return the file of the shipped net `name` ("ramp"), or None where there is no such net."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        return None
    for folder in (_PACKAGE / "weights", _PACKAGE.parent / "weights"):
        path = folder / f"{name}.safetensors"
        if path.is_file():
            return path
    return None

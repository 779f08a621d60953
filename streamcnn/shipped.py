"""Where the nets that come with streamcnn lie: inside an installed package, or beside it in a checkout."""

import re
from pathlib import Path

_FOLDERS = (Path(__file__).parent / "weights", Path(__file__).parents[1] / "weights")


def shipped_nets() -> list[str]:
    """Return the names of the shipped nets."""
    names = {path.stem for folder in _FOLDERS for path in folder.glob("*.safetensors")}
    return sorted(name for name in names if "." not in name)


def shipped_net(name: str) -> Path | None:
    """Return the file of the shipped net `name` ("ramp"), or None where there is no such net."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        return None
    for folder in _FOLDERS:
        path = folder / f"{name}.safetensors"
        if path.is_file():
            return path
    return None

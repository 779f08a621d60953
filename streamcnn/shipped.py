"""Where the nets that come with streamcnn lie: inside an installed package, or beside it in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped_net(name: str) -> Path | None:
    """Return the file of the shipped net `name` ("ramp"), or None where there is no such net."""
    for folder in (_PACKAGE / "weights", _PACKAGE.parent / "weights"):
        path = folder / f"{name}.safetensors"
        if path.is_file():
            return path
    return None

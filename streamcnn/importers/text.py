"""Reading models that are JSON text."""

from pathlib import Path

import msgspec

from streamcnn.errors import NetFileError

MAX_BYTES = 512 * 2**20


def read_json(path: Path) -> object:
    """Return a JSON file's content.

    Raises NetFileError for a file that is missing, too large to be a net, or not JSON.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise NetFileError(f"{path}: larger than {MAX_BYTES >> 20} MiB, which no net is")
        return msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise NetFileError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NetFileError(f"{path}: damaged, or not JSON: {error}") from error

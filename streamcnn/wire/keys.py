"""Keys for CURVE, ZeroMQ's encryption and authentication: pairs of files, made and read by pyzmq.

NAME.key is public: others need it to know whom they talk to. NAME.key_secret holds both halves; it belongs to its owner alone,
and one that others can read is refused.
"""

import os
import stat
from pathlib import Path
from typing import NamedTuple

import zmq
import zmq.auth

from streamcnn.errors import InputError, KeyFileError, MissingPartError


class KeyPair(NamedTuple):
    """Both halves of a key, in Z85."""

    public: bytes
    secret: bytes


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a pair of key files; return the paths of the public and the secret one.

    Raises InputError where one is there already or cannot be written, MissingPartError where ZeroMQ was built without CURVE.
    """
    _need_curve()
    public, secret = folder / f"{name}.key", folder / f"{name}.key_secret"
    for path in (public, secret):
        if path.exists():
            raise InputError(f"{path}: is there already", "give another name, or remove both files of that one")
    before = os.umask(0o077)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        zmq.auth.create_certificates(folder, name)
        public.chmod(0o644)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    finally:
        os.umask(before)
    return public, secret


def secret_key(path: Path) -> KeyPair:
    """Read a secret key; raises KeyFileError where it is none, or where others can read it."""
    pair = _read(path)
    if pair.secret is None:
        raise KeyFileError(f"{path}: holds no secret key", "name the file that ends in .key_secret")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(f"{path}: others can read this secret key", f"chmod 600 {path}, or make new keys")
    return pair


def public_key(path: Path) -> bytes:
    """Read a public key; raises KeyFileError where there is none."""
    return _read(path).public


def allowed_keys(folder: Path) -> int:
    """Return how many public keys a folder holds; raises KeyFileError where that is none, or one cannot be read."""
    paths = sorted(folder.glob("*.key")) if folder.is_dir() else []
    if not paths:
        raise KeyFileError(f"{folder}: holds no client's public key", "put each one's NAME.key there")
    for path in paths:
        public_key(path)
    return len(paths)


def _read(path: Path) -> KeyPair:
    _need_curve()
    try:
        return KeyPair(*zmq.auth.load_certificate(path))
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror or 'it is not there'}") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path}: holds no key", "make one with 'streamcnn keys'") from error


def _need_curve() -> None:
    if not zmq.has("curve"):
        raise MissingPartError("this ZeroMQ was built without CURVE", "pip install --force-reinstall pyzmq")

"""Libraries that only some commands need, loaded when they do."""

import importlib
import importlib.util
import os

from streamcnn.errors import InputError, MissingPartError
from streamcnn.quiet import quiet_libraries

BACKENDS = ("tensorflow", "jax", "torch")


def keras_module(backend: str | None = None, *, exact: bool = True) -> object:
    """Import Keras, quietly, with `backend` or the first that is installed.

    `exact`: keep TensorFlow from summing in whatever order is fastest (oneDNN), where Keras is the oracle.
    Raises MissingPartError where Keras or every backend is missing, InputError where another backend has been loaded.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0" if exact else "1")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # jax would take three quarters of a GPU at once
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # and TensorFlow all of it
    os.environ["KERAS_BACKEND"] = _chosen(backend or os.environ.get("KERAS_BACKEND"))
    try:
        with quiet_libraries():
            import keras
    except ImportError as error:
        raise MissingPartError(f"Keras cannot be loaded ({error})", _REMEDY) from error
    if backend is not None and keras.backend.backend() != backend:
        raise InputError(f"Keras runs on {keras.backend.backend()} in this process, {backend} is asked for")
    return keras


def scipy_module(part: str) -> object:
    """Import a part of SciPy; raises MissingPartError where it is missing."""
    try:
        return importlib.import_module(f"scipy.{part}")
    except ImportError as error:
        raise MissingPartError(f"SciPy cannot be loaded ({error})", _REMEDY) from error


_REMEDY = "pip install 'streamcnn[keras]'; running a converted net does not need it"


def _chosen(wanted: str | None) -> str:
    installed = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
    if wanted is None and installed:
        return installed[0]
    if wanted is None:
        raise MissingPartError(f"Keras has no backend: none of {', '.join(BACKENDS)} is installed", _REMEDY)
    if wanted in BACKENDS and wanted not in installed:
        others = f", or choose {' or '.join(installed)}" if installed else ""
        raise MissingPartError(f"Keras' backend {wanted} is not installed", f"pip install {wanted}{others}")
    return wanted

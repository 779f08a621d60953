"""streamcnn: real-time streaming inference for audio and other sampled signals."""

import importlib

__version__ = "0.1.0"

# Public name -> module that holds it, and the submodules that are public as a whole. Loaded on first use, so that
# importing streamcnn costs nothing and never loads Keras, PortAudio or ZeroMQ before they are asked for.
# No public function shares its name with a submodule: importing that submodule would replace it.
_PUBLIC = {
    "AsyncSubscriber": "streamcnn.wire.subscriber",
    "Engine": "streamcnn.engine",
    "Graph": "streamcnn.graph.graph",
    "NetInfo": "streamcnn.graph.graph",
    "Node": "streamcnn.graph.graph",
    "StreamcnnError": "streamcnn.errors",
    "Subscriber": "streamcnn.wire.subscriber",
    "import_keras": "streamcnn.importers.keras",
    "import_nam": "streamcnn.importers.nam",
    "import_pickle": "streamcnn.importers.pickle",
    "import_rtneural": "streamcnn.importers.rtneural",
    "load": "streamcnn.graph.store",
    "load_front_end": "streamcnn.importers.front_end",
    "reference": "streamcnn.forward",
    "replay": "streamcnn.replaying",
    "save": "streamcnn.graph.store",
}
_MODULES = {"errors": "streamcnn.errors", "events": "streamcnn.events", "layers": "streamcnn.graph.layers"}

__all__ = [  # noqa: RUF022 (resolved by __getattr__; in the order of the table above)
    "AsyncSubscriber",
    "Engine",
    "Graph",
    "NetInfo",
    "Node",
    "StreamcnnError",
    "Subscriber",
    "import_keras",
    "import_nam",
    "import_pickle",
    "import_rtneural",
    "load",
    "load_front_end",
    "reference",
    "replay",
    "save",
    "errors",
    "events",
    "layers",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    elif name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    else:
        raise AttributeError(f"module 'streamcnn' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__

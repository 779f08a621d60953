"""Every error that streamcnn raises on purpose, as one tree.

    StreamcnnError                  anything below; `exit_code` is what the command line returns
    ├── InputError          (2)     what the user gave cannot be used
    │   ├── ConfigError             a configuration file: file, line, path, what was expected
    │   ├── NetFileError            a net's file: truncated, foreign, newer, inconsistent
    │   ├── GraphError              a net whose layers do not fit together
    │   ├── UnsupportedLayerError   a layer that cannot stream exactly: layer, reason, remedy
    │   ├── AudioFileError          a sound file that cannot be read
    │   ├── RateError               a source whose sample rate is not the net's
    │   ├── EndpointError           a ZeroMQ endpoint that is none
    │   └── KeyFileError            a file that holds no key, or a secret that others can read
    ├── MissingPartError    (2)     a library or system package that this command needs is not installed
    └── RunError            (1)     the work failed, and may succeed another time
        ├── DeviceError             a sound device that is not there or cannot be opened so
        ├── JournalError            the journal cannot be opened, or somebody else writes it
        ├── PublishError            the endpoint cannot be bound
        ├── SourceLostError         a source that stopped delivering
        ├── SubscribeError          a subscriber got what it cannot read, or is refused, or cannot fill a hole
        └── VerificationError       two computations that must agree do not

Any other exception that escapes from streamcnn is a bug.
"""


class StreamcnnError(Exception):
    """Base of the tree: what was wrong, with its value and place, and how to mend it.

    `str(error)` is the message, followed by the remedy where there is one.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str | None = None):
        self.message = printable(message)
        self.remedy = None if remedy is None else printable(remedy)
        super().__init__(self.message if self.remedy is None else f"{self.message}; {self.remedy}")


def printable(text: str) -> str:
    """Return a text in one line, whatever stood in the files that it quotes: control characters as their escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


class InputError(StreamcnnError):
    """What the user gave cannot be used: a file, an option, a value."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration that is not valid; names file, line, path and what was expected."""


class NetFileError(InputError):
    """A file that does not hold a net that this version can read."""


class GraphError(InputError):
    """Layer records that do not fit together: unknown inputs, wrong shapes, weights that are not finite."""


class UnsupportedLayerError(InputError):
    """A layer, or an option of one, that does not stream exactly."""

    def __init__(self, layer: str, reason: str, remedy: str):
        self.layer = layer
        self.reason = reason
        super().__init__(f"layer '{layer}': {reason}", remedy)


class AudioFileError(InputError):
    """A sound file that is missing, broken, or of a kind that cannot be read."""


class RateError(InputError):
    """A source whose sample rate is not the rate that the net was trained for."""


class EndpointError(InputError):
    """A ZeroMQ endpoint that is malformed."""


class KeyFileError(InputError):
    """A file that does not hold a key, or a secret key that others can read."""


class MissingPartError(StreamcnnError):
    """A library or system package that this command needs is not installed; the remedy says what to install."""

    exit_code = 2


class RunError(StreamcnnError):
    """The work failed, for a reason that another time, or after a restart, may be gone."""


class DeviceError(RunError):
    """A sound device that is not there (any more, or yet), or that refuses the wanted format."""


class JournalError(RunError):
    """The journal cannot be opened or read, or another process writes it."""


class PublishError(RunError):
    """The publisher's endpoint cannot be bound."""


class SourceLostError(RunError):
    """A source that delivered frames and then stopped."""


class SubscribeError(RunError):
    """A subscriber received what is not an event of a schema it knows, was refused, or cannot fetch what it missed."""


class VerificationError(RunError):
    """Two computations that must agree do not."""

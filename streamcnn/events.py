"""What is published: one record a kind of event, and their form on the wire (schema 1), JSON or msgpack.

Positions are counted in samples (int64) from the session's start and go on through gaps. UTC times are estimates that
carry their own error. Files and pipes have no UTC: there `time` is null. `time_s` counts seconds from the session's start.
"""

from datetime import UTC, datetime

import msgspec

from streamcnn.errors import SubscribeError

SCHEMA = 1


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Fields that all events share.

    `seq` numbers what one publisher has published, over all topics, rising and never used again; `prev` is that of the event
    before it on its topic, None for the first one and for health, which nobody keeps. Both are None where nothing is
    published (replay).
    """

    stream: str
    session: str
    seq: int | None = None
    prev: int | None = None
    schema: int = SCHEMA

    def numbered(self, seq: int, prev: int | None) -> "Event":
        """Return this event with its number from the publisher, and that of the one before it."""
        return msgspec.structs.replace(self, seq=seq, prev=prev)


class Detection(_Event, frozen=True, kw_only=True, tag="detection"):
    """Something that a detector heard.

    `sample` is where it happened in the signal: its highest score so far. `start_sample` is the first and `end_sample` the
    first no longer within the run of scores that it is about, None as long as it goes on; each with the net's target lag
    subtracted. `position` is `sample` to a fraction: of a `peak` the top of the parabola through its highest scores; `time` and
    `time_s` are those of it. `decided_sample` is the input sample at which the decision fell. `id` is
    stream/session/detector/label/onset: replaying a recording names the same event alike.

    A `peak` is "confirmed", and that is all. A `tag` or `trigger` is told in several `phase`s with one id: "provisional" when
    it begins, "confirmed" once it has lasted long enough (at once, where no duration is asked for) and then "ended"; or
    "retracted". `truncated` says that the signal ended, or had a gap, before the run did.
    """

    id: str
    phase: str
    detector: str
    kind: str
    label: str
    net: str
    sample: int
    position: float
    start_sample: int
    end_sample: int | None
    decided_sample: int
    score: float
    threshold: float
    truncated: bool = False
    time: datetime | None = None
    time_s: float | None = None
    time_error_s: float | None = None
    detected_at: datetime | None = None

    def with_detected_at(self, time: datetime) -> "Detection":
        """Return this detection with the time when it was made."""
        return msgspec.structs.replace(self, detected_at=time)

    @property
    def topic(self) -> str:
        """The topic on the wire; it ends in '.', so that `mic1.` never matches `mic10.`."""
        return f"detection.{self.stream}.{self.detector}.{self.label}."


class Measure(_Event, frozen=True, kw_only=True, tag="measure"):
    """What a net that measures has measured: the values of its outputs by their labels, None where one is not a number.

    `sample` is the last one that they are about and `start_sample` the first, each with the net's target lag subtracted. `id`
    is stream/session/detector/sample. The other fields are those of a detection.
    """

    id: str
    detector: str
    net: str
    sample: int
    start_sample: int
    decided_sample: int
    values: dict[str, float | None]
    time: datetime | None = None
    time_s: float | None = None
    time_error_s: float | None = None
    detected_at: datetime | None = None

    def with_detected_at(self, time: datetime) -> "Measure":
        """Return this measurement with the time when it was made."""
        return msgspec.structs.replace(self, detected_at=time)

    @property
    def topic(self) -> str:
        """The topic on the wire."""
        return f"measure.{self.stream}.{self.detector}."


class Flood(_Event, frozen=True, kw_only=True, tag="flood"):
    """How many more events of a detector began in a second than it may tell: of those nothing else is told.

    They were decided by the scores of [start_sample, end_sample).
    """

    detector: str
    suppressed: int
    start_sample: int
    end_sample: int
    decided_sample: int

    @property
    def topic(self) -> str:
        """The topic on the wire."""
        return f"flood.{self.stream}.{self.detector}."


class Gap(_Event, frozen=True, kw_only=True, tag="gap"):
    """Frames that were not processed: where, how many, why.

    `frames_error` is 0 where our own ring counted them, None where the number is not known.
    """

    start_sample: int
    frames: int
    frames_error: int | None
    cause: str

    @property
    def topic(self) -> str:
        """The topic on the wire."""
        return f"gap.{self.stream}."


class Quantiles(msgspec.Struct, frozen=True):
    """How long something took lately, in milliseconds: the median, what 1 and 0.1 % were above, and the longest."""

    p50: float
    p99: float
    p999: float
    max: float


class Health(_Event, frozen=True, kw_only=True, tag="health"):
    """How a stream is doing, once a second, at its end, and when something changes that matters.

    `state` is "opening" (no frames yet), "running", "no signal", "stalled" (no frames for a second), "behind" (inference cannot
    keep up) or "ended". `sample` counts the frames processed or lost so far. `level_dbfs` is the peak level since the last
    health event, None for digital silence, and where no frames came. `overflows` counts the blocks that the ring or the driver
    could not take, `lost_frames` the frames that went with those of the ring.

    `record_latency_ms`: from the entry of the sound card's callback to a block's records, beyond the time for which
    inference was at work meanwhile. `wire_latency_ms`: from a record to its event on the wire. `callback_ms`: how long the
    callback took. They are of the last one to two minutes; None where nothing was measured. `load`: the share of a core that
    inference took since the last report, and `costs` what each net did of it. `worst_block`: the most that a block took
    since then, as a share of the time that it lasts. `ring_high_water`: the most that waited in the ring, as a share of what
    fits. `nets_off`: nets that are switched off until the machine can keep up. `drift_ppm`: how much faster than the host's
    clock the card's is, None while that is not known; `time_error_s`: that of the times of events.
    `recording_lost_frames`: what the disk was too slow for; `recording_error`: why nothing is recorded any more.
    `not_permitted`: what of real-time scheduling and locked memory the system refused. `journal`: what is not as it should be
    with the journal, `wire` with the publisher. `clips_error`: why no clips are written any more.
    """

    state: str
    sample: int
    level_dbfs: float | None
    detections: int
    overflows: int
    lost_frames: int
    time: datetime | None = None
    record_latency_ms: Quantiles | None = None
    wire_latency_ms: Quantiles | None = None
    callback_ms: Quantiles | None = None
    callback: str | None = None
    load: float = 0.0
    costs: dict[str, float] = {}
    worst_block: float = 0.0
    ring_high_water: float = 0.0
    nets_off: tuple[str, ...] = ()
    drift_ppm: float | None = None
    time_error_s: float | None = None
    recording_lost_frames: int | None = None
    recording_error: str | None = None
    not_permitted: tuple[str, ...] = ()
    journal: str | None = None
    wire: str | None = None
    clips_error: str | None = None

    @property
    def topic(self) -> str:
        """The topic on the wire."""
        return f"health.{self.stream}."


Event = Detection | Measure | Flood | Gap | Health

_encoder, _packer = msgspec.json.Encoder(), msgspec.msgpack.Encoder()
_decoder, _unpacker = msgspec.json.Decoder(Event), msgspec.msgpack.Decoder(Event)


def to_json(event: Event) -> bytes:
    """Encode an event as one line of JSON, without the line's end."""
    return _encoder.encode(event)


def to_msgpack(event: Event) -> bytes:
    """Encode an event as msgpack."""
    return _packer.encode(event)


def from_json(payload: bytes) -> Event:
    """Decode an event.

    Raises SubscribeError for anything that is not an event of schema 1.
    """
    return _decoded(payload, _decoder)


def from_wire(payload: bytes) -> Event:
    """Decode an event that came as JSON or msgpack: only JSON's first byte is a brace.

    Raises SubscribeError for anything that is not an event of schema 1.
    """
    return _decoded(payload, _decoder if payload[:1] == b"{" else _unpacker)


def _decoded(payload: bytes, decoder: msgspec.json.Decoder | msgspec.msgpack.Decoder) -> Event:
    try:
        event = decoder.decode(payload)
    except RecursionError as error:
        raise SubscribeError(f"not an event of schema {SCHEMA}: is nested too deeply: {payload[:80]!r}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SubscribeError(f"not an event of schema {SCHEMA}: {error}: {payload[:80]!r}") from error
    if event.schema != SCHEMA:
        raise SubscribeError(f"event of schema {event.schema}, this version reads schema {SCHEMA}", "update streamcnn")
    return event


def utc(seconds: float) -> datetime:
    """Return seconds since 1970 as a UTC time with microseconds."""
    return datetime.fromtimestamp(seconds, UTC)

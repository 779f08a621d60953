"""What goes over the sockets beside events: the publisher's heartbeat, and questions and answers of backfill (schema 1).

All of it is JSON. A question is one message to the backfill endpoint, and so is its answer, which carries the question's `id`.
"""

from typing import Annotated

import msgspec

from streamcnn.errors import SubscribeError
from streamcnn.events import SCHEMA

HEARTBEAT_TOPIC = "heartbeat."
MOST_IN_PAGE = 1000
MOST_TOPICS = 256
LONGEST_TOPIC = 300

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Topic = Annotated[str, msgspec.Meta(max_length=LONGEST_TOPIC, pattern=r"^[^\ud800-\udfff]*$")]  # JSON has halves of pairs
Topics = Annotated[tuple[Topic, ...], msgspec.Meta(min_length=1, max_length=MOST_TOPICS)]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """`schema`: of the wire; another one is refused."""

    schema: int = SCHEMA


class Heartbeat(_Message, tag="heartbeat"):
    """Once a second, on the topic `heartbeat.`: that the publisher lives, and what a subscriber should have seen by now.

    `publisher` names the record of events: where it changes, numbers have begun anew. `seq`: the last number given. `topics`:
    the number of the last event of each topic that is kept.
    """

    publisher: str
    seq: Number
    topics: dict[str, Number]


class Since(_Message, tag="since"):
    """Asks for the events numbered above `seq` whose topics begin with one of these, at most `limit` of them, in order."""

    topics: Topics
    seq: Number
    id: Number = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_IN_PAGE)] = MOST_IN_PAGE


class Latest(_Message, tag="latest"):
    """Asks for the last event of each topic that begins with one of these."""

    topics: Topics
    id: Number = 0


class Page(_Message, tag="page"):
    """Answers both: events as they were published, and the last number that had been given when they were read.

    `more`: there are more behind the last of them; without it, nothing up to `seq` is missing.
    """

    id: Number
    publisher: str
    seq: Number
    more: bool
    events: list[msgspec.Raw]


class Refusal(_Message, tag="refusal"):
    """Answers what cannot be answered: why. `id` is 0 where the question could not be read."""

    id: Number
    error: str


Question = Since | Latest
Answer = Page | Refusal
encode = msgspec.json.Encoder().encode
_heartbeats, _questions, _answers = (msgspec.json.Decoder(kind) for kind in (Heartbeat, Question, Answer))


def question_of(payload: bytes) -> Question:
    """Decode a question; raises SubscribeError for anything else."""
    return _decoded(_questions, payload, "a question")


def answer_of(payload: bytes) -> Answer:
    """Decode an answer; raises SubscribeError for anything else."""
    return _decoded(_answers, payload, "an answer")


def heartbeat_of(payload: bytes) -> Heartbeat:
    """Decode a heartbeat; raises SubscribeError for anything else."""
    return _decoded(_heartbeats, payload, "a heartbeat")


class _Numbered(msgspec.Struct):
    """Of any event, what number it has."""

    seq: int = 0


_numbers = msgspec.json.Decoder(_Numbered)


def number_of(event: msgspec.Raw) -> int:
    """Return the number of an event that may be of a later schema, 0 where it has none."""
    try:
        return _numbers.decode(event).seq
    except msgspec.DecodeError:
        return 0


def _decoded(decoder: msgspec.json.Decoder, payload: bytes, kind: str) -> Question | Answer | Heartbeat:
    try:
        message = decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SubscribeError(f"not {kind} of schema {SCHEMA}: {error}: {payload[:80]!r}") from error
    if message.schema != SCHEMA:
        raise SubscribeError(
            f"{kind} of schema {message.schema}, this version reads schema {SCHEMA}", "update streamcnn"
        )
    return message

"""What a subscriber does with messages, without sockets: the events in order, and what to ask for where some are missing.

Rules.

- Events are given once, and those of a topic in the order of their numbers; of a strict follower, who means to remember the
  number of the last event he dealt with, all of them in that order. He hears every topic, gives away those he wants,
  and a number that does not follow on the one before it is a hole.
- Everybody else hears his own topics only. A hole is where an event names one before it (`prev`), or a heartbeat a last one
  of a topic, that has not been given: a PUB socket delivers in order, so it was dropped.
- From a hole on what comes waits, and what is missing is asked for, page by page, until nothing is. Then what waited goes on,
  unless it was among the pages. What waits is bounded: beyond that it is dropped, and asked for later.
- At the start what was last said on each topic is asked for, the snapshot; of who knows where he was, all since.
- A question without an answer is asked again.
- A publisher whose record of events is another one than before has begun anew, with higher numbers: all it has is asked for.

Health is given as it comes: nobody keeps it.
"""

from collections import deque
from collections.abc import Sequence

from streamcnn.errors import SubscribeError
from streamcnn.events import Event, Health, from_json, from_wire
from streamcnn.wire import messages

ANSWER_S = 2.0  # how long to wait for an answer
RETRY_S = 0.02  # after how long to try again to ask, where there was nobody
PATIENCE_S = 10.0  # for so long nobody has answered, though somebody publishes: then it is said
MOST_WAITING = 10_000


class Following:
    """Turns what comes from a publisher into events; time is given to it, in seconds of any clock that does not step.

    `topics`: prefixes. `strict`: see above. `since`: the number of the last event that was dealt with before, None to begin
    with now; `publisher`: the record of events that it is of, None for whichever there is. `can_ask`: whether there is a
    backfill; without one holes stay.

    `events` are ready to be taken, from the left, each with the record that it is of. `snapshot`: the last event of each topic
    at the start, None before it comes.
    """

    def __init__(
        self,
        topics: Sequence[str],
        *,
        strict: bool = False,
        since: int | None = None,
        publisher: str | None = None,
        can_ask: bool = True,
    ):
        self.events: deque[tuple[Event, str | None]] = deque()
        self.snapshot: list[Event] | None = None if can_ask and since is None else []
        self.publisher = publisher
        self._topics, self._strict, self._can_ask = tuple(topics), strict, can_ask
        self._complete = since or 0
        self._given: dict[str, int] = {}  # of each topic, beyond `complete`
        self._lately: set[int] = set()  # all numbers beyond `complete` that were given
        self._waiting: deque[Event] | None = deque(maxlen=MOST_WAITING) if can_ask else None  # None: nothing is missing
        self._number, self._is_asked, self._again_s = 0, False, 0.0
        self._unanswered_s: float | None = None  # since when
        self._heard = False  # since then

    @property
    def complete(self) -> int:
        """The number up to which nothing is missing, once all `events` are taken."""
        return self._complete

    @property
    def hears(self) -> tuple[str, ...]:
        """The topics to subscribe to, beside the heartbeat's."""
        return ("",) if self._strict else self._topics

    def message(self, topic: bytes, payload: bytes) -> None:
        """Take what the publisher said; raises SubscribeError for what is no message of schema 1."""
        self._heard = True
        if topic == messages.HEARTBEAT_TOPIC.encode():
            self._beat(messages.heartbeat_of(payload))
            return
        event = from_wire(payload)
        if event.seq is None or not self._can_ask or (isinstance(event, Health) and not self._strict):
            self._give(event)
        elif self._waiting is not None:
            self._waiting.append(event)
        else:
            self._take(event)

    def question(self, now_s: float) -> bytes | None:
        """Return what to ask now, None for nothing; raises SubscribeError, once in a while, where nobody answers."""
        if self._waiting is None or (self._is_asked and now_s < self._again_s):
            return None
        if self._unanswered_s is None:
            self._unanswered_s, self._heard = now_s, False
        elif self._heard and now_s - self._unanswered_s >= PATIENCE_S:
            self._unanswered_s = None
            raise SubscribeError(
                f"nobody has said for {PATIENCE_S:g} s what was missed",
                "is the backfill's endpoint right, and open? to do without backfill, say 'none'",
            )
        self._is_asked, self._again_s, self._number = True, now_s + ANSWER_S, self._number + 1
        if self.snapshot is None:
            return messages.encode(messages.Latest(topics=self._topics, id=self._number))
        return messages.encode(messages.Since(topics=self._topics, seq=self._complete, id=self._number))

    def unsent(self, now_s: float) -> None:
        """Take back that the question was asked: there was nobody to ask."""
        self._again_s = now_s + RETRY_S

    def answer(self, payload: bytes) -> None:
        """Take an answer; raises SubscribeError where it is none, or a refusal."""
        answer = messages.answer_of(payload)
        if not self._is_asked or answer.id not in (self._number, 0):
            return  # to a question that was given up
        if isinstance(answer, messages.Refusal):
            raise SubscribeError(f"the publisher cannot say what was missed: {answer.error}")  # it is asked again
        self._is_asked, self._unanswered_s = False, None
        if self._has_changed(answer.publisher, began_anew=answer.seq < self._complete):
            return
        events, unreadable = _events_of(answer)
        if self.snapshot is None:
            # What was heard meanwhile is news, even where the snapshot has it already.
            self.snapshot = events
            self._complete = min([answer.seq, *(event.seq - 1 for event in self._waiting)])
        else:
            for event in events:
                if event.seq > self._complete and event.seq not in self._lately:
                    self._give(event)
            last = messages.number_of(answer.events[-1]) if answer.events else 0
            self._complete = max(self._complete, last, 0 if answer.more else answer.seq)
        if not answer.more:
            self._go_on()
        if unreadable is not None:
            raise unreadable  # once: it will not be asked for again

    def _give(self, event: Event) -> None:
        if event.topic.startswith(self._topics):
            self.events.append((event, self.publisher))

    def _take(self, event: Event) -> None:
        """Give an event, unless it was given before, or another one was not that should have been."""
        given = max(self._complete, self._given.get(event.topic, 0))
        if event.seq <= given:
            return
        before = event.seq - 1 if self._strict else event.prev or 0
        if before > given:
            self._waiting = deque([event], maxlen=MOST_WAITING)
            return
        if self._strict:
            self._complete = event.seq
        else:
            self._given[event.topic] = event.seq
            self._lately.add(event.seq)
        self._give(event)

    def _beat(self, beat: messages.Heartbeat) -> None:
        if not self._can_ask or self._waiting is not None or self._has_changed(beat.publisher):
            return
        if self._strict:
            missing = beat.seq > self._complete
        else:
            missing = any(
                last > max(self._complete, self._given.get(topic, 0))
                for topic, last in beat.topics.items()
                if topic.startswith(self._topics)
            )
        if missing or beat.seq < self._complete:  # the latter may be an old one that comes late, or a record begun anew
            self._waiting = deque(maxlen=MOST_WAITING)
        else:
            self._complete = beat.seq
            self._given.clear()
            self._lately.clear()

    def _has_changed(self, publisher: str, *, began_anew: bool = False) -> bool:
        """Whether this is another record of events than before; then all of it is missing."""
        before, self.publisher = self.publisher, publisher
        if before in (None, publisher) and not began_anew:
            return False
        self._given.clear()
        self._complete, self._is_asked, self.snapshot = 0, False, self.snapshot or []
        self._waiting = deque(maxlen=MOST_WAITING)
        return True

    def _go_on(self) -> None:
        """Nothing is missing any more: take what waited."""
        waiting, self._waiting = self._waiting, None
        for event in waiting:
            if self._waiting is None:
                self._take(event)
            else:
                self._waiting.append(event)


def _events_of(page: messages.Page) -> tuple[list[Event], SubscribeError | None]:
    """Return the events of a page that can be read, and why the first of the others cannot."""
    events, unreadable = [], None
    for raw in page.events:
        try:
            event = from_json(bytes(raw))
            if event.seq is None:
                raise SubscribeError("an event of the journal without its number")
            events.append(event)
        except SubscribeError as error:
            unreadable = unreadable or error
    return events, unreadable

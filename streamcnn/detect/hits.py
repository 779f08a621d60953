"""What a detector reports: a decision, in output frames."""

from typing import NamedTuple


class Hit(NamedTuple):
    """One decision of a detector. Frames are numbers of output frames since the engine's start.

    The run of scores above the threshold is [onset, end); its maximum `score` stands at `peak`, and the decision fell
    when frame `decided` was seen. `truncated`: the scores ended before the run did.
    """

    output: int
    onset: int
    peak: int
    end: int
    decided: int
    score: float
    truncated: bool = False

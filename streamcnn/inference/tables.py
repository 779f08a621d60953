"""The columns of the tables that a pipeline fills and the inference kernels work on: int64 all of them.

A *stage* brings the stream's frames to a rate: stage 0 leaves them as they are, others resample. A *runner* is a net with its
detector, which reads the frames of one stage. *Records* are what was decided; they wait in a ring for Python.
"""

from streamcnn.detect.hits import HIT_COLUMNS

# The stream: the next frame's number, by how much the ring's numbers are less (frames that the driver lost), where a run of
# NaN or Inf samples began that still goes on (NOWHERE: none), the highest level so far (the bits of a float32), channels and
# rate ...
SAMPLE, SHIFT, BAD_FROM, LEVEL, CHANNELS, RATE = range(6)
# ... its stages, its runners, and the ring of records: where, how many fit, written and read so far, how many one piece of
# signal may add ...
STAGES_AT, STAGES, RUNNERS_AT, RUNNERS, RECORDS_AT, RECORDS, WRITTEN, READ, ROOM = range(6, 15)
# ... the C functions' table and a place for two numbers ...
FUNCTIONS_AT, PLACE = range(16, 18)
# ... and what only the loop beside a sound card needs: the ring of frames, the descriptors at which it is woken and wakes who
# reads the records, a recording's ring (0: none), whether the source can wait for it, ...
RING_AT, LISTENING, NEWS, RECORDING, PATIENT = range(20, 25)
# ... how long it was at work in all (ns), the longest that a block took, of the time that it lasts (PARTS of it), and what its
# latencies are reckoned from: their histogram, and when it was at work lately ...
BUSY, WORST, LATENCY_AT, SPELLS_AT, SPELL = range(25, 30)
# ... the least late block since the last pair of times was reported, how late, and until which sample it is looked for ...
PAIR_SAMPLE, PAIR_ARRIVED, PAIR_AGE, PAIR_LATE, PAIR_UNTIL = range(30, 35)
# ... the machine code for what it does with frames (see `kernels`), ...
ADVANCING, SKIPPING, SWITCHING = range(35, 38)
# ... and what is known of the card's clock, in one of two slots, so that nobody reads what is half written: when a sample
# arrives at the earliest, how long a sample lasts (in ps), and how much later blocks come that are not late (ns). KNOWN is 0
# as long as nothing is, and then counts the times that something was written; EPOCH counts how often all became void.
KNOWN, EPOCH = range(38, 40)
KNOWN_SLOTS = 40
KNOWN_SAMPLE, KNOWN_ARRIVAL, KNOWN_PERIOD, KNOWN_SPREAD = range(4)
KNOWN_COLUMNS = 4
# ... What was found out about blocks that came late, up to the one that arrived at JUDGED_UNTIL (ns): how late they stay (ns,
# UNKNOWN: nobody knows), and whether others were later, which the source had kept for us.
JUDGED_UNTIL, JUDGED_LATE, JUDGED_BACKLOG = range(48, 51)
STREAM_COLUMNS = 56
NOWHERE = -1
PARTS = 1_000_000

# A stage: its engine (code 0: none), where its frames of this piece lie and how many there are, the numbers of the first of
# them and of the next ones, the sample from which on it reads, the first of its frames that sees no zeros before the signal,
# its rate as a fraction of the stream's, the samples after which its frames fall on samples again, how many frames see
# zeros.
CODE, PROGRAM, RESET, FRAMES_AT, MADE, FIRST, COUNT, ORIGIN, CLEAN, UP, DOWN, PERIOD, PADDED = range(13)
STAGE_COLUMNS = 13

# A runner: its engine (as of a stage), its detector; where scores and hits go, how many hits wait; ...
(SCAN, END_RUNS, FORGET, DETECTOR, SCORES_AT, HITS_AT, HITS, STAGE) = range(3, 11)
# ... the number of its stage's frame at which its engine started, how many scores since then, how many of the first
# scores are masked; how many of them see what lies before the start, and how many are masked after a gap; after how many
# frames its outputs repeat, values of a score and of a frame; whether it is on, whether it shall be, and how long it was
# at work in all (ns).
STARTED, GIVEN, MASKED, REACH, MASKS, REPEATS, SCORE_VALUES, FRAME_VALUES, ON, WANTED, COST = range(11, 22)
# ... and against floods (see `flood`): the frames of its stage from one score to the next, and of a window; how many events may
# begin in a window; in which window it is, how many have begun and how many were suppressed there; and for each output the
# onset of its last event, and whether that is told.
SCORE_HOP, WINDOW, MOST_EVENTS, IN_WINDOW, PASSED, SUPPRESSED, FATES_AT = range(22, 29)
# ... and how many frames of silence its engine is still to be given before the first real one, and where so many lie.
LEAD, SILENCE_AT = range(29, 31)
RUNNER_COLUMNS = 31
FATE_ONSET, FATE_TOLD = range(2)
FATE_COLUMNS = 2

# A record: what kind it is, where the piece of signal ended that it was made of, when it was made; then of a
# HIT the net, where its engine started, and the hit itself; ...
KIND, SEEN, MADE_AT, NET, ENGINE_STARTED = range(5)
HIT_AT = 8
RECORD_COLUMNS = HIT_AT + HIT_COLUMNS
HIT, GAP, PAIR = range(3)
# ... of a GAP (from SEEN on) frames, their error and a cause; of a PAIR the sample, when it arrived at how many ns of age, and
# how far UTC was ahead of the monotonic clock.
GAP_START, GAP_FRAMES, GAP_ERROR, GAP_CAUSE = range(4, 8)
OF_SAMPLE, OF_ARRIVAL, OF_AGE, OF_UTC = range(4, 8)

NOT_FINITE, TOO_SLOW, DRIVER, STALLED, RECORDING_SLOW, SUSPENDED = range(6)  # causes of gaps
CAUSES = (
    "the samples were NaN or Inf",
    "inference was too slow: the ring overflowed",
    "the driver lost frames",
    "the source stalled",
    "the recording's disk was too slow",
    "streamcnn was stopped, and more came meanwhile than is kept for it",
)

"""Frames in, records out: what a stream's nets and detectors do with a piece of signal.

Rules. Frames are taken in pieces, which change no result: engines, detectors and masks count samples. A record is seen by its
reader only once its whole piece is done (`commit`). Before a piece there must be room for all that it can decide; where
there is none, `advance` says how far it came, and its caller makes room.

Theory. After a gap everything starts anew, but on the session's grids: a stage at the next sample at which its frames fall on
samples, a net at a multiple of its period. That is the last one that is not behind the first of the stage's frames that see no
zeros; up to this frame the net is given silence. (It began at the next multiple once, and was deaf until then.) Its first
scores, which would answer to the zeros before the signal, are masked. So a net that starts late decides as one that has always
listened.
"""

import numpy as np

from streamcnn.compiler.build import entry_point, machine_code
from streamcnn.compiler.denormals import flush_denormals, restore
from streamcnn.compiler.kernel import address_of, call, integers, invoke, kernel, words
from streamcnn.detect.hits import DECIDED, HIT_COLUMNS
from streamcnn.detect.hits import FRAME as NEXT_SCORE
from streamcnn.inference.flood import is_told, turn
from streamcnn.inference.tables import (
    BAD_FROM,
    CHANNELS,
    CLEAN,
    CODE,
    COST,
    COUNT,
    DETECTOR,
    DOWN,
    END_RUNS,
    ENGINE_STARTED,
    FATE_COLUMNS,
    FATE_ONSET,
    FATES_AT,
    FIRST,
    FORGET,
    FRAME_VALUES,
    FRAMES_AT,
    FUNCTIONS_AT,
    GAP,
    GAP_CAUSE,
    GAP_ERROR,
    GAP_FRAMES,
    GAP_START,
    GIVEN,
    HIT,
    HIT_AT,
    HITS,
    HITS_AT,
    KIND,
    LEAD,
    LEVEL,
    MADE,
    MADE_AT,
    MASKED,
    MASKS,
    NET,
    NEWS,
    NOT_FINITE,
    NOWHERE,
    ON,
    ORIGIN,
    PADDED,
    PERIOD,
    PLACE,
    PROGRAM,
    REACH,
    READ,
    RECORD_COLUMNS,
    RECORDS,
    RECORDS_AT,
    REPEATS,
    RESET,
    ROOM,
    RUNNER_COLUMNS,
    RUNNERS,
    RUNNERS_AT,
    SAMPLE,
    SCAN,
    SCORE_HOP,
    SCORE_VALUES,
    SCORES_AT,
    SEEN,
    SILENCE_AT,
    STAGE,
    STAGE_COLUMNS,
    STAGES,
    STAGES_AT,
    STARTED,
    SUPPRESSED,
    UP,
    WRITTEN,
)  # fmt: skip
from streamcnn.system import MONOTONIC, look, now, publish, wake

PIECE = 256  # frames
FINITE = 0x7F800000  # the bits of a float32's magnitude are below it where the number is finite
MAGNITUDE = 0x7FFFFFFF


@kernel
def stage_of(stream, k):
    """Return stage k."""
    return integers(stream[STAGES_AT] + 8 * STAGE_COLUMNS * k)


@kernel
def runner_of(stream, k):
    """Return runner k."""
    return integers(stream[RUNNERS_AT] + 8 * RUNNER_COLUMNS * k)


@kernel
def has_room(stream):
    """Whether the records that one more piece can make fit."""
    return stream[RECORDS] - (stream[WRITTEN] - look(address_of(stream) + 8 * READ)) >= stream[ROOM]


@kernel
def row_of(stream, k):
    """Return the row of record number k of those not yet committed."""
    return integers(stream[RECORDS_AT] + (stream[WRITTEN] + k) % stream[RECORDS] * 8 * RECORD_COLUMNS)


@kernel
def record(stream, k, kind):
    """Return record number k of those not yet committed, of a kind, with what all records have."""
    row = row_of(stream, k)
    row[KIND], row[SEEN] = kind, stream[SAMPLE]
    return row


@kernel
def tell(stream):
    """Wake who reads the records, if somebody waits for them."""
    if stream[NEWS] != NOWHERE:
        wake(stream[FUNCTIONS_AT], stream[NEWS], address_of(stream) + 8 * PLACE)


@kernel
def commit(stream, count):
    """Let the reader see so many records more, and wake it."""
    if count:
        show(stream, count)
        tell(stream)


@kernel
def show(stream, count):
    """Let the reader see so many records more."""
    time = now(stream[FUNCTIONS_AT], MONOTONIC, address_of(stream) + 8 * PLACE)
    for k in range(count):
        row_of(stream, k)[MADE_AT] = time
    publish(address_of(stream) + 8 * WRITTEN, stream[WRITTEN] + count)


@kernel
def hit_row(stream, k, count):
    """Return the place for a hit of runner k in record number `count` of those not yet committed."""
    row = record(stream, count, HIT)
    row[NET], row[ENGINE_STARTED] = k, runner_of(stream, k)[STARTED]
    return integers(address_of(row) + 8 * HIT_AT)


@kernel
def hand_over(stream, k, count, ended):
    """Make records of the hits that wait with runner k, as far as they are told; return the number of records with them.

    `ended`: 1 where its scores end here.
    """
    runner = runner_of(stream, k)
    for h in range(runner[HITS]):
        hit = integers(runner[HITS_AT] + 8 * HIT_COLUMNS * h)
        count += turn(runner, hit[DECIDED], 0, hit_row(stream, k, count))
        if is_told(runner, hit):
            row = hit_row(stream, k, count)
            for c in range(HIT_COLUMNS):
                row[c] = hit[c]
            count += 1
    runner[HITS] = 0
    if runner[SUPPRESSED] > 0:
        count += turn(runner, integers(runner[DETECTOR])[NEXT_SCORE] - 1, ended, hit_row(stream, k, count))
    return count


@kernel
def start(runner, frame, masked, known):
    """Start a net anew at a frame of its stage; its first `masked` scores count for nothing."""
    runner[STARTED], runner[GIVEN], runner[MASKED], runner[LEAD] = frame, 0, masked, 0
    for o in range(runner[SCORE_VALUES]):
        integers(runner[FATES_AT] + 8 * FATE_COLUMNS * o)[FATE_ONSET] = NOWHERE
    call(runner[RESET], (runner[PROGRAM],))
    call(runner[FORGET], (runner[DETECTOR], masked, known))


@kernel
def start_next(stream, runner):
    """Start a net anew as soon as its grid and its stage allow."""
    stage = stage_of(stream, runner[STAGE])
    frame = max(stage[COUNT], stage[CLEAN])
    lead = frame % runner[REPEATS]
    start(runner, frame - lead, runner[MASKS] - (-lead // runner[SCORE_HOP]), 1)
    runner[LEAD] = lead


@kernel
def restart(stream):
    """Start everything anew at the next frame: what came before it has no part in what follows."""
    for k in range(stream[STAGES]):
        stage = stage_of(stream, k)
        stage[ORIGIN] = -(-stream[SAMPLE] // stage[PERIOD]) * stage[PERIOD]
        stage[COUNT] = stage[ORIGIN] // stage[DOWN] * stage[UP]
        stage[CLEAN] = stage[COUNT] + stage[PADDED]
        if stage[CODE]:
            call(stage[RESET], (stage[PROGRAM],))
    for k in range(stream[RUNNERS]):
        start_next(stream, runner_of(stream, k))


@kernel
def end_runner(stream, k, count):
    """End what is open with runner k; return the number of records with that."""
    runner = runner_of(stream, k)
    runner[HITS] = invoke(runner[END_RUNS], (runner[DETECTOR], runner[HITS_AT]))
    return hand_over(stream, k, count, 1)


@kernel
def end_runs(stream, count):
    """End what is open with all runners."""
    for k in range(stream[RUNNERS]):
        count = end_runner(stream, k, count)
    return count


@kernel
def report_gap(stream, count, start, frames, error, cause):
    """Make the record of a gap."""
    row = record(stream, count, GAP)
    row[GAP_START], row[GAP_FRAMES], row[GAP_ERROR], row[GAP_CAUSE] = start, frames, error, cause
    return count + 1


@kernel
def end_bad_run(stream, count):
    """Report the run of frames with NaN or Inf that ends here, if there is one, and start anew behind it."""
    if stream[BAD_FROM] == NOWHERE:
        return count
    count = report_gap(stream, count, stream[BAD_FROM], stream[SAMPLE] - stream[BAD_FROM], 0, NOT_FINITE)
    stream[BAD_FROM] = NOWHERE
    restart(stream)
    return count


@kernel
def skip(stream, frames, error, cause):
    """Account for frames that never came: end what is open, report the gap, and start anew behind it."""
    count = end_runs(stream, end_bad_run(stream, 0))
    count = report_gap(stream, count, stream[SAMPLE], frames, error, cause)
    commit(stream, count)
    stream[SAMPLE] += frames
    restart(stream)


@kernel
def switch(stream, k, is_on):
    """Switch a net off, which ends what is open with it, or on, which starts it anew."""
    runner = runner_of(stream, k)
    if runner[ON] == is_on:
        return
    if is_on:
        start_next(stream, runner)
    else:
        commit(stream, end_runner(stream, k, 0))
    runner[ON] = is_on


@kernel
def highest(values, count):
    """Return the bits of the largest magnitude among float32 values; those of NaN and Inf are above all others."""
    bits, most = words(values), np.int32(0)
    for k in range(count):
        most = max(most, bits[k] & np.int32(MAGNITUDE))
    return most


@kernel
def run_length(values, frames, channels, finite):
    """Return how many frames from the first on are all finite, or all are not."""
    for t in range(frames):
        if (highest(values + 4 * channels * t, channels) < FINITE) != finite:
            return t
    return frames


@kernel
def feed(runner, stage):
    """Push a stage's frames of this piece through a net and its detector."""
    skipped = max(0, runner[STARTED] + runner[LEAD] - stage[FIRST])
    frames = stage[MADE] - skipped
    if frames <= 0:
        return
    while runner[LEAD]:
        count = min(PIECE, runner[LEAD])
        runner[GIVEN] += invoke(runner[CODE], (runner[PROGRAM], runner[SILENCE_AT], count, 0, runner[SCORES_AT]))
        runner[LEAD] -= count
    source = stage[FRAMES_AT] + 4 * runner[FRAME_VALUES] * skipped
    made = invoke(runner[CODE], (runner[PROGRAM], source, frames, 0, runner[SCORES_AT]))
    masked = min(made, max(0, runner[MASKED] - runner[GIVEN]))
    runner[GIVEN] += made
    if made > masked:
        scores = runner[SCORES_AT] + 4 * runner[SCORE_VALUES] * masked
        runner[HITS] = invoke(runner[SCAN], (runner[DETECTOR], scores, made - masked, runner[HITS_AT]))


@kernel
def run(stream, samples, frames):
    """Push finite frames, at most a piece of them, through all stages and nets."""
    for k in range(stream[STAGES]):
        stage = stage_of(stream, k)
        stage[FIRST], stage[MADE] = stage[COUNT], frames
        if stage[CODE]:
            skipped = max(0, min(frames, stage[ORIGIN] - stream[SAMPLE]))
            source = samples + 4 * stream[CHANNELS] * skipped
            stage[MADE] = invoke(stage[CODE], (stage[PROGRAM], source, frames - skipped, 0, stage[FRAMES_AT]))
        else:
            stage[FRAMES_AT] = samples
        stage[COUNT] += stage[MADE]
    stream[SAMPLE] += frames
    count, place = 0, address_of(stream) + 8 * PLACE
    time = now(stream[FUNCTIONS_AT], MONOTONIC, place)
    for k in range(stream[RUNNERS]):
        runner = runner_of(stream, k)
        if runner[ON]:
            feed(runner, stage_of(stream, runner[STAGE]))
            done = now(stream[FUNCTIONS_AT], MONOTONIC, place)
            runner[COST] += done - time
            time = done
            count = hand_over(stream, k, count, 0)
    commit(stream, count)


@kernel
def advance(stream, samples, frames):
    """Push frames of which the first is the stream's next one; return how many found room for what they decided."""
    done, width = 0, 4 * stream[CHANNELS]
    while done < frames and has_room(stream):
        source, count = samples + width * done, min(PIECE, frames - done)
        level = highest(source, stream[CHANNELS] * count)
        if level >= FINITE:
            finite = highest(source, stream[CHANNELS]) < FINITE
            count = run_length(source, count, stream[CHANNELS], finite)
            if not finite:
                if stream[BAD_FROM] == NOWHERE:
                    commit(stream, end_runs(stream, 0))
                    stream[BAD_FROM] = stream[SAMPLE]
                stream[SAMPLE] += count
                done += count
                continue
            level = highest(source, stream[CHANNELS] * count)
        if stream[BAD_FROM] != NOWHERE:
            commit(stream, end_bad_run(stream, 0))
        stream[LEVEL] = max(stream[LEVEL], level)
        run(stream, source, count)
        done += count
    return done


# What Python and the loop call, each compiled once: the first argument is the address of the stream's table.


@machine_code("int64(int64, int64, int64)")
def advancing(at, samples, frames):
    """Push frames at an address; return how many found room for what they decided."""
    settings = flush_denormals()
    done = advance(integers(at), samples, frames)
    restore(settings)
    return done


@machine_code("void(int64, int64, int64, int64)")
def skipping(at, frames, error, cause):
    """Account for frames that never came."""
    skip(integers(at), frames, error, cause)


@machine_code("void(int64, int64, int64)")
def switching(at, k, is_on):
    """Switch net k off or on."""
    switch(integers(at), k, is_on)


def _restart(at):
    restart(integers(at))


def _leap(at, sample):
    """Start all nets at a sample in the middle of a signal in which nothing has happened."""
    stream = integers(at)
    stream[SAMPLE] = sample
    for k in range(stream[STAGES]):
        stage_of(stream, k)[COUNT] = sample
    for k in range(stream[RUNNERS]):
        start(runner_of(stream, k), sample, runner_of(stream, k)[REACH], 0)


def _score(at, k, scores, frames):
    """Give net k's detector scores that no frames of the stream gave: those of a signal's padded end."""
    stream, runner = integers(at), runner_of(integers(at), k)
    runner[HITS] = invoke(runner[SCAN], (runner[DETECTOR], scores, frames, runner[HITS_AT]))
    commit(stream, hand_over(stream, k, 0, 0))


def _end_runs(at):
    stream = integers(at)
    commit(stream, end_runs(stream, end_bad_run(stream, 0)))


restarting = entry_point("void(int64)")(_restart)
leaping = entry_point("void(int64, int64)")(_leap)
scoring = entry_point("void(int64, int64, int64, int64)")(_score)
ending_runs = entry_point("void(int64)")(_end_runs)

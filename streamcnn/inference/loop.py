"""The loop beside a sound card: from waiting for frames to writing records, in machine code, without the GIL.

It takes blocks from the ring, numbers them, hands them to the recording if there is one, advances the pipeline, and keeps
the measures: how late records come beyond the time that the queued frames took to compute, and how long blocks took.

Theory of lost frames. Our own ring counts what it drops. Of frames that the driver or the sound server drops nobody tells the
number; but those that follow are late by just as much, for ever. A block alone may be late for other reasons: scheduling,
bursts, or a stop of this process, after which the server delivers at once all that it has kept, up to 20 s of it. So after
a driver's report, or where a block is late by more than a PAUSE, the loop waits until blocks have not become less late for a
moment (HOLD). The lateness that stays, against the card's clock as known from before, is what was lost. The ring takes what
comes meanwhile.

Where it was lost. A block that is later than those that follow was kept for us: nothing is missing before it. So the loss is
before the first block that is only as late as blocks stay. A server that drops its oldest frames, not its newest, loses them
earlier: before the first block of which the age that the driver tells says that it was converted after the loss.
"""

from streamcnn.compiler.build import entry_point
from streamcnn.compiler.denormals import flush_denormals, restore
from streamcnn.compiler.kernel import address_of, call, integers, invoke, kernel
from streamcnn.inference.kernels import has_room, record, runner_of, show, tell
from streamcnn.inference.latency import tally
from streamcnn.inference.tables import (
    ADVANCING,
    BUSY,
    CHANNELS,
    DRIVER,
    EPOCH,
    FUNCTIONS_AT,
    JUDGED_BACKLOG,
    JUDGED_LATE,
    JUDGED_UNTIL,
    KNOWN,
    KNOWN_ARRIVAL,
    KNOWN_COLUMNS,
    KNOWN_PERIOD,
    KNOWN_SAMPLE,
    KNOWN_SLOTS,
    KNOWN_SPREAD,
    LATENCY_AT,
    LISTENING,
    OF_AGE,
    OF_ARRIVAL,
    OF_SAMPLE,
    OF_UTC,
    ON,
    PAIR,
    PAIR_AGE,
    PAIR_ARRIVED,
    PAIR_LATE,
    PAIR_SAMPLE,
    PAIR_UNTIL,
    PARTS,
    PATIENT,
    PLACE,
    RATE,
    RECORDING,
    RING_AT,
    RUNNERS,
    SAMPLE,
    SHIFT,
    SKIPPING,
    SPELL,
    SPELLS_AT,
    STALLED,
    SUSPENDED,
    SWITCHING,
    TOO_SLOW,
    WANTED,
    WORST,
)  # fmt: skip
from streamcnn.ring import (
    AGE,
    ALLOWED,
    BLOCK_COLUMNS,
    CAPACITY,
    CLOSED,
    DRIVER_OVERFLOW,
    FLAGS,
    FRAMES,
    FRAMES_AT,
    FRAMES_IN,
    FRAMES_OUT,
    HEARD_AT,
    HEARD_END,
    MARK,
    MAX_BLOCKS,
    NEXT_SAMPLE,
    NOTHING_LOST,
    PAUSE,
    READ,
    RECORDS_AT,
    UNKNOWN,
    WAITING,
    fits,
    push,
)
from streamcnn.ring import ARRIVED as BLOCK_ARRIVED
from streamcnn.ring import RING_AT as PRODUCERS_RING
from streamcnn.ring import SAMPLE as FIRST_SAMPLE
from streamcnn.ring import WRITTEN as BLOCKS_WRITTEN
from streamcnn.system import MONOTONIC, REALTIME, SECOND, go_to_sleep, look, now, publish, rest

ROOM_MS, LONGEST_WAIT_MS = 1, 1000
HOLD, LONGEST_HOLD, LOOK_MS = 300_000_000, 5_000_000_000, 10  # ns, ns
FALL = 5_000_000  # ns: blocks that become less late by that are still catching up
TELLING = 50_000_000  # ns: an age that is beyond the block's own duration by that says something
PAIRS_A_SECOND = 10
SPELLS = 256  # that are remembered
NEVER = 2**62


@kernel
def known_of(stream):
    """Return the slot that holds what is known of the card's clock; only where that is KNOWN."""
    slot = KNOWN_SLOTS + look(address_of(stream) + 8 * KNOWN) % 2 * KNOWN_COLUMNS
    return integers(address_of(stream) + 8 * slot)


@kernel
def due(stream, sample):
    """Return when a sample is due, at the earliest, by the card's clock (ns); only where that is KNOWN."""
    known = known_of(stream)
    return known[KNOWN_ARRIVAL] + (sample - known[KNOWN_SAMPLE]) * known[KNOWN_PERIOD] // 1000


@kernel
def block_at(ring, number):
    """Return the record of a block."""
    return integers(address_of(ring) + ring[RECORDS_AT] + number % MAX_BLOCKS * 8 * BLOCK_COLUMNS)


@kernel
def time_of_end(block, rate):
    """Return what a block's arrival says about its first sample: when a block that begins with it is complete (ns)."""
    return block[BLOCK_ARRIVED] - block[FRAMES] * SECOND // rate


@kernel
def late(stream, block):
    """Return by how much a block is late (ns): UNKNOWN where there is no clock to say so."""
    if not stream[KNOWN] or block[BLOCK_ARRIVED] == UNKNOWN:
        return UNKNOWN
    return time_of_end(block, stream[RATE]) - due(stream, block[FIRST_SAMPLE] + stream[SHIFT])


@kernel
def is_suspicious(stream, block):
    """Whether frames may be missing before a block that nobody counted."""
    return block[FLAGS] & DRIVER_OVERFLOW or late(stream, block) > PAUSE


@kernel
def least_late(stream, ring):
    """Return how late the least late of the waiting blocks is (ns), up to the next of which the driver reports a loss."""
    least = late(stream, block_at(ring, ring[READ]))
    for number in range(ring[READ] + 1, look(address_of(ring) + 8 * BLOCKS_WRITTEN)):
        block = block_at(ring, number)
        if block[FLAGS] & DRIVER_OVERFLOW:
            break
        least = min(least, late(stream, block))
    return least


@kernel
def judge(stream, ring):
    """Wait until blocks do not become less late any more, and note how late they stay."""
    at, functions, place = address_of(ring), stream[FUNCTIONS_AT], address_of(stream) + 8 * PLACE
    block = block_at(ring, ring[READ])
    first, least = late(stream, block), NEVER
    # Counted in rests of our own, not by the clock: a process that was stopped again has not looked meanwhile.
    held, looked = 0 if first > PAUSE else max(0, now(functions, MONOTONIC, place) - block[BLOCK_ARRIVED]), 0
    while True:
        if first != UNKNOWN:
            # Also of blocks that the ring could not take: it may be full of what is late.
            end = look(at + 8 * HEARD_END)
            newest = look(at + 8 * HEARD_AT) - due(stream, end + stream[SHIFT])
            if newest < least - FALL and looked:
                held = 0
            least = min(least, newest)
        if look(at + 8 * CLOSED) or held >= HOLD or looked >= LONGEST_HOLD:
            break
        rest(functions, LOOK_MS, place)
        held += LOOK_MS * 1_000_000
        looked += LOOK_MS * 1_000_000
    if first != UNKNOWN:
        least = max(0, min(least, least_late(stream, ring)))
    stream[JUDGED_LATE] = UNKNOWN if first == UNKNOWN else least
    stream[JUDGED_BACKLOG] = first - least > PAUSE // 2
    stream[JUDGED_UNTIL] = look(at + 8 * HEARD_AT)


@kernel
def is_behind_loss(stream, block, tolerance):
    """Whether what was lost was lost before a late block: it is as late as blocks stay, or its age says so; times in ns."""
    beyond, aged = late(stream, block) - stream[JUDGED_LATE], block[AGE] - block[FRAMES] * SECOND // stream[RATE]
    return beyond <= tolerance or (aged > TELLING and beyond - aged > -stream[JUDGED_LATE] // 2)


@kernel
def report_pair(stream, block, sample):
    """Of the blocks of a tenth of a second, report the times of the least late one."""
    arrived = time_of_end(block, stream[RATE])
    nominal = sample // stream[RATE] * SECOND + sample % stream[RATE] * SECOND // stream[RATE]
    late = arrived - nominal
    if stream[PAIR_UNTIL] == 0 or late <= stream[PAIR_LATE]:
        stream[PAIR_SAMPLE], stream[PAIR_ARRIVED], stream[PAIR_LATE] = sample, arrived, late
        stream[PAIR_AGE] = block[AGE] - block[FRAMES] * SECOND // stream[RATE]
    if sample >= stream[PAIR_UNTIL]:
        place = address_of(stream) + 8 * PLACE
        row = record(stream, 0, PAIR)
        row[OF_SAMPLE], row[OF_ARRIVAL], row[OF_AGE] = stream[PAIR_SAMPLE], stream[PAIR_ARRIVED], stream[PAIR_AGE]
        monotonic = now(stream[FUNCTIONS_AT], MONOTONIC, place)
        utc = now(stream[FUNCTIONS_AT], REALTIME, place)
        row[OF_UTC] = utc - (monotonic + now(stream[FUNCTIONS_AT], MONOTONIC, place)) // 2
        show(stream, 1)
        stream[PAIR_UNTIL], stream[PAIR_LATE] = sample + max(1, stream[RATE] // PAIRS_A_SECOND), NEVER


@kernel
def wait_for_room(stream):
    """Wait until the records of one more piece fit: whoever reads them is late, but nothing that was decided is dropped."""
    while not has_room(stream):
        tell(stream)
        rest(stream[FUNCTIONS_AT], ROOM_MS, address_of(stream) + 8 * PLACE)


@kernel
def follow_switches(stream):
    """Switch nets on and off as wanted, once the recording has room to note it."""
    for k in range(stream[RUNNERS]):
        runner = runner_of(stream, k)
        is_on = runner[WANTED]
        if is_on != runner[ON] and (stream[RECORDING] == 0 or can_keep(stream, 0)):
            wait_for_room(stream)
            call(stream[SWITCHING], (address_of(stream), k, is_on))
            if stream[RECORDING]:
                keep(stream, 0, 0, UNKNOWN, 0, MARK, k, is_on, NOTHING_LOST)


@kernel
def can_keep(stream, frames):
    """Whether a block would fit into the recording's ring."""
    return fits(integers(integers(stream[RECORDING])[PRODUCERS_RING]), frames)


@kernel
def is_catching_up(stream, arrived):
    """Whether a block comes with others that were kept for us, and there is room for those that will come."""
    at = stream[RING_AT]
    ring = integers(at)
    crowded = 16 * (look(at + 8 * FRAMES_IN) - ring[FRAMES_OUT]) > 15 * look(at + 8 * ALLOWED)
    late = stream[JUDGED_BACKLOG] and arrived != UNKNOWN and arrived <= stream[JUDGED_UNTIL]
    return late and not crowded and not look(at + 8 * CLOSED)


@kernel
def keep(stream, source, frames, arrived, age, flags, lost, error, cause):
    """Hand a block, of which the first frame is the stream's next one, to the recording."""
    waited_ms = 0
    while not can_keep(stream, frames) and (stream[PATIENT] or is_catching_up(stream, arrived)):
        rest(stream[FUNCTIONS_AT], ROOM_MS, address_of(stream) + 8 * PLACE)
        waited_ms += ROOM_MS
        if waited_ms > LONGEST_WAIT_MS:  # its disk hangs
            stream[JUDGED_BACKLOG] = 0
    producer = integers(stream[RECORDING])
    integers(producer[PRODUCERS_RING])[NEXT_SAMPLE] = stream[SAMPLE]
    push(producer, source, stream[CHANNELS], 0, frames, arrived, age, flags, lost, error, cause)


@kernel
def waited(stream, arrived, done):
    """Return how much of the time from a block's arrival until `done` the loop was not at work (ns)."""
    free, spells = done - arrived, integers(stream[SPELLS_AT])
    for back in range(min(SPELLS, stream[SPELL])):
        place = (stream[SPELL] - 1 - back) % SPELLS * 2
        if spells[place + 1] <= arrived:
            break
        free -= spells[place + 1] - max(arrived, spells[place])
    return free


@kernel
def take(stream, ring, block, suspicious):
    """Take a block from the ring: what is missing before it, and the block itself."""
    follow_switches(stream)
    sample, frames, rate = block[FIRST_SAMPLE] + stream[SHIFT], block[FRAMES], stream[RATE]
    lost, error, cause, is_told_later = sample - stream[SAMPLE], 0, TOO_SLOW, False
    if lost and stream[KNOWN] and due(stream, stream[SAMPLE]) <= stream[JUDGED_UNTIL]:
        cause = SUSPENDED
    if suspicious:
        stays, reported = stream[JUDGED_LATE], block[FLAGS] & DRIVER_OVERFLOW
        spread = 0 if stays == UNKNOWN else known_of(stream)[KNOWN_SPREAD]
        accuracy = UNKNOWN if stays == UNKNOWN else max(1, spread * rate // SECOND)
        missing = max(0, stays) * rate // SECOND
        lasts = frames * SECOND // rate
        if reported and stream[JUDGED_BACKLOG] and not is_behind_loss(stream, block, spread + lasts):
            # How much was lost here is not known by itself: it is a part of what is missing behind all that was kept.
            error, cause, is_told_later = UNKNOWN, DRIVER, True
        # A source that paused, and then sent all that it had, has lost nothing.
        elif reported or (missing > accuracy + frames and is_behind_loss(stream, block, spread + lasts)):
            lost, error = lost + missing, accuracy
            cause = DRIVER if reported else SUSPENDED if stream[JUDGED_BACKLOG] else STALLED
            stream[SHIFT] += missing
            sample += missing
            stream[JUDGED_LATE] = 0
    if lost or error:
        wait_for_room(stream)
        call(stream[SKIPPING], (address_of(stream), lost, error, cause))
        stream[PAIR_UNTIL] = 0
        if error and not is_told_later:
            stream[EPOCH] += 1
            publish(address_of(stream) + 8 * KNOWN, 0)
    else:
        cause = NOTHING_LOST
    if block[BLOCK_ARRIVED] != UNKNOWN and (lost or not suspicious):  # what was kept for us says nothing about the card's clock
        wait_for_room(stream)
        report_pair(stream, block, sample)
    place, width, left = ring[FRAMES_OUT] % ring[CAPACITY], 4 * stream[CHANNELS], frames
    busy = stream[BUSY]
    while True:
        count = min(left, ring[CAPACITY] - place)
        source = address_of(ring) + ring[FRAMES_AT] + place * width
        if stream[RECORDING]:
            keep(stream, source, count, block[BLOCK_ARRIVED], block[AGE], block[FLAGS], lost, error, cause)
            lost, error, cause = 0, 0, NOTHING_LOST
        work(stream, source, count)
        left -= count
        place = 0
        if left <= 0:
            break
    if frames:
        stream[WORST] = max(stream[WORST], (stream[BUSY] - busy) * PARTS // (frames * SECOND // rate))
    if block[BLOCK_ARRIVED] != UNKNOWN:
        ended = now(stream[FUNCTIONS_AT], MONOTONIC, address_of(stream) + 8 * PLACE)
        tally(stream[LATENCY_AT], waited(stream, block[BLOCK_ARRIVED], ended))


@kernel
def work(stream, source, frames):
    """Advance the pipeline by frames at an address, and remember when it was at work."""
    place, width, done = address_of(stream) + 8 * PLACE, 4 * stream[CHANNELS], 0
    spells = integers(stream[SPELLS_AT])
    while done < frames:
        wait_for_room(stream)
        began = now(stream[FUNCTIONS_AT], MONOTONIC, place)
        done += invoke(stream[ADVANCING], (address_of(stream), source + done * width, frames - done))
        ended = now(stream[FUNCTIONS_AT], MONOTONIC, place)
        spell = stream[SPELL] % SPELLS * 2
        spells[spell], spells[spell + 1] = began, ended
        stream[SPELL] += 1
        stream[BUSY] += ended - began


def _loop(at):
    """Take blocks until the ring is closed and empty."""
    settings, stream = flush_denormals(), integers(at)
    place, functions = at + 8 * PLACE, stream[FUNCTIONS_AT]
    ring_at = stream[RING_AT]
    ring = integers(ring_at)
    while True:
        if ring[READ] == look(ring_at + 8 * BLOCKS_WRITTEN):
            if look(ring_at + 8 * CLOSED):
                if ring[READ] == look(ring_at + 8 * BLOCKS_WRITTEN):
                    break
                continue
            publish(ring_at + 8 * WAITING, 1)
            if ring[READ] == look(ring_at + 8 * BLOCKS_WRITTEN) and not look(ring_at + 8 * CLOSED):
                go_to_sleep(functions, ring_at + 8 * WAITING, stream[LISTENING], place)
            publish(ring_at + 8 * WAITING, 0)
            continue
        block = block_at(ring, ring[READ])
        suspicious = is_suspicious(stream, block)
        if suspicious and (block[FLAGS] & DRIVER_OVERFLOW or block[BLOCK_ARRIVED] > stream[JUDGED_UNTIL]):
            judge(stream, ring)
        frames = block[FRAMES]
        take(stream, ring, block, suspicious)
        publish(ring_at + 8 * FRAMES_OUT, ring[FRAMES_OUT] + frames)
        publish(ring_at + 8 * READ, ring[READ] + 1)
    # What was lost at the very end has no block behind it.
    lost = ring[NEXT_SAMPLE] + stream[SHIFT] - stream[SAMPLE]
    if lost:
        wait_for_room(stream)
        call(stream[SKIPPING], (at, lost, 0, TOO_SLOW))
        if stream[RECORDING]:
            keep(stream, 0, 0, UNKNOWN, 0, 0, lost, 0, TOO_SLOW)
    restore(settings)


looping = entry_point("void(int64)")(_loop)

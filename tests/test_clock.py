"""The estimate of a card's clock and of UTC: robust to jitter, bursts, losses and steps of the host's clock."""

import numpy as np
import pytest

from streamcnn.clock import SECOND, Clock

RATE = 48_000
STARTED_S, UTC_AHEAD_S, HOUR_S = 5.0, 1.7e9, 3600.0
PAIRS_A_SECOND = 10  # as the inference loop reports them


class Card:
    """A simulated sound card, `drift` faster than the host, whose blocks come late by jitter and in bursts."""

    def __init__(self, *, jitter_s: float = 0.002, burst_s: float = 0.025, block: int = 256, seed: int = 0):
        self.drift, self.jitter_s, self.burst_s, self.block = 80e-6, jitter_s, burst_s, block
        self.random = np.random.default_rng(seed)

    def converted_s(self, sample: float) -> float:
        """When a sample is converted, by the host's monotonic clock."""
        return STARTED_S + sample / (RATE * (1 + self.drift))

    def feed(self, clock: Clock, since_s: float, until_s: float, utc_ahead_s: float = UTC_AHEAD_S) -> None:
        """Feed a clock what the loop would: of the blocks of each tenth of a second the least late one."""
        samples = np.arange(int(since_s * RATE), int(until_s * RATE), self.block)
        complete = self.converted_s(samples + self.block)
        burst = np.ceil(complete / self.burst_s).astype(int)
        arrived = burst * self.burst_s + self.random.exponential(self.jitter_s, burst.max() + 1)[burst]
        arrived = np.maximum.accumulate(arrived) - self.block / RATE
        late = arrived - samples / RATE
        for tenth in np.split(np.arange(len(samples)), np.flatnonzero(np.diff(samples * PAIRS_A_SECOND // RATE)) + 1):
            k = tenth[np.argmin(late[tenth])]
            clock.observe(int(samples[k]), arrived[k] * SECOND, 0.0, utc_ahead_s * SECOND)
            clock.refresh()


def off_s(clock: Clock, card: Card, sample: int, utc_ahead_s: float = UTC_AHEAD_S) -> float:
    """Return by how much a clock is wrong about a sample's UTC."""
    return clock.utc(sample)[0] - utc_ahead_s - card.converted_s(sample)


def test_there_is_no_time_before_the_first_pair():
    """Before any block has come, nothing is known."""
    assert Clock(RATE).utc(0) is None
    assert Clock(RATE).estimate is None


@pytest.mark.parametrize("block", [64, 256])
@pytest.mark.parametrize("seed", range(4))
def test_drift_and_time_of_a_simulated_card(block: int, seed: int):
    """+80 ppm, 2 ms of jitter, bursts of 25 ms: within 5 ppm after a minute, 2 ppm after five, UTC within 1 ms."""
    clock, card = Clock(RATE), Card(block=block, seed=seed)
    card.feed(clock, 0, 60)
    assert clock.estimate.drift * 1e6 == pytest.approx(80, abs=5)
    assert abs(off_s(clock, card, 60 * RATE)) < 0.001
    card.feed(clock, 60, 300)
    assert clock.estimate.drift * 1e6 == pytest.approx(80, abs=2)
    assert abs(off_s(clock, card, 300 * RATE)) < 0.001
    assert abs(off_s(clock, card, 300 * RATE)) < clock.utc(300 * RATE)[1] < 0.003


def test_a_step_of_the_hosts_clock_moves_utc_and_nothing_else():
    """After the host's clock is set forward by an hour, times follow at once, and the drift does not notice."""
    clock, card = Clock(RATE), Card()
    card.feed(clock, 0, 120)
    before = clock.estimate.drift
    card.feed(clock, 120, 122, utc_ahead_s=UTC_AHEAD_S + HOUR_S)
    assert abs(off_s(clock, card, 122 * RATE, UTC_AHEAD_S + HOUR_S)) < 0.001
    assert clock.estimate.drift == pytest.approx(before, abs=1e-6)


def test_a_process_that_was_stopped_is_not_drift():
    """Blocks that come two seconds late, once, leave drift and time as they were."""
    clock, card = Clock(RATE), Card()
    card.feed(clock, 0, 100)
    for tenth in range(20):
        sample = (1000 + tenth) * RATE // 10
        clock.observe(sample, (card.converted_s(sample) + 2 - tenth / 10) * SECOND, 0.0, UTC_AHEAD_S * SECOND)
    card.feed(clock, 102, 160)
    assert clock.estimate.drift * 1e6 == pytest.approx(80, abs=5)
    assert abs(off_s(clock, card, 160 * RATE)) < 0.001


def test_after_an_unknown_loss_the_drift_is_kept():
    """When the samples have got other numbers, the times are right again with the first pairs."""
    clock, card = Clock(RATE), Card()
    card.feed(clock, 0, 200)
    clock.restart()
    lost = 12_345
    for tenth in range(30):
        sample = (2000 + tenth) * RATE // 10
        clock.observe(sample, card.converted_s(sample + lost) * SECOND, 0.0, UTC_AHEAD_S * SECOND)
    assert clock.estimate.drift * 1e6 == pytest.approx(80, abs=2)
    assert abs(clock.utc(203 * RATE)[0] - UTC_AHEAD_S - card.converted_s(203 * RATE + lost)) < 1e-4


def test_what_the_driver_says_of_a_samples_age_is_taken_off():
    """A path of 40 ms that the driver knows of, give or take 1 ms, does not make events late."""
    clock, random = Clock(RATE), np.random.default_rng(0)
    for tenth in range(600):
        sample = tenth * RATE // 10
        late = random.exponential(0.001)
        age = 0.040 + late + random.normal(0, 0.001)
        clock.observe(sample, (sample / RATE + 0.040 + late) * SECOND, age * SECOND, 0.0)
        clock.refresh()
    assert abs(clock.utc(60 * RATE)[0] - 60) < 0.001


def test_after_a_loss_an_age_that_counts_what_was_dropped_is_not_believed():
    """PulseAudio says for a while that samples are as old as what it has dropped; UTC does not follow it."""
    clock = Clock(RATE)
    for tenth in range(300):
        sample = tenth * RATE // 10
        if tenth == 100:
            clock.restart()
        dropped_s = max(0.0, 11.0 - tenth / 10) if tenth >= 100 else 0.0
        clock.observe(sample, (sample / RATE + 0.04) * SECOND, (0.04 + dropped_s) * SECOND, 0.0)
        clock.refresh()
        known = clock.utc(sample)
        assert abs(known[0] - sample / RATE) <= max(known[1], 1e-4)


def test_at_the_beginning_the_error_counts_all_of_the_drivers_age():
    """What a driver says of the first blocks' age may be wrong by as much, and the error says so."""
    clock = Clock(RATE)
    clock.observe(0, 0.5 * SECOND, 0.5 * SECOND, 0.0)
    assert clock.utc(0)[1] >= 0.5
    for tenth in range(1, 40):
        clock.observe(tenth * RATE // 10, (tenth / 10 + 0.04) * SECOND, 0.04 * SECOND, 0.0)
        clock.refresh()
    assert clock.utc(4 * RATE)[1] < 0.01


def test_a_year_of_pairs_takes_no_more_memory():
    """Only the last pairs are kept, and the drift is that of the last ten minutes of them."""
    clock, size = Clock(RATE), Clock(RATE)._pairs.nbytes
    for tenth in range(40_000):
        sample = tenth * RATE // PAIRS_A_SECOND
        drift = 50e-6 if tenth < 30_000 else -20e-6
        clock.observe(sample, (sample - 30_000 * RATE / PAIRS_A_SECOND) / RATE / (1 + drift) * SECOND)
    assert clock._pairs.nbytes == size
    assert clock.refresh().drift * 1e6 == pytest.approx(-20, abs=0.1)

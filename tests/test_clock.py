"""The estimate of UTC: robust to late blocks and to steps of the host's clock."""

import numpy as np
import pytest

from streamcnn.clock import Clock

RATE = 48_000


def test_there_is_no_time_before_the_first_pair():
    """Before any block has come, nothing is known."""
    assert Clock(RATE).utc(0) is None


def test_late_blocks_do_not_move_the_time():
    """Blocks that arrive late, in bursts, leave the estimate within the error that it declares."""
    clock, random = Clock(RATE), np.random.default_rng(0)
    for sample in range(0, 10 * RATE, 256):
        clock.observe(sample, 1000.0 + sample / RATE + random.exponential(0.01))
    seconds, error = clock.utc(5 * RATE)
    assert seconds == pytest.approx(1005.0, abs=0.002)
    assert 0 < error < 0.2


def test_a_step_of_the_hosts_clock_is_followed():
    """After the host's clock is set back by an hour the estimate follows, and the past is forgotten."""
    clock = Clock(RATE)
    for sample in range(0, 5 * RATE, 256):
        clock.observe(sample, 5000.0 + sample / RATE)
    for sample in range(5 * RATE, 60 * RATE, 256):
        clock.observe(sample, 1400.0 + sample / RATE)
    seconds, error = clock.utc(60 * RATE)
    assert seconds == pytest.approx(1460.0)
    assert error < 1e-6
    assert len(clock._offsets) <= 10 * RATE / 256 + 2

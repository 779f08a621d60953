"""Every outer door bears malformed input; and the harness that says so finds what is planted."""

import os

import pytest

from tests.fuzzing.harness import DOORS, FEWER, failures
from tests.fuzzing.planted import PLANTED
from tests.fuzzing.worker import case_of

IS_NIGHTLY = os.environ.get("STREAMCNN_HYPOTHESIS_PROFILE") == "nightly"
COUNT = int(os.environ.get("STREAMCNN_FUZZ_COUNT") or (20_000 if IS_NIGHTLY else 200))
SEED = 0
SHOWN = 10  # kinds of failures


@pytest.mark.parametrize("door", DOORS)
def test_a_door_bears_malformed_input(door: str):
    """No case brings a traceback, a hang, a flood of memory, or a loss of which nothing is said."""
    failed = failures(door, SEED, range(COUNT // FEWER.get(door, 1)), workers=2)
    kinds = {one.kind: one for one in reversed(failed)}
    told = [f"{one.kind}\n  {one.made[:300]}\n  {one.detail[-500:]}\n  {one.again}" for one in kinds.values()]
    assert not failed, "\n".join([f"{len(failed)} cases of {len(kinds)} kinds:", *told[:SHOWN]])


def test_what_is_planted_is_found():
    """An exception, a hang, a death, a flood of memory and a silent loss are each found, and nothing else is."""
    seed = 302  # one of each
    failed = failures("planted", seed, range(len(PLANTED)))
    assert {case_of("planted", seed, number).made for number in range(len(PLANTED))} == set(PLANTED)
    assert {one.made: one.kind for one in failed} == {made: kind for made, kind in PLANTED.items() if kind is not None}


def test_a_case_is_the_same_again():
    """The same door, seed and number make the same case; another number makes another one."""
    for door in set(DOORS) - {"keras_models"}:  # which loads TensorFlow
        cases = [case_of(door, SEED, number) for number in range(20)]
        assert cases == [case_of(door, SEED, number) for number in range(20)]
        assert len({str(case) for case in cases}) > 10

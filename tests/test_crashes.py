"""Nothing that was confirmed is lost or seen twice, whoever is killed."""

from pathlib import Path

from tests.crashes import scenario


def test_a_consumer_has_every_event_exactly_once(tmp_path: Path):
    """Daemon and consumer are killed in turns; the consumer has each confirmed event of the journal, once, in order."""
    kept, seen = scenario(tmp_path, 3, 6)
    assert len(kept) > 50
    assert seen == kept

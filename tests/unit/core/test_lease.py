"""The rules of the lease: trust, and what a second consumer is told."""

import pytest

from streamhub.core.lease import Trust, refusal

NOW = 1_795_341_600_000


def test_nothing_is_trusted_before_the_first_renewal() -> None:
    assert not Trust().holds(0.0)


def test_trust_counts_from_the_start_of_the_renewal() -> None:
    trust = Trust(ttl=5)
    trust.renewed(started=100.0)
    assert trust.holds(104.999)
    assert not trust.holds(105.0)


def test_a_late_answer_to_an_early_renewal_does_not_shorten_trust() -> None:
    trust = Trust(ttl=5)
    trust.renewed(started=101.0)
    trust.renewed(started=100.0)
    assert trust.holds(105.9)


def test_a_renewal_counts_as_an_answer_since_a_moment_where_it_started_later() -> None:
    trust = Trust(ttl=5)
    trust.renewed(started=100.0)
    assert [trust.renewed_since(moment) for moment in (99.0, 100.0, 101.0)] == [True, False, False]


def test_trust_ends_at_once_where_the_row_has_expired() -> None:
    trust = Trust(ttl=5)
    trust.renewed(started=100.0)
    trust.lost()
    assert not trust.holds(100.0)


def test_while_the_consumer_is_alive_the_wait_is_6_s() -> None:
    told = refusal(connected_ms=NOW - 60_000, released_ms=None, now_ms=NOW, stale_after_ms=5_000)
    assert told is not None
    assert (told.retry_after, told.meta) == (6, {"retry_after_ms": 6000, "connected_at": "2026-11-22T09:59:00.000Z"})


@pytest.mark.parametrize(("ago", "left", "seconds"), [(0, 5000, 5), (1, 4999, 5), (3_999, 1_001, 2), (4_999, 1, 1)])
def test_a_stale_stream_tells_what_is_left_rounded_up(ago: int, left: int, seconds: int) -> None:
    told = refusal(connected_ms=NOW - 60_000, released_ms=NOW - ago, now_ms=NOW, stale_after_ms=5_000)
    assert told is not None
    assert (told.retry_after, told.meta["retry_after_ms"]) == (seconds, left)


def test_a_stale_stream_tells_until_when() -> None:
    told = refusal(connected_ms=NOW, released_ms=NOW - 1_000, now_ms=NOW, stale_after_ms=5_000)
    assert told is not None
    assert told.meta["stale_until"] == "2026-11-22T10:00:04.000Z"


def test_after_that_it_is_free() -> None:
    assert refusal(connected_ms=NOW, released_ms=NOW - 5_000, now_ms=NOW, stale_after_ms=5_000) is None


def test_a_clock_that_was_stepped_back_never_lengthens_the_wait() -> None:
    told = refusal(connected_ms=NOW, released_ms=NOW + 3_600_000, now_ms=NOW, stale_after_ms=5_000)
    assert told is not None
    assert told.meta["retry_after_ms"] == 5_000

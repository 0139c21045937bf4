"""The events of an append, of which each is made where it is asked for, and their records, for which none is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import frames, ids
from streamhub.core.drafts import Drafts, Numbered, sizes_of
from streamhub.core.record_batch import Recorder, Records
from streamhub.core.rendering import Rendered, tail_of
from streamhub.core.rows import EventKind

MS = 1_795_000_000_000
KINDS = [EventKind("create", "skus.create", "skus"), EventKind("received", "query.received", "query")]
SERVED = {name: (key, frames.organization_of(name, f"o-{key}")) for key, name in enumerate(["org_1", "ö", "c"], 1)}

EVENTS = st.lists(
    st.tuples(st.sampled_from([*SERVED]), st.booleans(), st.sampled_from(KINDS), st.integers(0, 300)), max_size=12
)


def numbered(given_events: list[tuple[str, bool, EventKind, int]], counter: int = 5) -> Numbered:
    drafts = Drafts()
    for organization, test, kind, size in given_events:
        tail = tail_of(test, "2026-11-22T10:00:00", 1, 7, b'"%b"' % (b"x" * size), b"{}", b"null", b"")
        assert not drafts.add([Rendered(organization, test, kind, "r", b'"r"', tail)], SERVED)
    return drafts.numbered(MS, counter)


@given(EVENTS, st.integers(-14, 14), st.integers(-14, 14))
def test_a_stretch_of_the_events_is_that_stretch(given_events: Any, start: int, stop: int) -> None:
    all_of_them = [*numbered(given_events)]
    unmade, made = numbered(given_events), numbered(given_events)
    assert [*made] == all_of_them
    for events in (unmade, made):
        assert [*events[start:stop]] == all_of_them[start:stop]
        assert sizes_of(events[start:]) == [len(event.frame) for event in all_of_them[start:]]
        assert [events[n] for n in range(-len(events), len(events))] == all_of_them * 2


def test_there_is_no_event_beyond_the_last_one() -> None:
    with pytest.raises(IndexError):
        numbered([("org_1", False, KINDS[0], 1)])[1]


@given(EVENTS, EVENTS, st.sampled_from([MS - 10, MS + 10]), st.sampled_from([200, 900, 1 << 20]))
def test_records_of_drafts_are_those_of_their_events(first: Any, second: Any, now: int, most_bytes: int) -> None:
    def recorded(*runs: Any) -> Any:
        recorder = Recorder(ids.MIN_ID, lambda key: len(key) % 2, lambda: Records(most_bytes, 61))
        batches: dict[int, list[Records]] = {}
        for run in runs:
            recorder.add(run, now, batches)
        return {
            partition: [
                (b"".join(batch.parts), batch.length, batch.count, batch.first_ms, batch.highest_ms) for batch in its
            ]
            for partition, its in batches.items()
        }

    runs = [numbered(first), numbered(second, 100)]
    assert recorded(*runs) == recorded(*map(list, runs))


def test_all_that_a_record_tells_of_its_event_is_told_without_making_it() -> None:
    events = numbered([("ö", True, KINDS[1], 3)])
    recorder = Recorder(ids.MIN_ID, lambda _: 0, lambda: Records(1 << 20, 61))
    batches: dict[int, list[Records]] = {}
    recorder.add(events, MS, batches)
    assert frames.data_of(events[0].frame) in b"".join(batches[0][0].parts)
    assert "ö".encode() in batches[0][0].parts[4]

"""Of each resource only the newest event, against a naive oracle."""

from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import ids
from streamhub.gateway.broadcast.latest import Enveloped, Latest


@given(st.lists(st.lists(st.tuples(st.sampled_from([None, b"a", b"b", b"c"]), st.integers(1, 9)), max_size=5)))
def test_what_is_taken_is_the_newest_of_each_resource_in_id_order(
    batches: list[list[tuple[bytes | None, int]]],
) -> None:
    latest, added = Latest(), list[Enveloped]()
    for batch in batches:
        events = [
            Enveloped(ids.event_id(len(added) + n, 0), b"x" * size, resource)
            for n, (resource, size) in enumerate(batch)
        ]
        latest.add(events)
        added += events
    newest = [
        event
        for n, event in enumerate(added)
        if event.resource is None or event.resource not in {later.resource for later in added[n + 1 :]}
    ]
    assert latest.size == sum(len(event.frame) for event in newest)
    assert bool(latest) == bool(newest)
    assert latest.take() == newest
    assert (latest.size, latest.take()) == (0, [])

"""Each table of the hub is named by the one package, or file, that owns it; everything else asks its owner."""

import re
from pathlib import Path

import pytest

import streamhub

ROOT = Path(streamhub.__file__).parent
SCHEMA = ROOT / "postgres" / "sql" / "hub"

OWNERS = {
    "api_keys": "keys/store.py",
    "appends": "history",
    "channels": "postgres/channels.py",
    "consumed": "relay/notes.py",
    "counted": "history/counters.py",
    "counters": "history/counters.py",
    "event_types": "history/types.py",
    "history": "history",
    "history_default": "history",
    "identity": "postgres/ownership.py",
    "incidents": "health/incidents.py",
    "log_epoch": "history",
    "log_head": "history",
    "log_heads": "history",
    "nodes": "leases",
    "organizations": "organizations/store.py",
    "publications": "kafka/publication.py",
    "relay_lease": "leases/leader.py",
    "replay_locks": "gateway/replay/jobs.py",
    "replays": "leases/jobs.py",
    "streams": "leases",
    "webhook_cursor": "webhooks",
    "webhook_deliveries": "webhooks",
    "webhook_endpoints": "webhooks",
    "webhook_finished": "webhooks",
    "webhook_queues": "webhooks",
    "webhook_version": "webhooks",
}
# Written once, where everything that needs it can import it.
ONCE = {
    "streamhub_hub.reserve_and_tell(": "history/append.py",
    "streamhub_hub.close_window(": "history/closing.py",
}


def sources() -> dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted(ROOT.rglob("*.py"))}


def places_of(pattern: str) -> set[str]:
    return {name for name, text in sources().items() if re.search(pattern, text)}


def test_every_table_and_view_of_the_hub_has_an_owner() -> None:
    sql = "\n".join(path.read_text() for path in SCHEMA.glob("*.sql"))
    made = set(re.findall(r"CREATE (?:OR REPLACE )?(?:TABLE|VIEW) streamhub_hub\.(\w+)", sql))
    assert made == set(OWNERS)


@pytest.mark.parametrize("table", OWNERS)
def test_a_table_is_named_by_its_owner_alone(table: str) -> None:
    owner = OWNERS[table]
    places = places_of(rf"streamhub_hub\.{table}\b")
    assert places, "its owner names it"
    assert {place for place in places if place != owner and not place.startswith(f"{owner}/")} == set()


@pytest.mark.parametrize("text", ONCE)
def test_a_function_that_moves_the_head_is_called_in_one_place(text: str) -> None:
    assert places_of(re.escape(text)) == {ONCE[text]}


def test_whether_a_lease_is_alive_is_asked_by_those_who_keep_leases_alone() -> None:
    assert {place.split("/")[0] for place in places_of(r"lease_holds\(")} == {"leases"}


def test_how_long_a_stream_is_stale_is_one_fragment_of_sql() -> None:
    assert places_of(r"released_at \+") == {"leases/streams.py"}


def test_the_layout_of_a_stored_frame_is_known_to_one_file() -> None:
    """Clients read what they are sent."""
    assert places_of(r"\\nid: ") - {"demo/monitor.py", "client/event.py", "client/sse.py"} == {"core/frames.py"}
    assert places_of(r",\"organization\":") == {"core/frames.py"}

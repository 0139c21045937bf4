"""Reads what is compared, by SQL: the writers' audit table, history, and what is not published yet."""

from collections.abc import Mapping
from typing import Any

import asyncpg
import orjson

from crash.audit import Committed, Delivered, Event, Mark, Row
from crash.consumers import digest
from crash.scene import HUB, PREFIXES, TOPIC, Scene
from crash.workload import NOT_ENTERPRISE, Connection
from crash.workload import digest as digest_of_note

_PAGE = 5_000


async def waiting(scene: Scene) -> int | None:
    """The number of changes not yet published; None where a database does not answer."""
    try:
        found = 0
        for database in PREFIXES:
            connection = await asyncpg.connect(scene.url(database), timeout=5)
            try:
                found += await connection.fetchval("SELECT count(*) FROM streamhub.outbox", timeout=10)
            finally:
                connection.terminate()
        return found
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None


async def unsent(scene: Scene) -> int | None:
    """The number of events that may not be in the topic yet; None where unknown."""
    try:
        connection = await asyncpg.connect(scene.url(HUB), timeout=5)
        try:
            found: int | None = await connection.fetchval(
                "SELECT (SELECT count(*) FROM streamhub_hub.history WHERE id > published_id) "
                "FROM streamhub_hub.publications WHERE topic = $1",
                TOPIC, timeout=10,
            )  # fmt: skip
            return found
        finally:
            connection.terminate()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None


async def committed(scene: Scene) -> list[Committed]:
    """All committed changes, by database, each row's in order."""
    found = []
    for database in PREFIXES:
        connection = await asyncpg.connect(scene.url(database))
        for row in await connection.fetch("SELECT * FROM audit ORDER BY n"):
            which = Row(row["organization"], row["test"], row["resource_type"], row["resource_id"])
            mark = Mark(row["event"], row["born"], row["version"], row["digest"])
            found.append(Committed(which, mark, row["transaction"]))
        await connection.close()
    return found


def of_enterprise(changes: list[Committed]) -> list[Committed]:
    """The changes of enterprise organizations."""
    return [change for change in changes if change.row.organization != NOT_ENTERPRISE]


async def history(scene: Scene) -> list[Event]:
    """All events, in the order of ids."""
    connection = await asyncpg.connect(scene.url(HUB))
    try:
        async with connection.transaction(readonly=True):
            return await _history(connection)
    finally:
        await connection.close()


async def _history(connection: Connection) -> list[Event]:
    rows = connection.cursor(
        "SELECT h.id::text, o.id AS organization, h.test, h.type, h.resource_type, h.resource_id, h.frame "
        "FROM streamhub_hub.history h LEFT JOIN streamhub_hub.organizations o ON o.key = h.organization ORDER BY h.id",
        prefetch=_PAGE,
    )
    return [_event(row) async for row in rows]


def by_organization(events: list[Event]) -> Mapping[str, list[Delivered]]:
    found: dict[str, list[Delivered]] = {}
    for event in events:
        found.setdefault(event.row.organization, []).append(Delivered(event.id, event.frame))
    return found


def within(events: list[Event], organization: str, test: bool, from_ms: int, to_ms: int) -> list[Delivered]:
    """The events that a replay of that window must have. An id begins with 48 bits of milliseconds."""
    return [
        Delivered(event.id, event.frame)
        for event in events
        if (event.row.organization, event.row.test) == (organization, test)
        and from_ms <= int(event.id.replace("-", "")[:12], 16) < to_ms
    ]


def _event(row: "asyncpg.Record") -> Event:
    frame: bytes = row["frame"]
    lines = dict(line.split(b": ", 1) for line in frame.rstrip(b"\n").split(b"\n"))
    data = orjson.loads(lines[b"data"])
    resource = data["resource"] or {}
    which = Row(row["organization"] or "?", row["test"], row["resource_type"], row["resource_id"])
    mark = Mark(
        data["event"],
        resource.get("born", "?"),
        int(resource.get("version", -1)),
        digest_of_note(resource.get("note", "")),
    )
    return Event(row["id"], which, mark, digest(frame), _fault(row, lines, data, mark))


def _fault(row: "asyncpg.Record", lines: Mapping[bytes, bytes], data: Any, mark: Mark) -> str:
    """How parts of an event contradict each other; empty where they do not."""
    values_of = {
        "id": (row["id"], lines[b"id"].decode(), data["id"]),
        "event": (mark.event, lines[b"event"].decode(), row["type"].rpartition(".")[2]),
        "organization": (row["organization"], data["organization"]["id"], (data["resource"] or {}).get("organization")),
        "test": (row["test"], data["test"], (data["resource"] or {}).get("test")),
        "resource_type": (row["resource_type"], data["resource_type"], row["type"].rpartition(".")[0]),
        "resource_id": (row["resource_id"], data["resource_id"], data["resource_id"]),
    }
    for name, values in values_of.items():
        if len(set(values)) > 1:
            return f"its {name} has the values {values}"
    version = str(mark.version)
    expected = {
        "create": {"from": None, "to": version},
        "update": {"from": str(mark.version - 1), "to": version},
        "destroy": {"from": version, "to": None},
    }[mark.event]
    delta = (data["delta"] or {}).get("version")
    return "" if delta == expected else f"its delta of version is {delta} and should be {expected}"

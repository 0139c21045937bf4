"""Events as rows of the history table: the values of an INSERT, and the bytes of a COPY."""

import struct
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

from streamhub.core.events import StoredEvent, resource_hash, resource_key

COLUMNS: Final = ("organization", "id", "test", "resource_key", "type", "resource_type", "resource_id", "frame")

_SLICE: Final = 200  # rows in one piece of a COPY
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER: Final = struct.pack(">h", -1)
_TEST_AND_KEY: Final = {test: struct.pack(">i?i", 1, test, 8) for test in (False, True)}

_row_start = struct.Struct(">hiiiQ").pack
_length = struct.Struct(">i").pack


def values(event: StoredEvent) -> tuple[Any, ...]:
    """One value for each of COLUMNS."""
    key = resource_key(event.organization, event.resource_type or "", event.resource_id or "")
    return (
        event.organization, event.id, event.test, key, event.type, event.resource_type, event.resource_id, event.frame
    )  # fmt: skip


def copied(events: Sequence[StoredEvent]) -> Iterator[bytes]:
    """Pieces of PostgreSQL's binary COPY format ("File Formats" under COPY in its manual). The ids of `events` succeed
    each other, as those of an append do."""
    yield _HEADER
    shared: dict[tuple[int, str, str | None], tuple[bytes, blake2b, bytes]] = {}
    first = int(events[0].id.replace("-", ""), 16)
    high, low = first >> 64, first & ((1 << 64) - 1)
    for start in range(0, len(events), _SLICE):
        parts: list[bytes] = []
        for event in events[start : start + _SLICE]:
            organization, type_, resource_type = event.organization, event.type, event.resource_type
            found = shared.get((organization, type_, resource_type))
            if found is None:
                found = shared[organization, type_, resource_type] = (
                    _row_start(8, 4, organization, 16, high),
                    resource_hash(organization, resource_type or ""),
                    _field(type_) + _field(resource_type),
                )
            row_start, hash_, types = found
            resource_id, frame = event.resource_id, event.frame
            encoded = b"" if resource_id is None else resource_id.encode()
            key = hash_.copy()
            key.update(encoded)
            parts += (
                row_start,
                low.to_bytes(8),
                _TEST_AND_KEY[event.test],
                key.digest(),
                types,
                _length(-1 if resource_id is None else len(encoded)),
                encoded,
                _length(len(frame)),
                frame,
            )
            low += 1
        yield b"".join(parts)
    yield _TRAILER


def _field(text: str | None) -> bytes:
    if text is None:
        return _length(-1)
    data = text.encode()
    return _length(len(data)) + data

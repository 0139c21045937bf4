"""Events that lack their ids alone: made ready while the append before them is under way, so that an append has little
left to do once it knows the ids.

A draft has two runs of bytes. With the id they are a row of the history table in PostgreSQL's binary COPY format
("File Formats" under COPY in its manual), and in that the event's frame (core/frames.py):

    organization  ID  start: test … frame, up to its first id  ID  BETWEEN_IDS  ID  end
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from streamhub.core import frames, ids
from streamhub.core.events import StoredEvent, resource_hash
from streamhub.core.rendering import Rendered
from streamhub.core.rows import EventKind

COLUMNS: Final = ("organization", "id", "test", "resource_key", "type", "resource_type", "resource_id", "frame")

_SLICE: Final = 200  # rows in one piece of a COPY
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER: Final = struct.pack(">h", -1)
_BETWEEN: Final = frames.BETWEEN_IDS
_IDS: Final = 2 * 36 + len(_BETWEEN)  # bytes of a frame between its start and its end
_NONE: Final = struct.pack(">i", -1)

_length = struct.Struct(">i").pack
_TEST_AND_KEY: Final = struct.Struct(">i?i")  # up to the key itself
_KEY: Final = slice(_TEST_AND_KEY.size, _TEST_AND_KEY.size + 8)


class Draft(msgspec.Struct, frozen=True, gc=False):
    """`organization` is the registry's key."""

    organization: int
    kind: EventKind
    test: bool
    resource_id: str | None
    start: bytes
    end: bytes

    @property
    def resource_key(self) -> int:
        """That of core/events.py, which the row has behind its test."""
        return int.from_bytes(self.start[_KEY], "big", signed=True)


class _Shared:
    """What the drafts of one organization, kind and environment have in common. `frame_bytes` is the size of a frame
    but for its end."""

    __slots__ = ("frame_bytes", "frame_start", "hash_", "name", "organization", "row_start", "types")

    def __init__(self, organization: int, name: bytes, kind: EventKind, *, test: bool) -> None:
        self.organization = organization
        self.name = name
        self.hash_ = resource_hash(organization, kind.resource_type or "")
        self.row_start = _TEST_AND_KEY.pack(1, test, 8)
        self.types = _field(kind.type) + _field(kind.resource_type)
        self.frame_start = kind.frame_start
        self.frame_bytes = len(kind.frame_start) + _IDS


class Drafts:
    """The drafts of one append, in order. `size` is that of their frames in bytes, `types` has (organization, test,
    type) once for each."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.size = 0
        self.types: set[tuple[int, bool, str]] = set()
        self._shared: dict[tuple[str, EventKind, bool], _Shared] = {}

    def __len__(self) -> int:
        return len(self.drafts)

    @property
    def organizations(self) -> list[int]:
        """Their keys, in order."""
        return sorted({organization for organization, _, _ in self.types})

    def add(self, events: Sequence[Rendered], organizations: Mapping[str, tuple[int, bytes]]) -> list[Rendered]:
        """Draft those whose organization is one of these, by its public id: its key, and what names it in a frame
        (`organization_of`). The rest is given back."""
        left = []
        for rendered in events:
            kind, test, resource_id = rendered.kind, rendered.test, rendered.resource_id
            shared = self._shared.get((rendered.organization_id, kind, test))
            if shared is None:
                found = organizations.get(rendered.organization_id)
                if found is None:
                    left.append(rendered)
                    continue
                shared = _Shared(*found, kind, test=test)
                self._shared[rendered.organization_id, kind, test] = shared
                self.types.add((shared.organization, test, kind.type))
            digest = shared.hash_.copy()
            if resource_id is None:
                named = _NONE
            else:
                encoded = resource_id.encode()
                digest.update(encoded)
                named = _length(len(encoded)) + encoded
            end = frames.end_of(kind.head, rendered.resource, shared.name, rendered.tail)
            size = shared.frame_bytes + len(end)
            start = b"".join(
                (shared.row_start, digest.digest(), shared.types, named, _length(size), shared.frame_start)
            )
            self.drafts.append(Draft(shared.organization, kind, test, resource_id, start, end))
            self.size += size
        return left

    def copied(self, ms: int, first_counter: int) -> Iterator[bytes]:
        """Pieces of a COPY of COLUMNS, with the ids from this one on."""
        texts = ids.event_ids(ms, first_counter, len(self.drafts))
        high, low = ids.halves_of(ms, first_counter)
        yield _HEADER
        organization, row_start = None, b""
        for start in range(0, len(texts), _SLICE):
            parts: list[bytes] = []
            for draft, text in zip(self.drafts[start : start + _SLICE], texts[start : start + _SLICE], strict=True):
                if draft.organization != organization:
                    organization = draft.organization
                    row_start = struct.pack(">hiiiQ", len(COLUMNS), 4, organization, 16, high)
                id_ = text.encode()
                parts += (row_start, low.to_bytes(8), draft.start, id_, _BETWEEN, id_, draft.end)
                low += 1
            yield b"".join(parts)
        yield _TRAILER

    def events(self, ms: int, first_counter: int) -> list[StoredEvent]:
        """The events, with the ids from this one on."""
        events = []
        for draft, id_ in zip(self.drafts, ids.event_ids(ms, first_counter, len(self.drafts)), strict=True):
            kind = draft.kind
            frame = frames.build(kind.frame_start, id_.encode(), draft.end)
            events.append(
                StoredEvent(
                    draft.organization, id_, draft.test, kind.type, kind.resource_type, draft.resource_id, frame
                )
            )
        return events


def _field(text: str | None) -> bytes:
    if text is None:
        return _NONE
    data = text.encode()
    return _length(len(data)) + data

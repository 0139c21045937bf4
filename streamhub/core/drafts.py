"""Events that lack their ids alone: made ready while the append before them is under way, so that an append has little
left to do once it knows the ids.

A draft has two runs of bytes. With the id they are a row of the history table in PostgreSQL's binary COPY format
("File Formats" under COPY in its manual), and in that the event's frame (core/frames.py):

    organization  ID  start: test … frame, up to its first id  ID  BETWEEN_IDS  ID  end  END
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, overload

from streamhub.core import frames, ids
from streamhub.core.events import StoredEvent, resource_hash
from streamhub.core.rendering import Rendered
from streamhub.core.rows import EventKind

COLUMNS: Final = ("organization", "id", "test", "resource_key", "type", "resource_type", "resource_id", "frame")

_SLICE: Final = 200  # rows in one piece of a COPY
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER: Final = struct.pack(">h", -1)
_BETWEEN: Final = frames.BETWEEN_IDS
_END: Final = frames.END
_IDS: Final = 2 * 36 + len(_BETWEEN)  # bytes of a frame between its start and its end
_NONE: Final = struct.pack(">i", -1)

_length = struct.Struct(">i").pack
_TEST_AND_KEY: Final = struct.Struct(">i?i")  # up to the key itself
_KEY: Final = slice(_TEST_AND_KEY.size, _TEST_AND_KEY.size + 8)


class Common:
    """What the drafts of one organization, kind and environment have in common. `organization` is the registry's key,
    `name` the member that names it, `frame_bytes` the size of a frame but for its end."""

    __slots__ = ("frame_bytes", "hash_", "kind", "name", "organization", "row_start", "test", "types")

    def __init__(self, organization: int, name: bytes, kind: EventKind, *, test: bool) -> None:
        self.organization = organization
        self.name = name
        self.kind = kind
        self.test = test
        self.hash_ = resource_hash(organization, kind.resource_type or "")
        self.row_start = _TEST_AND_KEY.pack(1, test, 8)
        self.types = _field(kind.type) + _field(kind.resource_type)
        self.frame_bytes = len(kind.frame_start) + _IDS + len(_END)


class Draft:
    """An event without its id."""

    __slots__ = ("common", "end", "resource_id", "start")

    def __init__(self, common: Common, resource_id: str | None, start: bytes, end: bytes) -> None:
        self.common = common
        self.resource_id = resource_id
        self.start = start
        self.end = end

    @property
    def resource_key(self) -> int:
        """That of core/events.py, which the row has behind its test."""
        return int.from_bytes(self.start[_KEY], "big", signed=True)


class Drafts:
    """The drafts of one append, in order. `size` is that of their frames in bytes, `types` has (organization, test,
    type) once for each."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.size = 0
        self.types: set[tuple[int, bool, str]] = set()
        self._common: dict[tuple[str, EventKind, bool], Common] = {}

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
            common = self._common.get((rendered.organization_id, kind, test))
            if common is None:
                found = organizations.get(rendered.organization_id)
                if found is None:
                    left.append(rendered)
                    continue
                common = Common(*found, kind, test=test)
                self._common[rendered.organization_id, kind, test] = common
                self.types.add((common.organization, test, kind.type))
            digest = common.hash_.copy()
            if resource_id is None:
                named = _NONE
            else:
                encoded = resource_id.encode()
                digest.update(encoded)
                named = _length(len(encoded)) + encoded
            end = frames.end_of(kind.head, rendered.resource, common.name, rendered.tail)
            size = common.frame_bytes + len(end)
            start = b"".join((common.row_start, digest.digest(), common.types, named, _length(size), kind.frame_start))
            self.drafts.append(Draft(common, resource_id, start, end))
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
                if draft.common.organization != organization:
                    organization = draft.common.organization
                    row_start = struct.pack(">hiiiQ", len(COLUMNS), 4, organization, 16, high)
                id_ = text.encode()
                parts += (row_start, low.to_bytes(8), draft.start, id_, _BETWEEN, id_, draft.end, _END)
                low += 1
            yield b"".join(parts)
        yield _TRAILER

    def numbered(self, ms: int, first_counter: int) -> "Numbered":
        """The events, with the ids from this one on."""
        return Numbered(self.drafts, ms, first_counter)


class Numbered(Sequence[StoredEvent]):
    """Successive events of an append. Each is made where it is asked for; what can do with less has `drafts`."""

    def __init__(self, drafts: list[Draft], ms: int, first_counter: int) -> None:
        self.drafts = drafts
        self._ms = ms
        self._first_counter = first_counter

    def ids(self) -> list[str]:
        return ids.event_ids(self._ms, self._first_counter, len(self.drafts))

    def sizes(self) -> list[int]:
        """Bytes of their frames."""
        return [draft.common.frame_bytes + len(draft.end) for draft in self.drafts]

    def __len__(self) -> int:
        return len(self.drafts)

    def __iter__(self) -> Iterator[StoredEvent]:
        return map(_event, self.drafts, self.ids())

    @overload
    def __getitem__(self, index: int) -> StoredEvent: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[StoredEvent]: ...
    def __getitem__(self, index: int | slice) -> StoredEvent | Sequence[StoredEvent]:
        if isinstance(index, int):
            place = range(len(self.drafts))[index]
            return _event(self.drafts[place], ids.event_id(self._ms, self._first_counter + place))
        start, _, step = index.indices(len(self.drafts))
        assert step == 1, "successive events"
        return Numbered(self.drafts[index], self._ms, self._first_counter + start)


def ids_of(events: Sequence[StoredEvent]) -> list[str]:
    return events.ids() if isinstance(events, Numbered) else [event.id for event in events]


def sizes_of(events: Sequence[StoredEvent]) -> list[int]:
    """Bytes of their frames."""
    return events.sizes() if isinstance(events, Numbered) else [len(event.frame) for event in events]


def _event(draft: Draft, id_: str) -> StoredEvent:
    common = draft.common
    kind = common.kind
    frame = frames.build(kind.frame_start, id_.encode(), draft.end)
    return StoredEvent(common.organization, id_, common.test, kind.type, kind.resource_type, draft.resource_id, frame)


def _field(text: str | None) -> bytes:
    if text is None:
        return _NONE
    data = text.encode()
    return _length(len(data)) + data

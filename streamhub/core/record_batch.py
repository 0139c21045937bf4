"""Records as brokers store them: a record batch of magic 2, in Kafka's documentation under Message Format.

What the records of an organization have in common is encoded once. The checksum and the head of a batch are added
where it is sent (kafka/record_batch.py).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from streamhub.core import ids
from streamhub.core.drafts import Common, Numbered
from streamhub.core.events import StoredEvent
from streamhub.core.frames import BEFORE_ID, data_of, organization_named
from streamhub.core.records import AFTER, ID, Shared, organization_in, shared

_NO_ATTRIBUTES: Final = b"\0"
_ID_LENGTH: Final = 36
_FIXED: Final = len(BEFORE_ID) + _ID_LENGTH  # bytes of a value before its draft's end
_MOST_CACHED: Final = 10_000


def varint(number: int) -> bytes:
    """Zigzag, seven bits a byte, lowest first: how lengths and differences stand in a record."""
    rest = number << 1 if number >= 0 else (-number << 1) - 1
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


_MANY: Final = 8192
_SMALL: Final = [varint(number) for number in range(_MANY)]  # lengths of most records, and their numbers in a batch


class Encoded:
    """What the records of all events of an organization, a type and an environment have in common: the key, the headers
    up to the event's id, what stands between that id and the predecessor's, and the bytes of all of a record but its
    value and the numbers that differ."""

    __slots__ = ("behind_id", "fixed", "headers", "key")

    def __init__(self, of: Shared) -> None:
        id_length = varint(_ID_LENGTH)
        headers = b"".join(_text(name.encode()) + _text(value) for name, value in of.headers)
        self.key = _text(of.key)
        self.headers = varint(len(of.headers) + 2) + headers + _text(ID.encode()) + id_length
        self.behind_id = _text(AFTER.encode()) + id_length
        parts = (_NO_ATTRIBUTES, self.key, self.headers, self.behind_id)
        self.fixed = sum([len(part) for part in parts]) + 2 * _ID_LENGTH


class Records:
    """Records of one partition. `length` is theirs in bytes with `before`, what stands before them: at most
    `most_bytes`, but for a single one that is larger."""

    def __init__(self, most_bytes: int, before: int) -> None:
        self.most_bytes = most_bytes
        self.length = before
        self.count = 0
        self.parts: list[bytes] = []
        self.first_ms = self.highest_ms = 0

    def add(
        self, shared: Encoded, value: tuple[bytes, ...], value_bytes: int, id_: bytes, after: bytes, ms: int
    ) -> bool:
        """The record of an event, whose predecessor in its partition is `after`, with this time. `value` are the parts
        of its value, of so many bytes. False: it is full."""
        if not self.count:
            self.first_ms = ms
        number, time, value_length = _varint(self.count), _varint(ms - self.first_ms), _varint(value_bytes)
        size = shared.fixed + len(time) + len(number) + len(value_length) + value_bytes
        prefix = _varint(size)
        size += len(prefix)
        if self.count and self.length + size > self.most_bytes:
            return False
        self.parts += (prefix, _NO_ATTRIBUTES, time, number, shared.key, value_length)
        self.parts += value
        self.parts += (shared.headers, id_, shared.behind_id, after)
        self.length += size
        self.count += 1
        self.highest_ms = max(self.highest_ms, ms)
        return True


class Recorder:
    """Makes the records of a run of events, each with the id of the one before it in its partition.

    `start` is what the first event of each partition has there. `partition_of` tells the partition of a record's key,
    `new` makes an empty batch, one of Records.
    """

    def __init__(self, start: str, partition_of: Callable[[bytes], int], new: Callable[[], Any]) -> None:
        self._start = start.encode()
        self._partition_of = partition_of
        self._new = new
        self._partitions: dict[int, int] = {}  # by the organization's key in the registry
        self._last: dict[int, bytes] = {}  # id sent to each partition
        self._encoded: dict[tuple[bytes, str, bool], Encoded] = {}

    def add(self, events: Sequence[StoredEvent], now: int, batches: dict[int, list[Any]]) -> None:
        """The next events, into batches by partition. `now` is this machine's time in milliseconds: brokers refuse a
        time that lies in their future, and the hub's clock may have been ahead."""
        if isinstance(events, Numbered):
            self._add_drafts(events, now, batches)
            return
        for event in events:
            value = data_of(event.frame)
            named = organization_in(value)
            encoded = self._encoded_of(named, event.type, event.test)
            partition = self._partition(event.organization, named, event.type, event.test)
            ms = min(ids.milliseconds(event.id), now)
            self._record(batches, partition, encoded, (value,), len(value), event.id.encode(), ms)

    def _add_drafts(self, events: Numbered, now: int, batches: dict[int, list[Any]]) -> None:
        """Without making the events: their values are put together here."""
        common: Common | None = None
        partition = ms = 0
        for draft, text in zip(events.drafts, events.ids(), strict=True):
            if draft.common is not common:
                common = draft.common
                named, type_ = organization_named(common.name), common.kind.type
                encoded = self._encoded_of(named, type_, common.test)
                partition = self._partition(common.organization, named, type_, common.test)
                ms = min(ids.milliseconds(text), now)  # the same for all events of an append
            id_ = text.encode()
            value = (BEFORE_ID, id_, draft.end)
            self._record(batches, partition, encoded, value, _FIXED + len(draft.end), id_, ms)

    def _record(
        self, batches: dict[int, list[Any]], partition: int, encoded: Encoded, value: tuple[bytes, ...],
        value_bytes: int, id_: bytes, ms: int,
    ) -> None:  # fmt: skip
        its = batches.get(partition)
        if its is None:
            its = batches[partition] = [self._new()]
        after = self._last.get(partition, self._start)
        batch = its[-1]
        if not batch.add(encoded, value, value_bytes, id_, after, ms):
            batch = self._new()
            its.append(batch)
            batch.add(encoded, value, value_bytes, id_, after, ms)
        self._last[partition] = id_

    def _partition(self, organization: int, named: bytes, type_: str, test: bool) -> int:
        found = self._partitions.get(organization)
        if found is None:
            if len(self._partitions) >= _MOST_CACHED:
                self._partitions.clear()
            found = self._partitions[organization] = self._partition_of(shared(named, type_, test).key)
        return found

    def _encoded_of(self, named: bytes, type_: str, test: bool) -> Encoded:
        found = self._encoded.get((named, type_, test))
        if found is None:
            if len(self._encoded) >= _MOST_CACHED:
                self._encoded.clear()
            found = self._encoded[named, type_, test] = Encoded(shared(named, type_, test))
        return found


def _varint(number: int) -> bytes:
    return _SMALL[number] if 0 <= number < _MANY else varint(number)


def _text(data: bytes) -> bytes:
    return varint(len(data)) + data

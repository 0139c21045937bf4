"""A batch of records as brokers store it: the record batch of magic 2, in Kafka's documentation under Message Format.

aiokafka's own builder takes each record apart into its headers and encodes every one of them. Here what the records of
an organization have in common is encoded once. The batch is handed to aiokafka as one of its own builders, of which it
asks for no more than what stands under "for aiokafka".
"""

import struct
from functools import lru_cache
from typing import Final

from aiokafka.record.util import calc_crc32c

from streamhub.core.events import StoredEvent
from streamhub.core.frames import data_of
from streamhub.core.records import AFTER, ID, Shared, shared_of

# Base offset, length behind this field, leader epoch, magic; the checksum of what follows; attributes, last offset,
# first and highest time, producer's id and epoch, first sequence number, count of records.
_START: Final = struct.Struct(">qiib")
_CHECKSUM: Final = struct.Struct(">I")
_REST: Final = struct.Struct(">hiqqqhii")
_HEADER: Final = _START.size + _CHECKSUM.size + _REST.size
_NO_LEADER_EPOCH, _MAGIC = -1, 2
_NO_ATTRIBUTES: Final = b"\0"
_ID_LENGTH: Final = 36


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


class RecordBatch:
    """Records of one partition, at most `most_bytes` of them but for a single one that is larger."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._parts: list[bytes] = []
        self._size = _HEADER
        self._records = 0
        self._first_ms = self._highest_ms = 0
        self._producer = (-1, -1, -1)
        self._built: bytes | None = None

    def append(self, event: StoredEvent, after: str, ms: int) -> bool:
        """Add an event's record, whose predecessor in its partition is `after`, with this time. False: it is full."""
        value = data_of(event.frame)
        key, headers, behind_id, fixed = _encoded(shared_of(event, value))
        records, length = self._records, len(value)
        if not records:
            self._first_ms = ms
        since = ms - self._first_ms
        number = _SMALL[records] if records < _MANY else varint(records)
        time = _SMALL[since] if 0 <= since < _MANY else varint(since)
        value_length = _SMALL[length] if length < _MANY else varint(length)
        size = fixed + len(time) + len(number) + len(value_length) + length
        prefix = _SMALL[size] if size < _MANY else varint(size)
        if records and self._size + len(prefix) + size > self._most_bytes:
            return False
        self._parts += (
            prefix, _NO_ATTRIBUTES, time, number, key, value_length, value, headers, event.id.encode(), behind_id,
            after.encode(),
        )  # fmt: skip
        self._size += len(prefix) + size
        self._records = records + 1
        self._highest_ms = max(self._highest_ms, ms)
        return True

    # -- for aiokafka

    def size(self) -> int:
        """In bytes."""
        return self._size

    def record_count(self) -> int:
        return self._records

    def close(self) -> None:
        """Nothing can be added behind aiokafka's back anyway."""

    def closed(self) -> bool:
        return True

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        if self._built is None:
            rest = _REST.pack(0, self._records - 1, self._first_ms, self._highest_ms, *self._producer, self._records)
            behind = b"".join((rest, *self._parts))
            start = _START.pack(0, self._size - 12, _NO_LEADER_EPOCH, _MAGIC)
            self._built = b"".join((start, _CHECKSUM.pack(calc_crc32c(behind)), behind))
            self._parts.clear()
        return self._built


@lru_cache(maxsize=10_000)
def _encoded(shared: Shared) -> tuple[bytes, bytes, bytes, int]:
    """(key, headers up to the event's id, what stands between that id and the predecessor's, bytes of all but the value
    and the numbers that differ)."""
    id_length = varint(_ID_LENGTH)
    key = _text(shared.key)
    headers = b"".join(_text(name.encode()) + _text(value) for name, value in shared.headers)
    headers = varint(len(shared.headers) + 2) + headers + _text(ID.encode()) + id_length
    behind_id = _text(AFTER.encode()) + id_length
    return key, headers, behind_id, len(_NO_ATTRIBUTES) + len(key) + len(headers) + len(behind_id) + 2 * _ID_LENGTH


def _text(data: bytes) -> bytes:
    return varint(len(data)) + data

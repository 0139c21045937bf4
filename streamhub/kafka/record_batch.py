"""A batch of records, handed to aiokafka as one of its own builders.

aiokafka's own builder takes each record apart into its headers and encodes every one of them. Of ours
(core/record_batch.py) it asks for no more than what stands here.
"""

import struct
from typing import Final

from aiokafka.record.util import calc_crc32c

from streamhub.core.record_batch import Records

# Base offset, length behind this field, leader epoch, magic; the checksum of what follows; attributes, last offset,
# first and highest time, producer's id and epoch, first sequence number, count of records.
_START: Final = struct.Struct(">qiib")
_CHECKSUM: Final = struct.Struct(">I")
_REST: Final = struct.Struct(">hiqqqhii")
_HEADER: Final = _START.size + _CHECKSUM.size + _REST.size
_NO_LEADER_EPOCH, _MAGIC = -1, 2


class RecordBatch(Records):
    """Records of one partition, at most `most_bytes` of them but for a single one that is larger."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(most_bytes, _HEADER)
        self._producer = (-1, -1, -1)
        self._built: bytes | None = None

    def size(self) -> int:
        """In bytes."""
        return self.length

    def record_count(self) -> int:
        return self.count

    def close(self) -> None:
        """Nothing can be added behind aiokafka's back anyway."""

    def closed(self) -> bool:
        return True

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        if self._built is None:
            rest = _REST.pack(0, self.count - 1, self.first_ms, self.highest_ms, *self._producer, self.count)
            behind = b"".join((rest, *self.parts))
            start = _START.pack(0, self.length - 12, _NO_LEADER_EPOCH, _MAGIC)
            self._built = b"".join((start, _CHECKSUM.pack(calc_crc32c(behind)), behind))
            self.parts.clear()
        return self._built

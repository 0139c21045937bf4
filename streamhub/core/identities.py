"""Who an outbox row is, over crashes and fail-overs: (seq, xid, created_at), packed for a batch.

The sequence number alone does not do: a promoted standby that was behind gives the same numbers to other rows.
"""

import zlib
from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple


class Identity(NamedTuple):
    """`created_at` in microseconds of the Unix epoch."""

    seq: int
    xid: int
    created_at: int


def pack(identities: Sequence[Identity]) -> bytes:
    """Columns of differences, which are small and alike, compressed: a few bytes a row."""
    packed = array("q")
    for column in zip(*identities, strict=True):
        packed.append(column[0])
        packed.extend(b - a for a, b in pairwise(column))
    return zlib.compress(packed.tobytes(), level=1)


def unpack(packed: bytes) -> Iterable[Identity]:
    """The inverse of `pack`."""
    numbers = array("q")
    numbers.frombytes(zlib.decompress(packed))
    size = len(numbers) // 3
    columns = []
    for start in (0, size, 2 * size):
        total = 0
        column = []
        for difference in numbers[start : start + size]:
            total += difference
            column.append(total)
        columns.append(column)
    return map(Identity._make, zip(*columns, strict=True))

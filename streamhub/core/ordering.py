"""The order of changes within one transaction, where triggers of the application changed captured rows.

Sequence numbers follow the order in which the capture trigger ran, not the order in which rows were changed: a trigger
on the first row of a statement may update the second one before the second one's own capture ran. What tells the real
order is the chain of row versions: a change's old ctid is the new ctid of the change before it. So a change that comes
after one which replaced the version that it made is moved up to right before that one: it happened no later, and what
else was captured in between (a row of the same key put in its place, say) happened after both.

Within one transaction no version's place is used twice, but where a table is truncated in it a second time: then the
maker of a version is the last one before the change that replaced it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

Row = TypeVar("Row")


class Version(NamedTuple):
    """Which row version a change made, which one it replaced; `place` tells tables, rewrites, transactions apart."""

    place: tuple[int, int, int]
    old: tuple[int, int] | None
    new: tuple[int, int] | None


def by_version_chain(rows: Sequence[Row], version_of: Callable[[Row], Version]) -> list[Row]:
    """The rows, each behind the one that made the version which it replaced.

    >>> v = lambda row: Version((1, 1, 1), row[0], row[1])
    >>> by_version_chain([((0, 2), (0, 3)), ((0, 1), (0, 2))], v)
    [((0, 1), (0, 2)), ((0, 2), (0, 3))]
    """
    versions = [version_of(row) for row in rows]
    late: dict[tuple[tuple[int, int, int], tuple[int, int]], int] = {}  # the first maker of each version still to come
    for i in range(len(rows) - 1, -1, -1):
        new = versions[i].new
        if new is not None:
            late[versions[i].place, new] = i
    ordered: list[Row] = []
    done = [False] * len(rows)
    made = set()
    for i in range(len(rows)):
        chain = []
        following: int | None = i
        while following is not None and not done[following]:
            chain.append(following)
            done[following] = True
            version = versions[following]
            at = (version.place, version.old)
            following = None if version.old is None or at in made else late.get((version.place, version.old))
        for j in reversed(chain):
            ordered.append(rows[j])
            if versions[j].new is not None:
                made.add((versions[j].place, versions[j].new))
    return ordered

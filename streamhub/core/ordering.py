"""The order of changes within one transaction, where triggers of the application changed captured rows.

Sequence numbers follow the order in which the capture trigger ran, not the order in which rows were changed: a trigger
on the first row of a statement may update the second one before the second one's own capture ran. What tells the real
order is the chain of row versions: a change's old ctid is the new ctid of the change before it. Within one transaction
no version's place is used twice: only an aborted part of it could free one, and its changes are gone with it.
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
    """The rows with each chain of versions in order; the positions that a chain fills among the others stay its own.

    >>> v = lambda row: Version((1, 1, 1), row[0], row[1])
    >>> by_version_chain([((0, 2), (0, 3)), ((0, 1), (0, 2))], v)
    [((0, 1), (0, 2)), ((0, 2), (0, 3))]
    """
    versions = [version_of(row) for row in rows]
    replaced_by = {(version.place, version.old): i for i, version in enumerate(versions) if version.old is not None}
    made = {(version.place, version.new) for version in versions if version.new is not None}
    ordered = list(rows)
    for i, version in enumerate(versions):
        if version.old is not None and (version.place, version.old) in made:
            continue  # not the head of its chain
        chain = [i]
        while (new := versions[chain[-1]].new) is not None:
            following = replaced_by.get((version.place, new))
            if following is None or following in chain[-1:]:
                break
            chain.append(following)
        for position, source in zip(sorted(chain), chain, strict=True):
            ordered[position] = rows[source]
    return ordered


def missing_predecessors(rows: Sequence[Row], version_of: Callable[[Row], Version]) -> list[Version]:
    """The versions that rows of this run replaced and that no row of it made: made before it, or still to be read."""
    versions = [version_of(row) for row in rows]
    made = {(version.place, version.new) for version in versions if version.new is not None}
    return [version for version in versions if version.old is not None and (version.place, version.old) not in made]

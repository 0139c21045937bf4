"""The order of row versions within a transaction."""

import random
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from streamhub.core.ordering import Version, by_version_chain

PLACE = (1, 1, 1)


class Row(NamedTuple):
    name: str
    old: tuple[int, int] | None
    new: tuple[int, int] | None
    place: tuple[int, int, int] = PLACE


def ordered(*rows: Row) -> list[str]:
    return [row.name for row in by_version_chain(rows, lambda row: Version(row.place, row.old, row.new))]


def chains(seed: int, count: int, length: int) -> list[list[Row]]:
    """Rows that are inserted or were there, changed some times, and deleted or left."""
    chance = random.Random(seed)
    places = iter(range(1, 10_000))
    made = []
    for chain in range(count):
        steps = chance.randint(1, length)
        versions: list[tuple[int, int] | None] = [(0, next(places)) for _ in range(steps + 1)]
        if chance.random() < 0.3:
            versions[0] = None
        if chance.random() < 0.3 and steps > 1:
            versions[-1] = None
        made.append([Row(f"{chain}.{n}", old, new) for n, (old, new) in enumerate(pairwise(versions))])
    return made


@given(st.integers(), st.integers(1, 6), st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_chain_comes_out_in_order_however_it_was_captured(
    seed: int, count: int, length: int, chance: random.Random
) -> None:
    made = chains(seed, count, length)
    rows = [row for chain in made for row in chain]
    chance.shuffle(rows)
    out = ordered(*rows)
    assert sorted(out) == sorted(row.name for row in rows)
    for chain in made:
        places = [out.index(row.name) for row in chain]
        assert places == sorted(places)


@given(st.integers(), st.integers(1, 6), st.integers(1, 6))
def test_what_is_in_order_stays_as_it_is(seed: int, count: int, length: int) -> None:
    rows = [row for chain in chains(seed, count, length) for row in chain]
    assert ordered(*rows) == [row.name for row in rows]


def test_a_change_that_was_captured_late_comes_right_before_the_one_that_followed_it() -> None:
    a = Row("statement on the first row", (0, 1), (0, 11))
    deleted = Row("trigger deletes the second", (0, 12), None)
    put_back = Row("trigger puts another in its place", None, (0, 13))
    late = Row("statement on the second row", (0, 2), (0, 12))
    assert ordered(a, deleted, put_back, late) == [a.name, late.name, deleted.name, put_back.name]


def test_the_same_place_in_another_table_is_another_version() -> None:
    one = Row("one", (0, 2), (0, 3))
    other = Row("other", (0, 1), (0, 2), (2, 1, 1))
    assert ordered(one, other) == ["one", "other"]


def test_a_place_that_is_used_again_after_a_truncate_belongs_to_the_last_maker_before() -> None:
    rows = [
        Row("insert", None, (0, 1)),
        Row("destroy", (0, 1), None),
        Row("again", None, (0, 1)),
        Row("update", (0, 1), (0, 2)),
    ]
    assert ordered(*rows) == ["insert", "destroy", "again", "update"]


def test_versions_that_go_round_in_a_circle_are_each_there_once() -> None:
    rows = [Row("loop", (0, 1), (0, 1)), Row("back", (0, 2), (0, 1)), Row("forth", (0, 1), (0, 2))]
    assert sorted(ordered(*rows)) == ["back", "forth", "loop"]


def test_a_long_chain_is_no_recursion() -> None:
    rows = [Row(str(n), (0, n), (0, n + 1)) for n in range(1, 50_000)]
    assert ordered(*reversed(rows)) == [row.name for row in rows]

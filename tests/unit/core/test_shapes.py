"""A text is tied to the columns that it was written from, or not at all; values are spelled as the contract says."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core.changes import Origin
from streamhub.core.kinds import Kind, respelling
from streamhub.core.shapes import Column, Shape, ShapeBook, Tie

TABLE = 16_400
NAMES = ["a", "b", "c", "d", "e"]


class State:
    """A table as it is at one moment: positions of live columns to their names, and how many there ever were."""

    def __init__(self) -> None:
        self.live = {1: "a", 2: "b", 3: "c"}
        self.natts = 3
        self.filenode = 1

    def change(self, step: tuple[str, int, int]) -> None:
        what, first, second = step
        positions = sorted(self.live)
        if what == "add" and (free := [name for name in NAMES if name not in self.live.values()]):
            self.natts += 1
            self.live[self.natts] = free[first % len(free)]
        elif what == "drop" and positions:
            del self.live[positions[first % len(positions)]]
        elif what == "rename" and positions and NAMES[second] not in self.live.values():
            self.live[positions[first % len(positions)]] = NAMES[second]
        elif what == "rewrite":
            self.filenode += 1

    def shape(self) -> Shape:
        columns = tuple(Column(self.live[p], number(p), p, None) for p in sorted(self.live))
        return Shape(1, TABLE, 0, self.filenode, self.natts, "json", False, columns)

    def names(self) -> tuple[str, ...]:
        return tuple(self.live[position] for position in sorted(self.live))


def origin(filenode: int, natts: int) -> Origin:
    return Origin(1, TABLE, filenode, natts, "", 0)


def number(position: int) -> int:
    """The root's number of a leaf's position: something else, as in a partition that was attached."""
    return 100 - position


STEP = st.tuples(st.sampled_from(["add", "drop", "rename", "rewrite"]), st.integers(0, 4), st.integers(0, 4))
STEPS = st.lists(st.tuples(STEP, st.booleans()), max_size=12)


@given(STEPS, st.integers(0, 12))
def test_no_name_is_ever_tied_to_another_column(steps: list[tuple[tuple[str, int, int], bool]], written: int) -> None:
    state, book = State(), ShapeBook()
    book.add(state.shape())
    text = (state.filenode, state.natts, state.names(), dict(state.live))
    for n, (step, seen) in enumerate(steps):
        state.change(step)
        if seen:
            book.add(state.shape())
        if n == written:
            text = (state.filenode, state.natts, state.names(), dict(state.live))
    filenode, natts, names, live = text
    tie = book.tie(origin(filenode, natts), names)
    by_name = {name: number(position) for position, name in live.items()}
    assert {column.name: column.number for column in tie.columns}.items() <= by_name.items()
    assert {column.name for column in tie.columns} | set(tie.untied) == set(names)
    assert len(tie.columns) + len(tie.untied) == len(names)


@given(STEPS)
def test_a_text_of_the_newest_state_is_tied_whole(steps: list[tuple[tuple[str, int, int], bool]]) -> None:
    state, book = State(), ShapeBook()
    for step, seen in steps:
        state.change(step)
        if seen:
            book.add(state.shape())
    book.add(state.shape())
    tie = book.exact(origin(state.filenode, state.natts), state.names())
    assert tie == Tie(state.shape().columns, ())


def shape(*columns: tuple[str, int], natts: int, filenode: int = 1) -> Shape:
    made = tuple(Column(name, position, position, None) for name, position in columns)
    return Shape(1, TABLE, 0, filenode, natts, "json", False, made)


def numbers(book: ShapeBook, natts: int, *names: str) -> list[int | None]:
    by_name = {column.name: column.number for column in book.tie(origin(1, natts), names).columns}
    return [by_name.get(name) for name in names]


def test_columns_that_were_renamed_since_are_known_by_their_places() -> None:
    book = ShapeBook()
    book.add(shape(("id", 1), ("secret", 2), ("a", 3), natts=3))
    assert numbers(book, 3, "id", "a", "secret") == [1, 2, 3]


def test_a_state_between_two_that_were_seen_is_known_where_only_one_is_possible() -> None:
    book = ShapeBook()
    book.add(shape(("id", 1), ("a", 2), ("secret", 3), natts=3))
    book.add(shape(("id", 1), ("secret", 3), ("b", 4), natts=4))
    assert numbers(book, 4, "id", "a", "secret", "b") == [1, 2, 3, 4]
    assert numbers(book, 3, "id", "secret") == [1, 3]


def test_a_member_that_may_be_one_of_two_columns_is_left_out() -> None:
    book = ShapeBook()
    book.add(shape(("id", 1), ("a", 2), ("b", 3), natts=3))
    book.add(shape(("id", 1), natts=5))
    assert numbers(book, 3, "id", "x") == [1, None]


def test_a_table_that_was_never_seen_ties_nothing() -> None:
    assert ShapeBook().tie(origin(1, 2), ("a", "b")) == Tie((), ("a", "b"))


def test_a_type_is_only_told_for_the_file_that_it_was_seen_in() -> None:
    book = ShapeBook()
    kinds: list[Kind] = [None, "number"]
    for file, kind in enumerate(kinds, 1):
        book.add(Shape(1, TABLE, 0, file, 2, "json", False, (Column("id", 1, 1, None), Column("n", 2, 2, kind))))
    told = [book.tie(origin(file, 2), ("id", "n")).columns[1].kind for file in (1, 2, 3)]
    assert told == [None, "number", "unknown"]


def test_a_text_with_a_column_less_keeps_the_types_of_its_own_file() -> None:
    book = ShapeBook()
    book.add(Shape(1, TABLE, 0, 1, 3, "json", False, tuple(Column(c, n, n, "number") for n, c in enumerate("abc", 1))))
    book.add(Shape(1, TABLE, 0, 2, 3, "json", False, (Column("a", 1, 1, "plain"), Column("c", 3, 3, "plain"))))
    assert [column.kind for column in book.tie(origin(1, 3), ("a", "c")).columns] == ["number", "number"]


def test_a_partition_is_tied_by_its_present_attachment_alone() -> None:
    book = ShapeBook()
    columns = (Column("buyer", 2, 3, None), Column("org", 3, 4, None))
    book.add(Shape(1, TABLE, 77, 1, 4, "json", False, columns))
    attached = Origin(1, TABLE, 1, 4, "", 77)
    assert [column.number for column in book.tie(attached, ("buyer", "org")).columns] == [2, 3]
    for other in (attached._replace(attachment=78), attached._replace(attachment=0), attached._replace(capture=2)):
        assert book.tie(other, ("buyer", "org")).columns == ()


def test_many_rewrites_of_a_table_do_not_fill_the_book() -> None:
    book = ShapeBook()
    for filenode in range(1000):
        book.add(shape(("id", 1), natts=1, filenode=filenode))
    assert len(book._shapes[1, TABLE, 0]) < 50


def spelled(kind: Kind, text: str) -> str:
    change = respelling(kind)
    value = text.encode()
    return (value if change is None else change(value)).decode()


@given(st.decimals(allow_nan=False, allow_infinity=False) | st.integers())
def test_a_number_becomes_a_string_of_the_same_digits(value: Any) -> None:
    assert spelled("number", str(value)) == f'"{value}"'


@pytest.mark.parametrize("text", ["null", '"NaN"', '"Infinity"', '"-Infinity"'])
def test_what_is_no_number_stays_as_it_is(text: str) -> None:
    assert spelled("number", text) == text


@given(st.binary())
def test_bytes_become_base64(value: bytes) -> None:
    assert json.loads(spelled("bytea", f'"\\\\x{value.hex()}"')) == base64.b64encode(value).decode()


NESTED = ["array", ["array", "number"]]


def test_numbers_are_respelled_at_every_depth() -> None:
    nested: Kind = ["array", "number"]
    assert json.loads(spelled(nested, '[[1.50,null],[2,"NaN"]]')) == [["1.50", None], ["2", "NaN"]]


@pytest.mark.parametrize("kind", ["number", "bytea", NESTED, ["array", "number"]])
def test_null_stays_null_for_every_kind(kind: Kind) -> None:
    assert spelled(kind, "null") == "null"


@pytest.mark.parametrize("kind", [["array", "number"], "bytea"])
def test_a_value_of_another_kind_than_the_shapes_stays_as_it_is(kind: Kind) -> None:
    assert spelled(kind, '"text"') == '"text"'


@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner, max_size=3), max_leaves=8))
def test_a_kind_that_needs_nothing_changes_nothing(value: Any) -> None:
    text = json.dumps(value)
    assert spelled(None, text) == text
    assert respelling(["array", None]) is None

"""Two rows cut in one pass give what decoding both gives, or nothing."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamhub.core.cutting import DEPTH, compared

NAMES = ["id", "price", "data"]
OPENINGS = [b'{"id":', b',"price":', b',"data":']
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

FRAGMENTS = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", '"', ":", ",", "\\", "\\n", "\\u00e9", "null", "true", "falsE", "0", "01", "-", "-1.50",
         "1e5", ".5", "1.", " ", "\n", "é", "\ud800", '"a"', '"b":', "{}", "[]", '{"a": [1, null]}']
    ),
    max_size=6,
).map("".join)  # fmt: skip
WHOLE = st.sampled_from(["1", "-0.5", '"é"', '""', "null", "true", "false", "[]", "{}", '[{"a": "}"}, ["]"]]', '"\\""'])
VALUES = st.tuples(WHOLE, WHOLE, WHOLE | FRAGMENTS)


def row(values: tuple[str, ...]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in zip(NAMES, values, strict=True)) + "}"


def decoded(text: str) -> list[bytes]:
    """Raises where a decoder refuses the text."""
    members = _members(text)
    assert list(members) == NAMES
    return [msgspec.json.encode(value) for value in members.values()]


@settings(deadline=None)
@given(VALUES, VALUES)
def test_what_is_cut_is_what_is_decoded(old: tuple[str, ...], new: tuple[str, ...]) -> None:
    cut = compared(row(old), row(new), OPENINGS)
    if cut is not None:
        were, are = decoded(row(old)), decoded(row(new))
        assert cut == (were, are, [place for place in range(len(NAMES)) if were[place] != are[place]])


@pytest.mark.parametrize(
    "value",
    ["1", "-12.50", "0", '""', '"é ü"', '"a\\n\\"b\\\\"', "null", "true", "false", "[]", "{}",
     '{"a": [1, {"b": "}"}]}'],
)  # fmt: skip
def test_a_plain_row_is_cut(value: str) -> None:
    old, new = row(("1", "2", value)), row(("1", "3", value))
    kept = value.encode()
    assert compared(old, new, OPENINGS) == ([b"1", b"2", kept], [b"1", b"3", kept], [1])


@pytest.mark.parametrize(
    "value",
    ['"\\u0041"', '"\ud800"', '"\n"', "01", "1e5", "1.", "-", "tru", "", "{", '{"a"}', "[1,]", " 1", "1 ",
     "[" * (DEPTH + 1) + "]" * (DEPTH + 1)],
)  # fmt: skip
def test_what_needs_care_is_left_to_the_decoder(value: str) -> None:
    assert compared(row(("1", "2", value)), row(("1", "3", value)), OPENINGS) is None


@pytest.mark.parametrize(
    "text", ["", "{", "{}", '{"id":1}', '{"id":1,"price":2,"data":3', '{"id":1,"price":2,"data":3} ']
)
def test_another_set_of_members_is_left_to_the_decoder(text: str) -> None:
    assert compared(text, row(("1", "2", "3")), OPENINGS) is None
    assert compared(row(("1", "2", "3")), text, OPENINGS) is None


def test_a_number_that_goes_on_is_another_one() -> None:
    cut: Any = compared(row(("1", "12", "3")), row(("1", "1", "3")), OPENINGS)
    assert cut[2] == [1]
    assert json.loads(row(tuple(value.decode() for value in cut[0])))["price"] == 12

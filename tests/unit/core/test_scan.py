"""The members of an object that no decoder takes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import scan

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON), st.sampled_from([None, 1]), st.booleans())
def test_every_member_is_given_as_it_is_spelled(row: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(row, indent=indent, ensure_ascii=ascii_only)
    found = scan.members(text)
    assert list(found) == list(row)
    assert {name: json.loads(value) for name, value in found.items()} == row


@given(st.lists(JSON), st.sampled_from([None, 1]))
def test_every_element_is_given_as_it_is_spelled(values: list[Any], indent: int | None) -> None:
    assert [json.loads(value) for value in scan.elements(json.dumps(values, indent=indent))] == values


def test_a_lone_surrogate_and_endless_nesting_are_passed_over() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    found = scan.members('{"a":"\\ud800","b":' + deep + ',"c":{"}":"]"},"d":1}')
    assert found == {"a": '"\\ud800"', "b": deep, "c": '{"}":"]"}', "d": "1"}


@pytest.mark.parametrize("text", ["", "[]", "1", "x{}", '{"a":1', '{"a":"b', '{"a"', '{"a":[1,2}', "null"])
def test_what_is_no_whole_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        scan.members(text)


def test_an_empty_object_has_no_members() -> None:
    assert scan.members(" {} ") == {}


def test_a_long_text_takes_time_in_proportion_to_its_length() -> None:
    text = '{"a":"' + "\\\\" * 500_000 + '","b":[' + ",".join(["{}"] * 200_000) + "]}"
    assert len(scan.members(text)) == 2

"""The text of a record or an array gives back the values that PostgreSQL wrote into it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import literals

VALUE = st.none() | st.text(alphabet=st.sampled_from(list('ab,(){}"\\ \t\n;N')), max_size=6) | st.just("NULL")


def record(values: list[str | None]) -> str:
    """As record_out in src/backend/utils/adt/rowtypes.c."""
    written = []
    for value in values:
        if value is None:
            written.append("")
        elif value == "" or any(each in value for each in '"\\(), \t\n'):
            written.append('"' + value.replace("\\", "\\\\").replace('"', '""') + '"')
        else:
            written.append(value)
    return f"({','.join(written)})"


def array(values: Any) -> str:
    """As array_out in src/backend/utils/adt/arrayfuncs.c."""
    if isinstance(values, list):
        return "{" + ",".join(map(array, values)) + "}"
    if values is None:
        return "NULL"
    if values == "" or values.upper() == "NULL" or any(each in values for each in '"\\{}, \t\n'):
        return '"' + values.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(values)


@given(st.lists(VALUE, min_size=1, max_size=5))
def test_a_records_fields_are_what_was_written(values: list[str | None]) -> None:
    assert literals.fields(record(values)) == values


@given(st.lists(VALUE, max_size=5))
def test_a_record_within_a_record_is_one_of_its_fields(values: list[str | None]) -> None:
    inner = record(values)
    (field, _) = literals.fields(record([inner, "x"]))
    assert field == inner


@given(st.lists(st.lists(VALUE, min_size=1, max_size=3), max_size=3))
def test_an_arrays_elements_are_what_was_written(values: list[list[str | None]]) -> None:
    assert literals.elements(array(values)) == values
    assert literals.elements(f"[0:2][-1:1]={array(values)}") == values


@pytest.mark.parametrize("text", ["", "1", "(", "(1", "1)", "(1)x", '("a)', "{1}", "(a(b)"])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="record"):
        literals.fields(text)


@pytest.mark.parametrize("text", ["", "1", "{", "{1", '{"a', "{1}x", "(1)"])
def test_what_is_no_array_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="array"):
        literals.elements(text)

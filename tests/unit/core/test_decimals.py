"""Numbers in JSON's form as exact decimals."""

import itertools
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core.decimals import number

NUMBERS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    st.integers(0, 10**25),
    st.just("") | st.text("0123456789", min_size=1, max_size=25).map(".".__add__),
    st.just("") | st.integers(-60, 60).map("e{:+}".format) | st.integers(0, 60).map("E{:03}".format),
)


@given(NUMBERS, NUMBERS)
def test_numbers_are_ordered_as_fractions_are(left: str, right: str) -> None:
    a, b = number(left), number(right)
    assert a is not None
    assert b is not None
    assert (a < b, a == b) == (Fraction(left) < Fraction(right), Fraction(left) == Fraction(right))


@pytest.mark.parametrize(
    "text",
    ["", "+1", "01", "1.", ".5", "1e", " 1", "1 ", "1\n", "1_000", "0x1", "NaN", "Infinity", "-", "٣", "--1", "true"],
)
def test_what_has_not_the_form_of_a_json_number_is_none(text: str) -> None:
    assert number(text) is None


def test_any_exponent_is_compared_exactly() -> None:
    nines = "9" * 10_000
    ascending = [
        f"-1e{nines}",
        "-1e999999999",
        "-1",
        "-1e-999999999",
        f"-1e-{nines}",
        "0",
        f"1e-{nines}",
        "1e-999999999999999999999",
        "1e-999999999",
        "1",
        "1e999999999",
        "99e999999999999999998",
        "1e1000000000000000000000",
        f"1e{nines}",
        f"10.1e{nines}",
    ]
    found = [number(text) for text in ascending]
    assert all(a < b for a, b in itertools.pairwise(found))  # type: ignore[operator]
    assert number("-0.00e9") == number("0") == number(f"0e{nines}")
    assert number(f"100e{nines}") == number(f"1000.0e{nines[:-1]}8")


@pytest.mark.parametrize(
    "text",
    ["9" * 1_000_000, "0." + "0" * 1_000_000 + "1", "1e" + "9" * 1_000_000, "1" * 1_000_000 + "x", "-" * 1_000_000],
)
def test_a_number_of_a_million_digits_takes_time_in_proportion(text: str) -> None:
    before = time.process_time()
    found, bound = number(text), number("1e5")
    assert found is None or (bound is not None and (found < bound or found > bound))
    assert time.process_time() - before < 2

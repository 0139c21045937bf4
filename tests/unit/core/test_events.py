"""A stored event: the key of its resource."""

from hypothesis import given
from hypothesis import strategies as st

from streamhub.core.events import resource_key

PARTS = st.tuples(st.integers(1, 2**31 - 1), st.text(max_size=20), st.text(max_size=20))


@given(PARTS, PARTS)
def test_two_resources_have_two_keys(one: tuple[int, str, str], other: tuple[int, str, str]) -> None:
    if "\0" not in one[1] + one[2] + other[1] + other[2]:
        assert (resource_key(*one) == resource_key(*other)) == (one == other)


@given(PARTS)
def test_a_key_is_a_signed_64_bit_number(parts: tuple[int, str, str]) -> None:
    assert -(2**63) <= resource_key(*parts) < 2**63


def test_a_key_is_the_same_for_ever() -> None:
    """History is indexed by it."""
    assert resource_key(1, "skus", "AYqPSwAqDW") == resource_key(1, "skus", "AYqPSwAqDW")
    assert resource_key(7, "skus", "é") == -2896146699602358602


def test_a_lone_surrogate_has_a_key_too() -> None:
    assert isinstance(resource_key(1, "skus", "\ud800"), int)

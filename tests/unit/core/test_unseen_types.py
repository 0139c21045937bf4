"""What is said of a type that no event had."""

import pytest

from streamhub.core.unseen_types import unseen


@pytest.mark.parametrize(
    ("pattern", "meant"), [("price.*", "prices.*"), ("orders*", "orders.*"), ("*.updat", "*.update")]
)
def test_a_pattern_with_a_star_has_one_in_the_suggestion(pattern: str, meant: str) -> None:
    ((_, words),) = unseen([pattern], ["orders.create", "prices.update"])
    assert words.endswith(f"; did you mean {meant}?")


def test_a_pattern_that_is_like_none_has_no_suggestion() -> None:
    ((_, words),) = unseen(["x.*"], ["orders.create", "prices.update"])
    assert words.endswith("; there were orders.create, prices.update")

"""What is shown of an event on a line."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core.summary import LONGEST, MOST, printable, short, summary

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=2 * LONGEST),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def change(event: str, **delta: tuple[Any, Any]) -> dict[str, Any]:
    return {"event": event, "delta": {name: {"from": old, "to": new} for name, (old, new) in delta.items()}}


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (change("update", price=("10.00", "12.50"), note=(None, "new")), "price 10.00 → 12.50, note null → new"),
        (change("create", code=(None, "TSHIRT"), stock=(None, 7)), "code TSHIRT, stock 7"),
        (change("destroy", code=("TSHIRT", None), tags=(["a"], None)), 'code TSHIRT, tags ["a"]'),
        (change("anonymization_request", gone_at=(None, "now")), "gone_at null → now"),
        (change("update", price=("1", "2"), updated_at=("then", "now")), "price 1 → 2"),
        (change("update", updated_at=("then", "now")), "updated_at then → now"),
        (
            {
                **change("create", id=(None, "a"), tenant=(None, "org_1"), stock=(None, 7)),
                "resource_id": "a",
                "organization": {"id": "org_1"},
            },
            "stock 7",
        ),
        ({"event": "update", "delta": None, "too_large": True}, "(too large: its values are left out)"),
        ({"event": "update", "delta": None, "error": "bad json"}, "(could not be rendered: bad json)"),
        ({"event": "received", "delta": None, "publish_id": "q", "data": {"query": 7}}, '{"query":7}'),
        ({"event": "received", "delta": None, "publish_id": "q", "data": None}, "null"),
        ({"event": "update", "delta": None}, ""),
    ],
)
def test_it_says_what_changed(event: dict[str, Any], shown: str) -> None:
    assert summary(event) == shown


def test_of_many_columns_the_first_are_shown() -> None:
    shown = summary(change("create", **{f"c{n}": (None, n) for n in range(MOST + 5)}))
    assert shown.endswith(f"c{MOST - 1} {MOST - 1}, …")


def test_control_characters_and_turned_text_are_shown_as_escapes() -> None:
    assert printable("a\x1b[2J\n\u202eb") == "a\\x1b[2J\\n\\u202eb"


@given(JSON)
def test_no_value_can_command_a_terminal_or_fill_it(value: object) -> None:
    shown = short(value)
    assert shown.isprintable()
    assert len(shown) <= LONGEST * len("\\U0001d173")

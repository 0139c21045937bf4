"""Patterns of event types."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core.type_patterns import TypePatterns


@pytest.mark.parametrize(
    ("patterns", "type_", "expected"),
    [
        ("ticket.created", "ticket.created", True),
        ("ticket.created", "ticket.closed", False),
        ("ticket.*", "ticket.created", True),
        ("ticket.*", "ticket", False),
        ("ticket.*", "ticket.note.created", False),
        ("*.create", "skus.create", True),
        ("*.create", "shop.skus.create", False),
        ("*.*.create", "shop.skus.create", True),
        ("tick*.c*ed", "ticket.created", True),
        ("tick*.c*ed", "ticket.ed", False),
        ("*", "entries_created", True),
        ("*", "shop.skus.create", True),
        ("a.b,c.*", "c.d", True),
        ("a.b,c.*", "b.a", False),
        ("ab*ba", "aba", False),
    ],
)
def test_a_star_stands_for_text_within_one_segment_or_alone_for_every_type(
    patterns: str, type_: str, expected: bool
) -> None:
    assert TypePatterns.parse(patterns).matches(type_) is expected


def test_several_lists_are_a_union() -> None:
    both = TypePatterns.parse("a.b", "c.*")
    assert both.matches("a.b")
    assert both.matches("c.x")
    assert both == TypePatterns.union([TypePatterns.parse("c.*"), TypePatterns.parse("a.b")])


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "'' is empty"),
        ("a.b,,c", "'' is empty"),
        ("a.b, c.d", "' c.d' begins or ends with a space"),
        ("a\nb", r"'a\nb' holds a control character"),
        ("foo bar", "'foo bar' is no type"),
        ("skus.", "'skus.' is no type"),
        ("skus:update", "'skus:update' is no type"),
        ("skus.é", "'skus.é' is no type"),
        ("skus.gap", "'skus.gap' ends with the name of a control frame"),
        ("x" * 256, "has 256 characters, at most 255"),
        (",".join(["x"] * 501), "there are 501 types; at most 500"),
    ],
)
def test_what_is_no_list_of_types_is_refused(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wrong)):
        TypePatterns.parse(text)


@given(st.text("ab*.", min_size=1, max_size=8), st.text("ab.", min_size=1, max_size=8))
def test_a_pattern_matches_as_its_regular_expression_does(pattern: str, type_: str) -> None:
    expression = ".*" if pattern == "*" else re.escape(pattern).replace(r"\*", "[^.]*")
    assert TypePatterns([pattern]).matches(type_) is (re.fullmatch(expression, type_) is not None)


def test_many_stars_take_no_time() -> None:
    patterns = TypePatterns.parse(",".join("a*" * 100 + f"{index}" for index in range(100)))
    before = time.process_time()
    assert not patterns.matches("a" * 255)
    assert time.process_time() - before < 1

"""Slugs made from ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.organizations import SLUG, slug_for


@pytest.mark.parametrize(
    ("id", "slug"),
    [
        ("my-org", "my-org"),
        ("Org_42", "org-42"),
        ("  Ünïted  ", "n-ted"),
        ("___", "org"),
        ("", "org"),
        ("a" * 100, "a" * 63),
        ("a" * 62 + "_b", "a" * 62),
        ("9", "9"),
    ],
)
def test_a_slug_is_made_from_an_id(id: str, slug: str) -> None:
    assert slug_for(id) == slug


@given(st.text(max_size=200))
def test_every_id_gives_a_valid_slug(id: str) -> None:
    assert SLUG.fullmatch(slug_for(id))


@given(st.from_regex(SLUG, fullmatch=True))
def test_a_slug_is_its_own_slug(slug: str) -> None:
    assert slug_for(slug) == slug

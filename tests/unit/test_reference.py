"""docs/reference says what the code says; test_schema.py has the schema, which needs a database."""

from __future__ import annotations

from typing import Final

import pytest

from docs import generate
from streamhub.config import Settings

PAGES: Final = generate.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_reference_is_what_the_code_says(name: str) -> None:
    written = (generate.REFERENCE / name).read_text("utf-8")
    assert written == PAGES[name], f"docs/reference/{name} is out of date: make docs"


def test_every_setting_says_what_it_does() -> None:
    rows = [line for line in PAGES["settings.md"].splitlines() if line.startswith("| `")]
    assert len(rows) == len(Settings.model_fields)

"""What the pages for people point to exists, and they use the words of CONTRIBUTING.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples" / "README.md"]
FENCED: Final = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE: Final = re.compile(r"`([a-z_]+(?:/[A-Za-z0-9_]+)+\.(?:py|sql))(?:: \w+)?`")
UNWANTED: Final = re.compile(
    r"\b(?:mend\w*|anew|whoever|nobody|(?:is|are) wanted|stands? for election|keeps? house|brings? everything again"
    r"|the wall|none of ours)\b",
    re.IGNORECASE,
)


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """Without its blocks of code."""
    return FENCED.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", each)).lower().replace(" ", "-")
            for each in headings}  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_file_of_the_code_that_a_page_names_exists(page: Path) -> None:
    named_files = set(CODE.findall(prose(page)))
    folders = [ROOT, ROOT / "streamhub", ROOT / "streamhub" / "postgres" / "sql"]
    assert not {name for name in named_files if not any((folder / name).exists() for folder in folders)}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_uses_the_words_of_the_word_list(page: Path) -> None:
    text = prose(page)
    if page.name == "CONTRIBUTING.md":
        text = text.partition("\n## Words\n")[0]
    assert not UNWANTED.findall(text)


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    decisions = ROOT / "docs" / "decisions" / "README.md"
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in (index, decisions)
              for link in LINK.findall(prose(page))}  # fmt: skip
    assert set((ROOT / "docs").rglob("*.md")) - {index} <= linked

"""`/-/docs` in a real Chromium: under its Content-Security-Policy, by keys, in a narrow window, light and dark."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

import pytest
from playwright.async_api import Page as Tab

from streamhub.gateway.app import ROUTES
from tests.integration.conftest import Hub

# Of the text and of what it stands on, by the formula of WCAG 2.2: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
CONTRASTS: Final = """
    () => {
      const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      const rgb = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
      };
      const luminance = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((each) => each / 255)
          .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
      };
      const behind = (element) => {
        for (let each = element; each; each = each.parentElement) {
          const found = rgb(getComputedStyle(each).backgroundColor);
          if (found[3] === 255) return found;
        }
        return [255, 255, 255, 255];
      };
      return [...document.querySelectorAll("p, code, a, th, td, h1, h2, h3, h4, b, summary")].map((element) => {
        const pair = [rgb(getComputedStyle(element).color), behind(element)].map(luminance).sort((a, b) => b - a);
        return (pair[0] + 0.05) / (pair[1] + 0.05);
      });
    }
"""


class Shown(NamedTuple):
    """`said`: what the console has had."""

    tab: Tab
    url: str
    said: Sequence[str]


@pytest.fixture
async def shown(tab: Tab, hub: Hub) -> AsyncIterator[Shown]:
    """The page of a hub, in a tab of its own."""
    assert tab.context.browser is not None
    context = await tab.context.browser.new_context(viewport={"width": 1280, "height": 800})
    page = await context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    url = f"http://127.0.0.1:{hub.port}/-/docs"
    answer = await page.goto(url)
    assert answer is not None
    assert answer.status == 200
    yield Shown(page, url, said)
    await context.close()


async def test_it_loads_under_a_strict_policy_without_a_word_in_the_console(shown: Shown) -> None:
    answer = await shown.tab.reload()
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert await shown.tab.evaluate("document.styleSheets.length") == 1
    assert shown.said == []


async def test_a_script_in_the_page_does_not_run(shown: Shown) -> None:
    """Whatever got into the page, the policy keeps it from running."""
    await shown.tab.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = true'}))"
    )
    assert await shown.tab.evaluate("window.ran") is None
    assert any("Content Security Policy" in each for each in shown.said)


async def test_it_has_a_heading_for_every_route_and_a_link_to_each(shown: Shown) -> None:
    titles: list[str] = await shown.tab.locator("article h3").all_inner_texts()
    assert {route.summary for route in ROUTES} <= set(titles)
    broken = await shown.tab.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map((each) => each.hash.slice(1))"
        ".filter((each) => !document.getElementById(each))"
    )
    assert broken == []
    ids: list[Any] = await shown.tab.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))


async def test_an_example_opens_by_keys_and_the_first_key_leads_past_the_links(shown: Shown) -> None:
    keys = shown.tab.keyboard
    await keys.press("Tab")
    assert await shown.tab.evaluate("document.activeElement.textContent") == "Skip to the routes"
    await keys.press("Enter")
    assert await shown.tab.evaluate("document.activeElement.id") == "main"
    summary = shown.tab.locator("summary").first
    await summary.focus()
    await keys.press("Enter")
    assert await shown.tab.locator("details").first.get_attribute("open") is not None


async def test_no_part_is_wider_than_a_window_of_400_pixels(shown: Shown) -> None:
    await shown.tab.set_viewport_size({"width": 400, "height": 800})
    assert await shown.tab.evaluate("document.documentElement.scrollWidth") <= 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_stands_out_from_what_is_behind_it(shown: Shown, scheme: Any) -> None:
    await shown.tab.emulate_media(color_scheme=scheme)
    paper = await shown.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    assert min(await shown.tab.evaluate(CONTRASTS)) >= 4.5

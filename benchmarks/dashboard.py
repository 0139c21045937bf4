"""The dashboard's tail in a real Chromium: how soon it answers a click, and how its heap grows.

A click's time is that of the Event Timing API: from the click to the next frame that shows its effect. Those under
16 ms are not told, and count as 16.
"""

import asyncio
import os
import shutil
import time
from typing import Any, Final

import asyncpg
from playwright.async_api import CDPSession, async_playwright

from benchmarks.stage import Result, Stage, percentiles

RATE, SECONDS = 500, 60
EACH = 25  # events of a commit
WARM: Final = 10  # seconds until the list is full
UPDATE = """
UPDATE skus SET quantity = quantity + 1, updated_at = now()
 WHERE id IN (SELECT 'sku_' || 2 * n FROM generate_series($1::int, $1 + $2 - 1) AS n)
"""
WATCH = """
  window.clicks = [];
  new PerformanceObserver((list) => {
    for (const { name, duration } of list.getEntries()) if (name === "click") window.clicks.push(duration);
  }).observe({ type: "event", durationThreshold: 16 });
"""


async def _write(url: str, seconds: float) -> int:
    connection = await asyncpg.connect(url)
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        if sent <= passed * RATE:
            await connection.execute(UPDATE, 1 + sent % 4_000, EACH)
            sent += EACH
        else:
            await asyncio.sleep(0.005)
    await connection.close()
    return sent


async def _heap(cdp: CDPSession) -> float:
    """MB that are reachable."""
    for _ in range(2):
        await cdp.send("HeapProfiler.collectGarbage")
    used: dict[str, Any] = await cdp.send("Runtime.getHeapUsage")
    return float(used["usedSize"]) / 1e6


async def measure(stage: Stage) -> list[Result]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return [Result("the dashboard's tail", "no Chromium is installed", "")]
    url = await stage.database()
    connection = await asyncpg.connect(url)
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with stage.hub(url) as hub, async_playwright() as playwright:
        await connection.execute("UPDATE skus SET quantity = quantity + 1 WHERE id = 'sku_2'")
        slug = None
        while slug is None:
            await asyncio.sleep(0.2)
            slug = await connection.fetchval("SELECT slug FROM streamhub_hub.organizations WHERE id = 'org_0'")
        await connection.close()
        browser = await playwright.chromium.launch(executable_path=chromium, args=options)
        tab = await browser.new_page(viewport={"width": 1280, "height": 800})
        await tab.goto(f"http://127.0.0.1:{hub.port}/-/dashboard")
        await tab.get_by_label("Token").fill(stage.token("org_0", slug, "events:read"))
        await tab.get_by_role("button", name="Sign in").click()
        await tab.locator(".state", has_text="live").wait_for()
        await tab.evaluate(WATCH)
        cdp = await tab.context.new_cdp_session(tab)
        before = await _heap(cdp)
        writing = asyncio.create_task(_write(url, SECONDS))
        button = tab.get_by_role("button", name="Filters")
        full, clicks = before, 0
        while not writing.done():
            await asyncio.sleep(1)
            await button.click()
            clicks += 1
            if clicks == WARM:
                full = await _heap(cdp)
        sent = await writing
        await asyncio.sleep(1)
        told: list[float] = await tab.evaluate("window.clicks")
        after = await _heap(cdp)
        shown = await tab.locator("table.events").get_attribute("aria-rowcount")
        await browser.close()
    times = [*told, *[16.0] * (clicks - len(told))]
    what = f"the dashboard's tail at {sent / SECONDS:.0f} events/s for {SECONDS} s"
    heap = f"{after - before:.1f} ({after:.1f}; {after - full:+.1f} once the list was full)"
    return [
        Result(f"{what}: {clicks} clicks, ms to the next frame", percentiles(times), "worst under 100"),
        Result(f"{what}: growth of the heap, MB; {shown} rows", heap, "under 30"),
    ]

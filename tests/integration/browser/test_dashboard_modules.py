"""What modules of the dashboard compute, run in the browser."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.async_api import Page as Tab

from tests.integration.conftest import Hub

DAY_MS = 86_400_000


@pytest.fixture
async def page(tab: Tab, hub: Hub) -> Tab:
    await tab.goto(f"http://127.0.0.1:{hub.port}/-/dashboard")
    return tab


async def run(page: Tab, module: str, script: str, argument: Any = None) -> Any:
    """`script` is the body of a function of the module's exports, `m`, and the argument, `a`."""
    return await page.evaluate(
        f"async (a) => {{ const m = await import('/-/dashboard/{module}.js'); {script} }}", argument
    )


async def test_a_place_may_be_a_time_in_utc_a_distance_or_an_id(page: Tab) -> None:
    texts = {
        "2026-11-22": "2026-11-22T00:00:00",
        "2026-11-22 9:05": "2026-11-22T09:05:00",
        "2026-11-22T14:05:00.250Z": "2026-11-22T14:05:00.250",
        "2026-11-22T14:05:00+02:00": "2026-11-22T12:05:00",
        "01a202b2-c57c-7000-8000-00000000002a": "2026-11-22T13:43:14.684",
    }
    found = await run(page, "history", "return a.map((text) => m.placeOf(text).ms);", list(texts))
    expected = [datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp() * 1000 for each in texts.values()]
    assert found[:4] == expected[:4]
    assert found[4] == int("01a202b2c57c", 16)
    ago, clock = await run(
        page, "history", "return [m.placeOf('10m'), m.placeOf('23:59')].map(({ms}) => Date.now() - ms);"
    )
    assert 600_000 <= ago <= 660_000
    assert 0 <= clock <= DAY_MS
    wrong = "try { m.placeOf(a); } catch (error) { return error.message; }"
    for text in "12 o'clock", "2026-02-30":
        assert "is no place: give a time in UTC" in await run(page, "history", wrong, text)


async def test_sha256_is_that_of_every_length_wherever_it_is_cut(page: Tab) -> None:
    script = """
        return a.map((length) => {
          const [hash, data] = [new m.Sha256(), new Uint8Array(length).map((_, n) => n * 7)];
          for (let n = 0; n < length; n += 41) hash.update(data.subarray(n, n + 41));
          return hash.hex();
        });
    """
    lengths = [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000]
    expected = [hashlib.sha256(bytes(n * 7 % 256 for n in range(length))).hexdigest() for length in lengths]
    assert await run(page, "sha256", script, lengths) == expected


async def test_metrics_are_read_and_two_readings_give_rates_and_quantiles(page: Tab) -> None:
    def text(count: int) -> str:
        return (
            "# HELP events Events.\n"
            f'sent_total{{stream="live"}} {count}\nsent_total{{stream="a \\"b\\""}} 1.0\n'
            f'took_bucket{{le="0.1"}} {count}\ntook_bucket{{le="0.2"}} {2 * count}\n'
            f'took_bucket{{le="+Inf"}} {2 * count}\n'
        )

    script = """
        const [before, now] = a.map(m.parsed);
        return [m.sum(now, "sent_total"), m.sum(now, "absent"), m.rate(before, now, 2, "sent_total", {stream: "live"}),
          m.rate(now, before, 2, "sent_total"), m.quantile(0.75, before, now, "took"),
          m.quantile(0.5, now, now, "took")];
    """
    total, absent, rate, restarted, quantile, none = await run(page, "metrics", script, [text(10), text(30)])
    assert (total, absent, rate, restarted, none) == (31, None, 10, None, None)
    assert quantile == pytest.approx(0.15)


async def test_numbers_stay_as_the_event_has_them(page: Tab) -> None:
    """A JavaScript number holds 53 bits, and knows of no zero at the end."""
    text = '{"id":12345678901234567890,"price":1.10,"far":1e400,"n":[1,-2.5,0.1],"text":"1.10"}'
    assert await run(page, "exact", "return JSON.stringify(m.parsed(a));", text) == text
    assert await run(page, "exact", "return m.parsed(a).n;", text) == [1, -2.5, 0.1]
    row = "return m.rowOf((await import('/-/dashboard/exact.js')).parsed(a));"
    event = '{"id":"01a202b2-c57c-7000-8000-00000000002a","type":"a.b","who":null,"data":{"amount":1.10}}'
    assert (await run(page, "tail", row, event))["note"] == '{"amount":1.10}'

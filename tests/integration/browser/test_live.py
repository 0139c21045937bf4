"""The browser client's live stream as a loop, in a real Chromium."""

import pytest

from tests.integration.browser.conftest import Page
from tests.integration.browser.scripted import GAP, ScriptedHub, change, control, number, stream_error

BEGIN = """
    const hub = await open_({hub});
    window.live = hub.live({
        onGap: (gap) => gaps.push(gap), onConnectionChange: (connected) => changes.push(connected), onError: told,
    });
    window.step = () => new Promise((done) => { window.next = done; });
    window.loop = (async () => {
        for await (const event of live) {
            events.push(event);
            if ((await step()) === "break") break;
        }
        return "over";
    })().catch((error) => error.code);
"""


async def test_a_loop_gets_the_events_in_order_and_the_position_moves_behind_it(
    page: Page, scripted: ScriptedHub
) -> None:
    await page.run(BEGIN)
    request = await scripted.request()
    assert (request.path, request.query) == ("/my-org", "")
    await request.stream(b"retry: 6000\n\n", control("gap", GAP), change(1), change(2))
    await page.ids(1)
    assert await page.run("return [live.lastEventId, live.connected, gaps];") == ["", True, [GAP]]
    await page.run("next();")
    assert await page.ids(2) == [number(1), number(2)]
    assert await page.run("return live.lastEventId;") == number(1)


async def test_a_loop_goes_on_over_a_cut_after_what_is_handled(page: Page, scripted: ScriptedHub) -> None:
    await page.run(BEGIN)
    stream = await scripted.stream(change(1))
    await page.ids(1)
    stream.cut()
    await page.run("next();")
    request = await scripted.request()
    assert request.last_event_id == number(1)
    await request.stream(change(2))
    assert await page.ids(2) == [number(1), number(2)]


async def test_a_409_is_tried_again_when_the_hub_says(page: Page, scripted: ScriptedHub) -> None:
    await page.run(BEGIN)
    for _ in range(3):
        (await scripted.request()).refuse(409, "ACTIVE_CONSUMER_EXISTS", {"Retry-After": "6"})
    await scripted.request()
    assert all(6000 <= pause <= 7500 for pause in await page.run("return pauses;"))


async def test_silence_of_30_seconds_is_a_lost_connection(page: Page, scripted: ScriptedHub) -> None:
    await page.run(f"fastWatchdogs = true; {BEGIN}")
    stream = await scripted.stream()
    await stream.gone()
    request = await scripted.request()
    assert await page.run("return [...watched];") == [30_000]
    await request.gone()  # no answer comes in time either


async def test_a_loop_that_is_left_ends_the_connection(page: Page, scripted: ScriptedHub) -> None:
    await page.run(BEGIN)
    stream = await scripted.stream(change(1), change(2))
    await page.ids(1)
    await page.run("next('break');")
    await stream.gone()
    assert await page.run("return [await loop, live.connected, events.length];") == ["over", False, 1]


async def test_close_ends_the_loop(page: Page, scripted: ScriptedHub) -> None:
    await page.run(BEGIN)
    stream = await scripted.stream(change(1))
    await page.ids(1)
    await page.run("next();")
    await page.until("live.lastEventId")
    await page.run("live.close();")
    await stream.gone()
    assert await page.run("return [await loop, changes, pauses];") == ["over", [True], []]


@pytest.mark.parametrize("begun", [False, True])
async def test_a_refusal_for_good_is_thrown_into_the_loop(page: Page, scripted: ScriptedHub, begun: bool) -> None:
    await page.run(BEGIN)
    request = await scripted.request()
    if begun:
        (await request.stream(stream_error("DELETED", resumable=False))).end()
    else:
        request.refuse(403, "DELETED")
    assert await page.run("return loop;") == "DELETED"


async def test_what_on_error_throws_does_not_end_the_loop(page: Page, scripted: ScriptedHub) -> None:
    await page.run("""
        const hub = await open_({hub});
        const fail = (what) => { errors.push(what); throw new Error("of the handler"); };
        const live = hub.live({ onConnectionChange: () => fail("changed"), onError: () => fail("told") });
        (async () => { for await (const event of live) events.push(event); })().catch(() => errors.push("over"));
    """)
    await scripted.stream(change(1))
    assert await page.ids(1) == [number(1)]
    assert await page.run("return errors;") == ["changed", "told"]


async def test_a_token_that_has_expired_ends_the_loop_where_no_other_can_follow(
    page: Page, scripted: ScriptedHub
) -> None:
    await page.run(BEGIN)
    (await scripted.stream(stream_error("EXPIRED_TOKEN", resumable=True))).end()
    assert await page.run("return [await loop, pauses];") == ["EXPIRED_TOKEN", []]


async def test_a_stream_is_iterated_once(page: Page, scripted: ScriptedHub) -> None:
    await page.run(BEGIN)
    await scripted.stream()
    with pytest.raises(Exception, match="this stream was iterated before; make another one"):
        await page.run("for await (const event of live) {}")

"""The browser client's broadcast subscription, in a real Chromium, on a server that answers as the test says."""

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from tests.integration.browser.conftest import Page
from tests.integration.browser.scripted import (
    GAP,
    NO_CONTENT,
    PING,
    ScriptedHub,
    change,
    control,
    number,
    stream_error,
)

LISTEN = "await listen({hub});"

# -- what is asked


async def test_it_asks_for_the_broadcast_of_its_organization_with_its_token(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    request = await scripted.request()
    assert (request.path, request.query, request.token) == ("/my-org/events/stream", "envelope=change", "a-token")
    assert request.headers["Accept"] == "text/event-stream"
    assert (request.last_event_id, "Cookie" in request.headers) == (None, False)


async def test_options_become_parameters(page: Page, scripted: ScriptedHub) -> None:
    await page.run("""await listen({hub}, {
        types: ["ticket.*", "skus.create"],
        filters: { "resource.status_in": ["open", "new"], "delta.price.to_gt": 9.5 },
        resourceTypeEq: "skus", resourceIdIn: ["a b", "c&d"], pathPrefix: "/docs/", latest: "500ms", envelope: "event",
    });""")
    assert parse_qsl((await scripted.request()).query) == [
        ("types", "ticket.*,skus.create"),
        ("resource_type_eq", "skus"),
        ("resource_id_in", "a b,c&d"),
        ("path_prefix", "/docs/"),
        ("latest", "500ms"),
        ("resource.status_in", "open,new"),
        ("delta.price.to_gt", "9.5"),
        ("envelope", "event"),
    ]


async def test_it_begins_after_the_event_that_is_named(page: Page, scripted: ScriptedHub) -> None:
    await page.run("await listen({hub}, { lastEventId: argument });", number(7))
    assert (await scripted.request()).last_event_id == number(7)
    assert await page.run("return realtime.lastEventId;") == number(7)


async def test_a_hub_may_stand_below_a_path(page: Page, scripted: ScriptedHub) -> None:
    await page.run('const hub = new (await import({hub} + "/-/client.js")).StreamHub({hub} + "/hub/", '
                   '{ org: "my-org", token: "t" }); hub.realtime().onAny(() => {});')  # fmt: skip
    assert (await scripted.request()).path == "/hub/my-org/events/stream"


WRONG: dict[str, tuple[str, str]] = {
    "an unknown option": ("hub.realtime({ type: 'skus' })", "type is no option of realtime; it has types, "),
    "a filter without a value": ("hub.realtime({ filters: { a_eq: null } })", "a_eq is null; give text"),
    "no handler": ("hub.realtime().on('a')", "the handler is undefined; give a function"),
    "an empty type": ("hub.realtime().on('a,', () => {})", '"a,"; give types such as "skus.update"'),
    "no organization": ("new StreamHub('https://hub.example', { token: 't' })", "org is undefined; give the"),
    "no token": (
        "new StreamHub('https://hub.example', { org: 'o', token: ' ' })",
        "token is a text that is no token; give a JWT",
    ),
    "a position that no header can hold": ("hub.realtime({ lastEventId: 'ü' })", 'lastEventId is "ü"; give the id'),
    "no address": ("new StreamHub('http://', { org: 'o', token: 't' })", 'the hub\'s address is "http://"'),
    "no web address": ("new StreamHub('ftp://a', { org: 'o', token: 't' })", 'the hub\'s address is "ftp://a"'),
    "a password": ("new StreamHub('https://u:secret@a', { org: 'o', token: 't' })", "holds a user or a password"),
    "no options": ("new StreamHub('https://a')", "the options of StreamHub are undefined; give an object"),
    "a pause of nothing": ("new StreamHub('https://a', { org: 'o', token: 't', firstPause: 0 })", "firstPause is 0"),
}


async def test_a_wrong_argument_is_refused_at_once_and_told_which(page: Page) -> None:
    tries = ", ".join(f"{json.dumps(name)}: () => {code}" for name, (code, _) in WRONG.items())
    told = await page.run(f"""
        const {{ StreamHub }} = await import({{hub}} + "/-/client.js");
        const hub = new StreamHub("https://hub.example", {{ org: "o", token: "t" }});
        const told = {{}};
        for (const [name, run] of Object.entries({{ {tries} }})) {{
            try {{ run(); }} catch (error) {{ told[name] = `${{error.name}}: ${{error.message}}`; }}
        }}
        return told;
    """)
    assert {name for name, (_, part) in WRONG.items() if part not in told.get(name, "")} == set(), told
    assert "secret" not in json.dumps(told)
    assert all(text.startswith("TypeError: ") for text in told.values())


# -- handlers


async def test_a_handler_gets_the_events_of_its_types(page: Page, scripted: ScriptedHub) -> None:
    await page.run("""
        const realtime = await follow({hub});
        window.got = {};
        const several = ["ticket.created", "ticket.*", "*.created", "t*t.c*", ["skus.update", "a.b"], "a.b,*", "tic.*"];
        for (const types of several) {
            got[types] = [];
            realtime.on(types, (event) => got[types].push(event.resource.n));
        }
    """)
    types = ["ticket.created", "ticket.closed", "skus.update", "ticket", "ticket.created.late", "ticketxcreated"]
    await scripted.stream(*(change(n, type_) for n, type_ in enumerate(types)))
    assert await page.until("got['a.b,*'].length === 6 && got") == {
        "ticket.created": [0],
        "ticket.*": [0, 1],
        "*.created": [0],
        "t*t.c*": [0, 1],
        "skus.update,a.b": [2],
        "a.b,*": [0, 1, 2, 3, 4, 5],
        "tic.*": [],
    }


@pytest.mark.parametrize(
    "data",
    [
        {"id": number(1), "type": "skus.update", "timestamp": "2026-11-22T10:00:00.123456Z", "data": {}},
        {"event_id": number(1), "event_type": "skus.update", "timestamp": 1, "payload": {}},
        {"specversion": "1.0", "id": number(1), "type": "skus.update", "data": {}},
    ],
    ids=["event", "engine", "cloudevents"],
)
async def test_a_handler_finds_the_type_in_every_envelope(
    page: Page, scripted: ScriptedHub, data: dict[str, Any]
) -> None:
    await page.run("(await follow({hub})).on('skus.*', (event) => events.push(event));")
    await scripted.stream(f"id: {number(1)}\ndata: {json.dumps(data)}\n\n".encode())
    assert await page.until("events.length === 1 && events[0]") == data


async def test_a_handler_that_is_taken_off_is_not_called_again(page: Page, scripted: ScriptedHub) -> None:
    await page.run("""
        const realtime = await follow({hub});
        const off = realtime.on("*", (event) => { events.push(["once", event.resource.n]); off(); off(); });
        realtime.on("*", (event) => events.push(["always", event.resource.n]));
    """)
    await scripted.stream(change(1), change(2))
    assert await page.until("events.length >= 3 && events") == [["once", 1], ["always", 1], ["always", 2]]


async def test_a_handler_that_is_added_by_another_gets_the_next_event(page: Page, scripted: ScriptedHub) -> None:
    await page.run("""
        const realtime = await follow({hub});
        let off = realtime.onAny((event) => {
            off();
            realtime.onAny((event) => events.push(event.resource.n));
        });
    """)
    await scripted.stream(change(1), change(2))
    assert await page.until("events.length && events") == [2]


async def test_handlers_that_await_get_the_events_one_after_the_other(page: Page, scripted: ScriptedHub) -> None:
    await page.run("""
        const realtime = await follow({hub});
        const later = () => new Promise((resolve) => setTimeout(resolve, 500));
        for (const name of ["a", "b"]) {
            realtime.onAny(async (event) => {
                events.push(`${name}${event.resource.n} begins`);
                await later();
                events.push(`${name}${event.resource.n} ends`);
            });
        }
    """)
    await scripted.stream(change(1), change(2))
    order = [f"{name} {what}" for name in ("a1", "b1", "a2", "b2") for what in ("begins", "ends")]
    assert await page.until("events.length === 8 && events") == order


async def test_what_a_handler_throws_reaches_on_error_and_stops_no_other(page: Page, scripted: ScriptedHub) -> None:
    await page.run("""
        const realtime = await follow({hub});
        realtime.onAny(() => { throw new RangeError("at once"); });
        realtime.onAny(async () => { throw new RangeError("later"); });
        realtime.onError(() => { throw new Error("an error handler's own"); });
        realtime.onError(told);
        realtime.onAny((event) => events.push(event));
    """)
    await scripted.stream(change(1), change(2))
    await page.ids(2)
    errors = await page.run("return errors.map((error) => error.message);")
    assert errors == ["at once", "at once", "later", "later"] * 2


async def test_events_are_made_of_their_text_by_the_function_that_is_given(page: Page, scripted: ScriptedHub) -> None:
    """JSON.parse would round numbers that a JavaScript number does not hold."""
    await page.run("await listen({hub}, {}, { parse: (text) => ({ id: JSON.parse(text).id, text }) });")
    await scripted.stream(change(1))
    await page.ids(1)
    assert '"id"' in (await page.run("return events[0].text;"))


async def test_an_event_that_is_no_json_is_an_error_and_the_next_one_comes(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    await scripted.stream(b"id: 1\ndata: {broken\n\n", change(2))
    assert await page.ids(1) == [number(2)]
    assert (await page.run("return errors;"))[0]["code"] == "INVALID_JSON"


async def test_a_gap_reaches_its_handlers_in_its_place(page: Page, scripted: ScriptedHub) -> None:
    await page.run(f"{LISTEN} realtime.onGap(() => events.push('gap'));")
    await scripted.stream(control("gap", GAP), change(2))
    assert (await page.until("events.length === 2 && events"))[0] == "gap"
    assert await page.run("return gaps;") == [GAP]


async def test_comments_heartbeats_and_control_frames_of_a_later_hub_are_no_events(
    page: Page, scripted: ScriptedHub
) -> None:
    await page.run(LISTEN)
    control_frames = PING, b"event: heartbeat\ndata: 2026-11-22T10:00:00.000Z\n\n", control("later", {"type": "later"})
    await scripted.stream(*control_frames, change(1), *control_frames, change(2))
    assert await page.ids(2) == [number(1), number(2)]


async def test_text_comes_as_it_was_sent_wherever_it_is_cut(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    stream = await scripted.stream()
    frame = change(1, who="豆腐 €\u2028\U0001f600").replace(b"\n", b"\r\n")
    for byte in frame:
        await stream.send(bytes([byte]))
    assert (await page.until("events.length && events[0]"))["who"] == "豆腐 €\u2028\U0001f600"


# -- the position


async def test_the_position_moves_once_the_handlers_are_done(page: Page, scripted: ScriptedHub) -> None:
    await page.run("""
        const realtime = await follow({hub});
        realtime.onAny((event) => new Promise((done) => { events.push(event); window.done = done; }));
    """)
    stream = await scripted.stream(change(1), change(2))
    await page.ids(1)
    assert await page.run("return realtime.lastEventId;") == ""
    await page.run("done();")
    await page.ids(2)
    assert await page.run("return realtime.lastEventId;") == number(1)
    stream.cut()
    await page.run("done();")
    assert (await scripted.request()).last_event_id == number(2)


async def test_a_subscription_that_is_destroyed_in_a_handler_has_not_handled_the_event(
    page: Page, scripted: ScriptedHub
) -> None:
    await page.run("""
        const realtime = await follow({hub});
        realtime.onAny((event) => { events.push(event); if (event.resource.n === 2) realtime.destroy(); });
        realtime.onAny((event) => events.push(event));
    """)
    stream = await scripted.stream(change(1), change(2), change(3))
    await stream.gone()
    assert await page.ids(3) == [number(1), number(1), number(2)]
    assert await page.run("return realtime.lastEventId;") == number(1)


async def test_an_event_that_was_cut_comes_again_and_once(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    stream = await scripted.stream(change(1), change(2)[:-1])
    await page.ids(1)
    stream.cut()
    request = await scripted.request()
    assert request.last_event_id == number(1)
    await request.stream(change(2), change(3))
    assert await page.ids(3) == [number(1), number(2), number(3)]


async def test_a_slow_handler_holds_back_the_server(page: Page, scripted: ScriptedHub) -> None:
    await page.run("""
        const realtime = await follow({hub});
        realtime.onAny((event) => new Promise((done) => { events.push(event.id); window.done = done; }));
    """)
    stream = await scripted.stream(change(1))
    await page.until("events.length")
    filler = change(2, filler="x" * 1_000_000)
    sent = 0
    while sent < 300 and await stream.takes(filler):
        sent += 1
    assert sent < 100


# -- coming back


async def test_after_a_lost_connection_it_comes_back_with_the_last_id(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    stream = await scripted.stream(change(1))
    await page.ids(1)
    assert await page.run("return realtime.connected;") is True
    stream.end()
    request = await scripted.request()
    assert request.last_event_id == number(1)
    assert await page.run("return realtime.connected;") is False
    await request.stream(change(2))
    assert await page.ids(2) == [number(1), number(2)]
    assert await page.run("return changes;") == [True, False, True]
    assert await page.run("return errors;") == []


async def test_pauses_double_from_1_to_30_seconds_with_jitter(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    for _ in range(8):
        (await scripted.request()).refuse(502)
    await scripted.request()
    pauses = await page.run("return pauses;")
    expected = [1, 2, 4, 8, 16, 30, 30, 30]
    assert all(0.75 <= pause / 1000 / bound <= 1.25 for pause, bound in zip(pauses, expected, strict=True)), pauses
    assert len({pause / bound for pause, bound in zip(pauses, expected, strict=True)}) > 1


async def test_an_event_makes_pauses_begin_again(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    for _ in range(3):
        (await scripted.request()).refuse(502)
    (await scripted.stream(change(1))).end()
    await scripted.request()
    assert 750 <= (await page.run("return pauses;"))[3] <= 1250


async def test_a_connection_that_lasted_makes_pauses_begin_again(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    for _ in range(3):
        (await scripted.request()).refuse(502)
    stream = await scripted.stream(PING)
    await page.until("realtime.connected")
    await page.run("const now = performance.now.bind(performance); performance.now = () => now() + 10_001;")
    stream.end()
    await scripted.request()
    assert 750 <= (await page.run("return pauses;"))[3] <= 1250


async def test_a_connection_that_brought_nothing_makes_pauses_longer(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    for _ in range(3):
        (await scripted.stream(PING)).end()
    await scripted.request()
    assert (await page.run("return pauses;"))[2] >= 3000


async def test_the_servers_retry_is_the_least_pause(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    (await scripted.stream(b"retry: 6000\n\n", change(1))).end()
    (await scripted.request()).refuse(502)
    await scripted.request()
    assert all(6000 <= pause <= 7500 for pause in await page.run("return pauses;"))


@pytest.mark.parametrize("status", [425, 429, 500, 503])
async def test_a_refusal_for_now_is_tried_again_after_what_it_asks(
    page: Page, scripted: ScriptedHub, status: int
) -> None:
    await page.run(LISTEN)
    (await scripted.request()).refuse(status, "UNAVAILABLE", {"Retry-After": "17"})
    await (await scripted.request()).stream(change(1))
    await page.ids(1)
    assert 17_000 <= (await page.run("return pauses;"))[0] <= 17_000 * 1.25
    assert await page.run("return errors;") == []


async def test_a_retry_after_may_be_a_date_and_has_a_limit(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    (await scripted.request()).refuse(503, headers={"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"})
    await page.until("pauses.length")
    assert 600_000 <= (await page.run("return pauses;"))[0] <= 750_000


async def test_silence_of_75_seconds_is_a_lost_connection(page: Page, scripted: ScriptedHub) -> None:
    await page.run(f"fastWatchdogs = true; {LISTEN}")
    stream = await scripted.stream(change(1))
    await stream.gone()
    request = await scripted.request()
    assert request.last_event_id == number(1)
    assert await page.run("return [...watched];") == [75_000]
    assert "no byte came in 75 s" in (await page.run("return warnings;"))[0]


async def test_pings_keep_a_connection(page: Page, scripted: ScriptedHub) -> None:
    """Each begins the 75 seconds again."""
    await page.run(LISTEN)
    stream = await scripted.stream()
    await page.until("realtime.connected")
    for _ in range(3):
        before = await page.run("return watches;")
        await stream.send(PING)
        await page.until(f"watches > {before}")
    assert scripted.asked == 1


async def test_a_stream_error_that_can_be_resumed_is_a_lost_connection(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    (await scripted.stream(change(1), stream_error("DRAINING", resumable=True))).end()
    request = await scripted.request()
    assert request.last_event_id == number(1)
    assert await page.run("return errors;") == []


# -- the end


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_what_is_refused_for_good_is_an_error_and_not_asked_again(
    page: Page, scripted: ScriptedHub, status: int
) -> None:
    await page.run(LISTEN)
    (await scripted.request()).refuse(status, "MISSING_SCOPE")
    (error,) = await page.until("errors.length && errors")
    assert (error["name"], error["status"], error["code"]) == ("StreamHubError", status, "MISSING_SCOPE")
    assert error["message"] == "MISSING_SCOPE: As the test says."
    assert (scripted.asked, await page.run("return [pauses.length, realtime.connected];")) == (1, [0, False])


async def test_a_stream_error_that_cannot_be_resumed_is_an_error_behind_its_events(
    page: Page, scripted: ScriptedHub
) -> None:
    await page.run(LISTEN)
    (await scripted.stream(change(1), stream_error("DELETED", resumable=False))).end()
    (error,) = await page.until("errors.length && errors")
    assert (error["code"], await page.ids(1)) == ("DELETED", [number(1)])
    assert await page.run("return [changes, pauses];") == [[True, False], []]


async def test_an_answer_that_is_no_stream_is_an_error(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    (await scripted.request()).reply(web.Response(text="<h1>Welcome</h1>", content_type="text/html"))
    (error,) = await page.until("errors.length && errors")
    assert error["detail"] == "the answer is text/html, not text/event-stream: is this a hub?"


async def test_a_redirect_is_not_followed(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    (await scripted.request()).refuse(307, headers={"Location": "/elsewhere"})
    (error,) = await page.until("errors.length && errors")
    assert (error["code"], scripted.asked) == ("REDIRECTED", 1)


async def test_no_content_is_the_end(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    (await scripted.request()).reply(web.Response(status=NO_CONTENT))
    await page.until("(() => { try { realtime.onAny(() => {}); } catch (error) { return error.message; } })()")
    assert await page.run("return [errors, pauses];") == [[], []]


async def test_without_handlers_errors_and_gaps_go_to_the_console(page: Page, scripted: ScriptedHub) -> None:
    await page.run("""
        console.error = (error) => errors.push(error.message);
        const hub = await open_({hub});
        hub.realtime().onAny(() => { throw new Error("a handler's"); });
    """)
    await scripted.stream(control("gap", GAP), change(1))
    assert await page.until("errors.length && errors") == ["a handler's"]
    assert "/my-org/replay?date_from=a&date_to=b" in (await page.run("return warnings;"))[0]


async def test_destroy_ends_the_connection_and_calls_no_handler_again(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    stream = await scripted.stream(change(1))
    await page.ids(1)
    await page.run("realtime.destroy(); realtime.destroy();")
    await stream.gone()
    assert await page.run("return [realtime.connected, changes, errors, pauses];") == [False, [True], [], []]
    with pytest.raises(Exception, match="this subscription has ended; make another one"):
        await page.run("realtime.onAny(() => {});")


async def test_destroy_ends_a_pause(page: Page, scripted: ScriptedHub) -> None:
    await page.run(LISTEN)
    (await scripted.request()).refuse(503, headers={"Retry-After": "500"})
    await page.until("pauses.length")
    await page.run("realtime.destroy();")
    await page.run("window.another = (await open_({hub})).realtime(); another.onAny(() => {});")
    await scripted.request()
    assert scripted.asked == 2


# -- tokens


async def test_a_token_function_is_asked_before_each_connection(page: Page, scripted: ScriptedHub) -> None:
    await page.run("let n = 0; await listen({hub}, {}, { token: async () => `token-${++n}` });")
    request = await scripted.request()
    assert request.token == "token-1"
    (await request.stream(change(1), stream_error("EXPIRED_TOKEN", resumable=True))).end()
    request = await scripted.request()
    assert (request.token, request.last_event_id) == ("token-2", number(1))


async def test_a_token_function_is_asked_again_at_once_where_the_token_has_expired(
    page: Page, scripted: ScriptedHub
) -> None:
    await page.run("let n = 0; await listen({hub}, {}, { token: () => `token-${++n}` });")
    (await scripted.request()).refuse(401, "EXPIRED_TOKEN")
    request = await scripted.request()
    assert (request.token, await page.run("return pauses;")) == ("token-2", [])
    request.refuse(401, "EXPIRED_TOKEN")
    assert (await page.until("errors.length && errors"))[0]["code"] == "EXPIRED_TOKEN"
    assert scripted.asked == 2


async def test_a_token_that_has_expired_is_an_error_where_no_function_makes_another(
    page: Page, scripted: ScriptedHub
) -> None:
    await page.run(LISTEN)
    (await scripted.request()).refuse(401, "EXPIRED_TOKEN")
    assert (await page.until("errors.length && errors"))[0]["code"] == "EXPIRED_TOKEN"
    assert scripted.asked == 1


async def test_a_token_function_that_fails_is_an_error_and_asked_again(page: Page, scripted: ScriptedHub) -> None:
    await page.run("""
        const answers = [() => { throw new Error("no session"); }, () => Promise.reject("offline"), () => undefined,
            () => "<h1>Please log in</h1>"];
        await listen({hub}, {}, { token: () => (answers.shift() ?? (() => "at-last"))() });
    """)
    assert (await scripted.request()).token == "at-last"
    errors = await page.run("return errors.map((error) => error.message);")
    assert errors == [
        "TOKEN_FAILED: the token function failed: no session",
        "TOKEN_FAILED: the token function failed: offline",
        "TOKEN_FAILED: the token function returned a value of type undefined; return a JWT or an API key",
        "TOKEN_FAILED: the token function returned a text that is no token; return a JWT or an API key",
    ]

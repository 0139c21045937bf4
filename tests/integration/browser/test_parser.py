"""The browser client's parser against the HTML standard, and against Chromium's own."""

import random

from aiohttp import web

from tests.integration.browser.conftest import Page
from tests.integration.browser.scripted import ScriptedHub
from tests.support.event_streams import STREAMS

PARSED = """
    const { EventParser } = await import({hub} + "/-/client.js");
    window.parsed = (bytes, size) => {
        const [parser, messages] = [new EventParser(), []];
        for (let at = 0; at < bytes.length; at += size) {
            messages.push(...parser.feed(Uint8Array.from(bytes.slice(at, at + size))));
        }
        return messages.map(({ event, lastEventId, data }) => [event, lastEventId, data]);
    };
"""


async def test_streams_are_read_as_the_standard_says_in_chunks_of_any_size(page: Page) -> None:
    await page.run(PARSED)
    found = await page.run(
        "return argument.map((bytes) => [1, 2, 3, 5, 1000].map((size) => parsed(bytes, size)));",
        [list(stream) for stream, _ in STREAMS.values()],
    )
    wrong = {
        name: readings
        for (name, (_, expected)), readings in zip(STREAMS.items(), found, strict=True)
        if any(reading != [list(message) for message in expected] for reading in readings)
    }
    assert wrong == {}


async def test_random_streams_are_read_as_by_the_browsers_own_event_source(page: Page, scripted: ScriptedHub) -> None:
    dice = random.Random(13)
    pieces = [
        b"data: a", b"data:b", b"data", b"data: \xe2\x82\xac", b"\xef\xbb\xbf", b": c", b"event: x", b"event", b"id: 1",
        b"id: 2\0", b"id", b"id: 3", b"other: d", b"\xe2\x82",
        b"\n", b"\n", b"\n", b"\r", b"\r\n", b"\r\n", b"\n\n", b"\r\r",
    ]  # fmt: skip
    streams = [b"".join(dice.choices(pieces, k=60)) + b"\n\ndata: end\n\n" for _ in range(40)]
    await page.run(PARSED)
    for stream in streams:
        await page.run("""
            window.own = new Promise((resolve) => {
                const [source, messages] = [new EventSource({hub} + "/"), []];
                const take = ({ type, lastEventId, data }) => messages.push([type, lastEventId, data]);
                source.addEventListener("x", take);
                source.addEventListener("message", take);
                source.addEventListener("error", () => { source.close(); resolve(messages); });
            });
        """)
        request = await scripted.request()
        request.reply(web.Response(body=stream, content_type="text/event-stream"))
        own = await page.run("return own;")
        assert own[-1][2] == "end"
        ours = await page.run("return parsed(argument, 3);", list(stream))
        assert [each for each in ours if each[0] in ("x", "message")] == own, stream


async def test_retry_is_taken_where_it_is_digits(page: Page) -> None:
    lines = ["6000", "0", "-1", "1.5", " 5", "5s", "", "٣", "9" * 5000]
    found = await page.run(
        """
        const { EventParser } = await import({hub} + "/-/client.js");
        return argument.map((value) => {
            const parser = new EventParser();
            parser.feed(new TextEncoder().encode(`retry: ${value}\\n`));
            return parser.retry ?? null;
        });
        """,
        lines,
    )
    assert found == [6000, 0, *[None] * 7]


async def test_the_last_id_is_that_of_a_message_that_is_whole(page: Page) -> None:
    found = await page.run("""
        const { EventParser } = await import({hub} + "/-/client.js");
        const [parser, encoder] = [new EventParser("0"), new TextEncoder()];
        return ["", "id: 1\\ndata: a\\n", "\\n", "id: 2\\n", "\\n"].map((text) => {
            parser.feed(encoder.encode(text));
            return parser.lastEventId;
        });
    """)
    assert found == ["0", "0", "1", "1", "2"]


async def test_a_message_has_a_greatest_length(page: Page) -> None:
    found = await page.run("""
        const { EventParser } = await import({hub} + "/-/client.js");
        const [parser, chunk] = [new EventParser(), new Uint8Array(2 ** 23).fill(97)];
        parser.feed(new TextEncoder().encode("data: "));
        for (let n = 1; n < 10; n++) {
            try { parser.feed(chunk); } catch (error) { return [n, error.message]; }
        }
    """)
    assert found == [8, "a message of over 67108864 characters"]

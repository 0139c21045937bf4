"""What stands before every handler: turns, pace, idle connections, HTTP itself, and what the access log says."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from streamhub.core import sse
from streamhub.core.formats import NDJSON
from streamhub.gateway import places
from streamhub.health.facts import Kept
from streamhub.leases.node import boottime
from streamhub.web import connection
from streamhub.web.problems import ApiError, Fault
from streamhub.web.turns import Turns
from tests.integration.conftest import Client, Hub, StartHub
from tests.support.hub import until

SPLITTING = "\x85\u2028\u2029"


async def raw(port: int, text: bytes, within: float = 10) -> bytes:
    """All that comes for these bytes, to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    try:
        return await asyncio.wait_for(reader.read(), within)
    finally:
        writer.close()


# -- turns


async def test_a_herd_of_organizations_on_few_connections_is_all_let_in(
    start_hub: StartHub, token: Callable[..., str]
) -> None:
    """More at once than the pool has connections."""
    tokens = [token(organization__id=f"org_{n}", organization__slug=f"org-{n}") for n in range(100)]
    hub = await start_hub()

    async def opened(number: int) -> int:
        return (await hub.open(f"/org-{number}", token=tokens[number])).status

    assert await asyncio.gather(*map(opened, range(100))) == [200] * 100


async def test_while_the_pool_is_busy_a_request_waits_its_turn(hub: Hub, organization: int) -> None:
    turns = hub.gateway.turns = Turns(1)
    async with turns.turn():
        opening = asyncio.create_task(hub.open("/my-org"))
        await hub.eventually(lambda: asyncio.sleep(0, turns.waiting == 1))
    assert (await opening).status == 200


async def test_one_whose_turn_does_not_come_is_told_that_the_gateway_is_busy(hub: Hub, organization: int) -> None:
    turns = hub.gateway.turns = Turns(1, waits=0.05)
    async with turns.turn():
        answer = await hub.get("/my-org")
    assert (answer.status, answer.codes, answer.headers["retry-after"]) == (503, ["UNAVAILABLE"], "5")
    assert "busy" in answer.errors[0]["detail"]


async def test_a_request_that_waited_until_the_database_went_away_is_told_that(hub: Hub, organization: int) -> None:
    turns = hub.gateway.turns = Turns(1)
    async with turns.turn():
        opening = asyncio.create_task(hub.get("/my-org"))
        await hub.eventually(lambda: asyncio.sleep(0, turns.waiting == 1))
        hub.gateway.node._trust.lost()
    assert "cannot be reached" in (await opening).errors[0]["detail"]


async def test_a_database_that_answers_others_is_not_said_to_be_out_of_reach(
    hub: Hub, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamhub.leases.held.TIMEOUT", 0.3)
    async with hub.history.pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE streamhub_hub.streams")
        answer = await hub.get("/my-org")
    assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])
    assert "busy" in answer.errors[0]["detail"]


async def test_a_connection_that_takes_long_to_make_is_waited_for_while_the_database_answers_others(
    hub: Hub, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, tried = places.find, 0

    async def late(*asked: Any) -> Any:
        nonlocal tried
        tried += 1
        if tried < 3:
            began = boottime()
            await until(lambda: hub.gateway.node.renewed_since(began), "the database answers others")
            raise TimeoutError
        return await find(*asked)

    monkeypatch.setattr(places, "find", late)
    assert (await hub.open("/my-org")).status == 200


# -- pace


async def test_who_shows_no_token_is_answered_at_a_pace_and_a_stream_beside_at_once(
    hub: Hub, organization: int
) -> None:
    stream = await hub.live()
    asking = [asyncio.create_task(_ask_without_pause(hub.port, path)) for path in ("/-/metrics", "/nothing") * 25]
    began = time.monotonic()
    late = []
    for _ in range(20):
        sent = time.monotonic()
        await hub.history.append(organization)
        assert await stream.frame() is not None
        late.append(time.monotonic() - sent)
    elapsed = time.monotonic() - began
    answers = 0
    for task in asking:
        task.cancel()
    for counted in await asyncio.gather(*asking):
        answers += counted
    assert answers <= 50 + 250 * (elapsed + 1)
    assert sorted(late)[10] < 1
    assert hub.gateway.node.trusted


async def _ask_without_pause(port: int, path: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = 0
    try:
        while True:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length: ")[2].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            answers += 1
    except asyncio.CancelledError:
        return answers
    finally:
        writer.close()


async def test_however_many_ask_for_metrics_the_database_is_asked_once_a_second(hub: Hub) -> None:
    asked = 0
    find = hub.gateway.facts.state._find

    def counted() -> Any:
        nonlocal asked
        asked += 1
        return find()

    hub.gateway.facts.state._find = counted
    began = time.monotonic()
    await asyncio.gather(*(hub.open(path, token="") for path in ("/-/metrics", "/-/ready") * 25))
    assert 1 <= asked <= 2 + time.monotonic() - began


# -- idle connections


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /-/healthy HT",
        b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n",
        b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\nGET /-/healthy HT",
    ],
)
async def test_a_connection_without_a_whole_request_is_closed(
    start_hub: StartHub, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    assert connection.IDLE_FOR < 60
    monkeypatch.setattr(connection, "IDLE_FOR", 0.3)
    hub = await start_hub()
    answer = await raw(hub.port, said)
    assert answer.count(b"HTTP/1.1 200") == said.count(b"\r\n\r\n")


async def test_a_header_that_trickles_is_closed_all_the_same(
    start_hub: StartHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "IDLE_FOR", 0.3)
    hub = await start_hub()
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    ended = asyncio.create_task(reader.read())
    writer.write(b"GET /-/healthy HTTP/1.1\r\n")
    async with asyncio.timeout(10):
        while not ended.done():
            writer.write(b"X: y\r\n")
            await asyncio.wait({ended}, timeout=0.05)
    writer.close()


async def huge() -> bytes:
    """An answer that fits into no socket's buffer."""
    return bytes(32_000_000)


async def test_a_client_that_takes_no_answer_is_closed(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TAKEN_WITHIN", 0.3)
    hub = await start_hub()
    hub.gateway.exposition = Kept(huge)
    client = await Client.open(hub.port, "/-/metrics", receive_buffer=4096)
    await hub.eventually(lambda: asyncio.sleep(0, hub.gateway.connections.open == 0))
    client.close()


async def test_a_stream_is_not_idle(start_hub: StartHub, organization: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_FOR", 0.2)
    hub = await start_hub()
    stream = await hub.live()
    assert await stream.quiet(0.8)
    await hub.history.append(organization)
    assert await stream.frame() is not None


# -- bounds of connections


async def test_at_the_limit_of_open_files_streams_are_refused_and_ready_answers(hub: Hub, organization: int) -> None:
    hub.gateway.connections.most = 32 + 3
    held = [await Client.open(hub.port, "/-/healthy") for _ in range(3)]
    answer = await hub.get("/my-org")
    assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])
    assert "limit of open files" in answer.errors[0]["detail"]
    assert answer.headers["connection"] == "close"
    ready = await hub.open("/-/ready", token="")
    assert (ready.status, ready.headers["connection"]) == (200, "close")
    for client in held:
        client.close()
    await hub.eventually(lambda: asyncio.sleep(0, hub.gateway.connections.open <= 1))
    assert (await hub.open("/my-org")).status == 200


async def test_over_the_bound_of_connections_without_a_token_the_next_one_is_refused_in_the_one_format(
    hub: Hub,
) -> None:
    hub.gateway.connections.most_anonymous = 2
    for _ in range(2):
        await Client.open(hub.port, "/-/healthy")
    answer = await hub.get("/my-org")
    assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])
    assert "without a valid token" in answer.errors[0]["detail"]


# -- HTTP


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
async def test_head_is_answered_on_the_health_checks(hub: Hub, path: str) -> None:
    answer = await raw(hub.port, f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/my-org", "/my-org/replay", "/my-org/status", "/my-org/replays", "/-/metrics"])
async def test_head_is_405_everywhere_else_and_takes_no_lease(hub: Hub, organization: int, path: str) -> None:
    assert (await hub.open(path, method="HEAD")).status == 405
    assert (await hub.open("/my-org")).status == 200


@pytest.mark.parametrize("version", ["2.0", "3.0", "1.9", "0.9"])
async def test_another_version_of_http_is_refused_in_the_one_format(hub: Hub, version: str) -> None:
    answer = await raw(hub.port, f"GET /-/healthy HTTP/{version}\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert b'"code":"INVALID_REQUEST"' in answer


@pytest.mark.parametrize(
    "text",
    [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
     b"GET / HTTP/1.1\r\nBad Header\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
     b"GET /-/healthy HTTP/1.1\r\nExpect: x\r\nConnection: close\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"],
)  # fmt: skip
async def test_no_refusal_names_what_the_server_is_made_with(hub: Hub, text: bytes) -> None:
    answer = (await raw(hub.port, text)).lower()
    assert b"server: streamhub\r\n" in answer
    assert b"python" not in answer
    assert b"aiohttp" not in answer


async def test_an_unexpected_failure_does_not_either(
    hub: Hub, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamhub.gateway.places.find", None)
    answer = await hub.get("/my-org")
    assert (answer.status, answer.headers["server"]) == (500, "streamhub")


# -- what is said in a token


@pytest.mark.parametrize("length", [256, 2_700, 8_000])
@pytest.mark.parametrize("path", ["/my-org", "/my-org/status", "/my-org/replays", "/my-org/replay?resource_id_in=a"])
async def test_an_organization_id_that_is_too_long_is_an_invalid_token(hub: Hub, path: str, length: int) -> None:
    answer = await hub.get(path, token=hub.token(organization__id="x" * length))
    assert (answer.status, answer.codes) == (401, ["INVALID_TOKEN"])
    assert str(length) in answer.errors[0]["detail"]


@pytest.mark.parametrize("letter", ["x", "ü", "語", "😀"])
async def test_the_longest_organization_id_has_a_stream_whatever_its_letters(hub: Hub, letter: str) -> None:
    assert (await hub.open("/my-org", token=hub.token(organization__id=letter * 255))).status == 200


def test_no_frame_and_no_refusal_has_a_raw_line_break_of_unicode() -> None:
    refusal = ApiError(Fault("UNKNOWN_PARAMETER", SPLITTING, {"parameter": SPLITTING})).body()
    made = [refusal, sse.control("gap", {"id": SPLITTING}), NDJSON.control("gap", {"id": SPLITTING})]
    for each in made:
        assert not set(SPLITTING) & set(each.decode())
    assert json.loads(refusal)["errors"][0]["detail"] == SPLITTING


# -- the access log


async def test_a_stream_has_a_line_when_it_begins_and_one_when_it_ends_with_the_clients_address(
    hub: Hub, organization: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "aiohttp.access"):
        stream = await hub.live()
        assert caplog.messages == ["127.0.0.1 GET /my-org 200 stream begins"]
        stream.close()
        await hub.eventually(lambda: asyncio.sleep(0, len(caplog.messages) == 2))
    assert caplog.messages[1].startswith("127.0.0.1 GET /my-org 200 ")


async def test_a_refusal_has_a_line_and_the_operators_pages_have_none(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "aiohttp.access"):
        await hub.get("/-/healthy")
        await hub.get("/-/nothing")
        await hub.get("/my-org", token="nonsense")
        await hub.eventually(lambda: asyncio.sleep(0, bool(caplog.messages)))
    (line,) = caplog.messages
    assert line.startswith("127.0.0.1 GET /my-org 401 ")


async def test_the_start_says_how_many_streams_the_open_files_allow(
    start_hub: StartHub, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "streamhub"):
        hub = await start_hub()
    assert f"up to {hub.gateway.connections.most_streams} streams" in caplog.text

"""API keys as tokens: at the door of a route that asks for a scope, and of one that asks for an integration."""

import asyncio
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from aiohttp import web

from streamhub import organizations
from streamhub.gateway import app
from streamhub.gateway.admission import admitted
from streamhub.gateway.gateway import GATEWAY
from streamhub.gateway.streams.stream import Kind, Stream, stream_error
from streamhub.keys import key, lookup, store
from streamhub.web.route import ORGANIZATION, Route
from streamhub.web.scopes import events_read
from tests.integration.conftest import Hub, StartHub

PATH = "/my-org/scoped"


class Quiet(Stream):
    """Nothing ever comes on it."""

    kind: ClassVar[Kind] = "live"

    @property
    def state(self) -> str:
        return "live"

    async def feed(self) -> None:
        await asyncio.Event().wait()


async def told(request: web.Request) -> web.Response:
    async with admitted(request, events_read) as (_, claims, slug, _):
        return web.json_response({"id": claims.organization_id, "slug": slug, "test": claims.test})


async def stream(request: web.Request) -> web.StreamResponse:
    async with admitted(request, events_read) as (gateway, claims, _, _):
        expires_at = claims.expires_at
    stream = Quiet(request, gateway.metrics.live_sent)
    with request.app[GATEWAY].entered(stream):
        await stream.channel.open(request, b": open\n\n", expires_at)
        await stream.channel.end(stream_error(await stream.fed()))
    return stream.channel.response


@pytest.fixture
async def hub(start_hub: StartHub, organization: int, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """With two routes that ask for a scope."""
    scoped = (Route("GET", f"{ORGANIZATION}/scoped", told), Route("GET", f"{ORGANIZATION}/scoped/stream", stream))
    monkeypatch.setattr(app, "ROUTES", (*app.ROUTES, *scoped))
    return await start_hub()


async def made(
    hub: Hub, *scopes: str, slug: str = "my-org", test: bool = False, lifetime: timedelta | None = None
) -> str:
    async with hub.history.pool.acquire() as connection:
        organization = await organizations.require(connection, slug)
        return await store.create(connection, organization, scopes or ["events:read"], test=test, lifetime=lifetime)


async def revoke(hub: Hub, token: str) -> None:
    async with hub.history.pool.acquire() as connection:
        await store.revoke(connection, token[6:18])


@pytest.mark.parametrize("test", [False, True])
async def test_a_key_with_the_scope_opens_its_organization_in_its_environment(hub: Hub, test: bool) -> None:
    answer = await hub.get(PATH, token=await made(hub, "analytics:read", "events:write", test=test))
    assert answer.status == 200
    assert answer.body == web.json_response({"id": "org_1", "slug": "my-org", "test": test}).body


async def test_a_key_without_the_scope_is_told_which_it_lacks(hub: Hub) -> None:
    answer = await hub.get(PATH, token=await made(hub, "events:write"))
    assert (answer.status, answer.codes) == (403, ["MISSING_SCOPE"])
    assert "events:read" in answer.errors[0]["detail"]


async def test_a_key_opens_no_other_organization(hub: Hub) -> None:
    await hub.history.register("org_2", "other")
    answer = await hub.get(PATH, token=await made(hub, slug="other"))
    assert (answer.status, answer.codes) == (403, ["ORGANIZATION_MISMATCH"])


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/my-org"), ("DELETE", "/my-org"), ("GET", "/my-org/status"), ("GET", "/my-org/replay"),
     ("GET", "/my-org/replays"), ("DELETE", "/my-org/replays/x")],
)  # fmt: skip
async def test_what_needs_an_integration_no_key_opens(hub: Hub, method: str, path: str) -> None:
    answer = await hub.get(path, method=method, token=await made(hub, *store.SCOPES))
    assert (answer.status, answer.codes) == (401, ["NOT_INTEGRATION"])


@pytest.mark.parametrize(
    "changed",
    [lambda _: key.new(), lambda made: made[:19] + key.new()[19:], lambda made: made[:-1], lambda made: made + "="],
    ids=["unknown", "of another secret", "cut", "longer"],
)
async def test_what_is_no_key_of_this_hub_is_an_invalid_token(hub: Hub, changed: Callable[[str], str]) -> None:
    token = changed(await made(hub))
    answer = await hub.get(PATH, token=token)
    assert (answer.status, answer.codes, answer.headers["www-authenticate"]) == (401, ["INVALID_TOKEN"], "Bearer")
    assert token.encode() not in answer.body


async def test_a_revoked_key_is_told_so(hub: Hub) -> None:
    token = await made(hub)
    await revoke(hub, token)
    answer = await hub.get(PATH, token=token)
    assert answer.codes == ["INVALID_TOKEN"]
    assert "revoked" in answer.errors[0]["detail"]


async def test_that_a_key_is_revoked_is_told_to_its_holder_alone(hub: Hub) -> None:
    token = await made(hub)
    await revoke(hub, token)
    guessed = await hub.get(PATH, token=token[:19] + key.new()[19:])
    assert guessed.codes == ["INVALID_TOKEN"]
    assert "revoked" not in guessed.errors[0]["detail"]


async def test_a_revocation_counts_for_requests_within_seconds(hub: Hub) -> None:
    token = await made(hub)
    assert (await hub.get(PATH, token=token)).status == 200
    await revoke(hub, token)

    async def is_refused() -> bool:
        return (await hub.get(PATH, token=token)).status == 401

    await hub.eventually(is_refused)


async def test_an_expired_key_is_told_apart(hub: Hub) -> None:
    token = await made(hub, lifetime=timedelta(milliseconds=1))
    answer = await hub.get(PATH, token=token)
    assert answer.codes == ["EXPIRED_TOKEN"]


async def ended(hub: Hub, token: str, *, do: Callable[[], Any]) -> Any:
    """What a stream that this key opened is told at its end, once `do` was done."""
    client = await hub.open(f"{PATH}/stream", token=token)
    assert await client.block() == b": open\n\n"
    await do()
    (last,) = await client.rest()
    assert last.event == "stream_error"
    return last.data


async def test_a_stream_ends_once_its_key_is_revoked_and_may_be_resumed(hub: Hub) -> None:
    token = await made(hub)
    data = await ended(hub, token, do=lambda: revoke(hub, token))
    assert (data["code"], data["resumable"]) == ("EXPIRED_TOKEN", True)


async def test_a_stream_ends_when_its_key_expires(hub: Hub) -> None:
    token = await made(hub, lifetime=timedelta(seconds=1))
    assert (await ended(hub, token, do=lambda: asyncio.sleep(0)))["code"] == "EXPIRED_TOKEN"


async def test_the_streams_of_other_keys_go_on(hub: Hub) -> None:
    other = await hub.open(f"{PATH}/stream", token=await made(hub))
    token = await made(hub)
    await ended(hub, token, do=lambda: revoke(hub, token))
    assert await other.block() == b": open\n\n"
    assert len(hub.gateway.streams) == 1


async def test_while_the_database_is_away_streams_go_on_and_requests_get_503(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, failed, find = await made(hub), asyncio.Event(), store.find
    client = await hub.open(f"{PATH}/stream", token=token)

    async def away(pool: Any, ids: Collection[str], timeout: float) -> Any:
        failed.set()
        raise ConnectionRefusedError

    async def outage() -> None:
        monkeypatch.setattr(store, "find", away)
        await asyncio.wait_for(failed.wait(), 10)
        assert (await hub.get(PATH, token=key.new())).codes == ["UNAVAILABLE"]
        monkeypatch.setattr(store, "find", find)

    await outage()
    assert not client.reader.at_eof()
    await revoke(hub, token)
    assert await client.block() == b": open\n\n"
    assert [frame.event for frame in await client.rest()] == ["stream_error"]


async def test_a_key_that_was_used_is_noted(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "USE_NOTED_EVERY", 0)
    assert (await hub.get(PATH, token=await made(hub))).status == 200

    async def is_noted() -> bool:
        return await hub.history.pool.fetchval("SELECT last_used_at IS NOT NULL FROM streamhub_hub.api_keys")

    await hub.eventually(is_noted)


async def test_on_a_connection_that_goes_on_with_another_token_a_stream_is_not_the_keys(hub: Hub) -> None:
    """A proxy keeps connections, and sends the requests of many on each."""
    client = await hub.open(PATH, token=await made(hub))
    await client.reader.readexactly(int(client.headers["content-length"]))
    request = f"GET {PATH}/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hub.token(scope='events:read')}\r\n\r\n"
    client.writer.write(request.encode())
    await client.reader.readuntil(b": open\n\n")
    assert [stream.api_key for stream in hub.gateway.streams] == [None]
